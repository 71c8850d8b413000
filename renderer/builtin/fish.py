"""A fish that swims on the spot: a wave runs down its body and grows towards the tail; the side fins row."""

import numpy as np
from scipy.interpolate import PchipInterpolator

from renderer.scene import Scene
from renderer.shapes import Array, Patch, assemble, rounded

DURATION = 2.0  # two beats of the tail
LENGTH = 2.0  # of the body without the tail fin; the nose is at z = +1
MIRROR = np.array([-1.0, 1.0, 1.0])
SHOULDER = np.array([0.19, -0.10, 0.46])  # root of the left side fin
SPREAD = -0.7  # radians between a side fin and the vertical


def build() -> Scene:
    eye = [p.at(0.13, 0.10, 0.72) for p in rounded((0.06, 0.075, 0.075), 6)]
    body, body_rest = assemble("body", [*_sides(), *eye, *[_mirror(p) for p in eye]])
    fins, fins_rest = assemble("fins", _middle_fins())
    left = _side_fin()
    side_fins, side_rest = assemble("side fins", [*left, *[_mirror(p) for p in left]])

    def positions(time: float) -> list:
        rests = (body_rest, fins_rest, _row(side_rest, time))
        return [_swim(rest, time).astype(np.float32) for rest in rests]

    return Scene("fish", (body, fins, side_fins), positions, DURATION, ground=None, azimuth=52.0)


def _mirror(p: Patch) -> Patch:
    return Patch(p.points[:, ::-1] * MIRROR, p.uv[:, ::-1] * [-1.0, 1.0])


def _outline(z: Array) -> tuple[Array, Array, Array]:
    """Half width, lower and upper edge of the body at z."""
    share = 0.5 - z / LENGTH  # 0 at the nose, 1 at the root of the tail
    knots = [0.0, 0.03, 0.1, 0.22, 0.4, 0.6, 0.8, 0.92, 1.0]
    width = PchipInterpolator(knots, [0.0, 0.09, 0.16, 0.23, 0.26, 0.20, 0.11, 0.075, 0.0])(share)
    lower = PchipInterpolator(knots, [0.0, -0.10, -0.19, -0.32, -0.40, -0.30, -0.14, -0.10, -0.06])(share)
    upper = PchipInterpolator(knots, [0.0, 0.09, 0.20, 0.34, 0.43, 0.33, 0.16, 0.11, 0.06])(share)
    return width, lower, upper


def _sides() -> list[Patch]:
    """Both sides of the body; each chart is the side laid flat along its middle line."""
    z = 0.5 * LENGTH * np.cos(np.linspace(0, np.pi, 72))
    width, lower, upper = _outline(z)
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 29)[:, None]
    x = width * np.cos(angle)
    y = 0.5 * (upper + lower) + 0.5 * (upper - lower) * np.sin(angle)
    left = np.stack([x, y, np.broadcast_to(z, x.shape)], axis=-1)
    steps = np.linalg.norm(np.diff(left, axis=0), axis=-1)
    climb = np.pad(np.cumsum(steps, axis=0), ((1, 0), (0, 0)))
    side = Patch(left, np.stack([np.broadcast_to(-z, x.shape), climb - 0.5 * climb[-1]], axis=-1))
    return [side, _mirror(side)]


def _fin(root: Array, tip: Array, thickness: float) -> list[Patch]:
    """A fin between two edges [n, 3] with rays and a thin rim: two sides, the fin's flattened outline as their charts."""
    share = np.linspace(0.0, 1.0, 20)[:, None, None]
    along = np.linspace(0.0, 1.0, len(root))[:, None]
    middle = root + (tip - root) * share
    normal = np.cross(np.gradient(middle, axis=1), np.gradient(middle, axis=0))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    rays = 1 + 0.35 * np.cos(2 * np.pi * 7 * along)
    offset = 0.5 * thickness * np.sqrt(1 - share**2) * np.sin(np.pi * along) ** 0.35 * rays * normal
    axes = np.linalg.svd((middle - middle.mean(axis=(0, 1))).reshape(-1, 3), full_matrices=False)[2][:2]
    flat = middle @ (axes if np.cross(*axes) @ normal.mean(axis=(0, 1)) > 0 else axes[::-1]).T
    return [Patch(middle + offset, flat), Patch((middle - offset)[:, ::-1], flat[:, ::-1] * [-1.0, 1.0])]


def _edge(points: list[tuple[float, float]], count: int = 57) -> Array:
    """An edge in the plane x = 0 through (z, y), [count, 3]."""
    z, y = PchipInterpolator(np.linspace(0, 1, len(points)), points)(np.linspace(0, 1, count)).T
    return np.stack([np.zeros(count), y, z], axis=-1)


def _middle_fins() -> list[Patch]:
    """Back, belly and tail fin, all in the plane x = 0."""
    back = _fin(
        _edge([(0.42, 0.30), (0.2, 0.38), (-0.1, 0.34), (-0.4, 0.18), (-0.62, 0.10)]),
        _edge([(0.36, 0.46), (0.12, 0.78), (-0.25, 0.80), (-0.62, 0.60), (-0.78, 0.36)]),
        0.09,
    )
    belly = _fin(
        _edge([(-0.62, -0.08), (-0.4, -0.17), (-0.2, -0.26)]),
        _edge([(-0.84, -0.28), (-0.68, -0.52), (-0.34, -0.50)]),
        0.08,
    )
    tail = _fin(
        _edge([(-0.80, 0.09), (-0.82, 0.0), (-0.80, -0.08)]),
        _edge([(-1.42, 0.66), (-1.66, 0.52), (-1.36, 0.0), (-1.62, -0.50), (-1.38, -0.62)]),
        0.09,
    )
    return [*back, *belly, *tail]


def _side_fin() -> list[Patch]:
    """The left one, as it lies at rest: out, down and back."""
    root = _edge([(0.14, 0.04), (0.0, 0.0), (-0.14, -0.04)])
    tip = _edge([(-0.06, -0.36), (-0.32, -0.56), (-0.46, -0.50)])
    c, s = np.cos(SPREAD), np.sin(SPREAD)
    spread = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    return [p.map(lambda x: x @ spread.T).at(*SHOULDER) for p in _fin(root, tip, 0.05)]


def _row(rest: Array, time: float) -> Array:
    """Side fins swing about the body's axis, further towards their tips, the rear edge later."""
    side = np.sign(rest[:, 0])
    local = rest * np.stack([side, np.ones_like(side), np.ones_like(side)], axis=-1) - SHOULDER
    lag = np.clip(-local[:, 2] / 0.42, 0, 1)
    angle = 0.15 + 0.45 * np.sin(4 * np.pi * time / DURATION - 0.9 * lag)
    c, s = np.cos(angle), np.sin(angle)
    turned = np.stack([c * local[:, 0] - s * local[:, 1], s * local[:, 0] + c * local[:, 1], local[:, 2]], axis=-1)
    return (turned + SHOULDER) * np.stack([side, np.ones_like(side), np.ones_like(side)], axis=-1)


def _swim(rest: Array, time: float) -> Array:
    """Bend the spine sideways. Each slice of the body stays at right angles to it, and the spine keeps its length."""
    beat = 4 * np.pi * time / DURATION
    z = np.linspace(0.5 * LENGTH, -0.9 * LENGTH, 200)
    share = (z[0] - z) / LENGTH
    angle = (0.10 + 0.62 * share**1.6) * np.sin(beat - 4.2 * share)
    step = z[0] - z[1]
    x = step * np.cumsum(np.sin(angle))
    along = z[0] - step * np.cumsum(np.cos(angle))
    anchor = np.searchsorted(share, 0.3)  # the shoulders stay where they are, so head and tail swing against each other
    x, along = x - x[anchor], along - along[anchor] + z[anchor]

    def at(values: Array) -> Array:
        return np.interp(-rest[:, 2], -z, values)

    theta = at(angle)
    bob = 0.05 * np.sin(0.5 * beat)
    return np.stack(
        [at(x) + rest[:, 0] * np.cos(theta), rest[:, 1] + bob, at(along) + rest[:, 0] * np.sin(theta)], axis=-1
    )
