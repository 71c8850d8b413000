import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import PER_FRAME, QUIET

from renderer.config import MethodConfig, NoiseConfig
from renderer.frames import FrameRenderer, NetworkCache
from renderer.manifest import frame_hash
from renderer.plan import make_plan
from renderer.render import InlineExecutor, decode, denoise, make_gbuffers, render, stochastic, survey
from renderer.sampling import make_scheduler
from renderer.video import read_png

NETWORKS = NetworkCache()  # one model for all tests of this file


class Inline(InlineExecutor):
    def __init__(self):
        super().__init__()
        self.networks = NETWORKS
        self.keyframes = []

    def keep(self, plan, method, arguments, readers):
        self.keyframes.append(arguments[1])
        return super().keep(plan, method, arguments, readers)


class Scattered(Inline):
    """Every call on a worker that has seen nothing before, and the last call first."""

    def run(self, plan, method, arguments):
        for position in reversed(range(len(arguments))):
            yield position, getattr(FrameRenderer(plan, self.networks), method)(*arguments[position])


def prepared(config, folder, executor):
    plan, _ = make_plan(config, folder, "cpu", 1)
    plan = survey(plan, executor, QUIET)
    make_gbuffers(plan, executor, QUIET)
    return plan


def run(config, folder, executor=None):
    """(sha256 of the frames, latents) of a render without its clips and sheets."""
    executor = executor or Inline()
    plan = prepared(config, folder, executor)
    latents = denoise(plan, executor, QUIET)
    return decode(plan, executor, QUIET, latents), latents


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """The small render: (sha256 of the frames, latents)."""
    return run(small(), tmp_path_factory.mktemp("finished"))


class Phases:
    """Progress that counts."""

    def __init__(self):
        self.names, self.totals, self.done = [], [], []

    def phase(self, name, total):
        self.names.append(name)
        self.totals.append(total)
        self.done.append(0.0)

    def advance(self, units=1):
        if self.done:  # the set-up has begun before the render does
            self.done[-1] += units


def test_a_whole_render_and_its_folder(small, finished, tmp_path):
    np.random.seed(5)
    torch.manual_seed(5)  # what else happens in the process does not matter
    plan, _ = make_plan(small(), tmp_path / "clip", "cpu", 1)
    phases = Phases()
    hashes = render(plan, tmp_path / "clip", Inline(), phases, compare=False)
    assert hashes == finished[0]
    assert len(set(hashes)) == 5
    for frame, sha256 in enumerate(hashes):
        picture = read_png(tmp_path / "clip" / "frames" / f"{frame:05d}.png")
        assert picture.shape == (64, 64, 3)
        assert frame_hash(picture) == sha256
    for name in ("video.mp4", "guides.mp4", "texture.mp4", "contact_sheet.png"):
        assert (tmp_path / "clip" / name).stat().st_size > 0, name
    metrics = json.loads((tmp_path / "clip" / "metrics.json").read_text())
    assert 0 < metrics["hero_coverage"] < 1
    assert metrics["uv_mse"] > 0
    assert phases.names == ["G-buffers", "denoising", "decoding", "writing"]
    assert phases.done == pytest.approx(phases.totals)


def test_nothing_depends_on_who_computes_a_chunk_or_when(small, finished, tmp_path):
    hashes, latents = run(small(), tmp_path, Scattered())
    assert torch.equal(latents, finished[1])
    assert hashes == finished[0]


def test_a_chunks_prediction_is_a_function_of_its_arguments(small, tmp_path):
    executor = Inline()
    plan = prepared(small(), tmp_path, executor)
    here, there = FrameRenderer(plan, NETWORKS), FrameRenderer(plan, NETWORKS)
    latents, keyframes = here.noise(range(5))[0], [1, 3]
    features = here.keyframe_features(500, keyframes, latents[keyframes])
    first = here.predict(500, (2, 3), latents[2:4], keyframes, features)
    for chunk in ((4,), (0, 1)):
        there.predict(300, chunk, latents[list(chunk)], keyframes, features)
    assert torch.equal(there.predict(500, (2, 3), latents[2:4], keyframes, features), first)
    again = there.keyframe_features(500, keyframes, latents[keyframes])
    assert all(torch.equal(a, b) for layer in features for a, b in zip(features[layer], again[layer], strict=True))


def test_a_short_chunk_is_padded_to_the_same_shape(small, tmp_path):
    """The last frame alone, or with a neighbour behind it: the same network batch but for what nobody reads."""
    plan = prepared(small(chunk=3), tmp_path, Inline())
    renderer = FrameRenderer(plan, NETWORKS)
    latents = renderer.noise(range(5))[0]
    short = renderer.predict(500, (3, 4), latents[3:], [], None)
    full = renderer.predict(500, (3, 4, 0), latents[[3, 4, 0]], [], None)
    assert short.shape == (2, 4, 8, 8)
    assert torch.equal(short, full[:2])


def test_files_that_vanish_on_the_way_are_made_again(small, finished, tmp_path):
    plan = prepared(small(), tmp_path, Inline())
    plan.arrays_path(1).unlink()
    plan.arrays_path(4).unlink()
    executor = Inline()
    assert decode(plan, executor, QUIET, denoise(plan, executor, QUIET)) == finished[0]


def test_without_keyframes_every_frame_is_on_its_own(small, finished, tmp_path):
    alone, latents = run(small(method=PER_FRAME), tmp_path / "a")
    nothing_shared = MethodConfig(pre=False, post=False, adain_until=0.0)
    assert run(small(method=nothing_shared), tmp_path / "b")[0] == alone
    never = MethodConfig(until=0.0, adain_until=0.0)
    assert torch.equal(run(small(method=never), tmp_path / "c")[1], latents)
    assert not set(alone) & set(finished[0])


@pytest.mark.parametrize(
    "change", [{"post": False}, {"pre": False}, {"alpha": 0.2}, {"unify": "mean"}, {"until": 0.5}, {"layers": "all"}]
)
def test_every_part_of_the_method_shows(small, finished, tmp_path, change):
    config = small()
    latents = run(replace(config, method=replace(config.method, **change)), tmp_path)[1]
    assert latents.isfinite().all()
    assert not torch.allclose(latents, finished[1], atol=1e-6)


def test_the_seed_and_the_prompt_show(small, finished, tmp_path):
    assert not set(run(small(seed=4), tmp_path / "a")[0]) & set(finished[0])
    assert not set(run(small(prompt="a clay toy"), tmp_path / "b")[0]) & set(finished[0])


@pytest.mark.parametrize(("frames", "keyframes", "chunk"), [(1, 4, 8), (3, 4, 2), (2, 2, 1)])
def test_short_clips(small, tmp_path, frames, keyframes, chunk):
    executor = Inline()
    config = small(frames=frames, chunk=chunk, method=MethodConfig(keyframes=keyframes), steps=2)
    hashes, latents = run(config, tmp_path, executor)
    assert len(hashes) == len(latents) == frames
    assert executor.keyframes == [list(range(min(frames, keyframes)))] * 2


def test_keyframes_are_drawn_anew_at_each_step(small, tmp_path):
    executor = Inline()
    run(small(frames=12, chunk=6, steps=6, method=MethodConfig(keyframes=3, until=0.5)), tmp_path, executor)
    assert len(executor.keyframes) == 3, "only in the first half of the steps"
    assert len({tuple(keyframes) for keyframes in executor.keyframes}) == 3


def test_latent_normalisation_where_there_is_background(small, tmp_path):
    """At 128² the background has enough latent pixels, and frames other than the first change."""
    config = small(resolution=128, frames=2, steps=2, noise=NoiseConfig(kind="random"))
    off = replace(config, method=replace(config.method, adain_until=0.0))
    on, off = run(config, tmp_path / "on")[1], run(off, tmp_path / "off")[1]
    assert not torch.allclose(on[1], off[1], atol=1e-4)


@pytest.mark.parametrize("scheduler", ["euler", "dpm++", "unipc", "EulerAncestralDiscreteScheduler"])
def test_any_sampler_and_twice_the_same(small, tmp_path, scheduler):
    config = small(frames=2)
    config = replace(config, model=replace(config.model, scheduler=scheduler))
    first, second = (run(config, tmp_path / name) for name in "ab")
    assert first[0] == second[0]
    assert first[1].isfinite().all()


def test_a_samplers_own_noise_is_a_function_of_seed_and_step(small, tmp_path):
    plan, _ = make_plan(small(), tmp_path, "cpu", 1)
    scheduler = make_scheduler(plan.spec, 2)
    draws = [torch.randn(4, **stochastic(scheduler, seed, step)) for seed, step in [(0, 0), (0, 0), (0, 1), (1, 0)]]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
