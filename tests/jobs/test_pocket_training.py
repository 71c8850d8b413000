"""Training of the embedded model: the parts learn, a whole run ends in a folder that stock classes load."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobs.pocket import autoencoding, critic, diffusion, networks, team, tokenizer
from jobs.pocket.dataset import Dataset
from jobs.pocket.team import Team

ROOT = Path(__file__).parents[2]
ALONE = Team(1, 1, torch.device("cpu"), 0.0)  # rank 1: it logs nothing


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Four pictures' latents, control images and captions."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 4, 8, 8, generator=generator)
    control = torch.randint(256, (4, 1, 64, 64), generator=generator, dtype=torch.uint8)
    ids = torch.randint(90, (4, 1, tokenizer.TEXT_LENGTH), generator=generator, dtype=torch.int32)
    return latents, control, ids, torch.full((tokenizer.TEXT_LENGTH,), 99)


def loss(model, latents, control, ids) -> float:
    """Mean squared error of v at fixed noise and times."""
    signal = networks.scheduler().alphas_cumprod
    t = torch.tensor([200, 500, 800, 999])
    kept = signal[t].view(-1, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        found = model(
            kept.sqrt() * latents + (1 - kept).sqrt() * noise, t, ids[:, 0].long(), control.expand(-1, 3, -1, -1) / 255
        )
    return (found - (kept.sqrt() * noise - (1 - kept).sqrt() * latents)).square().mean().item()


def test_diffusion_learns_and_goes_on_where_it_was_interrupted(small, tmp_path, monkeypatch):
    latents, control, ids, empty = small
    monkeypatch.setattr(diffusion, "CHECKPOINT_EVERY", 4)
    monkeypatch.setattr(diffusion, "cosine", lambda *_: 1.0)
    leader = Team(0, 1, torch.device("cpu"), 0.0)
    file = tmp_path / "diffusion.pt"
    untrained = networks.Denoiser(100)
    run = lambda steps, checkpoint: diffusion.train(  # noqa: E731
        leader, latents, control, ids, empty, 100, 0, False, steps=steps, batch=4, checkpoint=checkpoint
    )
    trained = run(9, file)
    assert loss(trained, latents, control, ids) < loss(untrained, latents, control, ids)
    assert torch.load(file, weights_only=True)["step"] == 8
    resumed = run(9, file)
    for a, b in zip(trained.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


@pytest.fixture(scope="module")
def pictures():
    """Two pictures of noise with masks."""
    generator = torch.Generator().manual_seed(1)
    byte = lambda channels: torch.randint(256, (2, channels, 64, 64), generator=generator, dtype=torch.uint8)  # noqa: E731
    return Dataset(byte(3), byte(1), byte(1) > 127, torch.zeros(2, 7, dtype=torch.long))


def test_an_autoencoder_that_goes_on_keeps_its_latents(pictures, monkeypatch):
    monkeypatch.setattr(autoencoding, "BATCH", 2)
    monkeypatch.setattr(autoencoding, "CROP", 64)
    monkeypatch.setattr(autoencoding, "cosine", lambda *_: 1.0)
    before = networks.autoencoder()
    after = autoencoding.train(ALONE, pictures, networks.Critic().eval(), 0, False, 1, before.state_dict())
    for a, b in zip(before.encoder.parameters(), after.encoder.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(before.decoder.conv_out.weight, after.decoder.conv_out.weight)


def test_a_critic_goes_on_from_where_it_was(pictures, monkeypatch):
    monkeypatch.setattr(critic, "BATCH", 2)
    before = critic.train(ALONE, pictures, 0, steps=1)
    after = critic.train(ALONE, pictures, 0, steps=1, start=before.state_dict())
    change = (after.labels.weight - before.labels.weight).abs().max()
    assert 0 < change < 2 * critic.RATE  # one step of Adam


def test_rebuilt_pictures_keep_their_labels(pictures):
    twice = autoencoding.with_rebuilt(pictures, networks.autoencoder().eval())
    assert torch.equal(twice.images[:2], pictures.images)
    assert not torch.equal(twice.images[2:], pictures.images)
    assert torch.equal(twice.hero[2:], pictures.hero)


def test_gradients_of_the_network_that_runs_reach_the_one_that_learns():
    used = [torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(3)]
    learnt = [torch.nn.Parameter(torch.ones(3)) for _ in used]
    for factor in (2.0, 5.0):
        for u in used:
            u.grad = None
        (used[0] * factor + used[2]).sum().backward()
        diffusion.hand_over_gradients(used, learnt)
        assert learnt[0].grad.tolist() == [factor] * 3
        assert learnt[2].grad.tolist() == [1.0] * 3
        assert learnt[1].grad is None


def test_the_sampler_needs_no_guidance_at_one(small):
    latents, control, ids, empty = small
    model = networks.Denoiser(100).eval()
    arguments = (model, latents, ids[:, 0].long(), empty, control / 255, 2)
    plain = diffusion.sample(*arguments, 1.0)
    again = diffusion.sample(model, latents, ids[:, 0].long(), ids[0, 0].long(), control / 255, 2, 1.0)
    torch.testing.assert_close(plain, again, atol=1e-4, rtol=1e-4)


def test_stages_measure_their_steps():
    ticks = list(ALONE.steps(0.0))
    assert len(ticks) == team.WARM_UP + team.MEASURED + 1
    assert [step for step, _ in ALONE.steps(0, 5, 2)] == [2, 3, 4]
    rates = [team.cosine(step, 1000) for step in range(1000)]
    assert max(rates) == pytest.approx(1, abs=0.06)
    assert rates[0] < 0.01 > rates[-1]


def test_the_size_of_the_model():
    """Self-attention at every resolution on the way down and up, and all weights in 45 MB."""
    model = networks.Denoiser(1208)
    names = [n for n, _ in model.unet.named_modules() if n.endswith("attn1")]
    assert {n.split(".")[1] for n in names if n.startswith("down_blocks")} == {"0", "1", "2"}
    assert {n.split(".")[1] for n in names if n.startswith("up_blocks")} == {"0", "1", "2"}
    parts = [model, networks.autoencoder(), networks.judge(1208), networks.Critic()]
    assert sum(p.numel() for part in parts for p in part.parameters()) * 2 < 45e6


def test_a_mistyped_setting_is_one_line():
    run = subprocess.run(
        [sys.executable, "jobs/evaluate_pocket.py", "preset=big"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.strip().splitlines()[-1].startswith("preset=big: expected one of")
