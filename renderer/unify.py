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

SHARPNESS = 4.0  # power to which the views' pixel densities weigh: high, as averaging views blurs


@dataclass(frozen=True)
class Sources:
    """Where P pixels find their unified feature among the keyframes' K·T tokens.

    index: int64 [P, 4K], weight: float32 [P, 4K], rows sum to 1, or to 0 where no keyframe sees the pixel's surface point.
    covered: bool [P].
    """

    index: Tensor
    weight: Tensor
    covered: Tensor

    def to(self, dtype: torch.dtype) -> "Sources":
        return Sources(self.index, self.weight.to(dtype), self.covered)


@dataclass(frozen=True)
class View:
    """A frame at one feature level as the unification sees it, on the device that unifies. T = h·w pixels.

    frame: its number. size: (width, height). object: int32 [T]. hero: int64 [H], the pixels that show a hero, and texel:
    int64 [H], which of its texels. plane: int64 [Q], the pixels that show ground or dome, and point: float64 [Q, 4], what they
    show (homogeneous). pixel: int32 [N, 4], weight: float32 [N, 4] and facing: float32 [N], the sample of each texel, see
    Correspondence. camera: float64 [3, 4], from homogeneous points to (x·z, y·z, z) in pixels.
    """

    frame: int
    size: tuple[int, int]
    object: Tensor
    hero: Tensor
    texel: Tensor
    plane: Tensor
    point: Tensor
    pixel: Tensor
    weight: Tensor
    facing: Tensor
    camera: Tensor


def make_view(table: Correspondence, frame: int, camera: Camera, heroes: int, device: torch.device) -> View:
    """A frame's correspondence at one level and its camera, as flat tensors. heroes: how many; higher ids are ground and dome."""
    height, width = table.object.shape
    hero, plane = np.flatnonzero(table.texel >= 0), np.flatnonzero(table.object >= heroes)
    arrays = {
        "object": table.object.ravel(),
        "hero": hero,
        "texel": table.texel.ravel()[hero].astype(np.int64),
        "plane": plane,
        "point": table.point.reshape(-1, 4)[plane].astype(np.float64),
        "pixel": table.pixel,
        "weight": table.weight,
        "facing": table.facing,
        "camera": camera.matrix((width, height)),
    }
    # The arrays of a frame's file are read-only, which torch does not know of.
    return View(frame, (width, height), **{name: torch.tensor(array, device=device) for name, array in arrays.items()})


def unify(features: Tensor, sources: Sources) -> Tensor:
    """The unified features F̄ of P pixels: features [K·T, D] → [P, D], 0 where not covered."""
    return torch.nn.functional.embedding_bag(
        sources.index, features, per_sample_weights=sources.weight.to(features.dtype), mode="sum"
    )


def sources(frames: Sequence[View], keyframes: Sequence[View], rule: str = "fill+mean") -> Sources:
    """Sources of all pixels of these frames (n·T of them, frame by frame) among the keyframes' tokens.

    rule: fill+mean | fill | mean | adjacent | facing, see `view_shares`. The keyframes' order decides which view fills first.

    Heroes are looked up by texel, ground and dome by projecting the pixel's own point: they do not deform, and a keyframe's
    pixel that shows anything else has weight 0, so that needs no ray.
    """
    tokens = keyframes[0].object.numel()
    hero, plane = (
        torch.cat([getattr(frame, kind) + i * tokens for i, frame in enumerate(frames)]) for kind in ("hero", "plane")
    )
    index = hero.new_zeros(len(frames) * tokens, len(keyframes), 4)
    weight = torch.zeros(index.shape, device=index.device)

    texel = torch.cat([frame.texel for frame in frames])
    index[hero] = torch.stack([keyframe.pixel[texel] for keyframe in keyframes], dim=1).long()
    weight[hero] = torch.stack([keyframe.weight[texel] for keyframe in keyframes], dim=1)

    point = torch.cat([frame.point for frame in frames])
    projected = point @ torch.stack([keyframe.camera for keyframe in keyframes]).transpose(1, 2)  # [K, Q, 3]
    depth = projected[..., 2:]
    corner, share = bilinear((projected[..., :2] / depth).float(), depth[..., 0] > 0, keyframes[0].size)
    shown = torch.stack([keyframe.object for keyframe in keyframes]).gather(1, corner.flatten(1)).view_as(corner)
    own = torch.cat([frame.object[frame.plane] for frame in frames])
    index[plane] = corner.transpose(0, 1)
    weight[plane] = normalise(torch.where(shown == own[:, None], share, 0)).transpose(0, 1)

    index += tokens * torch.arange(len(keyframes), device=index.device)[:, None]
    seen = weight.any(dim=2)
    if rule == "adjacent":
        gap = [[keyframe.frame - frame.frame for keyframe in keyframes] for frame in frames]
        shares = adjacent_shares(seen, torch.tensor(gap, device=seen.device).repeat_interleave(tokens, dim=0))
    elif rule == "facing":
        facing = torch.zeros(seen.shape, device=seen.device)
        facing[hero] = torch.stack([keyframe.facing[texel] for keyframe in keyframes], dim=1)
        # Up to what all views of a place have in common: the ground's normal and the camera's height, a direction's length.
        facing[plane] = torch.where(point[:, 3:] > 0, depth[..., 0].T.float().clamp(min=1e-6) ** -3, 1)
        shares = facing_shares(seen, facing)
    else:
        shares = view_shares(seen, rule)
    return Sources(index.flatten(1), (weight * shares[..., None]).flatten(1), shares.any(dim=1))


def view_shares(seen: Tensor, rule: str) -> Tensor:
    """What each keyframe contributes to each pixel's T: seen, bool [P, K] → float32 [P, K], rows sum to 1, or to 0."""
    mean = seen / seen.sum(dim=1, keepdim=True).clamp(min=1)
    fill = seen & (seen.cumsum(dim=1) == 1)
    return {"mean": mean, "fill": fill.float(), "fill+mean": 0.5 * (fill + mean)}[rule]


def adjacent_shares(seen: Tensor, gap: Tensor) -> Tensor:
    """Between the last keyframe up to a pixel's own frame that sees it, and the first one after, linear in time.

    seen: bool [P, K]; gap: [P, K], frames from the pixel's own to the keyframe. As view_shares. (TokenFlow, section 4.2.)
    """
    far = 2**30
    before = torch.where(seen & (gap <= 0), gap, -far).max(dim=1, keepdim=True).values
    after = torch.where(seen & (gap > 0), gap, far).min(dim=1, keepdim=True).values
    share = (after / (after - before)).float()  # of the one before; 1/2 where neither exists, 0 or 1 where one is far
    share = torch.where(before == -far, 0, torch.where(after == far, 1, share))
    return torch.where(seen & (gap == before), share, torch.where(seen & (gap == after), 1 - share, 0))


def facing_shares(seen: Tensor, facing: Tensor) -> Tensor:
    """Mostly the view that has the most pixels on a place. seen: bool [P, K]; facing: float32 [P, K]. As view_shares."""
    facing = torch.where(seen, facing.clamp(min=1e-12), 0)
    preference = (facing / facing.amax(dim=1, keepdim=True).clamp(min=1e-12)) ** SHARPNESS
    return preference / preference.sum(dim=1, keepdim=True).clamp(min=1e-12)
