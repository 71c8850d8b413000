"""manifest.json: what a render is, how it was made, and which of its frames are finished and intact."""

import hashlib
import json
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from renderer.errors import OutputError
from renderer.files import atomic, write_json
from renderer.video import read_png

NAME = "manifest.json"
INTERVAL = 1.0  # seconds between two writings of a manifest at least, while frames finish,
SHARE = 0.05  # and of the time that they take at most
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "embreex", "ray")
# What we write, beside the manifest. Without a manifest, any of these belongs to someone else.
PRODUCTS = (
    "frames", "video.mp4", "contact_sheet.png", "guides.mp4", "compare.mp4", "texture.mp4", "texture", "textured.glb",
    "metrics.json",
)  # fmt: skip


class Frame(TypedDict):
    """file: relative to the manifest. sha256: of the decoded picture, see `frame_hash`."""

    file: str
    sha256: str


@dataclass(kw_only=True, frozen=True)
class Manifest:
    """One render. Pixels depend on config, constants, device and versions (but Ray's) only; `render_hash` names them.

    prompt: as the person typed it. config: the whole resolved configuration. constants: what must not change on the way
    (chunk, keyframes, threads, dtype, attention backend, rasteriser, and hashes of the scene file and the weights).
    device: model name. state: "rendering" or "complete". started, finished: ISO 8601, UTC. frames: those that are finished.
    timings: seconds per phase of the run that completed it. resumed: of each run that went on from an earlier one, when it
    began ("at") and how much of each phase it found done. model_loads: how many models the workers that were the render's own
    when it began had loaded since they started, its own included.
    """

    prompt: str
    seed: int
    config: dict[str, Any]
    constants: dict[str, Any]
    device: str
    versions: dict[str, str | None]
    render_hash: str
    state: str = "rendering"
    started: str
    finished: str | None = None
    frames: list[Frame] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    resumed: list[dict[str, Any]] = field(default_factory=list)
    model_loads: int = 0
    notes: list[str] = field(default_factory=list)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """Python's version and those of the packages that matter; None where one is missing. Imports none of them."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def render_hash(identity: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON (sorted keys, no spaces, ASCII) of everything that the pixels depend on.

    >>> render_hash({"a": 1, "b": [2]}) == render_hash({"b": [2], "a": 1})
    True
    """
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def frame_hash(image: NDArray[np.uint8]) -> str:
    """sha256 of a picture's pixels, uint8 RGB [H, W, 3], row by row. How a file was compressed does not show in it."""
    assert image.dtype == np.uint8, image.dtype
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def new_manifest(config: dict[str, Any], constants: dict[str, Any], device: str, notes: list[str]) -> Manifest:
    """The manifest of a render that starts now. config: plain values, with `prompt` and `seed` at the top."""
    installed = versions()
    pixels_depend_on = {name: number for name, number in installed.items() if name != "ray"}
    return Manifest(
        prompt=config["prompt"],
        seed=config["seed"],
        config=config,
        constants=constants,
        device=device,
        versions=installed,
        render_hash=render_hash(
            {"config": config, "constants": constants, "device": device, "versions": pixels_depend_on}
        ),
        started=now(),
        notes=notes,
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `folder`/manifest.json, atomically."""
    write_json(folder / NAME, asdict(manifest))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in `folder`, or None if there is none. Raises OutputError if it is not one of ours."""
    try:
        return parse_manifest((folder / NAME).read_bytes(), str(folder / NAME))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{folder / NAME} cannot be read ({_line(error)}): choose another output=") from error


def parse_manifest(content: bytes, name: str) -> Manifest:
    """The manifest that a file holds; `name` is what an OutputError calls the file if it is not one of ours."""
    try:
        stored = json.loads(content)
        frames = [Frame(file=frame["file"], sha256=frame["sha256"]) for frame in stored.pop("frames")]
        return Manifest(**stored, frames=frames)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(f"{name} is no manifest of a render ({_line(error)}): choose another output=") from error


def check_output(folder: Path, manifest: Manifest) -> Manifest:
    """What of the render `manifest` already lies in `folder`, which is made if missing.

    Returns the manifest to go on with: `manifest` itself if nothing is there; the stored one if the folder holds this
    very render, with only those of its frames whose pixels are intact ("complete" again becomes "rendering" if some are
    not). Raises OutputError if the folder holds another render or something else, or cannot be written.
    """
    try:
        with atomic(folder / ".writable") as part:
            part.touch()
        (folder / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or _line(error)
        raise OutputError(f"cannot write to output={folder} ({reason}): choose another folder") from error

    stored = read_manifest(folder)
    if stored is None:
        foreign = [name for name in PRODUCTS if _holds_something(folder / name)]
        if foreign:
            raise OutputError(f"output={folder} already holds {foreign[0]}, but no {NAME}: choose another folder")
        return manifest
    if stored.render_hash != manifest.render_hash:
        differences = ", ".join(_differences(stored, manifest)[:6]) or "how it was hashed"
        raise OutputError(
            f"output={folder} holds another render, of {shorten(stored.prompt, 60, placeholder='…')!r} ({stored.state}; "
            f"it differs in {differences}): choose another folder, or delete this one"
        )
    intact = [frame for frame in stored.frames if _intact(folder, frame)]
    lost = len(intact) < len(stored.frames)
    return replace(stored, frames=intact, state="rendering" if lost else stored.state)


class Books:
    """The manifest of a render that runs, on disk whenever frames finish.

    hashes: frame → sha256 of its picture, for those that are finished and intact.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.manifest = folder, manifest
        self.hashes = {int(Path(frame["file"]).stem): frame["sha256"] for frame in manifest.frames}
        self.next = 0.0

    def add(self, hashes: Iterable[tuple[int, str]]) -> None:
        """These frames are finished. A long clip's manifest takes a while to write: it is written soon, but not each time."""
        self.hashes |= hashes
        if time.monotonic() >= self.next:
            self.write()

    def write(self, **changes: Any) -> None:
        """Write the manifest with all finished frames, and with these fields changed."""
        frames = [
            Frame(file=f"frames/{number:05d}.png", sha256=sha256) for number, sha256 in sorted(self.hashes.items())
        ]
        self.manifest = replace(self.manifest, frames=frames, **changes)
        begun = time.monotonic()
        write_manifest(self.folder, self.manifest)
        ended = time.monotonic()
        self.next = ended + max(INTERVAL, (ended - begun) / SHARE)


def _holds_something(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _intact(folder: Path, frame: Frame) -> bool:
    try:
        return frame_hash(read_png(folder / frame["file"])) == frame["sha256"]
    except (OSError, SyntaxError):  # PIL raises SyntaxError for a broken PNG
        return False


def _differences(stored: Manifest, wanted: Manifest) -> list[str]:
    """Dotted names of what differs, config first."""
    names = ("config", "constants", "device", "versions")
    a, b = (_flat({name: getattr(manifest, name) for name in names}) for manifest in (stored, wanted))
    keys = [key for key in dict.fromkeys([*b, *a]) if a.get(key) != b.get(key) and key != "versions.ray"]
    return [key.removeprefix("config.") for key in keys]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
