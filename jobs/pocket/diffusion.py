"""Training of text encoder, ControlNet and UNet by v-prediction, and sampling from them."""

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket import networks
from jobs.pocket.networks import Denoiser
from jobs.pocket.team import Team, cosine

BATCH, RATE = 512, 8e-4  # of all GPUs together
EMPTY_PROMPT = 0.1  # share of captions dropped, for classifier-free guidance
AVERAGE = 0.9985
CHECKPOINT_EVERY = 1000  # steps
# Signal-to-noise ratio above which a timestep counts less (min-SNR weighting): what is left there is invisible grain.
SNR_LIMIT = 5.0


def train(
    team: Team, latents: Tensor, control: Tensor, ids: Tensor, empty: Tensor, vocabulary: int, seconds: float, compile_model: bool,
    start: dict | None = None, steps: int = 0, batch: int = BATCH, checkpoint: Path | None = None,
) -> Denoiser:  # fmt: skip
    """The averaged model after training on scaled latents [N, 4, h, w], control images uint8 [N, 1, H, W], ids [N,
    captions, L].

    `empty` [L] are the ids of the empty prompt; `start` is the state of an earlier model to begin with, at half the learning rate.
    Everything that is needed to go on after an interruption is kept in `checkpoint`, every CHECKPOINT_EVERY steps.
    """
    torch.manual_seed(1)
    model: Denoiser = networks.placed(Denoiser(vocabulary), team.device)
    rate = RATE * (batch / BATCH) ** 0.5
    if start is not None:
        model.load_state_dict(start)
        rate /= 2
    average = copy.deepcopy(model).eval().requires_grad_(False)
    # The network runs in bfloat16 throughout, a third faster than under autocast; the float32 weights are the ones that learn.
    worker = copy.deepcopy(model).bfloat16() if team.device.type == "cuda" else model
    working: list[Tensor] = list(worker.parameters())
    dtype = working[0].dtype
    run = torch.compile(worker) if compile_model else worker
    parameters: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(average.parameters())
    optimizer = torch.optim.AdamW(
        parameters, rate, betas=(0.9, 0.99), weight_decay=0.01, fused=team.device.type == "cuda"
    )
    signal = networks.scheduler().alphas_cumprod.to(team.device)
    share = batch // team.size
    first = 0
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=team.device, weights_only=True)
        first, steps = saved["step"], saved["total"]
        for part, name in ((model, "model"), (average, "average"), (optimizer, "optimizer")):
            part.load_state_dict(saved[name])
        with torch.no_grad():
            torch._foreach_copy_(working, parameters)
        team.log(f"diffusion goes on from step {first} of {steps}")
    torch.manual_seed(400 + team.rank + 1000 * first)
    for step, total in team.steps(seconds, steps, first):
        if checkpoint is not None and team.leads and total and step > first and step % CHECKPOINT_EVERY == 0:
            state = {"step": step, "total": total, "model": model.state_dict(), "average": average.state_dict()}
            torch.save(state | {"optimizer": optimizer.state_dict()}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").rename(checkpoint)
        for group in optimizer.param_groups:
            group["lr"] = rate * cosine(step, total)
        rows = torch.randint(len(latents), (share,), device=team.device)
        clean = latents[rows].float()
        text = ids[rows, torch.randint(ids.shape[1], (share,), device=team.device)].long()
        text = torch.where(torch.rand(share, 1, device=team.device) < EMPTY_PROMPT, empty, text)
        depth = control[rows].to(dtype).div_(255).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        timesteps = torch.randint(len(signal), (share,), device=team.device)
        kept = signal[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        target = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        found = run(noisy.to(dtype).contiguous(memory_format=torch.channels_last), timesteps, text, depth)
        # For v-prediction the plain loss already weighs x0's error by SNR + 1.
        plain = 1 / (1 - kept.flatten()).clamp(min=1e-6)
        loss = (
            F.mse_loss(found.float(), target, reduction="none").mean((1, 2, 3)) * (SNR_LIMIT / plain).clamp(max=1)
        ).mean()
        worker.zero_grad()
        loss.backward()
        if worker is not model:
            hand_over_gradients(working, parameters)
        team.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            if worker is not model:
                torch._foreach_copy_(working, parameters)
            torch._foreach_lerp_(averaged, parameters, 1 - min(AVERAGE, (1 + step) / (10 + step)))
        if step % 500 == 0:
            team.log(f"diffusion {step} loss {loss.item():.4f}")
    return average


def hand_over_gradients(used: list[Tensor], learnt: list[Tensor]) -> None:
    """Copy the gradients of some parameters to others of the same shapes, all at once: one by one took 7 ms of a step."""
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for u, p in zip(used, learnt, strict=True):
        if u.grad is not None:
            p.grad = p.grad if p.grad is not None else torch.empty_like(p)
            found.append(u.grad)
            wanted.append(p.grad)
    torch._foreach_copy_(wanted, found)


@torch.no_grad()
def sample(
    model: Denoiser, noise: Tensor, ids: Tensor, empty: Tensor, control: Tensor, steps: int, guidance: float
) -> Tensor:
    """Scaled latents [B, 4, h, w] from noise of that shape, ids [B, L], control [B, 1, H, W] in [0, 1], guided
    away from `empty` [L]."""
    scheduler = networks.scheduler()
    scheduler.set_timesteps(steps, device=noise.device)
    text = torch.cat([empty.expand_as(ids), ids])
    depth = control.expand(-1, 3, -1, -1).repeat(2, 1, 1, 1).to(noise.dtype)
    latents = noise
    for t in scheduler.timesteps:
        with torch.autocast(noise.device.type, dtype=torch.bfloat16, enabled=noise.is_cuda):
            v = model(torch.cat([latents, latents]), t.expand(2 * len(latents)), text, depth).float()
        without, given = v.chunk(2)
        latents = scheduler.step(without + guidance * (given - without), t, latents).prev_sample
    return latents
