"""The dancer's body: a skeleton, a skin polygonised from limbs that melt into each other, and skin weights."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter
from scipy.sparse import coo_array, csr_array, diags_array

from renderer.shapes import Array, flatten, pack, surface_nets

CELL = 0.0185  # metres between the points of the grid that the skin is made from
BLEND = 0.016  # metres over which limbs melt into each other
DIFFUSION = 30  # rounds of averaging that soften the weights around the joints

Point = tuple[float, float, float]

# joints at rest in metres, Y up, facing +Z; the paired ones are the left ones, on +X
MIDDLE: dict[str, Point] = {
    "hips": (0.0, 0.93, 0.0),
    "waist": (0.0, 1.03, 0.0),
    "chest": (0.0, 1.17, 0.0),
    "neck": (0.0, 1.41, -0.015),
    "head": (0.0, 1.49, 0.0),
}
PAIRED: dict[str, Point] = {
    "collar": (0.04, 1.36, -0.01),
    "arm": (0.195, 1.35, -0.015),
    "elbow": (0.385, 1.185, -0.02),
    "wrist": (0.555, 1.035, 0.0),
    "thigh": (0.105, 0.88, 0.0),
    "knee": (0.12, 0.49, 0.015),
    "ankle": (0.125, 0.095, -0.03),
    "ball": (0.135, 0.04, 0.10),
}
FINGERTIPS = (0.655, 0.925, 0.025)
BONES = (*MIDDLE, *(f"{name}.{side}" for side in "LR" for name in PAIRED))

# tapered limbs: bone, from, to, radius at either end
LIMBS: tuple[tuple[str, Point, Point, float, float], ...] = (
    ("neck", (0, 1.38, -0.025), (0, 1.53, -0.005), 0.068, 0.064),
    ("collar", (0.02, 1.43, -0.03), (0.15, 1.365, -0.02), 0.050, 0.062),
    ("collar", (0.06, 1.32, -0.01), (0.165, 1.345, -0.015), 0.080, 0.072),
    ("arm", (0.195, 1.345, -0.015), (0.385, 1.185, -0.02), 0.083, 0.062),
    ("elbow", (0.385, 1.185, -0.02), (0.45, 1.127, -0.012), 0.061, 0.069),
    ("elbow", (0.45, 1.127, -0.012), (0.555, 1.035, 0.0), 0.069, 0.052),
    ("wrist", (0.575, 1.015, 0.004), (0.645, 0.94, 0.02), 0.059, 0.050),
    ("wrist", (0.575, 0.995, 0.03), (0.60, 0.965, 0.090), 0.036, 0.031),
    ("thigh", (0.098, 0.865, 0.0), (0.12, 0.51, 0.015), 0.117, 0.078),
    ("knee", (0.12, 0.48, 0.012), (0.125, 0.10, -0.03), 0.074, 0.061),
    ("knee", (0.124, 0.40, -0.022), (0.125, 0.30, -0.030), 0.077, 0.067),
    ("ankle", (0.125, 0.062, -0.065), (0.135, 0.054, 0.08), 0.062, 0.056),
    ("ball", (0.135, 0.052, 0.11), (0.142, 0.047, 0.175), 0.056, 0.047),
)
# ellipsoids: bone, centre, half axes
ROUNDS: tuple[tuple[str, Point, Point], ...] = (
    ("hips", (0, 0.93, 0.0), (0.152, 0.130, 0.115)),
    ("hips", (0.075, 0.895, -0.062), (0.088, 0.092, 0.080)),
    ("waist", (0, 1.07, 0.005), (0.128, 0.150, 0.104)),
    ("chest", (0, 1.235, 0.0), (0.165, 0.170, 0.118)),
    ("chest", (0.072, 1.262, 0.066), (0.080, 0.070, 0.052)),
    ("head", (0, 1.635, 0.010), (0.112, 0.138, 0.128)),
    ("head", (0, 1.545, 0.050), (0.070, 0.062, 0.076)),
    ("head", (0, 1.605, 0.138), (0.022, 0.034, 0.030)),
    ("head", (0, 1.735, -0.115), (0.074, 0.068, 0.072)),
)


# what is unwrapped in one go, cut in two halves: bones, a point of the cut, its normal, and what is up in the charts
PIECES: tuple[tuple[tuple[str, ...], Point, Point, Point], ...] = (
    (("head", "neck"), (0, 0, 0), (0, 0, 1), (0, 1, 0)),
    (("hips", "waist", "chest", "collar.L", "collar.R"), (0, 0, -0.01), (0, 0, 1), (0, 1, 0)),
    (("arm.L", "elbow.L", "wrist.L"), PAIRED["elbow"], (0.66, 0.75, 0), (-0.75, 0.66, 0)),
    (("thigh.L", "knee.L", "ankle.L", "ball.L"), PAIRED["knee"], (1, 0, 0), (0, 1, 0)),
)


@dataclass(frozen=True)
class Part:
    """A limb that tapers from a to b (half = 1), or an ellipsoid of these half axes (a = b, radii = 1)."""

    bone: str
    a: Array
    b: Array
    radii: tuple[float, float]
    half: Array

    def distance(self, points: Array) -> Array:
        """Signed distance, to first order, of points [..., 3]."""
        axis = self.b - self.a
        share = np.clip((points - self.a) @ axis / (axis @ axis + 1e-12), 0, 1)
        offset = (points - self.a - share[..., None] * axis) / self.half
        length = np.sqrt(np.einsum("...i,...i", offset, offset))
        if (self.half == 1).all():
            return length - (self.radii[0] + (self.radii[1] - self.radii[0]) * share)
        slope = np.linalg.norm(offset / self.half, axis=-1)
        return length * (length - 1) / np.maximum(slope, 1e-9)


@dataclass(frozen=True)
class Figure:
    """vertices: [V, 3] at rest. faces: int32 [T, 3]. corner_uv: float32 [T, 3, 2]. weights: [V, bones], rows sum to 1.

    joints: bone -> its place at rest, [3].
    """

    vertices: Array
    faces: NDArray[np.int32]
    corner_uv: NDArray[np.float32]
    weights: Array
    joints: dict[str, Array]

    def skin(self, rotations: dict[str, Array], places: dict[str, Array]) -> NDArray[np.float32]:
        """Linear blend skinning. rotations: bone -> [3, 3], rest to posed; places: bone -> its joint, posed, [3]."""
        rotation = np.stack([rotations[bone] for bone in BONES])
        shift = np.stack([places[bone] - rotations[bone] @ self.joints[bone] for bone in BONES])
        blended = (self.weights @ rotation.reshape(-1, 9)).reshape(-1, 3, 3)
        return (np.einsum("vij,vj->vi", blended, self.vertices) + self.weights @ shift).astype(np.float32)


@cache
def figure() -> Figure:
    """The figure at rest; its soles stand on y = 0."""
    parts = _parts()
    low, high = np.array([-0.80, -0.06, -0.28]), np.array([0.80, 1.90, 0.30])
    field = _field(parts, low, high)
    vertices, faces = surface_nets(field, low, CELL)
    neighbours = _averaging(len(vertices), faces)
    coefficients = spline_filter(np.clip(field, -4 * CELL, 4 * CELL))
    for _ in range(4):  # even out the triangles, then back onto the surface
        vertices = _onto_surface(0.4 * vertices + 0.6 * (neighbours @ vertices), coefficients, low)

    nearest = np.argmin([part.distance(vertices) for part in parts], axis=0)
    weights = np.array([[part.bone == bone for bone in BONES] for part in parts], float)[nearest]
    for _ in range(DIFFUSION):  # along the skin, so that an arm by the side does not pull at the hip
        weights = neighbours @ weights
    joints = {name: np.array(place) for name, place in MIDDLE.items()}
    for name, place in PAIRED.items():
        joints |= {f"{name}.L": np.array(place), f"{name}.R": np.array(place) * [-1, 1, 1]}
    corner_uv = _unwrap(vertices, faces, weights)
    return Figure(vertices - np.array([0.0, vertices[:, 1].min(), 0.0]), faces, corner_uv, weights, joints)


def _unwrap(vertices: Array, faces: NDArray[np.int32], weights: Array) -> NDArray[np.float32]:
    """Two half shells each of head, torso, arms and legs, laid flat: corner UVs [T, 3, 2]."""
    pieces = [(bones, np.array(place), np.array(out), np.array(up)) for bones, place, out, up in PIECES]
    for bones, *vectors in pieces.copy():
        if bones[0].endswith(".L"):
            place, out, up = (vector * [-1.0, 1.0, 1.0] for vector in vectors)
            pieces.append((tuple(bone.replace(".L", ".R") for bone in bones), place, out, up))
    owned = np.stack([weights[:, [b in bones for b in BONES]].sum(axis=1) for bones, *_ in pieces], axis=-1)
    piece = owned[faces].sum(axis=1).argmax(axis=1)
    centres = vertices[faces].mean(axis=1)
    shells, charts = [], []
    for i, (_, place, axis, up) in enumerate(pieces):
        front = (centres - place) @ axis > 0
        for out, half in ((axis, front), (-axis, ~front)):
            shell = np.flatnonzero((piece == i) & half)
            used, local = np.unique(faces[shell], return_inverse=True)
            local = local.reshape(-1, 3)
            seen = vertices[used] @ np.stack([np.cross(up, out), up], axis=-1)  # as it looks from outside
            shells.append((shell, local))
            charts.append(flatten(vertices[used], local, seen))
    corner_uv = np.zeros((len(faces), 3, 2), np.float32)
    for (shell, local), chart in zip(shells, pack(charts), strict=True):
        corner_uv[shell] = chart[local]
    return corner_uv


def _parts() -> list[Part]:
    ones = np.ones(3)
    left = [Part(bone, np.array(a, float), np.array(b, float), (ra, rb), ones) for bone, a, b, ra, rb in LIMBS]
    left += [Part(bone, np.array(c, float), np.array(c, float), (1, 1), np.array(half)) for bone, c, half in ROUNDS]
    mirror = np.array([-1.0, 1.0, 1.0])
    right = [Part(p.bone, p.a * mirror, p.b * mirror, p.radii, p.half) for p in left if p.a[0] != 0]
    return [
        Part(f"{p.bone}.{side}", p.a, p.b, p.radii, p.half) if p.bone in PAIRED else p
        for side, half in (("L", left), ("R", right))
        for p in half
    ]


def _field(parts: list[Part], low: Array, high: Array) -> Array:
    """Smooth union of the parts on a grid, [x, y, z]: -BLEND · log Σ exp(-distance / BLEND), each part near itself only."""
    axes = [np.arange(a, b, CELL) for a, b in zip(low, high, strict=True)]
    total = np.full([len(axis) for axis in axes], 1e-6)
    for part in parts:
        reach = max(part.radii) * part.half + 8 * BLEND
        first = np.maximum(((np.minimum(part.a, part.b) - reach - low) / CELL).astype(int), 0)
        last = ((np.maximum(part.a, part.b) + reach - low) / CELL).astype(int) + 1
        box = tuple(slice(i, j) for i, j in zip(first, last, strict=True))
        points = np.stack(np.meshgrid(*[axis[s] for axis, s in zip(axes, box, strict=True)], indexing="ij"), axis=-1)
        total[box] += np.exp(-part.distance(points) / BLEND)
    return -BLEND * np.log(total)


def _onto_surface(points: Array, coefficients: Array, low: Array) -> Array:
    """One Newton step along the gradient of a field given by its spline coefficients."""
    step = 0.05  # cells

    def value(places: Array) -> Array:
        return map_coordinates(coefficients, places.T, prefilter=False)

    places = (points - low) / CELL
    here = value(places)
    gradient = np.stack([value(places + step * axis) - here for axis in np.eye(3)], axis=-1) / step
    return low + CELL * (places - here[:, None] * gradient / (gradient**2).sum(axis=1, keepdims=True))


def _averaging(count: int, faces: NDArray[np.int32]) -> csr_array:
    """The matrix that replaces a vertex by the mean of itself and its neighbours."""
    itself = np.arange(count)
    # a closed surface has every edge twice, once each way
    i = np.concatenate([faces[:, 0], faces[:, 1], faces[:, 2], itself])
    j = np.concatenate([faces[:, 1], faces[:, 2], faces[:, 0], itself])
    links = coo_array((np.ones(len(i)), (i, j)), shape=(count, count)).tocsr()
    return diags_array(1 / links.sum(axis=1)) @ links
