"""Which pixels of different frames show the same point of the same surface, in both directions.

pixel → texel: what a pixel shows. texel → pixel: where a texel's surface point lies in a frame, if it is seen there.
Everything here is made once per render and frame; a step only gathers.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from renderer.atlas import Texels, lookup, surface_points
from renderer.camera import Camera
from renderer.gbuffer import NOTHING, GBuffer, Geometry, facing_normals, ground_distance
from renderer.rasterise import Caster

REACHED = 1e-3  # relative slack of the ray that decides whether a texel is seen
PURE = 0.75  # share of what a pixel covers that must be of its object; the feature of a mixture belongs to neither
ENOUGH = 0.5  # share of a bilinear sample that must be of its object; less would be extrapolated from next door
NEXT_DOOR = 3.0  # widths of a pixel in depth, up to which it may show a texel's surroundings; more is another part


@dataclass(frozen=True)
class Correspondence:
    """One frame at one feature level of h × w pixels.

    object: int32 [h, w] as in the G-buffer. texel: int32 [h, w], -1 off the heroes. point: float32 [h, w, 4], homogeneous
    world position of the pixel (ground and dome are looked up by it). pixel: int32 [N, 4] and weight: float32 [N, 4], the
    bilinear sample of each texel in this frame, rows sum to 1, or to 0 where the texel is not seen. facing: float32 [N], how
    many pixels an area around the texel would have in a view of focal length 1, were nothing before it.
    """

    object: NDArray[np.int32]
    texel: NDArray[np.int32]
    point: NDArray[np.float32]
    pixel: NDArray[np.int32]
    weight: NDArray[np.float32]
    facing: NDArray[np.float32]


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
    points = surface_points(vertices, geometry.faces, texels.triangle, texels.barycentrics)
    normals = facing_normals(vertices, geometry.faces, gbuffer.camera)[texels.triangle]
    facing = pixel_density(torch.from_numpy(points), torch.from_numpy(normals), gbuffer.camera).numpy()
    return Correspondence(gbuffer.object, texel, gbuffer.point.astype(np.float32), pixel, weight, facing)


def unmixed(gbuffer: GBuffer, objects: NDArray[np.int32]) -> GBuffer:
    """The same G-buffer, showing nothing where a pixel covers several objects: the network's feature there belongs to none.

    objects: int32 [H, W], what the finished picture's pixels show. A pixel stays if at least PURE of what it covers is its
    object.
    """
    height, width = gbuffer.object.shape
    row, column = (
        ((np.arange(fine) + 0.5) * coarse / fine).astype(int)
        for fine, coarse in zip(objects.shape, (height, width), strict=True)
    )
    cell = row[:, None] * width + column
    same = objects == gbuffer.object.ravel()[cell]
    share = np.bincount(cell.ravel(), same.ravel(), height * width) / np.bincount(cell.ravel())
    mixed = share.reshape(height, width) < PURE
    return replace(
        gbuffer, object=np.where(mixed, NOTHING, gbuffer.object), triangle=np.where(mixed, -1, gbuffer.triangle)
    )


def texel_samples(
    gbuffer: GBuffer, texels: Texels, geometry: Geometry, vertices: NDArray[np.floating], caster: Caster
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Where each texel lies in a frame: pixel int32 [N, 4], weight float32 [N, 4] as in Correspondence."""
    camera, (height, width) = gbuffer.camera, gbuffer.object.shape
    points = surface_points(vertices, geometry.faces, texels.triangle, texels.barycentrics)
    xy, depth = camera.project(points, (width, height))
    seen = visible(points, caster, camera, geometry.ground) & (depth > 0)
    corners = bilinear(torch.from_numpy(xy), torch.from_numpy(seen), (width, height))
    pixel, weight = (corner.numpy() for corner in corners)
    shown, inverse = gbuffer.object.ravel()[pixel], gbuffer.inverse_depth.ravel()[pixel]
    # Another part of the same object may lie behind a silhouette: a pixel shows the texel's surroundings at about its depth.
    close = np.abs(1 - depth[:, None] * inverse) * camera.focal((width, height)) < NEXT_DOOR
    share = np.where((shown == texels.object[:, None]) & close, weight, 0)
    return pixel.astype(np.int32), normalise(torch.from_numpy(share)).numpy()


def pixel_density(points: Tensor, normals: Tensor, camera: Camera) -> Tensor:
    """Pixels per area of surface around world points [N, 3] with unit normals [N, 3], float32 [N], for a focal length of 1."""
    rays = points - points.new_tensor(camera.position)
    depth = rays @ points.new_tensor(-camera.view[2, :3])
    # The area that a pixel covers grows with its depth's cube, and with 1 / cosine of the angle to the surface.
    return ((rays * normals).sum(dim=1).abs() / depth.clamp(min=1e-9) ** 3).float()


def visible(points: NDArray[np.floating], caster: Caster, camera: Camera, ground: float | None) -> NDArray[np.bool_]:
    """Does a ray from the camera reach these points [N, 3]? The ground hides what lies below it."""
    rays = points - camera.position
    _, distance = caster.cast(camera.position, rays)
    return np.minimum(distance, ground_distance(ground, camera, rays[:, 1])) > 1 - REACHED


def bilinear(xy: Tensor, seen: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bilinear samples of a picture of size (width, height) at xy [..., 2]: flat pixel indices int64 [..., 4], weights [..., 4].

    Weights are 0 where a point is not seen [...] and for corners outside of the picture. On the device of xy.
    """
    column, across = _neighbours(xy[..., 0], seen, size[0])
    row, down = _neighbours(xy[..., 1], seen, size[1])
    pixel = row[..., :, None] * size[0] + column[..., None, :]
    return pixel.flatten(-2), (down[..., :, None] * across[..., None, :]).flatten(-2)


def _neighbours(x: Tensor, seen: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The two of `side` pixels along an axis between whose centres x [...] lies, int64 [..., 2], and their weights [..., 2]."""
    pixel = (x - 0.5).floor()[..., None] + torch.arange(2, device=x.device)
    inside = seen[..., None] & (pixel >= 0) & (pixel < side)
    weight = torch.where(inside, 1 - (x[..., None] - 0.5 - pixel).abs(), 0)
    return torch.where(inside, pixel, 0).long(), weight


def normalise(weight: Tensor) -> Tensor:
    """What is left of bilinear weights [..., 4] where corners that show something else have 0, in float32.

    Rows sum to 1, or to 0 where less than ENOUGH is left.
    """
    total = weight.sum(dim=-1, keepdim=True)
    return torch.where(total >= ENOUGH, weight / total, 0).float()
