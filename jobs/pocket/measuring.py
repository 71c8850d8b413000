"""The evaluation of the shipped folder: figures into `summary.json`, and unselected sheets of pictures."""

import json
import time
from pathlib import Path

import torch

from jobs.evaluate_pocket import Settings
from jobs.pocket import dataset, evaluation, shapes, shipping, world
from jobs.pocket.dataset import Dataset
from jobs.pocket.shipping import Pocket

PICTURES = {"cpu": 10, "gpu": 1024}
PROMPTS = (
    "a golden statue in a snowy forest", "a fox made of ice, moonlight", "a lava golem", "a knitted toy", "a tiger in a jungle",
    "a marble statue on a beach at sunset", "a robot made of chrome in a neon city",
    "watercolor of a wooden puppet in an autumn forest",
)  # fmt: skip
FAMILIES = ("humanoid", "quadruped", "vehicle", "fish")


def fixed_heroes(device: torch.device, seed: int, families: tuple[str, ...] = FAMILIES) -> Dataset:
    """One hero of each of these families, with control images from seeded cameras."""
    parts = []
    for i, family in enumerate(families):
        generator = torch.Generator(device).manual_seed(seed + i)
        hero = shapes.sample(1, generator, family)
        parts.append(world.render(hero, [("plastic", "render")], "studio", "day", generator))
    control = torch.cat([(p.control * 255 + 0.5).to(torch.uint8) for p in parts])
    images = torch.cat([(p.image * 255 + 0.5).to(torch.uint8) for p in parts])
    masks = torch.cat([p.hero > 0.5 for p in parts])
    return Dataset(images, control, masks, torch.zeros(len(parts), 7, dtype=torch.long, device=device))


def prompt_grid(
    pocket: Pocket, heroes: Dataset, prompts: tuple[str, ...], steps: int, guidance: float, seed: int
) -> torch.Tensor:
    """A row for each hero: its control image, then a picture for each prompt. [heroes x (1 + prompts), 3, H, W]."""
    columns = [heroes.control.expand(-1, 3, -1, -1).float() / 255]
    columns += [evaluation.generate(pocket, heroes, [p] * len(heroes), steps, guidance, seed) for p in prompts]
    return torch.stack(columns, 1).flatten(0, 1)


def evaluate(settings: Settings) -> dict:
    began = time.time()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(2)
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    pocket = shipping.load(Path(settings.model), device)
    defaults = json.loads((Path(settings.model) / "render_defaults.json").read_text())
    steps, guidance = settings.steps or defaults["steps"], settings.guidance or defaults["guidance"]
    count = settings.pictures or PICTURES[settings.preset]
    held = dataset.render(count, settings.seed, device, batch=4 if count > 100 else 1)
    figures, made = evaluation.report(pocket, held, steps, guidance)
    rows = [held.control.expand(-1, 3, -1, -1).float() / 255, held.images.float() / 255, made]
    evaluation.sheet(torch.stack([r[:24] for r in rows], 1).flatten(0, 1), 9).save(output / "scenes.png")
    heroes = fixed_heroes(device, settings.seed, FAMILIES if settings.preset == "gpu" else FAMILIES[:1])
    evaluation.sheet(prompt_grid(pocket, heroes, PROMPTS, steps, guidance, settings.seed), 1 + len(PROMPTS)).save(
        output / "prompts.png"
    )
    figures["seconds in all"] = round(time.time() - began, 1)
    (output / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures
