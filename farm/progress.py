"""How far a render is: status.json in its folder, and what the person's terminal shows, or plain lines where there is none."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from farm import overview
from farm.overview import LOG, STATUS, Entry, Pace, Status, Worker
from renderer.files import write_json

INTERVAL = 0.2  # seconds between two writings of status.json at most
FAILURES = 5  # shown at once, the last ones

Rows = Callable[[], Sequence[Mapping[str, Any]]]


class Screen:
    """The person's terminal: how the renders of a submission stand. rows: of renders.parquet, as they stand."""

    def __init__(self, rows: Rows = list):
        terminal = sys.stderr.isatty()
        self.console = Console(stderr=True, force_terminal=terminal, soft_wrap=True)
        self.rows, self.pace, self.begun = rows, Pace(), time.monotonic()
        self.drawn = terminal and not self.console.is_dumb_terminal
        self.live = Live(get_renderable=self.draw, console=self.console, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self.drawn:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.drawn:
            self.live.stop()

    def note(self, line: str) -> None:
        """A line for the person, above what is drawn."""
        self.console.print(line, markup=False, highlight=False)

    def draw(self) -> RenderableType:
        entries = [overview.look(row) for row in self.rows()]
        if not entries:
            return ""
        left = self.pace.left(overview.totals(entries).share)
        return draw(entries, time.monotonic() - self.begun, left, self.console.height)


def draw(entries: Sequence[Entry], spent: float, left: float | None, height: int) -> Group:
    """All renders in at most so many lines: those that are at work one by one, the last that failed with their reason.

    spent, left: seconds, of all.
    """
    total = overview.totals(entries)
    parts: list[RenderableType] = []
    if len(entries) > 1:
        facts = [f"{total.counts.get('complete', 0)} of {len(entries)}", clock(spent)]
        facts += [f"{clock(left)} left"] if left is not None else []
        head = Table.grid(padding=(0, 2))
        head.add_row("renders", ProgressBar(1.0, total.share, width=32), "  ".join(facts))
        parts.append(head)
    busy = [entry for entry in entries if entry.state == "rendering"]
    failed = [entry for entry in entries if entry.state == "failed"]
    room = max(height - 4 - min(len(failed), FAILURES), 3)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=48)
    for entry in busy[:room]:
        table.add_row(*line(entry))
    parts.append(table)
    if len(busy) > room:
        parts.append(Text(f"and {len(busy) - room} more", "dim"))
    if total.workers:
        memory = overview.amount(total.memory, total.capacity)
        parts.append(Text(f"{plural(total.workers, 'worker')}{f', {memory}' if memory else ''}", "dim"))
    if len(failed) > FAILURES:
        parts.append(Text(f"{len(failed)} failed, the last:", "red"))
    reasons = Table.grid(padding=(0, 2))
    for entry in failed[-FAILURES:]:
        reasons.add_row(
            Text("failed", "red"), Text(f"{entry.name}: {entry.row['error']}", overflow="fold", no_wrap=False)
        )
    return Group(*parts, reasons)


def line(entry: Entry) -> Iterator[RenderableType]:
    """One render at work: name, phase, bar, what is counted, its gang, time left of the phase."""
    status = entry.status
    yield entry.name
    yield status.phase or "starting"
    yield ProgressBar(1.0, entry.share, width=24)
    if status.phase == "denoising":
        yield f"step {status.step}/{status.steps}"
    else:
        yield f"frame {status.frames_done}/{status.frames}" if status.phase == "decoding" else f"{status.frames} frames"
    yield Text(plural(len(status.workers), "worker") if status.workers else "", "dim")
    yield f"{clock(status.eta_s)} left" if status.eta_s else ""


def clock(seconds: float) -> str:
    """
    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def plural(number: int, noun: str) -> str:
    """
    >>> plural(1, "worker"), plural(2, "worker")
    ('1 worker', '2 workers')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Progress:
    """Tells of one render, from the first `phase` to the end of the `with` block. The folder is untouched before the first.

    The driver calls `phase` and `advance` on one thread, and `workers` on any, whenever the set of workers changes.
    Two phases mean something in status.json: "denoising" counts steps there, "decoding" counts finished frames.
    name, screen: of a render in a sweep, which shares the screen with others. begun: called before the first phase. check:
    called between two chunks; it may wait, or raise.
    """

    def __init__(
        self,
        folder: Path,
        frames: int,
        name: str = "",
        screen: Screen | None = None,
        begun: Callable[[], None] = lambda: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.screen, self.tell_begun, self.check = screen or Screen(), begun, check
        self.prefix = f"{name}: " if name else ""
        self.begun = self.phase_begun = time.monotonic()
        self.total = self.done = self.done_before = 0.0
        self.path, self.log_path = folder / STATUS, folder / LOG
        self.status = Status(frames=frames)
        self.changed, self.ended = threading.Event(), threading.Event()
        self.writing, self.logging = threading.Lock(), threading.Lock()
        self.writer = threading.Thread(target=self._write_changes, daemon=True)

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begins a phase of `total` units, of which `done` are finished already (when resuming)."""
        self.check()
        self.phase_begun = time.monotonic()
        self.total, self.done, self.done_before = total, done, done
        self.status.phase = name
        before = f", {done} done before" if done else ""
        self.log(f"{name} ({total}{before})")
        if not self.screen.drawn:
            self.note(f"{self.phase_begun - self.begun:7.1f} s  {self.prefix}{name} ({total}{before})")
        self._count()
        self._write()
        if not self.writer.ident:
            self.writer.start()
            self.tell_begun()

    def advance(self, units: float = 1) -> None:
        """So many units more of the current phase are finished; a part of a unit counts too."""
        assert self.writer.ident, "advance() before phase()"
        self.check()
        self.done += units
        self._count()
        self.changed.set()

    def workers(self, workers: Sequence[Worker]) -> None:
        """These processes, and no others, work on the render now."""
        self.status.workers = list(workers)
        self.changed.set()

    def note(self, line: str) -> None:
        """A line for the person."""
        self.screen.note(line)

    def log(self, line: str) -> None:
        """A line for render.log, with the time. On any thread."""
        with self.logging, contextlib.suppress(OSError), self.log_path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z  {line}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.writer.ident:
            return
        self.ended.set()
        self.changed.set()
        self.writer.join()
        self.status.state = "done" if error is None else "failed"
        if error is not None:
            self.status.error = (
                "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            )
        self.log(self.status.error or "done")
        self._write()

    def _write_changes(self) -> None:
        while not self.ended.wait(INTERVAL):
            self.changed.wait()  # a driver whose workers compute for seconds sleeps that long
            self._write()

    def _count(self) -> None:
        done = int(self.done + 1e-6)  # parts of a unit add up to a little less than one
        if self.status.phase == "denoising":
            self.status.step, self.status.steps = done, int(self.total)
        if self.status.phase == "decoding":
            self.status.frames_done = max(done, self.status.frames_done)

    def _write(self) -> None:
        self.changed.clear()
        finished, left = self.done - self.done_before, self.total - self.done
        seconds = time.monotonic() - self.phase_begun
        self.status.eta_s = round(seconds / finished * left, 1) if finished > 0 else None
        # A full disk is reported by whoever writes the frames, which belong to the render; this file only tells of it.
        with self.writing, contextlib.suppress(OSError):
            write_json(self.path, asdict(self.status))
