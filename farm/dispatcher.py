"""Calls on Ray workers. One thread, the dispatcher, owns the workers and the book of keyframe features; the renders, each on
a thread of its own, hand it calls and wait for the answers. Which worker takes which call is the policy's business."""

import errno
import itertools
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from farm import gauges, policy
from farm.broker import Access, Standing
from farm.config import FarmConfig, one_line
from farm.crew import ARRIVAL, Crew, Seat
from farm.features import Features, Pass
from farm.machine import Machine, cluster_workers
from farm.overview import Worker
from farm.store import Key
from farm.tasks import FarmClosedError, Task, poisoned
from farm.worker import RenderWorker
from renderer.errors import OutOfMemoryError, UserError

POISONED = 3  # workers that may fail at a call before its render fails
TICK = 1.0  # seconds between two looks at the clock


class Farm:
    """Workers, feature store and dispatcher of one driver; lives as long as Ray is up for it.

    Raises ConfigError where this machine has not what the transport of features needs.
    """

    def __init__(self, config: FarmConfig, machine: Machine, standing: Standing | None = None):
        self.config, self.standing = config, standing or Standing()
        self.inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.numbers = itertools.count()
        self.renders: dict[int, Callable[[list[Worker]], None]] = {}
        self.logs: dict[int, Callable[[str], None]] = {}
        self.homes: dict[Hashable, int] = {}
        self.seconds: dict[Hashable, int] = {}
        self.loaded: dict[Hashable, Hashable] = {}
        self.waiting: list[Task] = []
        self.looked = 0.0
        self.features = Features(self, machine)
        resources = (
            {"num_gpus": 1, "num_cpus": 0} if machine.device == "cuda" else {"num_gpus": 0, "num_cpus": config.threads}
        )
        remote: Any = ray.remote
        self.actor = remote(enable_tensor_transport=self.features.gang is not None, **resources)(RenderWorker)
        self.crew = Crew(self.worker, machine.workers, self.watch, self.tell)
        self.broker = (
            Access(machine.workers, cluster_workers(config, machine), self.watch) if config.name == "cluster" else None
        )
        self.change_shifts()
        self.open = True
        self.dispatcher = threading.Thread(target=self.dispatch, name="dispatcher", daemon=True)
        self.dispatcher.start()

    @property
    def seats(self) -> list[Seat]:
        return self.crew.seats

    def worker(self) -> Any:
        """A new worker's actor."""
        actor = self.actor.remote()
        self.features.meet(actor)
        return actor

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
                if time.monotonic() - self.looked >= TICK:
                    self.look_at_the_clock()
                self.change_shifts()
                self.features.gather()
                self.assign()
        except Exception as error:  # whoever waits must hear of it
            self.end(error)

    def begin(self, render: int, on_change: Callable[[list[Worker]], None]) -> None:
        self.renders[render] = on_change
        self.allot()

    def leave(self, render: int) -> None:
        """A render has ended: what it still waits for is nobody's business any more."""
        del self.renders[render], self.logs[render]
        dropped = self.features.drop(render)
        self.waiting = [
            task
            for task in self.waiting
            if task.call.render != render and not (task.makes and task.makes.key in dropped)
        ]
        self.allot()

    def end(self, reason: Exception) -> None:
        self.open = False
        if self.broker:
            self.broker.leave()
        for task in [*self.unanswered(), *(seat.task for seat in self.seats if seat.task)]:
            task.answer(None, reason)

    def unanswered(self) -> list[Task]:
        """The calls that no worker has yet."""
        return [*self.waiting, *(task for made in self.features.passes.values() for task in made.waiting)]

    def allot(self) -> None:
        renders, workers = sorted(self.renders), self.crew.taken()
        self.homes = policy.allot(renders, workers, self.homes)
        self.seconds = policy.allot_seconds(renders, workers, self.seconds)
        self.tell()

    def tell(self) -> None:
        """Every render its workers: those whose home it is, or all where it has none of its own."""
        for render, on_change in self.renders.items():
            own = [seat for number, seat in enumerate(self.seats) if self.homes.get(number) == render]
            on_change([seat.address for seat in own or self.seats if seat.address])

    def keep(self, key: Key, wanted: Pass, travel: bool) -> None:
        """A render wants keyframe features. travel: made once and handed on, else by whoever reads them."""
        if wanted.task.call.render in self.renders:
            self.features.want(key, wanted, travel)

    def add(self, tasks: Sequence[Task]) -> None:
        """Calls for whoever is free; those that read features, once there are any."""
        here = [task for task in tasks if task.call.render in self.renders]
        self.waiting += [task for task in here if self.features.ready(task)]

    def assign(self) -> None:
        """Give every idle worker the call that the policy chooses for it."""
        if self.crew.hopeless is not None:
            for lost in self.unanswered():
                lost.answer(None, self.crew.hopeless)
            self.waiting, self.features.passes = [], {}
        fit = self.crew.fit()
        for number in fit:
            if self.seats[number].task is None:
                task = self.pick(number, fit)
                if task is not None:
                    self.start(number, self.seats[number], task)

    def pick(self, number: int, fit: set[int]) -> Task | None:
        """What a worker takes out of the queue; or, where its call needs another model than it has, the loading of that first.
        Meanwhile the call stays in the queue: whoever has the model may take it.

        A call that went wrong here is another worker's, as long as one is left at which it did not.
        """
        task = next((task for task in self.waiting if task.seat == number), None)
        if task is None:
            fresh = [task for task in self.waiting if number not in task.failed or fit <= set(task.failed)]
            calls = {task.call: task for task in fresh if task.seat is None}
            blocked, held = self.features.blocked(), self.features.held(calls)
            call = policy.choose(number, list(calls), self.homes, self.seconds, self.loaded, blocked, held)
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
            order = (*task.plan, task.method, task.arguments)
            task.carries, reference = self.features.supply(number, task)
            try:
                result = seat.actor.run.remote(order, *([reference] if task.carries else []))
            except ValueError:  # Ray has found out before us that the group is broken, and taken it down
                assert task.carries
                self.features.lose(task.carries)
                task.carries = None
                result = seat.actor.run.remote(order)
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
        self.log(seat, task, cause)
        died = isinstance(error, RayError) and cause is error
        lost = task.carries is not None and isinstance(cause, (RayError, RuntimeError, OSError))
        if task.carries and lost and not isinstance(cause, OutOfMemoryError):
            self.features.lose(task.carries)
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
        self.crew.failed(number)
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
        if task.makes:
            self.features.fail(task.makes.key, reason)

    def log(self, seat: Seat, task: Task, cause: Exception | None) -> None:
        """A line for the render whose call it was, unless it has left. Names the keyframe pass whose features it made or read."""
        if task.call.render in self.logs and seat.address:
            who, seconds = f"{seat.address['node']} pid {seat.address['pid']}", time.monotonic() - seat.since
            key = task.makes.key if task.makes else task.reads
            features = f"  features {key[1]}" if key else ""
            failed = f"  failed: {type(cause).__name__}: {one_line(cause)}" if cause else ""
            gauges.call_ended(task.method, task.arguments, time.monotonic() - seat.since, cause is not None)
            self.logs[task.call.render](f"{task.method} {task.position}  {seconds:.3f} s  {who}{features}{failed}")

    def answer(self, number: int, task: Task, value: Any) -> None:
        if task.makes:
            self.features.made(number, task.makes.key, value)
        else:
            self.features.read(task)
        task.answer(value, None)

    # Workers.

    def end_worker(self, number: int) -> None:
        """End a worker, so that another takes its seat."""
        if self.seats[number].task:
            ray.kill(self.seats[number].actor)  # its call will tell
        else:
            self.bury(number)

    def bury(self, number: int) -> None:
        """A worker has died, or goes: another takes its seat, if anybody is to."""
        self.loaded.pop(number, None)
        self.features.bury(number)
        self.crew.replace(number)

    def change_shifts(self) -> None:
        """As many workers as this submission may have now; whoever is too many goes after the call at hand."""
        size = len(self.seats)
        share = self.broker.share(self.standing) if self.broker else size
        wanted = 0 if self.standing.paused else min(share, size)
        if wanted != self.crew.wanted:
            self.crew.resize(wanted)
            self.allot()
        for number in [*self.crew.superfluous()]:
            self.bury(number)
            self.tell()

    def look_at_the_clock(self) -> None:
        """Whoever has been at one call for too long is ended, and the call fails as if the worker had died. Nobody waits for
        workers that do not come: a cluster may be full."""
        now = self.looked = time.monotonic()
        features = sum(made.size for made in self.features.passes.values() if made.admitted)
        gauges.farm_stands(sum(seat.address is not None for seat in self.seats), features)
        self.features.look_after()
        self.crew.inquire()
        for number, seat in enumerate(self.seats):
            late = now - seat.since
            if seat.task and seat.task.method != "prepare" and late > self.config.patience:
                seat.since = now
                ray.kill(seat.actor)
            if seat.address is None and late > ARRIVAL:
                for task in [task for task in self.waiting if task.seat == number]:
                    self.waiting.remove(task)
                    task.answer(0, None)
