"""What backdrops and grounds know about where they are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.pocket.draws import Draws


@dataclass(frozen=True)
class Place:
    """What one batch of backdrops needs to know: its random offsets [B, 1], and the plain backdrop's colour [B, 1,
    3]."""

    draws: Draws
    offset: Tensor
    backdrop: Tensor

    def rgb(self, red: float, green: float, blue: float, jitter: float = 0.06) -> Tensor:
        c = torch.tensor([red, green, blue], device=self.offset.device)
        return (c + (c + 0.05) * self.draws.uniform(-jitter, jitter, 1, 3)).clamp(0.0, 1.2)
