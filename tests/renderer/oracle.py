"""Slow answers that are obviously right, for the fast code to agree with."""

import numpy as np

from renderer.camera import Camera


def look_at(eye, target=(0.0, 0.0, 0.0), fov=40.0, up=(0.0, 1.0, 0.0)) -> Camera:
    """A camera at `eye` that looks at `target`; fov: vertical, degrees."""
    eye = np.asarray(eye, float)
    back = eye - np.asarray(target, float)
    back /= np.linalg.norm(back)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.cross(back, right), back])
    view[:3, 3] = -view[:3, :3] @ eye
    return Camera(view, np.radians(fov))


def cast(vertices, faces, origin, directions):
    """First hits of rays directions [N, 3] from one origin, by brute force: triangle [N], barycentrics [N, 3], distance [N].

    A hit is Σ bᵢ·Pᵢ = distance · direction with Σ bᵢ = 1, so for each triangle and ray b / distance solves 3 × 3 equations.
    """
    n = len(directions)
    triangle, barycentrics, distance = np.full(n, -1), np.zeros((n, 3)), np.full(n, np.inf)
    corners = np.asarray(vertices, np.float64)[faces] - origin
    numbers = np.flatnonzero(np.abs(np.linalg.det(corners)) > 1e-14)  # others are seen edge-on
    for number, inverse in zip(numbers, np.linalg.inv(corners[numbers]), strict=True):
        weights = directions @ inverse
        total = weights.sum(axis=1)
        hit = (weights >= 0).all(axis=1) & (total * distance > 1)
        triangle[hit], distance[hit] = number, 1 / total[hit]
        barycentrics[hit] = weights[hit] / total[hit, None]
    return triangle, barycentrics, distance


def rasterise(vertices, faces, camera, size, offset=(0.0, 0.0)):
    """A z-buffer: triangle [H, W], barycentrics [H, W, 3], depth [H, W] along the camera's axis.

    offset: where in a pixel it looks, in pixels from the centre.
    """
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5 + offset[0], np.arange(height) + 0.5 + offset[1])
    slope = np.tan(0.5 * camera.fov_y)
    local = np.stack([(2 * x - width) / height * slope, (1 - 2 * y / height) * slope, -np.ones_like(x)], axis=-1)
    found = cast(vertices, faces, camera.position, (local @ camera.view[:3, :3]).reshape(-1, 3))
    return tuple(part.reshape(height, width, *part.shape[1:]) for part in found)
