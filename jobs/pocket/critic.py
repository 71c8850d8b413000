"""Training of the critic, and silhouettes by it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket.dataset import Dataset, views
from jobs.pocket.networks import Critic, placed
from jobs.pocket.team import Team, cosine

BATCH, RATE = 96, 2e-3  # a GPU's share


def train(
    team: Team, data: Dataset, seconds: float, compile_model: bool = False, steps: int = 0, start: dict | None = None
) -> Critic:
    """start: the state of an earlier critic to go on from, at half the learning rate."""
    torch.manual_seed(11)
    critic: Critic = placed(Critic(), team.device)
    rate = RATE
    if start is not None:
        critic.load_state_dict(start)
        rate /= 2
    run = torch.compile(critic) if compile_model else critic
    parameters: list[Tensor] = list(critic.parameters())
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.02)
    torch.manual_seed(100 + team.rank)
    for step, total in team.steps(seconds, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * cosine(step, total)
        images, hero, wanted, _ = views(data, BATCH, smallest=1.0)
        with torch.autocast(team.device.type, dtype=torch.bfloat16):
            mask, logits = run(images.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(mask.float(), hero.float()) + disagreement(mask, hero)
        for i, part in enumerate(logits):
            loss = loss + 0.5 * F.cross_entropy(part.float(), wanted[:, i])
        optimizer.zero_grad()
        loss.backward()
        team.average_gradients(parameters)
        optimizer.step()
    return critic.eval().requires_grad_(False)


def disagreement(mask: Tensor, hero: Tensor) -> Tensor:
    """One minus the overlap, made smooth, of mask logits with true masks [B, 1, h, w]: a thin hero counts as much as a big one."""
    found, true = torch.sigmoid(mask.float()).flatten(1), hero.float().flatten(1)
    both = (found * true).sum(1)
    return 1 - ((both + 1) / (found.sum(1) + true.sum(1) - both + 1)).mean()


@torch.no_grad()
def silhouettes(critic: Critic, images: Tensor) -> Tensor:
    """Hero masks [B, 1, H, W] (bool) that the critic sees in images [B, 3, H, W] in [0, 1]."""
    return torch.cat([critic(part)[0] > 0 for part in images.split(64)])


def overlap(found: Tensor, true: Tensor) -> Tensor:
    """Intersection over union [B] of masks [B, 1, h, w]."""
    found, true = found.flatten(1), true.flatten(1)
    return (found & true).sum(1) / (found | true).sum(1).clamp(min=1)
