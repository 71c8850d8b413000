"""What takes long and comes out the same every time, made once: for this machine, and where FARM_CACHE names a URI, for all."""

import contextlib
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renderer.files import atomic, cache_folder

SHARED = "FARM_CACHE"  # variable of the environment, as XDG_CACHE_HOME is; s3://bucket/cache


def kept(name: str, shape: tuple[int, ...], make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """What `make` returns, float32 of this shape, from the file `name` of a cache if one has it; else it is there from now on.

    The file holds the bare numbers, so that one from elsewhere can be nothing but as many numbers. A cache that cannot be read
    or written only costs time.
    """
    file = cache_folder() / name
    with contextlib.suppress(OSError, ValueError):
        return numbers(file.read_bytes(), shape)
    array = fetch(name, shape)
    if array is None:
        array = make()
        send(name, array)
    with contextlib.suppress(OSError), atomic(file) as part:
        part.write_bytes(array.astype("<f4").tobytes())
    return array


def numbers(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Raises ValueError where there are not as many, or one is not finite."""
    array = np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("not finite")
    return array


def shared(name: str) -> tuple[Any, str] | None:
    """The file system of the shared cache and the path there of what has this name; None where there is no such cache."""
    place = os.environ.get(SHARED)
    if not place:
        return None
    import fsspec

    return fsspec.url_to_fs(f"{place.rstrip('/')}/{name}")


def fetch(name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """The numbers that the shared cache has by this name."""
    with contextlib.suppress(Exception):  # every store has errors of its own
        if found := shared(name):
            fs, path = found
            return numbers(fs.cat_file(path, end=4 * math.prod(shape) + 1), shape)
    return None


def send(name: str, array: NDArray[np.float32]) -> None:
    """Have the shared cache keep an array."""
    with contextlib.suppress(Exception):
        if found := shared(name):
            fs, path = found
            fs.pipe_file(path, array.astype("<f4").tobytes())
