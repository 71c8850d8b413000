"""What heroes stand on, by position (x, z)."""

import torch

from jobs.pocket.noise import fbm, flat, fract, hash2, mix, noise, smoothstep, w, worley


def snow(p, x, z):
    return p.rgb(0.9, 0.93, 0.98, 0.02) * w(0.84 + 0.18 * fbm(flat(x * 0.6, z * 0.6)))


def dune(p, x, z):
    return p.rgb(0.93, 0.71, 0.4) * w(0.88 + 0.09 * torch.sin(z * 2.4 + fbm(flat(x * 0.5, z * 0.5)) * 9))


def beach(p, x, z):
    return p.rgb(0.95, 0.86, 0.64) * w(0.9 + 0.14 * fbm(flat(x * 1.2, z * 1.2)))


def street(p, x, z):
    wet = smoothstep(0.42, 0.7, fbm(flat(x * 0.9, z * 0.25)))
    glow = mix(p.rgb(0.75, 0.1, 0.6), p.rgb(0.05, 0.55, 0.75), w(smoothstep(0.35, 0.65, noise(flat(x * 0.5, z * 0.2)))))
    return p.rgb(0.07, 0.06, 0.12) + glow * w(wet * 0.55)


def grass(p, x, z):
    near, _, one = worley(flat(x * 1.7, z * 1.7))
    flower = (1 - smoothstep(0.1, 0.2, near)) * (one > 0.5)
    colour = mix(p.rgb(1.0, 0.9, 0.2), p.rgb(0.97, 0.95, 0.95), w((one > 0.75).float()))
    return mix(p.rgb(0.3, 0.6, 0.14) * w(0.75 + 0.5 * fbm(flat(x * 2, z * 2))), colour, w(flower))


def studio(p, x, z):
    return p.rgb(0.66, 0.66, 0.67, 0.03) + 0 * w(x)


def plain(p, x, z):
    return p.backdrop + 0 * w(x)


def moon(p, x, z):
    near, _, _ = worley(flat(x * 0.7, z * 0.7))
    rim = smoothstep(0.2, 0.35, near) * (1 - smoothstep(0.35, 0.48, near))
    return p.rgb(0.46, 0.46, 0.49) * w(
        0.72 + 0.3 * fbm(flat(x, z)) + 0.3 * rim - 0.25 * (1 - smoothstep(0.1, 0.3, near))
    )


def seabed(p, x, z):
    near, second, _ = worley(flat(x * 0.8 + fbm(flat(x, z)), z * 0.8))
    return p.rgb(0.3, 0.58, 0.56) * w(0.8 + 0.2 * fbm(flat(x, z))) + p.rgb(0.2, 0.3, 0.25) * w(
        1 - smoothstep(0.0, 0.25, second - near)
    )


def ash(p, x, z):
    near, second, _ = worley(flat(x * 0.28 + fbm(flat(x * 0.4, z * 0.4)), z * 0.28))
    crack = 1 - smoothstep(0.015, 0.07, second - near)
    return p.rgb(0.13, 0.09, 0.09) * w(0.7 + 0.6 * fbm(flat(x, z))) + p.rgb(1.0, 0.32, 0.03) * w(crack * 0.7)


def leaf(p, x, z):
    near, second, one = worley(flat(x * 2, z * 2))
    colour = mix(
        mix(p.rgb(0.72, 0.3, 0.07), p.rgb(0.86, 0.58, 0.16), w((one > 0.5).float())),
        p.rgb(0.5, 0.25, 0.1),
        w((one > 0.8).float()),
    )
    return colour * w(0.75 + 0.3 * smoothstep(0.0, 0.4, second - near))


def cloud(p, x, z):
    return mix(
        p.rgb(0.74, 0.83, 0.95), p.rgb(1.0, 1.0, 1.0, 0.01), w(smoothstep(0.3, 0.65, fbm(flat(x * 0.6, z * 0.6))))
    )


def floor(p, x, z):
    plank = smoothstep(0.02, 0.07, 0.5 - (fract(x * 1.1) - 0.5).abs())
    return p.rgb(0.5, 0.29, 0.15) * w(
        (0.65 + 0.35 * plank) * (0.8 + 0.35 * hash2(torch.floor(x * 1.1), torch.zeros_like(x)))
    )


def alp(p, x, z):
    rock = smoothstep(0.5, 0.6, fbm(flat(x * 0.6, z * 0.6)))
    return mix(p.rgb(0.38, 0.52, 0.24), p.rgb(0.52, 0.52, 0.5), w(rock)) * w(0.75 + 0.45 * fbm(flat(x * 1.6, z * 1.6)))


def jungle(p, x, z):
    return mix(
        p.rgb(0.16, 0.36, 0.1), p.rgb(0.3, 0.23, 0.12), w(smoothstep(0.45, 0.6, fbm(flat(x * 0.7, z * 0.7))))
    ) * w(0.7 + 0.6 * fbm(flat(x * 2, z * 2)))


def petal(p, x, z):
    near, _, one = worley(flat(x * 2, z * 2))
    petal = (1 - smoothstep(0.16, 0.26, near)) * (one > 0.35)
    return mix(
        p.rgb(0.42, 0.64, 0.3) * w(0.8 + 0.35 * fbm(flat(x * 1.5, z * 1.5))), p.rgb(0.98, 0.75, 0.84, 0.03), w(petal)
    )


def floe(p, x, z):
    near, second, _ = worley(flat(x * 0.55, z * 0.55))
    floe = smoothstep(0.06, 0.13, second - near)
    return mix(p.rgb(0.06, 0.26, 0.42), p.rgb(0.86, 0.94, 0.99, 0.02) * w(0.9 + 0.12 * fbm(flat(x, z))), w(floe))


def tile(p, x, z):
    square = (torch.floor(x * 0.7) + torch.floor(z * 0.7)) % 2
    return mix(p.rgb(0.32, 0.3, 0.3), p.rgb(0.44, 0.42, 0.41), w(square)) * w(0.85 + 0.3 * fbm(flat(x, z)))
