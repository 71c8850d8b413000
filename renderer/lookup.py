"""Where a finished picture finds what other frames' pictures, the painters', show of its places.

A mean of painters that disagree is mush, so they lie over one another: what the first shows well hides the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import (
    distance_transform_edt,
    gaussian_filter,
    generate_binary_structure,
    maximum_filter,
    minimum_filter,
)

from renderer.atlas import surface_points
from renderer.correspondence import NEXT_DOOR, bilinear, normalise, pixel_density, visible
from renderer.gbuffer import NOTHING, GBuffer, Geometry
from renderer.rasterise import Caster

SOFT = 3.0, 8.0  # pixels from an outline within which a painter gains trust, on heroes and off them, where halos are
POOR, GOOD = 0.4, 0.7  # of the best painter's pixel density: with less a painter covers nothing, with more all it shows
BORDER = 24.0  # pixels: so near its picture's border a painter lets the next one through
WIDE = 0.3  # the same off heroes, as a share of the picture's smaller side: light differs there more than detail
COARSE = 0.3  # of the frame's own pixel density: a painter that has less of it would blur, and counts for less
CRISP = 2  # power of the painters' shares: a mixture of pictures has less detail than any of them, a seam is seen
FAINT = 1 / 512  # a share that changes no pixel
FEATHER = 1.5  # pixels: paint ends softly
STILL = 1e-3  # of the heroes' extent: what has moved by less casts the shadow that it did


@dataclass(frozen=True)
class Shot:
    """A frame's geometry as its picture shows it. gbuffer: at the picture's size. vertices: world, [V, 3]; caster: over them.

    normals: of triangles, float32 [T, 3], toward the camera.
    """

    gbuffer: GBuffer
    vertices: NDArray[np.floating]
    caster: Caster
    normals: NDArray[np.float32]

    @cached_property
    def trust(self) -> NDArray[np.float32]:
        """How much its picture is to be trusted as a painter's, [H, W], see `trust`."""
        return trust(self.gbuffer)

    def density(self, points: NDArray, triangle: NDArray[np.integer], ground: NDArray[np.bool_]) -> NDArray:
        """Pixels per area, float32 [P], in this frame at world points [P, 4] on these triangles [P], -1 off the heroes.

        ground: bool [P]. On the dome it is 1.
        """
        density, hero, camera = np.ones(len(points), np.float32), triangle >= 0, self.gbuffer.camera
        density[hero] = pixel_density(points[hero, :3], self.normals[triangle[hero]], camera)
        density[ground] = pixel_density(points[ground, :3], np.array([[0.0, 1.0, 0.0]]), camera)
        return density


@dataclass(frozen=True)
class Lookup:
    """Where a picture of P = H·W pixels finds what the painters show of its places: n finds, of which a pixel may have several.

    place: int32 [n], the pixel. painter: int32 [n]. xy: float32 [n, 2], where in the painter's picture. pixel: int32 [n, 4] and
    weight: float32 [n, 4], the bilinear sample there of what shows the same, see `reproject`. inside: float32 [n] in [0, 1], how
    far that is from outlines. share: float32 [n], a pixel's sum to 1. shaded: bool [n], whether it is on the ground while heroes
    have moved, and their shadows with them. worth: float32 [H, W] in [0, 1], of the whole; 0 where there is no find. kind: int8
    [H, W], see `kinds`.
    """

    place: NDArray[np.int32]
    painter: NDArray[np.int32]
    xy: NDArray[np.float32]
    pixel: NDArray[np.int32]
    weight: NDArray[np.float32]
    inside: NDArray[np.float32]
    share: NDArray[np.float32]
    shaded: NDArray[np.bool_]
    worth: NDArray[np.float32]
    kind: NDArray[np.int8]


def reproject(
    shot: Shot, other: Shot, geometry: Geometry
) -> tuple[NDArray[np.integer], NDArray, NDArray, NDArray[np.float32], NDArray[np.float32]]:
    """Where another frame's picture shows the places of this one.

    Returns for n of this one's pixels, as a picture shows little of what surrounds another: place int64 [n], which pixels;
    xy float64 [n, 2]; pixel int64 [n, 4] and weight float32 [n, 4], bilinear there, rows sum to 1, or to 0 where the place is
    not seen; and density float32 [n], the pixels that the other frame has on a place's surroundings.
    """
    gbuffer, camera, (height, width) = shot.gbuffer, other.gbuffer.camera, shot.gbuffer.object.shape
    obj, triangle = gbuffer.object.ravel(), gbuffer.triangle.ravel()
    hero = triangle >= 0
    points = gbuffer.point.reshape(-1, 4).copy()
    barycentrics = gbuffer.barycentrics.reshape(-1, 3)[hero]
    points[hero, :3] = surface_points(other.vertices, geometry.faces, triangle[hero], barycentrics)
    xy, depth = camera.project(points, (width, height))
    within = ((xy > -1) & (xy < np.array([width + 1, height + 1]))).all(axis=1)
    place = np.flatnonzero(within & (depth > 0) & (obj != NOTHING))
    points, xy, depth, shows, triangle = points[place], xy[place], depth[place], obj[place], triangle[place]
    hero = triangle >= 0
    seen = np.ones(len(place), bool)
    seen[hero] = visible(points[hero, :3], other.caster, camera, geometry.ground)
    corners = bilinear(torch.from_numpy(xy), torch.from_numpy(seen), (width, height))
    pixel, weight = (corner.numpy() for corner in corners)
    shown, inverse = other.gbuffer.object.ravel()[pixel], other.gbuffer.inverse_depth.ravel()[pixel]
    close = np.abs(1 - depth[:, None] * inverse) * camera.focal((width, height)) < NEXT_DOOR
    mine = (shown == shows[:, None]) & (close | ~hero[:, None])
    density = other.density(points, triangle, shows == geometry.heroes)
    return place, xy, pixel, normalise(torch.from_numpy(np.where(mine, weight, 0))).numpy(), density


def interpolate(values: NDArray, pixel: NDArray[np.integer], weight: NDArray[np.floating]) -> NDArray:
    """Bilinear samples [n, ...] of a picture's values [P, ...], see `reproject`."""
    return np.einsum("nq...,nq->n...", values[pixel], weight)


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


def from_border(xy: NDArray[np.floating], size: NDArray[np.integer]) -> NDArray[np.floating]:
    """Pixels from places [..., 2] in a picture of this size to its border, never quite 0."""
    return np.minimum(xy, size - xy).min(axis=-1).clip(0.02)


def moved(vertices: NDArray[np.floating], others: NDArray[np.floating]) -> bool:
    """Do these poses [V, 3] of the heroes cast different shadows?"""
    return bool(np.abs(vertices - others).max() > STILL * np.ptp(vertices, axis=0).max())


def kinds(gbuffer: GBuffer, geometry: Geometry) -> NDArray[np.int8]:
    """What pixels show, int8 [H, W]: 0 a hero, 1 the ground, 2 the dome, -1 nothing."""
    surroundings = np.maximum(gbuffer.object - geometry.heroes + 1, 0)
    return np.where(gbuffer.object == NOTHING, -1, surroundings).astype(np.int8)


def silhouettes(gbuffer: GBuffer) -> NDArray[np.bool_]:
    """Pixels [H, W] beside those of another object. Paint would have stairs there, where the picture's own outline is smooth."""
    cross = generate_binary_structure(2, 1)
    return maximum_filter(gbuffer.object, footprint=cross) != minimum_filter(gbuffer.object, footprint=cross)


def look_up(shot: Shot, painters: Sequence[Shot], geometry: Geometry) -> Lookup:
    """Where a picture finds what the painters show of its places. painters: the first ones cover the later ones."""
    gbuffer, (height, width) = shot.gbuffer, shot.gbuffer.object.shape
    count, size, hero = height * width, np.array([width, height]), gbuffer.triangle.ravel() >= 0
    found = [reproject(shot, painter, geometry) for painter in painters]
    inside, density, margin = np.zeros((3, count, len(painters)), np.float32)  # 0 where not seen
    for k, (place, xy, pixel, weight, dense) in enumerate(found):
        inside[place, k] = interpolate(painters[k].trust.ravel(), pixel, weight)
        density[place, k] = np.where(inside[place, k] > 0, dense, 0)
        margin[place, k] = from_border(xy, size)

    shares = layer(inside, density, margin, np.where(hero, BORDER, WIDE * size.min()))

    ground = gbuffer.object.ravel() == geometry.heroes
    own = shot.density(gbuffer.point.reshape(-1, 4), gbuffer.triangle.ravel(), ground)
    # Where a painter's picture ends in the middle of this one, paint ends softly.
    here = from_border(np.stack(np.meshgrid(*map(np.arange, size)), axis=-1).reshape(-1, 1, 2) + 0.5, size)
    worth = inside * (margin / here.clip(max=BORDER)).clip(max=1)
    worth *= np.minimum(density / np.maximum(COARSE * own, 1e-12)[:, None], 1)
    worth = worth.max(axis=1).clip(max=1).reshape(height, width)
    worth *= (2 * gaussian_filter(worth, FEATHER) - 1).clip(0, 1)
    worth[silhouettes(gbuffer)] = 0

    finds = []
    for k, (place, xy, pixel, weight, _) in enumerate(found):
        some = np.flatnonzero(shares[place, k])
        place = place[some]
        painter = np.full(len(place), k)
        shaded = ground[place] & moved(shot.vertices, painters[k].vertices)
        finds.append((place, painter, xy[some], pixel[some], weight[some], inside[place, k], shares[place, k], shaded))
    places, painter, xy, pixel, weight, within, share, shaded = map(np.concatenate, zip(*finds, strict=True))
    return Lookup(
        place=places.astype(np.int32),
        painter=painter.astype(np.int32),
        xy=xy.astype(np.float32),
        pixel=pixel.astype(np.int32),
        weight=weight.astype(np.float32),
        inside=within.astype(np.float32),
        share=share.astype(np.float32),
        shaded=shaded,
        worth=worth.astype(np.float32),
        kind=kinds(gbuffer, geometry),
    )


def layer(inside: NDArray, density: NDArray, margin: NDArray, reach: NDArray) -> NDArray[np.floating]:
    """Shares [P, K] of painters that lie over one another, the first on top, in places [P].

    inside: [P, K] in [0, 1], how far from outlines a painter shows a place; 0: it does not. density: [P, K], with how many pixels.
    margin: [P, K], how many it is from its picture's border, and reach: [P], how many it would take to cover all by that.
    """
    # Where a border is everybody's, as under a still camera, the first one need not give way to anybody.
    reach = np.minimum(margin.max(axis=1), reach)[:, None]
    sure = inside * (margin / np.maximum(reach, 1e-12)).clip(max=1)
    # The best one counts less where its picture ends, so that those that it gives way to come in softly.
    best = (sure * density).max(axis=1, keepdims=True)
    good = (density / np.maximum(best, 1e-12) - POOR) / (GOOD - POOR)
    return crisp(composite(sure * good.clip(0, 1)))


def composite(cover: NDArray[np.floating]) -> NDArray[np.floating]:
    """Shares of layers that lie over one another (Porter and Duff 1984). cover: [P, K] in [0, 1], the first layer on top.

    Rows sum to 1, or to 0 where nothing covers.

    >>> composite(np.array([[0.75, 0.5, 1.0], [0.0, 0.5, 0.0]])).tolist()
    [[0.75, 0.125, 0.125], [0.0, 1.0, 0.0]]
    """
    uncovered = np.cumprod(1 - cover, axis=1)
    shares = cover * np.concatenate([np.ones_like(cover[:, :1]), uncovered[:, :-1]], axis=1)
    return normalised(shares)


def crisp(shares: NDArray[np.floating]) -> NDArray[np.floating]:
    """Shares [P, K] of which the large ones have more, and the FAINT ones nothing.

    >>> crisp(np.array([[0.75, 0.25, 0.0], [0.5, 0.5, 0.02]])).round(2).tolist()
    [[0.9, 0.1, 0.0], [0.5, 0.5, 0.0]]
    """
    powers = normalised(shares**CRISP)
    return normalised(np.where(powers < FAINT, 0, powers))


def normalised(shares: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rows [P, K] that sum to 1, or to 0 where all are 0."""
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
