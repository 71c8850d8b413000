"""What the person sees while a render runs: bars on a terminal, plain lines elsewhere, and status.json in its folder."""

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from rich import progress
from rich.console import Console

from renderer.files import write_json

INTERVAL = 0.2  # seconds between two writings of status.json at most


class Worker(TypedDict):
    """A process that computes chunks, and the address of the machine it runs on."""

    pid: int
    node: str


@dataclass
class Status:
    """status.json. state: running | done | failed. step of steps: denoising. eta_s: seconds left of the current phase."""

    state: str = "running"
    phase: str = ""
    step: int = 0
    steps: int = 0
    frames_done: int = 0
    frames: int = 0
    workers: list[Worker] = field(default_factory=list)
    eta_s: float | None = None
    error: str | None = None


class Progress:
    """Shows one render, from the first `phase` to the end of the `with` block. The folder is untouched before the first.

    The driver calls `phase` and `advance`, and `workers` whenever the set of workers changes; all on one thread.
    Two phases mean something in status.json: "denoising" counts steps there, "decoding" counts finished frames.
    """

    def __init__(self, folder: Path, frames: int) -> None:
        terminal = sys.stderr.isatty()
        self.console = Console(stderr=True, force_terminal=terminal, soft_wrap=True)
        self.bars = progress.Progress(
            progress.TextColumn("{task.description:<12}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=self.console,
            disable=not terminal or self.console.is_dumb_terminal,
        )
        self.task: progress.TaskID | None = None
        self.begun = self.phase_begun = time.monotonic()
        self.total = self.done = self.done_before = 0.0
        self.path = folder / "status.json"
        self.status = Status(frames=frames)
        self.changed, self.ended = False, threading.Event()
        self.writing = threading.Lock()
        self.writer = threading.Thread(target=self._write_changes, daemon=True)

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begins a phase of `total` units, of which `done` are finished already (when resuming)."""
        if self.task is None:
            self.bars.start()
            self.writer.start()
        else:
            self.bars.stop_task(self.task)
        self.task = self.bars.add_task(name, total=total, completed=done)
        self.phase_begun = time.monotonic()
        self.total, self.done, self.done_before = total, done, done
        self.status.phase = name
        if self.bars.disable:
            self.note(f"{self.phase_begun - self.begun:7.1f} s  {name} ({total})")
        self._count()
        self._write()

    def advance(self, units: float = 1) -> None:
        """So many units more of the current phase are finished; a part of a unit counts too."""
        assert self.task is not None, "advance() before phase()"
        self.done += units
        self.bars.advance(self.task, units)
        self._count()
        self.changed = True

    def workers(self, workers: Sequence[Worker]) -> None:
        """These processes, and no others, work on the render now."""
        self.status.workers = list(workers)
        self.changed = True

    def note(self, line: str) -> None:
        """A line for the person, above the bars."""
        self.console.print(line, markup=False, highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.task is None:
            return
        self.ended.set()
        self.writer.join()
        self.bars.stop()
        self.status.state = "done" if error is None else "failed"
        if error is not None:
            self.status.error = (
                "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            )
        self._write()

    def _write_changes(self) -> None:
        while not self.ended.wait(INTERVAL):
            if self.changed:
                self._write()

    def _count(self) -> None:
        done = int(self.done + 1e-6)  # parts of a unit add up to a little less than one
        if self.status.phase == "denoising":
            self.status.step, self.status.steps = done, int(self.total)
        if self.status.phase == "decoding":
            self.status.frames_done = max(done, self.status.frames_done)

    def _write(self) -> None:
        self.changed = False
        finished, left = self.done - self.done_before, self.total - self.done
        seconds = time.monotonic() - self.phase_begun
        self.status.eta_s = round(seconds / finished * left, 1) if finished > 0 else None
        # A full disk is reported by whoever writes the frames, which belong to the render; this file only tells of it.
        with self.writing, contextlib.suppress(OSError):
            write_json(self.path, asdict(self.status))
