"""Everything that is done frame by frame, as pure functions of (plan, frames, inputs): the units of work of the farm."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from renderer.attention import Injection, KeyframeFeatures, KeyframePass, attended_keyframes
from renderer.exposure import overlaps
from renderer.manifest import frame_hash
from renderer.network import Network
from renderer.noise import hash_key, hashed_normal, screen_keys
from renderer.paint import coarse, paint
from renderer.plan import Plan
from renderer.sampling import guide, make_inverse_scheduler
from renderer.stage import Stage, same_stage
from renderer.unify import Sources, View, make_view, sources
from renderer.video import write_png

VIEWS = 768  # correspondences that stay on the network's device, one a frame and level; 2 MB is a large one


class NetworkCache:
    """Loaded networks of a worker: a model is loaded once, however many renders use it."""

    def __init__(self) -> None:
        self.loaded: dict[tuple, Network] = {}
        self.loads = 0

    def __call__(self, spec: Any, layers: str, device: str, dtype: str) -> Network:
        key = (spec, layers, device, dtype)
        if key not in self.loaded:
            self.loaded.clear()  # two models rarely fit where one does
            self.loaded[key] = Network(spec, layers, device, getattr(torch, dtype))
            self.loads += 1
        return self.loaded[key]


class FrameRenderer(Stage):
    """One render's frames on one worker: its scene, and a network that stays loaded when the render ends."""

    def __init__(self, plan: Plan, networks: NetworkCache, last: "FrameRenderer | None" = None):
        super().__init__(plan, last)
        self.networks = networks
        self.view: Callable[[int, int], View]
        if last is not None and same_stage(last.plan, plan):
            self.view = last.view
        else:
            self.view = functools.lru_cache(maxsize=VIEWS)(self._view)
        torch.set_num_threads(plan.threads)  # with a GPU, too: what is left to processors is small

    def background(self, frames: Sequence[int]) -> Tensor:
        """Where these frames show no hero, bool [n, h, w]."""
        return torch.from_numpy(np.stack([self.arrays(frame)["background"] for frame in frames]))

    def noise(self, frames: Sequence[int], draw: int) -> Tensor:
        """Standard normal noise [n, C, h, w] of these frames. draw: another number, another noise at the same places."""
        config, size = self.plan.config, self.plan.latent_size
        keys = {
            "uv": lambda frame: self.arrays(frame)["noise"],
            "inverted": lambda frame: self.arrays(frame)["noise"],
            "fixed": lambda frame: screen_keys(size),
            "random": lambda frame: screen_keys(size, frame),
        }[config.noise.kind]
        places = [hash_key(keys(frame), draw) if draw else keys(frame) for frame in frames]
        noise = [hashed_normal(keys, config.seed, self.plan.spec.latent_channels) for keys in places]
        return torch.from_numpy(np.stack(noise))

    def invert(self, frames: Sequence[int]) -> Tensor:
        """The noise [n, C, h, w] from which DDIM makes these frames' depth images, as methods that edit a video begin from theirs.

        A mesh has no video; depth is what all its clips have in common. Without guidance, which inversion does not survive.
        """
        scheduler = make_inverse_scheduler(self.plan.spec, self.plan.steps)
        padded = self.padded(frames)
        depth = torch.from_numpy(np.stack([self.arrays(frame)["control"] for frame in padded]))
        latents = self.network.encode(depth[:, None].expand(-1, 3, -1, -1))
        for t in scheduler.timesteps:
            prediction = self.evaluate(t.item(), padded, latents, None, self.prompt[:1])[0]
            latents = scheduler.step(prediction.float().cpu(), t, latents).prev_sample
        return latents[: len(frames)]

    def padded(self, frames: Sequence[int]) -> list[int]:
        """A chunk's worth of frames: the number of frames in a batch changes the last bits."""
        return [*frames, *[frames[-1]] * (self.plan.config.chunk - len(frames))]

    @functools.cached_property
    def network(self) -> Network:
        plan = self.plan
        return self.networks(plan.spec, plan.config.method.layers, plan.device, plan.dtype)

    @functools.cached_property
    def prompt(self) -> Tensor:
        config = self.plan.config
        return self.network.encode_prompt(config.prompt, config.negative_prompt, self.plan.guidance)

    def prepare(self) -> int:
        """Load the model and encode the prompt, so that no chunk waits for them; returns the models loaded here so far."""
        _ = self.prompt
        return self.networks.loads

    def keyframe_features(
        self, timestep: float, frames: Sequence[int], latents: Tensor, post: bool
    ) -> KeyframeFeatures:
        """The keyframe pass: extended attention among these frames; their pre- and, if wanted, post-attention tokens."""
        method, attended = self.plan.config.method, None
        if method.keys == "anchor+previous":
            attended = attended_keyframes(method.keys, frames, frames).to(self.network.device)
        sharing = KeyframePass(len(self.prompt), attended, method.sharpen, post)
        self.evaluate(timestep, frames, latents, sharing, self.prompt)
        return sharing.features

    def predict(
        self,
        timestep: float,
        frames: Sequence[int],
        latents: Tensor,
        keyframes: Sequence[int],
        features: Any,
        alpha: float,
    ) -> Tensor:
        """Guided prediction float32 [n, C, h, w] of a chunk.

        features: of these keyframes, None where every frame is alone. alpha: how much of the unified ones a frame takes.
        """
        padded = self.padded(frames)
        latents = torch.cat([latents, latents[-1:].expand(len(padded) - len(frames), -1, -1, -1)])
        sharing = None if features is None else self.injection(padded, keyframes, features, alpha)
        branches = self.evaluate(timestep, padded, latents, sharing, self.prompt)
        return guide(branches.float(), self.plan.guidance)[: len(frames)].cpu()

    def evaluate(
        self,
        timestep: float,
        frames: Sequence[int],
        latents: Tensor,
        sharing: KeyframePass | Injection | None,
        prompt: Tensor,
    ) -> Tensor:
        """Predictions [G, n, C, h, w] for a prompt [G, L, D]."""
        control = torch.from_numpy(np.stack([self.arrays(frame)["control"] for frame in frames]))
        scale = self.plan.config.model.control_scale
        return self.network.predict(latents, timestep, prompt, control, scale, sharing)

    def injection(
        self, frames: Sequence[int], keyframes: Sequence[int], features: KeyframeFeatures, alpha: float
    ) -> Injection:
        """What the keyframes give to these frames, where each level's pixels find it, and how much of it they take.

        features: on the network's device.
        """
        method, dtype = self.plan.config.method, self.network.dtype
        by_tokens = {}
        for level in self.plan.levels if alpha else ():
            by_tokens[int(np.prod(self.plan.level_size(level)))] = self.sources(frames, keyframes, level).to(dtype)
        attended = attended_keyframes(method.keys, frames, keyframes).to(self.network.device)
        return Injection(features, method.keys.startswith("own"), attended, by_tokens, alpha, method.sharpen)

    def sources(self, frames: Sequence[int], keyframes: Sequence[int], level: int) -> Sources:
        """Where the pixels of these frames find what the keyframes say about them."""
        views, key_views = ([self.view(frame, level) for frame in wanted] for wanted in (frames, keyframes))
        return sources(views, key_views, self.plan.config.method.unify)

    def _view(self, frame: int, level: int) -> View:
        table, camera = self.correspondence(frame, level), self.plan.cameras[frame]
        return make_view(table, frame, camera, self.geometry.heroes, self.network.device)

    def pictures(self, latents: Tensor) -> NDArray[np.uint8]:
        """The pictures uint8 [n, H, W, 3] of latents [n, C, h, w]."""
        return self.network.decode(latents)

    def overlaps(
        self, number: int, painters: Sequence[int], paints: NDArray[np.uint8]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
        """Where a painter shows heroes [H, W], and how much brighter they are in painters after it, see renderer/exposure.py.

        number: of the painter among the painters. paints: their pictures uint8 [K, H, W, 3].
        """
        shots = [self.painter(frame) for frame in painters]
        return shots[number].gbuffer.triangle >= 0, *overlaps(shots, paints, number, self.geometry)

    def decode(
        self,
        frames: Sequence[int],
        latents: Tensor,
        painters: Sequence[int],
        paints: NDArray[np.uint8],
        heroes: NDArray[np.bool_],
    ) -> list[str]:
        """Decode and write these frames' pictures; returns the sha256 of each one's pixels.

        painters: the frames that paint all others, the first ones on top, paints, their pictures uint8 [K, H, W, 3], and heroes
        [K, H, W], where these show any.
        """
        pictures = self.pictures(latents)
        if painters:
            made = zip(frames, pictures, strict=True)
            on_device, where = (torch.from_numpy(array).to(self.plan.device) for array in (paints, heroes))
            low = coarse(on_device, where)
            pictures = np.stack(
                [paint(picture, on_device, low, self.lookup(frame, painters)) for frame, picture in made]
            )
        # PNGs take three times as long as a GPU takes for their pictures.
        with ThreadPoolExecutor(self.plan.threads if self.plan.device == "cpu" else len(frames)) as pool:
            list(pool.map(write_png, map(self.plan.picture_path, frames), pictures))
            return list(pool.map(frame_hash, pictures))
