"""One render's access to the farm."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import ray

from farm.dispatcher import TICK, Farm
from farm.features import Pass
from farm.overview import Worker
from farm.policy import Call
from farm.tasks import FarmClosedError, Task
from farm.worker import Kept, receive, send
from renderer.errors import ConfigError
from renderer.plan import Plan, feature_bytes

NO_MODEL = ("survey", "make_gbuffers", "background", "facing", "noise", "unwrap", "picture_texels")


@contextmanager
def take_part(
    farm: Farm, on_change: Callable[[list[Worker]], None], log: Callable[[str], None] = lambda line: None
) -> Iterator["RayExecutor"]:
    """Access for one render more. on_change: told {"pid", "node"} of its workers whenever that changes. log: given a line for
    each of its calls that has ended."""
    render = farm.enter(on_change, log)
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
        self.travel = farm.features.transport != "recompute"

    def prepare(self, plan: Plan) -> int:
        """The render's workers load its scene and model; returns how many models they have loaded so far.

        Raises ConfigError where the keyframe features would take more memory than they may.
        """
        homes = self.farm.homes
        seats = [number for number in range(len(self.farm.seats)) if homes.get(number) == self.render]
        loads = sum(loads for _, loads in self.ask([self.task(plan, "prepare", (), seat=seat) for seat in seats]))
        self.travel = self.farm.features.transport != "recompute" and self.find_room(plan)
        return loads

    def find_room(self, plan: Plan) -> bool:
        """May this plan's keyframe features travel? Raises ConfigError where they are meant to, but would take too much memory."""
        size, room = feature_bytes(plan), ray.get(self.farm.features.store.room.remote())
        if size > room and self.farm.config.transport != "auto":
            raise ConfigError(too_large(self.farm.features.transport, size, room, plan.keyframes))
        return size <= room

    def run(self, plan: Plan, method: str, arguments: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        """Call `method` once per argument tuple on any worker; yields (position, result) as they finish."""
        return self.ask([self.task(plan, method, given) for given in arguments])

    def keep(self, plan: Plan, method: str, arguments: tuple, readers: int) -> Kept:
        """Call `method` once and leave its features with the workers, booked in the feature store for so many readers."""
        kept = Kept((self.named(plan)[0], next(self.passes)), method, [ray.put(tuple(map(send, arguments)))])
        wanted = Pass(self.task(plan, method, (), makes=kept), readers, feature_bytes(plan))
        self.farm.inbox.put(lambda: self.farm.keep(kept.key, wanted, self.travel))
        return kept

    def ask(self, tasks: list[Task]) -> Iterator[tuple[int, Any]]:
        answers: SimpleQueue[tuple[int, Any, Exception | None]] = SimpleQueue()

        def answer(position: int, value: Any, error: Exception | None) -> None:
            answers.put((position, value, error))

        for position, task in enumerate(tasks):
            task.position, task.answer = position, partial(answer, position)
        count = len(tasks)
        self.farm.inbox.put(partial(self.farm.add, tasks))
        del tasks  # with their arguments, of which the farm forgets each when it is answered
        for _ in range(count):
            while True:
                with suppress(Empty):
                    position, value, error = answers.get(timeout=TICK)
                    break
                if not self.farm.open:
                    raise FarmClosedError
            if error is not None:
                raise error
            yield position, receive(value)

    def task(
        self, plan: Plan, method: str, arguments: tuple, seat: int | None = None, makes: Kept | None = None
    ) -> Task:
        model = None if method in NO_MODEL else (plan.spec, plan.config.method.layers, plan.dtype)
        call = Call(self.render, makes is not None, next(self.orders), model)
        sent = tuple(map(send, arguments))
        return Task(call, self.named(plan), method, sent, lambda value, error: None, seat, makes=makes)

    def named(self, plan: Plan) -> tuple[str, list[Any]]:
        """A plan's name on the farm and the reference to it; it travels once."""
        if id(plan) not in self.plans:
            self.plans[id(plan)] = plan, (f"{self.render}-{len(self.plans)}", [ray.put(plan)])
        return self.plans[id(plan)][1]


def too_large(transport: str, size: int, room: float, keyframes: int) -> str:
    """What is wrong with keyframe features of so many bytes, and what would fit.

    >>> too_large("object_store", 800_000_000, 650_000_000, 8)
    'farm.transport=object_store: the features of 8 keyframes take 800 MB, and farm.feature_memory leaves them 650 MB; \
farm.transport=recompute needs none of it, method.keyframes=6 fits (another render)'
    """
    fitting = int(room * keyframes / size)
    smaller = f", method.keyframes={fitting} fits (another render)" if fitting else ""
    return (
        f"farm.transport={transport}: the features of {keyframes} keyframes take {size / 1e6:.0f} MB, and "
        f"farm.feature_memory leaves them {room / 1e6:.0f} MB; farm.transport=recompute needs none of it{smaller}"
    )
