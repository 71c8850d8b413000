"""Where a finished picture finds what other frames' pictures, the painters', show of its places.

A mean of painters that disagree is mush, so they lie over one another: what the first shows well hides the second.
Computed on the device that paints, but for the rays that tell what is hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from renderer.correspondence import NEXT_DOOR, bilinear, normalise, pixel_density, visible
from renderer.gbuffer import NOTHING, GBuffer, Geometry, facing_normals
from renderer.rasterise import Caster

SOFT = 3.0, 8.0  # pixels from an outline within which a painter gains trust, on heroes and off them, where halos are
NEARLY = 0.5  # of full worth, from which on heroes are painted whole: less paint would flicker more than halos disturb
POOR, GOOD = 0.4, 0.7  # of the best painter's pixel density: with less a painter covers nothing, with more all it shows
ENOUGH = 0.15, 0.4  # the same for painters that agree, against all: they hide what others show better, but not by far
BORDER = 24.0  # pixels: so near its picture's border a painter lets the next one through
WIDE = 0.3  # the same off heroes, as a share of the picture's smaller side, as pictures differ there in more than detail; from
# outlines, too: else one would see the shape of the hero that hides something from a painter
COARSE = 0.3  # of the frame's own pixel density: a painter that has less of it would blur, and counts for less
CRISP = 2  # power of the painters' shares: a mixture of pictures has less detail than any of them, a seam is seen
FINE = 4  # power of those once more, for what is fine on heroes, which a mixture would cancel, and where seams are seen less
FAINT = 1 / 512  # a share that changes no pixel
FEATHER = 1.0  # pixels, a Gaussian's sigma: paint ends softly at outlines, which would else have stairs
STILL = 1e-3  # of the heroes' extent: what has moved by less casts the shadow that it did


@dataclass(frozen=True)
class Shot:
    """A frame's geometry as its picture of P = H·W pixels shows it, on the device that paints. caster: over its pose.

    object: int32 [P], triangle: int64 [P], barycentrics: float64 [P, 3], point: float64 [P, 4], homogeneous, and inverse_depth:
    float32 [P], as in the G-buffer. clear: float32 [P], see `from_outlines`. vertices: float64 [V, 3], world. normals: float32
    [T, 3], of triangles, toward the camera. matrix: float64 [3, 4], from homogeneous points to (x·z, y·z, z) in pixels.
    """

    gbuffer: GBuffer
    caster: Caster
    object: Tensor
    triangle: Tensor
    barycentrics: Tensor
    point: Tensor
    inverse_depth: Tensor
    clear: Tensor
    vertices: Tensor
    normals: Tensor
    matrix: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.gbuffer.object.shape
        return width, height

    def density(self, points: Tensor, triangle: Tensor, ground: Tensor) -> Tensor:
        """Pixels per area, float32 [n], in this frame at world points [n, 4] on these triangles [n], -1 off the heroes.

        ground: bool [n]. On the dome it is 1.
        """
        hero, up, camera = triangle >= 0, points.new_tensor([0, 1, 0]), self.gbuffer.camera
        density = torch.ones_like(points[:, 0], dtype=torch.float32)
        density[hero] = pixel_density(points[hero, :3], self.normals[triangle[hero]], camera)
        density[ground] = pixel_density(points[ground, :3], up, camera)
        return density


def make_shot(
    gbuffer: GBuffer, geometry: Geometry, vertices: NDArray[np.floating], caster: Caster, device: str
) -> Shot:
    """The shot of a frame from its G-buffer at the picture's size. vertices: this frame's pose [V, 3]; caster: over that pose."""
    arrays = {
        "object": gbuffer.object.ravel(),
        "triangle": gbuffer.triangle.ravel().astype(np.int64),
        "barycentrics": gbuffer.barycentrics.reshape(-1, 3).astype(np.float64),
        "point": gbuffer.point.reshape(-1, 4).astype(np.float64),
        "inverse_depth": gbuffer.inverse_depth.ravel(),
        "clear": from_outlines(gbuffer).ravel(),
        "vertices": vertices.astype(np.float64),
        "normals": facing_normals(vertices, geometry.faces, gbuffer.camera),
        "matrix": gbuffer.camera.matrix((gbuffer.object.shape[1], gbuffer.object.shape[0])),
    }
    return Shot(gbuffer, caster, **{name: torch.from_numpy(array).to(device) for name, array in arrays.items()})


@dataclass(frozen=True)
class Lookup:
    """Where a picture of P = H·W pixels finds what the painters show of its places: n finds, of which a pixel may have several.

    place: int32 [n], the pixel. painter: int32 [n]. xy: float32 [n, 2], where in the painter's picture. pixel: int32 [n, 4] and
    weight: float32 [n, 4], the bilinear sample there of what shows the same, see `reproject`. inside: float32 [n] in [0, 1], how
    far that is from outlines. share and fine: float32 [n], of what is coarse and of what is fine, either's sum over a pixel is 1.
    shaded: bool [n], whether it is on the ground while heroes have moved, and their shadows with them. worth: float32 [H, W] in
    [0, 1], of the whole; 0 where there is no find. kind: int8 [H, W], see `kinds`.
    """

    place: Tensor
    painter: Tensor
    xy: Tensor
    pixel: Tensor
    weight: Tensor
    inside: Tensor
    share: Tensor
    fine: Tensor
    shaded: Tensor
    worth: Tensor
    kind: Tensor


def reproject(shot: Shot, other: Shot, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Where another frame's picture shows the places of this one.

    Returns for n of this one's pixels, as a picture shows little of what surrounds another: place int64 [n], which pixels;
    xy float64 [n, 2]; pixel int64 [n, 4] and weight float32 [n, 4], bilinear there, rows sum to 1, or to 0 where the place is
    not seen; and density float32 [n], the pixels that the other frame has on a place's surroundings.
    """
    width, height = shot.size
    faces = torch.from_numpy(geometry.faces).to(shot.triangle.device)
    points, hero = shot.point.clone(), shot.triangle >= 0
    corners = other.vertices[faces[shot.triangle[hero]].long()]
    points[hero, :3] = (corners * shot.barycentrics[hero, :, None]).sum(dim=1)
    projected = points @ other.matrix.T
    depth = projected[:, 2]
    xy = projected[:, :2] / torch.where(depth > 1e-9, depth, torch.inf)[:, None]
    x, y = xy.unbind(dim=1)
    within = (x > -1) & (y > -1) & (x < width + 1) & (y < height + 1) & (depth > 0) & (shot.object != NOTHING)
    place = within.nonzero()[:, 0]
    points, xy, depth, shows, triangle = (
        points[place],
        xy[place],
        depth[place],
        shot.object[place],
        shot.triangle[place],
    )
    hero = triangle >= 0
    seen = torch.ones_like(depth, dtype=torch.bool)
    rays = visible(points[hero, :3].cpu().numpy(), other.caster, other.gbuffer.camera, geometry.ground)
    seen[hero] = torch.from_numpy(rays).to(seen.device)
    pixel, weight = bilinear(xy, seen, (width, height))
    gap = (1 - depth[:, None] * other.inverse_depth[pixel]).abs() * other.gbuffer.camera.focal((width, height))
    mine = (other.object[pixel] == shows[:, None]) & ((gap < NEXT_DOOR) | ~hero[:, None])
    density = other.density(points, triangle, shows == geometry.heroes)
    return place, xy, pixel, normalise(torch.where(mine, weight, 0)), density


def interpolate(values: Tensor, pixel: Tensor, weight: Tensor) -> Tensor:
    """Bilinear samples [n, ...] of a picture's values [P, ...], see `reproject`."""
    return (values[pixel] * weight.view(*weight.shape, *[1] * (values.ndim - 1))).sum(dim=1)


def from_outlines(gbuffer: GBuffer) -> NDArray[np.float32]:
    """Pixels from any outline, 0 beside it: float32 [H, W].

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
        return np.full(inside.shape, sum(inside.shape), np.float32)
    return distance_transform_edt(inside).astype(np.float32)


def from_border(xy: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels from places [..., 2] in a picture of size (width, height) to its border, never quite 0."""
    x, y = xy.unbind(dim=-1)
    return torch.minimum(torch.minimum(x, size[0] - x), torch.minimum(y, size[1] - y)).clamp(min=0.02)


def moved(vertices: Tensor, others: Tensor) -> bool:
    """Do these poses [V, 3] of the heroes cast different shadows?"""
    extent = (vertices.amax(dim=0) - vertices.amin(dim=0)).max()
    return bool((vertices - others).abs().max() > STILL * extent)


def kinds(gbuffer: GBuffer, geometry: Geometry) -> NDArray[np.int8]:
    """What pixels show, int8 [H, W]: 0 a hero, 1 the ground, 2 the dome, -1 nothing."""
    surroundings = np.maximum(gbuffer.object - geometry.heroes + 1, 0)
    return np.where(gbuffer.object == NOTHING, -1, surroundings).astype(np.int8)


def silhouettes(objects: Tensor) -> Tensor:
    """Pixels, bool [H, W], beside those of another object [H, W]. Paint would have stairs there, where the picture's own outline
    is smooth."""
    beside = torch.zeros_like(objects, dtype=torch.bool)
    for one, its in ((objects, beside), (objects.T, beside.T)):
        differs = one[1:] != one[:-1]
        its[1:] |= differs
        its[:-1] |= differs
    return beside


def blur(image: Tensor, sigma: float, mirror: bool = True) -> Tensor:
    """A Gaussian of an image [H, W, ...] over four sigma (pixels), as SciPy has it; beyond its border it is mirrored, or else 0."""
    reach = int(4 * sigma + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    for axis in (0, 1):
        side = image.shape[axis]
        place = torch.arange(-reach, side + reach, device=image.device)
        beyond = place % (2 * side)
        padded = image.index_select(axis, torch.minimum(beyond, 2 * side - 1 - beyond))
        if not mirror:
            padded *= ((place >= 0) & (place < side)).view(-1, *[1] * (image.ndim - 1 - axis))
        image = torch.zeros_like(image)
        for shift, weight in enumerate((kernel / kernel.sum()).tolist()):
            image.add_(padded.narrow(axis, shift, side), alpha=weight)
    return image


def look_up(shot: Shot, painters: Sequence[Shot], agreed: int, geometry: Geometry) -> Lookup:
    """Where a picture finds what the painters show of its places. painters: the first cover the later ones; agreed: see `layer`."""
    (width, height), device, pixels = shot.size, shot.object.device, len(shot.object)
    found = [reproject(shot, painter, geometry) for painter in painters]
    clear, density, margin = torch.zeros(3, pixels, len(painters), device=device)  # 0 where not seen
    for k, (place, xy, pixel, weight, dense) in enumerate(found):
        clear[place, k] = interpolate(painters[k].clear, pixel, weight)
        density[place, k] = torch.where(clear[place, k] > 0, dense, 0)
        margin[place, k] = from_border(xy, shot.size).float()

    hero = shot.triangle >= 0
    inside = (clear / torch.where(hero, *SOFT)[:, None]).clamp(max=1)
    reach = torch.where(hero, BORDER, WIDE * min(shot.size))
    ends = torch.minimum(room(margin, reach), torch.where(hero[:, None], 1, room(clear, reach)))
    shares = layer(inside * ends, density, agreed)
    fine = torch.where(hero[:, None], crisp(shares, FINE), shares)

    ground = shot.object == geometry.heroes
    own = shot.density(shot.point, shot.triangle, ground)
    # Where a painter's picture ends in the middle of this one, paint ends softly.
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    here = from_border(torch.stack([x, y], dim=-1).view(-1, 1, 2) + 0.5, shot.size)
    worth = inside * (margin / here.clamp(max=BORDER)).clamp(max=1)
    worth *= (density / (COARSE * own).clamp(min=1e-12)[:, None]).clamp(max=1)
    worth = (worth.amax(dim=1) / torch.where(hero, NEARLY, 1.0)).clamp(max=1).view(height, width)
    outlines = silhouettes(shot.object.view(height, width))
    worth = worth * (2 * blur((~outlines).float(), FEATHER) - 1).clamp(0, 1)

    finds: dict[str, list[Tensor]] = {}
    for k, (place, xy, pixel, weight, _) in enumerate(found):
        some = shares[place, k].nonzero()[:, 0]
        place = place[some]
        find = {
            "place": place.int(),
            "painter": torch.full_like(place, k, dtype=torch.int32),
            "xy": xy[some].float(),
            "pixel": pixel[some].int(),
            "weight": weight[some],
            "inside": inside[place, k],
            "share": shares[place, k],
            "fine": fine[place, k],
            "shaded": ground[place] & moved(shot.vertices, painters[k].vertices),
        }
        for name, values in find.items():
            finds.setdefault(name, []).append(values)
    kind = torch.from_numpy(kinds(shot.gbuffer, geometry)).to(device)
    return Lookup(**{name: torch.cat(values) for name, values in finds.items()}, worth=worth, kind=kind)


def room(distance: Tensor, reach: Tensor) -> Tensor:
    """How well painters cover places [P, K], in [0, 1]. distance: [P, K], pixels from where what a painter shows ends.

    reach: [P], from how many of them on it covers all.
    """
    # Where there is little room for anybody, as under a still camera, the first one need not give way to the others.
    reach = torch.minimum(distance.amax(dim=1), reach)[:, None]
    return (distance / reach.clamp(min=1e-12)).clamp(max=1)


def layer(sure: Tensor, density: Tensor, agreed: int) -> Tensor:
    """Shares [P, K] of painters that lie over one another, the first on top, in places [P].

    sure: [P, K] in [0, 1], how far from all ends a painter shows a place; 0: it does not. density: [P, K], with how many pixels.
    agreed: so many of the first have looked at each other, and give way to the rest only where they show little; all: to nobody.
    """
    # The best one counts less where its picture ends, so that those that it gives way to come in softly.
    worth = sure * density
    best = worth.amax(dim=1, keepdim=True)
    theirs = worth[:, :agreed].amax(dim=1, keepdim=True)
    enough = ramp(theirs / best.clamp(min=1e-12), *ENOUGH)
    first = ramp(density[:, :agreed] / theirs.clamp(min=1e-12), POOR, GOOD) * enough
    rest = ramp(density[:, agreed:] / best.clamp(min=1e-12), POOR, GOOD)
    return crisp(composite(sure * torch.cat([first, rest], dim=1)), CRISP)


def ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 up to low, 1 from high on, in a straight line between."""
    return ((values - low) / (high - low)).clamp(0, 1)


def composite(cover: Tensor) -> Tensor:
    """Shares of layers that lie over one another (Porter and Duff 1984). cover: [P, K] in [0, 1], the first layer on top.

    Rows sum to 1, or to 0 where nothing covers.

    >>> composite(torch.tensor([[0.75, 0.5, 1.0], [0.0, 0.5, 0.0]])).tolist()
    [[0.75, 0.125, 0.125], [0.0, 1.0, 0.0]]
    """
    uncovered = torch.cumprod(1 - cover, dim=1)
    return normalised(cover * torch.cat([torch.ones_like(cover[:, :1]), uncovered[:, :-1]], dim=1))


def crisp(shares: Tensor, power: float) -> Tensor:
    """Shares [P, K] of which the large ones have more, by a power, and the FAINT ones nothing.

    >>> crisp(torch.tensor([[0.75, 0.25, 0.0], [0.5, 0.5, 0.02]]), 2).round(decimals=2)
    tensor([[0.9000, 0.1000, 0.0000],
            [0.5000, 0.5000, 0.0000]])
    """
    powers = normalised(shares**power)
    return normalised(torch.where(powers < FAINT, 0, powers))


def normalised(shares: Tensor) -> Tensor:
    """Rows [P, K] that sum to 1, or to 0 where all are 0."""
    total = shares.sum(dim=1, keepdim=True)
    return torch.where(total > 0, shares / total, 0)
