"""The main job: from a plan to a folder with a clip. Who computes a chunk is the executor's business."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from renderer.arrays import load_arrays
from renderer.atlas import Texels
from renderer.checkpoint import Checkpoints
from renderer.config import NoiseConfig
from renderer.errors import SceneError
from renderer.export import export_texture
from renderer.exposure import compensate, expose
from renderer.frames import FrameRenderer, NetworkCache
from renderer.manifest import Books
from renderer.memory import within_memory
from renderer.outputs import write_outputs
from renderer.plan import Plan
from renderer.sampling import (
    Clip,
    covering_keyframes,
    even_keyframes,
    make_scheduler,
    predict_clean,
    random_keyframes,
)
from renderer.sheets import sheet_times
from renderer.stage import merge_surveys
from renderer.video import write_mp4

Turn = AbstractContextManager[Any]

PREVIEWS = (0.25, 0.5)  # shares of the steps after which a preview is made
PREVIEW_FRAMES = 8


class Executor(Protocol):
    """Runs methods of FrameRenderer, here or on a farm. Results never depend on where."""

    def prepare(self, plan: Plan) -> int:
        """Have everybody who computes load the scene and the model, so that no phase of the render waits for them. Returns how
        many models they have loaded so far."""
        ...

    def run(self, plan: Plan, method: str, arguments: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        """Call `method` once per argument tuple; yields (position, result) as they finish."""
        ...

    def keep(self, plan: Plan, method: str, arguments: tuple, readers: int) -> Any:
        """Call `method` once and leave the result with the workers. What is returned stands for it in later arguments,
        and may be used by `readers` calls; the result itself may be yet to come."""
        ...


class Progress(Protocol):
    """Who wants to know how far a render is."""

    def phase(self, name: str, total: int, done: int = 0) -> None: ...

    def advance(self, units: float = 1) -> None: ...

    def note(self, line: str) -> None: ...


class InlineExecutor:
    """Everything in this process, one call after the other."""

    def __init__(self) -> None:
        self.networks = NetworkCache()
        self.renderer: FrameRenderer | None = None

    def prepare(self, plan: Plan) -> int:
        return next(self.run(plan, "prepare", [()]))[1]

    def run(self, plan: Plan, method: str, arguments: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        for position, given in enumerate(arguments):
            yield position, within_memory(partial(self.resolve, plan, given), self.free, method)

    def resolve(self, plan: Plan, given: tuple) -> tuple[FrameRenderer, tuple]:
        if self.renderer is None or self.renderer.plan is not plan:
            self.renderer = FrameRenderer(plan, self.networks, self.renderer)
        return self.renderer, given

    def free(self) -> None:
        """Hold nothing that can be made again."""
        self.renderer = None
        self.networks.loaded.clear()

    def keep(self, plan: Plan, method: str, arguments: tuple, readers: int) -> Any:
        return next(self.run(plan, method, [arguments]))[1]


def render(
    plan: Plan,
    folder: Path,
    executor: Executor,
    progress: Progress,
    compare: bool,
    texture: bool,
    books: Books,
    turn: Turn,
) -> None:
    """A whole render, from the set-up that has begun to the files in its folder.

    compare: also render every frame on its own, for compare.mp4. texture: also export the clip's texture and a GLB that wears
    it. books: of this render; frames that they hold, and what an earlier run of it has left in the work folder, are not made
    again. turn: held while G-buffers are made, by one render at a time of those that share them.
    """
    plan = survey(plan, executor, progress)
    books.write(model_loads=executor.prepare(plan))
    progress.advance()
    with turn:
        make_gbuffers(plan, executor, progress)
    if len(books.hashes) < plan.frames:
        decode(
            plan, executor, progress, denoise(plan, executor, progress, books, partial(preview, plan, executor)), books
        )
    else:
        progress.phase("decoding", plan.frames, plan.frames)
    per_frame = render_per_frame(plan, executor, progress, books) if compare else None
    progress.phase("writing", plan.frames + 5 + compare + texture)
    texels = unwrap(plan, executor, progress)
    write_outputs(plan, texels, folder, progress.advance, per_frame)
    if texture:
        export_texture(plan, texels, folder)
        progress.advance()


def render_per_frame(plan: Plan, executor: Executor, progress: Progress, books: Books) -> Plan:
    """The same render with every frame on its own, from one noise, for the comparison. It looks at the same G-buffers."""
    method = replace(plan.config.method, name="per_frame", keyframes=0, adain_until=0.0, paint=0)
    config = replace(plan.config, method=method, noise=NoiseConfig(kind="fixed"))
    alone = replace(plan, config=config, keyframes=0, pictures=plan.work / "per_frame")
    decode(alone, executor, progress, denoise(alone, executor, progress, books))
    return alone


def survey(plan: Plan, executor: Executor, progress: Progress) -> Plan:
    """The plan that knows the whole clip. Raises SceneError where no hero is ever in view."""
    chunks = plan.chunks()
    surveys = dict(_advance(executor.run(plan, "survey", [(chunk,) for chunk in chunks]), progress))
    merged = merge_surveys([surveys[i] for i in range(len(chunks))], [len(chunk) for chunk in chunks])
    if merged.coverage == 0:
        raise SceneError(
            f"scene {plan.config.scene.name}: nothing of it is in view in any of the {plan.frames} frames; "
            "check scene.camera and the file's units"
        )
    return replace(plan, survey=merged)


def make_gbuffers(plan: Plan, executor: Executor, progress: Progress) -> None:
    """G-buffers and correspondence of all frames, into the render's work folder, as far as they are not there."""
    chunks = [chunk for chunk in plan.chunks() if not all(has_gbuffer(plan, frame) for frame in chunk)]
    progress.phase("G-buffers", plan.frames, plan.frames - sum(map(len, chunks)))
    for i, _ in executor.run(plan, "make_gbuffers", [(chunk,) for chunk in chunks]):
        progress.advance(len(chunks[i]))


def has_gbuffer(plan: Plan, frame: int) -> bool:
    """Do the files of a frame's G-buffer lie in the work folder, whole?"""
    try:
        load_arrays(plan.arrays_path(frame))
    except (OSError, ValueError):
        return False
    return plan.guide_path(frame).exists()


def denoise(
    plan: Plan,
    executor: Executor,
    progress: Progress,
    books: Books | None = None,
    show: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Noise to clean latents float32 [F, C, h, w]: the keyframe pass and all frames, step by step.

    Every chunk is stepped as soon as its prediction is there. The keyframes of a step are known before: their chunks go first in
    the step before, and once these are through, the next keyframe pass begins, beside the chunks that are left. Latent
    normalisation looks at the first frame, too, whose chunk then goes along.

    books: of the render whose checkpoint, in the work folder, this goes on from and renews after every step.
    show: given the predicted clean latents of the frames of `glance`, [n, C, h, w], after the steps of PREVIEWS.
    """
    method, chunks, size = plan.config.method, plan.chunks(), plan.config.chunk
    scheduler = make_scheduler(plan.spec, plan.steps)
    timesteps = scheduler.timesteps
    background = _in_order(executor.run(plan, "background", [(chunk,) for chunk in chunks]))
    chosen = even_keyframes(plan.frames, plan.keyframes) if method.choose == "even" else []
    if plan.keyframes and method.choose == "coverage":
        chosen = sorted(covering_frames(plan, executor, plan.keyframes))
    clip = Clip(scheduler, initial_noise(plan, executor, progress) * scheduler.init_noise_sigma, background, size)
    glances = [math.ceil(part * plan.steps) - 1 for part in PREVIEWS] if show else []

    with open_checkpoints(plan, clip, progress, books) as checkpoints:
        done = checkpoints.resume() if checkpoints else 0
        progress.phase("denoising", len(timesteps), done)
        features = None
        for step, t in enumerate(timesteps[done:], done):
            keyframes, upcoming = (keyframes_at(plan, scheduler, chosen, number) for number in (step, step + 1))
            if keyframes and features is None:
                features = share(plan, executor, clip, scheduler, step, keyframes)
            adain = step / len(timesteps) < method.adain_until
            alpha = alpha_at(plan, scheduler, step)
            awaited = {frame // size for frame in upcoming}
            order = sorted(range(len(chunks)), key=lambda i: i not in awaited and not (adain and i == 0))
            predictions = executor.run(
                plan, "predict", [(t.item(), chunks[i], clip.seen(i, t), keyframes, features, alpha) for i in order]
            )
            noise, clean, features = cache(partial(draw_noise, plan, executor, step + 1)), dict[int, Tensor](), None
            clip.begin_step(adain)
            for position, prediction in _advance(predictions, progress, 1 / len(chunks)):
                i = order[position]
                if checkpoints:
                    checkpoints.settle()  # what it writes is about to change
                if step in glances:
                    found = predict_clean(scheduler, clip.seen(i, t), t, prediction)
                    clean |= {frame: found[frame % size].clone() for frame in glance(plan) if frame in chunks[i]}
                awaited -= clip.step(i, prediction, t, noise)
                if upcoming and features is None and not awaited:
                    features = share(plan, executor, clip, scheduler, step + 1, upcoming)
            if show and clean:
                show(torch.stack([clean[frame] for frame in glance(plan)]))
            if checkpoints:
                checkpoints.save(step + 1)
    clip.samplers.clear()  # the latents are about to lie here twice
    return torch.cat(clip.latents)


def keyframes_at(plan: Plan, scheduler: Any, chosen: list[int], step: int) -> list[int]:
    """The keyframes of a step, none where every frame is on its own. chosen: those of all steps, if any are."""
    steps = len(scheduler.timesteps)
    if not plan.keyframes or step >= steps or step / steps >= plan.config.method.until:
        return []
    return chosen or random_keyframes(plan.config.seed, step, plan.frames, plan.keyframes)


def alpha_at(plan: Plan, scheduler: Any, step: int) -> float:
    """How much of the unified features a frame takes in a step."""
    method = plan.config.method
    return method.alpha if step / len(scheduler.timesteps) < method.alpha_until else 0.0


def share(plan: Plan, executor: Executor, clip: Clip, scheduler: Any, step: int, keyframes: list[int]) -> Any:
    """The keyframes' features of a step for all chunks."""
    t = scheduler.timesteps[step]
    call = (t.item(), keyframes, clip.frames_seen(keyframes, t), alpha_at(plan, scheduler, step) > 0)
    return executor.keep(plan, "keyframe_features", call, len(plan.chunks()))


def glance(plan: Plan) -> list[int]:
    """Some frames, spread over all of them."""
    return sheet_times(plan.frames, PREVIEW_FRAMES)


def preview(plan: Plan, executor: Executor, latents: Tensor) -> None:
    """Write a clip of the frames of `glance`, latents [n, C, h, w]: it costs the same however long the render is."""
    pictures = draw_pictures(plan, executor, latents)
    write_mp4(plan.preview_path, pictures, plan.config.fps * len(latents) / plan.frames)


def draw_pictures(plan: Plan, executor: Executor, latents: Tensor) -> NDArray[np.uint8]:
    """The pictures uint8 [n, H, W, 3] of some frames' latents [n, C, h, w]."""
    calls = [(part,) for part in latents.split(plan.config.chunk)] if len(latents) else []
    parts = _in_order(executor.run(plan, "pictures", calls))
    return np.concatenate(parts) if parts else np.zeros((0, plan.size[1], plan.size[0], 3), np.uint8)


def initial_noise(plan: Plan, executor: Executor, progress: Progress) -> Tensor:
    """What all frames begin as, float32 [F, C, h, w]."""
    if plan.config.noise.kind != "inverted":
        return draw_noise(plan, executor, 0)
    chunks = plan.chunks()
    progress.phase("inversion", len(chunks))
    return torch.cat(_in_order(_advance(executor.run(plan, "invert", [(chunk,) for chunk in chunks]), progress)))


def draw_noise(plan: Plan, executor: Executor, draw: int) -> Tensor:
    """Noise of all frames, float32 [F, C, h, w]: what they begin as (0), or what a stochastic sampler adds in step draw - 1."""
    return torch.cat(_in_order(executor.run(plan, "noise", [(chunk, draw) for chunk in plan.chunks()])))


def covering_frames(plan: Plan, executor: Executor, count: int) -> list[int]:
    """So many frames that together show the most, those that show more first."""
    facing = _in_order(executor.run(plan, "facing", [(chunk,) for chunk in plan.chunks()]))
    return covering_keyframes(np.concatenate(facing), count)


def open_checkpoints(
    plan: Plan, clip: Clip, progress: Progress, books: Books | None
) -> AbstractContextManager[Checkpoints | None]:
    """Where the steps of this plan are kept; nowhere without books."""
    if books is None:
        return nullcontext()
    path = plan.work / f"{plan.pictures.name}.safetensors"
    return Checkpoints(path, books.manifest.render_hash, clip, progress.note)


def decode(
    plan: Plan, executor: Executor, progress: Progress, latents: Tensor, books: Books | None = None
) -> list[str]:
    """Write all frames' pictures; returns the sha256 of each one's pixels.

    books: learn of every chunk as it finishes; chunks whose frames they hold are left as they are.
    """
    hashes = dict(books.hashes) if books else {}
    chunks = [chunk for chunk in plan.chunks() if not all(frame in hashes for frame in chunk)]
    progress.phase("decoding", plan.frames, plan.frames - sum(map(len, chunks)))
    count = plan.config.method.paint
    painters = covering_frames(plan, executor, count) if chunks and count else []
    paints, heroes = agreed(plan, executor, painters, draw_pictures(plan, executor, latents[painters]))
    calls = [(chunk, latents[list(chunk)], painters, paints, heroes) for chunk in chunks]
    try:
        for i, found in executor.run(plan, "decode", calls):
            made = list(zip(chunks[i], found, strict=True))
            hashes |= made
            if books:
                books.add(made)
            progress.advance(len(chunks[i]))
    finally:
        if books:
            books.write()
    return [hashes[frame] for frame in range(plan.frames)]


def agreed(
    plan: Plan, executor: Executor, painters: Sequence[int], paints: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The painters' pictures uint8 [K, H, W, 3] with heroes whose colours agree, and where they show heroes [K, H, W]."""
    if not painters:
        return paints, np.zeros(paints.shape[:3], bool)
    calls = [(number, painters, paints) for number in range(len(painters))]
    heroes, *found = map(np.stack, zip(*_in_order(executor.run(plan, "overlaps", calls)), strict=True))
    return np.stack([expose(*one) for one in zip(paints, heroes, compensate(*found), strict=True)]), heroes


def unwrap(plan: Plan, executor: Executor, progress: Progress) -> Texels:
    """The texture of every finished frame, into the render's work folder; returns the texels that it is made of."""
    chunks = plan.chunks()
    for i, _ in executor.run(plan, "unwrap", [(chunk,) for chunk in chunks]):
        progress.advance(len(chunks[i]))
    ((_, texels),) = executor.run(plan, "picture_texels", [()])
    return texels


def _in_order(results: Iterator[tuple[int, Any]]) -> list[Any]:
    return [result for _, result in sorted(results, key=lambda item: item[0])]


def _advance(results: Iterator[tuple[int, Any]], progress: Progress, units: float = 1) -> Iterator[tuple[int, Any]]:
    for result in results:
        progress.advance(units)
        yield result
