"""An ornate ewer with a sun on the front and a crescent on the back. It stands still; the camera goes round."""

import numpy as np

from renderer.scene import Scene
from renderer.shapes import Array, assemble, disc, lathe, rounded, spline, tube

FLUTES = 14
COLUMNS = 140  # ten per flute


def build() -> Scene:
    foot = spline([(0.31, 0.0), (0.32, 0.03), (0.28, 0.07), (0.15, 0.14), (0.12, 0.19), (0.16, 0.23)], 16)
    belly = spline([(0.16, 0.23), (0.31, 0.30), (0.43, 0.46), (0.45, 0.60), (0.37, 0.76), (0.21, 0.88)], 44)
    neck = spline([(0.21, 0.88), (0.17, 0.95), (0.15, 1.06), (0.17, 1.18), (0.22, 1.26), (0.24, 1.29)], 18)
    lid = spline(
        [(0.24, 1.29), (0.26, 1.31), (0.24, 1.335), (0.16, 1.39), (0.07, 1.43), (0.045, 1.46), (0.05, 1.50)], 18
    )

    handle_path = spline([(-0.08, 1.10), (-0.34, 1.24), (-0.56, 1.12), (-0.61, 0.86), (-0.52, 0.62), (-0.30, 0.48)], 52)
    handle_radii = 0.058 + 0.011 * np.cos(np.linspace(0, 10 * np.pi, 52))  # beaded
    spout_path = spline([(0.28, 0.46), (0.48, 0.53), (0.58, 0.72), (0.60, 0.92), (0.68, 1.10), (0.82, 1.20)], 44)
    along = np.linspace(0, 1, 44)
    spout_radii = np.interp(along, [0, 0.5, 0.85, 0.94, 0.98, 1], [0.14, 0.08, 0.065, 0.095, 0.085, 0.0])

    patches = [
        disc(foot[0, 0], 0.0, 12),
        lathe(foot, COLUMNS, lambda a, h: 1 + 0.07 * np.cos(FLUTES * a) * _bump(h, 0.06, 0.15)),
        lathe(belly, COLUMNS, _relief),
        lathe(neck, COLUMNS, lambda a, h: 1 + 0.09 * np.cos(7 * a + 18 * h) * _bump(h, 0.9, 1.24)),
        lathe(lid, COLUMNS, lambda a, h: 1 + 0.08 * np.cos(FLUTES * a) * _bump(h, 1.33, 1.43)),
        tube(_upright(handle_path), handle_radii, 24),
        tube(_upright(spout_path), spout_radii, 28),
        *[p.at(0, 1.56, 0) for p in rounded((0.09, 0.09, 0.09), 10)],
    ]
    ewer, rest = assemble("ewer", patches)
    vertices = rest.astype(np.float32)
    return Scene("turntable", (ewer,), lambda time: [vertices], duration=0.0, ground=0.0)


def _upright(path: Array) -> Array:
    """Points (x, y) in the plane z = 0."""
    return np.pad(path, ((0, 0), (0, 1)))


def _bump(x: Array, low: float, high: float) -> Array:
    """1 in the middle of [low, high], smoothly 0 at its ends and outside."""
    return np.sin(np.pi * np.clip((x - low) / (high - low), 0, 1)) ** 2


def _relief(angle: Array, height: Array) -> Array:
    """Twisted flutes below; above them a sun in its ring on the front and a crescent on the back."""
    flutes = np.abs(np.cos(0.5 * FLUTES * (angle + 1.2 * height))) * _bump(height, 0.23, 0.56)
    sun = np.hypot(0.42 * angle, height - 0.68)
    x, y = 0.42 * (np.abs(angle) - np.pi) * np.sign(angle), height - 0.68
    crescent = np.minimum(0.14 - np.hypot(x, y), np.hypot(x - 0.07, y) - 0.11)
    figures = _raised(0.07 - sun) + _raised(0.03 - np.abs(sun - 0.14)) + _raised(crescent)
    return 1 + 0.10 * flutes + 0.10 * figures * np.clip((0.88 - height) / 0.02, 0, 1)  # the neck joins at 0.88


def _raised(inside: Array) -> Array:
    """1 well inside a shape, 0 outside, with an edge as soft as the mesh is fine."""
    return 1 / (1 + np.exp(-inside / 0.011))
