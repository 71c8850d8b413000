"""The judge: a small image-text embedding, trained on true renders only, that tells what a picture shows by
comparing prompts."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from jobs.pocket import networks, tokenizer
from jobs.pocket.captions import article
from jobs.pocket.dataset import Dataset, views
from jobs.pocket.team import Team, cosine
from jobs.pocket.words import ANYTHING, COLOURS, ENVIRONMENTS, LIGHTS, MATERIALS, STYLES

BATCH, RATE = 512, 1.2e-3
CONTRAST = 0.5  # weight of the contrast with whole captions beside the four questions
PATCHES = 1.0  # weight of what every patch has to tell
QUESTIONS = ("material", "environment", "light", "style")
SHARPNESS = 60.0  # the scale of likeness is at most this


def _spelt(phrase: str) -> list[str]:
    return [phrase.format(c=c, b=c) for c in COLOURS] if "{" in phrase else [phrase]


def answers(question: str, noun: str = "statue") -> list[list[list[str]]]:
    """For each answer to a question its phrases, each as the prompts that spell it: one, or one in every colour."""
    if question == "material":
        return [[[article(f"{s} {noun}") for s in _spelt(p)] for p in m.adjectives] for m in MATERIALS.values()]
    table = {"environment": ENVIRONMENTS, "light": LIGHTS, "style": STYLES}[question]
    return [[_spelt(phrase) for phrase in group] for group in table.values()]


def look(model: CLIPModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Unit embeddings [B, D], and the tokens [B, patches, W] of the patches row by row, of images [B, 3, H, W] in [0, 1]."""
    small = F.interpolate(images, size=(networks.JUDGE_SIZE,) * 2, mode="area")
    seen = model.vision_model(pixel_values=small * 2 - 1)
    return F.normalize(model.visual_projection(seen.pooler_output).float(), dim=-1), seen.last_hidden_state[:, 1:]


def embed_images(model: CLIPModel, images: Tensor) -> Tensor:
    """Unit embeddings [B, D] of images [B, 3, H, W] in [0, 1]."""
    return look(model, images)[0]


def embed_ids(model: CLIPModel, ids: Tensor) -> Tensor:
    """Unit embeddings [B, D] of token ids [B, L]."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def score(likeness: Tensor, groups: Sequence[int]) -> Tensor:
    """Log likelihoods [B, answers], up to a constant, from those [B, prompts] of their prompts in groups of these sizes.

    An answer is as likely as its prompts together: a picture of something red is no less of plastic for not being blue.
    """
    return torch.stack([part.logsumexp(1) for part in likeness.split(list(groups), 1)], 1)


class PatchLabels(nn.Module):
    """Every patch tells its own material or, where it shows no hero, the place (after token labelling, Jiang et al. 2021).

    A transformer of this size learns from a single answer per picture slowly. The head is not kept.
    """

    def __init__(self, width: int):
        super().__init__()
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(MATERIALS) + len(ENVIRONMENTS)))

    def forward(self, tokens: Tensor, hero: Tensor, material: Tensor, environment: Tensor) -> Tensor:
        """Cross-entropy of tokens [B, side², W] for hero masks [B, 1, h, w] and labels [B], []."""
        side = round(tokens.shape[1] ** 0.5)
        shows_hero = F.adaptive_avg_pool2d(hero.float(), side).flatten(1) > 0.5
        wanted = torch.where(shows_hero, material[:, None], len(MATERIALS) + environment[:, None])
        return F.cross_entropy(self.head(tokens).float().flatten(0, 1), wanted.flatten())


def train(team: Team, data: Dataset, ids: Tensor, coder, seconds: float, steps: int = 0) -> CLIPModel:
    """ids [N, captions, L] belong to the data's pictures."""
    torch.manual_seed(12)
    model = networks.judge(len(coder)).to(team.device)
    patches = PatchLabels(model.config.vision_config.hidden_size).to(team.device)
    parameters: list[Tensor] = [*model.parameters(), *patches.parameters()]
    optimizer = torch.optim.AdamW(parameters, RATE, betas=(0.9, 0.98), weight_decay=0.05)
    torch.manual_seed(200 + team.rank)
    rng = random.Random(team.rank)
    for step, total in team.steps(seconds, steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * cosine(step, total)
        images, hero, wanted, rows = views(data, BATCH)
        asked = [[rng.choice(phrases) for phrases in answers(q, rng.choice(ANYTHING))] for q in QUESTIONS]
        prompts = tokenizer.encode(coder, [prompt for question in asked for phrase in question for prompt in phrase])
        captions = ids[rows, torch.randint(ids.shape[1], (BATCH,), device=team.device)].long()
        with torch.autocast(team.device.type, dtype=torch.bfloat16):
            seen, tokens = look(model, images)
            told = embed_ids(model, torch.cat([torch.tensor(prompts, device=team.device), captions]))
            loss = PATCHES * patches(tokens, hero, data.labels[rows, 0], wanted[:, 1])
        scale = model.logit_scale.exp().clamp(max=SHARPNESS)
        likeness = scale * seen @ told.T
        sizes = [[len(phrase) for phrase in question] for question in asked]
        per_question = likeness[:, : len(prompts)].split([sum(s) for s in sizes], 1)
        for i, (part, groups) in enumerate(zip(per_question, sizes, strict=True)):
            loss = loss + F.cross_entropy(score(part, groups), wanted[:, i])
        pairs, same = likeness[:, len(prompts) :], torch.arange(BATCH, device=team.device)
        loss = loss + CONTRAST * (F.cross_entropy(pairs, same) + F.cross_entropy(pairs.T, same)) / 2
        optimizer.zero_grad()
        loss.backward()
        team.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def classify(model: CLIPModel, coder, images: Tensor) -> dict[str, Tensor]:
    """For each question the best answer's index [B] for images [B, 3, H, W] in [0, 1].

    A prompt is the mean of the phrases that say the same, in one colour.
    """
    seen = torch.cat([embed_images(model, part) for part in images.split(64)])
    scale = model.logit_scale.exp().clamp(max=SHARPNESS)
    best = {}
    for question in QUESTIONS:
        options, groups = [], []
        for phrases in answers(question):
            ids = torch.tensor(tokenizer.encode(coder, [p for phrase in phrases for p in phrase]), device=images.device)
            parts = embed_ids(model, ids).split([len(phrase) for phrase in phrases])
            colours = max(len(part) for part in parts)
            options.append(F.normalize(torch.stack([p.expand(colours, -1) for p in parts]).mean(0), dim=-1))
            groups.append(colours)
        best[question] = score(scale * seen @ torch.cat(options).T, groups).argmax(1)
    return best
