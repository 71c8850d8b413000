"""One submission from configuration to finished folder: plans, asks the farm phase by phase, writes the books."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from farm.config import SubmitConfig
from farm.machine import Machine, find_machine
from farm.progress import Progress
from renderer import render
from renderer.config import NoiseConfig, RenderConfig
from renderer.load import content_hash
from renderer.manifest import Frame, Manifest, check_output, new_manifest, now, write_manifest
from renderer.model import weights_hash
from renderer.outputs import write_outputs
from renderer.plan import Plan, make_plan

WORK = ".work"  # per-frame files of a render, in its output folder; gone when it is complete


def submit(config: SubmitConfig, progress: Progress) -> Path:
    """Render one configuration into its output folder; returns the path of the video.

    A folder that holds this very render, complete, is left as it is. Raises a UserError for the person's mistake.
    """
    assert config.output.dir is not None
    folder = Path(config.output.dir)
    machine = find_machine(config)
    plan, scene = make_plan(config, folder.resolve() / WORK, machine.device, config.farm.threads)
    books = check_output(folder, manifest(plan, machine, list(scene.notes)))
    wanted = ["video.mp4", "compare.mp4"] if config.output.compare else ["video.mp4"]
    if books.state == "complete" and all((folder / name).exists() for name in wanted):
        return folder / "video.mp4"
    for note in scene.notes:
        progress.note(note)
    write_manifest(folder, books)
    watch = Stopwatch(progress)
    watch.phase("set-up", len(plan.chunks()))
    with executor(config, machine, progress) as workers:
        hashes = run(plan, folder, workers, watch, config.output.compare)
    watch.stop()
    frames = [Frame(file=f"frames/{i:05d}.png", sha256=sha256) for i, sha256 in enumerate(hashes)]
    finished = replace(books, state="complete", finished=now(), frames=frames, timings=watch.timings)
    write_manifest(folder, finished)
    shutil.rmtree(folder / WORK)
    return folder / "video.mp4"


def run(plan: Plan, folder: Path, executor: render.Executor, progress: render.Progress, compare: bool) -> list[str]:
    """All phases of a render, from the set-up that has begun; returns the sha256 of every frame."""
    plan = render.survey(plan, executor, progress)
    render.make_gbuffers(plan, executor, progress)
    latents = render.denoise(plan, executor, progress)
    hashes = render.decode(plan, executor, progress, latents)
    per_frame = render_per_frame(plan, executor, progress) if compare else None
    progress.phase("writing", plan.frames + 5 + compare)
    render.unwrap(plan, executor, progress)
    write_outputs(plan, folder, progress.advance, per_frame)
    return hashes


def render_per_frame(plan: Plan, executor: render.Executor, progress: render.Progress) -> Plan:
    """The same render with every frame on its own, from one noise, for the comparison."""
    method = replace(plan.config.method, name="per_frame", keyframes=0, adain_until=0.0)
    config = replace(plan.config, method=method, noise=NoiseConfig(kind="fixed"))
    alone = replace(plan, config=config, keyframes=0, work=plan.work / "per_frame" / WORK)
    render.make_gbuffers(alone, executor, progress)
    render.decode(alone, executor, progress, render.denoise(alone, executor, progress))
    return alone


@contextmanager
def executor(config: SubmitConfig, machine: Machine, progress: Progress) -> Iterator[render.Executor]:
    """Who computes: this process, or Ray workers on this machine or a cluster. Ends what was started for it."""
    if config.farm.name == "inline":
        progress.workers([{"pid": os.getpid(), "node": "127.0.0.1"}])
        yield render.InlineExecutor()
        return
    from farm.executor import RayExecutor
    from farm.machine import start_ray, stop_ray

    try:
        start_ray(config.farm)
        farm = RayExecutor(config.farm.threads, machine, progress.workers)
        farm.meet(timeout=None)
        yield farm
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
