import numpy as np
import oracle
import pytest
import torch
from toys import bent, shoot, still_life

from renderer.atlas import bake
from renderer.correspondence import correspond
from renderer.rasterise import Caster
from renderer.unify import Sources, View, sources, unify, view_shares

SIZE = (15, 12)
TOKENS = SIZE[0] * SIZE[1]
GEOMETRY = still_life()
EYES = [(1.0, 1.6, 4.0), (-1.5, 1.2, 3.6), (3.5, 1.0, 1.5), (0.0, 1.0, -4.0), (0.2, 2.0, 3.0)]


def make_view(number, geometry=GEOMETRY) -> View:
    texels = bake(np.split(geometry.corner_uv, [int((geometry.face_object == 0).sum())]), (24, 24))
    vertices, camera = bent(geometry, 0.7 * number), oracle.look_at(EYES[number], (0.0, 0.7, 0.0), fov=60)
    table = correspond(
        shoot(geometry, camera, vertices, SIZE), texels, geometry, vertices, Caster(vertices, geometry.faces)
    )
    return View(table, camera)


VIEWS = [make_view(number) for number in range(5)]


def features_of(keyframes, channels=3, seed=0):
    """Random tokens [K·T, D], negative ones among them."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((keyframes * TOKENS, channels)))


def combine(values, rule):
    """T of one place from what the keyframes that see it say, in their order."""
    fill, mean = values[0], sum(values) / len(values)
    return {"fill": fill, "mean": mean, "fill+mean": 0.5 * (fill + mean)}[rule]


def reference(frames, keyframes, features, heroes, rule):
    """Section 4.3 of the paper, texel by texel: fill a texture, average a texture, render it. NaN where nothing was written."""
    features = features.numpy().reshape(len(keyframes), *SIZE[::-1], -1)
    texels = len(keyframes[0].correspondence.weight)
    filled, fill = np.zeros(texels, bool), np.zeros((texels, features.shape[-1]))
    count, total = np.zeros(texels), np.zeros((texels, features.shape[-1]))
    for k, keyframe in enumerate(keyframes):
        for texel in range(texels):
            weight = keyframe.correspondence.weight[texel]
            if not weight.any():
                continue
            corners = [divmod(pixel, SIZE[0]) for pixel in keyframe.correspondence.pixel[texel]]
            value = sum(w * features[k, row, column] for w, (row, column) in zip(weight, corners, strict=True))
            if not filled[texel]:
                filled[texel], fill[texel] = True, value
            count[texel] += 1
            total[texel] += value
    mean = total / np.maximum(count, 1)[:, None]
    texture = {"fill": fill, "mean": mean, "fill+mean": 0.5 * (fill + mean)}[rule]

    out = np.full((len(frames), *SIZE[::-1], features.shape[-1]), np.nan)
    for i, frame in enumerate(frames):
        table = frame.correspondence
        for row in range(SIZE[1]):
            for column in range(SIZE[0]):
                texel = table.texel[row, column]
                if texel >= 0:
                    if filled[texel]:
                        out[i, row, column] = texture[texel]
                elif table.object[row, column] >= heroes:
                    values = [
                        value
                        for k, keyframe in enumerate(keyframes)
                        if (value := sample(table, row, column, keyframe, features[k])) is not None
                    ]
                    if values:
                        out[i, row, column] = combine(values, rule)
    return out.reshape(-1, features.shape[-1])


def sample(table, row, column, keyframe, picture):
    """What a keyframe shows at a point of the ground or the dome, or None where it shows something else."""
    xy, depth = keyframe.camera.project(table.point[row, column][None], SIZE)
    if depth[0] <= 0:
        return None
    (x, y), total, share = xy[0], 0, 0.0
    for r in range(SIZE[1]):
        for c in range(SIZE[0]):
            weight = max(0, 1 - abs(c + 0.5 - x)) * max(0, 1 - abs(r + 0.5 - y))
            if weight > 0 and keyframe.correspondence.object[r, c] == table.object[row, column]:
                total, share = total + weight * picture[r, c], share + weight
    return total / share if share > 1e-6 else None


@pytest.mark.parametrize("rule", ["fill+mean", "fill", "mean"])
def test_unification_is_what_the_paper_says(rule):
    frames, keyframes = [VIEWS[4], VIEWS[1]], VIEWS[:4]
    features = features_of(4)
    found = sources(frames, keyframes, GEOMETRY.heroes, rule)
    wanted = reference(frames, keyframes, features, GEOMETRY.heroes, rule)
    covered = ~np.isnan(wanted).any(axis=1)
    assert np.array_equal(found.covered.numpy(), covered)
    assert 0.5 < covered.mean() < 1
    assert (wanted[covered] < 0).any(), "filled is not told by the sign of the features"
    unified = unify(features, Sources(found.index, found.weight.double(), found.covered)).numpy()
    np.testing.assert_allclose(unified[covered], wanted[covered], atol=1e-5)
    assert (unified[~covered] == 0).all()


def test_rows_sum_to_one_or_nothing():
    found = sources(VIEWS, VIEWS[:3], GEOMETRY.heroes)
    assert found.index.shape == found.weight.shape == (5 * TOKENS, 12)
    assert found.index.min() >= 0
    assert found.index.max() < 3 * TOKENS
    np.testing.assert_allclose(found.weight.sum(dim=1), found.covered.float(), atol=1e-5)


def test_heroes_ground_and_dome_are_all_unified():
    found = sources(VIEWS[:1], VIEWS[1:3], GEOMETRY.heroes)
    obj = VIEWS[0].correspondence.object.ravel()
    for number in range(4):
        assert found.covered.numpy()[obj == number].mean() > 0.2, number


def test_a_constant_picture_stays_itself():
    found = sources(VIEWS[:2], VIEWS[2:], GEOMETRY.heroes)
    unified = unify(torch.full((3 * TOKENS, 2), -3.5), found)
    np.testing.assert_allclose(unified[found.covered], -3.5, rtol=1e-5)


def test_the_first_keyframe_fills():
    keyframes = [VIEWS[1], VIEWS[4]]
    one = sources(VIEWS[:1], keyframes, GEOMETRY.heroes, "fill")
    other = sources(VIEWS[:1], keyframes[::-1], GEOMETRY.heroes, "fill")
    alone = sources(VIEWS[:1], keyframes[:1], GEOMETRY.heroes, "fill")
    assert torch.equal(one.weight[:, :4][alone.covered], alone.weight[alone.covered])
    assert (one.weight[:, 4:][alone.covered] == 0).all()
    assert not torch.equal(one.weight, other.weight.roll(4, dims=1))
    means = [sources(VIEWS[:1], order, GEOMETRY.heroes, "mean").weight for order in (keyframes, keyframes[::-1])]
    assert torch.equal(means[0], means[1].roll(4, dims=1)), "a mean knows no order"


def test_a_frame_that_looks_at_itself_finds_itself():
    """The ground and the dome exactly, the heroes to within a texel."""
    found = sources(VIEWS[:1], VIEWS[:1], GEOMETRY.heroes)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    place = torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1).astype(float))
    distance = (unify(place, Sources(found.index, found.weight.double(), found.covered)) - place).norm(dim=1)
    plane = torch.from_numpy(VIEWS[0].correspondence.object.ravel() >= GEOMETRY.heroes)
    assert found.covered[plane].all()
    assert distance[plane].max() < 1e-3
    hero = found.covered & ~plane
    assert hero.sum() > 0.85 * (~plane).sum()
    assert distance[hero].max() < 1.5


def test_nothing_is_unified_where_there_is_nothing():
    bare = still_life(ground=None, dome=False)
    views = [make_view(number, bare) for number in (0, 1)]
    found = sources(views[:1], views, bare.heroes)
    nothing = torch.from_numpy(views[0].correspondence.object.ravel() < 0)
    assert nothing.any()
    assert not found.covered[nothing].any()


def test_view_shares_against_loops():
    rng = np.random.default_rng(0)
    seen = rng.random((200, 5)) < 0.4
    for rule in ("fill", "mean", "fill+mean"):
        shares = view_shares(seen, rule)
        for row, share in zip(seen, shares, strict=True):
            views = np.flatnonzero(row)
            wanted = np.zeros(5)
            if len(views):
                wanted = combine([np.eye(5)[view] for view in views], rule)
            np.testing.assert_allclose(share, wanted)


def test_to_moves_and_casts():
    found = sources(VIEWS[:1], VIEWS[1:2], GEOMETRY.heroes).to(torch.device("cpu"), torch.float16)
    assert (found.index.dtype, found.weight.dtype, found.covered.dtype) == (torch.int64, torch.float16, torch.bool)
