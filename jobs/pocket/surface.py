"""Points on heroes, how they reflect, and the colours that have names."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.pocket.draws import Draws
from jobs.pocket.words import COLOURS

RGB = {
    "red": (0.82, 0.05, 0.06), "orange": (0.97, 0.45, 0.04), "yellow": (0.98, 0.84, 0.1), "green": (0.1, 0.58, 0.16),
    "blue": (0.07, 0.22, 0.85), "purple": (0.45, 0.1, 0.68), "pink": (0.97, 0.45, 0.66), "white": (0.93, 0.93, 0.92),
    "black": (0.035, 0.035, 0.04), "brown": (0.38, 0.2, 0.09), "turquoise": (0.08, 0.74, 0.72), "grey": (0.44, 0.44, 0.45),
}  # fmt: skip


@dataclass(frozen=True)
class Points:
    """Hero points to shade: position in cells and unit normal, both [B, N, 3]; height in [-1, 1] over the hero [B,
    N]."""

    q: Tensor
    n: Tensor
    height: Tensor
    draws: Draws

    def rgb(self, red: float, green: float, blue: float, jitter: float = 0.06) -> Tensor:
        """A colour [B, 1, 3], a little different in each picture."""
        return self.varied(torch.tensor([red, green, blue], device=self.q.device), jitter)

    def varied(self, colour: Tensor, jitter: float = 0.06) -> Tensor:
        """A colour [3] or [B, 1, 3], a little different in each picture: [B, 1, 3]."""
        return (colour + (colour + 0.1) * self.draws.uniform(-jitter, jitter, 1, 3)).clamp(0.01, 1)

    def named(self, colours: list[str]) -> tuple[Tensor, Tensor]:
        """A random one of these colours for each picture: [B, 1, 3], and its index [B] in `words.COLOURS`."""
        picked = self.draws.choice(len(colours))
        table = torch.tensor([RGB[c] for c in colours], device=self.q.device)
        index = torch.tensor([COLOURS.index(c) for c in colours], device=self.q.device)
        return self.varied(table[picked][:, None]), index[picked]

    def planar(self) -> tuple[Tensor, Tensor]:
        """Coordinates [B, N] in the coordinate plane that faces the surface, the second one upwards on walls."""
        ax, ay, az = self.n.abs().unbind(-1)
        x, y, z = self.q.unbind(-1)
        lid = (ay > 0.8) & (ay > ax) & (ay > az)
        return torch.where(lid | (az >= ax), x, z), torch.where(lid, z, y)


@dataclass(frozen=True)
class Surface:
    """How points reflect: albedo and emission [B, N, 3]; the rest [B, N] or one number; `normal` replaces the
    geometric one."""

    albedo: Tensor
    metal: Tensor | float = 0.0
    gloss: float = 0.05
    shininess: float = 20.0
    emission: Tensor | float = 0.0
    rim: Tensor | float = 0.0
    normal: Tensor | None = None
    colour: Tensor | None = None
