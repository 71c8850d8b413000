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
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm import policy
from farm.config import FarmConfig
from farm.machine import Machine
from farm.overview import Worker
from farm.policy import Call
from farm.store import FeatureStore, Key
from farm.transport import Gang, choose_transport
from farm.worker import Kept, RenderWorker
from renderer.errors import OutOfMemoryError, RenderError, UserError

POISONED = 3  # workers that may fail at a call before its render fails
SICK, FORGIVEN = 3, 60.0  # failures in a row after which a worker gets nothing, and for how many seconds
ARRIVAL = 60.0  # seconds that a render's set-up waits for a worker to come up
TICK = 1.0  # seconds between two looks at the clock
INQUIRY = 5.0  # and between two questions how a worker is
REMINDER = 10.0  # seconds after which the store is asked for room again

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
    together. failed: the seats at which it went wrong. makes: the keyframe features that it makes. carries: those that come to its
    worker with it."""

    call: Call
    plan: tuple[str, list[Any]]
    method: str
    arguments: tuple
    answer: Answer
    seat: int | None = None
    position: int = 0
    failed: list[int] = field(default_factory=list)
    makes: Kept | None = None
    carries: Key | None = None

    @property
    def reads(self) -> Key | None:
        """The keyframe features that it reads."""
        return next((value.key for value in self.arguments if isinstance(value, Kept)), None)


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
    """Keyframe features that a render wants.

    readers: how many calls will read them. size: in bytes, as foreseen. asked: when the store was last asked for room; None where
    each reader makes them for itself. admitted: is there room? made: are they there? error: why they never will be. waiting:
    readers that came before. source: the worker that has made them. reference: how they come to others, None if they do not.
    holders: seats that have them or will.
    """

    task: Task
    readers: int
    size: int
    made: bool = False
    error: Exception | None = None
    waiting: list[Task] = field(default_factory=list)
    asked: float | None = None
    admitted: bool = False
    source: Any = None
    reference: Any = None
    holders: set[int] = field(default_factory=set)
    finished: int = 0


class Farm:
    """Workers, feature store and dispatcher of one driver; lives as long as Ray is up for it.

    Raises ConfigError where this machine has not what the transport of features needs.
    """

    def __init__(self, config: FarmConfig, machine: Machine):
        gpu = machine.device == "cuda"
        self.config, self.transport = config, choose_transport(config, machine)
        self.gang = Gang(machine.device, lambda then: self.inbox.put(then)) if self.transport == "nccl" else None
        remote: Any = ray.remote
        resources = {"num_gpus": 1, "num_cpus": 0} if gpu else {"num_gpus": 0, "num_cpus": config.threads}
        self.actor = remote(enable_tensor_transport=self.gang is not None, **resources)(RenderWorker)
        # On the driver's own machine, which the render does not outlive anyway. A store that is started again knows nothing, and
        # what is asked of it may be repeated.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        store: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(FeatureStore)
        shared_memory = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"])
        capacity = config.feature_memory * shared_memory if self.transport == "object_store" else float("inf")
        self.store = store.options(scheduling_strategy=here).remote(capacity)
        # Of the memory that features lie in, what belongs to one worker.
        self.share = config.feature_memory / (1 if gpu else machine.workers)
        self.patience = config.patience
        self.inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.numbers = itertools.count()
        self.renders: dict[int, Callable[[list[Worker]], None]] = {}
        self.logs: dict[int, Callable[[str], None]] = {}
        self.homes: dict[Hashable, int] = {}
        self.loaded: dict[Hashable, Hashable] = {}
        self.waiting: list[Task] = []
        self.passes: dict[Key, Pass] = {}
        self.hopeless: ChunkError | None = None
        self.seats = [self.start_worker(Seat(None)) for _ in range(machine.workers)]
        self.open = True
        self.dispatcher = threading.Thread(target=self.dispatch, name="dispatcher", daemon=True)
        self.dispatcher.start()

    # What renders ask for, on their threads.

    def enter(self, on_change: Callable[[list[Worker]], None], log: Callable[[str], None]) -> int:
        """The number of one render more. on_change: told {"pid", "node"} of its workers whenever that changes. log: given a
        line for each of its calls that has ended."""
        render = next(self.numbers)
        self.logs[render] = log
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
                self.gather()
                self.assign()
        except Exception as error:  # whoever waits must hear of it
            self.end(error)

    def begin(self, render: int, on_change: Callable[[list[Worker]], None]) -> None:
        self.renders[render] = on_change
        self.allot()

    def leave(self, render: int) -> None:
        """A render has ended: what it still waits for is nobody's business any more."""
        del self.renders[render], self.logs[render]
        self.waiting = [task for task in self.waiting if task.call.render != render]
        for key in [key for key, made in self.passes.items() if made.task.call.render == render]:
            self.drop(key)
        self.allot()

    def end(self, reason: Exception) -> None:
        self.open = False
        for task in [*self.unanswered(), *(seat.task for seat in self.seats if seat.task)]:
            task.answer(None, reason)

    def unanswered(self) -> list[Task]:
        """The calls that no worker has yet."""
        return [*self.waiting, *(task for made in self.passes.values() for task in made.waiting)]

    def allot(self) -> None:
        self.homes = policy.allot(sorted(self.renders), range(len(self.seats)), self.homes)
        self.tell()

    def tell(self) -> None:
        """Every render its workers: those whose home it is, or all where it has none of its own."""
        for render, on_change in self.renders.items():
            own = [seat for number, seat in enumerate(self.seats) if self.homes.get(number) == render]
            on_change([seat.address for seat in own or self.seats if seat.address])

    def add(self, tasks: Sequence[Task]) -> None:
        """Calls for whoever is free; those that read features, once there are any."""
        for task in tasks:
            made = self.passes.get(task.reads) if task.reads else None
            if task.call.render not in self.renders:
                continue
            if made is None or made.made:
                self.waiting.append(task)
            elif made.error:
                task.answer(None, made.error)
            else:
                made.waiting.append(task)

    def assign(self) -> None:
        """Give every idle worker the call that the policy chooses for it."""
        if self.hopeless is not None:
            for lost in self.unanswered():
                lost.answer(None, self.hopeless)
            self.waiting, self.passes = [], {}
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
        if task.makes:
            result = seat.actor.keep.remote(*task.plan, task.makes)
        else:
            call = (*task.plan, task.method, task.arguments)
            task.carries, reference = self.supply(number, task)
            try:
                result = seat.actor.run.remote(*call, reference)
            except ValueError:  # Ray has found out before us that the group is broken, and taken it down
                assert task.carries
                self.lose(task.carries)
                task.carries = None
                result = seat.actor.run.remote(*call)
        self.watch(result, lambda value, error: self.finish(number, task, value, error))

    def supply(self, number: int, task: Task) -> tuple[Key | None, Any]:
        """The features that have to come with a call, and the reference to them; where there is none the worker makes them."""
        made = self.passes.get(task.reads) if task.reads else None
        if made is None or number in made.holders:
            return None, None
        made.holders.add(number)
        reachable = self.gang is None or self.gang.reaches(made.source, self.seats[number].actor)
        return (task.reads, made.reference) if made.reference is not None and reachable else (None, None)

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
        self.log(seat, task, cause)
        died = isinstance(error, RayError) and cause is error
        lost = task.carries is not None and isinstance(cause, (RayError, RuntimeError, OSError))
        if task.carries and lost and not isinstance(cause, OutOfMemoryError):
            self.lose(task.carries)
        if died:
            self.bury(number)
            self.tell()
        if cause is None:
            seat.failures = 0
            self.answer(number, task, value)
        elif isinstance(cause, UserError) or getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            self.fail(task, cause)
        elif lost and not died and not isinstance(cause, OutOfMemoryError):
            self.add([task])  # nothing is said against the worker or the call
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
        """No worker can do it; nor what waits for it to be done."""
        task.answer(None, reason)
        if task.makes and task.makes.key in self.passes:
            made = self.passes[task.makes.key]
            made.error, made.waiting, readers = reason, [], made.waiting
            self.add(readers)

    def log(self, seat: Seat, task: Task, cause: Exception | None) -> None:
        """A line for the render whose call it was, unless it has left."""
        if task.call.render in self.logs and seat.address:
            who, seconds = f"{seat.address['node']} pid {seat.address['pid']}", time.monotonic() - seat.since
            failed = f"  failed: {type(cause).__name__}: {one_line(cause)}" if cause else ""
            self.logs[task.call.render](f"{task.method} {task.position}  {seconds:.3f} s  {who}{failed}")

    def answer(self, number: int, task: Task, value: Any) -> None:
        if task.makes:
            self.made(number, task.makes.key, value)
        elif task.reads in self.passes:
            made = self.passes[task.reads]
            if made.asked:
                self.watch(self.store.release.remote(task.reads, task.position), self.admit)
            made.finished += 1
            if made.finished == made.readers:
                self.forget(task.reads)
        task.answer(value, None)

    # Keyframe features, from the wish for them to their last reader.

    def keep(self, key: Key, wanted: Pass, travel: bool) -> None:
        """A render wants features. travel: made once and handed on, else by whoever reads them."""
        if wanted.task.call.render in self.renders:
            self.passes[key] = wanted
            wanted.made = not travel
            if travel:
                self.ask_for_room(key)

    def ask_for_room(self, key: Key) -> None:
        wanted = self.passes[key]
        wanted.asked = time.monotonic()
        room = self.store.reserve.remote(key, wanted.size, wanted.readers)
        self.watch(room, lambda granted, error: self.admit([key] if granted else [], error))

    def admit(self, keys: list[Key] | None, error: Exception | None) -> None:
        """There is room for these features: their keyframe passes may run."""
        for key in keys or []:
            if key in self.passes and not self.passes[key].admitted:
                self.passes[key].admitted = True
                self.add([self.passes[key].task])

    def made(self, number: int, key: Key, size: int) -> None:
        """A worker has made features: whoever waits for them may go on."""
        actor = self.seats[number].actor
        if key not in self.passes:
            actor.forget.remote(key)
            return
        made = self.passes[key]
        self.store.publish.remote(key, size)
        made.made, made.source, made.holders = True, actor, {number}
        if self.gang is None:
            made.reference = actor.hand_out.remote(key, packed=True)
        elif self.gang.reaches(actor):
            with suppress(ValueError):  # as when a call starts
                made.reference = actor.hand_out.options(tensor_transport=self.gang.backend).remote(key, packed=False)
        made.waiting, readers = [], made.waiting
        self.add(readers)

    def lose(self, key: Key) -> None:
        """Features did not get through: who has none makes them. The worker that was sending may wait for ever, and is ended."""
        made = self.passes.get(key)
        if made is not None:
            made.reference = None
        if self.gang is not None:
            self.gang.lose()
            for number, seat in enumerate(self.seats):
                if made is not None and seat.actor == made.source:
                    self.end_worker(number)

    def drop(self, key: Key) -> None:
        """Nobody will read these features any more."""
        if self.passes[key].asked:
            self.watch(self.store.drop.remote(key), self.admit)
        self.waiting = [task for task in self.waiting if not task.makes or task.makes.key != key]
        self.forget(key)

    def forget(self, key: Key) -> None:
        for number in self.passes.pop(key).holders:
            self.seats[number].actor.forget.remote(key)

    # Workers.

    def bury(self, number: int) -> None:
        """A worker has died: another takes its seat, and those that were about to receive its features go, too."""
        dead = self.seats[number].actor
        self.loaded.pop(number, None)
        for made in self.passes.values():
            made.holders.discard(number)
        if self.gang is not None:
            own = {key for key, made in self.passes.items() if made.source == dead}
            for key in own:
                self.passes[key].reference = None
            for seat in self.seats:
                if seat.task and seat.task.carries in own:
                    ray.kill(seat.actor)
            if dead in self.gang.members:
                self.gang.lose()
        self.start_worker(self.seats[number])

    def end_worker(self, number: int) -> None:
        """End a worker, so that another takes its seat."""
        if self.seats[number].task:
            ray.kill(self.seats[number].actor)  # its call will tell
        else:
            self.bury(number)

    def gather(self) -> None:
        """One group of all workers, once nobody is coming up or in the middle of an exchange."""
        if self.gang is None or self.gang.forming:
            return
        now = time.monotonic()
        up = [seat.actor for seat in self.seats if seat.address]
        coming = any(not seat.address and now - seat.since <= ARRIVAL for seat in self.seats)
        exchanging = any(seat.task and seat.task.carries for seat in self.seats)
        if len(up) > 1 and not coming and not exchanging and not (self.gang.whole and self.gang.members == up):
            self.gang.form(up, self.gathered)

    def gathered(self, members: list[Any], error: Exception | None) -> None:
        """Where a member has died meanwhile, the others wait for it, and are ended. Where a group cannot be at all, so be it."""
        if isinstance(error, RayTaskError):
            self.gang, self.transport = None, "object_store"
        elif error is not None:
            for number in [number for number, seat in enumerate(self.seats) if seat.actor in members]:
                self.end_worker(number)

    def start_worker(self, seat: Seat) -> Seat:
        """A new worker on this seat."""
        if seat.actor is not None:
            ray.kill(seat.actor)  # it may only be out of reach
        actor = seat.actor = self.actor.remote()
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
        if self.gang is not None:
            self.watch(actor.memory.remote(), self.measured)
        return seat

    def measured(self, memory: int, error: Exception | None) -> None:
        """Features that go from GPU to GPU lie on the GPUs: the smallest one counts."""
        if error is None:
            self.store.limit.remote(self.share * memory)

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
        for key, wanted in self.passes.items():
            if wanted.asked and not wanted.admitted and now - wanted.asked > REMINDER:
                self.ask_for_room(key)  # the store may have been started again
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
