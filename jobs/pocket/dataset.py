"""The pictures of the world as training data: rendered on the GPU in minutes, kept there, and labelled."""

import random
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from jobs.pocket import lighting, shapes, world
from jobs.pocket.captions import ENVIRONMENT_NAMES, LIGHT_NAMES, MATERIAL_NAMES, STYLE_NAMES, Labels, caption
from jobs.pocket.team import Team

# What is drawn more often than the rest: materials of many colours have more to learn.
MATERIAL_WEIGHTS = {"plastic": 2.2, "fur": 2.2, "knit": 1.7, "metallic": 1.5, "checker": 1.4, "dots": 1.4}
ENVIRONMENT_WEIGHTS = {"plain": 1.8}
PLAIN_STYLE, DAYLIGHT = 0.62, 0.5  # shares of pictures that are no painting, and that have no mood
ALIKE = (
    4  # pictures in a row of one material and style: what is told apart must be learnt from thousands of combinations
)
NOISE = 0.04  # of the pictures that networks learn to see from, at most
HARDLY = 0.02  # a hero that covers less of a window is not asked for its material
UNASKED = -100  # a label that losses leave out
CAPTIONS = 3  # per picture


@dataclass(frozen=True)
class Dataset:
    """images [N, 3, R, R] and control [N, 1, R, R] uint8, hero masks [N, 1, R, R] bool, labels [N, 7] in the order of
    `Labels`."""

    images: Tensor
    control: Tensor
    hero: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


def views(data: Dataset, count: int, smallest: float = 0.625) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random pictures to learn to see from: images [count, 3, S, S] in [0, 1], a little noisy, hero masks, labels [count, 7]
    and the pictures' numbers [count].

    All show one random square window, at least `smallest` of a side, mirrored half the time. A material that the window hardly
    shows is UNASKED.
    """
    rows = torch.randint(len(data), (count,), device=data.images.device)
    side = data.images.shape[-1]
    eighth = side // 8
    window = int(torch.randint(round(smallest * 8), 9, ())) * eighth
    y, x = (int(i) for i in torch.randint(side - window + 1, (2,)))
    images, hero = (of[rows, :, y : y + window, x : x + window] for of in (data.images, data.hero))
    images = images.float().div_(255)
    if torch.rand(()) < 0.5:
        images, hero = images.flip(-1), hero.flip(-1)
    images = images + torch.randn_like(images) * NOISE * torch.rand(count, 1, 1, 1, device=images.device)
    labels = data.labels[rows]
    labels[hero.float().mean((1, 2, 3)) < HARDLY, 0] = UNASKED
    return images, hero, labels, rows


def _look(rng: random.Random) -> tuple[str, str]:
    """A material and a style."""
    material = rng.choices(MATERIAL_NAMES, [MATERIAL_WEIGHTS.get(m, 1.0) for m in MATERIAL_NAMES])[0]
    return material, "render" if rng.random() < PLAIN_STYLE else rng.choice(STYLE_NAMES[1:])


@torch.no_grad()
def render(
    count: int, seed: int, device: torch.device, resolution: int = 256, batch: int = 32, seconds: float = float("inf")
) -> Dataset:
    """`count` random pictures, or as many of them as `seconds` allow; the seed decides them all.

    A batch shares place and light, `ALIKE` pictures in a row material and style; shapes and cameras are each picture's own.
    """
    began = time.time()
    generator = torch.Generator(device).manual_seed(seed)
    rng = random.Random(seed)
    batch = min(batch, count)
    count = -(-count // batch) * batch
    heroes = shapes.sample(count, generator)
    images = torch.empty(count, 3, resolution, resolution, dtype=torch.uint8, device=device)
    control = torch.empty(count, 1, resolution, resolution, dtype=torch.uint8, device=device)
    hero = torch.empty(count, 1, resolution, resolution, dtype=torch.bool, device=device)
    labels = torch.empty(count, 7, dtype=torch.long, device=device)
    done = 0
    for start in range(0, count, batch):
        if start % (batch * 16) == 0 and device.type == "cuda":
            torch.cuda.synchronize()
        if time.time() - began > seconds:
            break
        done = start + batch
        part = slice(start, start + batch)
        environment = rng.choices(ENVIRONMENT_NAMES, [ENVIRONMENT_WEIGHTS.get(e, 1.0) for e in ENVIRONMENT_NAMES])[0]
        moods = lighting.moods(environment)
        mood = "day" if rng.random() < DAYLIGHT else rng.choice(moods[1:])
        looks = [_look(rng) for _ in range(1 if batch % ALIKE else batch // ALIKE)]
        pictures = world.render(heroes[part], looks, environment, mood, generator, resolution)
        images[part] = (pictures.image * 255 + 0.5).to(torch.uint8)
        control[part] = (pictures.control * 255 + 0.5).to(torch.uint8)
        hero[part] = pictures.hero > 0.5
        place = ENVIRONMENT_NAMES.index(environment), LIGHT_NAMES.index(mood)
        named = [(MATERIAL_NAMES.index(material), *place, STYLE_NAMES.index(style)) for material, style in looks]
        labels[part, :4] = torch.tensor(named, device=device).repeat_interleave(batch // len(looks), 0)
        labels[part, 4], labels[part, 5], labels[part, 6] = pictures.colour, pictures.backdrop, heroes[part].family
    return Dataset(images[:done], control[:done], hero[:done], labels[:done])


def _token_ids(labels: list[list[int]], tokenizer_folder: str, seed: int) -> list[list[list[int]]]:
    from jobs.pocket import tokenizer

    coder, rng = tokenizer.load(Path(tokenizer_folder)), random.Random(seed)
    texts = [caption(Labels(*row), rng) for row in labels for _ in range(CAPTIONS)]
    ids = tokenizer.encode(coder, texts)
    return [ids[i : i + CAPTIONS] for i in range(0, len(ids), CAPTIONS)]


class Captions:
    """Token ids of random captions for every picture, made by processes beside the training."""

    def __init__(self, dataset: Dataset, tokenizer_folder: Path, seed: int, processes: int = 6):
        rows = dataset.labels.tolist()
        self.pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
        size = -(-len(rows) // processes)
        self.parts: list[Future] = [
            self.pool.submit(_token_ids, rows[i : i + size], str(tokenizer_folder), seed + i)
            for i in range(0, len(rows), size)
        ]

    def ids(self, team: Team) -> Tensor:
        """[N, CAPTIONS, L] on the team's device; waits until they are ready."""
        ids = torch.cat([torch.tensor(part.result(), dtype=torch.int32) for part in self.parts])
        self.pool.shutdown()
        return ids.to(team.device)
