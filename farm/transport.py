"""How keyframe features come from the worker that made them to those that read them. Pixels are the same either way.

object_store: as bytes through Ray's shared memory; always works. nccl: from GPU to GPU, by Ray Direct Transport (between CPU
workers Ray's gloo does the same). recompute: nothing travels, every worker repeats the keyframe pass. Features that do not get
through are made where they are needed, so that a broken transport costs a keyframe pass and nothing else.
"""

import importlib.util
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import ray

from farm.config import FarmConfig
from farm.machine import Machine
from renderer.errors import ConfigError

Formed = Callable[[list[Any], Exception | None], None]


def choose_transport(config: FarmConfig, machine: Machine) -> str:
    """What farm.transport means on this machine. One worker has nobody to send anything to.

    >>> choose_transport(FarmConfig(), Machine("cpu", "CPU", 2)), choose_transport(FarmConfig(), Machine("cuda", "GPU", 1))
    ('object_store', 'recompute')
    """
    cupy = machine.device == "cpu" or importlib.util.find_spec("cupy") is not None
    if config.transport == "nccl" and not cupy:
        raise ConfigError(
            "farm.transport=nccl: Ray reaches NCCL through CuPy, which is not installed here; "
            "`pip install cupy-cuda13x` (12x for CUDA 12), or use farm.transport=auto"
        )
    if machine.workers == 1:
        return "recompute"
    if config.transport != "auto":
        return config.transport
    return "nccl" if machine.device == "cuda" and cupy else "object_store"


class Gang:
    """The collective group of a farm's workers: Ray allows each of them one, and it ends when a member dies.

    device: cpu | cuda. All methods are called on one thread; what takes time happens on another, which hands its end to `post`.
    """

    def __init__(self, device: str, post: Callable[[Callable[[], None]], None]):
        self.backend = "nccl" if device == "cuda" else "gloo"
        self.post = post
        self.members: list[Any] = []
        self.whole = self.forming = False
        self.number = 0
        # Ray reports a transfer that a dead worker took part in as an error; to us it is a case that is provided for.
        logging.getLogger("ray.experimental.rdt.rdt_manager").setLevel(logging.CRITICAL)

    def reaches(self, *actors: Any) -> bool:
        """Can these exchange tensors now?"""
        return self.whole and all(actor in self.members for actor in actors)

    def form(self, members: Sequence[Any], formed: Formed) -> None:
        """Make a group of these workers, once they have left the one before. formed: told the members, and why none came about."""
        asked = self.members = list(members)
        self.whole, self.forming = False, True
        self.number += 1
        first = self.number == 1
        # Ray keeps what it knows of an NCCL group by name, also where a member has died. Gloo lives in a process's one default
        # group of torch.distributed, which only the group of that name takes down.
        name = f"gang-{self.number}" if self.backend == "nccl" else "default"

        def work() -> None:
            from ray.experimental import collective

            error = None
            try:
                for group in collective.get_collective_groups([]):
                    # At first they are of a farm that has ended: nobody is left in them, and Ray forgets them.
                    with suppress(Exception) if first else nullcontext():
                        collective.destroy_collective_group(group)
                # Where a member of the old group has died, Ray does not wait until the others have left it, which they do there.
                there = [member.__ray_call__.options(concurrency_group="_ray_system") for member in asked]
                ray.get([member.remote(idle) for member in there])
                collective.create_collective_group(asked, self.backend, name)
                for pairs in rounds(len(asked)):
                    ray.get([there[a].remote(greet, name, b, a < b) for pair in pairs for a, b in (pair, pair[::-1])])
            except Exception as failure:
                error = failure
            self.post(lambda: end(error))

        def end(error: Exception | None) -> None:
            self.forming, self.whole = False, error is None and self.members is asked
            formed(asked, error)

        threading.Thread(target=work, name="gang", daemon=True).start()

    def lose(self) -> None:
        """A member has died, or a transfer has failed."""
        self.members, self.whole = [], False


def idle(worker: Any) -> None:
    pass


def greet(worker: Any, group: str, peer: int, first: bool) -> None:
    """Exchange something with another member. NCCL takes more than a second for that the first time, which nobody is to wait for in
    the middle of a step."""
    import torch
    from ray.util import collective

    token = torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu")
    (collective.send if first else collective.recv)(token, peer, group)


def rounds(members: int) -> Iterator[list[tuple[int, int]]]:
    """Everybody meets everybody once, and nobody two at a time (the circle method of tournaments).

    >>> list(rounds(3)), len(list(rounds(8)))
    ([[(1, 2)], [(0, 2)], [(0, 1)]], 7)
    """
    first, *others = range(members + members % 2)
    for _ in others:
        circle = [first, *others]
        pairs = zip(circle, circle[::-1], strict=True)
        yield [(a, b) for a, b in sorted(map(sorted, [*pairs][: len(circle) // 2])) if b < members]
        others = others[-1:] + others[:-1]
