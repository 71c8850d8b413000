"""Training of the critic, and silhouettes by it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket.dataset import Dataset
from jobs.pocket.networks import Critic, placed
from jobs.pocket.team import Team, cosine

BATCH, RATE = 192, 2e-3


def train(team: Team, data: Dataset, seconds: float, steps: int = 0) -> Critic:
    torch.manual_seed(11)
    critic: Critic = placed(Critic(), team.device)
    parameters: list[Tensor] = list(critic.parameters())
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=0.02)
    torch.manual_seed(100 + team.rank)
    for step, total in team.steps(seconds, steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * cosine(step, total)
        rows = torch.randint(len(data), (BATCH,), device=team.device)
        images = data.images[rows].float().div_(255)
        images = images + torch.randn_like(images) * 0.03 * torch.rand(BATCH, 1, 1, 1, device=team.device)
        with torch.autocast(team.device.type, dtype=torch.bfloat16):
            mask, logits = critic(images.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(mask.float(), data.hero[rows].float())
        for i, part in enumerate(logits):
            loss = loss + 0.5 * F.cross_entropy(part.float(), data.labels[rows, i])
        optimizer.zero_grad()
        loss.backward()
        team.average_gradients(parameters)
        optimizer.step()
    return critic.eval().requires_grad_(False)


@torch.no_grad()
def silhouettes(critic: Critic, images: Tensor) -> Tensor:
    """Hero masks [B, 1, H/4, W/4] (bool) that the critic sees in images [B, 3, H, W] in [0, 1]."""
    return torch.cat([critic(part)[0] > 0 for part in images.split(64)])


def overlap(found: Tensor, true: Tensor) -> Tensor:
    """Intersection over union [B] of masks [B, 1, h, w]."""
    found, true = found.flatten(1), true.flatten(1)
    return (found & true).sum(1) / (found | true).sum(1).clamp(min=1)
