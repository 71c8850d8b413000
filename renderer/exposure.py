"""Exposure: painters' pictures in which the heroes' colours agree: no place is red in one and magenta in another.

What several pictures show of the same places says by how much each is off (Brown and Lowe 2007, section 6, here in logarithms).
Heroes only: on ground and dome pictures differ in what they show, a sun or a shadow, and meet softly.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from renderer.gbuffer import Geometry
from renderer.lookup import SOFT, Shot, interpolate, reproject

TOE = 16.0  # of 255, added to colours, so that a channel in which there is nearly nothing has a ratio, too
MUCH = 0.4  # pictures that differ by more, in logarithms, show different things, and what lies between green and red is mud
CALM = 0.1  # of what a picture shares with others on average, so much counts for its staying as it is


def overlaps(
    shots: Sequence[Shot], pictures: NDArray[np.uint8], number: int, geometry: Geometry
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much of the heroes in one picture those after it show, too, and how much brighter they are there.

    pictures: [K, H, W, 3], of these shots. Returns pixels [K], and the logarithms of the ratios of mean colours, the others' to its
    own [K, 3]; 0 where there are no pixels.
    """
    shot, colours = shots[number], torch.from_numpy(pictures).to(shots[number].point.device).flatten(1, 2)
    hero = shot.triangle >= 0
    pixels, ratios = np.zeros(len(shots)), np.zeros((len(shots), 3))
    for k in range(number + 1, len(shots)):
        place, _, pixel, weight, _ = reproject(shot, shots[k], geometry)
        theirs, own = interpolate(colours[k].double(), pixel, weight), colours[number, place].double()
        clear = torch.stack([shot.clear[place], interpolate(shots[k].clear, pixel, weight)])
        sure = (hero[place] * (clear / SOFT[0]).clamp(max=1).prod(dim=0)).double()
        # Summed by NumPy, which does it the same way however many threads there are.
        share, light, other = (
            x.cpu().numpy() for x in (sure, sure[:, None] * (own + TOE), sure[:, None] * (theirs + TOE))
        )
        pixels[k] = share.sum()
        if pixels[k]:
            ratios[k] = np.log(other.sum(axis=0) / light.sum(axis=0))
    return pixels, ratios


def compensate(pixels: NDArray[np.float64], ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """By what to multiply each of K pictures [K, C] so that they agree where they overlap, and change as little as can be.

    pixels: [K, K], how much of picture i picture j shows, too. ratios: [K, K, C], how much brighter j is there, in logarithms. Of
    either, those of one order of a pair, and 0 for the other.

    >>> compensate(np.array([[0, 100], [0, 0]]), np.log([[[1.0], [1.21]], [[1.0], [1.0]]])).round(2).tolist()
    [[1.09], [0.91]]
    """
    pixels, ratios = pixels + pixels.T, ratios - ratios.transpose(1, 0, 2)
    alike = pixels * np.exp(-((np.linalg.norm(ratios, axis=-1) / MUCH) ** 2))
    # The least squares of sum_ij alike_ij (ratio_ij + g_j - g_i)^2 / 2 + CALM n sum_i g_i^2; 1 where there is nothing to agree on.
    matrix = np.diag(alike.sum(axis=1) + (CALM * pixels.sum(axis=1).mean() or 1)) - alike
    return np.exp(np.linalg.solve(matrix, (alike[..., None] * ratios).sum(axis=1)))


def expose(picture: NDArray[np.uint8], heroes: NDArray[np.bool_], gain: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A picture [H, W, C] multiplied by a gain [C] where it shows heroes [H, W]."""
    change = (picture + TOE) * (gain - 1)
    return np.rint(picture + heroes[..., None] * change).clip(0, 255).astype(np.uint8)
