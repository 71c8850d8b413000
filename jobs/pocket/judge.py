"""The judge: a small image-text embedding, trained on true renders only, that tells what a picture shows by
comparing prompts."""

import random

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel

from jobs.pocket import networks, tokenizer
from jobs.pocket.captions import article
from jobs.pocket.dataset import Dataset
from jobs.pocket.team import Team, cosine
from jobs.pocket.words import ANYTHING, COLOURS, ENVIRONMENTS, LIGHTS, MATERIALS, STYLES

BATCH, RATE = 512, 1.2e-3
CONTRAST = 0.5  # weight of the contrast with whole captions beside the four questions
QUESTIONS = ("material", "environment", "light", "style")


def _spelt(phrase: str) -> list[str]:
    return [phrase.format(c=c, b=c) for c in COLOURS] if "{" in phrase else [phrase]


def answers(question: str, noun: str = "statue") -> list[list[str]]:
    """For each answer to a question, every prompt that gives it."""
    if question == "material":
        return [[article(f"{a} {noun}") for p in m.adjectives for a in _spelt(p)] for m in MATERIALS.values()]
    table = {"environment": ENVIRONMENTS, "light": LIGHTS, "style": STYLES}[question]
    return [[s for phrase in group for s in _spelt(phrase)] for group in table.values()]


def embed_images(model: CLIPModel, images: Tensor) -> Tensor:
    """Unit embeddings [B, D] of images [B, 3, H, W] in [0, 1]."""
    small = F.interpolate(images, size=(networks.JUDGE_SIZE,) * 2, mode="area")
    pooled = model.vision_model(pixel_values=small * 2 - 1).pooler_output
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def embed_ids(model: CLIPModel, ids: Tensor) -> Tensor:
    """Unit embeddings [B, D] of token ids [B, L]."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def train(team: Team, data: Dataset, ids: Tensor, coder, seconds: float, steps: int = 0) -> CLIPModel:
    """ids [N, captions, L] belong to the data's pictures."""
    torch.manual_seed(12)
    model = networks.judge(len(coder)).to(team.device)
    parameters: list[Tensor] = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, RATE, betas=(0.9, 0.98), weight_decay=0.05)
    torch.manual_seed(200 + team.rank)
    rng = random.Random(team.rank)
    for step, total in team.steps(seconds, steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * cosine(step, total)
        rows = torch.randint(len(data), (BATCH,), device=team.device)
        images = data.images[rows].float().div_(255)
        images = images + torch.randn_like(images) * 0.04 * torch.rand(BATCH, 1, 1, 1, device=team.device)
        options = [answers(q, rng.choice(ANYTHING)) for q in QUESTIONS]
        texts = [rng.choice(group) for question in options for group in question]
        prompts = torch.tensor(tokenizer.encode(coder, texts), device=team.device)
        captions = ids[rows, torch.randint(ids.shape[1], (BATCH,), device=team.device)].long()
        with torch.autocast(team.device.type, dtype=torch.bfloat16):
            seen = embed_images(model, images)
            told = embed_ids(model, torch.cat([prompts, captions]))
        scale = model.logit_scale.exp().clamp(max=60)
        classes = told[: len(texts)].split([len(o) for o in options])
        loss = sum(F.cross_entropy(scale * seen @ c.T, data.labels[rows, i]) for i, c in enumerate(classes))
        pairs = scale * seen @ told[len(texts) :].T
        same = torch.arange(BATCH, device=team.device)
        loss = loss + CONTRAST * (F.cross_entropy(pairs, same) + F.cross_entropy(pairs.T, same)) / 2
        optimizer.zero_grad()
        loss.backward()
        team.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def class_embeddings(model: CLIPModel, coder) -> dict[str, Tensor]:
    """For each question the unit embeddings [classes, D] of its answers, the mean over the prompts that give them."""
    device = next(model.parameters()).device
    found = {}
    for question in QUESTIONS:
        groups = answers(question)
        ids = torch.tensor(tokenizer.encode(coder, [t for g in groups for t in g]), device=device)
        parts = embed_ids(model, ids).split([len(g) for g in groups])
        found[question] = F.normalize(torch.stack([p.mean(0) for p in parts]), dim=-1)
    return found


@torch.no_grad()
def classify(model: CLIPModel, images: Tensor, classes: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each question the best answer's index [B] for images [B, 3, H, W] in [0, 1]."""
    seen = torch.cat([embed_images(model, part) for part in images.split(64)])
    return {question: (seen @ c.T).argmax(1) for question, c in classes.items()}
