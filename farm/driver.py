"""One submission from configuration to finished folder: plans, asks the farm phase by phase, writes the books."""

import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from farm import remote
from farm.broker import Standing
from farm.cluster import check_nodes
from farm.config import SubmitConfig
from farm.machine import Machine, find_machine
from farm.progress import Progress
from farm.workshop import Workshop
from renderer.config import RenderConfig
from renderer.errors import RenderError
from renderer.files import claimed
from renderer.load import content_hash
from renderer.manifest import Books, Manifest, check_output, new_manifest, now
from renderer.model import weights_hash
from renderer.plan import WORK, Plan, make_plan, portable


def submit(
    config: SubmitConfig, progress: Progress, workshop: Workshop | None = None, standing: Standing | None = None
) -> Path:
    """Render one configuration into its output folder; returns the path of the video.

    A folder that holds this very render, complete, is left as it is; one that an earlier run has begun is gone on with.
    workshop: of a sweep, where there are others; else the render opens one of its own, of this standing. Raises a UserError for the
    person's mistake, a RenderError where the disk is full.
    """
    assert config.output.dir is not None
    folder = Path(config.output.dir)
    machine = workshop.machine if workshop else find_machine(config)
    shared = workshop.shared if workshop else None
    here = replace(config.scene, name=remote.scene(config.scene.name, config.remote.limit))
    plan, scene = make_plan(replace(config, scene=here), folder, machine.device, config.farm.threads, shared)
    new = manifest(plan, config.scene.name, machine, list(scene.notes))
    found = check_output(folder, new)
    extras = {"compare.mp4": config.output.compare, "textured.glb": config.export.texture}
    wanted = ["video.mp4", *(name for name, wanted in extras.items() if wanted)]
    if found.state == "complete" and all((folder / name).exists() for name in wanted):
        return folder / "video.mp4"
    if config.farm.name == "cluster":
        plan = portable(plan)
        check_nodes(plan, new, folder, config.farm.patience)
    for note in scene.notes:
        progress.note(note)
    books, watch = Books(folder, found), Stopwatch(progress)
    with claimed(folder), room_on_disk(folder):
        watch.phase("set-up", len(plan.chunks()) + 1)
        if found is new:  # what is in the work folder is of a render that somebody has deleted
            shutil.rmtree(folder / WORK, ignore_errors=True)
        else:
            found.resumed.append(watch.found_done)
        books.write(state="rendering", finished=None)
        with ExitStack() as stack:
            workshop = workshop or stack.enter_context(Workshop(config.farm, machine, standing=standing))
            stack.enter_context(workshop.needing(plan.stage))
            workers = stack.enter_context(workshop.executor(progress.workers, progress.log))
            # Torch loads here: after every mistake that can be found without it, and while the workers load it, too.
            from renderer.render import render

            turn = workshop.turn(plan.stage)
            render(plan, folder, workers, watch, config.output.compare, config.export.texture, books, turn)
            watch.stop()  # before Ray's end, which is no part of writing
        books.write(state="complete", finished=now(), timings=watch.timings)
        shutil.rmtree(folder / WORK)
        for half_written in folder.rglob(".*.part"):
            half_written.unlink(missing_ok=True)
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


def manifest(plan: Plan, scene: str, machine: Machine, notes: list[str]) -> Manifest:
    """The books of a render that starts: everything that its pixels depend on. scene: as the person calls it."""
    config = {key: value for key, value in asdict(plan.config).items() if key in RenderConfig.__dataclass_fields__}
    config["scene"]["name"] = scene
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
        self.progress, self.timings = progress, dict[str, float]()
        self.found_done: dict[str, Any] = {"at": now()}
        self.name, self.begun = "", time.perf_counter()

    def phase(self, name: str, total: int, done: int = 0) -> None:
        self.stop()
        self.name, self.begun = name, time.perf_counter()
        if done:
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
