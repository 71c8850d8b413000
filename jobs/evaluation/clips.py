"""All measures of one finished render, from its folder: what the main job has measured, and what needs the scene again."""

import functools
import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farm.config import SubmitConfig
from jobs.evaluation.judge import Judge
from jobs.evaluation.measures import (
    depth_edges,
    edge_alignment,
    neighbour_correlation,
    overlap,
    psnr,
    sharpness,
    warp,
    warp_error,
)
from renderer.files import write_json
from renderer.frames import FrameRenderer, NetworkCache
from renderer.gbuffer import GBuffer
from renderer.manifest import read_manifest
from renderer.plan import Plan, make_plan
from renderer.render import InlineExecutor, survey
from renderer.stage import Stage
from renderer.video import read_png

NAME = "measures.json"
VERSION = 1  # of what is measured: other numbers are measured again
WARPS = ("warp_error", "warp_error_hero", "warp_error_world")
ENDS = 50  # frames at either end of a clip whose difference is its drift, or a quarter of it


@dataclass(frozen=True)
class Truth:
    """What a frame's pixels show: heroes' mask and depth edges bool [H, W], and where they were in the frame before."""

    hero: NDArray[np.bool_]
    edges: NDArray[np.bool_]
    before: tuple[NDArray[np.float32], NDArray[np.bool_]] | None


class TrueScene:
    """The geometry of a scene under its camera, frame by frame; clips of one scene share it."""

    def __init__(self, plan: Plan):
        self.plan, self.stage = plan, Stage(plan)
        self.gbuffer = functools.lru_cache(maxsize=4)(self._gbuffer)
        self.frame = functools.lru_cache(maxsize=256)(self._frame)

    def _gbuffer(self, frame: int) -> tuple[NDArray[np.float32], GBuffer]:
        vertices, caster = self.stage.pose(frame)
        return vertices, self.stage.gbuffer(frame, self.plan.size, vertices, caster)

    def _frame(self, frame: int) -> Truth:
        _, gbuffer = self.gbuffer(frame)
        before = None
        if frame:
            vertices, other = self.gbuffer(frame - 1)
            before = warp(gbuffer, other, self.stage.geometry, vertices)
        return Truth(gbuffer.triangle >= 0, depth_edges(gbuffer), before)


class Examiner:
    """Measures finished renders; remembers the scene that it saw last, as clips of one scene come one after the other.

    prompts: of the whole evaluation. Used by several threads.
    """

    def __init__(self, judge: Judge, prompts: Sequence[str]):
        self.judge, self.prompts = judge, list(prompts)
        self.scenes: dict[str, TrueScene] = {}
        self.whiteness: dict[str, float] = {}
        self.turn = threading.Lock()

    def measure(self, config: SubmitConfig, memory: float = nan) -> dict[str, Any]:
        """The measures of a render, from its folder where they lie there and are of these frames.

        memory: peak of the process that rendered it, MB. Returns {"row": {measure: number or list}, "frames": {measure:
        [a number for each frame]}}; None where a number has no meaning.
        """
        folder = Path(str(config.output.dir))
        manifest = read_manifest(folder)
        assert manifest is not None
        identity = [VERSION, manifest.render_hash, self.judge.name, self.prompts]
        with suppress(OSError, ValueError, KeyError):
            kept = json.loads((folder / NAME).read_text("utf-8"))
            if kept["identity"] == identity:
                return kept
        texture = json.loads((folder / "metrics.json").read_text("utf-8"))
        with self.turn:
            plan, _ = make_plan(config, folder, manifest.config["model"]["device"], config.farm.threads)
            seen = self.look(plan)
            noise = self.noise(plan)
        curves = texture.pop("per_frame")
        colour = np.array([[nan] * 3 if None in value else value for value in curves["colour"]], float)
        frames = {name: curves[name] for name in ("uv_mse", "uv_mse_mean", "detail")} | seen
        frames["colour"] = np.linalg.norm(colour, axis=1).tolist()
        row = {
            **{name: texture[name] for name in ("uv_mse", "uv_mse_mean", "uv_mse_normalised", "hero_coverage")},
            "detail_single": texture["detail"]["single"],
            "detail_mean": texture["detail"]["mean"],
            **{name.replace("error", "psnr"): psnr(mean(seen[name])) for name in WARPS},
            **{name: mean(seen[name]) for name in ("clip_consistency", "prompt_fidelity", "prompt_found")},
            **{name: mean(seen[name]) for name in ("silhouette_iou", "edge_alignment", "sharpness")},
            "drift_colour": float(np.linalg.norm(np.subtract(*ends(colour)))),
            **{f"drift_{name}": relative_drift(frames[name]) for name in ("detail", "sharpness", "prompt_fidelity")},
            "noise_correlation": noise,
            "seconds": sum(manifest.timings.get(phase, 0.0) for phase in ("denoising", "decoding")) / plan.frames,
            "memory": memory,
        }
        write_json(folder / NAME, {"identity": identity, "row": row, "frames": frames})
        return json.loads((folder / NAME).read_text("utf-8"))

    def look(self, plan: Plan) -> dict[str, list[float]]:
        """Measures of each finished picture, and of each beside the one before: NaN for the first."""
        wanted, own = self.judge.texts(self.prompts), self.prompts.index(plan.config.prompt)
        scene = self.scene(plan)
        curves: dict[str, list[float]] = {}
        last_embedding = last_picture = None
        for frames in plan.chunks():
            pictures = [read_png(plan.picture_path(frame)) for frame in frames]
            embeddings, silhouettes = self.judge.images(pictures), self.judge.silhouettes(pictures)
            likeness = embeddings @ wanted.T
            for i, frame in enumerate(frames):
                truth, picture = scene.frame(frame), pictures[i].astype(np.float32) / 255
                found = {
                    "prompt_fidelity": likeness[i, own].item(),
                    "prompt_found": float(likeness[i].argmax() == own) if len(self.prompts) > 1 else nan,
                    "clip_consistency": nan if last_embedding is None else (embeddings[i] @ last_embedding).item(),
                    "silhouette_iou": nan if silhouettes is None else overlap(silhouettes[i], truth.hero),
                    "edge_alignment": edge_alignment(picture, truth.edges),
                    "sharpness": sharpness(picture, truth.hero),
                    **warp_errors(picture, last_picture, truth),
                }
                for name, value in found.items():
                    curves.setdefault(name, []).append(value)
                last_embedding, last_picture = embeddings[i], picture
        return curves

    def scene(self, plan: Plan) -> TrueScene:
        key = repr((plan.config.scene, plan.config.fps, plan.frames, plan.size))
        if key not in self.scenes:
            self.scenes = {key: TrueScene(plan)}
        return self.scenes[key]

    def noise(self, plan: Plan) -> float:
        """Correlation of neighbouring values in the noise that a render starts from; 0: white."""
        config = plan.config
        key = repr((config.scene, config.fps, plan.frames, plan.latent_size, config.noise, config.seed))
        if key not in self.whiteness:
            with tempfile.TemporaryDirectory() as folder:
                alone = replace(plan, keyframes=0, work=Path(folder), stage=Path(folder))  # needs no correspondence
                surveyed = survey(alone, InlineExecutor(), Silent())
                picked = sorted({0, plan.frames // 3, 2 * plan.frames // 3, plan.frames - 1})
                noise = FrameRenderer(surveyed, NetworkCache()).noise(picked, 0)
            self.whiteness[key] = neighbour_correlation(noise.numpy())
        return self.whiteness[key]


def warp_errors(picture: NDArray[np.floating], last: NDArray[np.floating] | None, truth: Truth) -> dict[str, float]:
    """Mean squared differences from the frame before under true correspondence: of all, the heroes' and the other pixels."""
    if last is None or truth.before is None:
        return dict.fromkeys(WARPS, nan)
    xy, seen = truth.before
    masks = (seen, seen & truth.hero, seen & ~truth.hero)
    totals = [(warp_error(picture, last, xy, mask), mask.sum()) for mask in masks]
    return {name: float(total / n) if n else nan for name, (total, n) in zip(WARPS, totals, strict=True)}


class Silent:
    """Progress that nobody wants to know of."""

    def phase(self, name: str, total: int, done: int = 0) -> None: ...

    def advance(self, units: float = 1) -> None: ...

    def workers(self, workers: Sequence[Any]) -> None: ...

    def note(self, line: str) -> None: ...

    def log(self, line: str) -> None: ...


def mean(values: list[float]) -> float:
    """Mean of the numbers among them."""
    numbers = [value for value in values if value == value]
    return sum(numbers) / len(numbers) if numbers else nan


def ends(values: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Means of the last and of the first ENDS frames, or of a quarter where there are fewer. values: [F, ...]."""
    n = max(1, min(ENDS, len(values) // 4))
    for part in (values[-n:], values[:n]):
        known = part[np.isfinite(part).reshape(len(part), -1).all(axis=1)]
        yield known.mean(axis=0) if len(known) else np.full(values.shape[1:], np.nan)


def relative_drift(values: list[Any]) -> float:
    """By how much the last frames differ from the first, as a share of the first."""
    last, first = ends(np.array([np.nan if value is None else value for value in values], float))
    return float(last / first - 1) if first else nan
