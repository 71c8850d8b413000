"""The sampler's side of a render, in float32: schedulers, keyframe schedule, latent normalisation."""

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


def make_inverse_scheduler(spec: ModelSpec, steps: int) -> Any:
    """DDIM run backwards (Song et al. 2021, section 4.3), from a clean picture to the noise that it is made from."""
    options = {"clip_sample": False, "timestep_spacing": "trailing"}
    scheduler = diffusers.DDIMInverseScheduler.from_config(make_scheduler(spec, steps).config, **options)
    scheduler.set_timesteps(steps)
    return scheduler


class GivenNoise(TorchFunctionMode):
    """Within it torch.randn returns what draw() does: diffusers' stochastic samplers have no other door for their noise."""

    def __init__(self, draw: Callable[[], Tensor]):
        super().__init__()
        self.draw = draw

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.draw() if func is torch.randn else func(*args, **(kwargs or {}))


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
    """K frames that together show as much as possible of what the clip shows, as well as it ever does; what shows most first.

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
    return chosen


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


Moments = tuple[Tensor, Tensor, Tensor]


def background_moments(latents: Tensor, background: Tensor) -> Moments:
    """Mean and standard deviation per frame and channel over background pixels, [n, C, 1, 1] each, and bool [n]: are these enough?

    latents: [n, C, h, w]. background: bool [n, h, w].
    """
    mask = background[:, None].to(latents.dtype)
    count = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (latents * mask).sum(dim=(2, 3), keepdim=True) / count
    std = (((latents - mean) * mask).square().sum(dim=(2, 3), keepdim=True) / count).sqrt().clamp(min=1e-6)
    return mean, std, background.sum(dim=(1, 2)) >= MIN_BACKGROUND


def normalise_latents(latents: Tensor, background: Tensor, first: Moments) -> Tensor:
    """AdaIN of frames toward the first, with statistics of background pixels only (section 4.4, latent normalisation).

    latents: [n, C, h, w]. background: bool [n, h, w]. first: the first frame's. A frame (or a first frame) with fewer than
    MIN_BACKGROUND background pixels stays as it is.
    """
    mean, std, enough = background_moments(latents, background)
    normalised = (latents - mean) / std * first[1] + first[0]
    return torch.where((enough & first[2])[:, None, None, None], normalised, latents)


class Clip:
    """The latents of all frames on their way from noise to picture, in chunks, each of which has a sampler of its own.

    A sampler's step is arithmetic element by element, so chunks that are stepped apart, each as soon as its prediction is there,
    become what all frames stepped together would, and nothing but the latents and the samplers' memory is held for the whole clip.

    scheduler: of diffusers, timesteps set and no step taken. latents: [F, C, h, w]. background: bool [n, h, w] of each chunk.
    size: frames of a chunk.
    """

    def __init__(self, scheduler: Any, latents: Tensor, background: Sequence[Tensor], size: int):
        self.latents, self.background, self.size = [*latents.split(size)], background, size
        self.samplers = [fresh_copy(scheduler) for _ in self.latents]
        self.begin_step(False)

    def seen(self, i: int, t: Tensor) -> Tensor:
        """What the network sees of chunk i, [n, C, h, w]."""
        return self.samplers[i].scale_model_input(self.latents[i], t)

    def frames_seen(self, frames: Sequence[int], t: Tensor) -> Tensor:
        """What the network sees of some frames, [n, C, h, w]."""
        return torch.stack([self.seen(frame // self.size, t)[frame % self.size] for frame in frames])

    def begin_step(self, adain: bool) -> None:
        """adain: are the latents normalised after it?"""
        self.adain, self.held = adain, set[int]()
        self.first: Moments | None = None

    def step(self, i: int, prediction: Tensor, t: Tensor, draw: Callable[[], Tensor]) -> set[int]:
        """Take chunk i a step on. Returns the chunks that are through the step thereby: where latents are normalised, all wait
        for the first frame.

        prediction: [n, C, h, w]. draw: the noise of all frames, [F, C, h, w], where the sampler wants any.
        """
        with GivenNoise(lambda: draw()[i * self.size :][: len(prediction)]):
            self.latents[i] = self.samplers[i].step(prediction, t, self.latents[i]).prev_sample
        if not self.adain:
            return {i}
        self.held.add(i)
        if i == 0:
            self.first = background_moments(self.latents[0][:1], self.background[0][:1])
        if self.first is None:
            return set()
        through, self.held = self.held, set()
        for j in through:
            self.latents[j] = normalise_latents(self.latents[j], self.background[j], self.first)
        return through


def fresh_copy(scheduler: Any) -> Any:
    """A scheduler that has taken no step, beside this one: the tables are shared, what steps remember is each one's own."""
    one = copy.copy(scheduler)
    vars(one).update({name: [*value] for name, value in vars(scheduler).items() if isinstance(value, list)})
    return one
