import numpy as np
from test_paint import GEOMETRY, SHOTS, seen

from renderer.exposure import compensate, expose, overlaps

RNG = np.random.default_rng(0)
HEROES = [shot.gbuffer.triangle >= 0 for shot in SHOTS]


def gains_of(pictures):
    found = [overlaps(SHOTS, pictures, number, GEOMETRY) for number in range(len(SHOTS))]
    return compensate(*map(np.stack, zip(*found, strict=True)))


def test_pictures_that_agree_stay():
    assert np.abs(gains_of(np.stack([seen(shot) for shot in SHOTS])) - 1).max() < 0.01


def test_heroes_find_one_light():
    """Heroes of four pictures, in a light of their own in each, come out in nearly one; what is around them stays."""
    lights = np.exp(RNG.uniform(-0.12, 0.12, (len(SHOTS), 3)))
    pictures = [seen(shot) for shot in SHOTS]
    off = np.stack([expose(*one) for one in zip(pictures, HEROES, lights, strict=True)])
    gains = gains_of(off)
    left = np.log(lights * gains)
    assert left.std(axis=0).mean() < 0.25 * np.log(lights).std(axis=0).mean()
    assert np.abs(left.mean(axis=0) - np.log(lights).mean(axis=0)).max() < 0.05, "what they agree on lies between them"
    for picture, heroes, gain in zip(pictures, HEROES, gains, strict=True):
        assert np.array_equal(expose(picture, heroes, gain)[~heroes], picture[~heroes])


def test_least_squares():
    """The gains are where the sum of squares that the code names is least."""
    pixels, ratios = np.triu(RNG.uniform(size=(5, 5)), 1), np.zeros((5, 5, 3))
    ratios[pixels > 0] = 1e-3 * RNG.normal(size=(10, 3))  # so small that all are alike
    found = np.log(compensate(pixels, ratios))

    def squares(gains):
        total = 0.1 * (pixels + pixels.T).sum(axis=1).mean() * (gains**2).sum()
        for i in range(5):
            for j in range(i + 1, 5):
                total += pixels[i, j] * ((ratios[i, j] + gains[j] - gains[i]) ** 2).sum()
        return total

    for _ in range(20):
        assert squares(found + 1e-5 * RNG.normal(size=found.shape)) > squares(found)


def test_green_and_red_do_not_become_mud():
    pixels = np.array([[0.0, 100], [0, 0]])
    changes = [np.abs(np.log(compensate(pixels, (pixels > 0)[..., None] * ratio))).max() for ratio in (0.1, 0.2, 1.5)]
    assert changes[0] > 0.04
    assert changes[1] > 0.06
    assert changes[2] < 1e-4


def test_who_shares_nothing_stays_and_order_does_not_matter():
    pixels, ratios = np.triu(RNG.uniform(size=(4, 4)), 1), RNG.normal(size=(4, 4, 3))
    pixels[2], pixels[:, 2] = 0, 0
    ratios *= (pixels > 0)[..., None]
    found = compensate(pixels, ratios)
    assert (found[2] == 1).all()
    assert (compensate(np.zeros((4, 4)), np.zeros((4, 4, 3))) == 1).all()
    np.testing.assert_allclose(compensate(pixels.T, -ratios.transpose(1, 0, 2)), found)
