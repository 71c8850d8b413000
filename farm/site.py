"""Where renders are computed: opened once, for one render or for all renders of a sweep, so that models stay loaded."""

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from farm import policy
from farm.config import SubmitConfig
from farm.machine import Machine, start_ray, stop_ray
from farm.progress import Worker

if TYPE_CHECKING:
    from farm.executor import Farm
    from renderer.render import Executor


class Site:
    """This process, or Ray workers on this machine or a cluster.

    farm: the workers, None for this process. shared: folder in which the renders of a sweep find each other's G-buffers.
    """

    def __init__(self, machine: Machine, farm: "Farm | None", shared: Path | None):
        self.machine, self.farm, self.shared = machine, farm, shared
        self.turns: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self.inline: Executor | None = None

    @property
    def places(self) -> int:
        """How many renders run at once."""
        return 1 if self.farm is None else policy.in_flight(self.machine.workers)

    @contextmanager
    def executor(self, on_change: Callable[[list[Worker]], None]) -> Iterator["Executor"]:
        """Who computes for one render. on_change: told its workers whenever they change."""
        if self.farm is not None:
            with self.farm.executor(on_change) as executor:
                yield executor
            return
        on_change([{"pid": os.getpid(), "node": "127.0.0.1"}])
        if self.inline is None:
            from renderer.render import InlineExecutor  # torch loads here

            self.inline = InlineExecutor()
        yield self.inline

    def turn(self, stage: Path) -> AbstractContextManager:
        """Held by the one render that makes the G-buffers in `stage`, while others that want the same ones wait."""
        return self.turns[stage]

    def close(self) -> None:
        """Whatever still runs ends with an error."""
        if self.farm is not None:
            self.farm.close()


@contextmanager
def open_site(config: SubmitConfig, machine: Machine, shared: Path | None = None) -> Iterator[Site]:
    """Start Ray and the workers that the configuration asks for, or nothing; end what was started."""
    if config.farm.name == "inline":
        yield Site(machine, None, shared)
        return
    from farm.executor import Farm

    try:
        start_ray(config.farm)
        site = Site(machine, Farm(config.farm.threads, machine, config.farm.patience), shared)
        try:
            yield site
        finally:
            site.close()
    finally:
        stop_ray()
