import numpy as np
from test_paint import GEOMETRY, SHOTS, seen

from renderer.exposure import compensate, expose, overlaps

RNG = np.random.default_rng(0)
HEROES = [shot.gbuffer.triangle >= 0 for shot in SHOTS]


def offsets_of(pictures):
    found = [overlaps(SHOTS, pictures, number, GEOMETRY) for number in range(len(SHOTS))]
    return compensate(*map(np.stack, zip(*found, strict=True)))


def test_pictures_that_agree_stay():
    assert np.abs(offsets_of(np.stack([seen(shot) for shot in SHOTS]))).max() < 0.5


def test_heroes_find_one_light():
    """Heroes of four pictures, in a light of their own in each, come out in nearly one; what is around them stays."""
    lights = RNG.uniform(-20, 20, (len(SHOTS), 3))
    pictures = [seen(shot) for shot in SHOTS]
    off = np.stack([expose(*one) for one in zip(pictures, HEROES, lights, strict=True)])
    offsets = offsets_of(off)
    left = lights + offsets
    assert left.std(axis=0).mean() < 0.2 * lights.std(axis=0).mean()
    assert np.abs(left.mean(axis=0) - lights.mean(axis=0)).max() < 8, "what they agree on lies between them"
    for picture, heroes, offset in zip(pictures, HEROES, offsets, strict=True):
        assert np.array_equal(expose(picture, heroes, offset)[~heroes], picture[~heroes])


def test_least_squares():
    """The offsets are where the sum of squares that the code names is least."""
    pixels, differences = np.triu(RNG.uniform(size=(5, 5)), 1), RNG.normal(size=(5, 5, 3))
    differences *= pixels[..., None]
    found = compensate(pixels, differences)

    def squares(offsets):
        total = 0.1 * (pixels + pixels.T).sum(axis=1).mean() * (offsets**2).sum()
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
    assert (compensate(np.zeros((4, 4)), np.zeros((4, 4, 3))) == 0).all()
    np.testing.assert_allclose(compensate(pixels.T, -differences.transpose(1, 0, 2)), found)
