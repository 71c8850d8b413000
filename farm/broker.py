"""Several submissions on one cluster: how many workers each may have. Higher priorities first, equal ones alike.

One actor per cluster keeps the book; the first submission starts it, and it ends with the last. Where it cannot be reached,
everybody keeps what they have.
"""

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farm import policy

NAME = "generative-render-farm"
INTERVAL = 2.0  # seconds between two questions
LEASE = 30.0  # seconds after which a submission that does not ask counts as gone
PATIENCE = 10.0  # seconds that a submission waits on leaving: only who hears that it was the last ends the broker


@dataclass
class Standing:
    """What a submission is worth beside others on its cluster, and whether it is to stand still; changes while it runs."""

    priority: int = 0
    paused: bool = False


@dataclass
class Claim:
    """wanted: workers that a submission could use. asked: when it was last heard of."""

    priority: int
    wanted: int
    asked: float


class Broker:
    """Plain Python, wrapped into an actor.

    >>> broker = Broker()
    >>> broker.claim("a", 0, wanted=4, workers=4), broker.claim("b", 1, wanted=3, workers=4), broker.claim("a", 0, 4, 4)
    (4, 3, 1)
    """

    def __init__(self) -> None:
        self.claims: dict[str, Claim] = {}

    def claim(self, name: str, priority: int, wanted: int, workers: int) -> int:
        """How many workers a submission may have now. workers: of the whole cluster."""
        self.claims[name] = Claim(priority, wanted, time.monotonic())
        self.forget_the_silent()
        wishes = {other: (claim.priority, claim.wanted) for other, claim in self.claims.items()}
        return policy.shares(workers, wishes)[name]

    def leave(self, name: str) -> bool:
        """A submission has ended. Returns whether it was the last."""
        self.claims.pop(name, None)
        self.forget_the_silent()
        return not self.claims

    def forget_the_silent(self) -> None:
        """Who has not asked for longer than its lease counts as gone."""
        now = time.monotonic()
        self.claims = {name: claim for name, claim in self.claims.items() if now - claim.asked <= LEASE}


class Access:
    """One submission's access to the broker of its cluster, on the dispatcher's thread.

    wanted: workers that the submission could use. workers: of the whole cluster. watch: as in farm.crew.
    """

    def __init__(
        self, wanted: int, workers: int, watch: Callable[[Any, Callable[[Any, Exception | None], None]], None]
    ):
        self.wanted, self.workers, self.watch = wanted, workers, watch
        self.name, self.granted, self.asked, self.waiting = uuid.uuid4().hex, wanted, 0.0, False

    def actor(self) -> Any:
        import ray

        remote: Any = ray.remote(num_cpus=0, max_restarts=-1)(Broker)
        return remote.options(name=NAME, namespace=NAME, lifetime="detached", get_if_exists=True).remote()

    def share(self, standing: Standing) -> int:
        """How many workers were granted last. Asks again now and then, the first time with patience."""
        now, first = time.monotonic(), not self.asked
        if now - self.asked > INTERVAL and not self.waiting:
            self.asked, self.waiting = now, True
            wanted = 0 if standing.paused else self.wanted
            answer = self.actor().claim.remote(self.name, standing.priority, wanted, self.workers)
            self.watch(answer, self.answered)
            if first:
                self.wait(answer)
        return self.granted

    def wait(self, answer: Any) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            self.granted = ray.get(answer, timeout=INTERVAL)

    def answered(self, granted: int, error: Exception | None) -> None:
        self.waiting = False
        if error is None:
            self.granted = granted

    def leave(self) -> None:
        """The submission has ended; the last one takes the book along."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            actor = self.actor()
            if ray.get(actor.leave.remote(self.name), timeout=PATIENCE):
                ray.kill(actor)
