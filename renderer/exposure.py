"""Exposure: painters' pictures in which the heroes' colours agree: no place is red in one and magenta in another.

What several pictures show of the same places says by how much each is off (Brown and Lowe 2007, section 6, with offsets for gains).
Heroes only: on ground and dome pictures differ in what they show, a sun or a shadow, and meet softly.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from renderer.gbuffer import Geometry
from renderer.paint import Shot, reproject

CALM = 0.1  # of what a picture shares with others on average, so much counts for its staying as it is


def overlaps(
    shots: Sequence[Shot], pictures: NDArray[np.uint8], number: int, geometry: Geometry
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much of the heroes in one picture those after it show, too, and by how much they differ there.

    pictures: [K, H, W, 3], of these shots. Returns pixels [K], and the sums over them of the others' colours less its own [K, 3].
    """
    shot, own = shots[number], pictures[number].reshape(-1, 3).astype(np.float32)
    trust = np.where(shot.gbuffer.triangle >= 0, shot.trust, 0).ravel()
    pixels, differences = np.zeros(len(shots)), np.zeros((len(shots), 3))
    for k in range(number + 1, len(shots)):
        place, _, pixel, weight, _ = reproject(shot, shots[k], geometry)
        theirs = np.einsum("nqc,nq->nc", pictures[k].reshape(-1, 3).astype(np.float32)[pixel], weight)
        sure = trust[place] * (weight * shots[k].trust.ravel()[pixel]).sum(axis=1)
        pixels[k], differences[k] = sure.sum(), sure @ (theirs - own[place])
    return pixels, differences


def compensate(pixels: NDArray[np.float64], differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to each of K pictures [K, C] so that they agree where they overlap, and change as little as can be.

    pixels: [K, K], how much of picture i picture j shows, too. differences: [K, K, C], the sum over it of j's colours less i's. A
    pair may be there in either order or both.

    >>> compensate(np.array([[0, 100], [0, 0]]), np.array([[[0], [3000]], [[0], [0]]])).round(1).tolist()
    [[14.3], [-14.3]]
    """
    pixels, differences = pixels + pixels.T, differences - differences.transpose(1, 0, 2)
    shared = pixels.sum(axis=1)
    # The least squares of sum_ij n_ij (d_ij + o_j - o_i)^2 / 2 + CALM n sum_i o_i^2; 1 where there is nothing to agree on.
    matrix = np.diag(shared + (CALM * shared.mean() or 1)) - pixels
    return np.linalg.solve(matrix, differences.sum(axis=1))


def expose(picture: NDArray[np.uint8], heroes: NDArray[np.bool_], offset: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A picture [H, W, C] with an offset [C] added where it shows heroes [H, W]."""
    return np.rint(picture + heroes[..., None] * offset).clip(0, 255).astype(np.uint8)
