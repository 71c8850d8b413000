"""The G-buffer: what each pixel of a frame shows. One gather for every rasteriser, ground and dome included."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from renderer.camera import Camera
from renderer.rasterise import Hits

NOTHING = -1


@dataclass(frozen=True)
class Geometry:
    """All heroes of a scene as one mesh, with the charts of each. What does not change over the clip.

    faces: int32 [T, 3] into the concatenated vertices. face_object: int32 [T]. corner_uv: float32 [T, 3, 2].
    rest: float32 [V, 3], the pose at time 0. ground: height of the ground plane or None. dome: is there one?
    """

    faces: NDArray[np.int32]
    face_object: NDArray[np.int32]
    corner_uv: NDArray[np.float32]
    rest: NDArray[np.float32]
    ground: float | None
    dome: bool

    @property
    def heroes(self) -> int:
        """Number of heroes: their object ids are 0..heroes-1, the ground's is `heroes`, the dome's `heroes` + 1."""
        return int(self.face_object[-1]) + 1

    @cached_property
    def chart(self) -> NDArray[np.int32]:
        """The chart that each triangle belongs to, int32 [T]: those of one object that hang together by their UV corners."""
        owner = np.repeat(self.face_object, 3)[:, None]
        corners = np.concatenate([owner, self.corner_uv.reshape(-1, 2).astype(np.float64).round(6)], axis=1)
        _, corner = np.unique(corners, axis=0, return_inverse=True)
        a, b, c = corner.reshape(-1, 3).T
        edges = np.concatenate([a, a]), np.concatenate([b, c])
        graph = coo_array((np.ones(len(edges[0])), edges), shape=(corner.max() + 1, corner.max() + 1))
        return connected_components(graph, directed=False)[1][a]


@dataclass(frozen=True)
class GBuffer:
    """One frame at one size. All arrays [H, W] or [H, W, ·], row 0 at the top.

    object: int32, NOTHING where there is neither hero nor ground nor dome. triangle: int32, -1 off the heroes;
    barycentrics: float32 [..., 3]. uv: float32 [..., 2] in the hero's atlas. inverse_depth: float32, 1/z along the camera's
    axis, 0 on the dome. normal: float32 [..., 3], unit, world, toward the camera; 0 off the surfaces.
    """

    camera: Camera
    object: NDArray[np.int32]
    triangle: NDArray[np.int32]
    barycentrics: NDArray[np.float32]
    uv: NDArray[np.float32]
    inverse_depth: NDArray[np.float32]
    normal: NDArray[np.float32]

    @cached_property
    def point(self) -> NDArray[np.float64]:
        """What each pixel shows, float64 [H, W, 4]: a homogeneous world position, or a direction (w = 0) on the dome."""
        height, width = self.object.shape
        rays, surface = self.camera.rays((width, height)), self.inverse_depth[..., None] > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            position = self.camera.position + rays / self.inverse_depth[..., None]  # rays have length 1 along the axis
        return np.concatenate([np.where(surface, position, rays), surface], axis=-1)


def gather(geometry: Geometry, vertices: NDArray[np.floating], camera: Camera, hits: Hits) -> GBuffer:
    """From (triangle id, barycentrics) per pixel to the G-buffer. vertices: this frame's pose, world, [V, 3].

    What is constant over a vertex or a triangle is computed there, so that a pixel only looks it up.
    """
    triangle, barycentrics = hits
    height, width = triangle.shape
    view = camera.view.astype(np.float32)
    hero = np.flatnonzero(triangle >= 0)
    face, weights = triangle.reshape(-1)[hero], barycentrics.reshape(-1, 3)[hero]

    vertex_depth = -(vertices @ view[2, :3] + view[2, 3])
    depth = np.full(height * width, np.inf, np.float32)
    depth[hero] = np.einsum("pc,pc->p", np.take(vertex_depth[geometry.faces], face, axis=0), weights)
    obj = np.full(height * width, geometry.heroes + 1 if geometry.dome else NOTHING, np.int32)
    obj[hero] = geometry.face_object[face]
    normal = np.zeros((height * width, 3), np.float32)
    normal[hero] = np.take(facing_normals(vertices, geometry.faces, camera), face, axis=0)
    uv = np.zeros((height * width, 2), np.float32)
    uv[hero] = np.einsum("pcu,pc->pu", np.take(geometry.corner_uv, face, axis=0), weights)

    if geometry.ground is not None and camera.position[1] > geometry.ground:
        slopes = camera.slopes((width, height)).ravel()
        downward = np.flatnonzero(slopes < -HORIZON)
        distance = ground_distance(geometry.ground, camera, slopes[downward]).astype(np.float32)
        nearer = distance < depth[downward] * (1 - IN_FRONT)
        on_ground = downward[nearer]
        hidden = on_ground[triangle.reshape(-1)[on_ground] >= 0]
        if len(hidden):
            triangle, barycentrics = triangle.copy(), barycentrics.copy()
            triangle.reshape(-1)[hidden], barycentrics.reshape(-1, 3)[hidden], uv[hidden], normal[hidden] = -1, 0, 0, 0
        depth[on_ground], obj[on_ground], normal[on_ground, 1] = distance[nearer], geometry.heroes, 1

    return GBuffer(
        camera=camera,
        object=obj.reshape(height, width),
        triangle=triangle,
        barycentrics=barycentrics,
        uv=uv.reshape(height, width, 2),
        inverse_depth=np.reciprocal(depth).reshape(height, width),
        normal=normal.reshape(height, width, 3),
    )


def facing_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer], camera: Camera) -> NDArray[np.float32]:
    """Unit normals of triangles, float32 [T, 3], each on the side that the camera sees."""
    a, b, c = vertices[faces.T].astype(np.float64)
    normal = np.cross(b - a, c - a)
    normal *= np.where(((a - camera.position) * normal).sum(axis=1) > 0, -1, 1)[:, None]
    return (normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)).astype(np.float32)


def ground_distance(ground: float | None, camera: Camera, slopes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where rays from the camera meet the ground from above, in units of their length; inf where they do not. slopes: their y."""
    height = np.inf if ground is None else camera.position[1] - ground
    down = -slopes
    return np.where((down > 0) & (height > 0), height / np.where(down > 0, down, 1), np.inf)


IN_FRONT = 1e-4  # relative: so far in front the ground hides a hero, so that a hero may lie flat on it
HORIZON = 1e-3  # rays flatter than this see the sky: the ground ends where a pixel would cover thousands of units


def control_image(gbuffer: GBuffer, near: float, far: float) -> NDArray[np.float32]:
    """The depth ControlNet's image, float32 [H, W]: 1/z rescaled linearly to [0.1, 1], nearer = brighter; dome and nothing 0.

    near, far: the largest and smallest 1/z of any visible surface over the whole clip, so that nothing pumps when the hero
    moves.
    """
    scaled = 0.1 + 0.9 * (gbuffer.inverse_depth - far) / max(near - far, 1e-12)
    return np.where(gbuffer.inverse_depth > 0, np.clip(scaled, 0.1, 1), 0).astype(np.float32)
