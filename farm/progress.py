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


class Screen:
    """The person's terminal: bars, for one render or for all of a sweep. renders: how many, 0 for one on its own."""

    def __init__(self, renders: int = 0) -> None:
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
        self.shared = renders > 0
        if self.shared:
            self.renders = self.bars.add_task("renders", total=renders)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def ended(self) -> None:
        """One render of the sweep has ended."""
        self.bars.advance(self.renders)

    def note(self, line: str) -> None:
        """A line for the person, above the bars."""
        self.console.print(line, markup=False, highlight=False)


class Progress:
    """Shows one render, from the first `phase` to the end of the `with` block. The folder is untouched before the first.

    The driver calls `phase` and `advance` on one thread, and `workers` on any, whenever the set of workers changes.
    Two phases mean something in status.json: "denoising" counts steps there, "decoding" counts finished frames.
    name, screen: of a render in a sweep, which shares the screen with others.
    """

    def __init__(self, folder: Path, frames: int, name: str = "", screen: Screen | None = None) -> None:
        self.screen = screen or Screen()
        self.bars, self.prefix = self.screen.bars, f"{name}: " if name else ""
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
            self.writer.start()
            if not self.screen.shared:
                self.bars.start()
        elif self.screen.shared:
            self.bars.remove_task(self.task)  # in a sweep a render has one bar, alone it has one for each phase
        else:
            self.bars.stop_task(self.task)
        self.task = self.bars.add_task(f"{self.prefix}{name}", total=total, completed=done)
        self.phase_begun = time.monotonic()
        self.total, self.done, self.done_before = total, done, done
        self.status.phase = name
        if self.bars.disable:
            before = f", {done} done before" if done else ""
            self.note(f"{self.phase_begun - self.begun:7.1f} s  {self.prefix}{name} ({total}{before})")
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
        self.screen.note(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.task is None:
            return
        self.ended.set()
        self.writer.join()
        if self.screen.shared:
            self.bars.remove_task(self.task)
        else:
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
