"""The signed distance of `sdf` as GPU kernels: one program per scene and block of points, the primitives' numbers
in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from jobs.pocket import sdf

BLOCK = 128
SIZES = {
    "CAPSULES": sdf.CAPSULES, "BOXES": sdf.BOXES, "TORI": sdf.TORI,
    "BOX_START": sdf.BOX_START, "TORUS_START": sdf.TORUS_START, "GLOBAL_START": sdf.GLOBAL_START,
}  # fmt: skip


@triton.jit
def _smooth_minimum(a, b, width):
    h = tl.maximum(width - tl.abs(a - b), 0.0) / width
    return tl.minimum(a, b) - h * h * width * 0.25


@triton.jit
def _rotate(row, x, y, z):
    px = x - tl.load(row)
    py = y - tl.load(row + 1)
    pz = z - tl.load(row + 2)
    lx = tl.load(row + 3) * px + tl.load(row + 4) * py + tl.load(row + 5) * pz
    ly = tl.load(row + 6) * px + tl.load(row + 7) * py + tl.load(row + 8) * pz
    lz = tl.load(row + 9) * px + tl.load(row + 10) * py + tl.load(row + 11) * pz
    return lx, ly, lz


@triton.jit
def _distance(
    row, px, py, pz,
    CAPSULES: tl.constexpr, BOXES: tl.constexpr, TORI: tl.constexpr,
    BOX_START: tl.constexpr, TORUS_START: tl.constexpr, GLOBAL_START: tl.constexpr,
):  # fmt: skip
    g = row + GLOBAL_START
    blend = tl.load(g)
    sx = tl.load(g + 1)
    sy = tl.load(g + 2)
    sz = tl.load(g + 3)
    amplitude = tl.load(g + 4)
    x0 = px / sx
    y0 = py / sy
    z0 = pz / sz
    x = x0 + amplitude * tl.sin(y0 * tl.load(g + 5) + tl.load(g + 8))
    y = y0 + amplitude * tl.sin(z0 * tl.load(g + 6) + tl.load(g + 9))
    z = z0 + amplitude * tl.sin(x0 * tl.load(g + 7) + tl.load(g + 10))
    total = x * 0.0 + 90.0
    for i in range(CAPSULES):
        c = row + i * 8
        ax = tl.load(c)
        ay = tl.load(c + 1)
        az = tl.load(c + 2)
        if ay < 45.0:  # an absent primitive changes nothing
            bx = tl.load(c + 3) - ax
            by = tl.load(c + 4) - ay
            bz = tl.load(c + 5) - az
            ra = tl.load(c + 6)
            rb = tl.load(c + 7)
            qx = x - ax
            qy = y - ay
            qz = z - az
            h = (qx * bx + qy * by + qz * bz) / (bx * bx + by * by + bz * bz + 1e-6)
            h = tl.minimum(tl.maximum(h, 0.0), 1.0)
            dx = qx - bx * h
            dy = qy - by * h
            dz = qz - bz * h
            d = tl.sqrt(dx * dx + dy * dy + dz * dz + 1e-9) - (ra + (rb - ra) * h)
            total = _smooth_minimum(total, d, blend)
    for i in range(BOXES):
        c = row + BOX_START + i * 16
        if tl.load(c + 1) < 45.0:
            lx, ly, lz = _rotate(c, x, y, z)
            qx = tl.abs(lx) - tl.load(c + 12)
            qy = tl.abs(ly) - tl.load(c + 13)
            qz = tl.abs(lz) - tl.load(c + 14)
            ox = tl.maximum(qx, 0.0)
            oy = tl.maximum(qy, 0.0)
            oz = tl.maximum(qz, 0.0)
            inside = tl.minimum(tl.maximum(qx, tl.maximum(qy, qz)), 0.0)
            d = tl.sqrt(ox * ox + oy * oy + oz * oz + 1e-9) + inside - tl.load(c + 15)
            total = _smooth_minimum(total, d, blend)
    for i in range(TORI):
        c = row + TORUS_START + i * 14
        if tl.load(c + 1) < 45.0:
            lx, ly, lz = _rotate(c, x, y, z)
            ring = tl.sqrt(lx * lx + lz * lz + 1e-9) - tl.load(c + 12)
            d = tl.sqrt(ring * ring + ly * ly + 1e-9) - tl.load(c + 13)
            total = _smooth_minimum(total, d, blend)
    return total * tl.load(g + 11)


@triton.jit
def _distance_kernel(
    rows, points, out, N, ROW: tl.constexpr, BLOCK: tl.constexpr,
    CAPSULES: tl.constexpr, BOXES: tl.constexpr, TORI: tl.constexpr,
    BOX_START: tl.constexpr, TORUS_START: tl.constexpr, GLOBAL_START: tl.constexpr,
):  # fmt: skip
    scene = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = scene.to(tl.int64) * N + i
    p = points + at * 3
    x = tl.load(p, mask=i < N, other=0.0)
    y = tl.load(p + 1, mask=i < N, other=0.0)
    z = tl.load(p + 2, mask=i < N, other=0.0)
    d = _distance(rows + scene * ROW, x, y, z, CAPSULES, BOXES, TORI, BOX_START, TORUS_START, GLOBAL_START)
    tl.store(out + at, d, mask=i < N)


@triton.jit
def _march_kernel(
    rows, origins, directions, start, end, cones, out, N, STEPS, SAFETY: tl.constexpr, ROW: tl.constexpr, BLOCK: tl.constexpr,
    CAPSULES: tl.constexpr, BOXES: tl.constexpr, TORI: tl.constexpr,
    BOX_START: tl.constexpr, TORUS_START: tl.constexpr, GLOBAL_START: tl.constexpr,
):  # fmt: skip
    scene = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < N
    at = scene.to(tl.int64) * N + i
    dx = tl.load(directions + at * 3, mask=inside, other=0.0)
    dy = tl.load(directions + at * 3 + 1, mask=inside, other=0.0)
    dz = tl.load(directions + at * 3 + 2, mask=inside, other=0.0)
    ox = tl.load(origins + scene * 3)
    oy = tl.load(origins + scene * 3 + 1)
    oz = tl.load(origins + scene * 3 + 2)
    t = tl.load(start + at, mask=inside, other=1.0)
    stop = tl.load(end + at, mask=inside, other=0.0)
    cone = tl.load(cones + scene)
    step = 0
    active = tl.sum((t < stop).to(tl.int32), 0)
    while (step < STEPS) & (active > 0):
        d = _distance(
            rows + scene * ROW, ox + dx * t, oy + dy * t, oz + dz * t,
            CAPSULES, BOXES, TORI, BOX_START, TORUS_START, GLOBAL_START,
        )  # fmt: skip
        moves = (d > cone * t + 5e-4) & (t < stop)
        t = tl.where(moves, t + (d - cone * t) * SAFETY, t)
        active = tl.sum(moves.to(tl.int32), 0)
        step += 1
    tl.store(out + at, t, mask=inside)


def distance(rows: Tensor, points: Tensor) -> Tensor:
    """See `sdf.distance`."""
    batch, count, _ = points.shape
    out = torch.empty(batch, count, device=points.device)
    grid = (triton.cdiv(count, BLOCK), batch)
    _distance_kernel[grid](rows.contiguous(), points.contiguous(), out, count, ROW=sdf.ROW_SIZE, BLOCK=BLOCK, **SIZES)
    return out


def march(
    rows: Tensor, origins: Tensor, directions: Tensor, start: Tensor, end: Tensor, cone: Tensor, steps: int
) -> Tensor:
    """See `sdf.march`."""
    batch, count, _ = directions.shape
    out = torch.empty(batch, count, device=directions.device)
    grid = (triton.cdiv(count, BLOCK), batch)
    _march_kernel[grid](
        rows.contiguous(), origins.contiguous(), directions.contiguous(), start.contiguous(), end.contiguous(), cone.contiguous(),
        out, count, steps, SAFETY=sdf.STEP_SAFETY, ROW=sdf.ROW_SIZE, BLOCK=BLOCK, **SIZES,
    )  # fmt: skip
    return out
