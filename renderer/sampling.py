"""The sampler's side of a render, all frames at once and in float32: scheduler, keyframe schedule, latent normalisation."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from renderer.model import SCHEDULERS, ModelSpec, read_json

MIN_BACKGROUND = 64  # latent pixels; fewer say too little about a frame's colours


def make_scheduler(spec: ModelSpec, steps: int) -> Any:
    """A diffusers scheduler with its timesteps set."""
    config = read_json(spec.base, "scheduler/scheduler_config.json")
    name, options = SCHEDULERS.get(spec.scheduler or "", (spec.scheduler or config["_class_name"], {}))
    scheduler = getattr(diffusers, name).from_config(config, **options)
    scheduler.set_timesteps(steps)
    return scheduler


class GivenNoise(TorchFunctionMode):
    """Within it torch.randn returns what draw() does: diffusers' stochastic samplers have no other door for their noise."""

    def __init__(self, draw: Callable[[], Tensor]):
        super().__init__()
        self.draw = draw

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.draw() if func is torch.randn else func(*args, **(kwargs or {}))


class UnforeseenError(RuntimeError):
    """A step that needs more than the frames it is asked about."""


def foresee(
    scheduler: Any, prediction: Tensor, t: Tensor, latents: Tensor, frames: Sequence[int]
) -> tuple[Any, Tensor]:
    """What a step will make of some frames, before the predictions of the others are known: a scheduler of these frames alone,
    after the step, and their latents [n, C, h, w].

    scheduler: of all frames, before the step, which leaves it as it is. prediction, latents: [F, C, h, w], read at these frames
    only. The bits are those of stepping all frames together, as a sampler's step is arithmetic element by element and its memory
    (whatever is shaped like the latents) is as well. Raises UnforeseenError where the step draws noise, which is drawn for all
    frames at once.
    """
    shape, chosen = latents.shape, list(frames)

    def of_frames(value: Any) -> Any:
        if isinstance(value, list):
            return [of_frames(item) for item in value]
        return value[chosen] if isinstance(value, Tensor) and value.shape == shape else value

    def draw() -> Tensor:
        raise UnforeseenError

    apart = copy.copy(scheduler)
    vars(apart).update({name: of_frames(value) for name, value in vars(scheduler).items()})
    with GivenNoise(draw):
        return apart, apart.step(prediction[chosen], t, latents[chosen]).prev_sample


def random_keyframes(seed: int, step: int, frames: int, keyframes: int) -> list[int]:
    """K frames drawn at random anew at every step, in order (section 4.3). A function of (seed, step) only."""
    generator = np.random.default_rng([seed % 2**64, step])
    return sorted(generator.choice(frames, size=min(keyframes, frames), replace=False).tolist())


def even_keyframes(frames: int, keyframes: int) -> list[int]:
    """K frames at equal distances, the first one among them.

    >>> even_keyframes(16, 4)
    [0, 4, 8, 12]
    """
    count = min(keyframes, frames)
    return [i * frames // count for i in range(count)]


def covering_keyframes(facing: NDArray[np.floating], keyframes: int) -> list[int]:
    """K frames that together show as much as possible of what the clip shows, as well as it ever does; in order.

    facing: [F, N], how well each frame shows each place, 0 where it does not. A place counts as often as it is seen. Greedy,
    which for such a sum of maxima is within 1 - 1/e of the best choice (Nemhauser et al. 1978).
    """
    worth = (facing > 0).sum(axis=0) / np.maximum(facing.max(axis=0), 1e-12)
    chosen: list[int] = []
    best = np.zeros(facing.shape[1])
    for _ in range(min(keyframes, len(facing))):
        gain = (np.maximum(facing - best, 0) * worth).sum(axis=1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        best = np.maximum(best, facing[chosen[-1]])
    return sorted(chosen)


def guide(branches: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: [G, n, ...] → [n, ...]. G = 2: unconditional, conditional; G = 1: conditional only."""
    if len(branches) == 1:
        return branches[0]
    unconditional, conditional = branches
    return unconditional + guidance * (conditional - unconditional)


def predict_clean(scheduler: Any, x: Tensor, t: Tensor, prediction: Tensor) -> Tensor:
    """The clean latents that a prediction means, [n, C, h, w] like all tensors here but t: the timestep, perhaps a fraction.

    x: latents as the network saw them, √ᾱ x0 + √(1 − ᾱ) ε whatever the sampler's own scale is.
    """
    alphas = scheduler.alphas_cumprod.double()
    alpha = torch.tensor(np.interp(t.item(), np.arange(len(alphas)), alphas.numpy())).clamp(min=1e-4).float()
    signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return prediction
    return signal * x - noise * prediction if kind == "v_prediction" else (x - noise * prediction) / signal


def normalise_latents(latents: Tensor, background: Tensor) -> Tensor:
    """AdaIN of all frames toward the first, with statistics of background pixels only (section 4.4, latent normalisation).

    latents: [F, C, h, w]. background: bool [F, h, w]. A frame (or a first frame) with fewer than MIN_BACKGROUND background
    pixels stays as it is.
    """
    mask = background[:, None].to(latents.dtype)
    count = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (latents * mask).sum(dim=(2, 3), keepdim=True) / count
    std = (((latents - mean) * mask).square().sum(dim=(2, 3), keepdim=True) / count).sqrt().clamp(min=1e-6)
    normalised = (latents - mean) / std * std[:1] + mean[:1]
    enough = background.sum(dim=(1, 2)) >= MIN_BACKGROUND
    return torch.where((enough & enough[0])[:, None, None, None], normalised, latents)
