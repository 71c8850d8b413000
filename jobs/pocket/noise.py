"""Procedural noise and the small arithmetic of shading: what GLSL programmers would find in any shader library.

All functions are elementwise over tensors of any one shape; coordinates are in cells (one feature per unit).
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

# Value noise repeats badly around 0 (floor(-x) mirrors), so that coordinates are moved away from it.
ORIGIN = 40.0


def fused(function: Callable) -> Callable:
    """Compile `function` for tensors on a GPU, where fusing saves most of the memory traffic; run it as it is
    elsewhere."""
    compiled = torch.compile(function, dynamic=True)

    @functools.wraps(function)
    def call(*args: Tensor):
        if not args[0].is_cuda:
            return function(*args)
        # Flat contiguous arguments: one compilation serves every shape and stride.
        shape, count = args[0].shape, args[0].numel()
        out = compiled(*(a.reshape(-1).contiguous() if a.numel() == count else a for a in args))
        return out.view(shape) if isinstance(out, Tensor) else tuple(o.view(shape) for o in out)

    return call


def fract(x: Tensor) -> Tensor:
    return x - torch.floor(x)


def smoothstep(low: float | Tensor, high: float | Tensor, x: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between (falls if `low` > `high`)."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, weight: Tensor):
    """a where `weight` is 0, b where it is 1."""
    return a + (b - a) * weight


def w(x: Tensor) -> Tensor:
    """A weight [B, N] ready to blend colours [B, N, 3]."""
    return x[..., None]


def hash3(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """A pseudo-random number in [0, 1) for every lattice point (after Dave Hoskins' hash without sine)."""
    x, y, z = fract(x * 0.1031), fract(y * 0.1030), fract(z * 0.0973)
    s = x * (y + 33.33) + y * (z + 33.33) + z * (x + 33.33)
    return fract((x + s + y + s) * (z + s))


def hash2(x: Tensor, y: Tensor) -> Tensor:
    return hash3(x + 3.0, y + 7.0, torch.ones_like(x))


def _value_noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    ix, iy, iz = torch.floor(x), torch.floor(y), torch.floor(z)
    ux, uy, uz = (f * f * (3 - 2 * f) for f in (x - ix, y - iy, z - iz))
    low = mix(
        mix(hash3(ix, iy, iz), hash3(ix + 1, iy, iz), ux), mix(hash3(ix, iy + 1, iz), hash3(ix + 1, iy + 1, iz), ux), uy
    )
    high = mix(
        mix(hash3(ix, iy, iz + 1), hash3(ix + 1, iy, iz + 1), ux),
        mix(hash3(ix, iy + 1, iz + 1), hash3(ix + 1, iy + 1, iz + 1), ux),
        uy,
    )
    return mix(low, high, uz)


@fused
def _noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return _value_noise(x, y, z)


@fused
def _fbm(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    total, amplitude = torch.zeros_like(x), 0.5
    for _ in range(3):
        total = total + amplitude * _value_noise(x, y, z)
        x, y, z, amplitude = x * 2.03 + 11.3, y * 2.01 + 5.7, z * 2.02 + 3.1, amplitude / 2
    return total / 0.875


@fused
def _worley(x: Tensor, y: Tensor, z: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    cx, cy, cz = (torch.floor(c)[..., None] + offsets[:, i] for i, c in enumerate((x, y, z)))
    h = hash3(cx, cy, cz)
    dx, dy, dz = cx + h - x[..., None], cy + fract(h * 57.31) - y[..., None], cz + fract(h * 131.77) - z[..., None]
    distance = dx * dx + dy * dy + dz * dz
    first = distance.amin(-1)
    nearest = distance <= first[..., None]
    second = torch.where(nearest, 9.0, distance).amin(-1)
    identity = torch.where(nearest, fract(h * 23.17 + 0.31), 0.0).amax(-1)
    return first.sqrt(), second.sqrt(), identity


def noise(p: Tensor, scale: float = 1.0) -> Tensor:
    """Value noise in [0, 1] at points p [..., 3]."""
    return _noise(*(p * scale + ORIGIN).unbind(-1))


def fbm(p: Tensor, scale: float = 1.0) -> Tensor:
    """Three octaves of value noise in [0, 1], mean 0.5, at points p [..., 3]."""
    return _fbm(*(p * scale + ORIGIN).unbind(-1))


def worley(p: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Cellular noise at points p [..., 3]: distances to the nearest and second nearest seed, and the nearest's
    number in [0, 1)."""
    steps = torch.tensor([-1.0, 0.0, 1.0], device=p.device)
    return _worley(*(p * scale + ORIGIN).unbind(-1), torch.cartesian_prod(steps, steps, steps))


def flat(u: Tensor, v: Tensor) -> Tensor:
    """Points of a plane, for the functions above: [..., 3]."""
    return torch.stack([u, v, torch.full_like(u, 0.5)], -1)
