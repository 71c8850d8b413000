"""A render that goes on from a checkpoint is the render that was never interrupted, to the bit; what is no checkpoint is told."""

import sys
import types
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import QUIET, Quiet

from renderer.checkpoint import CheckpointError, Checkpoints, load, pack, write
from renderer.config import ModelConfig
from renderer.manifest import Books, new_manifest
from renderer.model import SCHEDULERS, model_spec
from renderer.plan import make_plan
from renderer.render import InlineExecutor, denoise, make_gbuffers, survey
from renderer.sampling import Clip, make_scheduler

OTHERS = (  # of several kinds of memory: lists, tensors, counters, two evaluations a step, noise of their own
    "DEISMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "IPNDMScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
)


def random(seed):
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def clip_of(scheduler):
    """Two frames, apart."""
    background = [torch.ones(1, 8, 8, dtype=torch.bool)] * 2
    return Clip(scheduler, random(99) * scheduler.init_noise_sigma, background, 1)


def steps(clip, timesteps, begin, end, after=lambda step: None):
    """Some steps of samplers whose model answers with noise. Returns the latents."""
    for step, t in list(enumerate(timesteps))[begin:end]:
        for i in range(2):
            prediction = random(step)[i : i + 1] + 0.1 * clip.seen(i, t)
            clip.step(i, prediction, t, partial(random, 100 + step))
        after(step + 1)
    return torch.cat(clip.latents)


@pytest.mark.parametrize("name", [*SCHEDULERS, *OTHERS])
def test_every_sampler_goes_on_as_if_nothing_had_happened(checkpoint, tmp_path, name):
    spec = model_spec(ModelConfig(name=str(checkpoint), scheduler=name))
    timesteps = make_scheduler(spec, 6).timesteps
    end = steps(clip_of(make_scheduler(spec, 6)), timesteps, 0, None)
    for stop in range(1, len(timesteps) + 1):
        path = tmp_path / f"{stop}.safetensors"
        first, second = (Checkpoints(path, "key", clip_of(make_scheduler(spec, 6)), pytest.fail) for _ in range(2))

        def save(step, checkpoints=first):
            checkpoints.save(step)
            checkpoints.settle()

        with first, second:
            latents = steps(first.clip, timesteps, 0, stop, save)
            assert second.resume() == stop
        assert torch.equal(torch.cat(second.clip.latents), latents)
        assert torch.equal(steps(second.clip, timesteps, stop, None), end)


class Interrupted(InlineExecutor):
    """Computes so many predictions, and counts them."""

    def __init__(self, last=None, limit=10**9):
        super().__init__()
        if last is not None:
            self.networks = last.networks
        self.limit, self.count = limit, 0

    def run(self, plan, method, arguments):
        for item in super().run(plan, method, arguments):
            self.count += method == "predict"
            if self.count > self.limit:
                raise KeyboardInterrupt
            yield item


@pytest.fixture(scope="module")
def ready(small, tmp_path_factory):
    """A plan for three steps of three chunks with its G-buffers on disk, an executor, and the latents of an undisturbed run."""
    executor = Interrupted()
    plan, _ = make_plan(small(), tmp_path_factory.mktemp("ready"), "cpu", 1)
    plan = replace(survey(plan, executor, QUIET), spec=replace(plan.spec, scheduler="unipc"))
    make_gbuffers(plan, executor, QUIET)
    return plan, executor, denoise(plan, executor, QUIET)


@pytest.fixture
def books(ready, tmp_path):
    """Of a render that begins: no checkpoint is there."""
    for path in ready[0].work.glob("*.safetensors"):
        path.unlink()
    return Books(tmp_path, new_manifest({"prompt": "", "seed": 3}, {}, "CPU", []))


def interrupt(ready, books):
    """A run that stops in its third step; returns the checkpoint's path."""
    with pytest.raises(KeyboardInterrupt):
        denoise(ready[0], Interrupted(ready[1], limit=7), QUIET, books)
    (path,) = ready[0].work.glob("*.safetensors")
    return path


def test_denoising_goes_on_after_its_last_whole_step(ready, books):
    plan, executor, undisturbed = ready
    interrupt(ready, books)
    again = Interrupted(executor)
    assert torch.equal(denoise(plan, again, QUIET, books), undisturbed)
    assert again.count == 3, "two of three steps were done"
    finished = Interrupted(executor)
    assert torch.equal(denoise(plan, finished, QUIET, books), undisturbed)
    assert finished.count == 0


def test_without_its_checkpoint_denoising_begins_anew_and_says_so(ready, books):
    path = interrupt(ready, books)
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    again, notes = Interrupted(ready[1]), []
    progress = Quiet()
    progress.note = notes.append
    assert torch.equal(denoise(ready[0], again, progress, books), ready[2])
    assert again.count == 9
    assert len(notes) == 1


@pytest.mark.parametrize("harm", ["cut", "empty", "another render's", "a bit", "no checkpoint", "a folder"])
def test_what_is_no_checkpoint_of_this_render_is_told_and_ignored(checkpoint, tmp_path, harm):
    path, notes = tmp_path / "a.safetensors", []
    key = "another" if harm == "another render's" else "key"
    write(path, *pack(key, 2, [random(0)], [{"model_outputs": [None, random(1)]}]))
    content = path.read_bytes()
    match harm:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.write_bytes(b"")
        case "a bit":
            path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
        case "no checkpoint":
            path.write_text("a shopping list")
        case "a folder":
            path.unlink()
            path.mkdir()
    clip = clip_of(make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler="unipc")), 6))
    latents = clip.latents
    assert Checkpoints(path, "key", clip, notes.append).resume() == 0
    assert clip.latents is latents
    assert clip.samplers[1].model_outputs == [None, None]
    (line,) = notes
    assert str(path) in line
    assert "\n" not in line


def test_whatever_happens_to_its_bytes_a_checkpoint_is_whole_or_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    state = {"ets": [random(1)[:1, :1, :2], None], "n": 3, "dt": 0.1, "seen": True, "scale": torch.tensor(2.0)}
    latents = random(0)[:, :1, :2]
    write(path, *pack("key", 7, [latents], [state]))
    content = path.read_bytes()
    step, (found,), (sampler,) = load(path, "key")
    assert (step, found.tolist(), list(sampler)) == (7, latents.tolist(), list(state))
    assert sampler["scale"].shape == ()
    assert [sampler[name] for name in ("n", "dt", "seen")] == [3, 0.1, True]
    harmed = [content[:n] for n in range(0, len(content), 7)]
    harmed += [content[:i] + bytes([content[i] ^ 0x11]) + content[i + 1 :] for i in range(len(content))]
    reasons = []
    for harm in harmed:
        path.write_bytes(harm)
        try:
            step, (found,), _ = load(path, "key")
            assert (step, found.tolist()) == (7, latents.tolist())  # a byte of the format that says nothing
        except CheckpointError as error:
            reasons.append(str(error))
    assert len(reasons) > 0.95 * len(harmed)
    assert not any("\n" in reason for reason in reasons)


def test_a_sampler_that_no_file_can_hold_has_no_checkpoints(tmp_path):
    clip, notes = types.SimpleNamespace(samplers=[types.SimpleNamespace()], latents=[random(0)]), []
    with Checkpoints(tmp_path / "a.safetensors", "key", clip, notes.append) as checkpoints:
        clip.samplers[0].noise = object()
        checkpoints.save(1)
        checkpoints.save(2)
    assert len(notes) == 1
    assert list(tmp_path.iterdir()) == []


FULL = """
import sys, torch
from pathlib import Path
from types import SimpleNamespace
from renderer.checkpoint import Checkpoints, load
from renderer.errors import RenderError

path = Path(sys.argv[1], "a.safetensors")

def run(*frames):
    clip = SimpleNamespace(samplers=[SimpleNamespace()])
    with Checkpoints(path, "key", clip, print) as checkpoints:
        for step, count in enumerate(frames, 1):
            checkpoints.settle()
            clip.latents = [torch.ones(count, 4, 64, 64)]
            checkpoints.save(step)

try:
    run(2, 64)
except RenderError as error:
    print(error)
assert load(path, "key")[0] == 1
assert [entry.name for entry in path.parent.iterdir()] == [path.name]
run(2, 2)
assert load(path, "key")[0] == 2
"""


def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(tmp_path, small_disk):
    done = small_disk(tmp_path, "1m", [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "No space left on device" in line
    assert "make room" in line
