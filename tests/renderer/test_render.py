import json
from contextlib import nullcontext
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from conftest import PAPER, PER_FRAME, QUIET

from renderer.config import NoiseConfig
from renderer.frames import FrameRenderer, NetworkCache
from renderer.manifest import Books, frame_hash, new_manifest
from renderer.plan import feature_bytes, make_plan
from renderer.render import (
    PREVIEW_FRAMES,
    InlineExecutor,
    decode,
    denoise,
    glance,
    make_gbuffers,
    preview,
    render,
    survey,
)
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
    """Calls in reverse order, on two workers by turns."""

    def __init__(self):
        super().__init__()
        self.workers = {}

    def run(self, plan, method, arguments):
        for position in reversed(range(len(arguments))):
            key = id(plan), position % 2
            if key not in self.workers:
                self.workers[key] = FrameRenderer(plan, self.networks)
            yield position, getattr(self.workers[key], method)(*arguments[position])


class Watched(Inline):
    """Writes down in which order chunks are computed and keyframe passes asked for: (timestep, frames)."""

    def __init__(self):
        super().__init__()
        self.log = []

    def run(self, plan, method, arguments):
        for position, value in super().run(plan, method, arguments):
            if method == "predict":
                self.log.append(("chunk", arguments[position][0], arguments[position][1]))
            yield position, value

    def keep(self, plan, method, arguments, readers):
        self.log.append(("keyframes", *arguments[:2]))
        return InlineExecutor.keep(self, plan, method, arguments, readers)


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
def ready(small, tmp_path_factory):
    """The plan of the small render, with its per-frame files on disk."""
    return prepared(small(), tmp_path_factory.mktemp("finished"), Inline())


@pytest.fixture(scope="module")
def finished(ready):
    """The small render: (sha256 of the frames, latents)."""
    executor = Inline()
    latents = denoise(ready, executor, QUIET)
    return decode(ready, executor, QUIET, latents), latents


def changed(plan, method=None, **config):
    """Latents of a render that differs from `plan` in what its per-frame files do not depend on."""
    config = replace(plan.config, **config, method=replace(plan.config.method, **(method or {})))
    return denoise(replace(plan, config=config), Inline(), QUIET)


class Phases:
    """Progress that counts."""

    def __init__(self):
        self.names, self.totals, self.done = [], [], []

    def phase(self, name, total, done=0):
        self.names.append(name)
        self.totals.append(total)
        self.done.append(done)

    def advance(self, units=1):
        if self.done:  # the set-up has begun before the render does
            self.done[-1] += units

    def note(self, line):
        raise AssertionError(line)


def test_a_whole_render_and_its_folder(small, finished, tmp_path):
    np.random.seed(5)
    torch.manual_seed(5)  # what else happens in the process does not matter
    plan, _ = make_plan(small(), tmp_path / "clip", "cpu", 1)
    phases = Phases()
    books = Books(tmp_path / "clip", new_manifest({"prompt": "", "seed": 0}, {}, "CPU", []))
    render(plan, tmp_path / "clip", Inline(), phases, compare=False, texture=False, books=books, turn=nullcontext())
    hashes = [sha256 for _, sha256 in sorted(books.hashes.items())]
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


@pytest.mark.parametrize("frames", [1, 5, 20])
def test_previews_of_any_length_take_one_glance(small, tmp_path, frames):
    """What is shown at half of the steps is the clip that half of the noise hides, in as many seconds."""
    config = small(frames=frames, resolution=64, steps=4)
    plan, shown = prepared(config, tmp_path, Inline()), []
    latents = denoise(plan, Inline(), QUIET, show=shown.append)
    seen = latents[glance(plan)]
    assert [clean.shape for clean in shown] == [seen.shape] * 2
    distances = [(clean - seen).square().mean() for clean in shown]
    assert distances[1] < distances[0]
    preview(plan, Inline(), shown[0])
    with av.open(str(plan.preview_path)) as clip:
        pictures = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert clip.duration / av.time_base == pytest.approx(frames / config.fps, rel=0.05)
    assert len(pictures) == min(frames, PREVIEW_FRAMES)
    expected = Inline().networks(plan.spec, plan.config.method.layers, "cpu", "float32").decode(shown[0][-1:])
    assert np.abs(pictures[-1].astype(float) - expected[0]).mean() < 20  # what compression leaves of it


def test_nothing_depends_on_who_computes_a_chunk_or_when(small, finished, tmp_path):
    hashes, latents = run(small(), tmp_path, Scattered())
    assert torch.equal(latents, finished[1])
    assert hashes == finished[0]


def test_a_chunks_prediction_is_a_function_of_its_arguments(ready):
    here, there = FrameRenderer(ready, NETWORKS), FrameRenderer(ready, NETWORKS)
    latents, keyframes = here.noise(range(5), 0), [1, 3]
    features = here.keyframe_features(500, keyframes, latents[keyframes], True)
    first = here.predict(500, (2, 3), latents[2:4], keyframes, features, 0.6)
    for chunk in ((4,), (0, 1)):
        there.predict(300, chunk, latents[list(chunk)], keyframes, features, 0.6)
    assert torch.equal(there.predict(500, (2, 3), latents[2:4], keyframes, features, 0.6), first)
    again = there.keyframe_features(500, keyframes, latents[keyframes], True)
    assert all(torch.equal(a, b) for layer in features for a, b in zip(features[layer], again[layer], strict=True))


def test_a_short_chunk_is_padded_to_the_same_shape(ready):
    """The last frame alone, or with a neighbour behind it: the same network batch but for what nobody reads."""
    renderer = FrameRenderer(ready, NETWORKS)
    latents = renderer.noise(range(5), 0)
    short = renderer.predict(500, (4,), latents[4:], [], None, 0.0)
    full = renderer.predict(500, (4, 0), latents[[4, 0]], [], None, 0.0)
    assert short.shape == (1, 4, 8, 8)
    assert torch.equal(short, full[:1])


def test_files_that_vanish_on_the_way_are_made_again(ready, finished):
    ready.arrays_path(1).unlink()
    ready.arrays_path(4).unlink()
    executor = Inline()
    assert decode(ready, executor, QUIET, denoise(ready, executor, QUIET)) == finished[0]
    assert ready.arrays_path(1).exists()


def test_without_keyframes_every_frame_is_on_its_own(small, ready, finished, tmp_path):
    alone = run(small(method=PER_FRAME), tmp_path)[1]
    never = changed(ready, {"until": 0.0, "adain_until": 0.0})
    assert torch.equal(alone, never)
    assert not torch.allclose(alone, finished[1], atol=1e-6)


CHANGES = [
    {"alpha": 0.0},
    {"alpha": 0.2},
    {"keys": "own"},
    {"keys": "keyframes"},
    {"keys": "anchor+previous"},
    {"unify": "mean"},
    {"unify": "adjacent"},
    {"unify": "facing"},
    {"choose": "even"},
    {"choose": "coverage"},
    {"alpha_until": 0.5},
    {"until": 0.5},
    {"sharpen": 0.5},
    {"layers": "all"},
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_part_of_the_method_shows(ready, finished, change):
    latents = changed(ready, change)
    assert latents.isfinite().all()
    assert not torch.allclose(latents, finished[1], atol=1e-6)


def test_the_seed_and_the_prompts_show(ready, finished):
    for change in ({"seed": 4}, {"prompt": "a clay toy"}, {"negative_prompt": "grey"}):
        assert not torch.allclose(changed(ready, **change), finished[1], atol=1e-6)


@pytest.mark.parametrize(("frames", "keyframes", "chunk"), [(1, 4, 8), (3, 4, 2), (2, 2, 1)])
def test_short_clips(small, tmp_path, frames, keyframes, chunk):
    executor = Inline()
    config = small(frames=frames, chunk=chunk, method=replace(PAPER, keyframes=keyframes), steps=2)
    hashes, latents = run(config, tmp_path, executor)
    assert len(hashes) == len(latents) == frames
    assert executor.keyframes == [list(range(min(frames, keyframes)))] * 2


def test_keyframes_are_drawn_anew_at_each_step(small, tmp_path):
    executor = Inline()
    run(small(frames=8, chunk=8, steps=6, method=replace(PAPER, keyframes=3, until=0.5)), tmp_path, executor)
    assert len(executor.keyframes) == 3, "only in the first half of the steps"
    assert len({tuple(keyframes) for keyframes in executor.keyframes}) == 3


def test_latent_normalisation_where_there_is_background(small, tmp_path):
    """At 128² the background has enough latent pixels, and frames other than the first change."""
    config = small(resolution=128, frames=2, steps=2, noise=NoiseConfig(kind="random"))
    off = replace(config, method=replace(config.method, adain_until=0.0))
    on, off = run(config, tmp_path / "on")[1], run(off, tmp_path / "off")[1]
    assert not torch.allclose(on[1], off[1], atol=1e-4)


@pytest.mark.parametrize("scheduler", ["euler", "dpm++", "unipc", "EulerAncestralDiscreteScheduler"])
def test_any_sampler_and_twice_the_same(ready, finished, scheduler):
    plan, executor = replace(ready, spec=replace(ready.spec, scheduler=scheduler)), Inline()
    latents = denoise(plan, executor, QUIET)
    assert latents.isfinite().all()
    assert not torch.allclose(latents, finished[1], atol=1e-4)
    assert torch.equal(denoise(plan, executor, QUIET), latents)


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "LCMScheduler", "DDPMScheduler"])
def test_a_samplers_own_noise_is_that_of_the_surfaces(ready, scheduler):
    """Every frame draws the noise of the places that it shows, anew at each step; no frame's depends on how many there are."""
    plan, drawn = replace(ready, spec=replace(ready.spec, scheduler=scheduler)), []

    class Watched(Inline):
        def run(self, plan, method, arguments):
            if method == "noise":
                drawn.extend(draw for _, draw in arguments)
            return super().run(plan, method, arguments)

    latents = denoise(plan, Watched(), QUIET)
    assert set(drawn) >= {0, 1, 2}
    assert len(drawn) == len(set(drawn)) * len(plan.chunks())
    assert torch.equal(denoise(plan, Scattered(), QUIET), latents)


@pytest.mark.parametrize("scheduler", ["dpm++", "EulerAncestralDiscreteScheduler"])
def test_the_next_keyframe_pass_begins_as_soon_as_it_can(small, tmp_path, scheduler):
    """Once its keyframes and the first frame are through a step; no bit depends on when."""
    model = replace(small().model, scheduler=scheduler)
    config = small(frames=12, steps=8, model=model)
    executor = Watched()
    plan = prepared(config, tmp_path, executor)
    found = denoise(plan, executor, QUIET)
    early = []
    for step in range(1, 8):
        position = [i for i, entry in enumerate(executor.log) if entry[0] == "keyframes"][step]
        keyframes = executor.log[position][2]
        before = [chunk for kind, _, chunk in executor.log[:position] if kind == "chunk"][6 * (step - 1) :]
        needed = {frame // 2 for frame in keyframes} | ({0} if step <= 4 else set())
        early.append(len(before) == len(needed) < 6)
        assert sorted({frame // 2 for chunk in before for frame in chunk}) == sorted(needed) or len(before) == 6
    assert all(early)
    assert torch.equal(denoise(plan, Scattered(), QUIET), found)


def test_painted_pictures_are_the_same_whoever_paints_them(ready, finished):
    """Only pictures change, those of frames that see what a painter sees; each a function of its chunk and the painters'."""
    config = replace(ready.config, method=replace(ready.config.method, paint=2))
    plan = replace(ready, config=config)
    hashes = decode(plan, Inline(), QUIET, finished[1])
    assert len(set(hashes) & set(finished[0])) < 3
    assert decode(plan, Scattered(), QUIET, finished[1]) == hashes


@pytest.mark.parametrize(
    ("layers", "guidance", "alpha"),
    [("decoder", 3.0, 0.6), ("all", 3.0, 0.6), ("decoder", 1.0, 0.6), ("all", 3.0, 0.0)],
)
def test_the_features_size_is_foreseen(small, tmp_path, layers, guidance, alpha):
    """At a size whose coarser grids are rounded up."""
    method = replace(small().method, layers=layers, keyframes=3, alpha=alpha)
    executor = Inline()
    plan = prepared(small(method=method, guidance=guidance, resolution=[72, 64]), tmp_path, executor)
    features = executor.keep(plan, "keyframe_features", (500, [0, 1, 2], torch.zeros(3, 4, 8, 9), alpha > 0), 1)
    assert sum(tensor.nbytes for pair in features.values() for tensor in pair) == feature_bytes(plan)
