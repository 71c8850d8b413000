"""Keyframe features on the farm, from a render's wish for them to their last reader: room in the store, who makes them, how they
come to whoever reads them, and what is done where they do not."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm.machine import Machine
from farm.policy import Call
from farm.store import FeatureStore, Key
from farm.tasks import Task
from farm.transport import Gang, choose_transport

if TYPE_CHECKING:
    from farm.dispatcher import Farm

REMINDER = 10.0  # seconds after which the store is asked for room again


@dataclass(eq=False)
class Pass:
    """Keyframe features that a render wants.

    readers: how many calls will read them. size: in bytes, as foreseen. asked: when the store was last asked for room; None where
    each reader makes them for itself. admitted: is there room? made: are they there? error: why they never will be. waiting:
    readers that came before. source: the worker that has made them. reference: how they come to others, None if they do not.
    holders: seats that have them or will. read: the readers that are done. told: of how many of these the store has been told.
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
    read: list[int] = field(default_factory=list)
    told: int = 0


class Features:
    """Of one farm, on its dispatcher's thread. Raises ConfigError where this machine has not what the transport needs."""

    def __init__(self, farm: "Farm", machine: Machine):
        config = farm.config
        gpu = machine.device == "cuda"
        self.farm, self.transport = farm, choose_transport(config, machine)
        self.gang = Gang(machine.device, farm.inbox.put) if self.transport == "nccl" else None
        # On the driver's own machine, which the render does not outlive anyway. A store that is started again knows nothing, and
        # what is asked of it may be repeated.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        store: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(FeatureStore)
        shared_memory = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"])
        capacity = config.feature_memory * shared_memory if self.transport == "object_store" else float("inf")
        self.store = store.options(scheduling_strategy=here).remote(capacity)
        # Of the memory that features lie in, what belongs to one worker.
        self.share = config.feature_memory / (1 if gpu else machine.workers)
        self.passes: dict[Key, Pass] = {}

    def meet(self, actor: Any) -> None:
        """A worker comes. Features that go from GPU to GPU lie on the GPUs: the smallest one counts."""

        def measured(memory: int, error: Exception | None) -> None:
            if error is None:
                self.store.limit.remote(self.share * memory)

        if self.gang is not None:
            self.farm.watch(actor.memory.remote(), measured)

    # From the wish to the last reader.

    def want(self, key: Key, wanted: Pass, travel: bool) -> None:
        """A render wants features. travel: made once and handed on, else by whoever reads them."""
        self.passes[key] = wanted
        wanted.made = not travel
        if travel:
            self.ask_for_room(key)

    def ask_for_room(self, key: Key) -> None:
        wanted = self.passes[key]
        wanted.asked = time.monotonic()
        room = self.store.reserve.remote(key, wanted.size, wanted.readers)
        self.farm.watch(room, lambda granted, error: self.admit([key] if granted else [], error))

    def blocked(self) -> set[int]:
        """The renders for whose features there is no room yet."""
        return {wanted.task.call.render for wanted in self.passes.values() if wanted.asked and not wanted.admitted}

    def admit(self, keys: list[Key] | None, error: Exception | None) -> None:
        """There is room for these features: their keyframe passes may run."""
        for key in keys or []:
            if key in self.passes and not self.passes[key].admitted:
                self.passes[key].admitted = True
                self.farm.add([self.passes[key].task])

    def made(self, number: int, key: Key, size: int) -> None:
        """A worker has made features: whoever waits for them may go on."""
        actor = self.farm.seats[number].actor
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
        self.farm.add(readers)

    def ready(self, task: Task) -> bool:
        """May this call be made now? Else it waits for the features that it reads, or is told that they will never be."""
        made = self.passes.get(task.reads) if task.reads else None
        if made is None or made.made:
            return True
        if made.error:
            task.answer(None, made.error)
        else:
            made.waiting.append(task)
        return False

    def supply(self, number: int, task: Task) -> tuple[Key | None, Any]:
        """The features that have to come with a call, and the reference to them; where there is none the worker makes them."""
        made = self.passes.get(task.reads) if task.reads else None
        if made is None or number in made.holders:
            return None, None
        made.holders.add(number)
        reachable = self.gang is None or self.gang.reaches(made.source, self.farm.seats[number].actor)
        return (task.reads, made.reference) if made.reference is not None and reachable else (None, None)

    def held(self, calls: Mapping[Call, Task]) -> dict[Call, set[int]]:
        """Of the calls that read features, which seats have these."""
        return {call: self.passes[task.reads].holders for call, task in calls.items() if task.reads in self.passes}

    def read(self, task: Task) -> None:
        """A call has been answered that may have read features."""
        if task.reads is None or task.reads not in self.passes:
            return
        made = self.passes[task.reads]
        made.read.append(task.position)
        if len(made.read) == made.readers:
            self.tell_store(task.reads)
            self.forget(task.reads)

    def tell_store(self, key: Key) -> None:
        """Who has read these features since it was told last."""
        made = self.passes[key]
        news, made.told = made.read[made.told :], len(made.read)
        if made.asked and news:
            self.farm.watch(self.store.release.remote(key, news), self.admit)

    def fail(self, key: Key, reason: Exception) -> None:
        """They cannot be made."""
        if key in self.passes:
            made = self.passes[key]
            made.error, made.waiting, readers = reason, [], made.waiting
            self.farm.add(readers)

    def lose(self, key: Key) -> None:
        """Features did not get through: who has none makes them. The worker that was sending may wait for ever, and is ended."""
        made = self.passes.get(key)
        if made is not None:
            made.reference = None
        if self.gang is not None:
            self.gang.lose()
            for number, seat in enumerate(self.farm.seats):
                if made is not None and seat.actor == made.source:
                    self.farm.end_worker(number)

    def drop(self, render: int) -> list[Key]:
        """A render has left: nobody will read its features any more. Returns which they were."""
        keys = [key for key, made in self.passes.items() if made.task.call.render == render]
        for key in keys:
            if self.passes[key].asked:
                self.farm.watch(self.store.drop.remote(key), self.admit)
            self.forget(key)
        return keys

    def forget(self, key: Key) -> None:
        for number in self.passes.pop(key).holders:
            actor = self.farm.seats[number].actor
            if actor is not None:
                actor.forget.remote(key)

    def look_after(self) -> None:
        """Keep the store's book current; it may also have been started again, and know of nothing that waits."""
        for key, wanted in self.passes.items():
            self.tell_store(key)
            if wanted.asked and not wanted.admitted and time.monotonic() - wanted.asked > REMINDER:
                self.ask_for_room(key)

    # Workers come and go.

    def bury(self, number: int) -> None:
        """A worker is gone: those that were about to receive its features go, too."""
        gone = self.farm.seats[number].actor
        for made in self.passes.values():
            made.holders.discard(number)
        if self.gang is None:
            return
        own = {key for key, made in self.passes.items() if made.source == gone}
        for key in own:
            self.passes[key].reference = None
        for seat in self.farm.seats:
            if seat.task and seat.task.carries in own:
                ray.kill(seat.actor)
        if gone in self.gang.members:
            self.gang.lose()

    def gather(self) -> None:
        """One group of all workers, once nobody is coming up or in the middle of an exchange."""
        if self.gang is None or self.gang.forming:
            return
        up = [seat.actor for seat in self.farm.seats if seat.address]
        coming = any(seat.coming for seat in self.farm.seats)
        exchanging = any(seat.task and seat.task.carries for seat in self.farm.seats)
        if len(up) > 1 and not coming and not exchanging and not (self.gang.whole and self.gang.members == up):
            self.gang.form(up, self.gathered)

    def gathered(self, members: list[Any], error: Exception | None) -> None:
        """Where a member has died meanwhile, the others wait for it, and are ended. Where a group cannot be at all, so be it."""
        if isinstance(error, RayTaskError):
            self.gang, self.transport = None, "object_store"
        elif error is not None:
            for number in [number for number, seat in enumerate(self.farm.seats) if seat.actor in members]:
                self.farm.end_worker(number)
