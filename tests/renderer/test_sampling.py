import copy

import numpy as np
import pytest
import torch

from renderer import sampling
from renderer.config import ModelConfig
from renderer.model import SCHEDULERS, model_spec
from renderer.sampling import (
    MIN_BACKGROUND,
    Clip,
    GivenNoise,
    background_moments,
    covering_keyframes,
    even_keyframes,
    guide,
    make_scheduler,
    predict_clean,
    random_keyframes,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def normalise_latents(latents, background):
    """Of a whole clip at once."""
    return sampling.normalise_latents(latents, background, background_moments(latents[:1], background[:1]))


MORE_SCHEDULERS = (
    "DEISMultistepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
)
NOISY_SCHEDULERS = ("DDPMScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler")


@pytest.mark.parametrize("name", [*SCHEDULERS, *MORE_SCHEDULERS, *NOISY_SCHEDULERS])
def test_chunks_in_any_order_are_stepped_as_all_frames_together(checkpoint, name):
    """To the bit, at sizes that no vector unit divides, with the sampler's noise and latent normalisation in half of the steps."""
    scheduler = make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler=name)), 5)
    frames, shuffle = 7, np.random.default_rng(0)
    background = random(frames, 13, 9) > -1
    latents = random(frames, 4, 13, 9) * scheduler.init_noise_sigma
    clip = Clip(copy.deepcopy(scheduler), latents, background.split(2), 2)
    for step, t in enumerate(scheduler.timesteps):
        prediction, noise = random(frames, 4, 13, 9, seed=step + 1), random(frames, 4, 13, 9, seed=step + 99)
        seen = scheduler.scale_model_input(latents, t)
        assert torch.equal(clip.frames_seen([6, 0, 3], t), seen[[6, 0, 3]])
        with GivenNoise(lambda noise=noise: noise):
            latents = scheduler.step(prediction, t, latents).prev_sample
        if step % 2:
            latents = normalise_latents(latents, background)
        clip.begin_step(adain=bool(step % 2))
        order, through = shuffle.permutation(4).tolist(), set()
        for position, i in enumerate(order):
            part = slice(2 * i, 2 * i + 2)
            through |= clip.step(i, prediction[part], t, lambda noise=noise: noise)
            before = set(order[: position + 1])
            assert through == (before if step % 2 == 0 or 0 in before else set())
        assert torch.equal(torch.cat(clip.latents), latents)
    assert latents.isfinite().all()
    assert latents.dtype == torch.float32


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_clean_latents_are_those_of_diffusers(checkpoint, name, kind):
    scheduler = make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler=name)), 6)
    scheduler.register_to_config(prediction_type=kind)
    latents, t = random(2, 4, 8, 8) * scheduler.init_noise_sigma, scheduler.timesteps[0]
    prediction = random(2, 4, 8, 8, seed=1)
    clean = predict_clean(scheduler, scheduler.scale_model_input(latents, t), t, prediction)
    out = scheduler.step(prediction, t, latents)
    if hasattr(out, "pred_original_sample"):
        expected = out.pred_original_sample
    else:
        scheduler = make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler=name)), 6)
        scheduler.register_to_config(prediction_type=kind)
        scheduler._init_step_index(t)
        expected = scheduler.convert_model_output(prediction, sample=latents)
    torch.testing.assert_close(clean, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_given_noise_is_what_an_ancestral_sampler_adds(checkpoint):
    scheduler = make_scheduler(
        model_spec(ModelConfig(name=str(checkpoint), scheduler="EulerAncestralDiscreteScheduler")), 4
    )
    latents, prediction, t = random(2, 4, 8, 8), random(2, 4, 8, 8, seed=1), scheduler.timesteps[0]
    results = []
    for noise in (torch.zeros_like(latents), random(2, 4, 8, 8, seed=2)):
        with GivenNoise(lambda noise=noise: noise):
            results.append(copy.deepcopy(scheduler).step(prediction, t, latents).prev_sample)
    sigma, following = scheduler.sigmas[:2]
    up = following * ((sigma**2 - following**2) / sigma**2) ** 0.5
    torch.testing.assert_close(results[1] - results[0], up * noise, atol=1e-4, rtol=1e-4)
    assert torch.randn(1).shape == (1,), "outside, torch draws as ever"


def test_schedulers_by_name(checkpoint):
    kinds = {}
    for name in [None, *SCHEDULERS, "HeunDiscreteScheduler"]:
        scheduler = make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler=name)), 4)
        kinds[name] = type(scheduler).__name__
        assert len(scheduler.timesteps) >= 4
        assert scheduler.config.beta_schedule == "scaled_linear", "the model's own settings stay"
    assert kinds[None] == kinds["ddim"] == "DDIMScheduler"
    assert kinds["dpm++"] == "DPMSolverMultistepScheduler"
    assert make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler="dpm++")), 4).config.use_karras_sigmas


def test_keyframes_are_a_function_of_seed_and_step():
    draws = {(seed, step): random_keyframes(seed, step, 24, 4) for seed in range(4) for step in range(50)}
    for (seed, step), keyframes in reversed(draws.items()):
        assert random_keyframes(seed, step, 24, 4) == keyframes
        assert len(set(keyframes)) == 4
        assert keyframes == sorted(keyframes)
        assert keyframes[0] >= 0
        assert keyframes[-1] < 24
    assert len(set(map(tuple, draws.values()))) > 190, "drawn anew at every step, and for every seed"
    counts = np.bincount(np.concatenate(list(draws.values())), minlength=24)
    assert counts.min() > 10, "every frame has its turn"


def test_more_keyframes_than_frames():
    assert random_keyframes(0, 0, 3, 4) == [0, 1, 2]
    assert random_keyframes(7, 5, 1, 4) == [0]


def test_even_keyframes_begin_with_the_first():
    assert even_keyframes(24, 1) == [0]
    assert even_keyframes(10, 3) == [0, 3, 6]
    assert even_keyframes(3, 8) == [0, 1, 2]


def test_covering_keyframes_see_the_most():
    facing = np.zeros((5, 9))
    facing[1, :5] = facing[3, 5:8] = 1.0
    facing[0, :3] = facing[2, 2:6] = facing[4, 8:] = 1.0
    assert covering_keyframes(facing, 1) == [1]
    assert covering_keyframes(facing, 2) == [1, 3]
    assert covering_keyframes(facing, 3) == [1, 3, 4]
    assert sorted(covering_keyframes(facing, 9)) == [0, 1, 2, 3, 4]
    assert covering_keyframes(facing * np.linspace(1, 9, 9), 2) == [1, 3], "not how well, but how well for that place"


def test_guidance():
    branches = random(2, 3, 4)
    assert torch.equal(guide(branches, 1.0), branches[0] + (branches[1] - branches[0]))
    torch.testing.assert_close(guide(branches, 7.5), branches[0] + 7.5 * (branches[1] - branches[0]))
    assert torch.equal(guide(branches[1:], 7.5), branches[1])


def statistics(latents, mask):
    """Mean and standard deviation per channel over a frame's masked pixels, [C] each."""
    pixels = latents[:, mask]
    return pixels.mean(dim=1), pixels.std(dim=1, unbiased=False)


@pytest.fixture
def clip():
    """Latents of five frames with different statistics, and a background that moves."""
    latents = random(5, 4, 12, 16) * (1 + torch.arange(5.0)).view(-1, 1, 1, 1) + random(5, 4, 1, 1, seed=1)
    background = torch.ones(5, 12, 16, dtype=torch.bool)
    for i in range(5):
        background[i, 2:9, i : i + 6] = False
    return latents, background


def test_background_statistics_become_those_of_the_first_frame(clip):
    latents, background = clip
    out = normalise_latents(latents, background)
    mean, std = statistics(latents[0], background[0])
    for i in range(5):
        torch.testing.assert_close(statistics(out[i], background[i])[0], mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(statistics(out[i], background[i])[1], std, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out[0], latents[0], atol=1e-5, rtol=1e-5)


def test_frames_with_equal_statistics_stay(clip):
    latents, background = clip
    same = latents[:1].expand(5, -1, -1, -1)
    torch.testing.assert_close(normalise_latents(same, background[:1].expand(5, -1, -1)), same, atol=1e-5, rtol=1e-5)


def test_a_hero_does_not_influence_the_background(clip):
    latents, background = clip
    hero = ~background[:, None]
    changed = normalise_latents(torch.where(hero, latents * 50 - 7, latents), background)
    torch.testing.assert_close(
        torch.where(hero, 0, changed),
        torch.where(hero, 0, normalise_latents(latents, background)),
        atol=1e-5,
        rtol=1e-5,
    )


def test_a_frame_is_normalised_by_itself(clip):
    latents, background = clip
    out = normalise_latents(latents, background)
    for i in range(1, 5):
        pair = torch.tensor([0, i])
        torch.testing.assert_close(normalise_latents(latents[pair], background[pair])[1], out[i])


def test_too_little_background_says_nothing(clip):
    latents, background = clip
    background[2] = False
    background[2].view(-1)[: MIN_BACKGROUND - 1] = True
    background[3] = False
    background[3].view(-1)[:MIN_BACKGROUND] = True
    out = normalise_latents(latents, background)
    assert torch.equal(out[2], latents[2])
    assert not torch.allclose(out[3], latents[3])
    background[0] = False
    assert torch.equal(normalise_latents(latents, background), latents), "nor of the first frame"


def test_a_constant_background_stays_finite(clip):
    latents, background = clip
    latents[1] = 0.5
    assert normalise_latents(latents, background).isfinite().all()
