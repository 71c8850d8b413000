"""Calls on Ray workers. One thread, the dispatcher, owns the workers and the book of keyframe features; the renders, each on
a thread of its own, hand it calls and wait for the answers. Which worker takes which call is the policy's business."""

import errno
import itertools
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm import policy
from farm.machine import Machine
from farm.overview import Worker
from farm.policy import Call
from farm.store import FeatureStore
from farm.worker import FeaturesLostError, Kept, RenderWorker
from renderer.errors import OutOfMemoryError, RenderError, UserError

POISONED = 3  # workers that may fail at a call before its render fails
SICK, FORGIVEN = 3, 60.0  # failures in a row after which a worker gets nothing, and for how many seconds
ARRIVAL = 60.0  # seconds that a render's set-up waits for a worker to come up
TICK = 1.0  # seconds between two looks at the clock
INQUIRY = 5.0  # and between two questions how a worker is

Answer = Callable[[Any, Exception | None], None]
"""Told the result of a call, or why there is none; on the dispatcher's thread, so it must not wait."""


class ChunkError(RuntimeError):
    """A call that cannot be computed: its render fails, with the reason."""


class FarmClosedError(RenderError):
    """The farm has ended while a render still wanted something of it."""

    def __init__(self) -> None:
        super().__init__("the farm has ended before the render; the same command goes on")


@dataclass(eq=False)
class Task:
    """A call on its way. seat: the only worker that may take it, None for any. position: among the calls that were asked for
    together. failed: the seats at which it went wrong."""

    call: Call
    plan: tuple[str, list[Any]]
    method: str
    arguments: tuple
    answer: Answer
    seat: int | None = None
    position: int = 0
    failed: list[int] = field(default_factory=list)

    @property
    def kept(self) -> list[Kept]:
        """The keyframe features that it reads."""
        return [value for value in self.arguments if isinstance(value, Kept)]


@dataclass(eq=False)
class Seat:
    """A worker's place on the farm; when a worker dies another takes its seat. stillborn: how many in a row did not come up.
    asked: when it said how it is."""

    actor: Any
    address: Worker | None = None
    task: Task | None = None
    since: float = 0.0
    failures: int = 0
    blocked_until: float = 0.0
    stillborn: int = 0
    asked: float = 0.0


@dataclass(eq=False)
class Pass:
    """Keyframe features that a render waits for or reads. lost: readers that found them gone."""

    task: Task
    readers: int
    made: bool = False
    finished: int = 0
    lost: list[Task] = field(default_factory=list)


class Farm:
    """Workers, feature store and dispatcher of one driver; lives as long as Ray is up for it.

    threads: of a CPU worker. patience: seconds after which a call counts as stuck and its worker is ended.
    """

    def __init__(self, threads: int, machine: Machine, patience: float):
        gpu = machine.device == "cuda"
        self.actor: Any = ray.remote(num_gpus=1 if gpu else 0, num_cpus=0 if gpu else threads)(RenderWorker)
        # On the driver's own machine, which the render does not outlive anyway. A store that is started again knows nothing, and
        # what is asked of it may be repeated.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        store: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(FeatureStore)
        self.store = store.options(scheduling_strategy=here).remote()
        self.patience = patience
        self.inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.numbers = itertools.count()
        self.renders: dict[int, Callable[[list[Worker]], None]] = {}
        self.homes: dict[Hashable, int] = {}
        self.loaded: dict[Hashable, Hashable] = {}
        self.waiting: list[Task] = []
        self.passes: dict[Kept, Pass] = {}
        self.hopeless: ChunkError | None = None
        self.seats = [self.start_worker(Seat(None)) for _ in range(machine.workers)]
        self.open = True
        self.dispatcher = threading.Thread(target=self.dispatch, name="dispatcher", daemon=True)
        self.dispatcher.start()

    # What renders ask for, on their threads.

    def enter(self, on_change: Callable[[list[Worker]], None]) -> int:
        """The number of one render more. on_change: told {"pid", "node"} of its workers whenever that changes."""
        render = next(self.numbers)
        self.inbox.put(lambda: self.begin(render, on_change))
        return render

    def close(self) -> None:
        """Answer everybody who still waits, and end the dispatcher."""
        self.inbox.put(lambda: self.end(FarmClosedError()))
        self.dispatcher.join()

    # What happens, on the dispatcher's thread.

    def dispatch(self) -> None:
        try:
            while self.open:
                with suppress(Empty):
                    self.inbox.get(timeout=TICK)()
                self.look_at_the_clock()
                self.assign()
        except Exception as error:  # whoever waits must hear of it
            self.end(error)

    def begin(self, render: int, on_change: Callable[[list[Worker]], None]) -> None:
        self.renders[render] = on_change
        self.allot()

    def leave(self, render: int) -> None:
        """A render has ended: what it still waits for is nobody's business any more."""
        del self.renders[render]
        self.waiting = [task for task in self.waiting if task.call.render != render]
        self.passes = {kept: made for kept, made in self.passes.items() if made.task.call.render != render}
        self.allot()

    def end(self, reason: Exception) -> None:
        self.open = False
        for task in [*self.waiting, *(seat.task for seat in self.seats if seat.task)]:
            task.answer(None, reason)

    def allot(self) -> None:
        self.homes = policy.allot(sorted(self.renders), range(len(self.seats)), self.homes)
        self.tell()

    def tell(self) -> None:
        """Every render its workers: those whose home it is, or all where it has none of its own."""
        for render, on_change in self.renders.items():
            own = [seat for number, seat in enumerate(self.seats) if self.homes.get(number) == render]
            on_change([seat.address for seat in own or self.seats if seat.address])

    def add(self, tasks: Sequence[Task]) -> None:
        self.waiting += [task for task in tasks if task.call.render in self.renders]

    def assign(self) -> None:
        """Give every idle worker the call that the policy chooses for it."""
        if self.hopeless is not None:
            for lost in self.waiting:
                lost.answer(None, self.hopeless)
            self.waiting = []
        fit = self.fit()
        for number in fit:
            if self.seats[number].task is None:
                task = self.pick(number, fit)
                if task is not None:
                    self.start(number, self.seats[number], task)

    def fit(self) -> set[int]:
        """Who may work: whoever has come up and is not sick; where all are sick, somebody must try."""
        up = {number for number, seat in enumerate(self.seats) if seat.address}
        now = time.monotonic()
        return {number for number in up if self.seats[number].blocked_until <= now} or up

    def pick(self, number: int, fit: set[int]) -> Task | None:
        """What a worker takes out of the queue; or, where its call needs another model than it has, the loading of that first.
        Meanwhile the call stays in the queue: whoever has the model may take it.

        A call that went wrong here is another worker's, as long as one is left at which it did not.
        """
        task = next((task for task in self.waiting if task.seat == number), None)
        if task is None:
            fresh = [task for task in self.waiting if number not in task.failed or fit <= set(task.failed)]
            calls = {task.call: task for task in fresh if task.seat is None}
            call = policy.choose(number, list(calls), self.homes, self.loaded)
            if call is None:
                return None
            task = calls[call]
        if task.method != "prepare" and task.call.model not in (None, self.loaded.get(number)):
            return self.loading(task)
        self.waiting.remove(task)
        return task

    def loading(self, task: Task) -> Task:
        """Have the model that this call needs. If that cannot be, neither can the call."""

        def loaded(_: Any, error: Exception | None) -> None:
            if error is not None and task in self.waiting:
                self.waiting.remove(task)
                task.answer(None, error)

        return Task(replace(task.call, keyframes=False), task.plan, "prepare", (), loaded)

    def start(self, number: int, seat: Seat, task: Task) -> None:
        seat.task, seat.since = task, time.monotonic()
        if task.call.model is not None:
            self.loaded[number] = task.call.model
        if task.call.keyframes:
            size, features = seat.actor.keep.options(num_returns=2).remote(*task.plan, task.method, task.arguments)
            self.watch(size, lambda size, error: self.finish(number, task, (size, features), error))
        else:
            result = seat.actor.run.remote(*task.plan, task.method, task.arguments)
            self.watch(result, lambda value, error: self.finish(number, task, value, error))

    def watch(self, reference: Any, then: Callable[[Any, Exception | None], None]) -> None:
        """Have the dispatcher call then(value, error) when a result is there."""

        def arrived(future: Any) -> None:
            error = future.exception()
            value = None if error else future.result()
            self.inbox.put(lambda: then(value, error))

        reference.future().add_done_callback(arrived)

    def finish(self, number: int, task: Task, value: Any, error: Exception | None) -> None:
        """A worker has answered, or died."""
        seat = self.seats[number]
        seat.task = None
        # What is raised on a worker comes as a RayTaskError; every other error is Ray's own: worker, node or result are lost.
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(error, RayError) and cause is error:
            self.loaded.pop(number, None)
            self.start_worker(seat)
            self.tell()
        if cause is None:
            seat.failures = 0
            self.answer(task, value)
        elif isinstance(cause, FeaturesLostError):
            self.make_again(task)
        elif isinstance(cause, UserError) or getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            self.fail(task, cause)
        else:
            self.failed(number, task, cause)

    def failed(self, number: int, task: Task, cause: Exception) -> None:
        """A call went wrong, or killed its worker: the call's fault or the worker's, which another worker will show."""
        seat = self.seats[number]
        seat.failures += 1
        if seat.failures >= SICK:
            seat.failures, seat.blocked_until = 0, time.monotonic() + FORGIVEN
        task.failed.append(number)
        # A worker that has freed all its memory has no more to give a second time.
        tries = min(POISONED, len(self.seats)) if isinstance(cause, OutOfMemoryError) else POISONED
        if len(task.failed) < tries:
            self.add([task])
        else:
            self.fail(task, poisoned(task, cause))

    def fail(self, task: Task, reason: Exception) -> None:
        """No worker can do it; nor what waits for it to be done again."""
        readers = [reader for made in self.passes.values() if made.task is task for reader in made.lost]
        for nobodys in (task, *readers):
            nobodys.answer(None, reason)

    def answer(self, task: Task, value: Any) -> None:
        if task.call.keyframes:
            for kept in [kept for kept, made in self.passes.items() if made.task is task]:
                size, features = value
                booked = self.store.publish.remote(kept.key, [features], size, self.passes[kept].readers)
                self.watch(booked, partial(self.publish, kept))
            return
        for kept in task.kept:
            self.store.release.remote(kept.key, task.position)
            if kept in self.passes:
                self.passes[kept].finished += 1
                if self.passes[kept].finished == self.passes[kept].readers:
                    del self.passes[kept]
        task.answer(value, None)

    def keep(self, kept: Kept, made: Pass) -> None:
        if made.task.call.render in self.renders:
            self.passes[kept] = made
            self.add([made.task])

    def publish(self, kept: Kept, _: None, error: Exception | None) -> None:
        """Features are booked: the render may hand out its chunks, and those that had lost them go on."""
        if kept not in self.passes:
            return
        made = self.passes[kept]
        first, made.made = not made.made, True
        made.lost, lost = [], made.lost
        self.add(lost)
        if first:
            made.task.answer(kept, error)

    def make_again(self, reader: Task) -> None:
        """The keyframe pass can be repeated from the driver's latents at any time; the reader waits for it."""
        for kept in reader.kept:
            if kept in self.passes:
                made = self.passes[kept]
                made.lost.append(reader)
                if len(made.lost) == 1:
                    self.add([made.task])
                return

    def start_worker(self, seat: Seat) -> Seat:
        """A new worker on this seat."""
        if seat.actor is not None:
            ray.kill(seat.actor)  # it may only be out of reach
        actor = seat.actor = self.actor.remote(self.store)
        seat.address, seat.since = None, time.monotonic()

        def met(address: Worker | None, error: Exception | None) -> None:
            if error is None:
                seat.address, seat.stillborn = address, 0
                self.tell()
                return
            seat.stillborn += 1
            if seat.stillborn < POISONED:
                self.start_worker(seat)
            elif all(other.stillborn >= POISONED for other in self.seats):
                self.hopeless = ChunkError(f"no worker comes up: {one_line(error)}")

        self.watch(actor.where.remote(), met)
        return seat

    def ask_how_it_is(self, seat: Seat) -> None:
        """The memory that a worker takes changes; the answer comes between two of its calls."""
        actor, seat.asked = seat.actor, math.inf

        def told(address: Worker | None, error: Exception | None) -> None:
            seat.asked = time.monotonic()
            if error is None and seat.actor is actor:
                seat.address = address
                self.tell()

        self.watch(actor.where.remote(), told)

    def look_at_the_clock(self) -> None:
        """Whoever has been at one call for too long is ended, and the call fails as if the worker had died. Nobody waits for
        workers that do not come: a cluster may be full."""
        now = time.monotonic()
        for number, seat in enumerate(self.seats):
            late = now - seat.since
            if seat.task and seat.task.method != "prepare" and late > self.patience:
                seat.since = now
                ray.kill(seat.actor)
            if seat.address and now > seat.asked + INQUIRY:
                self.ask_how_it_is(seat)
            if seat.address is None and late > ARRIVAL:
                for task in [task for task in self.waiting if task.seat == number]:
                    self.waiting.remove(task)
                    task.answer(0, None)


def poisoned(task: Task, cause: Exception) -> Exception:
    """Why a render fails: the call, and what its last worker said."""
    if isinstance(cause, OutOfMemoryError):
        return cause
    what, times = f"{task.method} of chunk {task.position}", len(task.failed)
    if isinstance(cause, RayError):
        return ChunkError(f"{what} killed {times} workers: {one_line(cause)}")
    return ChunkError(f"{what} failed {times} times: {type(cause).__name__}: {one_line(cause)}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
