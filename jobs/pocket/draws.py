"""Random numbers for one batch of scenes, all from one generator, so that a seed names a picture."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Where a batch of `batch` scenes takes its random numbers from."""

    batch: int
    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """[batch, *shape], uniform in [low, high)."""
        return torch.rand(self.batch, *shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """[batch, *shape], standard normal."""
        return torch.randn(self.batch, *shape, generator=self.generator, device=self.device)

    def choice(self, count: int, *shape: int) -> Tensor:
        """[batch, *shape], whole numbers in [0, count)."""
        return torch.randint(count, (self.batch, *shape), generator=self.generator, device=self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """[batch, *shape], true with this probability."""
        return torch.rand(self.batch, *shape, generator=self.generator, device=self.device) < probability

    def rotations(self, *shape: int) -> Tensor:
        """[batch, *shape, 3, 3], uniform random rotations."""
        w, x, y, z = torch.nn.functional.normalize(self.normal(*shape, 4), dim=-1).unbind(-1)
        rows = [
            1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
        ]  # fmt: skip
        return torch.stack(rows, -1).unflatten(-1, (3, 3))
