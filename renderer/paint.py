"""Painting: finished pictures take what those of a few frames, the painters, show of the same places.

The network knows places on a grid of features and latents, several pixels wide; what is finer it makes up in each frame anew,
and that flickers. Here places are pixels: painters are looked up by projection, through no texture, so that little is blurred
(renderer/lookup.py).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from renderer.lookup import SOFT, Lookup, interpolate

SHADE = 6.0  # pixels: what is coarser on the ground is the light there, and shadows move with what casts them
FEW = 0.05  # share of painted pixels around, with less of which their light is not taken on


def sample(picture: NDArray[np.uint8], lookup: Lookup, finds: NDArray[np.integer]) -> NDArray[np.float32]:
    """What their painter's picture [H, W, 3] shows at some finds, float32 [n, 3].

    Bicubic, which keeps a tenth more of the finest detail than bilinear does; near outlines its reach would bring in what is
    next door.
    """
    (height, width, channels), image = picture.shape, picture.astype(np.float32)
    linear = interpolate(image.reshape(-1, channels), lookup.pixel[finds], lookup.weight[finds])
    grid = torch.from_numpy(2 * lookup.xy[finds] / np.array([width, height], np.float32) - 1)
    stack = torch.from_numpy(image).permute(2, 0, 1)
    cubic = F.grid_sample(stack[None], grid[None, None], "bicubic", "border", align_corners=False)[0, :, 0].T.numpy()
    return linear + lookup.inside[finds, None] * (cubic - linear)


def relight(
    colours: NDArray[np.float32], picture: NDArray[np.uint8], place: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Colours [n, 3] for pixels [n] of a picture, with the picture's light: what is coarser than SHADE of it, where they are."""
    height, width, channels = picture.shape
    change = np.zeros((height * width, channels + 1), np.float32)  # and where it is
    change[place] = np.pad(colours - picture.reshape(-1, channels)[place], [(0, 0), (0, 1)], constant_values=1)
    rows = slice(place.min() // width, place.max() // width + 1)
    coarse = gaussian_filter(change.reshape(height, width, -1)[rows], (SHADE, SHADE, 0), mode="constant")
    coarse = coarse.reshape(-1, channels + 1)[place - rows.start * width]
    return colours - coarse[:, :-1] / coarse[:, -1:]


def spread(change: NDArray[np.float32], worth: NDArray[np.float32], kind: NDArray[np.int8]) -> NDArray[np.float32]:
    """A change of colours [H, W, C] as far as it is worth [H, W] it, and off heroes elsewhere what is coarse of it nearby.

    Else what paint does not reach, beside outlines most of all, stands out in a light of its own. kind: [H, W], see `kinds`.
    """
    spread, sigma = worth[..., None] * change, SOFT[1]
    for surroundings in (kind == 1, kind == 2):
        weight = np.where(surroundings, worth, 0)[..., None]
        sums = gaussian_filter(np.concatenate([weight * change, weight], axis=-1), (sigma, sigma, 0))
        coarse = sums[..., :-1] / np.maximum(sums[..., -1:], FEW)
        spread[surroundings] += ((1 - worth[..., None]) * coarse)[surroundings]
    return spread


def paint(picture: NDArray[np.uint8], paints: NDArray[np.uint8], lookup: Lookup) -> NDArray[np.uint8]:
    """A picture [H, W, 3] with what the painters' pictures [K, H, W, 3] show of its places, where they show them well.

    Where heroes have moved the ground keeps its light. Every painter's goes before they are laid over one another: where two meet,
    the difference would be an edge.
    """
    unified = np.zeros((lookup.worth.size, picture.shape[2]), np.float32)
    for k, painter in enumerate(paints):
        finds = np.flatnonzero(lookup.painter == k)
        place, colours = lookup.place[finds], sample(painter, lookup, finds)
        if (shaded := lookup.shaded[finds]).any():
            colours[shaded] = relight(colours[shaded], picture, place[shaded])
        unified[place] += lookup.share[finds, None] * colours
    change = spread(unified.reshape(picture.shape) - picture, lookup.worth, lookup.kind)
    return np.rint(picture + change).clip(0, 255).astype(np.uint8)
