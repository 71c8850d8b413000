"""One submission from configuration to finished folder: plans, asks the farm phase by phase, writes the books."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from farm.config import SubmitConfig
from farm.machine import Machine, find_machine, start_ray, stop_ray
from farm.progress import Progress
from renderer.config import RenderConfig
from renderer.load import content_hash
from renderer.manifest import Frame, Manifest, check_output, new_manifest, now, write_manifest
from renderer.model import weights_hash
from renderer.plan import WORK, Plan, make_plan

if TYPE_CHECKING:
    from renderer.render import Executor


def submit(config: SubmitConfig, progress: Progress) -> Path:
    """Render one configuration into its output folder; returns the path of the video.

    A folder that holds this very render, complete, is left as it is. Raises a UserError for the person's mistake.
    """
    assert config.output.dir is not None
    folder = Path(config.output.dir)
    machine = find_machine(config)
    plan, scene = make_plan(config, folder, machine.device, config.farm.threads)
    books = check_output(folder, manifest(plan, machine, list(scene.notes)))
    wanted = ["video.mp4", "compare.mp4"] if config.output.compare else ["video.mp4"]
    if books.state == "complete" and all((folder / name).exists() for name in wanted):
        return folder / "video.mp4"
    for note in scene.notes:
        progress.note(note)
    write_manifest(folder, books)
    watch = Stopwatch(progress)
    watch.phase("set-up", len(plan.chunks()) + 1)
    with executor(config, machine, progress) as workers:
        # Torch loads here: after every mistake that can be found without it, and while the workers load it, too.
        from renderer.render import render

        hashes = render(plan, folder, workers, watch, config.output.compare)
        watch.stop()
    frames = [Frame(file=f"frames/{i:05d}.png", sha256=sha256) for i, sha256 in enumerate(hashes)]
    finished = replace(books, state="complete", finished=now(), frames=frames, timings=watch.timings)
    write_manifest(folder, finished)
    shutil.rmtree(folder / WORK)
    return folder / "video.mp4"


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
    """Passes progress on and writes down how long each phase took, in seconds."""

    def __init__(self, progress: Progress):
        self.progress, self.timings = progress, dict[str, float]()
        self.name, self.begun = "", time.perf_counter()

    def phase(self, name: str, total: int) -> None:
        self.stop()
        self.name, self.begun = name, time.perf_counter()
        self.progress.phase(name, total)

    def advance(self, units: float = 1) -> None:
        self.progress.advance(units)

    def stop(self) -> None:
        if self.name:
            seconds = time.perf_counter() - self.begun
            self.timings[self.name] = round(self.timings.get(self.name, 0.0) + seconds, 3)
