"""Light and moods: where light comes from, how a surface answers it, and what a mood does to sky, ground and air."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket.backdrops import gradient
from jobs.pocket.draws import Draws
from jobs.pocket.environments import ENVIRONMENTS, Environment
from jobs.pocket.noise import fbm, flat, mix, smoothstep, worley
from jobs.pocket.place import Place
from jobs.pocket.surface import Surface

INDOORS = ("day", "neon light", "spotlight")
OUTDOORS = ("day", "sunset", "night", "fog", "storm", "neon light", "spotlight")


def moods(environment: str) -> tuple[str, ...]:
    """The lights that an environment may be seen in."""
    return OUTDOORS if ENVIRONMENTS[environment].outdoors else INDOORS


# Coloured and dim light hides what a hero is made of, from people as from networks.
FILL = {"night": 0.3, "neon light": 0.35, "spotlight": 0.15, "storm": 0.15, "sunset": 0.2, "fog": 0.1}


@dataclass(frozen=True)
class Light:
    """Colours [B, 1, 3] from the zenith, the horizon, the ground, the sun and a second lamp; unit directions [B,
    1, 3] to both; and the white light that comes from beside the camera onto heroes, as on a film set."""

    zenith: Tensor
    horizon: Tensor
    floor: Tensor
    sun: Tensor
    to_sun: Tensor
    lamp: Tensor
    to_lamp: Tensor
    fill: float


def w(x: Tensor) -> Tensor:
    return x[..., None]


def toward(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit directions [B, 1, 3] from angles [B, 1]; azimuth 0 is +z."""
    flat_part = torch.cos(elevation)
    return torch.stack([flat_part * torch.sin(azimuth), torch.sin(elevation), flat_part * torch.cos(azimuth)], -1)


def light(draws: Draws, place: Place, environment: Environment, mood: str, azimuth: Tensor) -> Light:
    """The light of an environment in a mood; `azimuth` [B, 1] is the direction from the hero to the camera."""
    c = place.rgb
    side = torch.where(draws.chance(0.5, 1), 1.0, -1.0)
    elevation = environment.height * draws.uniform(0.8, 1.15, 1)
    sun_azimuth = azimuth + side * draws.uniform(0.35, 1.25, 1)
    zenith, horizon, floor, sun = (
        c(*environment.zenith),
        c(*environment.horizon),
        c(*environment.floor),
        c(*environment.sun),
    )
    lamp = 0.22 * (zenith + horizon)
    if mood == "sunset":
        elevation = draws.uniform(0.15, 0.35, 1)
        sun, zenith, horizon = c(1.55, 0.78, 0.36), 0.35 * zenith + c(0.26, 0.16, 0.3), c(1.0, 0.58, 0.32)
        floor, lamp = floor * c(0.75, 0.5, 0.42), c(0.5, 0.25, 0.35)
    elif mood == "night":
        zenith, horizon, floor = (x * c(0.2, 0.26, 0.42) + c(0.02, 0.03, 0.07) for x in (zenith, horizon, floor))
        sun, lamp = c(0.72, 0.82, 1.1), c(0.4, 0.55, 0.95)
    elif mood == "storm":
        zenith, horizon, floor = (0.3 * x.mean(-1, keepdim=True) + 0.2 * x for x in (zenith, horizon, floor))
        sun, lamp = c(0.42, 0.46, 0.52), c(0.3, 0.36, 0.45)
    elif mood == "fog":
        zenith = horizon = 0.3 * horizon + c(0.55, 0.57, 0.6, 0.02)
        sun, lamp = 0.45 * sun, c(0.3, 0.3, 0.32)
    elif mood == "neon light":
        zenith, horizon, floor = (0.22 * x + c(0.06, 0.03, 0.12) for x in (zenith, horizon, floor))
        elevation, sun_azimuth = draws.uniform(0.2, 0.6, 1), azimuth + side * draws.uniform(0.8, 1.4, 1)
        sun, lamp = c(1.25, 0.15, 0.8), c(0.05, 0.95, 1.15)
    elif mood == "spotlight":
        zenith, horizon, floor = 0.16 * zenith, 0.16 * horizon, 0.2 * floor
        elevation, sun, lamp = draws.uniform(0.9, 1.3, 1), c(1.5, 1.42, 1.25), c(0.2, 0.2, 0.22)
    lamp_azimuth = azimuth - side * (1.3 if mood == "neon light" else 2.3)
    return Light(
        zenith,
        horizon,
        floor,
        sun,
        toward(sun_azimuth, elevation),
        lamp,
        toward(lamp_azimuth, torch.full_like(elevation, 0.45)),
        FILL.get(mood, 0.0),
    )


def reflected(direction: Tensor, lights: Light) -> Tensor:
    """What a mirror sees [B, N, 3]: a studio of grey bands, only lightly tinted by the place, so that gold stays
    gold under a blue sky."""
    up = direction[..., 1]
    sky = 0.72 + 0.38 * smoothstep(0.0, 0.35, up) - 0.4 * smoothstep(0.5, 1.0, up)
    earth = 0.12 + 0.4 * smoothstep(-0.08, -0.9, up)
    band = mix(earth, sky, smoothstep(-0.05, 0.05, up))
    band = (
        band
        + 0.9 * smoothstep(0.8, 0.93, (direction * lights.to_sun).sum(-1))
        + 0.35 * smoothstep(0.75, 0.9, (direction * lights.to_lamp).sum(-1))
    )
    place = mix(lights.floor, mix(lights.horizon, lights.zenith, w(up.clamp(0, 1))), w(smoothstep(-0.05, 0.05, up)))
    power = (lights.zenith + lights.horizon + lights.sun).mean(-1, keepdim=True).div(2.4).clamp(0.5, 1.05)
    tint = place / place.mean(-1, keepdim=True).clamp(min=0.05)
    sun_tint = lights.sun / lights.sun.mean(-1, keepdim=True).clamp(min=0.05)
    return w(band) * mix(torch.ones_like(tint), 0.6 * tint + 0.4 * sun_tint, torch.full_like(w(up), 0.3)) * power


def metallic(albedo: Tensor, mirror: Tensor) -> Tensor:
    """Metal in the colours of its reflections: saturated in the dark, its own colour in the middle, white in the
    highlights."""
    level = mirror.mean(-1, keepdim=True)
    return albedo ** (1 + 0.9 * (1 - level).clamp(0, 1)) * mirror + (level - 0.95).clamp(min=0) * 0.9


def shade(surface: Surface, normal: Tensor, ray: Tensor, lights: Light, shadow: Tensor, occlusion: Tensor) -> Tensor:
    """Colours [B, N, 3] of hero points; normal, ray [B, N, 3]; shadow and occlusion [B, N] are 1 in the open."""
    n = surface.normal if surface.normal is not None else normal
    facing = (-(ray * normal).sum(-1)).clamp(0, 1)
    sun = (0.85 * (n * lights.to_sun).sum(-1) + 0.15).clamp(min=0) * (0.15 + 0.85 * shadow)
    lamp = (n * lights.to_lamp).sum(-1).clamp(min=0)
    ambient = mix(lights.floor, 0.5 * (lights.zenith + lights.horizon), w(n[..., 1] * 0.5 + 0.5)) * 0.62 + 0.05
    matt = surface.albedo * (
        ambient * w(occlusion)
        + lights.sun * w(sun) * 0.72
        + lights.lamp * w(lamp * occlusion) * 0.7
        + lights.fill * w((0.35 + 0.65 * (-(ray * n).sum(-1)).clamp(0, 1)) * occlusion)
    )
    mirror_ray = ray - 2 * w((ray * n).sum(-1)) * n
    mirror = reflected(mirror_ray, lights)
    polished = (
        metallic(surface.albedo, mirror) * w(0.45 + 0.55 * occlusion) + surface.albedo * lights.lamp * w(lamp) * 0.35
    )
    metal = torch.as_tensor(surface.metal, device=n.device).expand(n.shape[:-1])
    colour = mix(matt, polished, w(metal))
    edge = (1 - facing) ** 3
    # Outlines are darker before a bright place, and lit by it in a dark one.
    bright = smoothstep(0.45, 0.85, lights.horizon.mean(-1, keepdim=True))
    colour = mix(colour * (1 - 0.5 * bright * w(edge)), lights.horizon.clamp(min=0.3), 0.3 * (1 - bright) * w(edge))
    half = F.normalize(lights.to_sun - ray, dim=-1)
    highlight = (n * half).sum(-1).clamp(min=0) ** surface.shininess * shadow
    colour = (
        colour
        + lights.sun * w(highlight) * surface.gloss * 0.9
        + mirror * w((0.04 + 0.5 * edge) * occlusion) * surface.gloss * 0.7
    )
    back = smoothstep(-0.2, 0.6, (n * lights.to_lamp).sum(-1))
    colour = colour + w(edge) * (
        lights.lamp * w(0.2 + 0.5 * back) * 0.6 + surface.rim * (lights.zenith + lights.horizon) * 0.55
    )
    return colour + surface.emission


def sky_in_mood(place: Place, sky: Tensor, u: Tensor, v: Tensor, mood: str) -> Tensor:
    """The backdrop [B, N, 3] as it looks in a mood."""
    c, draws = place.rgb, place.draws
    if mood == "sunset":
        glow = gradient(v, c(1.0, 0.6, 0.25), c(0.36, 0.2, 0.46), 0.75)
        across = u - draws.uniform(-0.35, 0.35, 1)
        disc = 1 - smoothstep(0.075, 0.095, (across**2 + (v - 0.16) ** 2).sqrt())
        dusk = mix(sky * c(1.0, 0.62, 0.45), glow, torch.full_like(w(v), 0.55))
        bright = sky.mean(-1, keepdim=True).clamp(0, 1)
        return mix(dusk, c(1.0, 0.9, 0.6), w(disc) * bright)
    if mood == "night":
        dark = sky * c(0.13, 0.18, 0.34) + c(0.01, 0.015, 0.05)
        near, _, one = worley(flat(u * 8, v * 8))
        stars = (1 - smoothstep(0.05, 0.14, near)) * smoothstep(0.3, 0.7, one) * smoothstep(0.3, 0.5, v)
        away = ((u - draws.uniform(-0.4, 0.4, 1)) ** 2 + (v - draws.uniform(0.45, 0.65, 1)) ** 2).sqrt()
        moon = 1 - smoothstep(0.075, 0.09, away)
        return mix(
            dark + w(stars) * 0.8 + c(0.16, 0.2, 0.3) * w(torch.exp(-away * 6)), c(0.95, 0.96, 0.9, 0.02), w(moon)
        )
    if mood == "storm":
        grey = 0.28 * sky.mean(-1, keepdim=True) + 0.2 * sky
        cloud = fbm(flat(u * 1.8 + place.offset, v * 3 + place.offset))
        front = mix(c(0.15, 0.17, 0.21), c(0.42, 0.45, 0.5), w(smoothstep(0.35, 0.7, cloud)))
        return mix(grey, front, w(smoothstep(0.15, 0.5, v) * 0.85))
    if mood == "neon light":
        return sky * 0.25 + mix(c(0.24, 0.02, 0.26), c(0.0, 0.16, 0.28), w(smoothstep(-0.5, 0.5, u))) * (
            0.4 + 0.6 * sky.mean(-1, keepdim=True)
        )
    if mood == "spotlight":
        return sky * 0.16
    return sky


def ground_in_mood(place: Place, ground: Tensor, mood: str, away: Tensor) -> Tensor:
    """The ground [B, N, 3] in a mood; `away` [B, N] is the distance from the hero's foot."""
    c = place.rgb
    if mood == "sunset":
        return ground * c(1.02, 0.68, 0.5)
    if mood == "night":
        return ground * c(0.2, 0.26, 0.42)
    if mood == "storm":
        return ground.mean(-1, keepdim=True) * 0.25 + 0.25 * ground
    if mood == "neon light":
        return ground * mix(c(0.5, 0.16, 0.48), c(0.12, 0.42, 0.5), w(smoothstep(0.5, 4.0, away)))
    if mood == "spotlight":
        return ground * w(0.14 + 0.95 * (1 - smoothstep(0.9, 2.0, away)))
    return ground
