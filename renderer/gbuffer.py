"""The G-buffer: what each pixel of a frame shows. One gather for every rasteriser, ground and dome included."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class GBuffer:
    """One frame at one size. All arrays [H, W] or [H, W, ·], row 0 at the top.

    object: int32, NOTHING where there is neither hero nor ground nor dome. triangle: int32, -1 off the heroes;
    barycentrics: float32 [..., 3]. uv: float32 [..., 2] in the hero's atlas. point: float64 [..., 4], homogeneous world
    position; a direction (w = 0) on the dome. inverse_depth: float32, 1/z along the camera's axis, 0 on the dome.
    normal: float32 [..., 3], unit, world, toward the camera; 0 off the surfaces.
    """

    object: NDArray[np.int32]
    triangle: NDArray[np.int32]
    barycentrics: NDArray[np.float32]
    uv: NDArray[np.float32]
    point: NDArray[np.float64]
    inverse_depth: NDArray[np.float32]
    normal: NDArray[np.float32]


def gather(geometry: Geometry, vertices: NDArray[np.floating], camera: Camera, hits: Hits) -> GBuffer:
    """From (triangle id, barycentrics) per pixel to the G-buffer. vertices: this frame's pose, world, [V, 3]."""
    triangle, barycentrics = hits
    height, width = triangle.shape
    rays = camera.rays((width, height))
    hero = triangle >= 0
    corners = vertices[geometry.faces[triangle[hero]]].astype(np.float64)  # [P, 3, 3]
    weights = barycentrics[hero][..., None]

    point = np.concatenate([rays, np.zeros((height, width, 1))], axis=-1)
    point[hero] = np.concatenate([(corners * weights).sum(axis=1), np.ones((len(corners), 1))], axis=1)
    depth = np.full((height, width), np.inf)
    depth[hero] = -(point[hero] @ camera.view[2])
    obj = np.where(hero, geometry.face_object[triangle], geometry.heroes + 1 if geometry.dome else NOTHING)
    normal = np.zeros((height, width, 3))
    normal[hero] = _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    uv = np.zeros((height, width, 2), np.float32)
    uv[hero] = (geometry.corner_uv[triangle[hero]] * weights).sum(axis=1)

    if geometry.ground is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (geometry.ground - camera.position[1]) / rays[..., 1]  # rays have length 1 along the axis
        on_ground = (distance > 0) & (distance < depth) & (rays[..., 1] < -HORIZON)
        depth[on_ground] = distance[on_ground]
        point[on_ground, :3] = camera.position + rays[on_ground] * distance[on_ground, None]
        point[on_ground, 3] = 1
        obj[on_ground] = geometry.heroes
        normal[on_ground] = (0, 1, 0)
        triangle, barycentrics = np.where(on_ground, -1, triangle), barycentrics * ~on_ground[..., None]

    facing = np.where((normal * rays).sum(axis=-1, keepdims=True) > 0, -1.0, 1.0)
    return GBuffer(
        object=obj.astype(np.int32),
        triangle=triangle.astype(np.int32),
        barycentrics=barycentrics.astype(np.float32),
        uv=uv * (triangle >= 0)[..., None],
        point=point,
        inverse_depth=(1 / depth).astype(np.float32),
        normal=(normal * facing).astype(np.float32),
    )


HORIZON = 1e-3  # rays flatter than this see the sky: the ground ends where a pixel would cover thousands of units


def _unit(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-20)


def control_image(gbuffer: GBuffer, near: float, far: float) -> NDArray[np.float32]:
    """The depth ControlNet's image, float32 [H, W]: 1/z rescaled linearly to [0.1, 1], nearer = brighter; dome and nothing 0.

    near, far: the largest and smallest 1/z of any visible surface over the whole clip, so that nothing pumps when the hero
    moves (DESIGN.md section 2).
    """
    scaled = 0.1 + 0.9 * (gbuffer.inverse_depth - far) / max(near - far, 1e-12)
    return np.where(gbuffer.inverse_depth > 0, np.clip(scaled, 0.1, 1), 0).astype(np.float32)
