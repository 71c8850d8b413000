"""All renders of a sweep: in one workshop, in an order that shows something early, each failing alone."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from pathlib import Path

from farm.broker import Standing
from farm.config import SubmitConfig
from farm.machine import find_machine
from farm.workshop import Workshop
from renderer.errors import UserError
from renderer.plan import WORK

Outcome = Path | Exception


def run(
    configs: Mapping[str, SubmitConfig],
    folder: Path,
    render: Callable[[str, Workshop], Path],
    ended: Callable[[str, Outcome], None],
    standing: Standing | None = None,
    clear: bool = True,
) -> None:
    """Call render(name, workshop) for every configuration, several at once where the workshop has workers.

    folder: of the sweep. ended: told of each, in the order in which they end, on this thread. standing: of the
    submission among others on the same cluster. clear: nobody else looks at these G-buffers, which go in the end.
    """
    shared, kept = folder / WORK, set[Path]()
    farms = {id(config): (repr(config.farm), config.model.device) for config in configs.values()}
    in_order = sorted(
        configs, key=lambda name: (farms[id(configs[name])], configs[name].model.name, work(configs[name]))
    )
    for _, group in groupby(in_order, key=lambda name: farms[id(configs[name])]):
        names = list(group)
        first = configs[names[0]]
        try:
            machine = find_machine(first)
        except UserError as error:
            for name in names:
                ended(name, error)
            continue
        with Workshop(first.farm, machine, shared, standing) as workshop:
            run_on(workshop, names, render, ended)
            kept |= workshop.unfinished
    for stage in shared.iterdir() if clear and shared.exists() else ():
        if stage not in kept:
            shutil.rmtree(stage, ignore_errors=True)
    with contextlib.suppress(OSError):
        shared.rmdir()  # stays where there are G-buffers with which the same command goes on


def run_on(
    workshop: Workshop, names: list[str], render: Callable[[str, Workshop], Path], ended: Callable[[str, Outcome], None]
) -> None:
    """These renders in one workshop."""
    if workshop.places == 1:
        for name in names:
            ended(name, attempt(render, name, workshop))
        return
    with ThreadPoolExecutor(workshop.places, "render") as pool:
        futures = {pool.submit(attempt, render, name, workshop): name for name in names}
        try:
            for future in as_completed(futures):
                ended(futures[future], future.result())
        except BaseException:  # somebody wants an end: those that run get an error, the others never begin
            pool.shutdown(wait=False, cancel_futures=True)
            workshop.dismiss()
            raise  # when all threads have ended: Ray ends the process where it is ended under a call


def attempt(render: Callable[[str, Workshop], Path], name: str, workshop: Workshop) -> Outcome:
    try:
        return render(name, workshop)
    except Exception as error:
        return error


def work(config: SubmitConfig) -> float:
    """About how long a render takes beside others: small ones first, so that a person sees something early."""
    sides = config.resolution if isinstance(config.resolution, list) else [config.resolution or 1] * 2
    return float(config.frames * (config.steps or 1) * sides[0] * sides[1])
