"""The workers of a farm. Each has a seat; where one dies or hangs, another takes its seat."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray

from farm.config import one_line
from farm.overview import Worker
from farm.tasks import ChunkError, Task

STILLBORN = 3  # workers in a row that may not come up on a seat
SICK, FORGIVEN = 3, 60.0  # failures in a row after which a worker gets nothing, and for how many seconds
ARRIVAL = 60.0  # seconds that others wait for a worker to come up
INQUIRY = 5.0  # seconds between two questions how a worker is

Watch = Callable[[Any, Callable[[Any, Exception | None], None]], None]
"""Have the dispatcher call then(value, error) when the result that a reference stands for is there."""


@dataclass(eq=False)
class Seat:
    """A worker's place on the farm. actor: None while nobody is to work there. address: None until the worker has come up.
    since: of its call, or of its start. stillborn: how many in a row did not come up. asked: when it said how it is."""

    actor: Any = None
    address: Worker | None = None
    task: Task | None = None
    since: float = 0.0
    failures: int = 0
    blocked_until: float = 0.0
    stillborn: int = 0
    asked: float = 0.0

    @property
    def coming(self) -> bool:
        """Is a worker on its way that others wait for?"""
        return self.actor is not None and self.address is None and time.monotonic() - self.since <= ARRIVAL


class Crew:
    """All of it happens on the dispatcher's thread. Nobody works before `resize`.

    make: starts a worker's actor. size: how many seats there are. changed: told when a worker has come up, or how it is.
    """

    def __init__(self, make: Callable[[], Any], size: int, watch: Watch, changed: Callable[[], None]):
        self.make, self.watch, self.changed = make, watch, changed
        self.seats, self.wanted = [Seat() for _ in range(size)], 0
        self.hopeless: ChunkError | None = None

    def taken(self) -> range:
        """The seats at which somebody is to work."""
        return range(self.wanted)

    def superfluous(self) -> Iterator[int]:
        """Those who may go, and have nothing to do."""
        for number, seat in enumerate(self.seats[self.wanted :], self.wanted):
            if seat.actor is not None and seat.task is None:
                yield number

    def resize(self, wanted: int) -> None:
        """So many are to work from now on. Whoever is too many is let go by the farm, after the call at hand."""
        self.wanted = wanted
        for seat in self.seats[: self.wanted]:
            if seat.actor is None:
                self.start(seat)

    def start(self, seat: Seat) -> None:
        """A new worker on this seat."""
        actor = seat.actor = self.make()
        seat.address, seat.since, seat.failures, seat.blocked_until = None, time.monotonic(), 0, 0.0

        def met(address: Worker | None, error: Exception | None) -> None:
            if seat.actor is not actor:
                return
            if error is None:
                seat.address, seat.stillborn = address, 0
                self.changed()
                return
            seat.stillborn += 1
            if seat.stillborn < STILLBORN:
                self.replace(self.seats.index(seat))
            elif all(other.stillborn >= STILLBORN for other in self.seats[: self.wanted]):
                self.hopeless = ChunkError(f"no worker comes up: {one_line(error)}")

        self.watch(actor.where.remote(), met)

    def replace(self, number: int) -> None:
        """Whoever was there is gone, or only out of reach; another comes, if anybody is to work there."""
        seat = self.seats[number]
        ray.kill(seat.actor)
        seat.actor = seat.address = None
        if number < self.wanted:
            self.start(seat)

    def fit(self) -> set[int]:
        """Who may work: whoever has come up and is not sick; where all are sick, somebody must try."""
        up = {number for number in self.taken() if self.seats[number].address}
        now = time.monotonic()
        return {number for number in up if self.seats[number].blocked_until <= now} or up

    def failed(self, number: int) -> None:
        """A worker has failed at a call; after several in a row it rests."""
        seat = self.seats[number]
        seat.failures += 1
        if seat.failures >= SICK:
            seat.failures, seat.blocked_until = 0, time.monotonic() + FORGIVEN

    def inquire(self) -> None:
        """The memory that workers take changes; they answer between two calls."""
        for seat in self.seats:
            if seat.address and time.monotonic() > seat.asked + INQUIRY:
                self.ask(seat)

    def ask(self, seat: Seat) -> None:
        actor, seat.asked = seat.actor, math.inf

        def told(address: Worker | None, error: Exception | None) -> None:
            seat.asked = time.monotonic()
            if error is None and seat.actor is actor:
                seat.address = address
                self.changed()

        self.watch(actor.where.remote(), told)
