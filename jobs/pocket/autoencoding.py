"""Training of the autoencoder: reconstruction, the critic's features, and a patch discriminator towards the end."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket import networks
from jobs.pocket.dataset import Dataset
from jobs.pocket.networks import Critic
from jobs.pocket.team import Team, cosine

BATCH, CROP, RATE = 96, 128, 7e-4  # a GPU's share
PERCEPTUAL, KL = 0.2, 2e-4
ADVERSARIAL = 0.2  # norm of the discriminator's gradient in the picture, relative to the reconstruction's
ADVERSARY_FROM = 0.5  # it joins at this progress: before, there is nothing for it to refine


def crops(data: Dataset, device: torch.device) -> Tensor:
    """Random crops [BATCH, 3, CROP, CROP] in [0, 1] on the latents' grid."""
    rows = torch.randint(len(data), (BATCH,), device=device)
    room = data.images.shape[-1] - CROP
    y, x = (int(i) * networks.LATENT_SCALE for i in torch.randint(room // networks.LATENT_SCALE + 1, (2,)))
    part = data.images[rows, :, y : y + CROP, x : x + CROP]
    part = part.flip(-1) if torch.rand(()) < 0.5 else part
    return part.float().div_(255).contiguous(memory_format=torch.channels_last)


def gradient_size(error: Tensor) -> Tensor:
    return (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()


def reconstruction_loss(found: Tensor, true: Tensor) -> Tensor:
    error = found - true
    return (
        error.abs().mean()
        + 3 * error.square().mean()
        + 0.5 * gradient_size(error)
        + 0.5 * gradient_size(F.avg_pool2d(error, 2))
    )


def perceptual_loss(critic: Critic, found: Tensor, true: Tensor) -> Tensor:
    """Distance of the critic's features, normalised per position (after LPIPS)."""
    unit = lambda f: f.float() / (f.float().square().sum(1, keepdim=True) + 1e-4).sqrt()  # noqa: E731
    return sum(
        (unit(a) - unit(b)).square().sum(1).mean()
        for a, b in zip(critic.features(found), critic.features(true), strict=True)
    )


def forward(vae: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction in [0, 1] from sampled latents, and the posterior's mean and log variance."""
    posterior = vae.encode(images * 2 - 1).latent_dist
    latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
    return vae.decode(latents).sample * 0.5 + 0.5, posterior.mean, posterior.logvar


def train(
    team: Team,
    data: Dataset,
    critic: Critic,
    seconds: float,
    compile_model: bool,
    steps: int = 0,
    start: dict | None = None,
) -> Any:
    """start: the state of an earlier autoencoder, whose decoder goes on at half the learning rate; its latents stay as they are,
    and a denoiser of theirs stays one."""
    torch.manual_seed(0)
    vae = networks.placed(networks.autoencoder(), team.device)
    rate = RATE
    if start is not None:
        vae.load_state_dict(start)
        vae.encoder.requires_grad_(False)
        rate /= 2
    adversary = networks.placed(networks.Discriminator(), team.device)
    run = torch.compile(forward) if compile_model else forward
    parameters, rivals = [p for p in vae.parameters() if p.requires_grad], list(adversary.parameters())
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=1e-3)
    rival_optimizer = torch.optim.AdamW(rivals, 3e-4, betas=(0.5, 0.9))
    torch.manual_seed(300 + team.rank)
    half = lambda: torch.autocast(team.device.type, dtype=torch.bfloat16)  # noqa: E731
    for step, total in team.steps(seconds, steps):
        progress = step / total if total else 0.0
        for group in optimizer.param_groups:
            group["lr"] = rate * cosine(step, total)
        images = crops(data, team.device)
        with half():
            found, mean, log_variance = run(vae, images)
        picture = found.float().detach().requires_grad_(True)
        loss = reconstruction_loss(picture, images)
        with half():
            loss = loss + PERCEPTUAL * perceptual_loss(critic, picture, images)
        direction = torch.autograd.grad(loss, picture)[0]
        if progress > ADVERSARY_FROM:
            with half():
                true_score, found_score = adversary(torch.cat([images, picture.detach()])).float().chunk(2)
            rival_loss = F.relu(1 - true_score).mean() + F.relu(1 + found_score).mean()
            rival_optimizer.zero_grad()
            rival_loss.backward()
            team.average_gradients(rivals)
            rival_optimizer.step()
            with half():
                score = -adversary(picture).float().mean()
            push = torch.autograd.grad(score, picture)[0]
            ramp = min(1.0, (progress - ADVERSARY_FROM) / 0.15)
            direction = direction + push * (ADVERSARIAL * ramp * direction.norm() / (push.norm() + 1e-8))
        kl = 0.5 * (mean.float() ** 2 + log_variance.float().exp() - 1 - log_variance.float()).mean()
        optimizer.zero_grad()
        if kl.requires_grad:
            torch.autograd.backward([found, kl * KL], [direction.to(found.dtype), None])
        else:
            found.backward(direction.to(found.dtype))
        team.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 500 == 0:
            team.log(f"autoencoder {step} loss {loss.item():.4f} kl {kl.item():.3f}")
    return vae.eval().requires_grad_(False)


def with_rebuilt(data: Dataset, vae: Any) -> Dataset:
    """The data twice, the second time as the autoencoder shows its pictures."""
    parts = [decode(vae, encode(vae, part).float() * vae.config.scaling_factor) for part in data.images.split(128)]
    rebuilt = torch.cat([(part * 255 + 0.5).to(torch.uint8) for part in parts])
    twice = [torch.cat([part, part]) for part in (data.control, data.hero, data.labels)]
    return Dataset(torch.cat([data.images, rebuilt]), *twice)


@torch.no_grad()
def encode(vae: Any, images: Tensor) -> Tensor:
    """Unscaled latent means [N, 4, h, w] float16 of uint8 images [N, 3, H, W]."""
    found = []
    for part in images.split(128):
        with torch.autocast(part.device.type, dtype=torch.bfloat16):
            found.append(vae.encode(part.float() / 127.5 - 1).latent_dist.mean.half())
    return torch.cat(found)


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] in [0, 1] of scaled latents [N, 4, h, w]."""
    dtype = next(vae.parameters()).dtype
    parts = [vae.decode((z / vae.config.scaling_factor).to(dtype)).sample.float() for z in latents.split(64)]
    return (torch.cat(parts) * 0.5 + 0.5).clamp(0, 1)


def psnr(found: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [B] in dB of pictures in [0, 1]."""
    return -10 / math.log(10) * torch.log((found - true).square().flatten(1).mean(1).clamp(min=1e-10))
