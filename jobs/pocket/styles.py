"""Picture styles: what a render looks like as a painting, a drawing or a game; the words for them stand in
`words.STYLES`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket.noise import mix, smoothstep

PIXEL = 4  # pixels to a block of pixel art


def blur(x: Tensor, radius: int) -> Tensor:
    for _ in range(2):
        x = F.avg_pool2d(F.pad(x, (radius,) * 4, mode="replicate"), 2 * radius + 1, 1)
    return x


def kuwahara(x: Tensor, radius: int) -> Tensor:
    """Edge-preserving smoothing: of the four quadrants around a pixel, the mean of the calmest."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (radius,) * 4, mode="replicate")
    mean = F.avg_pool2d(padded, radius + 1, 1)
    spread = F.avg_pool2d(padded**2, radius + 1, 1).sum(1, True) - (mean**2).sum(1, True)
    corners = [(dy, dx) for dy in (0, radius) for dx in (0, radius)]
    means = torch.stack([mean[..., y : y + height, x : x + width] for y, x in corners])
    spreads = torch.stack([spread[..., y : y + height, x : x + width] for y, x in corners])
    calmest = spreads.argmin(0, keepdim=True).expand(1, *mean.shape[:2], height, width)
    return means.gather(0, calmest)[0]


def edges(x: Tensor) -> Tensor:
    """Summed absolute central differences over the channels of x [B, C, H, W]: [B, 1, H, W]."""
    x = F.pad(x, (1,) * 4, mode="replicate")
    return ((x[..., 1:-1, 2:] - x[..., 1:-1, :-2]).abs() + (x[..., 2:, 1:-1] - x[..., :-2, 1:-1]).abs()).sum(1, True)


def outlines(control: Tensor, normals: Tensor) -> Tensor:
    """Contours and creases of the hero, 0 to about 2."""
    return edges(normals) * 0.4 + edges(control) * 4


def random_field(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Smooth noise [B, 1, H, W] in [0, 1] of size x size cells."""
    cells = torch.rand(len(x), 1, size, size, generator=generator, device=x.device)
    return F.interpolate(cells, size=x.shape[-2:], mode="bicubic").clamp(0, 1)


def watercolor(image: Tensor, lines: Tensor, generator: torch.Generator) -> Tensor:
    wash = kuwahara(kuwahara(image, 3), 2)
    wash = wash + 0.5 * (wash - blur(wash, 6))
    paper = 0.08 + 0.26 * random_field(image, 10, generator)
    return mix(wash, torch.ones_like(wash), paper) * (1 - 0.3 * smoothstep(0.3, 0.9, lines))


def pencil(image: Tensor, lines: Tensor, generator: torch.Generator) -> Tensor:
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=image.device), torch.arange(width, device=image.device), indexing="ij"
    )
    image = kuwahara(image, 2)
    tone = image.mean(1, True)
    hatch = torch.sin((x + y) * 0.52 + random_field(image, 8, generator) * 2) * 0.5 + 0.5
    cross = torch.sin((x - y) * 0.52) * 0.5 + 0.5
    shading = 0.97 - smoothstep(0.7, 0.2, tone) * 0.2 * hatch - smoothstep(0.35, 0.05, tone) * 0.15 * cross
    ink = 1 - 0.85 * smoothstep(0.2, 0.7, lines) - 0.35 * smoothstep(0.25, 0.8, edges(tone))
    # Coloured pencils: every colour stays, thinned with paper.
    return shading * ink.clamp(min=0.05) * mix(torch.ones_like(image), image, torch.full_like(tone, 0.75))


def oil(image: Tensor, lines: Tensor, generator: torch.Generator) -> Tensor:
    batch, _, height, width = image.shape
    drift = F.interpolate(
        torch.randn(batch, 2, height // 10, width // 10, generator=generator, device=image.device),
        size=(height, width),
        mode="bicubic",
    )
    theta = torch.eye(2, 3, device=image.device).expand(batch, 2, 3)
    grid = F.affine_grid(theta, [batch, 1, height, width], align_corners=False) + drift.permute(0, 2, 3, 1) * 0.004
    paint = kuwahara(kuwahara(F.grid_sample(image, grid, padding_mode="border", align_corners=False), 3), 3)
    grey = paint.mean(1, True)
    paint = (grey + (paint - grey) * 1.35 - 0.5) * 1.12 + 0.5
    stroke = F.interpolate(
        torch.rand(batch, 1, height // 4, width // 12, generator=generator, device=image.device),
        size=(height, width),
        mode="bicubic",
    )
    return paint * (0.92 + 0.16 * stroke)


def comic(image: Tensor, lines: Tensor, generator: torch.Generator) -> Tensor:
    flat_colour = kuwahara(image, 3)
    value = flat_colour.amax(1, True) + 1e-3
    steps = (torch.floor(value * 5) + 0.6) / 5
    flat_colour = flat_colour / value * mix(steps, value, torch.full_like(value, 0.2))
    grey = flat_colour.mean(1, True)
    flat_colour = grey + (flat_colour - grey) * 1.45
    return flat_colour * (1 - 0.95 * smoothstep(0.3, 0.75, F.max_pool2d(lines, 3, 1, 1)))


def pixel_art(image: Tensor, lines: Tensor, generator: torch.Generator) -> Tensor:
    size = image.shape[-1] // PIXEL
    blocks = F.interpolate(kuwahara(image, 1), size=(size, size), mode="area")
    grey = blocks.mean(1, True)
    blocks = torch.round((grey + (blocks - grey) * 1.3).clamp(0, 1) * 6) / 6
    return F.interpolate(blocks, scale_factor=PIXEL, mode="nearest")


STYLES = {"watercolor": watercolor, "pencil": pencil, "oil": oil, "comic": comic, "pixel art": pixel_art}


def stylise(style: str, image: Tensor, control: Tensor, normals: Tensor, generator: torch.Generator) -> Tensor:
    """The picture [B, 3, H, W] in a style ("render" leaves it as it is); control [B, 1, H, W] and normals [B, 3,
    H, W] give the outlines."""
    if style == "render":
        return image
    return STYLES[style](image, outlines(control, normals), generator).clamp(0, 1)
