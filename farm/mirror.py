"""Outputs at a URI: rendered into a folder of this machine, and sent from there as files become final.

What tells of other files goes after them: at any moment everything that a manifest at the URI names is there, too, and the
manifest that says "complete" is the last file of its render to change. A store has no locks: one driver at a time.
"""

import contextlib
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from farm import overview, records, remote
from farm.config import is_uri
from farm.page import GENERATOR
from farm.watch import SUBMISSION
from renderer.errors import OutputError, RenderError, UserError
from renderer.files import claimed
from renderer.manifest import NAME, PRODUCTS, Manifest, parse_manifest, read_manifest
from renderer.plan import WORK

INTERVAL = 10.0  # seconds between two looks for what is new at least,
SHARE = 0.25  # and of the time that sending takes at most
PAUSES = (1.0, 4.0, 16.0)  # seconds between attempts at the end; each has the retries of the store's own client
TOGETHER = 32  # files that are sent at once
ARRIVED = ".arrived"  # in the folder of a render whose manifest has been at the URI
OF_ALL = ("index.js", "index.html", records.NAME)  # in a sweep's own folder
TELLING = (overview.STATUS, *OF_ALL, NAME)  # tell of other files
LOADED = (".png", ".mp4", ".glb", ".json", ".log", ".safetensors", ".html", ".js")  # what may come from a URI

Bring = Callable[[Path], None]
Stamp = tuple[int, int]  # of a file: nanoseconds, bytes
New = tuple[str, Path, Stamp]  # a file that the URI does not have: its path there, its path here, as it is


def mirrored(folder: Path, limit: float) -> AbstractContextManager[Bring]:
    """Within the block, what is rendered below `folder` goes to the URI that it stands for, if it stands for one.

    The block gets a function that takes the folder of a render that is to begin: `folder` itself, or one in it. limit: MiB of a
    render that comes from there. Raises a UserError at the beginning where nothing can be written there, and a RenderError at the
    end where not everything has arrived.
    """
    uri = remote.shown(folder.absolute())
    return Mirror(folder.absolute(), uri, limit) if is_uri(uri) else nullcontext(lambda render: None)


class Mirror:
    """Sends what is new, from `with` to the end of its block. The rest as `mirrored` says."""

    def __init__(self, folder: Path, uri: str, limit: float):
        self.folder, self.uri, self.limit = folder, uri, round(limit * 2**20)
        self.fs, self.root = remote.connect(uri)
        self.renders = set[Path]()
        self.sent = dict[str, Stamp | None]()  # what is at the URI, by its path below it; None: another state of a file
        self.ended = threading.Event()
        self.sender = threading.Thread(target=self.keep_sending, name="mirror", daemon=True)

    def __enter__(self) -> Bring:
        probe = f"{self.root}/.writable"
        try:
            self.fs.pipe_file(probe, b"")
            with contextlib.suppress(Exception):  # who may write need not be allowed to delete
                self.fs.rm_file(probe)
            with contextlib.suppress(FileNotFoundError):
                page = self.fs.cat_file(f"{self.root}/index.html", end=2000)
                if GENERATOR.encode() not in page:
                    raise OutputError(f"output={self.uri} holds an index.html that is not ours: choose another folder")
        except UserError:
            raise
        except Exception as error:  # every store has errors of its own
            raise OutputError(f"output={self.uri} cannot be written: {remote.reason(error)}") from error
        self.sender.start()
        return self.bring

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.sender.join()
        for pause in (*PAUSES, None) if error is None else (None,):
            try:
                return self.send(last=True)
            except Exception as failure:
                trouble = failure
            if pause is not None:
                time.sleep(pause)
        lost = RenderError(
            f"output={self.uri} cannot be reached ({remote.reason(trouble)}): the same command sends what is missing"
        )
        lost.add_note(f"what is finished lies in {self.folder}")
        if error is None:
            raise lost from trouble
        print(f"warning: {lost}; {lost.__notes__[0]}", file=sys.stderr)

    # --- to the URI ---

    def keep_sending(self) -> None:
        told, took = False, 0.0
        while not self.ended.wait(max(INTERVAL, took / SHARE)):
            begun = time.monotonic()
            try:
                self.send()
                told = False
            except Exception as error:
                vanished = isinstance(error, FileNotFoundError) and error.filename  # here, while it was looked at
                if not told and not vanished:
                    line = f"output={self.uri} cannot be reached now ({remote.reason(error)}): the render goes on"
                    print(f"warning: {line}", file=sys.stderr)
                    told = True
            took = time.monotonic() - begun

    def send(self, last: bool = False) -> None:
        """What is new goes to the URI. last: nothing here changes any more. Raises whatever the store raises."""
        still = [render for render in tuple(self.renders) if last or (is_over(render) and render != self.folder)]
        with tempfile.TemporaryDirectory() as folder:
            # What tells of other files is taken as it is before they are looked for: all that it names is among them then.
            telling = [item for item in self.news() if item[1].name in TELLING]
            telling = [
                (name, copy(path, Path(folder, str(i), path.name)), stamp)
                for i, (name, path, stamp) in enumerate(telling)
            ]
            books = [item for item in telling if item[1].name == NAME]
            self.put([item for item in self.news() if item[1].name not in TELLING])
            for name in [name for name in tuple(self.sent) if self.is_gone(name)]:
                with contextlib.suppress(Exception):  # who may write need not be allowed to delete
                    self.fs.rm_file(self.at(name))
                del self.sent[name]
            self.put([item for item in telling if item not in books])
            books = [book for book in books if (self.folder / book[0]).parent in still or not is_complete(book[1])]
            self.put(books)
        for name, _, _ in books:
            (self.folder / name).with_name(ARRIVED).touch()

    def put(self, files: Sequence[New]) -> None:
        for i in range(0, len(files), TOGETHER):
            names, paths, stamps = zip(*files[i : i + TOGETHER], strict=True)
            self.fs.put([str(path) for path in paths], [self.at(name) for name in names])
            self.sent |= zip(names, stamps, strict=True)

    def at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def news(self) -> Iterator[New]:
        """Files that the URI does not have as they are now."""
        for name, path in self.files():
            with contextlib.suppress(FileNotFoundError):
                stamp = stamp_of(path)
                if self.sent.get(name) != stamp:
                    yield name, path, stamp

    def files(self) -> Iterator[tuple[str, Path]]:
        """All that belongs to the URI: path below it, path here."""
        renders = tuple(self.renders)  # another thread may add to them
        paths = [path for render in renders for path in render.rglob("*")]
        if renders and self.folder not in renders:
            paths += [self.folder / name for name in OF_ALL]
        for path in paths:
            name = path.relative_to(self.folder).as_posix()
            if goes(name) and path.is_file():
                yield name, path

    def is_gone(self, name: str) -> bool:
        """Is this a file of a render's work folder that is no longer needed?"""
        path = self.folder / name
        return path.parent.name == WORK and path.parent.parent in self.renders and not path.exists()

    # --- from the URI ---

    def bring(self, render: Path) -> None:
        """Make the folder of a render what it is at the URI, unless it goes on here; from now on it is sent.

        Where it is complete there, or was never here, it comes from there; where somebody has deleted or replaced it there, what
        is left of it here goes. Raises OutputError.
        """
        render = render.absolute()
        output = f"output={remote.shown(render)}"
        try:
            with claimed(render) if render.exists() else nullcontext():
                self.take(render, output)
        except remote.TooLargeError as error:
            raise OutputError(f"{output} is {error}") from error
        except UserError:
            raise
        except Exception as error:
            raise OutputError(f"{output} cannot be read: {remote.reason(error)}") from error
        self.renders.add(render)

    def take(self, render: Path, output: str) -> None:
        top = render.relative_to(self.folder).as_posix().removeprefix(".")
        place = f"{self.root}/{top}".rstrip("/")
        self.fs.invalidate_cache()
        found = {path[len(place) :].lstrip("/"): info for path, info in self.fs.find(place, detail=True).items()}
        files = {name: found[name] for name in found if goes(name) and PurePosixPath(name).suffix in LOADED}
        theirs, ours = self.manifest(files.get(NAME), output), read_manifest(render)
        if theirs is ours is None and (foreign := [name for name in found if name.partition("/")[0] in PRODUCTS]):
            raise OutputError(f"{output} already holds {foreign[0]}, but no {NAME}: choose another folder")
        arrived = (render / ARRIVED).exists()
        replaced = theirs is not None and ours is not None and theirs.render_hash != ours.render_hash
        if replaced and not arrived:
            error = OutputError(
                f"{output} holds another render than the one here, which never arrived: choose another output, or delete one"
            )
            error.add_note(f"here is {render}")
            raise error
        finished = theirs is not None and ours is not None and theirs.state == "complete" != ours.state
        if replaced or finished or (theirs is None and arrived):
            ours = None
            shutil.rmtree(render)
        if theirs is None:
            return
        if ours is None:
            shutil.rmtree(render, ignore_errors=True)  # it holds no render
            remote.download(self.fs, files, render, self.limit)
            (render / ARRIVED).touch()
        for name, info in files.items():
            path = render / name
            # Renders repeat to the bit: a picture or a clip as large as ours is ours. Of other files nobody knows.
            same = path.suffix in (".png", ".mp4") and path.exists() and stamp_of(path)[1] == info.get("size")
            self.sent[f"{top}/{name}".lstrip("/")] = stamp_of(path) if same else None

    def manifest(self, info: Mapping[str, Any] | None, output: str) -> Manifest | None:
        """The manifest of which the store says this, if it says anything."""
        if info is None:
            return None
        if (info.get("size") or 0) > self.limit:
            raise remote.TooLargeError(self.limit, f"{info['size']} bytes")
        return parse_manifest(self.fs.cat_file(info["name"]), f"{output}/{NAME}")


def stamp_of(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def goes(name: str) -> bool:
    """Is a file, by its path below the output, one that others should have? Of the work folder, what a render goes on from."""
    path = PurePosixPath(name)
    visible = not any(part.startswith(".") and part != WORK for part in path.parts)
    needed = path.parent.name == WORK and (path.suffix == ".safetensors" or path.name == "preview.mp4")
    return visible and (needed or WORK not in path.parts) and path.name != SUBMISSION


def copy(path: Path, target: Path) -> Path:
    """A file as it goes to the URI: in the table of a sweep, URIs in place of folders here."""
    target.parent.mkdir()
    shutil.copyfile(path, target)
    if path.name == records.NAME:
        table = pq.ParquetFile(target).read()
        for name in records.PATHS:
            values = [value and remote.shown(value) for value in table[name].to_pylist()]
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
        pq.write_table(table, target)
    return target


def is_complete(manifest: Path) -> bool:
    return json.loads(manifest.read_bytes())["state"] == "complete"


def is_over(render: Path) -> bool:
    """Has the run that renders here ended? Nothing in the folder changes after that."""
    return overview.read_status(render).state != "running"
