"""Where renders are computed: one place for a render or for all renders of a sweep, so that models stay loaded."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import policy
from farm.broker import Standing
from farm.config import FarmConfig
from farm.machine import Machine, start_ray, stop_ray
from farm.overview import Worker
from renderer.plan import Plan

if TYPE_CHECKING:
    from farm.dispatcher import Farm
    from renderer.render import Executor


class Logged:
    """An executor in this process whose calls leave a line each in a render's log."""

    def __init__(self, executor: "Executor", log: Callable[[str], None]):
        self.executor, self.log = executor, log

    def prepare(self, plan: Plan) -> int:
        return self.executor.prepare(plan)

    def run(self, plan: Plan, method: str, arguments: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        begun = time.monotonic()
        for position, value in self.executor.run(plan, method, arguments):
            self.log(f"{method} {position}  {time.monotonic() - begun:.3f} s")
            yield position, value
            begun = time.monotonic()

    def keep(self, plan: Plan, method: str, arguments: tuple, readers: int) -> Any:
        begun = time.monotonic()
        kept = self.executor.keep(plan, method, arguments, readers)
        self.log(f"{method}  {time.monotonic() - begun:.3f} s")
        return kept


class Workshop:
    """This process, or Ray workers on this machine or a cluster; they start when somebody needs them.

    shared: folder in which the renders of a sweep find each other's G-buffers. unfinished: those of renders that have ended
    with an error and may go on. standing: of the submission, where others are on the same cluster.
    """

    def __init__(
        self, config: FarmConfig, machine: Machine, shared: Path | None = None, standing: Standing | None = None
    ):
        self.config, self.machine, self.shared, self.standing = config, machine, shared, standing
        self.turns: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self.unfinished = set[Path]()
        self.opening = threading.Lock()
        self.farm: Farm | None = None
        self.inline: Executor | None = None

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def places(self) -> int:
        """How many renders run at once."""
        return 1 if self.config.name == "inline" else policy.in_flight(self.machine.workers)

    @contextmanager
    def executor(self, on_change: Callable[[list[Worker]], None], log: Callable[[str], None]) -> Iterator["Executor"]:
        """Who computes for one render. on_change: told its workers whenever they change. log: given a line for each chunk."""
        if self.config.name != "inline":
            from farm.executor import take_part

            with take_part(self.workers(), on_change, log) as executor:
                yield executor
            return
        on_change([{"pid": os.getpid(), "node": "127.0.0.1"}])
        if self.inline is None:
            from renderer.render import InlineExecutor  # torch loads here

            self.inline = InlineExecutor()
        yield Logged(self.inline, log)

    def workers(self) -> "Farm":
        with self.opening:
            if self.farm is None:
                from farm.dispatcher import Farm

                start_ray(self.config)
                self.farm = Farm(self.config, self.machine, self.standing)
            return self.farm

    @contextmanager
    def needing(self, stage: Path) -> Iterator[None]:
        """Within the block a render needs the G-buffers in `stage`, and after it where it raises."""
        try:
            yield
        except BaseException:
            self.unfinished.add(stage)
            raise

    def turn(self, stage: Path) -> AbstractContextManager:
        """Held by the one render that makes the G-buffers in `stage`, while others that want the same ones wait."""
        return self.turns[stage]

    def close(self) -> None:
        """End what was started; whatever still runs ends with an error."""
        if self.config.name != "inline":
            self.dismiss()
            stop_ray()

    def dismiss(self) -> None:
        """Whoever waits for workers gets an error, now and later."""
        with self.opening:
            if self.farm is not None:
                self.farm.close()
