"""Figures that are put together from limbs, boxes and rings; y is up, figures face +z."""

import torch
from torch import Tensor

from jobs.pocket import sdf
from jobs.pocket.draws import Draws

FIELDS = {
    "capsules": (sdf.CAPSULES, sdf.CAPSULE_SIZE),
    "boxes": (sdf.BOXES, sdf.BOX_SIZE),
    "tori": (sdf.TORI, sdf.TORUS_SIZE),
}


class Figure:
    """Primitives of n figures while they are put together. Positions are [n, 3], sizes [n] or numbers, `where` [n]
    keeps some."""

    def __init__(self, draws: Draws):
        self.draws = draws
        self.parts: dict[str, list[Tensor]] = {name: [] for name in FIELDS}
        self.blend = self.size(0.05)
        self.stretch = torch.ones(draws.batch, 3, device=draws.device)
        self.ripple = self.size(0.0)

    def size(self, value: float | Tensor) -> Tensor:
        return torch.as_tensor(value, device=self.draws.device, dtype=torch.float32).expand(self.draws.batch)

    def at(self, x: float | Tensor, y: float | Tensor, z: float | Tensor) -> Tensor:
        return torch.stack([self.size(x), self.size(y), self.size(z)], -1)

    def _add(self, kind: str, values: list[Tensor], where: Tensor | None) -> None:
        row = torch.cat([v if v.ndim == 2 else v[:, None] for v in values], -1)
        if where is not None:
            away = row.clone()
            away[:, 1] = sdf.ABSENT
            row = torch.where(where[:, None], row, away)
        self.parts[kind].append(row)

    def capsule(
        self, start: Tensor, end: Tensor, r0: float | Tensor, r1: float | Tensor, where: Tensor | None = None
    ) -> None:
        if where is not None:
            end = torch.where(where[:, None], end, self.at(0, sdf.ABSENT, 0))
        self._add("capsules", [start, end, self.size(r0), self.size(r1)], where)

    def ball(self, centre: Tensor, radius: float | Tensor, where: Tensor | None = None) -> None:
        self.capsule(centre, centre, radius, radius, where)

    def box(
        self, centre: Tensor, half: Tensor, rounding: float | Tensor = 0.02, rotation: Tensor | None = None, where=None
    ) -> None:
        rotation = rotation if rotation is not None else turn(self.size(0.0), 1)
        self._add("boxes", [centre, rotation.flatten(1), half, self.size(rounding)], where)

    def torus(
        self, centre: Tensor, rotation: Tensor, radius: float | Tensor, thickness: float | Tensor, where=None
    ) -> None:
        self._add("tori", [centre, rotation.flatten(1), self.size(radius), self.size(thickness)], where)


def turn(angle: Tensor, axis: int) -> Tensor:
    """Rotation matrices [n, 3, 3] by `angle` [n] about a coordinate axis; rows are the turned axes."""
    c, s, o, i = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = {0: [i, o, o, o, c, s, o, -s, c], 1: [c, o, -s, o, i, o, s, o, c], 2: [c, s, o, -s, c, o, o, o, i]}[axis]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def limb(swing: Tensor, spread: Tensor, side: int = 1) -> Tensor:
    """Unit direction [n, 3] of a limb that hangs down, swung forward and spread sideways by these angles."""
    return torch.stack(
        [side * torch.sin(spread), -torch.cos(swing) * torch.cos(spread), torch.sin(swing) * torch.cos(spread)], -1
    )
