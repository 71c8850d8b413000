"""What lies behind heroes, by direction (u, v): azimuth in radians and height over the horizon as a tangent, at least 0.

Backdrops are soft and their features large: they are scenery, must not compete with the hero's pattern, and must survive latents at
an eighth of the picture.
"""

import torch
from torch import Tensor

from jobs.pocket.noise import fbm, flat, fract, hash2, mix, noise, smoothstep, w, worley
from jobs.pocket.place import Place


def gradient(v: Tensor, low: Tensor, high: Tensor, top: float = 0.8) -> Tensor:
    return mix(low, high, w((v / top).clamp(0, 1) ** 0.7))


def below(v: Tensor, height: Tensor, softness: float = 0.012) -> Tensor:
    """1 under a skyline of this height, 0 above."""
    return smoothstep(-softness, softness, height - v)


def skyline(p: Place, u: Tensor, base: float, amplitude: float, frequency: float, seed: float) -> Tensor:
    return base + amplitude * (fbm(flat(u * frequency + p.offset + seed, torch.full_like(u, seed))) - 0.5)


def cloudy(p: Place, sky: Tensor, u: Tensor, v: Tensor, cover: float) -> Tensor:
    puff = fbm(flat(u * 1.5 + p.offset, v * 4.0 + p.offset))
    return mix(
        sky, p.rgb(0.98, 0.98, 1.0, 0.02), w(smoothstep(1 - cover, 1.12 - cover * 0.6, puff) * smoothstep(0.0, 0.15, v))
    )


def pines(
    p: Place,
    sky: Tensor,
    u: Tensor,
    v: Tensor,
    per_radian: float,
    height: float,
    seed: float,
    tree: Tensor,
    snowy: float,
) -> Tensor:
    s = u * per_radian + seed + p.offset
    k, across = torch.floor(s), fract(s) - 0.5
    y = v / (height * (0.6 + 0.6 * hash2(k, torch.full_like(k, seed))))
    tier = fract(y * 4.5)
    width = 0.47 * (1 - y) * (1 - 0.4 * tier)
    inside = smoothstep(-0.03, 0.03, width - across.abs()) * (y < 1)
    colour = mix(tree, p.rgb(0.93, 0.95, 1.0, 0.02), w(smoothstep(0.25, 0.7, tier) * snowy))
    return mix(sky, colour, w(inside))


def trees(
    p: Place,
    sky: Tensor,
    u: Tensor,
    v: Tensor,
    per_radian: float,
    base: float,
    seed: float,
    bark: Tensor,
    foliage: list[Tensor],
) -> Tensor:
    s = u * per_radian + seed + p.offset
    k, across = torch.floor(s), fract(s) - 0.5
    thickness = 0.06 + 0.05 * hash2(k, torch.full_like(k, seed))
    bend = 0.08 * torch.sin(v * 7 + k * 3)
    sky = mix(sky, bark, w(smoothstep(-0.02, 0.02, thickness - (across + bend).abs())))
    near, second, one = worley(flat(s * 1.5, v * per_radian * 1.5 + seed))
    crown = fbm(flat(s * 0.8, v * per_radian * 0.8 + seed)) + (v - base) * 1.3
    leaf = foliage[0]
    for i, colour in enumerate(foliage[1:], 1):
        leaf = mix(leaf, colour, w(smoothstep(i / len(foliage) - 0.02, i / len(foliage) + 0.02, one)))
    return mix(sky, leaf * w(0.68 + 0.4 * smoothstep(0.0, 0.5, second - near)), w(smoothstep(0.5, 0.58, crown)))


def snow_forest(p, u, v):
    sky = gradient(v, p.rgb(0.88, 0.92, 0.97), p.rgb(0.58, 0.74, 0.92))
    sky = pines(p, sky, u, v, 5.0, 0.32, 3.0, p.rgb(0.62, 0.72, 0.78), 0.4)
    sky = pines(p, sky, u, v, 3.4, 0.5, 17.0, p.rgb(0.3, 0.46, 0.46), 0.65)
    return pines(p, sky, u, v, 2.0, 0.8, 31.0, p.rgb(0.1, 0.27, 0.22), 0.85)


def desert(p, u, v):
    sky = gradient(v, p.rgb(0.97, 0.88, 0.68), p.rgb(0.32, 0.62, 0.93))
    sky = mix(sky, p.rgb(0.86, 0.62, 0.36), w(below(v, skyline(p, u, 0.2, 0.3, 1.2, 3.0))))
    return mix(sky, p.rgb(0.95, 0.72, 0.4), w(below(v, skyline(p, u, 0.08, 0.22, 1.7, 9.0))))


def beach(p, u, v):
    sky = cloudy(p, gradient(v, p.rgb(0.75, 0.9, 0.97), p.rgb(0.18, 0.54, 0.92)), u, v, 0.5)
    wave = 0.5 + 0.5 * torch.sin(v * 150 + fbm(flat(u * 6, v * 40)) * 6)
    sea = mix(p.rgb(0.15, 0.65, 0.7), p.rgb(0.02, 0.32, 0.58), w((v / 0.13).clamp(0, 1))) * w(0.88 + 0.18 * wave)
    sea = mix(sea, p.rgb(0.95, 0.97, 0.97, 0.02), w(1 - smoothstep(0.012, 0.026, v)))
    return mix(sea, sky, w(smoothstep(0.125, 0.14, v)))


def neon_city(p, u, v):
    sky = gradient(v, p.rgb(0.42, 0.1, 0.48), p.rgb(0.03, 0.02, 0.12), 0.7)
    for per_radian, height, seed, dark in ((4.0, 0.75, 3.0, 0.1), (2.6, 0.55, 11.0, 0.045)):
        s = u * per_radian + seed + p.offset
        k, across = torch.floor(s), fract(s)
        top = height * (0.35 + 0.85 * hash2(k, torch.full_like(k, seed)))
        house = below(v, top) * smoothstep(0.03, 0.06, across) * smoothstep(0.03, 0.06, 1 - across)
        cu, cv = across * 4, v * per_radian * 4.5
        lit = (hash2(torch.floor(cu) + k * 7, torch.floor(cv)) > 0.5).float()
        pane = smoothstep(0.14, 0.26, 0.5 - (fract(cu) - 0.5).abs()) * smoothstep(
            0.14, 0.26, 0.5 - (fract(cv) - 0.5).abs()
        )
        hue = hash2(k * 3, torch.full_like(k, seed + 9))
        light = mix(
            p.rgb(1.0, 0.78, 0.35),
            mix(p.rgb(0.1, 0.9, 1.0), p.rgb(1.0, 0.15, 0.75), w((hue > 0.72).float())),
            w((hue > 0.4).float()),
        )
        sign = smoothstep(0.02, 0.04, 0.11 - (across - 0.5).abs()) * (hue > 0.6) * below(v, top * 0.8)
        sky = mix(
            sky,
            p.rgb(dark, dark * 0.8, dark * 1.9) + light * w((lit * pane * 0.85 + sign * 0.8).clamp(max=1)),
            w(house),
        )
    return sky


def meadow(p, u, v):
    sky = cloudy(p, gradient(v, p.rgb(0.72, 0.88, 0.98), p.rgb(0.22, 0.55, 0.95)), u, v, 0.55)
    sky = mix(sky, p.rgb(0.36, 0.62, 0.36), w(below(v, skyline(p, u, 0.15, 0.2, 0.9, 3.0))))
    return mix(sky, p.rgb(0.38, 0.7, 0.2), w(below(v, skyline(p, u, 0.06, 0.14, 1.6, 8.0))))


def studio(p, u, v):
    return mix(p.rgb(0.68, 0.68, 0.69, 0.02), p.rgb(0.4, 0.4, 0.42, 0.02), w((v * 1.2).clamp(0, 1))) + 0 * w(u)


def plain(p, u, v):
    return p.backdrop * w(1 - 0.1 * v.clamp(0, 1))


def space(p, u, v):
    cloud = fbm(flat(u * 1.2 + p.offset, v * 1.5))
    sky = p.rgb(0.012, 0.012, 0.05) + p.rgb(0.36, 0.08, 0.5) * w(smoothstep(0.45, 0.75, cloud))
    sky = sky + p.rgb(0.04, 0.22, 0.5) * w(smoothstep(0.5, 0.8, fbm(flat(u * 1.4 + 5, v * 1.6 + p.offset))))
    near, _, one = worley(flat(u * 8 + p.offset, v * 8))
    sky = sky + w((1 - smoothstep(0.06, 0.18, near)) * smoothstep(0.3, 0.7, one))
    du, dv = u - p.draws.uniform(-0.4, 0.4, 1), v - p.draws.uniform(0.25, 0.6, 1)
    radius = p.draws.uniform(0.08, 0.2, 1)
    away = (du**2 + dv**2).sqrt() / radius
    ball = mix(p.rgb(0.85, 0.5, 0.25, 0.3), p.rgb(0.95, 0.8, 0.55, 0.2), w(0.5 + 0.5 * torch.sin(dv / radius * 7)))
    ball = ball * w((0.55 + 0.6 * (dv - du) / radius).clamp(0.08, 1))
    return mix(sky, ball, w(1 - smoothstep(0.96, 1.04, away)))


def underwater(p, u, v):
    sky = mix(p.rgb(0.01, 0.2, 0.4), p.rgb(0.2, 0.74, 0.84), w(smoothstep(-0.1, 0.9, v)))
    ray = smoothstep(0.5, 0.8, noise(flat(u * 4 - v * 1.4 + p.offset, torch.zeros_like(u)))) * smoothstep(0.05, 0.9, v)
    near, _, one = worley(flat(u * 5 + p.offset, v * 5))
    bubble = smoothstep(0.1, 0.15, near) * (1 - smoothstep(0.17, 0.23, near)) * (one > 0.65)
    s = u * 6 + p.offset
    weed = smoothstep(
        -0.03, 0.03, 0.12 * (1 - v * 3) - (fract(s + 0.15 * torch.sin(v * 12 + torch.floor(s) * 2)) - 0.5).abs()
    )
    weed = weed * below(v, 0.1 + 0.2 * hash2(torch.floor(s), torch.zeros_like(s)))
    return mix(sky + p.rgb(0.25, 0.4, 0.38) * w(ray) + 0.3 * w(bubble), p.rgb(0.03, 0.36, 0.3), w(weed * 0.8))


def volcano(p, u, v):
    sky = gradient(v, p.rgb(0.85, 0.26, 0.05), p.rgb(0.16, 0.04, 0.05), 0.8)
    sky = mix(sky, p.rgb(0.12, 0.07, 0.08), w(smoothstep(0.45, 0.75, fbm(flat(u * 1.4 + p.offset, v * 2.5))) * 0.75))
    across = u - p.draws.uniform(-0.35, 0.35, 1)
    slope = torch.minimum(
        0.6 - across.abs() * 1.2 + 0.06 * (noise(flat(u * 9, torch.zeros_like(u))) - 0.5), torch.full_like(u, 0.42)
    )
    stream = 1 - smoothstep(0.0, 0.035, (across + 0.06 * torch.sin(v * 14)).abs() - 0.012)
    rock = p.rgb(0.1, 0.065, 0.065) + p.rgb(1.1, 0.45, 0.06) * w(stream)
    glow = torch.exp(-((across / 0.2) ** 2) - ((v - 0.46) / 0.13) ** 2)
    return mix(sky + p.rgb(0.9, 0.4, 0.08) * w(glow * (v > 0.4)), rock, w(below(v, slope)))


def autumn_forest(p, u, v):
    sky = gradient(v, p.rgb(0.98, 0.9, 0.7), p.rgb(0.9, 0.88, 0.8))
    sky = trees(p, sky, u, v, 3.6, 0.25, 5.0, p.rgb(0.52, 0.4, 0.3), [p.rgb(0.86, 0.58, 0.2), p.rgb(0.9, 0.7, 0.28)])
    return trees(
        p,
        sky,
        u,
        v,
        2.0,
        0.42,
        23.0,
        p.rgb(0.26, 0.15, 0.1),
        [p.rgb(0.85, 0.3, 0.05), p.rgb(0.95, 0.58, 0.08), p.rgb(0.74, 0.18, 0.06)],
    )


def clouds(p, u, v):
    sky = gradient(v, p.rgb(0.62, 0.82, 0.99), p.rgb(0.14, 0.42, 0.9))
    puff = fbm(flat(u * 1.8 + p.offset, v * 2.6 + p.offset))
    white = mix(p.rgb(0.8, 0.86, 0.95), p.rgb(1.0, 1.0, 1.0, 0.01), w(smoothstep(0.45, 0.7, puff)))
    return mix(sky, white, w(smoothstep(0.4, 0.56, puff + 0.25 - v * 0.5)))


def room(p, u, v):
    plank = smoothstep(0.02, 0.06, 0.5 - (fract(u * 5 + p.offset) - 0.5).abs())
    wall = p.rgb(0.58, 0.36, 0.2) * w(
        (0.62 + 0.38 * plank) * (0.85 + 0.3 * noise(flat(torch.floor(u * 5 + p.offset), v * 0.4)))
    )
    across = u - p.draws.uniform(-0.38, 0.38, 1)
    frame = torch.maximum(across.abs() / 0.17, (v - 0.5).abs() / 0.22)
    cross = smoothstep(0.015, 0.025, torch.minimum(across.abs(), (v - 0.5).abs()))
    window = mix(p.rgb(0.32, 0.18, 0.09), p.rgb(1.0, 0.86, 0.55), w(cross * (frame < 0.86)))
    wall = wall + p.rgb(0.35, 0.2, 0.08) * w(torch.exp(-(across**2 + (v - 0.5) ** 2) * 5))
    return mix(wall, window, w(1 - smoothstep(0.98, 1.02, frame)))


def mountains(p, u, v):
    sky = cloudy(p, gradient(v, p.rgb(0.82, 0.9, 0.97), p.rgb(0.28, 0.55, 0.9)), u, v, 0.42)
    for seed, base, amplitude, frequency, haze in ((3.0, 0.42, 0.65, 1.3, 0.35), (9.0, 0.24, 0.5, 1.8, 0.0)):
        height = skyline(p, u, base, amplitude, frequency, seed)
        rock = mix(p.rgb(0.3, 0.35, 0.44), p.rgb(0.46, 0.5, 0.58), w(smoothstep(0.4, 0.6, fbm(flat(u * 6, v * 6)))))
        capped = mix(
            rock,
            p.rgb(0.95, 0.97, 1.0, 0.02),
            w(smoothstep(0.0, 0.05, v - height * 0.55 + 0.2 * (fbm(flat(u * 7, v * 3)) - 0.5))),
        )
        sky = mix(sky, mix(capped, p.rgb(0.75, 0.84, 0.94), torch.full_like(w(v), haze)), w(below(v, height)))
    return sky


def jungle(p, u, v):
    sky = gradient(v, p.rgb(0.7, 0.88, 0.55), p.rgb(0.5, 0.76, 0.42))
    sky = trees(p, sky, u, v, 3.2, 0.2, 5.0, p.rgb(0.34, 0.36, 0.2), [p.rgb(0.3, 0.58, 0.18), p.rgb(0.4, 0.68, 0.25)])
    sky = trees(
        p,
        sky,
        u,
        v,
        1.9,
        0.38,
        23.0,
        p.rgb(0.2, 0.17, 0.1),
        [p.rgb(0.06, 0.34, 0.09), p.rgb(0.14, 0.46, 0.1), p.rgb(0.04, 0.24, 0.08)],
    )
    s = u * 3 + p.offset
    blade = (fract(s) - 0.5).abs()
    fern = below(v, 0.2 * hash2(torch.floor(s), torch.ones_like(s)) + 0.12 - blade * 0.35, 0.02)
    return mix(sky, p.rgb(0.1, 0.42, 0.12), w(fern))


def blossom_garden(p, u, v):
    sky = gradient(v, p.rgb(0.9, 0.95, 0.98), p.rgb(0.55, 0.78, 0.96))
    sky = mix(sky, p.rgb(0.6, 0.78, 0.6), w(below(v, skyline(p, u, 0.12, 0.15, 1.2, 3.0))))
    sky = trees(p, sky, u, v, 3.2, 0.32, 5.0, p.rgb(0.5, 0.38, 0.36), [p.rgb(0.97, 0.76, 0.84), p.rgb(0.98, 0.84, 0.9)])
    return trees(
        p,
        sky,
        u,
        v,
        1.8,
        0.48,
        23.0,
        p.rgb(0.3, 0.19, 0.17),
        [p.rgb(0.95, 0.5, 0.68), p.rgb(0.98, 0.68, 0.8), p.rgb(0.9, 0.4, 0.6)],
    )


def arctic(p, u, v):
    sky = gradient(v, p.rgb(0.72, 0.88, 0.92), p.rgb(0.2, 0.38, 0.62))
    aurora = smoothstep(
        0.1,
        0.0,
        (
            v - 0.5 - 0.12 * torch.sin(u * 5 + p.offset * 3) - 0.1 * noise(flat(u * 4 + p.offset, torch.zeros_like(u)))
        ).abs(),
    )
    sky = mix(sky, p.rgb(0.3, 0.95, 0.7), w(aurora * 0.65))
    for seed, per_radian, height, colour in ((3.0, 2.6, 0.3, (0.7, 0.87, 0.95)), (8.0, 1.7, 0.22, (0.88, 0.95, 1.0))):
        s = u * per_radian + seed + p.offset
        k, across = torch.floor(s), fract(s) - 0.5
        peak = 0.5 * (hash2(k, torch.full_like(k, seed)) - 0.5)
        top = height * (1 - (across - peak).abs() * 2.1) * (0.6 + 0.6 * hash2(k + 5, torch.full_like(k, seed)))
        shade = 0.8 + 0.22 * smoothstep(-0.02, 0.02, peak - across)
        sky = mix(sky, p.rgb(*colour, 0.02) * w(shade), w(below(v, top)))
    return sky


def castle(p, u, v):
    row = torch.floor(v * 9)
    s = u * 5 + 0.5 * (row % 2) + p.offset
    joint = torch.minimum(
        smoothstep(0.02, 0.06, 0.5 - (fract(s) - 0.5).abs()), smoothstep(0.04, 0.1, 0.5 - (fract(v * 9) - 0.5).abs())
    )
    wall = p.rgb(0.4, 0.37, 0.36) * w((0.7 + 0.3 * joint) * (0.82 + 0.3 * hash2(torch.floor(s), row)))
    across = (fract(u * 1.25 + p.offset) - 0.5) / 1.25
    arch = torch.where(v > 0.5, (across**2 + (v - 0.5) ** 2).sqrt() / 0.12, across.abs() / 0.12)
    inside = (1 - smoothstep(0.96, 1.04, arch)) * smoothstep(0.19, 0.21, v)
    wall = mix(wall, p.rgb(0.62, 0.8, 0.95), w(inside))
    torch_u, torch_v = (fract(u * 1.25 + p.offset + 0.5) - 0.5) / 1.25, v - 0.36
    away = torch_u**2 + torch_v**2
    flame = torch.exp(-((torch_u / 0.022) ** 2) - (torch_v / 0.045) ** 2)
    return wall + p.rgb(0.6, 0.32, 0.08) * w(torch.exp(-away * 22)) * 0.9 + p.rgb(1.0, 0.8, 0.4) * w(flame)
