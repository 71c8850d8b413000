"""What clips of one scene share, made beforehand in many processes: the lookups of a long clip take one process minutes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm.config import SubmitConfig
from jobs.evaluation.clips import Silent
from renderer.frames import FrameRenderer, NetworkCache
from renderer.plan import Plan, Survey, make_plan
from renderer.render import covering_frames, make_gbuffers, survey
from renderer.stage import agreeing

seen_last: dict[tuple[Path, Survey | None], FrameRenderer] = {}


class Pool:
    """Runs methods of FrameRenderer that need no network, in processes (renderer.render.Executor)."""

    def __init__(self, processes: ProcessPoolExecutor):
        self.processes = processes

    def prepare(self, plan: Plan) -> int:
        return 0

    def run(self, plan: Plan, method: str, arguments: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        calls = [self.processes.submit(call, plan, method, given) for given in arguments]
        yield from enumerate(called.result() for called in calls)

    def keep(self, plan: Plan, method: str, arguments: tuple, readers: int) -> Any:
        raise AssertionError(f"{method} needs a network")


def prepare(configs: Sequence[SubmitConfig], shared: Path, processes: int) -> None:
    """G-buffers, correspondence and lookups of these renders, below the folder that they share. Raises a UserError.

    A frame a call, as a short clip is one chunk, which one process would make alone; and without a GPU, as each process would take
    memory of it.
    """
    seen = set[tuple[Path, int, int]]()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for config in configs:
            plan, _ = make_plan(replace(config, chunk=1), Path(str(config.output.dir)), "cpu", 1, shared)
            count = config.method.paint
            kept = plan.stage, count, agreeing(plan, count)
            if kept in seen:
                continue
            seen.add(kept)
            executor, silent = Pool(pool), Silent()
            plan = survey(plan, executor, silent)
            make_gbuffers(plan, executor, silent)
            painters = covering_frames(plan, executor, count) if count else []
            chunks = plan.chunks()
            for _ in executor.run(plan, "make_lookups", [(chunk, painters) for chunk in chunks]):
                pass


def call(plan: Plan, method: str, arguments: tuple) -> Any:
    """One call in a process of the pool, which keeps the scene that it saw last."""
    key = plan.stage, plan.survey
    if key not in seen_last:
        last = next(iter(seen_last.values()), None)
        seen_last.clear()
        seen_last[key] = FrameRenderer(plan, NetworkCache(), last)
    return getattr(seen_last[key], method)(*arguments)
