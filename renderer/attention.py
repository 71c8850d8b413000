"""Self-attention across frames (Generative Rendering, sections 4.3 and 4.4), as diffusers attention processors.

A processor knows its layer's name and nothing else. What a step shares between frames arrives as one argument,
`cross_attention_kwargs={"sharing": ...}`: None (every frame on its own), a KeyframePass or an Injection.
Tokens are [G·n, T, D]: guidance branches outermost, then frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from renderer.unify import Sources, unify

KeyframeFeatures = dict[str, tuple[Tensor, ...]]
"""Layer name → pre- and post-attention tokens of the keyframes, [G, K, T, D] each; the latter only where frames take them."""


@dataclass
class KeyframePass:
    """The keyframes attend to each other, and their features are kept. guidance: G, the number of guidance branches.

    attended: int64 [K, M], the keyframes whose tokens each one sees; None: all of them. sharpen: see `attend`. post: are
    post-attention features kept, too?
    """

    guidance: int
    attended: Tensor | None = None
    sharpen: float = 0.0
    post: bool = True
    features: KeyframeFeatures = field(default_factory=dict)


@dataclass
class Injection:
    """Frames attend to themselves and the keyframes, and their output is blended with the unified features.

    own: do they see their own tokens? attended: int64 [n, M], the keyframes that each frame sees. sources: tokens per frame
    T → where the pixels of this chunk find their unified feature. alpha: weight of F̄, 0 where nothing is blended. sharpen: see
    `attend`.
    """

    features: KeyframeFeatures
    own: bool
    attended: Tensor
    sources: dict[int, Sources]
    alpha: float
    sharpen: float = 0.0


class PlainAttention(AttnProcessor2_0):
    """diffusers' own attention, for layers that share nothing."""

    def __call__(self, attn, hidden_states, *args, sharing=None, **kwargs):
        return super().__call__(attn, hidden_states, *args, **kwargs)


class FeatureAttention(AttnProcessor2_0):
    """Self-attention of a feature layer."""

    def __init__(self, layer: str):
        super().__init__()
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        sharing: KeyframePass | Injection | None = None,
    ) -> Tensor:
        if sharing is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        assert hidden_states.ndim == 3, "feature layers are transformer blocks on [batch, tokens, channels]"
        if isinstance(sharing, KeyframePass):
            pre = hidden_states.unflatten(0, (sharing.guidance, -1))
            if sharing.attended is None:
                post = keyframe_attention(attn, pre, sharing.sharpen)
            else:
                post = injected_attention(attn, pre, pre, False, sharing.attended, sharing.sharpen)
            sharing.features[self.layer] = (pre, post) if sharing.post else (pre,)
            return post.flatten(0, 1)
        keyframes_pre, *keyframes_post = sharing.features[self.layer]
        pre = hidden_states.unflatten(0, (len(keyframes_pre), -1))
        out = injected_attention(attn, pre, keyframes_pre, sharing.own, sharing.attended, sharing.sharpen)
        if sharing.alpha:
            out = blend(out, keyframes_post[0], sharing.sources[pre.shape[2]], sharing.alpha)
        return out.flatten(0, 1)


def attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor, tokens: int, sharpen: float) -> Tensor:
    """Softmax attention over S keys, [B, H, Q, d]. query: [B, H, Q, d]; key, value: [B, H, S, d]. tokens: T of one frame.

    sharpen: p, where logits are multiplied by (log S / log T)^p. Over more keys than the model learnt to attend to a softmax of the
    same logits is flatter, and its result nearer to the mean of all values, which has less detail. p = 1/2 is what Jin et al.
    (2023) keep its entropy with in diffusion models, p = 1 how logits grow in Chiang and Cholak (2022); 0: as it comes.
    """
    sharper = (math.log(key.shape[2]) / math.log(max(tokens, 2))) ** sharpen  # a layer may have a single token
    return nn.functional.scaled_dot_product_attention(query, key, value, scale=attn.scale * sharper)


def keyframe_attention(attn: Attention, pre: Tensor, sharpen: float = 0.0) -> Tensor:
    """Extended attention: each keyframe's queries see the keys and values of all keyframes. pre, result: [G, K, T, D]."""
    keyframes, tokens = pre.shape[1:3]
    key, value = (
        _heads(attn, attn.to_k(pre.flatten(1, 2))),
        _heads(attn, attn.to_v(pre.flatten(1, 2))),
    )  # [G, H, K·T, d]
    query = _heads(attn, attn.to_q(pre.flatten(1, 2)))  # one long sequence of queries: no key is copied
    out = attend(attn, query, key, value, tokens, sharpen)
    return _project_out(attn, out).unflatten(1, (keyframes, -1))


def injected_attention(
    attn: Attention, pre: Tensor, keyframes_pre: Tensor, own: bool, attended: Tensor, sharpen: float = 0.0
) -> Tensor:
    """F̂: keys and values from [own tokens, tokens of the attended keyframes]; own tokens only where `own`.

    pre: [G, n, T, D]; keyframes_pre: [G, K, T, D]; attended: int64 [n, M], keyframes that each frame sees; result as pre.
    """
    guidance, frames, tokens = pre.shape[:3]
    mine = pre.flatten(0, 1)

    def sequence(project: nn.Module) -> Tensor:
        parts = [_heads(attn, project(mine))] if own else []
        if attended.numel():
            shared = _heads(attn, project(keyframes_pre.flatten(1, 2))).unflatten(2, (-1, tokens))  # [G, H, K, T, d]
            parts.append(shared[:, :, attended].transpose(1, 2).flatten(3, 4).flatten(0, 1))  # [G·n, H, M·T, d]
        return torch.cat(parts, dim=2)

    query, key, value = _heads(attn, attn.to_q(mine)), sequence(attn.to_k), sequence(attn.to_v)
    out = attend(attn, query, key, value, tokens, sharpen)
    return _project_out(attn, out).unflatten(0, (guidance, frames))


def attended_keyframes(keys: str, frames: Sequence[int], keyframes: Sequence[int]) -> Tensor:
    """Positions in `keyframes` of those that each frame sees, int64 [n, M].

    keys: own+keyframes and keyframes: all of them; anchor+previous: the first one and the last one before the frame; own: none.

    >>> attended_keyframes("anchor+previous", [4, 5], [0, 2, 4]).tolist()
    [[0, 1], [0, 2]]
    """
    if keys == "own":
        return torch.zeros(len(frames), 0, dtype=torch.int64)
    if keys == "anchor+previous":
        before = [sum(keyframe < frame for keyframe in keyframes) for frame in frames]
        return torch.tensor([[0, max(count - 1, 0)] for count in before])
    return torch.arange(len(keyframes)).expand(len(frames), -1)


def blend(out: Tensor, keyframes_post: Tensor, sources: Sources, alpha: float) -> Tensor:
    """α·F̄ + (1 − α)·F̂ on pixels whose surface a keyframe sees, F̂ elsewhere. out: F̂ [G, n, T, D]; keyframes_post: [G, K, T, D]."""
    guidance, _, _, channels = out.shape
    # Both guidance branches ride in one gather.
    features = keyframes_post.flatten(1, 2).transpose(0, 1).flatten(1)  # [K·T, G·D]
    unified = unify(features, sources).unflatten(1, (guidance, channels)).transpose(0, 1)  # [G, n·T, D]
    weight = alpha * sources.covered[:, None].to(out.dtype)
    return torch.lerp(out.flatten(1, 2), unified, weight.expand_as(unified)).view_as(out)


def _heads(attn: Attention, tokens: Tensor) -> Tensor:
    return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # [B, T, H·d] → [B, H, T, d]


def _project_out(attn: Attention, out: Tensor) -> Tensor:
    tokens = out.transpose(1, 2).flatten(2)
    return attn.to_out[1](attn.to_out[0](tokens)) / attn.rescale_output_factor


def feature_layers(names: list[str], layers: str) -> list[str]:
    """Those of a UNet's attention processor names that take part: self-attention in the decoder, or everywhere."""
    return [name for name in names if ".attn1." in name and (layers == "all" or name.startswith("up_blocks."))]


def share_attention(unet: Any, layers: str) -> list[str]:
    """Give the UNet processors that take `sharing`; returns the names of its feature layers."""
    names = list(unet.attn_processors)
    features = feature_layers(names, layers)
    unet.set_attn_processor({name: FeatureAttention(name) if name in features else PlainAttention() for name in names})
    return features
