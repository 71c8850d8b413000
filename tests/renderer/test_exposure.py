import numpy as np
from test_paint import GEOMETRY, SHOTS, seen

from renderer.exposure import KINDS, compensate, expose, overlaps
from renderer.paint import kinds

RNG = np.random.default_rng(0)


def agreed(pictures):
    """The pictures of SHOTS with colours that agree, as renderer/render.py makes them."""
    found = [overlaps(SHOTS, pictures, number, GEOMETRY) for number in range(len(SHOTS))]
    pixels, differences = map(np.stack, zip(*found, strict=True))
    offsets = np.stack([compensate(pixels[:, kind], differences[:, kind]) for kind in range(KINDS)], axis=1)
    given = zip(pictures, [kinds(shot.gbuffer, GEOMETRY) for shot in SHOTS], offsets, strict=True)
    return np.stack([expose(*one) for one in given]), offsets


def test_pictures_that_agree_stay():
    _, offsets = agreed(np.stack([seen(shot) for shot in SHOTS]))
    assert np.abs(offsets).max() < 0.5


def test_each_kind_finds_its_own_light():
    """Heroes, ground and dome of four pictures, each in a light of its own, come out in nearly one."""
    lights = RNG.uniform(-20, 20, (len(SHOTS), KINDS, 3))
    pictures = [seen(shot) for shot in SHOTS]
    off = np.stack(
        [expose(*one) for one in zip(pictures, [kinds(s.gbuffer, GEOMETRY) for s in SHOTS], lights, strict=True)]
    )
    _, offsets = agreed(off)
    left = lights + offsets
    assert left.std(axis=0).mean() < 0.2 * lights.std(axis=0).mean()
    assert np.abs(left.mean(axis=0) - lights.mean(axis=0)).max() < 8, "what they agree on lies between them"


def test_least_squares():
    """The offsets are where the sum of squares that the docstring names is least."""
    pixels, differences = np.triu(RNG.uniform(size=(5, 5)), 1), RNG.normal(size=(5, 5, 3))
    differences *= pixels[..., None]
    found = compensate(pixels, differences)

    def squares(offsets):
        total = 0.1 * ((pixels + pixels.T).sum(axis=1)[:, None] * offsets**2).sum()
        for i in range(5):
            for j in range(i + 1, 5):
                total += pixels[i, j] * ((differences[i, j] / pixels[i, j] + offsets[j] - offsets[i]) ** 2).sum()
        return total

    for _ in range(20):
        assert squares(found + 1e-3 * RNG.normal(size=found.shape)) > squares(found)


def test_who_shares_nothing_stays_and_order_does_not_matter():
    pixels, differences = np.triu(RNG.uniform(size=(4, 4)), 1), RNG.normal(size=(4, 4, 3))
    pixels[2], pixels[:, 2] = 0, 0
    differences *= (pixels > 0)[..., None]
    found = compensate(pixels, differences)
    assert (found[2] == 0).all()
    np.testing.assert_allclose(compensate(pixels.T, -differences.transpose(1, 0, 2)), found)
