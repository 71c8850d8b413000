"""Random heroes that look like what people animate: figures from limbs, vases, vehicles, toys, blobs and cloth.

A family is a function that draws `n` figures and puts their primitives into a `Figure`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.pocket import sdf
from jobs.pocket.draws import Draws
from jobs.pocket.figure import FIELDS, Figure, limb, turn


def humanoid(draws: Draws) -> Figure:
    """People, dancers, golems, puppets; a third of them boxy robots."""
    f, u = Figure(draws), draws.uniform
    girth, boxy = u(0.8, 1.15) + u(0, 0.7) * draws.chance(0.35), draws.chance(0.3)
    head_size = u(0.1, 0.13) + u(0, 0.12) * draws.chance(0.35)
    shoulder_width, hip_width = u(0.13, 0.2) * girth**0.6, u(0.07, 0.11) * girth**0.6
    legs, arms = u(0.72, 1.1), u(0.8, 1.1)
    lean, bow = u(-0.12, 0.12), u(-0.1, 0.14)
    hip, chest = f.at(0, 0, 0), f.at(lean * 0.7, 0.36, bow * 0.7)
    shoulders = f.at(lean, 0.47, bow)
    f.capsule(hip - f.at(hip_width, 0, 0), hip + f.at(hip_width, 0, 0), 0.1 * girth, 0.1 * girth)
    f.capsule(hip + f.at(0, 0.06, 0), chest, 0.105 * girth, 0.15 * girth, ~boxy)
    f.capsule(
        shoulders - f.at(shoulder_width, 0, 0), shoulders + f.at(shoulder_width, 0, 0), 0.065 * girth, 0.065 * girth
    )
    head = shoulders + f.at(u(-0.04, 0.04), 0.15 + head_size, u(-0.01, 0.06))
    f.capsule(shoulders, head, 0.055 * girth, 0.05)
    f.capsule(head, head + f.at(0, head_size * 0.45, 0), head_size * 0.88, head_size, ~boxy)
    f.box(head + f.at(0, 0.02, 0), f.at(head_size, head_size * u(0.7, 1), head_size), 0.02, where=boxy)
    f.box((hip + chest) / 2 + f.at(0, 0.06, 0), f.at(shoulder_width * 0.95, 0.23, 0.12 * girth), 0.03, where=boxy)
    walk, crouch = draws.normal() * 0.45, u(0, 1) * draws.chance(0.3)
    for side in (-1, 1):
        swing = walk * side + crouch * 0.7 + draws.normal() * 0.15
        joint = hip + f.at(side * hip_width * 1.05, -0.05, 0)
        knee = joint + limb(swing, u(0.0, 0.35), side) * (0.42 * legs)[:, None]
        ankle = knee + limb(swing - u(0.0, 0.7) - crouch, u(-0.05, 0.15), side) * (0.42 * legs)[:, None]
        f.capsule(joint, knee, 0.09 * girth, 0.065 * girth)
        f.capsule(knee, ankle, 0.065 * girth, 0.05 * girth**0.5)
        f.capsule(ankle, ankle + f.at(side * u(0, 0.05), -0.03, u(0.1, 0.17)), 0.055 * girth**0.5, 0.045 * girth**0.5)
        swing, spread = draws.normal() * 0.6 - walk * side * 0.5, u(0.08, 0.6) + u(0, 2.0) * draws.chance(0.45)
        joint = shoulders + f.at(side * shoulder_width * 1.15, -0.01, 0)
        elbow = joint + limb(swing, spread, side) * (0.27 * arms)[:, None]
        hand = elbow + limb(swing + u(0.0, 1.5), spread + u(-0.5, 0.6), side) * (0.25 * arms)[:, None]
        fist = u(0.9, 1.4) * girth**0.6
        f.capsule(joint, elbow, 0.062 * girth, 0.048 * girth)
        f.capsule(elbow, hand, 0.048 * girth, 0.038 * girth**0.7)
        f.capsule(hand, hand + (hand - elbow) * 0.25, 0.05 * fist, 0.042 * fist)
        ear = head + f.at(side * head_size * 0.7, head_size * 1.2, 0)
        f.capsule(ear, ear + f.at(side * u(0, 0.1), u(0.03, 0.2), 0), 0.04, u(0.01, 0.04), draws.chance(0.12))
    f.capsule(
        head + f.at(0, head_size * 1.2, 0),
        head + f.at(0, head_size * 1.2 + u(0.05, 0.25), 0),
        u(0.04, 0.12),
        0.02,
        draws.chance(0.15),
    )
    f.box(hip + f.at(0, -0.1, -0.14), f.at(0.16, 0.3, 0.015), 0.015, where=draws.chance(0.08))  # a cape
    f.blend = torch.where(boxy, u(0.01, 0.03), u(0.03, 0.07))
    return f


def quadruped(draws: Draws) -> Figure:
    """Foxes, dogs, cats, horses, bears, dragons without wings."""
    f, u = Figure(draws), draws.uniform
    length, leg, girth = u(0.36, 0.55), u(0.2, 0.38), u(0.7, 1.4)
    front, rear = f.at(0, 0, length), f.at(0, u(-0.05, 0.05), -length)
    middle = f.at(u(-0.06, 0.06), u(-0.02, 0.07), 0)
    f.capsule(front, middle, 0.17 * girth, 0.14 * girth)
    f.capsule(middle, rear, 0.14 * girth, 0.15 * girth)
    neck = front + f.at(u(-0.08, 0.08), u(0.12, 0.45), u(0.1, 0.3))
    f.capsule(front + f.at(0, 0.04, 0.02), neck, 0.13 * girth, u(0.07, 0.11))
    skull, drop, snout = u(0.1, 0.15), u(0.0, 0.14), u(0.14, 0.32)
    look = u(-0.1, 0.1)
    f.ball(neck + f.at(look * 0.3, 0.03, 0.05), skull)
    f.capsule(neck + f.at(look * 0.3, 0, 0.06), neck + f.at(look, -drop, 0.06 + snout), skull * 0.75, u(0.035, 0.07))
    stride, bend = draws.normal() * 0.4, u(0.0, 0.5)
    for side in (-1, 1):
        ear = neck + f.at(side * skull * 0.6, skull * 0.75, 0.0)
        f.capsule(ear, ear + f.at(side * u(0, 0.06), u(0.05, 0.2), u(-0.05, 0.03)), u(0.03, 0.055), u(0.008, 0.03))
        for pair, (root, sign) in enumerate(((front, 1), (rear, -1))):
            swing = stride * side * sign + draws.normal() * 0.15
            joint = root + f.at(side * 0.1 * girth, -0.06, 0)
            knee = joint + limb(swing + 0.15 * sign, u(0, 0.15), side) * leg[:, None]
            fold = bend * (1 if pair else -1)
            paw = knee + limb(swing - 0.15 * sign - fold, u(-0.03, 0.05), side) * leg[:, None]
            f.capsule(joint, knee, u(0.085, 0.12) * girth, u(0.05, 0.065))
            f.capsule(knee, paw, 0.05, u(0.03, 0.045))
            f.capsule(paw, paw + f.at(0, -0.01, u(0.05, 0.09)), 0.045, 0.035)
    bushy = u(0.03, 0.05) + u(0, 0.08) * draws.chance(0.4)
    root = rear + f.at(0, 0.06, -0.08)
    mid = root + f.at(u(-0.12, 0.12), u(-0.25, 0.22), -u(0.12, 0.3))
    f.capsule(root, mid, 0.045, bushy)
    f.capsule(mid, mid + f.at(u(-0.15, 0.15), u(-0.22, 0.3), -u(0.08, 0.3)), bushy, u(0.01, 0.05))
    f.capsule(front + f.at(0, 0.12, 0), neck + f.at(0, 0.06, -0.06), 0.05, 0.05, draws.chance(0.2))  # a mane
    f.blend = u(0.03, 0.08)
    return f


def fish(draws: Draws) -> Figure:
    f, u = Figure(draws), draws.uniform
    wave, phase, depth = u(0.02, 0.12), u(0, 6.28), u(0.16, 0.34)
    spine = [f.at(wave * torch.sin(phase + i * 0.9), 0, 0.6 - 0.3 * i) for i in range(5)]
    radii = [depth * 0.45, depth, depth * u(0.85, 1), depth * 0.6, depth * 0.22]
    for i in range(4):
        f.capsule(spine[i], spine[i + 1], radii[i], radii[i + 1])
    tail = spine[4]
    for side in (-1, 1):
        f.capsule(tail, tail + f.at(u(-0.08, 0.08), side * u(0.2, 0.38), -u(0.15, 0.3)), 0.05, u(0.05, 0.09))
        fin = spine[1] + f.at(side * depth * 0.8, -depth * 0.4, 0)
        f.capsule(fin, fin + f.at(side * u(0.15, 0.4), -u(0.0, 0.2), -u(0.1, 0.25)), 0.05, 0.02)
    f.capsule(spine[1] + f.at(0, depth * 0.8, 0), spine[2] + f.at(0, depth * u(1, 1.6), -0.1), 0.06, u(0.02, 0.07))
    f.capsule(spine[2] + f.at(0, -depth * 0.7, 0), spine[3] + f.at(0, -depth, -0.05), 0.05, 0.02, draws.chance(0.6))
    f.stretch = torch.stack([u(0.45, 0.85), f.size(1.0), f.size(1.0)], -1)
    f.blend = u(0.04, 0.09)
    return f


def bird(draws: Draws) -> Figure:
    f, u = Figure(draws), draws.uniform
    rise, plump = u(0.0, 0.35), u(0.16, 0.27)
    chest, rump = f.at(0, rise * 0.6, 0.2), f.at(0, -rise * 0.4, -0.25)
    f.capsule(chest, rump, plump, plump * 0.6)
    head = chest + f.at(u(-0.05, 0.05), u(0.15, 0.4), u(0.1, 0.28))
    f.capsule(chest, head, plump * 0.6, 0.08)
    f.ball(head, u(0.1, 0.15))
    f.capsule(head, head + f.at(0, u(-0.06, 0.02), u(0.16, 0.3)), 0.06, 0.015)
    f.capsule(rump, rump + f.at(0, u(-0.15, 0.15), -u(0.2, 0.5)), 0.1, u(0.03, 0.12))
    lift, sweep = u(-0.5, 0.9), u(-0.4, 0.4)
    span, open_wings = u(0.35, 0.6), draws.chance(0.7)
    for side in (-1, 1):
        rotation = turn(lift * side, 2) @ turn(sweep * side, 1)
        along = rotation[:, 0]
        root = (chest + rump) / 2 + f.at(side * plump * 0.5, plump * 0.4, 0.05)
        f.box(
            root + along * (side * span)[:, None] * 0.9,
            torch.stack([span, f.size(0.008), u(0.1, 0.2)], -1),
            0.02,
            rotation,
            open_wings,
        )
        f.capsule(root, root + f.at(side * 0.08, -0.1, -0.4), 0.12, 0.04, ~open_wings)
        foot = rump + f.at(side * 0.08, -u(0.3, 0.5), 0.22)
        f.capsule(rump + f.at(side * 0.08, -0.05, 0.15), foot, 0.04, 0.02)
        f.capsule(foot, foot + f.at(side * 0.03, -0.01, 0.1), 0.025, 0.02)
    f.blend = u(0.03, 0.07)
    return f


def vase(draws: Draws) -> Figure:
    """Turned shapes: vases, bottles, goblets, chess pieces, lamps, bells, snowmen."""
    f, u = Figure(draws), draws.uniform
    count, height = 7, u(0.9, 2.0)
    base, swing, phase, speed = u(0.16, 0.4), u(0.06, 0.24), u(0, 6.28), u(2.0, 7.0)
    radii = [(base + swing * torch.sin(phase + speed * i / (count - 1))).clamp(min=0.06) for i in range(count)]
    radii[0] = torch.maximum(radii[0], u(0.15, 0.35))
    for i in range(count - 1):
        f.capsule(
            f.at(0, height * i / (count - 1), 0), f.at(0, height * (i + 1) / (count - 1), 0), radii[i], radii[i + 1]
        )
    handles = draws.chance(0.35)
    for side in (-1, 1):
        rotation = turn(f.size(math.pi / 2), 0)
        f.torus(f.at(side * radii[4], height * 0.62, 0), rotation, u(0.12, 0.25), u(0.03, 0.06), handles)
    f.torus(f.at(0, height, 0), turn(f.size(0.0), 1), radii[-1] * 1.05, u(0.03, 0.07), draws.chance(0.4))
    f.blend = u(0.03, 0.15)
    return f


def vehicle(draws: Draws) -> Figure:
    """Trucks, cars, toy trains, carts."""
    f, u = Figure(draws), draws.uniform
    length, width, low, wheel = u(0.6, 0.95), u(0.25, 0.4), u(0.1, 0.22), u(0.13, 0.25)
    f.box(f.at(0, 0, 0), torch.stack([width, low, length], -1), u(0.01, 0.06))
    cabin = u(0.15, 0.35)
    f.box(
        f.at(0, low + cabin * 0.8, u(-0.2, 1) * length * 0.55),
        torch.stack([width * u(0.75, 1), cabin, length * u(0.2, 0.45)], -1),
        u(0.01, 0.08),
    )
    f.box(
        f.at(0, low + 0.2, -length * 0.45),
        torch.stack([width, u(0.15, 0.45), length * u(0.35, 0.5)], -1),
        u(0.01, 0.05),
        where=draws.chance(0.5),
    )
    f.capsule(
        f.at(0, low, length * 0.7), f.at(0, low + u(0.2, 0.5), length * 0.7), 0.05, u(0.05, 0.12), draws.chance(0.2)
    )
    for side in (-1, 1):
        for end in (-1, 1):
            hub = f.at(side * (width + 0.02), -low * 0.9, end * length * 0.62)
            f.torus(hub, turn(f.size(math.pi / 2), 2), wheel * 0.7, wheel * 0.38)
            f.capsule(hub - f.at(side * 0.1, 0, 0), hub + f.at(side * 0.02, 0, 0), wheel * 0.5, wheel * 0.45)
    f.blend = u(0.005, 0.02)
    return f


def blocks(draws: Draws) -> Figure:
    """Single solids and small groups: cubes, balls, rings, cylinders, stacks."""
    f, u = Figure(draws), draws.uniform
    upright = draws.chance(0.5)[:, None, None]
    spread = u(0.1, 0.6) * draws.chance(0.75)
    place = lambda: draws.uniform(-1, 1, 3) * spread[:, None]  # noqa: E731
    first = draws.choice(4)
    rotation = lambda: torch.where(upright, turn(u(0, 6.28), 1), draws.rotations())  # noqa: E731
    grouped = spread > 0
    for i in range(3):
        shown = (first == 0) if i == 0 else grouped & draws.chance(0.45)
        f.box(place(), draws.uniform(0.12, 0.5, 3), u(0.0, 0.08), rotation(), shown)
        shown = (first == 1) if i == 0 else grouped & draws.chance(0.3)
        f.ball(place(), u(0.15, 0.5), shown)
    for i in range(2):
        shown = (first == 2) if i == 0 else grouped & draws.chance(0.2)
        f.torus(place(), rotation(), u(0.25, 0.55), u(0.06, 0.2), shown)
        shown = (first == 3) if i == 0 else grouped & draws.chance(0.3)
        f.capsule(place() - f.at(0, 0.3, 0), place() + f.at(0, 0.3, 0), u(0.06, 0.4), u(0.03, 0.3), shown)
    f.blend = torch.where(draws.chance(0.6), u(0.005, 0.02), u(0.03, 0.2))
    return f


def blob(draws: Draws) -> Figure:
    f, u = Figure(draws), draws.uniform
    f.ball(f.at(0, 0, 0), u(0.3, 0.6))
    for _ in range(8):
        f.ball(draws.uniform(-0.6, 0.6, 3), u(0.1, 0.4), draws.chance(0.6))
    f.blend, f.ripple = u(0.1, 0.35), u(0.0, 0.07)
    return f


def cloth(draws: Draws) -> Figure:
    """Sheets and flags in the wind."""
    f, u = Figure(draws), draws.uniform
    width, height, flag = u(0.45, 0.9), u(0.35, 0.7), draws.chance(0.5)
    tilt = turn(u(-0.4, 0.4), 0) @ turn(u(0, 6.28), 1)
    f.box(f.at(0, 0, 0), torch.stack([width, height, f.size(0.012)], -1), 0.02, tilt)
    pole = -tilt[:, 0] * width[:, None]
    f.capsule(pole + f.at(0, height, 0), pole - f.at(0, height + u(0.3, 0.9), 0), 0.035, 0.035, flag)
    f.blend, f.ripple = f.size(0.01), u(0.05, 0.1)
    return f


FAMILIES: dict[str, tuple[Callable[[Draws], Figure], float]] = {
    "humanoid": (humanoid, 0.30),
    "quadruped": (quadruped, 0.22),
    "fish": (fish, 0.07),
    "bird": (bird, 0.07),
    "vase": (vase, 0.08),
    "vehicle": (vehicle, 0.09),
    "blocks": (blocks, 0.09),
    "blob": (blob, 0.04),
    "cloth": (cloth, 0.04),
}


@dataclass(frozen=True)
class Shapes:
    """Heroes that fit the unit ball around the origin: rows [B, sdf.ROW_SIZE], lowest point [B, 1], family [B]."""

    rows: Tensor
    floor: Tensor
    family: Tensor

    def __getitem__(self, index) -> "Shapes":
        return Shapes(self.rows[index], self.floor[index], self.family[index])

    def __len__(self) -> int:
        return len(self.rows)


def _fitted(f: Figure) -> tuple[Tensor, Tensor]:
    """The figure moved and scaled into the unit ball: its rows, and the height of its lowest point."""
    n, device = f.draws.batch, f.draws.device
    padded = {}
    for name, (count, size) in FIELDS.items():
        empty = torch.zeros(size, device=device)
        empty[1] = sdf.ABSENT
        if name == "capsules":
            empty[4] = sdf.ABSENT
        else:
            empty[3:12] = torch.eye(3, device=device).flatten()
        assert len(f.parts[name]) <= count, f"{name}: {len(f.parts[name])} of at most {count}"
        filler = [empty.expand(n, size)] * (count - len(f.parts[name]))
        padded[name] = torch.stack([*f.parts[name], *filler], 1)
    c, b, t = padded["capsules"], padded["boxes"], padded["tori"]
    corner = (b[..., 3:12].unflatten(-1, (3, 3)).transpose(-1, -2).abs() @ b[..., 12:15, None])[..., 0] + b[..., 15:16]
    middle = torch.cat([c[..., 0:3], c[..., 3:6], b[..., 0:3], t[..., 0:3]], 1)
    reach = torch.cat(
        [
            c[..., 6:7].expand(-1, -1, 3),
            c[..., 7:8].expand(-1, -1, 3),
            corner,
            (t[..., 12:13] + t[..., 13:14]).expand(-1, -1, 3),
        ],
        1,
    )
    present = (middle[..., 1] < sdf.ABSENT / 2)[..., None]
    low = torch.where(present, middle - reach, torch.inf).amin(1)
    high = torch.where(present, middle + reach, -torch.inf).amax(1)
    centre = (low + high) / 2
    furthest = (((middle - centre[:, None]).abs() + reach) * f.stretch[:, None]).norm(dim=-1, keepdim=True)
    scale = 1 / (torch.where(present, furthest, 0).amax((1, 2)) + f.ripple)[:, None]
    for part, points in ((c, (0, 3)), (b, (0,)), (t, (0,))):
        gone = part[..., 1:2] > sdf.ABSENT / 2
        moved = part.clone()
        for i in points:
            moved[..., i : i + 3] = (part[..., i : i + 3] - centre[:, None]) * scale[:, None]
        sizes = {8: slice(6, 8), 16: slice(12, 16), 14: slice(12, 14)}[part.shape[-1]]
        moved[..., sizes] *= scale[:, None]
        part.copy_(torch.where(gone, part, moved))
    frequency, phase = f.draws.uniform(2.5, 6.0, 3), f.draws.uniform(0, 6.28, 3)
    ripple = (f.ripple[:, None] * scale).expand(n, 1)
    steepness = f.stretch.amin(-1, keepdim=True) / (1 + ripple * frequency.amax(-1, keepdim=True))
    extra = torch.cat([f.blend[:, None] * scale, f.stretch, ripple, frequency, phase, steepness], -1)
    rows = torch.cat([c.flatten(1), b.flatten(1), t.flatten(1), extra], -1)
    floor = ((low - centre)[:, 1:2] * f.stretch[:, 1:2] * scale) - ripple
    return rows, floor


def sample(count: int, generator: torch.Generator, family: str | None = None) -> Shapes:
    """`count` random heroes in random order, of all families in their usual shares or of one."""
    names = list(FAMILIES)
    weights = torch.tensor([float(n == family) if family else FAMILIES[n][1] for n in names], device=generator.device)
    chosen = torch.multinomial(weights, count, replacement=True, generator=generator).sort().values
    rows, floors = [], []
    for index, size in enumerate(torch.bincount(chosen, minlength=len(names)).tolist()):
        if size:
            row, floor = _fitted(FAMILIES[names[index]][0](Draws(size, generator)))
            rows.append(row)
            floors.append(floor)
    order = torch.randperm(count, generator=generator, device=generator.device)
    return Shapes(torch.cat(rows)[order], torch.cat(floors)[order], chosen[order])
