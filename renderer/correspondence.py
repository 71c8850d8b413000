"""Which pixels of different frames show the same point of the same surface, in both directions.

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
NEXT_DOOR = 3.0  # widths of a pixel in depth, up to which it may show a texel's surroundings; more is another part


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
) -> Correspondence:
    """Both directions for one frame at the G-buffer's size. vertices: this frame's pose [V, 3]; caster: over that pose."""
    hero = gbuffer.triangle >= 0
    texel = np.full(hero.shape, -1, np.int32)
    texel[hero] = lookup(texels, geometry, gbuffer.triangle[hero], gbuffer.barycentrics[hero], gbuffer.uv[hero])
    pixel, weight = texel_samples(gbuffer, texels, geometry, vertices, caster)
    return Correspondence(gbuffer.object, texel, gbuffer.point.astype(np.float32), pixel, weight)


def texel_samples(
    gbuffer: GBuffer, texels: Texels, geometry: Geometry, vertices: NDArray[np.floating], caster: Caster
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Where each texel lies in a frame: pixel int32 [N, 4], weight float32 [N, 4] as in Correspondence."""
    camera, (height, width) = gbuffer.camera, gbuffer.object.shape
    points = surface_points(vertices, geometry.faces, texels.triangle, texels.barycentrics)
    xy, depth = camera.project(points, (width, height))
    seen = visible(points, caster, camera, geometry.ground) & (depth > 0)
    pixel, weight = bilinear(xy, seen, (width, height))
    shown, inverse = gbuffer.object.ravel()[pixel], gbuffer.inverse_depth.ravel()[pixel]
    # Another part of the same object may lie behind a silhouette: a pixel shows the texel's surroundings at about its depth.
    close = np.abs(1 - depth[:, None] * inverse) * camera.focal((width, height)) < NEXT_DOOR
    return pixel, normalise(np.where((shown == texels.object[:, None]) & close, weight, 0))


def visible(points: NDArray[np.floating], caster: Caster, camera: Camera, ground: float | None) -> NDArray[np.bool_]:
    """Does a ray from the camera reach these points [N, 3]? The ground hides what lies below it."""
    rays = points - camera.position
    _, distance = caster.cast(camera.position, rays)
    return np.minimum(distance, ground_distance(ground, camera, rays[:, 1])) > 1 - REACHED


def bilinear(
    xy: NDArray[np.floating], seen: NDArray[np.bool_], size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Bilinear samples of a picture of size (width, height) at xy [N, 2]: flat pixel indices int32 [N, 4], weights [N, 4].

    Weights are 0 where a point is not seen [N] and for corners outside of the picture.
    """
    corner = np.floor(np.where(seen[:, None], xy, 0) - 0.5)[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    inside = seen[:, None] & (corner >= 0).all(axis=2) & (corner < size).all(axis=2)
    corner = np.where(inside[..., None], corner, 0)
    weight = np.where(inside, (1 - np.abs(np.where(inside[..., None], xy[:, None], 0) - 0.5 - corner)).prod(axis=2), 0)
    column, row = corner.astype(np.int32).transpose(2, 0, 1)
    return row * size[0] + column, weight


def normalise(weight: NDArray[np.floating]) -> NDArray[np.float32]:
    """Weights [N, 4] whose rows sum to 1, or to 0 where there are none."""
    total = weight.sum(axis=1, keepdims=True)
    return (weight / np.where(total > 1e-6, total, np.inf)).astype(np.float32)
