"""Signed distance of a hero: a smooth union of round cones, rounded boxes and tori, bent and stretched as a whole.

`distance` is the reference in plain torch and runs anywhere; `sdf_triton` holds the same arithmetic as one GPU kernel, in the same
order. Everything about a hero's shape is one row of numbers, so that both read the same table.
"""

import torch
from torch import Tensor

CAPSULES, BOXES, TORI = 24, 6, 4
CAPSULE_SIZE, BOX_SIZE, TORUS_SIZE = 8, 16, 14
# A row: capsules (two ends, two radii), boxes (centre, rotation, half extents, rounding), tori (centre, rotation, radius,
# thickness), then blend width, stretch (3), ripple amplitude, ripple frequencies (3), ripple phases (3), and the factor that
# turns the stretched and bent field back into a lower bound of the distance.
BOX_START = CAPSULES * CAPSULE_SIZE
TORUS_START = BOX_START + BOXES * BOX_SIZE
GLOBAL_START = TORUS_START + TORI * TORUS_SIZE
ROW_SIZE = GLOBAL_START + 12
# Unused primitives lie this far away, where they change no distance.
ABSENT = 90.0
# Round cones of unequal radii are not exact distances, so that steps along a ray are shortened by this factor.
STEP_SAFETY = 0.9


def smooth_minimum(a: Tensor, b: Tensor, width: Tensor) -> Tensor:
    """Polynomial smooth minimum: exact where the two differ by more than `width`."""
    h = (width - (a - b).abs()).clamp(min=0) / width
    return torch.minimum(a, b) - h * h * width * 0.25


def capsule_distance(x, y, z, c) -> Tensor:
    bx, by, bz = c(3) - c(0), c(4) - c(1), c(5) - c(2)
    px, py, pz = x - c(0), y - c(1), z - c(2)
    h = ((px * bx + py * by + pz * bz) / (bx * bx + by * by + bz * bz + 1e-6)).clamp(0, 1)
    dx, dy, dz = px - bx * h, py - by * h, pz - bz * h
    return torch.sqrt(dx * dx + dy * dy + dz * dz + 1e-9) - (c(6) + (c(7) - c(6)) * h)


def _rotated(x, y, z, c) -> tuple[Tensor, Tensor, Tensor]:
    px, py, pz = x - c(0), y - c(1), z - c(2)
    return tuple(c(3 + 3 * i) * px + c(4 + 3 * i) * py + c(5 + 3 * i) * pz for i in range(3))


def box_distance(x, y, z, c) -> Tensor:
    lx, ly, lz = _rotated(x, y, z, c)
    qx, qy, qz = lx.abs() - c(12), ly.abs() - c(13), lz.abs() - c(14)
    outside = torch.sqrt(qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2 + qz.clamp(min=0) ** 2 + 1e-9)
    return outside + torch.maximum(qx, torch.maximum(qy, qz)).clamp(max=0) - c(15)


def torus_distance(x, y, z, c) -> Tensor:
    lx, ly, lz = _rotated(x, y, z, c)
    ring = torch.sqrt(lx * lx + lz * lz + 1e-9) - c(12)
    return torch.sqrt(ring * ring + ly * ly + 1e-9) - c(13)


def _distance(rows: Tensor, points: Tensor) -> Tensor:
    glob = lambda i: rows[:, GLOBAL_START + i, None]  # noqa: E731
    blend, stretch = glob(0), [glob(1 + i) for i in range(3)]
    x, y, z = (points[..., i] / stretch[i] for i in range(3))
    amplitude = glob(4)
    x, y, z = (
        x + amplitude * torch.sin(y * glob(5) + glob(8)),
        y + amplitude * torch.sin(z * glob(6) + glob(9)),
        z + amplitude * torch.sin(x * glob(7) + glob(10)),
    )
    total = torch.full_like(x, ABSENT)
    for count, size, start, primitive in (
        (CAPSULES, CAPSULE_SIZE, 0, capsule_distance),
        (BOXES, BOX_SIZE, BOX_START, box_distance),
        (TORI, TORUS_SIZE, TORUS_START, torus_distance),
    ):
        for i in range(count):
            if bool((rows[:, start + i * size + 1] > ABSENT / 2).all()):
                continue
            field = lambda j, at=start + i * size: rows[:, at + j, None]  # noqa: E731
            total = smooth_minimum(total, primitive(x, y, z, field), blend)
    return total * glob(11)


def _march(
    rows: Tensor, origins: Tensor, directions: Tensor, start: Tensor, end: Tensor, cone: Tensor, steps: int
) -> Tensor:
    t = start.clone()
    for _ in range(steps):
        d = _distance(rows, origins[:, None] + directions * t[..., None])
        t = torch.where((d > cone * t + 5e-4) & (t < end), t + (d - cone * t) * STEP_SAFETY, t)
    return t


def distance(rows: Tensor, points: Tensor) -> Tensor:
    """Signed distance [B, N] of points [B, N, 3] to the heroes of rows [B, ROW_SIZE]; float32."""
    if points.is_cuda:
        from jobs.pocket import sdf_triton

        return sdf_triton.distance(rows, points)
    return _distance(rows, points)


def march(
    rows: Tensor, origins: Tensor, directions: Tensor, start: Tensor, end: Tensor, cone: Tensor, steps: int
) -> Tensor:
    """Sphere tracing: how far [B, N] each ray gets before it is nearer to the hero than `cone` times its length,
    or beyond `end`.

    origins [B, 3], unit directions [B, N, 3], start and end [B, N], cone [B, 1] (0: up to the surface), all float32.
    """
    if directions.is_cuda:
        from jobs.pocket import sdf_triton

        return sdf_triton.march(rows, origins, directions, start, end, cone, steps)
    return _march(rows, origins, directions, start, end, cone, steps)
