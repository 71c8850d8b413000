import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from toys import charts

from renderer.atlas import Texels
from renderer.files import write_json
from renderer.metrics import OCTAVES, hero_coverage, octave_energies, texture_metrics


def discs(sides=(48, 20)) -> Texels:
    """One round chart per object."""
    masks = []
    for side in sides:
        y, x = np.mgrid[:side, :side] + 0.5 - side / 2
        masks.append(x**2 + y**2 < (0.45 * side) ** 2)
    return charts(masks)


TEXELS = discs()
N = len(TEXELS.object)


def noise(seed=0, sigma=0.2):
    return (0.5 + sigma * np.random.default_rng(seed).standard_normal((N, 3))).astype(np.float32)


def wandering_views(frames, seed=0):
    """Each frame sees a half-plane of each chart that turns, with holes."""
    rng = np.random.default_rng(seed)
    for t in range(frames):
        angle = 2 * math.pi * t / frames
        centre = np.array(TEXELS.sides)[TEXELS.object] / 2
        side = (TEXELS.column - centre) * math.cos(angle) + (TEXELS.row - centre) * math.sin(angle)
        yield (side > -3) & (rng.random(N) > 0.05)


def test_a_steady_texture_is_perfect_however_it_is_seen():
    texture = noise()
    clip = [(np.where(seen[:, None], texture, np.nan), seen) for seen in wandering_views(9)]
    metrics = texture_metrics(TEXELS, clip)
    assert metrics["uv_mse"] == metrics["uv_mse_normalised"] == 0
    assert metrics["stable_detail"] == pytest.approx([1] * OCTAVES, abs=1e-4)


def test_white_flicker_has_no_stable_detail():
    frames, sigma, texels = 16, 0.1, discs((160,))
    n, rng = len(texels.object), np.random.default_rng(0)
    clip = [((0.5 + sigma * rng.standard_normal((n, 3))).astype(np.float32), np.ones(n, bool)) for _ in range(frames)]
    metrics = texture_metrics(texels, clip)
    assert metrics["uv_mse"] == pytest.approx(2 * sigma**2, rel=0.05)
    assert metrics["uv_mse_mean"] == pytest.approx(sigma**2, rel=0.05)
    assert metrics["uv_mse_normalised"] == pytest.approx(2 * frames, rel=0.1)
    assert metrics["stable_detail"] == pytest.approx([0] * OCTAVES, abs=0.02)


@pytest.mark.parametrize("frames", [2, 6])
def test_dithering_gains_no_stable_detail(frames):
    """Grain that is new in each frame makes single pictures look sharper. None of it counts, however few frames see a texel."""
    texels = discs((160,))
    n, rng = len(texels.object), np.random.default_rng(0)
    texture, all_seen = rng.uniform(size=(n, 3)).astype(np.float32), np.ones(n, bool)
    plain = texture_metrics(texels, [(texture, all_seen)] * frames)
    grain = [np.float32(0.2) * rng.standard_normal((n, 3), np.float32) for _ in range(frames)]
    dithered = texture_metrics(texels, [(texture + g, all_seen) for g in grain])
    assert dithered["detail"]["single"][0] > 1.3 * plain["detail"]["single"][0]
    assert dithered["detail"]["mean"] == pytest.approx(plain["detail"]["mean"], rel=0.1)


def test_what_creeps_shows_against_the_mean_not_between_neighbours():
    frames = 12
    levels = np.linspace(0.3, 0.7, frames)
    creeping = [(np.full((N, 3), level, np.float32), np.ones(N, bool)) for level in levels]
    jumping = [creeping[i] for i in np.argsort(np.arange(frames) % 2, kind="stable")]
    a, b = texture_metrics(TEXELS, creeping), texture_metrics(TEXELS, jumping)
    assert a["uv_mse"] < 0.1 * a["uv_mse_mean"]
    assert a["uv_mse_mean"] == pytest.approx(np.var(levels, ddof=1), rel=1e-3) == pytest.approx(b["uv_mse_mean"])
    colour = np.array(a["per_frame"]["colour"])
    assert colour[:, 0] == pytest.approx(levels - levels.mean(), abs=1e-6)


def test_per_frame_curves_are_where_the_change_is():
    texture, frames = noise(), 6
    clip = [(texture + (0.1 if t >= 4 else 0), np.ones(N, bool)) for t in range(frames)]
    curves = texture_metrics(TEXELS, clip)["per_frame"]
    assert math.isnan(curves["uv_mse"][0])
    assert curves["uv_mse"][1:] == pytest.approx([0, 0, 0, 0.01, 0], abs=1e-7)
    assert np.argmax(curves["uv_mse_mean"]) == 4
    assert np.ptp(curves["detail"]) < 1e-3 * np.mean(curves["detail"])


def test_detail_that_stays_is_told_from_detail_that_flickers():
    texture, frames = noise(), 8
    clip = [(texture + 0.2 * np.float32((-1) ** t), np.ones(N, bool)) for t in range(frames)]
    metrics = texture_metrics(TEXELS, clip)
    assert metrics["uv_mse"] == pytest.approx(0.4**2, rel=1e-3)
    assert metrics["stable_detail"] == pytest.approx([1] * OCTAVES, rel=1e-3)  # brightness pumps, detail stays


def test_steady_blur_shows_in_the_energy_not_in_the_ratio():
    def blurred(texture, sigma):
        grids = [np.where((table >= 0)[..., None], texture[table], 0.5) for table in TEXELS.index]
        return np.concatenate(
            [gaussian_filter(g, (sigma, sigma, 0))[t >= 0] for g, t in zip(grids, TEXELS.index, strict=True)]
        ).astype(np.float32)

    sharp, soft = (
        texture_metrics(TEXELS, [(blurred(noise(), sigma), seen) for seen in wandering_views(6)]) for sigma in (0.01, 1)
    )
    assert soft["uv_mse"] == sharp["uv_mse"] == 0
    assert soft["stable_detail"] == pytest.approx(sharp["stable_detail"], abs=1e-3)
    ratios = np.array(soft["detail"]["mean"]) / sharp["detail"]["single"]
    assert (ratios < 0.9).all()
    assert (np.diff(ratios) > 0).all()  # the finer the octave, the more a blur takes


def test_each_octave_holds_its_own_periods():
    texels = discs((128,))
    for octave in range(OCTAVES):
        wave = np.sin(2 * math.pi * texels.column / (3 * 2**octave))[:, None].astype(np.float32)
        energies = octave_energies(texels, wave, wave, np.ones(len(wave), bool))[:, 0, 0]
        assert energies.argmax() == octave


def test_borders_and_holes_are_no_detail():
    holes = np.random.default_rng(0).random(N) > 0.5
    constant = np.full((N, 3), 0.7, np.float32)
    nothing = pytest.approx(np.zeros((OCTAVES, 2, 3)), abs=1e-6)
    assert octave_energies(TEXELS, constant, constant, holes) == nothing
    two_colours = np.where(TEXELS.object[:, None] == 0, constant, 0.1).astype(np.float32)  # objects do not touch
    assert octave_energies(TEXELS, two_colours, two_colours, holes) == nothing


def test_unseen_texels_do_not_count():
    texture, seen = noise(), np.random.default_rng(1).random(N) > 0.3
    other = np.where(seen[:, None], texture, noise(5))
    assert np.array_equal(octave_energies(TEXELS, texture, texture, seen), octave_energies(TEXELS, other, other, seen))


def test_the_order_of_texels_does_not_matter():
    order = np.random.default_rng(2).permutation(N)
    place = np.argsort(order).astype(np.int32)
    shuffled = replace(
        TEXELS,
        object=TEXELS.object[order],
        row=TEXELS.row[order],
        column=TEXELS.column[order],
        index=tuple(np.where(table >= 0, place[table], -1) for table in TEXELS.index),
    )
    clip = [(noise(t), seen) for t, seen in enumerate(wandering_views(4))]
    a = texture_metrics(TEXELS, clip)
    b = texture_metrics(shuffled, [(texture[order], seen[order]) for texture, seen in clip])
    assert a["uv_mse"] == pytest.approx(b["uv_mse"])
    assert a["uv_mse_normalised"] == pytest.approx(b["uv_mse_normalised"])
    assert a["stable_detail"] == pytest.approx(b["stable_detail"])


def reference(texels, clip):
    """The same numbers written as loops over texels."""
    where = {(o, r, c): i for i, (o, r, c) in enumerate(zip(texels.object, texels.row, texels.column, strict=True))}
    frames, ids = range(len(clip)), range(len(texels.object))
    seen_by = [[f for f in frames if clip[f][1][i]] for i in ids]
    mean = [np.mean([clip[f][0][i] for f in seen_by[i]], axis=0) if seen_by[i] else np.zeros(3) for i in ids]

    errors = [
        np.mean((clip[f][0][i].astype(float) - clip[f - 1][0][i]) ** 2)
        for f in frames[1:]
        for i in ids
        if f in seen_by[i] and f - 1 in seen_by[i]
    ]
    samples = np.array([mean[i] for i in ids for _ in seen_by[i]])

    def bands(values, seen):
        level = {i: values[i].astype(float) for i in ids if seen[i]}
        for octave in range(OCTAVES):
            step, low = 2**octave, {}
            for i in level:
                weights, colours = [], []
                for dy in range(-2, 3):
                    for dx in range(-2, 3):
                        place = (texels.object[i], texels.row[i] + dy * step, texels.column[i] + dx * step)
                        if where.get(place) in level:
                            weights.append(math.comb(4, dy + 2) * math.comb(4, dx + 2))
                            colours.append(level[where[place]])
                low[i] = np.average(colours, axis=0, weights=weights)
            yield [level[i] - low[i] for i in level]
            level = low

    single = stable = count = 0
    for f, (texture, seen) in enumerate(clip):
        again = [bool(seen[i]) and len(seen_by[i]) > 1 for i in ids]
        others = [np.mean([clip[g][0][i] for g in seen_by[i] if g != f], axis=0) if again[i] else None for i in ids]
        own, other = np.array(list(bands(texture, again))), np.array(list(bands(others, again)))  # [octaves, texels, 3]
        single = single + (own * own).mean(axis=2).sum(axis=1)
        stable = stable + (own * other).mean(axis=2).sum(axis=1)
        count += sum(again)
    return np.mean(errors), np.mean(errors) / samples.var(axis=0).mean(), single / count, stable / count


def test_equal_to_a_slow_reference():
    texels = discs((11, 5))
    rng = np.random.default_rng(3)
    n = len(texels.object)
    clip = [(rng.random((n, 3)).astype(np.float32), rng.random(n) > 0.3) for _ in range(3)]
    metrics = texture_metrics(texels, clip)
    uv_mse, normalised, single, stable = reference(texels, clip)
    assert metrics["uv_mse"] == pytest.approx(uv_mse, rel=1e-5)
    assert metrics["uv_mse_normalised"] == pytest.approx(normalised, rel=1e-5)
    assert metrics["detail"]["single"] == pytest.approx(single, rel=1e-4)
    assert metrics["detail"]["mean"] == pytest.approx(stable, rel=1e-4)
    assert metrics["stable_detail"] == pytest.approx(stable / single, rel=1e-4)


def test_numbers_without_a_meaning_are_null(tmp_path):
    everything, nothing = np.ones(N, bool), np.zeros(N, bool)
    grey = np.full((N, 3), 0.5, np.float32)
    rounded = np.round((0.5 + 1e-3 * noise()) * 255).astype(np.float32) / 255
    for clip in ([(grey, everything)] * 3, [(rounded, everything)] * 3, [(noise(), nothing)] * 3, []):
        metrics = texture_metrics(TEXELS, clip)
        assert math.isnan(metrics["uv_mse_normalised"])
        assert all(map(math.isnan, metrics["stable_detail"]))
    single_frame = texture_metrics(TEXELS, [(noise(), everything)])
    assert math.isnan(single_frame["uv_mse"])
    write_json(tmp_path / "metrics.json", single_frame)
    assert json.loads((tmp_path / "metrics.json").read_text())["uv_mse"] is None


def test_a_generator_is_refused():
    with pytest.raises(AssertionError, match="twice"):
        texture_metrics(TEXELS, ((noise(), np.ones(N, bool)) for _ in range(2)))


def test_ground_and_dome_are_no_heroes():
    obj = np.array([[0, 1, 2], [3, -1, -1]])
    assert hero_coverage(obj, heroes=2) == pytest.approx(2 / 6)
