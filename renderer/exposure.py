"""Exposure: painters' pictures whose colours agree: no place is red in one and magenta in another.

What several pictures show of the same places says by how much each is off (Brown and Lowe 2007, section 6, with offsets for gains).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from renderer.gbuffer import Geometry
from renderer.paint import Shot, kinds, reproject

KINDS = 3  # heroes, ground and dome: each has a light of its own
CALM = 0.1  # of all that it shares with others a picture weighs so much where it is: what overlaps nothing stays


def overlaps(
    shots: Sequence[Shot], pictures: NDArray[np.uint8], number: int, geometry: Geometry
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much of one picture those after it show, too, and by how much they differ there.

    pictures: [K, H, W, 3], of these shots. Returns pixels [KINDS, K], and the sums over them of the others' colours less its own
    [KINDS, K, 3].
    """
    shot, own = shots[number], pictures[number].reshape(-1, 3).astype(np.float32)
    kind, trust = kinds(shot.gbuffer, geometry).ravel(), shot.trust.ravel()
    pixels, differences = np.zeros((KINDS, len(shots))), np.zeros((KINDS, len(shots), 3))
    for k in range(number + 1, len(shots)):
        place, _, pixel, weight, _ = reproject(shot, shots[k], geometry)
        theirs = np.einsum("nqc,nq->nc", pictures[k].reshape(-1, 3).astype(np.float32)[pixel], weight)
        sure = trust[place] * (weight * shots[k].trust.ravel()[pixel]).sum(axis=1)
        for mine in range(KINDS):
            count = np.where(kind[place] == mine, sure, 0)
            pixels[mine, k], differences[mine, k] = count.sum(), count @ (theirs - own[place])
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
    # The least squares of sum_ij n_ij (d_ij + o_j - o_i)^2 / 2 + CALM sum_i n_i o_i^2; who shares nothing has o_i = 0.
    matrix = np.diag((1 + CALM) * shared + (shared == 0)) - pixels
    return np.linalg.solve(matrix, differences.sum(axis=1))


def expose(picture: NDArray[np.uint8], kind: NDArray[np.int8], offsets: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A picture [H, W, C] with an offset [KINDS, C] added to what it shows of each kind [H, W]."""
    added = np.where(kind[..., None] >= 0, offsets[kind], 0)
    return np.rint(picture + added).clip(0, 255).astype(np.uint8)
