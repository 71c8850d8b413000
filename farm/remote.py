"""Scenes and outputs at URIs (s3://bucket/fox.glb): what they are called here, and what may be loaded from there.

fsspec speaks the protocols. Endpoints and credentials come from where each of them looks: the environment, ~/.aws and the like,
~/.config/fsspec; nothing of them is a setting of ours.
"""

import functools
import hashlib
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

from farm.config import is_uri, show, suggest
from renderer.cache import SHARED
from renderer.errors import ConfigError, SceneError, UserError
from renderer.files import cache_folder

EXTRAS = {"s3": "s3", "s3a": "s3"}  # protocol → extra of ours that installs what it needs
LOCAL = LocalFileSystem.protocol
TOGETHER = 8  # files that are fetched at once
VERSIONS = ("ETag", "etag", "md5Hash", "Last-Modified", "mtime", "created")  # what tells a file from what it was before
ACCESS = (
    "access is denied, or credentials are missing; they come from the environment or the store's own files "
    "(s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws; FSSPEC_S3_ANON=true for what is public)"
)


Infos = Mapping[str, Mapping[str, Any]]
"""What a store says of files (name, size, ...), by the paths that they get here."""


class TooLargeError(UserError):
    """More bytes than may be loaded; the text goes on behind "X is"."""

    def __init__(self, most: int, found: str):
        super().__init__(
            f"larger than remote.limit={most / 2**20:.4g} MiB allows ({found}); raise the limit if it may be"
        )


def connect(uri: str) -> tuple[AbstractFileSystem, str]:
    """Whoever speaks a URI's protocol, and its path there; asks nobody yet. Raises ConfigError where nobody does."""
    protocol = uri.partition("://")[0]
    try:
        return fsspec.url_to_fs(uri)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        hint = f"`pip install -e '.[{extra}]'`" if extra else "install it beside this project"
        raise ConfigError(f"{show(uri)}: {protocol}:// needs a package that is not there ({error}): {hint}") from error
    except ValueError as error:
        known = fsspec.available_protocols()
        if protocol in known:
            raise ConfigError(f"{show(uri)}: {error}; expected PROTOCOL://PLACE/PATH") from error
        hint = suggest(protocol, known) or "; expected s3://, gs://, https:// or another that fsspec knows"
        raise ConfigError(f"{show(uri)}: unknown protocol {protocol}{hint}") from error


def reason(error: Exception) -> str:
    """What a store said, in one line."""
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"it is not there ({first_line(error.__cause__ or error)})"
    if isinstance(error, PermissionError) or "Credentials" in kind:
        return f"{ACCESS} ({first_line(error)})"
    return f"{kind}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")


# --- what is loaded ---


class Limit(Callback):
    """Counts the bytes of downloads. Raises TooLargeError beyond `most`, whatever sizes the store had told."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > self.most:
            raise TooLargeError(self.most, "more came than the store had told")


def download(fs: AbstractFileSystem, files: Infos, folder: Path, most: int) -> None:
    """Fetch files into a new folder, which holds all of them from the moment it exists.

    Raises TooLargeError for more than `most` bytes, and whatever the store raises.
    """
    size = sum(info.get("size") or 0 for info in files.values())
    if size > most:
        raise TooLargeError(most, f"{size} bytes")
    part, limit = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.part"), Limit(most)

    def fetch_one(name: str) -> None:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(files[name]["name"], str(part / name), callback=limit)

    try:
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(fetch_one, files))
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def scene(name: str, limit: float) -> str:
    """Where a scene lies on this machine. One at a URI is fetched once for each version of it; this process sees one version.

    limit: MiB that it may take with all its files. Fetched are .glb, .gltf and the buffers beside them, .obj, .ply, .stl, or the
    .obj files of a folder, and nothing else. Raises SceneError, or ConfigError for a protocol that nobody speaks.
    """
    if not is_uri(name):
        return name
    found = fetched(name, round(limit * 2**20))
    if isinstance(found, UserError):
        raise found
    return str(found)


@functools.cache
def fetched(uri: str, most: int) -> Path | UserError:
    """As `scene`; a sweep asks once, also for what cannot be had."""
    try:
        fs, path = connect(uri)
        return fetch(fs, path, uri, most)
    except TooLargeError as error:
        return SceneError(f"scene {show(uri)} is {error}")
    except UserError as error:
        return error
    except Exception as error:  # every store has errors of its own
        return SceneError(f"scene {show(uri)} cannot be fetched: {reason(error)}")


def fetch(fs: AbstractFileSystem, path: str, uri: str, most: int) -> Path:
    """The scene at `path`, in the cache. Raises TooLargeError, SceneError, and whatever the store raises."""
    from renderer.gltf_file import buffer_files
    from renderer.meshes import SUFFIXES

    folder, name = path.rstrip("/").rpartition("/")[::2]
    name = name.partition("?")[0] if uri.startswith("http") else name
    suffix = PurePosixPath(name).suffix.lower()
    info = fs.info(path)
    if isinstance(fs, LocalFileSystem):
        return Path(path)
    if info["type"] == "directory":
        frames = [info for info in fs.ls(path, detail=True) if info["name"].lower().endswith(".obj")]
        if not frames:
            raise SceneError(f"scene {show(uri)}: the folder has no .obj files; expected one per frame")
        return cached(fs, uri, {f"{name}/{info['name'].rpartition('/')[2]}": info for info in frames}, most) / name
    if suffix not in (".glb", ".gltf", *SUFFIXES):
        known = ", ".join((".glb", ".gltf", *SUFFIXES))
        raise SceneError(f"scene {show(uri)}: no scene file; expected {known} or a folder of .obj frames")
    found = cached(fs, uri, {name: info}, most)
    beside = buffer_files(found / name) if suffix in (".glb", ".gltf") else []
    if beside:
        found = cached(fs, uri, {name: info} | {file: fs.info(f"{folder}/{file}") for file in beside}, most)
    return found / name


def cached(fs: AbstractFileSystem, uri: str, files: Infos, most: int) -> Path:
    """A folder of the cache that holds these files, as `download`. Where the store tells no version, they are fetched anew."""
    versions = [
        (name, info["name"], info.get("size"), next((info[key] for key in VERSIONS if info.get(key)), time.time_ns()))
        for name, info in sorted(files.items())
    ]
    folder = cache_folder() / "scenes" / hashlib.sha256(repr((uri, versions)).encode()).hexdigest()[:16]
    if not folder.is_dir():
        download(fs, files, folder, most)
    return folder


@functools.cache
def check_cache() -> None:
    """Do without the cache that machines share where it cannot be written, and say so. Raises ConfigError where it is no URI."""
    place = os.environ.get(SHARED)
    if not place:
        return
    if not is_uri(place):
        raise ConfigError(
            f"{SHARED}={place}: expected a URI such as s3://bucket/cache (a folder goes into XDG_CACHE_HOME)"
        )
    fs, path = connect(place)
    try:
        fs.pipe_file(f"{path.rstrip('/')}/.writable", b"")
    except Exception as error:
        print(
            f"warning: {SHARED}={show(place)} cannot be written ({reason(error)}): this time without it",
            file=sys.stderr,
        )
        del os.environ[SHARED]


# --- what outputs are called ---


def outputs() -> Path:
    """Below it lie the folders from which outputs go to URIs, each where its URI says: s3:/bucket/renders/x."""
    return cache_folder() / "outputs"


def local(output: str) -> Path:
    """The folder on this machine of an output: itself, or for a URI the one that is sent there. Raises ConfigError."""
    if not is_uri(output):
        return Path(output)
    protocol, _, path = output.partition("://")
    if protocol in LOCAL:
        return Path(path)
    if "::" in output or {"", ".", ".."} & set(path.rstrip("/").split("/")):
        raise ConfigError(f"output={show(output)}: expected a folder such as s3://bucket/renders/x")
    return outputs() / f"{protocol}:" / path


def shown(text: object) -> str:
    """Text with URIs in place of their folders on this machine."""
    return re.sub(rf"{re.escape(str(outputs()))}/([a-z0-9+.-]+):/", r"\1://", str(text))
