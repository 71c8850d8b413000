"""One render's access to the farm."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import ray

from farm.dispatcher import TICK, Farm, FarmClosedError, Pass, Task
from farm.overview import Worker
from farm.policy import Call
from farm.worker import Kept
from renderer.plan import Plan

NO_MODEL = ("survey", "make_gbuffers", "background", "facing", "noise", "unwrap", "picture_texels")


@contextmanager
def take_part(farm: Farm, on_change: Callable[[list[Worker]], None]) -> Iterator["RayExecutor"]:
    """Access for one render more. on_change: told {"pid", "node"} of its workers whenever that changes."""
    render = farm.enter(on_change)
    try:
        yield RayExecutor(farm, render)
    finally:
        farm.inbox.put(lambda: farm.leave(render))


class RayExecutor:
    """One render's access to the farm (renderer.render.Executor)."""

    def __init__(self, farm: Farm, render: int):
        self.farm, self.render = farm, render
        self.orders, self.passes = itertools.count(), itertools.count()
        self.plans: dict[int, tuple[Plan, tuple[str, list[Any]]]] = {}

    def prepare(self, plan: Plan) -> int:
        """The render's workers load its scene and model; returns how many models they have loaded so far."""
        homes = self.farm.homes
        seats = [number for number in range(len(self.farm.seats)) if homes.get(number) == self.render]
        return sum(loads for _, loads in self.ask([self.task(plan, "prepare", (), seat=seat) for seat in seats]))

    def run(self, plan: Plan, method: str, arguments: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        """Call `method` once per argument tuple on any worker; yields (position, result) as they finish."""
        return self.ask([self.task(plan, method, given) for given in arguments])

    def keep(self, plan: Plan, method: str, arguments: tuple, readers: int) -> Kept:
        """Call `method` once and leave its features in shared memory, booked in the feature store for so many readers."""
        kept = Kept((self.named(plan)[0], next(self.passes)))
        task = self.task(plan, method, arguments, keyframes=True)
        ((_, found),) = self.ask([task], lambda: self.farm.keep(kept, Pass(task, readers)))
        return found

    def ask(self, tasks: list[Task], message: Callable[[], None] | None = None) -> Iterator[tuple[int, Any]]:
        answers: SimpleQueue[tuple[int, Any, Exception | None]] = SimpleQueue()

        def answer(position: int, value: Any, error: Exception | None) -> None:
            answers.put((position, value, error))

        for position, task in enumerate(tasks):
            task.position, task.answer = position, partial(answer, position)
        self.farm.inbox.put(message or (lambda: self.farm.add(tasks)))
        for _ in tasks:
            while True:
                with suppress(Empty):
                    position, value, error = answers.get(timeout=TICK)
                    break
                if not self.farm.open:
                    raise FarmClosedError
            if error is not None:
                raise error
            yield position, value

    def task(self, plan: Plan, method: str, arguments: tuple, keyframes: bool = False, seat: int | None = None) -> Task:
        model = None if method in NO_MODEL else (plan.spec, plan.config.method.layers, plan.dtype)
        call = Call(self.render, keyframes, next(self.orders), model)
        return Task(call, self.named(plan), method, arguments, lambda value, error: None, seat)

    def named(self, plan: Plan) -> tuple[str, list[Any]]:
        """A plan's name on the farm and the reference to it; it travels once."""
        if id(plan) not in self.plans:
            self.plans[id(plan)] = plan, (f"{self.render}-{len(self.plans)}", [ray.put(plan)])
        return self.plans[id(plan)][1]
