"""How consistent a clip is, and how much detail of it is consistent, judged on the surface instead of the screen.

A frame's *texture* is its picture sampled at the texels of the heroes. On a clip that sticks to its surfaces, textures do
not change from frame to frame.
"""

from collections.abc import Iterable
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renderer.atlas import Texels

OCTAVES = 4  # the finest has periods of about 2 to 4 texels, each next one twice that
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
# The variance that rounding to 8 bits makes. What has less is no texture, and a ratio over it would be noise.
ROUNDING = (1 / 255) ** 2 / 12


def hero_coverage(obj: NDArray[np.integer], heroes: int) -> float:
    """Share of a frame's pixels that show a hero. obj: object ids [H, W], heroes are 0..heroes-1.

    >>> hero_coverage(np.array([[0, 1], [2, -1]]), heroes=2)
    0.5
    """
    return float(((obj >= 0) & (obj < heroes)).mean())


def texture_metrics(texels: Texels, clip: Iterable[tuple[NDArray[np.floating], NDArray[np.bool_]]]) -> dict[str, Any]:
    """Consistency and stable detail of a clip, from the texture of each frame.

    clip: (texture [N, 3] in [0, 1], visible [N]) of each frame in order; what is not visible is ignored. It is iterated
    twice, so no generator; memory does not grow with its length. Returns, ready for JSON, NaN where a number has no meaning:

    uv_mse: squared difference of adjacent frames, mean over channels and over all (pair of frames, texel seen by both).
    uv_mse_mean: variance of a texel over the clip, about its mean texture, pooled over channels and texels seen at least
        twice. It sees what creeps, which adjacent frames do not; white flicker has half its uv_mse.
    uv_mse_normalised: uv_mse divided by the variance of the clip's mean texture (per channel, over texels, each weighted
        by the frames that see it; mean over channels). The mean texture of a texel is the mean over the frames that see it.
        NaN if that variance is below what rounding to 8 bits makes, as on a plain grey clip.
    detail: energy per octave (see `octave_energies`), finest first, on the texels that another frame sees, too. "single":
        of each frame's texture. "mean": its product with the mean texture of the *other* frames. That is the energy of the
        mean texture freed of flicker's share in it: of F frames of white flicker, the energy's mean has 1/F, this has 0.
    stable_detail: mean / single per octave. 1: all detail stays on its surface; 0: none does. NaN where single frames
        have less than rounding makes. A blur that is steady lowers `detail`, not this ratio: to judge a method's
        sharpness, divide its detail["mean"] by detail["single"] of the per-frame clip of the same scene.
    per_frame: for each frame uv_mse (to the frame before), uv_mse_mean (mean squared distance to the mean texture), colour
        (that distance's mean, [3], in [-1, 1]), detail (its "single", the sum over octaves); NaN where it sees nothing.
    """
    assert iter(clip) is not clip, "the clip is iterated twice, so it cannot be a generator"
    total = np.zeros((len(texels.object), 3))
    times = np.zeros(len(texels.object), np.int64)
    error, pairs = list[float](), list[int]()
    previous = None
    for texture, visible in clip:
        total[visible] += texture[visible]
        times += visible
        both = visible & previous[1] if previous is not None else np.zeros_like(visible)
        before = previous[0] if previous is not None else texture
        error.append(float(((texture[both] - before[both]) ** 2).mean(axis=1, dtype=np.float64).sum()))
        pairs.append(int(both.sum()))
        previous = texture, visible
    mean = (total / np.maximum(times, 1)[:, None]).astype(np.float32)

    energies, seen = list[NDArray[np.float64]](), list[int]()
    distance, colour = list[float](), list[list[float]]()
    for texture, visible in clip:
        again = visible & (times > 1)
        own = np.where(again[:, None], texture, 0).astype(np.float32)
        others = ((total - own) / np.maximum(times - 1, 1)[:, None]).astype(np.float32)
        energies.append(octave_energies(texels, own, others, again).mean(axis=2))
        difference = (own - mean)[again].astype(np.float64)
        distance.append(float((difference**2).mean(axis=1).sum()))
        colour.append(difference.mean(axis=0).tolist() if again.any() else [nan] * 3)
        seen.append(int(again.sum()))
    single, stable = (sum(energies, np.zeros((OCTAVES, 2))) / max(sum(seen), 1)).T

    uv_mse = _ratio(sum(error), sum(pairs))
    variance = _variance(mean, times)
    return {
        "uv_mse": uv_mse,
        "uv_mse_mean": _ratio(sum(distance), int(np.maximum(times - 1, 0).sum())),
        "uv_mse_normalised": uv_mse / variance if variance > ROUNDING else nan,
        "stable_detail": [float(b / a) if a > ROUNDING else nan for a, b in zip(single, stable, strict=True)],
        "detail": {"single": single.tolist(), "mean": stable.tolist()},
        "per_frame": {
            "uv_mse": list(map(_ratio, error, pairs)),
            "uv_mse_mean": list(map(_ratio, distance, seen)),
            "colour": colour,
            "detail": [_ratio(float(energy[:, 0].sum()), count) for energy, count in zip(energies, seen, strict=True)],
        },
    }


def _ratio(total: float, count: int) -> float:
    return total / count if count else nan


def octave_energies(
    texels: Texels, values: NDArray[np.float32], others: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Per octave, sums over the texels in the mask of the squared detail of `values` and of its product with that of `others`.

    values, others: [N, C]; mask: [N]. Returns [OCTAVES, 2, C].

    A Laplacian pyramid without decimation (the à trous transform: binomial smoothing whose taps lie 1, 2, 4, … texels apart;
    an octave is what one smoothing takes away), in each object's atlas. Smoothing is normalised convolution (Knutsson and
    Westin 1993): only texels in the mask have weight, so that neither charts' borders nor unseen texels look like detail.
    """
    channels = values.shape[1]
    energies = np.zeros((OCTAVES, 2, channels))
    pair = np.concatenate([values, others], axis=1)
    for table in texels.index:
        weight = np.where(table >= 0, mask[table], False)[..., None].astype(np.float32)
        level = np.where(weight > 0, pair[table], 0)
        for octave in range(OCTAVES):
            smooth = _smooth(level, 2**octave) * weight / np.maximum(_smooth(weight, 2**octave), 1e-6)
            own, other = np.split(level - smooth, [channels], axis=-1)
            energies[octave, 0] += (own * own).sum(axis=(0, 1), dtype=np.float64)
            energies[octave, 1] += (own * other).sum(axis=(0, 1), dtype=np.float64)
            level = smooth
    return energies


def _smooth(image: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Binomial smoothing along both axes of [H, W, C], taps `step` apart, zeros beyond the border."""
    for axis in (0, 1):
        size = image.shape[axis]
        padded = np.moveaxis(np.pad(image, [(2 * step, 2 * step) if a == axis else (0, 0) for a in range(3)]), axis, 0)
        taps = (np.float32(w) * padded[tap * step : tap * step + size] for tap, w in enumerate(BINOMIAL))
        image = np.moveaxis(sum(taps, np.zeros(1, np.float32)), 0, axis)
    return image


def _variance(values: NDArray[np.floating], weights: NDArray[np.integer]) -> float:
    """Variance per channel over weighted values [N, C], mean over channels; 0 if nothing has weight."""
    if not weights.any():
        return 0.0
    mean = np.average(values, axis=0, weights=weights)
    return float(np.average((values - mean) ** 2, axis=0, weights=weights).mean())
