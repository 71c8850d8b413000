"""The GPUs that train together: one process each, the same model, their own share of the pictures, averaged
gradients."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

WARM_UP, MEASURED = (
    15,
    40,
)  # steps that are not timed (compilation), and steps that are, before a stage's length is fixed


@dataclass(frozen=True)
class Team:
    """This process's place: rank 0 of size 1 where it trains alone."""

    rank: int
    size: int
    device: torch.device
    started: float

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def log(self, *parts: object) -> None:
        if self.leads:
            print(f"[{time.time() - self.started:7.1f}]", *parts, flush=True)

    def synchronize(self) -> None:
        """Wait for the device and for everybody."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self.size > 1:
            dist.barrier()

    def agree(self, value: float) -> float:
        """The leader's value."""
        if self.size == 1:
            return value
        box = torch.tensor([value], device=self.device, dtype=torch.float64)
        dist.broadcast(box, 0)
        return box.item()

    def average_gradients(self, parameters: list[Tensor]) -> None:
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        whole = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(whole)
        whole /= self.size
        torch._foreach_copy_(
            gradients,
            [part.view_as(g) for part, g in zip(whole.split([g.numel() for g in gradients]), gradients, strict=True)],
        )

    def steps(self, seconds: float, fixed: int = 0, first: int = 0) -> Iterator[tuple[int, int]]:
        """Step numbers from `first` on, each with the number of steps in all, of a stage of `seconds`, or of
        `fixed` steps.

        The speed of the first steps decides how many there will be, so that schedules follow steps and not the clock; until
        then the number in all is 0.
        """
        start, step, total = time.time(), first, fixed
        mark = start
        while not total or step < total:
            yield step, total
            step += 1
            if total or step not in (WARM_UP, WARM_UP + MEASURED):
                continue
            self.synchronize()
            if step == WARM_UP:
                mark = time.time()
            else:
                each = (time.time() - mark) / MEASURED
                total = step + max(1, int(self.agree((seconds - (time.time() - start)) / each)))
                self.log(f"{each * 1e3:.1f} ms a step, {total} steps")


def join() -> Team:
    """This process's team, from the environment that `launch` sets."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=rank, world_size=size)
    return Team(rank, size, device, time.time())


def launch(size: int) -> int:
    """Run this very command once per GPU and return the worst exit code."""
    processes = []
    for rank in range(size):
        environment = os.environ | {
            "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29507",
            # Every process calls its GPU number 0: what one has compiled serves the others.
            "CUDA_VISIBLE_DEVICES": str(rank),
        }  # fmt: skip
        processes.append(subprocess.Popen([sys.executable, *sys.argv], env=environment))
    return max(abs(p.wait()) for p in processes)


def cosine(step: int, total: int, warm_up: int = 150) -> float:
    """Learning rate factor: linear up over `warm_up` steps, cosine down to the last (flat while `total` is not
    known, 0)."""
    falling = 0.5 + 0.5 * math.cos(math.pi * step / total) if total else 1.0
    return min(1.0, (step + 1) / warm_up) * falling + 1e-4
