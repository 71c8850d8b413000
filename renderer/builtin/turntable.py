"""An ornate ewer: fluted belly, spout, handle, lid with a finial. It stands still; the camera goes round."""

import numpy as np

from renderer.scene import Scene
from renderer.shapes import Array, assemble, disc, lathe, rounded, spline, tube

FLUTES = 14
COLUMNS = 168  # twelve per flute


def build() -> Scene:
    foot = spline([(0.30, 0.0), (0.31, 0.03), (0.27, 0.06), (0.13, 0.13), (0.10, 0.19), (0.14, 0.22)], 20)
    belly = spline([(0.14, 0.22), (0.30, 0.30), (0.41, 0.46), (0.42, 0.60), (0.34, 0.76), (0.20, 0.88)], 44)
    neck = spline([(0.20, 0.88), (0.15, 0.95), (0.13, 1.06), (0.15, 1.18), (0.20, 1.26), (0.22, 1.29)], 24)
    lid = spline(
        [(0.22, 1.29), (0.235, 1.31), (0.22, 1.335), (0.15, 1.39), (0.06, 1.43), (0.035, 1.47), (0.04, 1.50)], 24
    )

    handle_path = spline([(-0.15, 1.20), (-0.34, 1.28), (-0.52, 1.12), (-0.56, 0.86), (-0.46, 0.62), (-0.36, 0.54)], 48)
    spout_path = spline([(0.30, 0.48), (0.46, 0.54), (0.55, 0.72), (0.57, 0.92), (0.64, 1.10), (0.76, 1.20)], 40)
    t = np.linspace(0.0, 1.0, 48)
    handle_radii = 0.045 + 0.012 * np.cos(6 * np.pi * t)  # beaded
    spout_radii = np.interp(np.linspace(0, 1, 40), [0, 0.5, 0.85, 1], [0.12, 0.065, 0.05, 0.075])

    patches = [
        disc(0.30, 0.0, 12),
        lathe(foot, COLUMNS, lambda a, h: 1 + 0.06 * np.cos(FLUTES * a) * _bump(h, 0.06, 0.14)),
        lathe(belly, COLUMNS, _relief),
        lathe(neck, COLUMNS, lambda a, h: 1 + 0.07 * np.cos(7 * a + 22 * h) * _bump(h, 0.9, 1.24)),
        lathe(lid, COLUMNS, lambda a, h: 1 + 0.06 * np.cos(FLUTES * a) * _bump(h, 1.33, 1.43)),
        tube(_in_plane(handle_path), handle_radii, 24),
        tube(_in_plane(spout_path), spout_radii, 28),
        *[p.map(lambda x: x + [0.0, 1.55, 0.0]) for p in rounded((0.075, 0.075, 0.075), 10)],
    ]
    ewer, rest = assemble("ewer", patches)
    vertices = rest.astype(np.float32)
    return Scene("turntable", (ewer,), lambda time: [vertices], duration=0.0, ground=0.0)


def _in_plane(path: Array) -> Array:
    return np.stack([path[:, 0], path[:, 1], np.zeros(len(path))], axis=-1)


def _bump(x: Array, low: float, high: float) -> Array:
    """1 in the middle of [low, high], smoothly 0 at its ends and outside."""
    return np.sin(np.pi * np.clip((x - low) / (high - low), 0, 1)) ** 2


def _relief(angle: Array, height: Array) -> Array:
    """Twisted flutes below, a smooth band with a raised sun on the front above."""
    flutes = np.abs(np.cos(0.5 * FLUTES * (angle + 1.2 * height))) * _bump(height, 0.22, 0.66)
    sun_x, sun_y = angle * 0.36, height - 0.68
    distance = np.hypot(sun_x, sun_y)
    rays = 0.105 + 0.03 * np.cos(9 * np.arctan2(sun_y, sun_x))
    return 1 + 0.09 * flutes
