"""A flag on its pole: waves that travel away from the pole and grow, in cloth that keeps its length."""

import numpy as np

from renderer.scene import Scene
from renderer.shapes import Array, assemble, disc, lathe, patch, rounded, spline

DURATION = 2.0
WIDTH, HEIGHT, THICKNESS = 2.1, 1.3, 0.03
TOP, POLE_TOP = 2.12, 2.2
COLUMNS, ROWS = 72, 40
POLE = 0.05


def build() -> Scene:
    pole, pole_rest = assemble(
        "pole",
        [
            disc(0.26, 0.0, 10),
            lathe(spline([(0.26, 0.0), (0.26, 0.04), (0.12, 0.09)], 16), 32),
            lathe(spline([(0.12, 0.09), (POLE, 0.16), (POLE, 0.3)], 12), 32),
            lathe(np.stack([np.full(24, POLE), np.linspace(0.3, POLE_TOP, 24)], axis=-1), 32),
            *[p.at(0, POLE_TOP + 0.06, 0) for p in rounded((0.095, 0.095, 0.095), 8)],
        ],
    )
    front, back = _cloth(0.0)
    flag, _ = assemble("flag", _slab(front, back))
    pole_vertices = pole_rest.astype(np.float32)

    def positions(time: float) -> list:
        patches = _slab(*_cloth(time))
        return [pole_vertices, np.concatenate([p.points.reshape(-1, 3) for p in patches]).astype(np.float32)]

    return Scene("flag", (pole, flag), positions, DURATION, ground=0.0, azimuth=20.0)


def _slab(front: Array, back: Array) -> list:
    """Both sides of the cloth and its four hems."""
    mirrored = back[:, ::-1]
    return [
        patch(front),
        patch(mirrored),
        patch(np.stack([front[:, -1], back[:, -1]], axis=1)),
        patch(np.stack([back[:, 0], front[:, 0]], axis=1)),
        patch(np.stack([front[-1], back[-1]])),
        patch(np.stack([back[0], front[0]])),
    ]


def _cloth(time: float) -> tuple[Array, Array]:
    """Points of the front and of the back, [rows, columns, 3] each; s runs away from the pole, v upwards.

    A row's direction (its angle in the horizontal plane) is the wave; the row is the integral of its direction, so the
    cloth bends without stretching.
    """
    s, v = np.meshgrid(np.linspace(0.0, WIDTH, COLUMNS), np.linspace(-HEIGHT, 0.0, ROWS))
    phase = 2 * np.pi * time / DURATION
    share = s / WIDTH
    grow = np.sqrt(np.clip(share / 0.35, 0, 1)) * (0.55 + 0.45 * share)
    angle = grow * (
        1.0 * np.sin(5.2 * s - 1.1 * v - 2 * phase)
        + 0.35 * np.sin(9.1 * s + 2.2 * v - 3 * phase + 1.0)
        + 0.25 * np.sin(1.5 * s - phase)
    )
    sag = share**1.5 * (0.12 + 0.11 * np.sin(3.2 * s - phase + 0.8) + 0.09 * np.sin(2 * phase - 4.5 * share))
    step = WIDTH / (COLUMNS - 1)
    x, z = _integrate(np.cos(angle) * np.cos(sag), step), _integrate(np.sin(angle) * np.cos(sag), step)
    middle = np.stack([x + 0.8 * POLE, TOP + v * (1 - 0.02 * share) - _integrate(np.sin(sag), step), z], axis=-1)
    normal = np.stack([-np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=-1)
    return middle + 0.5 * THICKNESS * normal, middle - 0.5 * THICKNESS * normal


def _integrate(slope: Array, step: float) -> Array:
    """Cumulative trapezoids along the rows, 0 at the first column."""
    means = 0.5 * (slope[:, 1:] + slope[:, :-1])
    return step * np.pad(np.cumsum(means, axis=1), ((0, 0), (1, 0)))
