"""UV unification: what the keyframes say about a surface point becomes one feature (Generative Rendering, section 4.3).

T = ½(T_fill + T_avg). T_fill visits the keyframes in order and writes only texels not yet written; T_avg is the mean over the
views that see a texel. Both are linear in the keyframes' features, so the weights of a whole chunk are made once per step and
level, and a layer only sums: F̄[p] = Σ_j weight[p, j] · features[index[p, j]].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from renderer.camera import Camera
from renderer.correspondence import Correspondence, bilinear, normalise


@dataclass(frozen=True)
class Sources:
    """Where P pixels find their unified feature among the keyframes' K·T tokens.

    index: int64 [P, 4K], weight: float32 [P, 4K], rows sum to 1, or to 0 where no keyframe sees the pixel's surface point.
    covered: bool [P].
    """

    index: Tensor
    weight: Tensor
    covered: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> "Sources":
        return Sources(self.index.to(device), self.weight.to(device, dtype), self.covered.to(device))


@dataclass(frozen=True)
class View:
    """A frame as the unification sees it: its correspondence at one level, and its camera."""

    correspondence: Correspondence
    camera: Camera


def unify(features: Tensor, sources: Sources) -> Tensor:
    """The unified features F̄ of P pixels: features [K·T, D] → [P, D], 0 where not covered."""
    return torch.nn.functional.embedding_bag(
        sources.index, features, per_sample_weights=sources.weight.to(features.dtype), mode="sum"
    )


def sources(frames: Sequence[View], keyframes: Sequence[View], heroes: int, rule: str = "fill+mean") -> Sources:
    """Sources of all pixels of these frames (n·T of them, frame by frame) among the keyframes' tokens.

    heroes: number of hero objects; higher ids are ground and dome. rule: fill+mean | fill | mean. The keyframes' order decides
    which view fills a texel first.
    """
    samples = [frame_samples(frames, keyframe, heroes) for keyframe in keyframes]
    tokens = keyframes[0].correspondence.object.size
    index = np.stack([pixel + k * tokens for k, (pixel, _) in enumerate(samples)], axis=1)  # [P, K, 4]
    weight = np.stack([weight for _, weight in samples], axis=1)
    share = view_shares(np.any(weight, axis=2), rule)
    return Sources(
        torch.from_numpy(index.reshape(len(index), -1).astype(np.int64)),
        torch.from_numpy((weight * share[..., None]).reshape(len(index), -1).astype(np.float32)),
        torch.from_numpy(share.any(axis=1)),
    )


def view_shares(seen: np.ndarray, rule: str) -> np.ndarray:
    """What each keyframe contributes to each pixel's T: seen, bool [P, K] → float [P, K], rows sum to 1, or to 0."""
    mean = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    fill = seen & (seen.cumsum(axis=1) == 1)
    return {"mean": mean, "fill": fill.astype(float), "fill+mean": 0.5 * (fill + mean)}[rule]


def frame_samples(frames: Sequence[View], keyframe: View, heroes: int) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear samples of one keyframe for all pixels of these frames: pixel [P, 4] and weight [P, 4].

    Heroes are looked up by texel, ground and dome by projecting the pixel's own point: they do not deform, and a keyframe's
    pixel that shows anything else has weight 0, so that needs no ray.
    """
    obj = np.concatenate([frame.correspondence.object.ravel() for frame in frames])
    texel = np.concatenate([frame.correspondence.texel.ravel() for frame in frames])
    point = np.concatenate([frame.correspondence.point.reshape(-1, 4) for frame in frames])
    table = keyframe.correspondence
    pixel, weight = np.zeros((len(obj), 4), np.int64), np.zeros((len(obj), 4), np.float32)
    hero, plane = texel >= 0, obj >= heroes
    pixel[hero], weight[hero] = table.pixel[texel[hero]], table.weight[texel[hero]]
    size = table.object.shape[1], table.object.shape[0]
    xy, depth = keyframe.camera.project(point[plane], size)
    pixel[plane], share = bilinear(xy, depth > 0, size)
    weight[plane] = normalise(np.where(table.object.ravel()[pixel[plane]] == obj[plane, None], share, 0))
    return pixel, weight
