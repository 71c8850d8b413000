"""Surfaces for the built-in scenes: grids of points with charts of true size, and their common atlas.

A patch is a grid of points whose columns run to the right and whose rows run upwards when it is seen from outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renderer.scene import Object

Array = NDArray[np.float64]
MARGIN = 0.015  # gap between charts, as a share of the atlas


@dataclass(frozen=True)
class Patch:
    """points: [m, n, 3], world units. uv: [m, n, 2], its chart in the same units, so that charts share one texel density."""

    points: Array
    uv: Array

    def map(self, move: Callable[[Array], Array]) -> "Patch":
        """The same chart on moved points; move takes and returns [..., 3]."""
        return Patch(move(self.points), self.uv)

    def at(self, x: float, y: float, z: float) -> "Patch":
        """The same chart on points shifted by (x, y, z)."""
        return self.map(lambda points: points + np.array([x, y, z]))


def patch(points: Array, uv: Array | None = None) -> Patch:
    """A patch over a grid of points [m, n, 3]; without uv its chart is a rectangle with the grid's mean spacings."""
    if uv is None:
        u, v = np.meshgrid(_lengths(points), _lengths(points.swapaxes(0, 1)))
        uv = np.stack([u, v], axis=-1)
    return Patch(points, uv)


def _lengths(points: Array) -> Array:
    """Mean arc length along the rows of a grid up to each column, [n]."""
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1).mean(axis=0)
    return np.concatenate([[0.0], np.cumsum(steps)])


def assemble(name: str, patches: Sequence[Patch]) -> tuple[Object, Array]:
    """One object from patches whose charts do not overlap: (object, rest positions [V, 3]).

    Triangles without area (at poles) are left out.
    """
    charts = pack([p.uv.reshape(-1, 2) for p in patches])
    faces, uvs, start = [], [], 0
    for p, uv in zip(patches, charts, strict=True):
        rows, columns = p.points.shape[:2]
        index = np.arange(rows * columns).reshape(rows, columns)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
        triangles = np.concatenate(
            [np.stack([a, b, c], axis=-1).reshape(-1, 3), np.stack([a, c, d], axis=-1).reshape(-1, 3)]
        )
        points = p.points.reshape(-1, 3)[triangles]
        double_area = np.linalg.norm(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]), axis=1)
        triangles = triangles[double_area > 1e-12]
        faces.append(triangles + start)
        uvs.append(uv[triangles])
        start += rows * columns
    positions = np.concatenate([p.points.reshape(-1, 3) for p in patches])
    return Object(name, np.concatenate(faces).astype(np.int32), np.concatenate(uvs).astype(np.float32)), positions


def pack(charts: Sequence[Array]) -> list[Array]:
    """Move charts [n_i, 2] into [0, 1]², at one scale and without overlap: on shelves, tallest first."""
    sizes = np.array([np.ptp(chart, axis=0) for chart in charts])
    gap = MARGIN * np.sqrt(sizes.prod(axis=1).sum())
    widths = sizes[:, 0].max() * np.linspace(1.0, 10.0, 91) + gap
    corners, side = min((_shelves(sizes + gap, width) for width in widths), key=lambda layout: layout[1])
    return [(c - c.min(axis=0) + at + 0.5 * gap) / side for c, at in zip(charts, corners, strict=True)]


def _shelves(sizes: Array, width: float) -> tuple[Array, float]:
    """Lower left corner of each rectangle on shelves of this width, and the side of the square that holds them all."""
    corners = np.zeros_like(sizes)
    x = y = shelf = used = 0.0
    for i in np.argsort(-sizes[:, 1], kind="stable"):
        if x + sizes[i, 0] > width and x > 0:
            x, y, shelf = 0.0, y + shelf, 0.0
        corners[i] = x, y
        x += sizes[i, 0]
        shelf, used = max(shelf, sizes[i, 1]), max(used, x)
    return corners, max(used, y + shelf)


def spline(points: Sequence[Sequence[float]], count: int) -> Array:
    """`count` points at equal arc length along a smooth curve through the given ones, [count, dims]."""
    from scipy.interpolate import PchipInterpolator

    knots = np.asarray(points, float)
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    fine = PchipInterpolator(chord, knots)(np.linspace(0.0, chord[-1], 20 * count))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    even = np.linspace(0.0, length[-1], count)
    return np.stack([np.interp(even, length, column) for column in fine.T], axis=-1)


def lathe(profile: Array, columns: int, radius: Callable[[Array, Array], Array] | None = None) -> Patch:
    """Turn a profile [m, 2] of (radius, height), bottom to top, around the Y axis; the seam is at the back.

    radius(angle, height) -> factor on the radius, both [m, columns + 1]; angle 0 is the front (+Z).
    """
    angle, height = np.meshgrid(np.linspace(-np.pi, np.pi, columns + 1), profile[:, 1])
    r = profile[:, :1] * (radius(angle, height) if radius else np.ones_like(angle))
    return patch(np.stack([r * np.sin(angle), height, r * np.cos(angle)], axis=-1))


def disc(radius: float, height: float, count: int) -> Patch:
    """A flat round bottom at this height that faces down, from a square grid, so that its chart has no pole."""
    t = np.linspace(-1.0, 1.0, count + 1)
    x, z = np.meshgrid(t, t)
    x, z = radius * x * np.sqrt(1 - 0.5 * z**2), radius * z * np.sqrt(1 - 0.5 * x**2)
    return patch(np.stack([x, np.full_like(x, height), z], axis=-1), np.stack([x, z], axis=-1))


def rounded(half: Sequence[float], count: int, exponent: float = 2.0) -> list[Patch]:
    """A superellipsoid in six square patches without poles. exponent 2: an ellipsoid; 8: a box with soft edges."""
    t = np.tan(np.linspace(-0.25 * np.pi, 0.25 * np.pi, count + 1))
    x, y = np.meshgrid(t, t)
    patches = []
    for out, up in (("z", "y"), ("x", "y"), ("-z", "y"), ("-x", "y"), ("y", "-z"), ("-y", "z")):
        o, u = _axis(out), _axis(up)
        p = o + x[..., None] * np.cross(u, o) + y[..., None] * u
        p /= (np.abs(p) ** exponent).sum(axis=-1, keepdims=True) ** (1 / exponent)
        patches.append(patch(p * np.asarray(half, float)))
    return patches


def _axis(name: str) -> Array:
    return np.eye(3)["xyz".index(name[-1])] * (-1.0 if name[0] == "-" else 1.0)


def tube(path: Array, radii: Array, columns: int, up: Sequence[float] = (0.0, 0.0, 1.0)) -> Patch:
    """Sweep an ellipse along a path [m, 3]. radii: [m] or [m, 2], across and along `up`; the seam is opposite to `up`."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.cross(tangent, np.asarray(up, float))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    along = np.cross(across, tangent)
    angle = np.linspace(-np.pi, np.pi, columns + 1)[None, :, None]
    r = np.broadcast_to(radii[:, None] if radii.ndim == 1 else radii, (len(path), 2))[:, None, :]
    offset = across[:, None] * np.sin(angle) * r[..., :1] + along[:, None] * np.cos(angle) * r[..., 1:]
    return patch(path[:, None] + offset)


def surface_nets(values: Array, origin: Array, cell: float) -> tuple[Array, NDArray[np.int32]]:
    """Closed surface around the negative values of a grid [x, y, z] (Gibson 1998): vertices [V, 3] and faces [T, 3].

    Every cell that the surface crosses gets one vertex, the mean of the crossings on its edges; every crossed edge joins
    the vertices of its four cells. The outermost values must be positive.
    """
    total = np.zeros((*values.shape, 3))
    count = np.zeros(values.shape)
    quads = []
    for axis in range(3):
        last = values.shape[axis] - 1
        here, there = np.take(values, range(last), axis), np.take(values, range(1, last + 1), axis)
        edge = np.argwhere((here < 0) != (there < 0))
        start, end = here[tuple(edge.T)], there[tuple(edge.T)]
        crossing = edge + np.outer(start / (start - end), np.eye(3)[axis])
        u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
        cells = np.stack([edge - u - v, edge - v, edge, edge - u], axis=1)  # anticlockwise around the edge
        np.add.at(total, tuple(cells.reshape(-1, 3).T), np.repeat(crossing, 4, axis=0))
        np.add.at(count, tuple(cells.reshape(-1, 3).T), 1)
        quad = np.ravel_multi_index(tuple(np.moveaxis(cells, -1, 0)), values.shape)
        quads.append(np.where((start < 0)[:, None], quad, quad[:, ::-1]))
    used, index = np.unique(np.concatenate(quads), return_inverse=True)
    a, b, c, d = index.reshape(-1, 4).T
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]).astype(np.int32)
    vertices = total.reshape(-1, 3)[used] / count.reshape(-1, 1)[used]
    return origin + cell * vertices, faces


def flatten(points: Array, faces: NDArray[np.integer], start: Array, rounds: int = 20) -> Array:
    """A chart [V, 2] of an open surface that is as rigid as possible (Liu et al. 2008), found from a first guess [V, 2].

    In turns: turn every triangle, cut out, to lie best on its image; move the vertices to where the triangles agree.
    The plane is complex here, so a rotation is a number of length 1.
    """
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import splu

    a, b = (points[faces[:, k]] - points[faces[:, 0]] for k in (1, 2))
    base = np.linalg.norm(a, axis=1)
    cut = np.stack([0 * base, base, ((a * b).sum(axis=1) + 1j * np.linalg.norm(np.cross(a, b), axis=1)) / base], axis=1)
    after, before = np.roll(faces, -1, axis=1), np.roll(cut, 1, axis=1)
    edge = np.roll(cut, -1, axis=1) - cut  # from each corner to the next, [T, 3]
    angle = (cut - before) * np.conj(np.roll(cut, -1, axis=1) - before)  # at the corner opposite to that edge
    weight = np.maximum(angle.real / np.abs(angle.imag), 0.01)

    i, j, w, count = faces.ravel(), after.ravel(), weight.ravel(), len(points)
    places = (np.concatenate([i, j, i, j]), np.concatenate([i, j, j, i]))
    laplacian = coo_array((np.concatenate([w, w, -w, -w]), places), shape=(count, count))
    solve = splu((laplacian + 1e-9 * eye_array(count)).tocsc()).solve
    uv = start[:, 0] + 1j * start[:, 1]
    for _ in range(rounds):
        turn = (weight * (uv[after] - uv[faces]) * np.conj(edge)).sum(axis=1, keepdims=True)
        pull = (weight * edge * turn / np.maximum(np.abs(turn), 1e-12)).ravel()
        target = np.bincount(j, pull.real, count) - np.bincount(i, pull.real, count)
        target = target + 1j * (np.bincount(j, pull.imag, count) - np.bincount(i, pull.imag, count))
        uv = solve(target.real) + 1j * solve(target.imag)
    return np.stack([uv.real, uv.imag], axis=-1)
