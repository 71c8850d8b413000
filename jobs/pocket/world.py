"""One batch of the procedural world: heroes, camera, material, place, light and style come together in pictures
with control images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket import camera, lighting, sdf, styles
from jobs.pocket.camera import Hits, View
from jobs.pocket.captions import NO_COLOUR
from jobs.pocket.draws import Draws
from jobs.pocket.environments import ENVIRONMENTS, Environment
from jobs.pocket.lighting import Light
from jobs.pocket.materials import MATERIALS
from jobs.pocket.noise import mix, smoothstep
from jobs.pocket.place import Place
from jobs.pocket.shapes import Shapes
from jobs.pocket.surface import RGB, Points, Surface
from jobs.pocket.words import COLOURS

GROUNDED = 0.55  # the share of pictures whose control image has the ground in it
OWN_WIDTH = 0.55  # half the width of a picture whose place is seen by a camera of its own, as a tangent
GAP = 0.16  # of brightness between a hero and its surroundings, at least
CELL = (22.0, 40.0)  # pixels of a pattern's feature in a 256² picture, at least and at most


@dataclass(frozen=True)
class Pictures:
    """image [B, 3, H, W] and control [B, 1, H, W] in [0, 1], hero mask [B, 1, H, W], indices of hero and backdrop
    colour [B] or -1."""

    image: Tensor
    control: Tensor
    hero: Tensor
    colour: Tensor
    backdrop: Tensor


def render(
    shapes: Shapes,
    looks: Sequence[tuple[str, str]],
    environment: str,
    mood: str,
    generator: torch.Generator,
    resolution: int = 256,
) -> Pictures:
    """Pictures of these heroes, all in one place and light; each look, a material and a style, is that of an equal share of
    them. Colours and cameras vary.

    Places take most of the kernels' launches and shapes most of their time: many looks cost little.
    """
    draws = Draws(len(shapes), generator)
    floor = shapes.floor
    grounded = draws.chance(GROUNDED, 1)
    view = camera.look(draws, shapes, grounded, resolution)
    hits = camera.trace(shapes, view, grounded)
    control = camera.picture_control(draws, view, hits)
    place, backdrop = _place(draws, environment)
    setting = ENVIRONMENTS[environment]
    azimuth = torch.atan2(view.eye[:, 0:1], view.eye[:, 2:3])
    lights = lighting.light(draws, place, setting, mood, azimuth)
    shadow, occlusion = _visibility(shapes, hits, lights)
    colour = _surroundings(place, setting, view, hits, grounded, floor, lights, mood, shadow, occlusion)
    heroes, hues = [], []
    for part, (material, _) in _shares(len(shapes), looks):
        of = lambda batch, part=part: _pick(batch, part)  # noqa: E731
        surface = _surface(Draws(part.stop - part.start, generator), material, of(view), of(hits), resolution)
        heroes.append(
            lighting.shade(surface, hits.normal[part], view.rays[part], of(lights), shadow[part], occlusion[part])
        )
        hues.append(surface.colour if surface.colour is not None else torch.full_like(backdrop[part], NO_COLOUR))
    colour = torch.where(hits.hero[..., None], torch.cat(heroes), colour)
    if mood == "fog":
        air = mix(lights.horizon, torch.ones_like(lights.horizon), torch.full_like(lights.horizon[..., :1], 0.25))
        depth = (hits.distance - view.eye.norm(dim=-1, keepdim=True) * 0.75).clamp(0, 30)
        colour = mix(
            colour,
            air,
            (1 - torch.exp(-depth * 0.16))[..., None] * torch.where(hits.hero | hits.ground, 1.0, 0.75)[..., None],
        )
    colour = (colour / (1 + 0.12 * colour)).clamp(0, 1) ** (1 / 1.15)
    pixels = lambda x: x.unflatten(1, (resolution, resolution)).movedim(-1, 1)  # noqa: E731
    hero, control = pixels(hits.hero[..., None].float()), pixels(control[..., None])
    image = smoothed(separated(pixels(colour), hero), hero)
    normal = pixels(hits.normal) * hero
    painted = [
        styles.stylise(style, image[part], control[part], normal[part], generator)
        for part, (_, style) in _shares(len(shapes), looks)
    ]
    return Pictures(torch.cat(painted).clamp(0, 1), control, hero, torch.cat(hues), backdrop)


def separated(image: Tensor, hero: Tensor) -> Tensor:
    """The picture [B, 3, H, W] with heroes of the mask [B, 1, H, W] apart from what is around them: where both are about as
    bright, the surroundings are exposed less, or more where the hero itself is dark."""
    light = image.mean(1, keepdim=True)
    own, around = ((light * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp(min=1) for where in (hero, 1 - hero))
    wanted = torch.where((own >= around) & (own > 1.5 * GAP), own - GAP, own + GAP)
    exposure = (
        torch.where((own - around).abs() < GAP, wanted / around.clamp(min=0.05), 1).clamp(0.5, 2).view(-1, 1, 1, 1)
    )
    return torch.where(hero > 0, image, (image * exposure).clamp(0, 1))


def smoothed(image: Tensor, hero: Tensor) -> Tensor:
    """The picture [B, 3, H, W] without the stairs that one ray to the pixel leaves along outlines of the mask [B, 1, H, W]."""
    grown = F.max_pool2d(hero, 3, 1, 1) + F.max_pool2d(-hero, 3, 1, 1)
    tent = torch.tensor([1.0, 2.0, 1.0], device=image.device) / 4
    kernel = torch.outer(tent, tent).expand(3, 1, 3, 3)
    soft = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    return torch.where(grown > 0, soft, image)


def _shares(count: int, looks: Sequence[tuple[str, str]]) -> Iterator[tuple[slice, tuple[str, str]]]:
    """Equal runs of `count` pictures and the look of each."""
    assert count % len(looks) == 0, f"{count} pictures, {len(looks)} looks"
    share = count // len(looks)
    return ((slice(i * share, (i + 1) * share), look) for i, look in enumerate(looks))


def _pick(batch: Any, part: slice) -> Any:
    """Some pictures of a batch of views, hits or lights; a tensor that all pictures share stays as it is."""
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{name: x[part] for name, x in tensors.items() if isinstance(x, Tensor) and len(x) > 1})


def _place(draws: Draws, environment: str) -> tuple[Place, Tensor]:
    if environment != "plain":
        none = torch.full((draws.batch,), NO_COLOUR, device=draws.device)
        return Place(draws, draws.uniform(0, 20, 1), torch.zeros(draws.batch, 1, 3, device=draws.device)), none
    picked = draws.choice(len(COLOURS))
    table = torch.tensor([RGB[c] for c in COLOURS], device=draws.device)
    backdrop = (table[picked][:, None] * 0.88 + 0.03) * draws.uniform(0.9, 1.08, 1, 1)
    return Place(draws, draws.uniform(0, 20, 1), backdrop), picked


def _visibility(shapes: Shapes, hits: Hits, lights: Light) -> tuple[Tensor, Tensor]:
    """Soft shadow and ambient occlusion [B, N] at what each ray meets, by short walks through the distance field."""
    up = torch.tensor([0.0, 1.0, 0.0], device=hits.normal.device)
    normal = torch.where(hits.hero[..., None], hits.normal, up)
    start = hits.point + normal * 0.02
    shadow, step = torch.ones_like(hits.distance), 0.04
    for _ in range(9):
        d = sdf.distance(shapes.rows, start + lights.to_sun * step)
        shadow = torch.minimum(shadow, d * 6 / step + 0.2)
        step *= 1.5
    occlusion = torch.ones_like(hits.distance)
    for height, weight in ((0.07, 1.6), (0.18, 1.0), (0.36, 0.5)):
        d = sdf.distance(shapes.rows, start + normal * height)
        occlusion = occlusion - weight * (height - d).clamp(min=0)
    return shadow.clamp(0, 1), occlusion.clamp(0.2, 1)


def _surface(draws: Draws, material: str, view: View, hits: Hits, resolution: int) -> Surface:
    hero_pixels = view.fills * resolution
    scale = 256 / resolution
    cell = (hero_pixels * scale / 6.5).clamp(*CELL) * draws.uniform(0.85, 1.2, 1) / scale
    turned = draws.uniform(0, 6.28, 1)
    x, y, z = hits.point.unbind(-1)
    c, s = torch.cos(turned), torch.sin(turned)
    anchored = torch.stack([c * x + s * z, y, c * z - s * x], -1)
    nx, ny, nz = hits.normal.unbind(-1)
    normal = torch.stack([c * nx + s * nz, ny, c * nz - s * nx], -1)
    q = anchored * (view.zoom * resolution / 2 / cell)[..., None] + draws.uniform(0, 4, 1, 3)
    surface = MATERIALS[material](Points(q, normal, y, draws))
    if surface.normal is None:
        return surface
    nx, ny, nz = surface.normal.unbind(-1)
    return replace(surface, normal=torch.stack([c * nx - s * nz, ny, c * nz + s * nx], -1))


def _surroundings(
    place: Place, setting: Environment, view: View, hits: Hits, grounded: Tensor, floor: Tensor, lights: Light, mood: str,
    shadow: Tensor, occlusion: Tensor,
) -> Tensor:  # fmt: skip
    """Backdrop and ground [B, N, 3]. Where the control image has no ground, the place is seen by a camera of its
    own."""
    draws, n = place.draws, view.resolution
    steps = (torch.arange(n, device=view.rays.device) + 0.5) / n * 2 - 1
    sy, sx = torch.meshgrid(-steps, steps, indexing="ij")
    sx, sy = sx.reshape(1, -1), sy.reshape(1, -1) - draws.uniform(-0.45, 0.0, 1)
    own = torch.stack([(sx * OWN_WIDTH).expand_as(sy), sy * OWN_WIDTH, torch.ones_like(sy)], -1)
    azimuth = torch.atan2(-view.eye[:, 0:1], -view.eye[:, 2:3])
    c, s = torch.cos(azimuth), torch.sin(azimuth)
    x, y, z = view.rays.unbind(-1)
    seen = torch.stack([c * x - s * z, y, s * x + c * z], -1)
    direction = torch.where(grounded[..., None], seen, own)
    u = torch.atan2(direction[..., 0], direction[..., 2])
    v = direction[..., 1] / (direction[..., 0] ** 2 + direction[..., 2] ** 2 + 1e-6).sqrt()
    # A long lens would show but the trees' feet: the backdrop keeps the width of the place's own camera.
    widened = torch.where(grounded, (OWN_WIDTH * view.zoom * view.eye.norm(dim=-1, keepdim=True)).clamp(min=1), 1.0)
    u, v = u * widened, v * widened
    half = lambda a: a.unflatten(1, (n, n))[:, ::2, ::2].flatten(1)  # noqa: E731
    us, vs = half(u), half(v).clamp(min=0)
    sky = lighting.sky_in_mood(place, setting.sky(place, us, vs), us, vs, mood)
    sky = (
        F.interpolate(sky.unflatten(1, (n // 2, n // 2)).movedim(-1, 1), scale_factor=2, mode="bilinear")
        .flatten(2)
        .movedim(1, -1)
    )
    height = torch.where(grounded, view.eye[:, 1:2] - floor, torch.full_like(floor, 1.3))
    reach = (height / (-direction[..., 1]).clamp(min=1e-3)).clamp(0, 60)
    gx, gz = direction[..., 0] * reach, direction[..., 2] * reach
    foot = torch.where(grounded, view.eye[:, [0, 2]].norm(dim=-1, keepdim=True), torch.full_like(floor, 3.0))
    ground = setting.ground(place, gx + place.offset * 2, gz + place.offset)
    ground = lighting.ground_in_mood(place, ground, mood, (gx**2 + (gz - foot) ** 2).sqrt())
    ground = (
        ground
        * torch.where(hits.ground, (0.5 + 0.5 * shadow) * (0.35 + 0.65 * occlusion), torch.ones_like(shadow))[..., None]
    )
    bare = setting in (ENVIRONMENTS["plain"], ENVIRONMENTS["studio"])
    distant = smoothstep(8.0, 50.0, reach) * (0.3 if bare else 0.45)
    haze = lights.horizon.clamp(max=0.95) if not bare else ground.mean(1, keepdim=True)
    ground = mix(ground, haze, distant[..., None])
    return mix(ground, sky, smoothstep(-0.004, 0.004, v)[..., None])
