"""A call to a worker, from the wish for it to its answer or the reason why there is none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError

from farm.config import one_line
from farm.policy import Call
from farm.store import Key
from farm.worker import Kept
from renderer.errors import OutOfMemoryError, RenderError

Answer = Callable[[Any, Exception | None], None]
"""Told the result of a call, or why there is none; on the dispatcher's thread, so it must not wait."""


class ChunkError(RuntimeError):
    """A call that cannot be computed: its render fails, with the reason."""


class FarmClosedError(RenderError):
    """The farm has ended while a render still wanted something of it."""

    def __init__(self) -> None:
        super().__init__("the farm has ended before the render; the same command goes on")


@dataclass(eq=False)
class Task:
    """A call on its way. seat: the only worker that may take it, None for any. position: among the calls that were asked for
    together. failed: the seats at which it went wrong. makes: the keyframe features that it makes. carries: those that come to its
    worker with it."""

    call: Call
    plan: tuple[str, list[Any]]
    method: str
    arguments: tuple
    answer: Answer
    seat: int | None = None
    position: int = 0
    failed: list[int] = field(default_factory=list)
    makes: Kept | None = None
    carries: Key | None = None

    @property
    def reads(self) -> Key | None:
        """The keyframe features that it reads."""
        return next((value.key for value in self.arguments if isinstance(value, Kept)), None)


def poisoned(task: Task, cause: Exception) -> Exception:
    """Why a render fails: the call, and what its last worker said."""
    if isinstance(cause, OutOfMemoryError):
        return cause
    what, times = f"{task.method} of chunk {task.position}", len(task.failed)
    if isinstance(cause, RayError):
        return ChunkError(f"{what} killed {times} workers: {one_line(cause)}")
    return ChunkError(f"{what} failed {times} times: {type(cause).__name__}: {one_line(cause)}")
