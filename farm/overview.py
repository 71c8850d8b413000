"""How renders stand, for whoever shows it: their rows in renders.parquet, and status.json in the folders of those that run."""

import contextlib
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

STATUS = "status.json"
LOG = "render.log"  # a line for every chunk
DENOISING = 0.9  # of a render's time, about; the rest is decoding and writing
WINDOW = 300.0  # seconds over which the pace of a submission is taken


class Worker(TypedDict):
    """A process that computes chunks, and the address of the machine it runs on. memory, capacity: of its GPU, in bytes."""

    pid: int
    node: str
    memory: NotRequired[int]
    capacity: NotRequired[int]


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

    @property
    def share(self) -> float:
        """How much of the render is finished, 0 to 1, about.

        >>> Status(phase="denoising", step=5, steps=10).share
        0.45
        """
        steps = self.step / self.steps if self.steps else 0.0
        frames = self.frames_done / self.frames if self.frames else 0.0
        return DENOISING * max(steps, float(frames > 0)) + (1 - DENOISING) * frames


@dataclass(frozen=True)
class Entry:
    """One render. row: its row in renders.parquet. state: the row's, or stopped where nobody goes on with it."""

    row: Mapping[str, Any]
    state: str
    status: Status

    @property
    def name(self) -> str:
        return self.row["name"]

    @property
    def folder(self) -> Path | None:
        return Path(self.row["folder"]) if self.row["folder"] else None

    @property
    def share(self) -> float:
        return 1.0 if self.state in ("complete", "failed", "cancelled") else self.status.share


def look(row: Mapping[str, Any], live: bool = True) -> Entry:
    """One render as it stands now. live: whether anybody works on it."""
    state = "stopped" if not live and row["state"] in ("waiting", "rendering") else row["state"]
    running = state in ("rendering", "stopped") and row["folder"]
    return Entry(row, state, read_status(Path(row["folder"])) if running else Status())


def read_status(folder: Path) -> Status:
    """status.json in `folder`; an empty one where there is none."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Status(**json.loads((folder / STATUS).read_text("utf-8")))
    return Status()


@dataclass(frozen=True)
class Totals:
    """All of a submission. share: finished, 0 to 1, each render weighted by its work. memory, capacity: bytes, 0 if unknown."""

    counts: Mapping[str, int]
    share: float
    workers: int
    memory: int
    capacity: int


def totals(entries: Sequence[Entry]) -> Totals:
    """What a person asks first."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.state] = counts.get(entry.state, 0) + 1
    weights = works([entry.row for entry in entries])
    done = sum(weight * entry.share for weight, entry in zip(weights, entries, strict=True))
    workers = gang(worker for entry in entries if entry.state == "rendering" for worker in entry.status.workers)
    return Totals(
        counts,
        done / sum(weights),
        len(workers),
        sum(worker.get("memory", 0) for worker in workers),
        sum(worker.get("capacity", 0) for worker in workers),
    )


class Pace:
    """How long a submission still takes, judged by the last minutes: what was there at the start took no time."""

    def __init__(self) -> None:
        self.seen = deque[tuple[float, float]]()

    def left(self, share: float) -> float | None:
        """Seconds, now that so much is finished; None before there is anything to judge by."""
        now = time.monotonic()
        self.seen.append((now, share))
        while self.seen[0][0] < now - WINDOW:
            self.seen.popleft()
        then, before = self.seen[0]
        return (now - then) / (share - before) * (1 - share) if share > before else None


def gang(workers: Iterable[Worker]) -> list[Worker]:
    """Each worker once, however many renders it serves."""
    return list({(worker["node"], worker["pid"]): worker for worker in workers}.values())


def works(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """About how long renders take beside each other. One that has not begun may not know its steps or size: it is as the others.

    >>> small, unknown = {"frames": 8, "steps": 4, "resolution": [64, 64]}, {"frames": 16, "steps": None, "resolution": None}
    >>> a, b = works([small, unknown])
    >>> b / a
    2.0
    """
    frames = [
        row["steps"] * row["resolution"][0] * row["resolution"][1]
        if row["steps"] and all(row["resolution"] or [0])
        else 0
        for row in rows
    ]
    known = [work for work in frames if work]
    usual = sum(known) / len(known) if known else 1.0
    return [(row["frames"] or 1) * (work or usual) for row, work in zip(rows, frames, strict=True)]


def amount(used: int, capacity: int) -> str:
    """Bytes, as read.

    >>> amount(3 << 30, 139 << 30)
    '3.0 of 139 GiB'
    """
    return f"{used / 2**30:.1f} of {capacity / 2**30:.0f} GiB" if capacity else ""
