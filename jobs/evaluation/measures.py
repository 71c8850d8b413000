"""What pictures say beside the true geometry: warps under true correspondence, depth edges, sharpness, whiteness of noise.

Pictures are float32 [H, W, 3] in [0, 1]. All functions are of one frame or of a pair; what is made of a clip is in clips.py.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter, maximum_filter
from scipy.stats import rankdata

from renderer.atlas import surface_points
from renderer.correspondence import NEXT_DOOR, bilinear
from renderer.gbuffer import GBuffer, Geometry

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

EDGE = 3  # pixels around a depth edge in which a picture's edge counts as neither found nor false
LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)


def warp(gbuffer: GBuffer, other: GBuffer, geometry: Geometry, other_vertices: Floats) -> tuple[NDArray, Mask]:
    """Where each pixel's surface point lies in another frame: xy float32 [H, W, 2] in pixels, and whether it is seen there.

    gbuffer: of the frame whose pixels are asked about. other: of the frame that is looked at, in which the heroes' vertices
    are other_vertices [V, 3]. Ground and dome do not move. A point is seen if all four pixels around it show its object at its
    depth.
    """
    size = gbuffer.object.shape[1], gbuffer.object.shape[0]
    points = gbuffer.point.reshape(-1, 4).copy()
    hero = gbuffer.triangle.ravel() >= 0
    triangle, weights = gbuffer.triangle.ravel()[hero], gbuffer.barycentrics.reshape(-1, 3)[hero]
    points[hero, :3] = surface_points(other_vertices, geometry.faces, triangle, weights)
    xy, depth = other.camera.project(points, size)
    inside = (depth > 0) & (gbuffer.object.ravel() >= 0)
    pixel, weight = (corner.numpy() for corner in bilinear(torch.from_numpy(xy), torch.from_numpy(inside), size))
    same = other.object.ravel()[pixel] == gbuffer.object.ravel()[:, None]
    inverse = other.inverse_depth.ravel()[pixel]
    # On the dome 1/z is 0 and every depth will do. Ground recedes towards the horizon within a pixel; it hides nothing of itself.
    hides = np.abs(1 - depth[:, None] * inverse) * other.camera.focal(size) >= NEXT_DOOR
    hides &= (inverse > 0) & hero[:, None]
    seen = inside & (weight.sum(axis=1) > 1 - 1e-6) & (same & ~hides).all(axis=1)
    return xy.astype(np.float32).reshape(*gbuffer.object.shape, 2), seen.reshape(gbuffer.object.shape)


def sample(picture: Floats, xy: Floats) -> Floats:
    """A picture [H, W, C] sampled bilinearly at xy [..., 2] → [..., C]."""
    height, width, _ = picture.shape
    flat = torch.from_numpy(np.asarray(xy, np.float64).reshape(-1, 2))
    pixel, weight = (c.numpy() for c in bilinear(flat, torch.ones(len(flat), dtype=torch.bool), (width, height)))
    return (picture.reshape(height * width, -1)[pixel] * weight[..., None]).sum(axis=1).reshape(*xy.shape[:-1], -1)


def warp_error(picture: Floats, other: Floats, xy: Floats, seen: Mask) -> float:
    """Sum over the pixels that another frame shows, too, of their squared difference from it; mean over channels."""
    return float(((picture[seen] - sample(other, xy[seen])) ** 2).mean(axis=1, dtype=np.float64).sum())


def psnr(error: float) -> float:
    """Decibels of a mean squared error of values in [0, 1]; at most 60, which is less than rounding to 8 bits makes."""
    return float(-10 * np.log10(max(error, 1e-6)))


def depth_edges(gbuffer: GBuffer) -> Mask:
    """Pixels at which the object changes, or its depth jumps by more than NEXT_DOOR widths of a pixel. [H, W]."""
    focal = gbuffer.camera.focal((gbuffer.object.shape[1], gbuffer.object.shape[0]))
    edge = np.zeros(gbuffer.object.shape, bool)
    for axis in (0, 1):
        near, far = (np.take(gbuffer.inverse_depth, range(*part), axis) for part in _neighbours(edge.shape[axis]))
        a, b = (np.take(gbuffer.object, range(*part), axis) for part in _neighbours(edge.shape[axis]))
        hero = np.take(gbuffer.triangle, range(*_neighbours(edge.shape[axis])[0]), axis) >= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            jump = hero & (a == b) & (np.abs(1 - np.maximum(near, far) / np.minimum(near, far)) * focal > 2 * NEXT_DOOR)
        # The horizon is no edge that a picture must show: ground and dome may meet in haze.
        change = (a != b) & ((np.take(gbuffer.triangle, range(*_neighbours(edge.shape[axis])[1]), axis) >= 0) | hero)
        first, second = ([slice(None)] * axis + [slice(*part)] for part in _neighbours(edge.shape[axis]))
        edge[tuple(first)] |= jump | change
        edge[tuple(second)] |= jump | change
    return edge


def _neighbours(length: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, length - 1), (1, length)


def edge_alignment(picture: Floats, edges: Mask) -> float:
    """Probability that the picture changes more at a depth edge [H, W] than at a place away from all of them.

    The area under the ROC curve of gradient magnitude as a detector of depth edges: 1: all are where the picture's strongest
    edges are; 0.5: they might be anywhere. Neither contrast nor a blur of a pixel changes it much. NaN without edges.
    """
    gradient = np.zeros(picture.shape[:2], np.float32)
    for order in ((1, 0, 0), (0, 1, 0)):
        gradient += (gaussian_filter(picture, (1, 1, 0), order=order) ** 2).max(axis=2)
    gradient = maximum_filter(gradient, 3)
    away = ~maximum_filter(edges, 2 * EDGE + 1)
    at, off = gradient[edges], gradient[away]
    if not len(at) or not len(off):
        return float("nan")
    ranks = rankdata(np.concatenate([at, off]))[: len(at)]
    return float((ranks.sum() - len(at) * (len(at) + 1) / 2) / (len(at) * len(off)))


def sharpness(picture: Floats, mask: Mask) -> float:
    """Mean absolute Laplacian of the luma over the pixels in a mask [H, W]; NaN where it is empty."""
    luma = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    return float(np.abs(convolve(luma, LAPLACIAN, mode="nearest"))[mask].mean()) if mask.any() else float("nan")


def overlap(found: Mask, true: Mask) -> float:
    """Intersection over union of two masks of one shape; NaN if both are empty."""
    union = (found | true).sum()
    return float((found & true).sum() / union) if union else float("nan")


def neighbour_correlation(noise: Floats) -> float:
    """Mean correlation of neighbouring values, across and down, in noise [..., h, w] of zero mean. 0: white.

    >>> white = np.random.default_rng(0).standard_normal((4, 64, 64))
    >>> abs(neighbour_correlation(white)) < 0.02, neighbour_correlation(white.repeat(2, axis=-1).repeat(2, axis=-2)) > 0.4
    (True, True)
    """
    energy = (noise**2).mean()
    across, down = (noise[..., 1:] * noise[..., :-1]).mean(), (noise[..., 1:, :] * noise[..., :-1, :]).mean()
    return float((across + down) / (2 * energy))
