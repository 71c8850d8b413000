"""Which triangle does each pixel show, and where on it? Embree everywhere, nvdiffrast where asked for; one answer from both."""

import functools
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renderer.camera import Camera
from renderer.errors import ModelError

Hits = tuple[NDArray[np.int32], NDArray[np.float32]]


class Caster:
    """Embree's acceleration structure over one posed mesh; lives as long as a frame's geometry is looked at.

    vertices: float [V, 3], world. faces: int [T, 3].
    """

    def __init__(self, vertices: NDArray[np.floating], faces: NDArray[np.integer]):
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.scene = EmbreeScene()
        # Embree reads 16 bytes at a vertex, so the last one needs a neighbour.
        padded = np.concatenate([vertices, vertices[-1:]]).astype(np.float32)
        TriangleMesh(self.scene, padded, np.ascontiguousarray(faces, np.int32))

    def cast(self, origin: NDArray[np.floating], directions: NDArray[np.floating]) -> tuple[Hits, NDArray[np.float32]]:
        """First hits of rays from one eye, directions [N, 3].

        Returns (triangle int32 [N], -1 where nothing is hit; barycentrics float32 [N, 3], weights of the triangle's corners),
        and distance float32 [N] in units of the direction's length (inf where nothing is hit).
        """
        directions = np.ascontiguousarray(directions, np.float32)
        origins = np.broadcast_to(origin.astype(np.float32), directions.shape).copy()
        hit = self.scene.run(origins, directions, output=1)
        triangle, u, v = hit["primID"], hit["u"], hit["v"]
        missed = triangle < 0
        barycentrics = np.stack([1 - u - v, u, v], axis=1)
        barycentrics[missed] = 0
        distance = hit["tfar"]
        distance[missed] = np.inf
        return (triangle, barycentrics), distance


def rasterise(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    camera: Camera,
    size: tuple[int, int],
    backend: str = "embree",
    caster: Caster | None = None,
) -> Hits:
    """Nearest surface through each pixel centre of a picture of size (width, height).

    vertices: world, float [V, 3]. faces: int [T, 3]. caster: Embree's structure over them, where the caller has it already.
    Returns triangle int32 [H, W], -1 where empty, and barycentrics float32 [H, W, 3], the weights of the three corners
    (0 where empty); row 0 is the top of the picture. Raises ModelError where the backend is not installed.
    """
    width, height = size
    if backend == "nvdiffrast":
        return _rasterise_nvdiffrast(vertices, faces, camera, size)
    triangle, barycentrics = np.full((height, width), -1, np.int32), np.zeros((height, width, 3), np.float32)
    rows, columns = bounding_box(vertices, camera, size)
    rays = camera.rays(size, rows, columns)
    (hit, weights), _ = (caster or Caster(vertices, faces)).cast(camera.position, rays.reshape(-1, 3))
    triangle[rows, columns], barycentrics[rows, columns] = hit.reshape(rays.shape[:2]), weights.reshape(rays.shape)
    return triangle, barycentrics


def bounding_box(vertices: NDArray[np.floating], camera: Camera, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a picture outside which these vertices [V, 3] cannot show."""
    xy, depth = camera.project(vertices, size)
    if depth.min() < 1e-6:
        return slice(0, size[1]), slice(0, size[0])
    low, high = np.floor(xy.min(axis=0)), np.ceil(xy.max(axis=0))
    (left, top), (right, bottom) = (np.clip(corner, 0, size).astype(int) for corner in (low, high))
    return slice(top, bottom), slice(left, right)


def check_backend(backend: str) -> None:
    """Raises ModelError where a backend is not installed. Imports nothing."""
    if backend == "nvdiffrast" and importlib.util.find_spec("nvdiffrast") is None:
        raise ModelError(
            "scene.rasteriser=nvdiffrast: not installed; its licence is non-commercial, so it is an extra: "
            "`pip install --no-build-isolation '.[nvdiffrast]'`, or use scene.rasteriser=embree"
        )


@functools.cache
def nvdiffrast_context() -> tuple[Any, Any]:
    """nvdiffrast's module and one CUDA context for this process. Raises ModelError where it cannot run."""
    check_backend("nvdiffrast")
    import nvdiffrast.torch as dr
    import torch

    if not torch.cuda.is_available():
        raise ModelError("scene.rasteriser=nvdiffrast: there is no CUDA device here; use scene.rasteriser=embree")
    return dr, dr.RasterizeCudaContext()


def _rasterise_nvdiffrast(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], camera: Camera, size: tuple[int, int]
) -> Hits:
    import torch

    dr, context = nvdiffrast_context()
    width, height = size
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1)
    clip = homogeneous @ (projection(camera, size, vertices) @ camera.view).T
    rast, _ = dr.rasterize(
        context,
        torch.tensor(clip[None], dtype=torch.float32, device="cuda"),
        torch.tensor(np.ascontiguousarray(faces, np.int32), device="cuda"),
        (height, width),
        grad_db=False,
    )
    u, v, _, index = rast[0].flip(0).cpu().unbind(-1)  # its row 0 is the bottom of the picture
    triangle = index.to(torch.int32) - 1  # its ids start at 1
    barycentrics = torch.stack([u, v, 1 - u - v], dim=-1) * (triangle >= 0)[..., None]  # its u, v weigh corners 0 and 1
    return triangle.numpy(), barycentrics.numpy()


def projection(camera: Camera, size: tuple[int, int], vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    """OpenGL's projection matrix [4, 4] whose depth range holds just these world vertices in front of the camera."""
    depth = -(vertices @ camera.view[2, :3] + camera.view[2, 3])
    far = max(depth.max(), 1e-6) * 1.01
    near = max(depth[depth > 0].min(initial=far) * 0.99, far * 1e-4)
    f = 1 / np.tan(0.5 * camera.fov_y)
    a, b = (far + near) / (near - far), 2 * far * near / (near - far)
    return np.array([[f * size[1] / size[0], 0, 0, 0], [0, f, 0, 0], [0, 0, a, b], [0, 0, -1, 0]])
