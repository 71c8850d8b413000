"""The dancer's body: a skeleton, a skin polygonised from a smooth union of tapered limbs, and skin weights."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array

from renderer.shapes import Array, surface_nets

CELL = 0.0155  # metres between the points of the grid that the skin is made from
BLEND = 0.016  # metres over which limbs melt into each other
DIFFUSION = 36  # rounds of averaging that soften the weights at the joints

# joints at rest in metres, Y up, facing +Z; the left ones, on +X, are mirrored for the right
JOINTS: dict[str, tuple[float, float, float]] = {
    "hips": (0.0, 0.95, 0.0),
    "waist": (0.0, 1.06, 0.0),
    "chest": (0.0, 1.20, 0.0),
    "neck": (0.0, 1.43, -0.015),
    "head": (0.0, 1.52, 0.0),
    "collar": (0.04, 1.38, -0.01),
    "arm": (0.185, 1.375, -0.015),
    "elbow": (0.385, 1.205, -0.02),
    "wrist": (0.565, 1.045, 0.0),
    "thigh": (0.10, 0.91, 0.0),
    "knee": (0.115, 0.50, 0.015),
    "ankle": (0.12, 0.095, -0.03),
    "ball": (0.13, 0.035, 0.095),
}
PAIRED = ("collar", "arm", "elbow", "wrist", "thigh", "knee", "ankle", "ball")
BONES = tuple(n for n in JOINTS if n not in PAIRED) + tuple(f"{n}.{side}" for side in "LR" for n in PAIRED)
FINGERTIPS = (0.665, 0.945, 0.025)

# limbs: bone, from, to, radius at either end
LIMBS: tuple[tuple[str, tuple, tuple, float, float], ...] = (
    ("waist", (0, 1.04, 0.005), (0, 1.14, 0.005), 0.118, 0.108),
    ("neck", (0, 1.40, -0.02), (0, 1.53, -0.005), 0.062, 0.056),
    ("collar", (0.03, 1.375, -0.02), (0.15, 1.375, -0.015), 0.075, 0.075),
    ("arm", (0.185, 1.372, -0.015), (0.385, 1.205, -0.02), 0.072, 0.054),
    ("elbow", (0.385, 1.205, -0.02), (0.48, 1.12, -0.01), 0.054, 0.055),
    ("elbow", (0.48, 1.12, -0.01), (0.565, 1.045, 0.0), 0.055, 0.038),
    ("wrist", (0.575, 1.035, 0.002), (0.645, 0.965, 0.02), 0.042, 0.036),
    ("wrist", (0.59, 1.01, 0.02), (0.605, 0.985, 0.07), 0.026, 0.022),
    ("thigh", (0.095, 0.90, 0.0), (0.115, 0.52, 0.015), 0.112, 0.070),
    ("knee", (0.115, 0.50, 0.015), (0.12, 0.10, -0.03), 0.068, 0.046),
    ("knee", (0.115, 0.42, -0.02), (0.12, 0.32, -0.03), 0.060, 0.050),
    ("ankle", (0.12, 0.055, -0.055), (0.13, 0.045, 0.07), 0.053, 0.047),
    ("ball", (0.13, 0.042, 0.10), (0.135, 0.038, 0.155), 0.047, 0.038),
)
# ellipsoids: bone, centre, half axes
ROUNDS: tuple[tuple[str, tuple, tuple], ...] = (
    ("hips", (0, 0.95, 0.0), (0.165, 0.115, 0.118)),
    ("hips", (0.075, 0.925, -0.065), (0.085, 0.09, 0.08)),
    ("chest", (0, 1.27, 0.0), (0.158, 0.155, 0.112)),
    ("chest", (0.07, 1.29, 0.065), (0.075, 0.065, 0.055)),
    ("head", (0, 1.645, 0.015), (0.098, 0.128, 0.115)),
    ("head", (0, 1.565, 0.045), (0.062, 0.06, 0.07)),
    ("head", (0, 1.62, 0.13), (0.022, 0.032, 0.028)),
    ("head", (0, 1.735, -0.10), (0.066, 0.062, 0.066)),
)


@dataclass(frozen=True)
class Figure:
    """vertices: [V, 3] at rest. faces: int32 [T, 3]. weights: [V, bones], rows sum to 1. joints: bone -> place at rest."""

    vertices: Array
    faces: NDArray[np.int32]
    weights: Array
    joints: dict[str, Array]

    def skin(self, rotations: dict[str, Array], places: dict[str, Array]) -> NDArray[np.float32]:
        """Linear blend skinning. rotations: bone -> [3, 3], rest to posed; places: bone -> its joint, posed, [3]."""
        transforms = np.stack(
            [np.column_stack([rotations[b], places[b] - rotations[b] @ self.joints[b]]) for b in BONES]
        )
        blended = (self.weights @ transforms.reshape(len(BONES), 12)).reshape(-1, 3, 4)
        return (np.einsum("vij,vj->vi", blended[:, :, :3], self.vertices) + blended[:, :, 3]).astype(np.float32)


@cache
def figure() -> Figure:
    low, high = np.array([-0.75, -0.03, -0.24]), np.array([0.75, 1.86, 0.26])
    axes = [np.arange(a, b, CELL) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = _skin_distance(_distances(grid.reshape(-1, 3))[0]).reshape(grid.shape[:3])
    vertices, faces = surface_nets(values, low, CELL)
    neighbours = _averaging(len(vertices), faces)
    for _ in range(4):  # even out the triangles, then back onto the surface
        vertices = _onto_skin(0.4 * vertices + 0.6 * (neighbours @ vertices))

    distances, owners = _distances(vertices)
    weights = (np.array(BONES) == owners[distances.argmin(axis=0)][:, None]).astype(float)
    for _ in range(DIFFUSION):
        weights = neighbours @ weights
    return Figure(vertices, faces, weights, _both_sides())


def _both_sides() -> dict[str, Array]:
    joints = {}
    for name, place in JOINTS.items():
        if name in PAIRED:
            joints[f"{name}.L"] = np.array(place)
            joints[f"{name}.R"] = np.array(place) * [-1, 1, 1]
        else:
            joints[name] = np.array(place)
    return joints


def _distances(points: Array) -> tuple[Array, NDArray]:
    """Signed distance of points [N, 3] to every part of the body, [parts, N], and the parts' bones, [parts]."""
    distances, owners = [], []
    for side in (1.0, -1.0):
        mirrored = points * [side, 1, 1]
        for bone, a, b, r_a, r_b in LIMBS:
            if side > 0 or bone in PAIRED:
                distances.append(_capsule(mirrored, np.array(a, float), np.array(b, float), r_a, r_b))
                owners.append(f"{bone}.{'L' if side > 0 else 'R'}" if bone in PAIRED else bone)
        for bone, centre, half in ROUNDS:
            if side > 0 or centre[0] != 0:
                distances.append(_ellipsoid(mirrored - centre, np.array(half)))
                owners.append(bone)
    return np.stack(distances), np.array(owners)


def _capsule(points: Array, a: Array, b: Array, r_a: float, r_b: float) -> Array:
    axis = b - a
    share = np.clip((points - a) @ axis / (axis @ axis), 0, 1)
    return np.linalg.norm(points - a - share[:, None] * axis, axis=1) - (r_a + (r_b - r_a) * share)


def _ellipsoid(points: Array, half: Array) -> Array:
    """First-order distance: the implicit function over its gradient's length."""
    scaled = np.linalg.norm(points / half, axis=1)
    return scaled * (scaled - 1) / np.maximum(np.linalg.norm(points / half**2, axis=1), 1e-9)


def _skin_distance(distances: Array) -> Array:
    """Smooth union of all parts, [parts, N] -> [N]."""
    nearest = distances.min(axis=0)
    return nearest - BLEND * np.log(np.exp((nearest - distances) / BLEND).sum(axis=0))


def _onto_skin(points: Array) -> Array:
    """One Newton step along the distance's gradient."""
    step = 1e-4
    value = _skin_distance(_distances(points)[0])
    gradient = np.stack([_skin_distance(_distances(points + step * e)[0]) - value for e in np.eye(3)], axis=-1) / step
    return points - value[:, None] * gradient / (gradient**2).sum(axis=1, keepdims=True)


def _averaging(count: int, faces: NDArray[np.int32]) -> coo_array:
    """The matrix that replaces a vertex by the mean of itself and its neighbours."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    i = np.concatenate([edges[:, 0], edges[:, 1], np.arange(count)])
    j = np.concatenate([edges[:, 1], edges[:, 0], np.arange(count)])
    links = coo_array((np.ones(len(i)), (i, j)), shape=(count, count)).tocsr()
    links.data[:] = 1.0
    return diags_array(1 / links.sum(axis=1)) @ links
