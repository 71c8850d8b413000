"""A pinhole camera, and the camera moves that frame a scene over a whole clip."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Camera:
    """view: world-to-camera float64 [4, 4], OpenGL convention (looks along -Z, Y up). fov_y: vertical field of view, radians."""

    view: NDArray[np.float64]
    fov_y: float

    def focal(self, size: tuple[int, int]) -> float:
        """Focal length in pixels for a picture of size (width, height)."""
        return 0.5 * size[1] / np.tan(0.5 * self.fov_y)

    @property
    def position(self) -> NDArray[np.float64]:
        """The eye in world coordinates, [3]."""
        return -self.view[:3, :3].T @ self.view[:3, 3]

    def project(self, points: NDArray[np.floating], size: tuple[int, int]) -> tuple[NDArray, NDArray]:
        """World points [N, 3], or homogeneous [N, 4] (w = 0: a direction), to pixels.

        Returns xy [N, 2] (x right, y down, pixel centres at integer + 0.5) and z [N], the distance along the camera's axis
        (<= 0 is behind the camera; there xy means nothing).
        """
        homogeneous = points if points.shape[1] == 4 else np.concatenate([points, np.ones((len(points), 1))], axis=1)
        x, y, z, _ = (homogeneous @ self.view.T).T
        depth = -z
        scale = self.focal(size) / np.where(depth > 1e-9, depth, np.inf)
        return np.stack([0.5 * size[0] + x * scale, 0.5 * size[1] - y * scale], axis=1), depth

    def rays(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Directions through the pixel centres, [height, width, 3], in world space, of length 1 along the camera's axis."""
        width, height = size
        y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        f = self.focal(size)
        local = np.stack([(x - 0.5 * width) / f, (0.5 * height - y) / f, -np.ones_like(x)], axis=-1)
        return local @ self.view[:3, :3]
