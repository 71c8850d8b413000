"""Painting: finished pictures take what those of a few frames, the painters, show of the same places.

The network knows places on a grid of features and latents, several pixels wide; what is finer it makes up in each frame anew,
and that flickers. Here places are pixels: painters are looked up by projection, through no texture, so that little is blurred
(renderer/lookup.py).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from renderer.lookup import SOFT, Lookup, blur, interpolate

BAND = 4.0  # pixels: what is coarser on heroes is mixed where painters meet, what is finer is nearly all of one of them
SHADE = 6.0  # pixels: what is coarser on the ground is the light there, and shadows move with what casts them
DARKER = 10.0  # of 255: where a painter's light on the ground is darker by more than elsewhere, it has a shadow
FEW = 0.25  # share of painted pixels around, with less of which their light is taken on in part: they may be a hero's halo


def sample(picture: Tensor, lookup: Lookup, finds: Tensor) -> Tensor:
    """What their painter's picture uint8 [H, W, 3] shows at some finds, float32 [n, 3].

    Bicubic, which keeps a tenth more of the finest detail than bilinear does; near outlines its reach would bring in what is
    next door.
    """
    height, width, channels = picture.shape
    image = picture.float()
    linear = interpolate(image.view(-1, channels), lookup.pixel[finds], lookup.weight[finds])
    grid = 2 * lookup.xy[finds] / lookup.xy.new_tensor([width, height]) - 1
    stack = image.permute(2, 0, 1)[None]
    cubic = F.grid_sample(stack, grid[None, None], "bicubic", "border", align_corners=False)[0, :, 0].T
    return linear + lookup.inside[finds, None] * (cubic - linear)


def coarse(paints: Tensor, heroes: Tensor) -> Tensor:
    """What is coarser than BAND of painters' pictures uint8 [K, H, W, 3] where they show heroes, bool [K, H, W]: float32, of these
    alone."""
    weighted = F.pad(paints.float(), (0, 1), value=1) * heroes[..., None]
    sums = torch.stack([blur(one, BAND) for one in weighted])
    return sums[..., :-1] / sums[..., -1:].clamp(min=1e-6)


def relight(colours: Tensor, image: Tensor, place: Tensor) -> Tensor:
    """Colours [n, 3] for pixels [n] of an image [H, W, 3], with the image's light: what is coarser than SHADE of it, where they
    are. Where their own light is darker, by more than it is elsewhere, the image's colours: a shadow's edge is fine, and would stay
    where it lay.
    """
    height, width, channels = image.shape
    change = image.new_zeros(height * width, channels + 1)  # and where it is
    change[place] = F.pad(colours - image.view(-1, channels)[place], (0, 1), value=1)
    first, last = int(place.min()) // width, int(place.max()) // width
    coarse = blur(change.view(height, width, -1)[first : last + 1], SHADE, mirror=False)
    coarse = coarse.view(-1, channels + 1)[place - first * width]
    light, own = coarse[:, :-1] / coarse[:, -1:], image.view(-1, channels)[place]
    brightness = light.mean(dim=1, keepdim=True)
    lit = torch.exp(-(((brightness - brightness.median()).clamp(max=0) / DARKER) ** 2))
    return own + lit * (colours - light - own)


def spread(change: Tensor, worth: Tensor, kind: Tensor) -> Tensor:
    """A change of colours [H, W, C] as far as it is worth [H, W] it, and off heroes elsewhere what is coarse of it nearby.

    Else what paint does not reach, beside outlines most of all, stands out in a light of its own. kind: [H, W], see `kinds`.
    """
    spread = worth[..., None] * change
    for surroundings in (kind == 1, kind == 2):
        weight = torch.where(surroundings, worth, 0)[..., None]
        sums = blur(torch.cat([weight * change, weight], dim=-1), SOFT[1])
        coarse = sums[..., :-1] / sums[..., -1:].clamp(min=FEW)
        spread += torch.where(surroundings, 1 - worth, 0)[..., None] * coarse
    return spread


def paint(picture: NDArray[np.uint8], paints: Tensor, low: Tensor, lookup: Lookup) -> NDArray[np.uint8]:
    """A picture [H, W, 3] with what the painters' pictures uint8 [K, H, W, 3] show of its places, where they show them well.

    low: what is coarse of those, see `coarse`. It is mixed by other shares than what is fine, as in Brown and Lowe 2007, section 7:
    so pictures meet softly, and where they disagree about details these do not cancel. Where heroes have moved the ground keeps its
    light. Every painter's goes before they are laid over one another: where two meet, the difference would be an edge.
    """
    image = torch.from_numpy(picture).to(paints.device, torch.float32)
    unified = torch.zeros_like(image).view(-1, image.shape[2])
    for k, painter in enumerate(paints):
        finds = (lookup.painter == k).nonzero()[:, 0]
        place, colours, shaded = lookup.place[finds].long(), sample(painter, lookup, finds), lookup.shaded[finds]
        if shaded.any():
            colours[shaded] = relight(colours[shaded], image, place[shaded])
        share, fine = lookup.share[finds, None], lookup.fine[finds, None]
        unified[place] += fine * colours + (share - fine) * interpolate(
            low[k].view(-1, 3), lookup.pixel[finds], lookup.weight[finds]
        )
    change = spread(unified.view_as(image) - image, lookup.worth, lookup.kind)
    return (image + change).round().clamp(0, 255).byte().cpu().numpy()
