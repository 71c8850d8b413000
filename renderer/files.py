"""Files that are there whole or not at all, and JSON that anyone can read."""

import fcntl
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from renderer.errors import OutputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a hidden path beside `path` to write to; it becomes `path` at the end, or vanishes if the block raises.

    The hidden name is unique, so two workers may write the same file at once: the later one wins, whole. Missing
    folders are made.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic(target) as part:
    ...     _ = part.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Nobody else can claim the folder within the block, or until this process dies. Raises OutputError if somebody has.

    On a file system that has no locks, everybody can.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OutputError(
            f"output={folder} is being rendered already: wait for it, or choose another folder"
        ) from error
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """Where things that can be made again are kept between renders."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")).absolute() / "generative-render-farm"


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented UTF-8 JSON, atomically. NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic(path) as part:
        # A lone surrogate (from an argument that was not UTF-8) has no UTF-8 form; its backslash form is JSON's escape.
        part.write_bytes((text + "\n").encode("utf-8", "backslashreplace"))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
