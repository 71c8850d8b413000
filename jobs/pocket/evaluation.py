"""Figures of the embedded model: what the judge recognises, how silhouettes agree, how well latents keep pictures,
and what it costs."""

import random
import time

import torch
from PIL import Image
from torch import Tensor

from jobs.pocket import autoencoding, critic, diffusion, judge, tokenizer
from jobs.pocket.captions import ENVIRONMENT_NAMES, LIGHT_NAMES, MATERIAL_NAMES, STYLE_NAMES, Labels, canonical
from jobs.pocket.dataset import Dataset
from jobs.pocket.judge import QUESTIONS
from jobs.pocket.shipping import Pocket
from jobs.pocket.words import ANYTHING

NAMES = dict(zip(QUESTIONS, (MATERIAL_NAMES, ENVIRONMENT_NAMES, LIGHT_NAMES, STYLE_NAMES), strict=True))
HERO_AREA = 0.08  # pictures whose hero covers less are not asked about


def prompts(data: Dataset, seed: int) -> list[str]:
    """The plain caption of every picture, with a random noun."""
    rng = random.Random(seed)
    return [canonical(Labels(*row), rng.choice(ANYTHING)) for row in data.labels.tolist()]


def noise_like(data: Dataset, seed: int) -> Tensor:
    """Latent noise [N, 4, h, w], the same on every device."""
    size = data.images.shape[-1] // 8
    noise = torch.randn(len(data), 4, size, size, generator=torch.Generator().manual_seed(seed))
    return noise.to(data.images.device)


def generate(
    pocket: Pocket, data: Dataset, texts: list[str], steps: int, guidance: float, seed: int, batch: int = 128
) -> Tensor:
    """Pictures [N, 3, H, W] in [0, 1] for the data's control images and these prompts."""
    device = data.images.device
    ids = torch.tensor(tokenizer.encode(pocket.coder, texts), device=device)
    empty = torch.tensor(tokenizer.encode(pocket.coder, [""])[0], device=device)
    noise, found = noise_like(data, seed), []
    for part in torch.arange(len(data), device=device).split(batch):
        control = data.control[part].float() / 255
        latents = diffusion.sample(pocket.denoiser, noise[part], ids[part], empty, control, steps, guidance)
        found.append(autoencoding.decode(pocket.vae, latents))
    return torch.cat(found)


def recognition(pocket: Pocket, images: Tensor, data: Dataset) -> dict:
    """Shares of pictures in which the judge sees what the labels say, in all, of those that are no painting, and for every
    material and environment; overlap of the critic's silhouettes with the true ones. None where there is no such picture."""
    area = data.hero.float().mean((1, 2, 3))
    visible, unpainted = area >= HERO_AREA, data.labels[:, QUESTIONS.index("style")] == STYLE_NAMES.index("render")
    share = lambda values, where: round(values[where].float().mean().item(), 4) if where.any() else None  # noqa: E731
    seen = judge.classify(pocket.judge, pocket.coder, images)
    result: dict = {}
    for i, question in enumerate(QUESTIONS):
        right = seen[question] == data.labels[:, i]
        result[question] = share(right, visible)
        if question in ("material", "environment"):
            result[f"{question} unpainted"] = share(right, visible & unpainted)
            named = {name: visible & (data.labels[:, i] == label) for label, name in enumerate(NAMES[question])}
            result[f"per {question}"] = {name: share(right, where) for name, where in named.items() if where.any()}
    found = critic.silhouettes(pocket.critic, images)
    overlap, bounded = critic.overlap(found, data.hero), visible & (area < 0.9)
    result["silhouette IoU"] = share(overlap, bounded)
    result["silhouette IoU unpainted"] = share(overlap, bounded & unpainted)
    return result


def cost(pocket: Pocket, device: torch.device, repeats: int = 5) -> dict:
    """GMAC and seconds of one evaluation of UNet and ControlNet at 256², batch 2 (guidance) halved."""
    from torch.utils.flop_counter import FlopCounterMode

    size = 256
    latents, control = (
        torch.randn(2, 4, size // 8, size // 8, device=device),
        torch.rand(2, 3, size, size, device=device),
    )
    ids = torch.tensor(tokenizer.encode(pocket.coder, ["a statue", ""]), device=device)
    timesteps = torch.full((2,), 500, device=device)
    with torch.no_grad():
        counter = FlopCounterMode(display=False)
        with counter:
            pocket.denoiser(latents, timesteps, ids, control)
        start = time.time()
        for _ in range(repeats):
            pocket.denoiser(latents, timesteps, ids, control)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return {"GMAC": round(counter.get_total_flops() / 4e9, 2), "seconds": round((time.time() - start) / repeats / 2, 4)}


def report(pocket: Pocket, data: Dataset, steps: int, guidance: float, seed: int = 5) -> tuple[dict, Tensor]:
    """All figures on these pictures, and the generated ones."""
    true = data.images.float() / 255
    rebuilt = torch.cat(
        [
            autoencoding.decode(
                pocket.vae, autoencoding.encode(pocket.vae, x).float() * pocket.vae.config.scaling_factor
            )
            for x in data.images.split(64)
        ]
    )
    made = generate(pocket, data, prompts(data, seed), steps, guidance, seed)
    figures = {
        "pictures": len(data), "steps": steps, "guidance": guidance,
        "PSNR": round(autoencoding.psnr(rebuilt, true).mean().item(), 2),
        "cost": cost(pocket, data.images.device),
        "true": recognition(pocket, true, data),
        "rebuilt": recognition(pocket, rebuilt, data),
        "generated": recognition(pocket, made, data),
    }  # fmt: skip
    return figures, made


def sheet(images: Tensor, columns: int) -> Image.Image:
    """Pictures [N, 3, H, W] in [0, 1] in rows of `columns`."""
    n, _, height, width = images.shape
    rows = -(-n // columns)
    padded = torch.zeros(rows * columns, 3, height, width)
    padded[:n] = images.float().cpu().clamp(0, 1)
    grid = padded.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray((grid * 255 + 0.5).byte().numpy())
