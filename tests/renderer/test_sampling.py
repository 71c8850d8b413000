import copy

import numpy as np
import pytest
import torch

from renderer.config import ModelConfig
from renderer.model import SCHEDULERS, model_spec
from renderer.sampling import (
    MIN_BACKGROUND,
    GivenNoise,
    UnforeseenError,
    covering_keyframes,
    even_keyframes,
    foresee,
    guide,
    make_scheduler,
    normalise_latents,
    predict_clean,
    random_keyframes,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_all_frames_at_once_are_stepped_as_each_on_its_own(checkpoint, name):
    spec = model_spec(ModelConfig(name=str(checkpoint), scheduler=name))
    frames, steps = 3, 6
    together = make_scheduler(spec, steps)
    alone = [copy.deepcopy(together) for _ in range(frames)]
    latents = random(frames, 4, 8, 8) * together.init_noise_sigma
    single = list(latents.split(1))
    for step, t in enumerate(together.timesteps):
        prediction = random(frames, 4, 8, 8, seed=step + 1)
        scaled = together.scale_model_input(latents, t)
        for i, scheduler in enumerate(alone):
            assert torch.equal(scheduler.scale_model_input(single[i], t), scaled[i : i + 1])
            single[i] = scheduler.step(prediction[i : i + 1], t, single[i]).prev_sample
        latents = together.step(prediction, t, latents).prev_sample
        assert torch.equal(torch.cat(single), latents)
        assert latents.dtype == torch.float32
    assert latents.isfinite().all()


MORE_SCHEDULERS = (
    "DEISMultistepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
)
NOISY_SCHEDULERS = ("DDPMScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler")


@pytest.mark.parametrize("name", [*SCHEDULERS, *MORE_SCHEDULERS])
def test_some_frames_are_foreseen_to_the_bit(checkpoint, name):
    """At sizes that no vector unit divides, with the other frames' predictions unknown, and with latent normalisation."""
    scheduler = make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler=name)), 5)
    frames, chosen = 7, [0, 2, 3, 6]
    background = random(frames, 13, 9) > -1
    latents = random(frames, 4, 13, 9) * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(latents, t)
        prediction = random(frames, 4, 13, 9, seed=step + 1)
        known = torch.full_like(prediction, torch.nan)
        known[chosen] = prediction[chosen]
        apart, seen = foresee(scheduler, known, t, latents, chosen)
        latents = scheduler.step(prediction, t, latents).prev_sample
        assert torch.equal(seen, latents[chosen])
        latents = normalise_latents(latents, background)
        assert torch.equal(normalise_latents(seen, background[chosen]), latents[chosen])
        if step + 1 < len(scheduler.timesteps):
            t = scheduler.timesteps[step + 1]
            scaled = apart.scale_model_input(latents[chosen], t)
            assert torch.equal(scaled, scheduler.scale_model_input(latents, t)[chosen])


@pytest.mark.parametrize("name", NOISY_SCHEDULERS)
def test_a_step_that_draws_noise_is_not_foreseen(checkpoint, name):
    scheduler = make_scheduler(model_spec(ModelConfig(name=str(checkpoint), scheduler=name)), 5)
    latents, t = random(3, 4, 8, 8), scheduler.timesteps[0]
    scheduler.scale_model_input(latents, t)
    with pytest.raises(UnforeseenError):
        foresee(scheduler, latents, t, latents, [1])


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
