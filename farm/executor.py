"""Chunks on Ray workers: who computes what, and what happens when somebody dies."""

import contextlib
import itertools
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from farm.machine import Machine
from farm.progress import Worker
from farm.store import FeatureStore
from farm.worker import FeaturesLostError, Kept, RenderWorker
from renderer.plan import Plan

POISONED = 3  # workers that a chunk may take down before its render fails


class ChunkError(RuntimeError):
    """A chunk that cannot be computed: its render fails, with the reason."""


class RayExecutor:
    """Workers and feature store of one farm; lives as long as the farm is up.

    threads: of a CPU worker. on_change: told {"pid", "node"} of all workers that are up, whenever that changes.
    """

    def __init__(self, threads: int, machine: Machine, on_change: Callable[[list[Worker]], None]):
        self.on_change = on_change
        self.arriving: dict[Any, Any] = {}
        self.addresses: dict[Any, Worker] = {}
        self.heirs: dict[Any, Any] = {}
        gpu = machine.device == "cuda"
        self.actor: Any = ray.remote(num_gpus=1 if gpu else 0, num_cpus=0 if gpu else threads)(RenderWorker)
        self.store: Any = ray.remote(num_cpus=0, max_restarts=-1)(FeatureStore).remote()
        self.workers = [self.start_worker() for _ in range(machine.workers)]
        self.plans: dict[int, tuple[Plan, str, list[Any]]] = {}
        self.kept: dict[Kept, tuple[Plan, str, tuple, int]] = {}
        self.passes = itertools.count()

    def start_worker(self) -> Any:
        worker = self.actor.remote(self.store)
        self.arriving[worker.where.remote()] = worker
        return worker

    def meet(self) -> None:
        """Learn the addresses of workers that have come up since."""
        arriving = list(self.arriving)
        ready, _ = ray.wait(arriving, num_returns=len(arriving), timeout=0) if arriving else ([], [])
        for reference in ready:
            worker = self.arriving.pop(reference)
            with contextlib.suppress(RayActorError):  # died on arrival: whoever uses it replaces it
                self.addresses[worker] = ray.get(reference)
        if ready:
            self.on_change([self.addresses[worker] for worker in self.workers if worker in self.addresses])

    def prepare(self, plan: Plan) -> None:
        """Every worker loads the plan's scene and model. The heir of one that dies of it loads them when they are needed."""
        calls = [(worker, worker.run.remote(*self.plan(plan), "prepare", ())) for worker in self.workers]
        for worker, reference in calls:
            try:
                ray.get(reference)
            except RayActorError:
                self.replace(worker)
            except RayTaskError as error:
                raise error.cause from error
        self.meet()

    def run(self, plan: Plan, method: str, arguments: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        """Call `method` once per argument tuple on any worker; yields (position, result) as they finish."""
        waiting, idle = deque(range(len(arguments))), list(self.workers)
        running: dict[Any, tuple[int, Any]] = {}
        failures: dict[int, int] = {}
        while waiting or running:
            while waiting and idle:
                position, worker = waiting.popleft(), idle.pop()
                running[worker.run.remote(*self.plan(plan), method, arguments[position])] = position, worker
            reference = ray.wait(list(running), num_returns=1)[0][0]
            self.meet()
            position, worker = running.pop(reference)
            try:
                result = ray.get(reference)
            except RayActorError as error:
                failures[position] = failures.get(position, 0) + 1
                if failures[position] >= POISONED:
                    raise ChunkError(
                        f"{method} of chunk {position} killed {POISONED} workers: {_line(error)}"
                    ) from error
                idle.append(self.replace(worker))
                waiting.appendleft(position)
            except RayTaskError as error:
                if not isinstance(error.cause, FeaturesLostError):
                    raise error.cause from error
                for value in arguments[position]:
                    if isinstance(value, Kept):
                        self.make(value)
                idle.append(worker)
                waiting.appendleft(position)
            else:
                for value in arguments[position]:
                    if isinstance(value, Kept):
                        self.store.release.remote(value.key, position)
                idle.append(worker)
                yield position, result

    def keep(self, plan: Plan, method: str, arguments: tuple, readers: int) -> Kept:
        """Call `method` once and leave its features in shared memory, booked in the feature store for so many readers."""
        kept = Kept((self.plan(plan)[0], next(self.passes)))
        self.kept = {kept: (plan, method, arguments, readers)}
        self.make(kept)
        return kept

    def make(self, kept: Kept) -> None:
        """The keyframe pass, on a worker that lives: it can be repeated from the driver's latents at any time."""
        plan, method, arguments, readers = self.kept[kept]
        for attempt in range(POISONED):
            worker = self.workers[kept.key[1] % len(self.workers)]
            size, features = worker.keep.options(num_returns=2).remote(*self.plan(plan), method, arguments)
            try:
                size = ray.get(size)
            except RayActorError as error:
                self.replace(worker)
                if attempt + 1 == POISONED:
                    raise ChunkError(f"{method} killed {POISONED} workers: {_line(error)}") from error
            except RayTaskError as error:
                raise error.cause from error
            else:
                ray.get(self.store.publish.remote(kept.key, [features], size, readers))
                return

    def replace(self, dead: Any) -> Any:
        """The worker in the place of a dead one. A death may be noticed twice: by its chunk, and by the keyframe pass."""
        if dead not in self.heirs:
            self.heirs[dead] = self.workers[self.workers.index(dead)] = self.start_worker()
            self.addresses.pop(dead, None)
        return self.heirs[dead]

    def plan(self, plan: Plan) -> tuple[str, list[Any]]:
        """A plan's name on the farm and the reference to it; it travels once."""
        if id(plan) not in self.plans:
            self.plans[id(plan)] = plan, uuid.uuid4().hex, [ray.put(plan)]
        return self.plans[id(plan)][1:]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
