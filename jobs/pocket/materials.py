"""What heroes are made of. A material is a function of points on the surface; the words for it stand in
`words.MATERIALS`.

Points come in cells: one feature of a pattern (a brick, a dot, a stripe) is about one unit or a little less, 16 to 40 pixels,
so that patterns stay legible in a 256² picture and in latents at an eighth of that.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket.noise import fbm, fract, hash2, mix, noise, smoothstep, w, worley
from jobs.pocket.surface import RGB, Points, Surface
from jobs.pocket.words import COLOURS


def bands(x: Tensor, softness: float = 0.15) -> Tensor:
    """Stripes: 0 and 1 in turn, one pair per unit."""
    return smoothstep(-softness, softness, torch.sin(x * 2 * math.pi))


def relief(p: Points, facet: Tensor, strength: float) -> Tensor:
    """Normals tilted by a random but constant amount within each facet (numbered by `facet` in [0, 1))."""
    tilt = torch.stack([fract(facet * k) - 0.5 for k in (17.13, 37.71, 71.37)], -1) * 2
    return F.normalize(p.n + strength * tilt, dim=-1)


def _metal(colour: tuple[float, float, float], brushed: float = 0.12) -> Callable[[Points], Surface]:
    def material(p: Points) -> Surface:
        return Surface(
            p.rgb(*colour, 0.03) * (1 - brushed + 2 * brushed * w(fbm(p.q, 0.7))), metal=1.0, gloss=0.5, shininess=70
        )

    return material


def copper(p: Points) -> Surface:
    patina = smoothstep(0.5, 0.6, fbm(p.q, 0.6) + 0.1 * p.n[..., 1])
    albedo = mix(p.rgb(0.85, 0.42, 0.22), p.rgb(0.25, 0.66, 0.55), w(patina))
    return Surface(albedo, metal=0.9 * (1 - patina), gloss=0.3, shininess=40)


def rust(p: Points) -> Surface:
    coarse = smoothstep(0.42, 0.52, fbm(p.q, 0.6))
    rusty = mix(p.rgb(0.6, 0.24, 0.06), p.rgb(0.33, 0.11, 0.04), w(smoothstep(0.4, 0.6, fbm(p.q, 1.6))))
    return Surface(mix(p.rgb(0.34, 0.36, 0.4), rusty, w(coarse)), metal=0.5 * (1 - coarse), gloss=0.1, shininess=12)


def plates(p: Points) -> Surface:
    u, v = p.planar()
    fu, fv = (fract(c * 0.62) - 0.5 for c in (u, v))
    seam = smoothstep(0.44, 0.47, torch.maximum(fu.abs(), fv.abs()))
    rivet = 1 - smoothstep(0.05, 0.075, ((fu.abs() - 0.34) ** 2 + (fv.abs() - 0.34) ** 2).sqrt())
    shade = 0.75 + 0.35 * hash2(torch.floor(u * 0.62), torch.floor(v * 0.62))
    albedo = p.rgb(0.5, 0.54, 0.6) * w(shade) * w(1 - 0.85 * seam) + w(rivet) * 0.35
    return Surface(albedo, metal=0.45, gloss=0.35, shininess=40)


def marble(p: Points) -> Surface:
    vein = (torch.sin((p.q[..., 0] + 0.8 * p.q[..., 1] + 0.5 * p.q[..., 2]) * 2.0 + fbm(p.q, 0.5) * 9)).abs()
    grey = mix(p.rgb(0.3, 0.31, 0.36), p.rgb(0.93, 0.92, 0.9, 0.02), w(smoothstep(0.03, 0.28, vein)))
    return Surface(grey, gloss=0.3, shininess=60)


def granite(p: Points) -> Surface:
    _, _, one = worley(p.q, 2.2)
    speckle = 0.2 + 0.6 * one
    return Surface(p.rgb(0.95, 0.94, 0.93, 0.03) * w(speckle) * w(0.8 + 0.3 * fbm(p.q, 0.5)), gloss=0.03, shininess=8)


def moss(p: Points) -> Surface:
    cover = smoothstep(0.4, 0.5, fbm(p.q, 0.6) + 0.14 * p.n[..., 1])
    stone = p.rgb(0.46, 0.45, 0.44) * w(0.55 + 0.8 * fbm(p.q, 1.5))
    return Surface(mix(stone, p.rgb(0.24, 0.46, 0.08) * w(0.5 + fbm(p.q, 2.5)), w(cover)), gloss=0.0)


def wood(p: Points) -> Surface:
    ring = (p.q[..., 0] ** 2 + p.q[..., 2] ** 2 + 1e-4).sqrt() * 0.9 + fbm(
        p.q * torch.tensor([1, 0.3, 1], device=p.q.device), 0.6
    ) * 2.6
    grain = noise(p.q * torch.tensor([1.0, 0.12, 1.0], device=p.q.device), 5.0)
    albedo = mix(p.rgb(0.36, 0.18, 0.07), p.rgb(0.74, 0.48, 0.23), w(smoothstep(0.15, 0.85, fract(ring)))) * w(
        0.85 + 0.25 * grain
    )
    return Surface(albedo, gloss=0.08, shininess=25)


def brick(p: Points) -> Surface:
    u, v = p.planar()
    row = torch.floor(v * 1.9)
    u, v = u * 0.95 + 0.5 * (row % 2), v * 1.9
    edge = torch.minimum(
        smoothstep(0.03, 0.08, 0.5 - (fract(u) - 0.5).abs()), smoothstep(0.07, 0.15, 0.5 - (fract(v) - 0.5).abs())
    )
    clay = mix(p.rgb(0.52, 0.13, 0.08), p.rgb(0.78, 0.32, 0.18), w(hash2(torch.floor(u), row)))
    return Surface(mix(p.rgb(0.78, 0.75, 0.7), clay, w(edge)), gloss=0.0)


def ice(p: Points) -> Surface:
    near, second, one = worley(p.q + w(fbm(p.q, 0.5)), 0.55)
    crack = 1 - smoothstep(0.0, 0.09, second - near)
    depth = fbm(p.q, 0.45)
    albedo = mix(
        p.rgb(0.33, 0.68, 0.92),
        p.rgb(0.82, 0.95, 1.0),
        w((crack * 0.9 + smoothstep(0.35, 0.7, depth) * 0.7).clamp(0, 1)),
    )
    return Surface(albedo, gloss=0.6, shininess=90, rim=p.rgb(0.5, 0.7, 0.85), normal=relief(p, one, 0.22))


def lava(p: Points) -> Surface:
    near, second, _ = worley(p.q + w(fbm(p.q, 0.6)) * 1.2, 0.62)
    crack = 1 - smoothstep(0.03, 0.22, second - near)
    glow = w(crack) * mix(p.rgb(1.0, 0.2, 0.0), p.rgb(1.0, 0.85, 0.25), w(crack**3)) * 1.35
    return Surface(
        p.rgb(0.075, 0.06, 0.06) * w(0.6 + fbm(p.q, 1.5)), emission=glow, gloss=0.03, rim=p.rgb(0.25, 0.06, 0.01)
    )


def leopard(p: Points) -> Surface:
    near, _, _ = worley(p.q, 0.95)
    wobble = near + 0.12 * (noise(p.q, 3.0) - 0.5)
    rosette = smoothstep(0.2, 0.26, wobble) * (1 - smoothstep(0.4, 0.46, wobble))
    fur = mix(p.rgb(0.9, 0.66, 0.28), p.rgb(0.72, 0.42, 0.14), w(1 - smoothstep(0.18, 0.24, wobble)))
    return Surface(mix(fur, p.rgb(0.08, 0.045, 0.025), w(rosette)), gloss=0.0)


def _stripes(p: Points, wave: float) -> Tensor:
    return p.q[..., 2] * 0.75 + p.q[..., 1] * 0.75 + p.q[..., 0] * 0.25 + (fbm(p.q, 0.45) - 0.5) * wave


def zebra(p: Points) -> Surface:
    stripe = bands(_stripes(p, 1.6) * 1.05, 0.25)
    return Surface(mix(p.rgb(0.03, 0.03, 0.03), p.rgb(0.94, 0.93, 0.91, 0.02), w(stripe)), gloss=0.03)


def tiger(p: Points) -> Surface:
    belly = smoothstep(0.25, 0.95, -p.n[..., 1])
    fur = mix(p.rgb(0.97, 0.5, 0.07), p.rgb(0.97, 0.92, 0.82), w(belly))
    stripe = smoothstep(-0.72, -0.45, torch.sin(_stripes(p, 2.2) * 0.8 * 2 * math.pi))
    return Surface(mix(p.rgb(0.05, 0.03, 0.02), fur, w(stripe)), gloss=0.0)


def cow(p: Points) -> Surface:
    patch = smoothstep(0.5, 0.525, fbm(p.q, 0.65))
    return Surface(mix(p.rgb(0.94, 0.92, 0.88, 0.02), p.rgb(0.06, 0.05, 0.045), w(patch)), gloss=0.0, rim=0.08)


def giraffe(p: Points) -> Surface:
    near, second, one = worley(p.q, 0.85)
    gap = smoothstep(0.06, 0.13, second - near)
    brown = mix(p.rgb(0.58, 0.3, 0.1), p.rgb(0.72, 0.42, 0.16), w(one))
    return Surface(mix(p.rgb(0.95, 0.86, 0.64), brown, w(gap)), gloss=0.0)


def knit(p: Points) -> Surface:
    wool, colour = p.named(["red", "blue", "green", "pink", "white", "yellow", "purple", "orange"])
    u, v = p.planar()
    u, v = u * 1.5, v * 1.9
    half = (fract(u) - 0.5).abs() * 2
    stitch = fract(v - half * 0.65)
    bump = smoothstep(0.0, 0.3, stitch) * (1 - smoothstep(0.72, 1.0, stitch))
    column = smoothstep(0.0, 0.18, half) * smoothstep(0.0, 0.16, 1 - half)
    return Surface(wool * w(0.34 + 0.72 * bump * (0.5 + 0.5 * column)), gloss=0.0, rim=wool * 0.2, colour=colour)


def leaves(p: Points) -> Surface:
    near, second, one = worley(p.q, 1.15)
    green = mix(p.rgb(0.1, 0.34, 0.06), p.rgb(0.5, 0.74, 0.16), w(one))
    return Surface(
        green * w(0.45 + 0.65 * smoothstep(0.02, 0.35, second - near)), gloss=0.06, normal=relief(p, one, 0.5)
    )


def flowers(p: Points) -> Surface:
    u, v = p.planar()
    cell = 0.8
    cu, cv = torch.floor(u * cell), torch.floor(v * cell)
    fu, fv = (fract(c * cell) - 0.5 for c in (u, v))
    radius, angle = (fu**2 + fv**2).sqrt(), torch.atan2(fv, fu + 1e-5)
    petals = 1 - smoothstep(0.0, 0.05, radius - 0.3 - 0.13 * torch.cos(angle * 5 + 6 * hash2(cu, cv)))
    heart = 1 - smoothstep(0.09, 0.13, radius)
    palette = torch.tensor([RGB["pink"], RGB["white"], RGB["red"], RGB["purple"]], device=u.device)
    petal = palette[(hash2(cu + 5, cv) * 4).long().clamp(0, 3)]
    meadow = p.rgb(0.16, 0.44, 0.12) * w(0.8 + 0.4 * fbm(p.q, 1.5))
    return Surface(mix(mix(meadow, petal, w(petals)), p.rgb(1.0, 0.8, 0.1), w(heart)), gloss=0.02)


def denim(p: Points) -> Surface:
    u, v = p.planar()
    twill = torch.sin((u + v) * 2 * math.pi * 2.2) * 0.5 + 0.5
    seam = smoothstep(0.41, 0.43, (fract(u * 0.4) - 0.5).abs()) * smoothstep(
        0.3, 0.36, (fract(v * 1.6) - 0.5).abs() + 0.1
    )
    cloth = mix(
        p.rgb(0.1, 0.2, 0.45), p.rgb(0.36, 0.5, 0.76), w(0.35 * twill + 0.65 * smoothstep(0.35, 0.65, fbm(p.q, 0.7)))
    )
    return Surface(mix(cloth, p.rgb(0.92, 0.62, 0.2), w(seam)), gloss=0.0)


def candy(p: Points) -> Surface:
    stripe = bands((p.q[..., 1] + 0.7 * p.q[..., 0] + 0.5 * p.q[..., 2]) * 0.7, 0.15)
    return Surface(mix(p.rgb(0.95, 0.94, 0.93, 0.02), p.rgb(0.86, 0.03, 0.08), w(stripe)), gloss=0.4, shininess=70)


def porcelain(p: Points) -> Surface:
    near, second, _ = worley(p.q + w(fbm(p.q, 0.5)) * 0.6, 0.75)
    ring = smoothstep(0.16, 0.22, near) * (1 - smoothstep(0.3, 0.36, near)) + (1 - smoothstep(0.07, 0.11, near))
    blue = (ring + 1 - smoothstep(0.02, 0.07, second - near)).clamp(0, 1)
    return Surface(mix(p.rgb(0.94, 0.95, 0.97, 0.02), p.rgb(0.06, 0.16, 0.62), w(blue)), gloss=0.5, shininess=90)


def crystal(p: Points) -> Surface:
    near, second, one = worley(p.q, 0.72)
    edge = 1 - smoothstep(0.0, 0.07, second - near)
    albedo = mix(p.rgb(0.32, 0.07, 0.55), p.rgb(0.8, 0.5, 0.98), w(fract(one * 7.7)))
    return Surface(
        mix(albedo, p.rgb(0.95, 0.85, 1.0), w(edge * 0.7)),
        gloss=0.7,
        shininess=50,
        rim=p.rgb(0.45, 0.25, 0.6),
        normal=relief(p, one, 0.6),
    )


def origami(p: Points) -> Surface:
    near, second, one = worley(p.q, 0.5)
    crease = 1 - smoothstep(0.0, 0.05, second - near)
    # One side of the paper is white, the other coloured: folds show both.
    front = smoothstep(0.55, 0.6, fract(one * 5.3))
    paper = mix(p.rgb(0.97, 0.93, 0.84, 0.02), p.rgb(0.96, 0.58, 0.46), w(front)) * w(0.8 + 0.2 * fract(one * 9.1))
    return Surface(mix(paper, p.rgb(0.5, 0.42, 0.38), w(crease * 0.6)), gloss=0.0, normal=relief(p, one, 0.7))


def sand(p: Points) -> Surface:
    ripple = torch.sin(p.q[..., 1] * 4.5 + fbm(p.q, 0.5) * 8) * 0.5 + 0.5
    return Surface(p.rgb(0.88, 0.71, 0.42) * w(0.68 + 0.24 * ripple + 0.16 * noise(p.q, 6.0)), gloss=0.0)


def snow(p: Points) -> Surface:
    lump = fbm(p.q, 1.3)
    # It lies on a dark rock that shows where nothing can lie.
    rock = smoothstep(-0.1, -0.35, p.n[..., 1] + 1.2 * (fbm(p.q, 0.8) - 0.5))
    white = p.rgb(0.94, 0.96, 1.0, 0.01) * w(0.84 + 0.18 * lump)
    return Surface(
        mix(white, p.rgb(0.2, 0.23, 0.28) * w(0.7 + 0.6 * lump), w(rock)),
        gloss=0.03,
        rim=p.rgb(0.12, 0.16, 0.24),
        normal=relief(p, torch.floor(lump * 6) / 6, 0.12),
    )


def terracotta(p: Points) -> Surface:
    band = smoothstep(0.36, 0.4, (fract(p.q[..., 1] * 0.45) - 0.5).abs())
    return Surface(
        mix(p.rgb(0.76, 0.38, 0.22), p.rgb(0.4, 0.16, 0.1), w(band)) * w(0.88 + 0.2 * fbm(p.q, 0.8)), gloss=0.03
    )


def neon(p: Points) -> Surface:
    lines = (0.5 - (fract(p.q * 0.85) - 0.5).abs()) / (1.05 - p.n.abs() ** 2).clamp(min=0.15)
    line = 1 - smoothstep(0.05, 0.13, lines.amin(-1))
    halo = 1 - smoothstep(0.0, 0.45, lines.amin(-1))
    colour = mix(p.rgb(0.05, 0.95, 1.0), p.rgb(1.0, 0.1, 0.85), w(smoothstep(-0.6, 0.6, p.height)))
    return Surface(
        p.rgb(0.02, 0.02, 0.04).expand_as(p.q),
        emission=colour * w(line * 1.3 + halo * 0.25),
        gloss=0.1,
        rim=colour * 0.3,
    )


def plastic(p: Points) -> Surface:
    paint, colour = p.named(COLOURS)
    return Surface(paint.expand_as(p.q), gloss=1.3, shininess=90, colour=colour)


def metallic(p: Points) -> Surface:
    paint, colour = p.named(["red", "blue", "green", "purple", "pink", "turquoise"])
    return Surface((paint * 0.9 + 0.08).expand_as(p.q), metal=0.95, gloss=0.6, shininess=80, colour=colour)


def fur(p: Points) -> Surface:
    coat, colour = p.named(["orange", "brown", "white", "grey", "black", "yellow"])
    u, v = p.planar()
    u = u * 2.0 + fbm(p.q, 0.7)
    lock = hash2(torch.floor(u), torch.floor(u) * 0.37)
    # Locks hang over each other, dark at the root and pointed at the tip.
    strands = fract(v * 0.75 + lock - 0.5 * (fract(u) - 0.5).abs())
    belly = smoothstep(0.3, 0.9, -p.n[..., 1])
    hair = (coat * 0.85 + 0.06) * w(0.35 + 1.05 * (1 - strands) ** 1.5)
    return Surface(mix(hair, p.rgb(0.95, 0.92, 0.86), w(belly * 0.7)), gloss=0.0, rim=coat * 0.35 + 0.08, colour=colour)


def checker(p: Points) -> Surface:
    dark, colour = p.named(["red", "black", "blue", "green", "purple", "orange"])
    u, v = p.planar()
    square = (torch.floor(u * 1.4) + torch.floor(v * 1.4)) % 2
    return Surface(mix(dark, p.rgb(0.94, 0.94, 0.92, 0.02), w(square)), gloss=0.25, shininess=50, colour=colour)


def dots(p: Points) -> Surface:
    cloth, colour = p.named(["red", "blue", "green", "pink", "yellow", "purple", "black"])
    u, v = p.planar()
    v = v * 1.35
    u = u * 1.2 + 0.5 * (torch.floor(v) % 2)
    radius = ((fract(u) - 0.5) ** 2 + (fract(v) - 0.5) ** 2).sqrt()
    return Surface(
        mix(p.rgb(0.96, 0.96, 0.94, 0.02), cloth, w(smoothstep(0.26, 0.31, radius))),
        gloss=0.15,
        shininess=40,
        colour=colour,
    )


def chocolate(p: Points) -> Surface:
    u, v = p.planar()
    groove = torch.minimum(*(smoothstep(0.03, 0.12, 0.5 - (fract(c * 0.75) - 0.5).abs()) for c in (u, v)))
    return Surface(p.rgb(0.3, 0.14, 0.065) * w(0.5 + 0.55 * groove), gloss=0.35, shininess=25)


def rainbow(p: Points) -> Surface:
    hue = fract(p.height * 0.55 + 0.5 + 0.06 * p.q[..., 0])
    k = [(n + hue * 6) % 6 for n in (5, 3, 1)]
    return Surface(
        torch.stack(
            [0.95 - 0.85 * torch.minimum(torch.minimum(c, 4 - c), torch.ones_like(c)).clamp(min=0) for c in k], -1
        ),
        gloss=0.2,
        shininess=50,
    )


def galaxy(p: Points) -> Surface:
    cloud = mix(p.rgb(0.05, 0.02, 0.16), p.rgb(0.62, 0.12, 0.66), w(smoothstep(0.4, 0.62, fbm(p.q, 0.5))))
    cloud = mix(cloud, p.rgb(0.1, 0.42, 0.92), w(smoothstep(0.48, 0.66, fbm(p.q + 9.0, 0.55))))
    near, _, one = worley(p.q, 1.1)
    star = (1 - smoothstep(0.05, 0.15, near)) * smoothstep(0.3, 0.5, one)
    return Surface(cloud, emission=cloud * 0.45 + w(star) * 1.2, gloss=0.2, shininess=40)


def jade(p: Points) -> Surface:
    vein = smoothstep(0.3, 0.7, fbm(p.q, 0.6))
    return Surface(
        mix(p.rgb(0.05, 0.4, 0.24), p.rgb(0.5, 0.8, 0.58), w(vein)), gloss=0.45, shininess=60, rim=p.rgb(0.1, 0.32, 0.2)
    )


def jelly(p: Points) -> Surface:
    bubble = 1 - smoothstep(0.1, 0.16, worley(p.q, 0.9)[0])
    thick = (p.n[..., 1] * 0.5 + 0.5) * 0.4
    albedo = mix(p.rgb(0.22, 0.75, 0.05), p.rgb(0.65, 1.0, 0.2), w(thick + 0.5 * bubble))
    return Surface(albedo, gloss=0.9, shininess=45, emission=albedo * 0.22, rim=p.rgb(0.55, 0.8, 0.2))


def scales(p: Points) -> Surface:
    u, v = p.planar()
    v = v * 1.35
    row = torch.floor(v)
    u = fract(u * 1.05 + 0.5 * (row % 2)) - 0.5
    scallop = ((u * 1.35) ** 2 + (fract(v) - 1.0) ** 2).sqrt()
    return Surface(
        mix(p.rgb(0.42, 0.78, 0.2), p.rgb(0.03, 0.17, 0.06), w(smoothstep(0.3, 0.95, scallop))), gloss=0.3, shininess=40
    )


def gingerbread(p: Points) -> Surface:
    icing = 1 - smoothstep(
        0.05,
        0.1,
        (
            p.q[..., 1] * 0.55 + 0.13 * torch.sin(p.q[..., 0] * 4 + p.q[..., 2] * 4) - torch.round(p.q[..., 1] * 0.55)
        ).abs(),
    )
    cake = p.rgb(0.7, 0.4, 0.17) * w(0.82 + 0.3 * fbm(p.q, 1.6))
    near, _, one = worley(p.q + 5.0, 0.75)
    sweet = mix(p.rgb(0.9, 0.08, 0.12), p.rgb(0.1, 0.66, 0.2), w((fract(one * 5.7) > 0.5).float()))
    iced = mix(cake, p.rgb(0.98, 0.97, 0.95, 0.01), w(icing))
    return Surface(mix(iced, sweet, w(1 - smoothstep(0.2, 0.25, near))), gloss=0.1)


MATERIALS: dict[str, Callable[[Points], Surface]] = {
    "gold": _metal((1.0, 0.76, 0.2)), "chrome": _metal((0.93, 0.95, 0.98), 0.03), "copper": copper, "rust": rust, "plates": plates,
    "marble": marble, "granite": granite, "moss": moss, "wood": wood, "brick": brick, "ice": ice, "lava": lava,
    "leopard": leopard, "zebra": zebra, "tiger": tiger, "cow": cow, "giraffe": giraffe, "knit": knit, "leaves": leaves,
    "flowers": flowers, "denim": denim, "candy": candy, "porcelain": porcelain, "crystal": crystal, "origami": origami,
    "sand": sand, "snow": snow, "terracotta": terracotta, "neon": neon, "plastic": plastic, "metallic": metallic, "fur": fur,
    "checker": checker, "dots": dots, "chocolate": chocolate, "rainbow": rainbow, "galaxy": galaxy, "jade": jade,
    "jelly": jelly, "scales": scales, "gingerbread": gingerbread,
}  # fmt: skip
