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
    uv_mse_normalised: the same divided by the variance of the clip's mean texture (per channel, over texels, each weighted
        by the frames that see it; mean over channels). The mean texture of a texel is the mean over the frames that see it.
        NaN if that variance is below what rounding to 8 bits makes, as on a plain grey clip.
    detail: energy per octave (see `octave_energies`), finest first, of each single frame's texture ("single") and of the
        mean texture on the same texels with the same mask ("mean"), mean over frames and texels.
    stable_detail: mean / single per octave. 1: all detail stays on its surface; 1/F: white flicker over F frames. NaN
        where single frames have less than rounding makes. A blur that is steady lowers `detail`, not this ratio: to judge
        a method's sharpness, divide its detail["mean"] by detail["single"] of the per-frame clip of the same scene.
    """
    assert iter(clip) is not clip, "the clip is iterated twice, so it cannot be a generator"
    total = np.zeros((len(texels.object), 3))
    times = np.zeros(len(texels.object), np.int64)
    error, pairs = 0.0, 0
    previous = None
    for texture, visible in clip:
        total[visible] += texture[visible]
        times += visible
        if previous is not None:
            both = visible & previous[1]
            error += float(((texture[both] - previous[0][both]) ** 2).mean(axis=1, dtype=np.float64).sum())
            pairs += int(both.sum())
        previous = texture, visible
    mean = (total / np.maximum(times, 1)[:, None]).astype(np.float32)

    energy = np.zeros((OCTAVES, 2))
    for texture, visible in clip:
        both_textures = np.concatenate([texture.astype(np.float32), mean], axis=1)
        energy += octave_energies(texels, both_textures, visible).reshape(OCTAVES, 2, 3).mean(axis=2)
    single, stable = (energy / max(times.sum(), 1)).T

    uv_mse = error / pairs if pairs else nan
    variance = _variance(mean, times)
    return {
        "uv_mse": uv_mse,
        "uv_mse_normalised": uv_mse / variance if variance > ROUNDING else nan,
        "stable_detail": [float(b / a) if a > ROUNDING else nan for a, b in zip(single, stable, strict=True)],
        "detail": {"single": single.tolist(), "mean": stable.tolist()},
    }


def octave_energies(texels: Texels, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum over the texels in the mask of the squared detail in each octave. values [N, C], mask [N] → [OCTAVES, C].

    A Laplacian pyramid without decimation (the à trous transform: binomial smoothing whose taps lie 1, 2, 4, … texels apart;
    an octave is what one smoothing takes away), in each object's atlas. Smoothing is normalised convolution (Knutsson and
    Westin 1993): only texels in the mask have weight, so that neither charts' borders nor unseen texels look like detail.
    """
    energies = np.zeros((OCTAVES, values.shape[1]))
    for table in texels.index:
        weight = np.where(table >= 0, mask[table], False)[..., None].astype(np.float32)
        level = np.where(weight > 0, values[table], 0)
        for octave in range(OCTAVES):
            smooth = _smooth(level, 2**octave) * weight / np.maximum(_smooth(weight, 2**octave), 1e-6)
            energies[octave] += ((level - smooth) ** 2).sum(axis=(0, 1), dtype=np.float64)
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
