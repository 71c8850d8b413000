"""Which pixels of different frames show the same point of the same surface, in both directions (DESIGN.md section 2).

pixel → texel: what a pixel shows. texel → pixel: where a texel's surface point lies in a frame, if it is seen there.
Everything here is made once per render and frame; a step only gathers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renderer.atlas import Texels, lookup, surface_points
from renderer.camera import Camera
from renderer.gbuffer import GBuffer, Geometry, ground_distance
from renderer.rasterise import Caster

REACHED = 1e-3  # relative slack of the ray that decides whether a texel is seen


@dataclass(frozen=True)
class Correspondence:
    """One frame at one feature level of h × w pixels.

    object: int32 [h, w] as in the G-buffer. texel: int32 [h, w], -1 off the heroes. point: float32 [h, w, 4], homogeneous
    world position of the pixel (ground and dome are looked up by it). pixel: int32 [N, 4] and weight: float32 [N, 4], the
    bilinear sample of each texel in this frame, rows sum to 1, or to 0 where the texel is not seen.
    """

    object: NDArray[np.int32]
    texel: NDArray[np.int32]
    point: NDArray[np.float32]
    pixel: NDArray[np.int32]
    weight: NDArray[np.float32]


def correspond(
    gbuffer: GBuffer,
    texels: Texels,
    geometry: Geometry,
    vertices: NDArray[np.floating],
    caster: Caster,
    camera: Camera,
) -> Correspondence:
    """Both directions for one frame at the G-buffer's size. vertices: this frame's pose [V, 3]; caster: over that pose."""
    hero = gbuffer.triangle >= 0
    texel = np.full(hero.shape, -1, np.int32)
    texel[hero] = lookup(texels, geometry, gbuffer.triangle[hero], gbuffer.barycentrics[hero], gbuffer.uv[hero])
    pixel, weight = texel_samples(gbuffer.object, texels, geometry, vertices, caster, camera)
    return Correspondence(gbuffer.object, texel, gbuffer.point.astype(np.float32), pixel, weight)


def texel_samples(
    obj: NDArray[np.int32],
    texels: Texels,
    geometry: Geometry,
    vertices: NDArray[np.floating],
    caster: Caster,
    camera: Camera,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Where each texel lies in a frame whose pixels show the objects obj [h, w]: pixel int32 [N, 4], weight float32 [N, 4]."""
    points = surface_points(vertices, geometry.faces, texels.triangle, texels.barycentrics)
    seen = visible(points, caster, camera, geometry.ground)
    xy, depth = camera.project(points, (obj.shape[1], obj.shape[0]))
    return bilinear(xy, seen & (depth > 0), texels.object, obj)


def visible(points: NDArray[np.floating], caster: Caster, camera: Camera, ground: float | None) -> NDArray[np.bool_]:
    """Does a ray from the camera reach these points [N, 3]? The ground hides what lies below it."""
    rays = points - camera.position
    _, distance = caster.cast(camera.position, rays)
    return np.minimum(distance, ground_distance(ground, camera, rays)) > 1 - REACHED


def bilinear(
    xy: NDArray[np.floating], seen: NDArray[np.bool_], wanted: NDArray[np.int32], obj: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Bilinear samples at xy [N, 2] that take only pixels showing the wanted object, so nothing bleeds over a silhouette.

    wanted: int32 [N], object of each point. obj: int32 [h, w]. Returns flat pixel indices int32 [N, 4] and weights
    float32 [N, 4] that sum to 1, or to 0 where the point is not seen or no corner shows its object.
    """
    height, width = obj.shape
    corner = np.floor(np.where(seen[:, None], xy, 0) - 0.5)[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    weight = (1 - np.abs(xy[:, None] - 0.5 - corner)).prod(axis=2)
    inside = (corner >= 0).all(axis=2) & (corner < (width, height)).all(axis=2)
    column, row = np.where(inside[..., None], corner, 0).astype(np.int32).transpose(2, 0, 1)
    weight = np.where(inside & seen[:, None] & (obj[row, column] == wanted[:, None]), weight, 0)
    total = weight.sum(axis=1, keepdims=True)
    return row * width + column, (weight / np.where(total > 1e-6, total, np.inf)).astype(np.float32)
