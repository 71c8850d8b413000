"""Painting: finished pictures take what those of a few frames, the painters, show of the same places.

The network knows places on a grid of features and latents, several pixels wide; what is finer it makes up in each frame anew,
and that flickers. Here places are pixels: painters are looked up by projection, through no texture, so that little is blurred.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from renderer.atlas import surface_points
from renderer.correspondence import NEXT_DOOR, bilinear, normalise, pixel_density, visible
from renderer.gbuffer import NOTHING, GBuffer, Geometry, facing_normals
from renderer.rasterise import Caster
from renderer.unify import Sources, unify

SOFT = 3.0, 8.0  # pixels from an outline within which a painter gains trust, on heroes and off them, where halos are
# Powers to which pixel densities weigh: on heroes one view wins, as a mean of differing ones blurs.
HERO, PLANE = 32.0, 4.0
COARSE = 0.3  # of the frame's own pixel density: a painter that has less of it would blur, and counts for less
FEATHER = 1.5  # pixels: paint ends softly
SHADE = 6.0  # pixels: what is coarser on the ground is the light there, and shadows move with what casts them


@dataclass(frozen=True)
class Shot:
    """A frame's geometry as its picture shows it. gbuffer: at the picture's size. vertices: world, [V, 3]; caster: over them."""

    gbuffer: GBuffer
    vertices: NDArray[np.floating]
    caster: Caster

    @cached_property
    def trust(self) -> NDArray[np.float32]:
        """How much its picture is to be trusted as a painter's, [H, W], see `trust`."""
        return trust(self.gbuffer)

    def density(
        self, geometry: Geometry, points: NDArray, triangle: NDArray[np.integer], ground: NDArray[np.bool_]
    ) -> NDArray:
        """Pixels per area, float32 [P], in this frame at world points [P, 4] on these triangles [P], -1 off the heroes.

        ground: bool [P]. On the dome it is 1.
        """
        density, hero, camera = np.ones(len(points), np.float32), triangle >= 0, self.gbuffer.camera
        normals = facing_normals(self.vertices, geometry.faces, camera)[triangle[hero]]
        density[hero] = pixel_density(points[hero, :3], normals, camera)
        density[ground] = pixel_density(points[ground, :3], np.array([[0.0, 1.0, 0.0]]), camera)
        return density


def reproject(shot: Shot, other: Shot, geometry: Geometry) -> tuple[Tensor, Tensor, NDArray[np.float32]]:
    """Where another frame's picture shows the places of this one's P pixels.

    Returns pixel int64 [P, 4] and weight float32 [P, 4], bilinear, rows sum to 1, or to 0 where the place is not seen; and
    density float32 [P], the pixels that the other frame has on a place's surroundings.
    """
    gbuffer, camera, (height, width) = shot.gbuffer, other.gbuffer.camera, shot.gbuffer.object.shape
    obj, triangle = gbuffer.object.ravel(), gbuffer.triangle.ravel()
    hero = triangle >= 0
    points = gbuffer.point.reshape(-1, 4).copy()
    barycentrics = gbuffer.barycentrics.reshape(-1, 3)[hero]
    points[hero, :3] = surface_points(other.vertices, geometry.faces, triangle[hero], barycentrics)
    xy, depth = camera.project(points, (width, height))
    seen = (depth > 0) & (obj != NOTHING)
    seen[hero] &= visible(points[hero, :3], other.caster, camera, geometry.ground)
    pixel, weight = bilinear(torch.from_numpy(xy), torch.from_numpy(seen), (width, height))
    shown, inverse = other.gbuffer.object.ravel()[pixel], other.gbuffer.inverse_depth.ravel()[pixel]
    close = np.abs(1 - depth[:, None] * inverse) * camera.focal((width, height)) < NEXT_DOOR
    mine = (shown == obj[:, None]) & (close | ~hero[:, None])
    density = other.density(geometry, points, triangle, obj == geometry.heroes)
    return pixel, normalise(torch.where(torch.from_numpy(mine), weight, 0)), density


def trust(gbuffer: GBuffer) -> NDArray[np.float32]:
    """How far a pixel is from any outline, as a share of SOFT pixels and at most 1: float32 [H, W].

    Outlines are where the object changes, or its depth by more than NEXT_DOOR widths of a pixel.
    """
    focal = gbuffer.camera.focal((gbuffer.object.shape[1], gbuffer.object.shape[0]))
    inside = np.ones(gbuffer.object.shape, bool)
    for axis in (0, 1):
        here, there = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        near, far = gbuffer.inverse_depth[here], gbuffer.inverse_depth[there]
        jump = (np.abs(near - far) * focal > NEXT_DOOR * np.minimum(near, far)) & (gbuffer.triangle[here] >= 0)
        same = (gbuffer.object[here] == gbuffer.object[there]) & ~jump
        inside[here] &= same
        inside[there] &= same
    if inside.all():
        return np.ones(inside.shape, np.float32)
    return np.minimum(distance_transform_edt(inside) / np.where(gbuffer.triangle >= 0, *SOFT), 1).astype(np.float32)


def picture_sources(shot: Shot, painters: Sequence[Shot], geometry: Geometry) -> tuple[Sources, NDArray[np.float32]]:
    """Where a picture's P pixels find what the painters show of their places, and how much that is worth, [H, W] in [0, 1]."""
    gbuffer = shot.gbuffer
    obj, triangle = gbuffer.object.ravel(), gbuffer.triangle.ravel()
    pixels, weights, densities = zip(*(reproject(shot, painter, geometry) for painter in painters), strict=True)
    pixel, weight = torch.stack(pixels, dim=1), torch.stack(weights, dim=1)  # [P, K, 4]
    trusts = np.stack([painter.trust.ravel() for painter in painters])
    trusted = (weight.numpy() * trusts[np.arange(len(painters))[:, None], pixel]).sum(
        axis=2
    )  # [P, K]; 0 where not seen
    density = np.where(trusted > 0, np.stack(densities, axis=1), 0)

    best = np.maximum(density.max(axis=1, keepdims=True), 1e-12)
    shares = trusted * (density / best) ** np.where(triangle >= 0, HERO, PLANE)[:, None]
    total = shares.sum(axis=1, keepdims=True)
    shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0).astype(np.float32)

    own = shot.density(geometry, gbuffer.point.reshape(-1, 4), triangle, obj == geometry.heroes)
    worth = (trusted * np.minimum(density / np.maximum(COARSE * own, 1e-12)[:, None], 1)).max(axis=1)
    worth = worth.reshape(gbuffer.object.shape).astype(np.float32).clip(max=1)
    worth *= (2 * gaussian_filter(worth, FEATHER) - 1).clip(0, 1)

    index = pixel + gbuffer.object.size * torch.arange(len(painters))[:, None]
    weight = weight * torch.from_numpy(shares)[..., None]
    return Sources(index.flatten(1), weight.flatten(1), torch.from_numpy(total[:, 0] > 0)), worth


def paint(
    picture: NDArray[np.uint8], paints: NDArray[np.uint8], shot: Shot, painters: Sequence[Shot], geometry: Geometry
) -> NDArray[np.uint8]:
    """A picture [H, W, 3] with what the painters' pictures [K, H, W, 3] show of its places, where they show them well."""
    sources, worth = picture_sources(shot, painters, geometry)
    unified = unify(torch.from_numpy(paints).reshape(-1, 3).float(), sources).view(picture.shape).numpy()
    change = worth[..., None] * (unified - picture)
    ground = (shot.gbuffer.object == geometry.heroes)[..., None]
    light, share = (gaussian_filter(image, (SHADE, SHADE, 0)) for image in (change * ground, ground.astype(np.float32)))
    change -= ground * worth[..., None] * light / np.maximum(share, 1e-3)
    return np.rint(picture + change).clip(0, 255).astype(np.uint8)
