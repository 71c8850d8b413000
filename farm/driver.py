"""One submission from configuration to finished folder: plans, asks the farm phase by phase, writes the books."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from farm.config import SubmitConfig
from farm.machine import Machine, find_machine, start_ray, stop_ray
from farm.progress import Progress
from renderer.config import RenderConfig
from renderer.errors import RenderError
from renderer.load import content_hash
from renderer.manifest import Books, Manifest, check_output, new_manifest, now
from renderer.model import weights_hash
from renderer.plan import WORK, Plan, make_plan

if TYPE_CHECKING:
    from renderer.render import Executor


def submit(config: SubmitConfig, progress: Progress) -> Path:
    """Render one configuration into its output folder; returns the path of the video.

    A folder that holds this very render, complete, is left as it is; one that an earlier run has begun is gone on with.
    Raises a UserError for the person's mistake, a RenderError where the disk is full.
    """
    assert config.output.dir is not None
    folder = Path(config.output.dir)
    machine = find_machine(config)
    plan, scene = make_plan(config, folder, machine.device, config.farm.threads)
    new = manifest(plan, machine, list(scene.notes))
    found = check_output(folder, new)
    wanted = ["video.mp4", "compare.mp4"] if config.output.compare else ["video.mp4"]
    if found.state == "complete" and all((folder / name).exists() for name in wanted):
        return folder / "video.mp4"
    if found is new:  # whatever a render that somebody has deleted left behind
        shutil.rmtree(folder / WORK, ignore_errors=True)
    for note in scene.notes:
        progress.note(note)
    books, begun, watch = Books(folder, found), now(), Stopwatch(progress)
    watch.phase("set-up", len(plan.chunks()) + 1)
    with room_on_disk(folder), executor(config, machine, progress) as workers:
        books.write()
        # Torch loads here: after every mistake that can be found without it, and while the workers load it, too.
        from renderer.render import render

        render(plan, folder, workers, watch, config.output.compare, books)
        watch.stop()
        resumed = [{"at": begun, **watch.found_done}] if any(watch.found_done.values()) else []
        books.write(
            state="complete", finished=now(), timings=watch.timings, resumed=[*books.manifest.resumed, *resumed]
        )
    shutil.rmtree(folder / WORK)
    return folder / "video.mp4"


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """Says of a full disk, wherever it was met, what to do. Raises RenderError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RenderError(
            f"no space is left for output={folder}: what is finished stays; make room, then the same command goes on"
        ) from error


@contextmanager
def executor(config: SubmitConfig, machine: Machine, progress: Progress) -> Iterator["Executor"]:
    """Who computes: this process, or Ray workers on this machine or a cluster. Ends what was started for it."""
    if config.farm.name == "inline":
        progress.workers([{"pid": os.getpid(), "node": "127.0.0.1"}])
        from renderer.render import InlineExecutor

        yield InlineExecutor()
        return
    from farm.executor import RayExecutor

    try:
        start_ray(config.farm)
        yield RayExecutor(config.farm.threads, machine, progress.workers)
    finally:
        stop_ray()


def manifest(plan: Plan, machine: Machine, notes: list[str]) -> Manifest:
    """The books of a render that starts: everything that its pixels depend on."""
    config = {key: value for key, value in asdict(plan.config).items() if key in RenderConfig.__dataclass_fields__}
    constants = {
        "scene": content_hash(plan.config.scene),
        "weights": weights_hash(plan.spec),
        "threads": plan.threads if plan.device == "cpu" else None,
        "attention": "sdpa",
        "chunk": plan.config.chunk,
        "keyframes": plan.keyframes,
        "rasteriser": plan.config.scene.rasteriser,
        "dtype": plan.dtype,
    }
    return new_manifest(config, constants, machine.name, notes)


class Stopwatch:
    """Passes progress on and writes down how long each phase took, in seconds, and how much of it was done before."""

    def __init__(self, progress: Progress):
        self.progress, self.timings, self.found_done = progress, dict[str, float](), dict[str, int]()
        self.name, self.begun = "", time.perf_counter()

    def phase(self, name: str, total: int, done: int = 0) -> None:
        self.stop()
        self.name, self.begun = name, time.perf_counter()
        self.found_done[name] = self.found_done.get(name, 0) + done
        self.progress.phase(name, total, done)

    def advance(self, units: float = 1) -> None:
        self.progress.advance(units)

    def note(self, line: str) -> None:
        self.progress.note(line)

    def stop(self) -> None:
        if self.name:
            seconds = time.perf_counter() - self.begun
            self.timings[self.name] = round(self.timings.get(self.name, 0.0) + seconds, 3)
