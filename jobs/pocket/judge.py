"""The judge: a small image-text embedding, trained on true renders only, that tells what a picture shows by
comparing prompts."""

import random
from collections.abc import Sequence
from functools import lru_cache

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
WORDINGS = 256  # ways in which all questions are put, drawn once: to spell and encode them takes longer than a step
SHARPNESS = 60.0  # the scale of likeness is at most this


def _spelt(phrase: str) -> list[str]:
    return [phrase.format(c=c, b=c) for c in COLOURS] if "{" in phrase else [phrase]


def answers(question: str, noun: str = "statue") -> list[list[list[str]]]:
    """For each answer to a question its phrases, each as the prompts that spell it: one, or one in every colour."""
    if question == "material":
        return [[[article(f"{s} {noun}") for s in _spelt(p)] for p in m.adjectives] for m in MATERIALS.values()]
    table = {"environment": ENVIRONMENTS, "light": LIGHTS, "style": STYLES}[question]
    return [[_spelt(phrase) for phrase in group] for group in table.values()]


def wordings(coder, count: int, rng: random.Random) -> tuple[Tensor, list[list[int]]]:
    """All questions put in `count` random ways: token ids [count, prompts, L], and for each question how many prompts each
    of its answers has. An answer that some phrase spells in every colour always has as many prompts."""
    drawn, groups = [], [[max(map(len, phrases)) for phrases in answers(q)] for q in QUESTIONS]
    for _ in range(count):
        asked: list[str] = []
        for question, sizes in zip(QUESTIONS, groups, strict=True):
            for phrases, size in zip(answers(question, rng.choice(ANYTHING)), sizes, strict=True):
                spelt = rng.choice(phrases)
                asked += spelt * (size // len(spelt))
        drawn.append(asked)
    texts = sorted({prompt for asked in drawn for prompt in asked})
    ids = dict(zip(texts, tokenizer.encode(coder, texts), strict=True))
    return torch.tensor([[ids[prompt] for prompt in asked] for asked in drawn]), groups


def shrunk(images: Tensor) -> Tensor:
    """Pictures [B, C, H, W] in the judge's size."""
    return F.interpolate(images, size=(networks.JUDGE_SIZE,) * 2, mode="area")


def look(model: CLIPModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Unit embeddings [B, D], and the tokens [B, patches, W] of the patches row by row, of shrunk images in [0, 1]."""
    seen = model.vision_model(pixel_values=images * 2 - 1)
    return F.normalize(model.visual_projection(seen.pooler_output).float(), dim=-1), seen.last_hidden_state[:, 1:]


def embed_images(model: CLIPModel, images: Tensor) -> Tensor:
    """Unit embeddings [B, D] of images [B, 3, H, W] in [0, 1]."""
    return look(model, shrunk(images))[0]


def embed_ids(model: CLIPModel, ids: Tensor) -> Tensor:
    """Unit embeddings [B, D] of token ids [B, L]."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def score(likeness: Tensor, groups: Sequence[int]) -> Tensor:
    """Log likelihoods [B, answers], up to a constant, from those [B, prompts] of their prompts in groups of these sizes.

    An answer is as likely as its prompts together: a picture of something red is no less of plastic for not being blue.
    """
    padded = F.pad(likeness, (0, 1), value=-torch.inf)
    return padded[:, _members(tuple(groups), likeness.device)].logsumexp(2)


@lru_cache
def _members(groups: tuple[int, ...], device: torch.device) -> Tensor:
    """The columns [groups, largest] of each group, filled up with the one after the last."""
    first, rows = 0, []
    for size in groups:
        rows.append([*range(first, first + size), *[sum(groups)] * (max(groups) - size)])
        first += size
    return torch.tensor(rows, device=device)


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


def perceive(model: CLIPModel, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `look` finds in images and `embed_ids` in token ids."""
    return *look(model, images), embed_ids(model, ids)


def train(
    team: Team, data: Dataset, ids: Tensor, coder, seconds: float, compile_model: bool = False, steps: int = 0
) -> CLIPModel:
    """ids [N, captions, L] belong to the data's pictures."""
    torch.manual_seed(12)
    model = networks.judge(len(coder)).to(team.device)
    run = torch.compile(perceive) if compile_model else perceive
    questions, groups = wordings(coder, WORDINGS, random.Random(team.rank))
    questions = questions.to(team.device)
    patches = PatchLabels(model.config.vision_config.hidden_size).to(team.device)
    parameters: list[Tensor] = [*model.parameters(), *patches.parameters()]
    optimizer = torch.optim.AdamW(parameters, RATE, betas=(0.9, 0.98), weight_decay=0.05)
    torch.manual_seed(200 + team.rank)
    for step, total in team.steps(seconds, steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * cosine(step, total)
        images, hero, wanted, rows = views(data, BATCH)
        prompts = questions[torch.randint(len(questions), ())]
        captions = ids[rows, torch.randint(ids.shape[1], (BATCH,), device=team.device)].long()
        with torch.autocast(team.device.type, dtype=torch.bfloat16, enabled=images.is_cuda):
            seen, tokens, told = run(model, shrunk(images), torch.cat([prompts, captions]))
            loss = PATCHES * patches(tokens, hero, data.labels[rows, 0], wanted[:, 1])
        scale = model.logit_scale.exp().clamp(max=SHARPNESS)
        likeness = scale * seen @ told.T
        per_question = likeness[:, : len(prompts)].split([sum(sizes) for sizes in groups], 1)
        for i, (part, sizes) in enumerate(zip(per_question, groups, strict=True)):
            loss = loss + F.cross_entropy(score(part, sizes), wanted[:, i])
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
