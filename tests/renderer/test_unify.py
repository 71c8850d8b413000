from dataclasses import dataclass

import numpy as np
import oracle
import pytest
import torch
from toys import bent, rigid, shoot, still_life

from renderer.atlas import bake
from renderer.camera import Camera
from renderer.correspondence import Correspondence, correspond, pixel_density, unmixed
from renderer.rasterise import Caster
from renderer.unify import (
    SHARPNESS,
    Sources,
    View,
    adjacent_shares,
    facing_shares,
    make_view,
    sources,
    unify,
    view_shares,
)

SIZE = (15, 12)
TOKENS = SIZE[0] * SIZE[1]
GEOMETRY = still_life()
EYES = [(1.0, 1.6, 4.0), (-1.5, 1.2, 3.6), (3.5, 1.0, 1.5), (0.0, 1.0, -4.0), (0.2, 2.0, 3.0)]


@dataclass(frozen=True)
class Frame:
    """What the reference looks at, and what the unification does."""

    correspondence: Correspondence
    camera: Camera
    view: View


def make_frame(number, geometry=GEOMETRY) -> Frame:
    texels = bake(np.split(geometry.corner_uv, [int((geometry.face_object == 0).sum())]), (24, 24))
    vertices, camera = bent(geometry, 0.7 * number), oracle.look_at(EYES[number], (0.0, 0.7, 0.0), fov=60)
    table = correspond(
        shoot(geometry, camera, vertices, SIZE), texels, geometry, vertices, Caster(vertices, geometry.faces)
    )
    return Frame(table, camera, make_view(table, number, camera, geometry.heroes, torch.device("cpu")))


def find(frames, keyframes, rule="fill+mean") -> Sources:
    return sources([frame.view for frame in frames], [keyframe.view for keyframe in keyframes], rule)


FRAMES = [make_frame(number) for number in range(5)]


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
    """What a keyframe shows at a point of the ground or the dome, or None where most of the sample shows something else."""
    xy, depth = keyframe.camera.project(table.point[row, column][None], SIZE)
    if depth[0] <= 0:
        return None
    (x, y), total, share = xy[0], 0, 0.0
    for r in range(SIZE[1]):
        for c in range(SIZE[0]):
            weight = max(0, 1 - abs(c + 0.5 - x)) * max(0, 1 - abs(r + 0.5 - y))
            if weight > 0 and keyframe.correspondence.object[r, c] == table.object[row, column]:
                total, share = total + weight * picture[r, c], share + weight
    return total / share if share >= 0.5 else None


@pytest.mark.parametrize("rule", ["fill+mean", "fill", "mean"])
def test_unification_is_what_the_paper_says(rule):
    frames, keyframes = [FRAMES[4], FRAMES[1]], FRAMES[:4]
    features = features_of(4)
    found = find(frames, keyframes, rule)
    wanted = reference(frames, keyframes, features, GEOMETRY.heroes, rule)
    covered = ~np.isnan(wanted).any(axis=1)
    assert np.array_equal(found.covered.numpy(), covered)
    assert 0.5 < covered.mean() < 1
    assert (wanted[covered] < 0).any(), "filled is not told by the sign of the features"
    unified = unify(features, Sources(found.index, found.weight.double(), found.covered)).numpy()
    np.testing.assert_allclose(unified[covered], wanted[covered], atol=1e-5)
    assert (unified[~covered] == 0).all()


def test_rows_sum_to_one_or_nothing():
    found = find(FRAMES, FRAMES[:3])
    assert found.index.shape == found.weight.shape == (5 * TOKENS, 12)
    assert found.index.min() >= 0
    assert found.index.max() < 3 * TOKENS
    np.testing.assert_allclose(found.weight.sum(dim=1), found.covered.float(), atol=1e-5)


def test_heroes_ground_and_dome_are_all_unified():
    found = find(FRAMES[:1], FRAMES[1:3])
    obj = FRAMES[0].correspondence.object.ravel()
    for number in range(4):
        assert found.covered.numpy()[obj == number].mean() > 0.2, number


def test_a_constant_picture_stays_itself():
    found = find(FRAMES[:2], FRAMES[2:])
    unified = unify(torch.full((3 * TOKENS, 2), -3.5), found)
    np.testing.assert_allclose(unified[found.covered], -3.5, rtol=1e-5)


def test_the_first_keyframe_fills():
    keyframes = [FRAMES[1], FRAMES[4]]
    one = find(FRAMES[:1], keyframes, "fill")
    other = find(FRAMES[:1], keyframes[::-1], "fill")
    alone = find(FRAMES[:1], keyframes[:1], "fill")
    assert torch.equal(one.weight[:, :4][alone.covered], alone.weight[alone.covered])
    assert (one.weight[:, 4:][alone.covered] == 0).all()
    assert not torch.equal(one.weight, other.weight.roll(4, dims=1))
    means = [find(FRAMES[:1], order, "mean").weight for order in (keyframes, keyframes[::-1])]
    assert torch.equal(means[0], means[1].roll(4, dims=1)), "a mean knows no order"


def test_a_frame_that_looks_at_itself_finds_itself():
    """The ground and the dome exactly, the heroes to within a texel."""
    found = find(FRAMES[:1], FRAMES[:1])
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    place = torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1).astype(float))
    distance = (unify(place, Sources(found.index, found.weight.double(), found.covered)) - place).norm(dim=1)
    plane = torch.from_numpy(FRAMES[0].correspondence.object.ravel() >= GEOMETRY.heroes)
    assert found.covered[plane].all()
    assert distance[plane].max() < 1e-3
    hero = found.covered & ~plane
    assert hero.sum() > 0.85 * (~plane).sum()
    assert distance[hero].max() < 1.5


def test_nothing_bleeds_over_silhouettes():
    """Under a camera that stands still something moves. A token's feature is what its cell of the picture shows, object by
    object: no unified feature is a mixture, and nothing is taken from where a keyframe shows something else."""
    camera, fine = oracle.look_at(EYES[0], (0.0, 0.7, 0.0), fov=50), (SIZE[0] * 8, SIZE[1] * 8)
    texels = bake(np.split(GEOMETRY.corner_uv, [int((GEOMETRY.face_object == 0).sum())]), (24, 24))
    views, pictures = [], []
    for time in (0.0, 1.5, 3.0):
        vertices = rigid(GEOMETRY, time)
        picture = shoot(GEOMETRY, camera, vertices, fine).object
        gbuffer = unmixed(shoot(GEOMETRY, camera, vertices, SIZE), picture)
        table = correspond(gbuffer, texels, GEOMETRY, vertices, Caster(vertices, GEOMETRY.faces))
        views.append(make_view(table, len(views), camera, GEOMETRY.heroes, torch.device("cpu")))
        cells = picture.reshape(SIZE[1], 8, SIZE[0], 8).swapaxes(1, 2).reshape(TOKENS, 64)
        pictures.append((cells[..., None] == np.arange(4)).mean(axis=1))
    found = sources(views, views[:2])
    obj = torch.cat([view.object for view in views]).numpy()
    pixels = np.flatnonzero(found.covered)
    features = torch.from_numpy(np.concatenate(pictures[:2]))
    unified = unify(features, Sources(found.index, found.weight.double(), found.covered)).numpy()
    assert (unified[pixels, obj[pixels]] > 0.75 - 1e-6).all(), "three quarters of it are its own object"
    own = np.concatenate(pictures)
    assert (own[pixels, obj[pixels]] >= 0.75).all(), "a mixture keeps its own feature"
    assert (own.max(axis=1) < 0.75).sum() > 20

    plane = np.flatnonzero(obj >= GEOMETRY.heroes)
    taken = found.weight.unflatten(1, (2, 4)).any(dim=2).numpy()[plane]
    shown = np.stack([np.tile(view.object.numpy(), 3) for view in views[:2]], axis=1)[plane]
    assert np.array_equal(taken, shown == obj[plane, None])
    assert not taken.all()


def test_nothing_is_unified_where_there_is_nothing():
    bare = still_life(ground=None, dome=False)
    views = [make_frame(number, bare) for number in (0, 1)]
    found = find(views[:1], views)
    nothing = torch.from_numpy(views[0].correspondence.object.ravel() < 0)
    assert nothing.any()
    assert not found.covered[nothing].any()


def test_view_shares_against_loops():
    rng = np.random.default_rng(0)
    seen = rng.random((200, 5)) < 0.4
    for rule in ("fill", "mean", "fill+mean"):
        shares = view_shares(torch.from_numpy(seen), rule).numpy()
        for row, share in zip(seen, shares, strict=True):
            views = np.flatnonzero(row)
            wanted = np.zeros(5)
            if len(views):
                wanted = combine([np.eye(5)[view] for view in views], rule)
            np.testing.assert_allclose(share, wanted)


def test_adjacent_shares_against_loops():
    rng = np.random.default_rng(1)
    seen, gap = rng.random((300, 4)) < 0.6, np.sort(rng.permuted(np.tile(np.arange(-8, 9), (300, 1)), axis=1)[:, :4])
    shares = adjacent_shares(torch.from_numpy(seen), torch.from_numpy(gap)).numpy()
    for row, gaps, share in zip(seen, gap, shares, strict=True):
        before, after = [g for g in gaps[row] if g <= 0], [g for g in gaps[row] if g > 0]
        wanted = dict.fromkeys(gaps.tolist(), 0.0)
        if before and after:
            wanted[before[-1]] = after[0] / (after[0] - before[-1])
            wanted[after[0]] = 1 - wanted[before[-1]]
        elif before or after:
            wanted[before[-1] if before else after[0]] = 1.0
        np.testing.assert_allclose(share, list(wanted.values()), atol=1e-6)


def test_a_keyframe_is_nearest_to_itself():
    found = find(FRAMES[2:3], FRAMES[1:4], "adjacent")
    alone = find(FRAMES[2:3], FRAMES[2:3])
    assert torch.equal(found.weight[alone.covered][:, 4:8], alone.weight[alone.covered])


def test_facing_shares_prefer_who_sees_best():
    seen = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])
    facing = torch.tensor([[2.0, 1.0, 50.0], [1.0, 2.0, 3.0], [0.0, 5.0, 0.0]])
    shares = facing_shares(seen, facing)
    torch.testing.assert_close(shares[0, 0] / shares[0, 1], torch.tensor(2.0**SHARPNESS))
    torch.testing.assert_close(shares.sum(dim=1), seen.any(dim=1).float())
    assert (shares[~seen] == 0).all()
    torch.testing.assert_close(facing_shares(seen, 1e-6 * facing)[0], shares[0])


def test_facing_is_the_pixels_on_an_area():
    """Of a small surface patch, the projected area per area of surface, in pixels of focal length 1, by finite differences."""
    camera, rng = oracle.look_at(EYES[1], (0.0, 0.7, 0.0), fov=60), np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (20, 3))
    normal, tangent = np.linalg.qr(rng.standard_normal((20, 3, 3)))[0][:, :, :2].transpose(2, 0, 1)
    other = np.cross(normal, tangent)
    size, step = (2, 2), 1e-5
    xy = [camera.project(points + step * shift, size)[0] / camera.focal(size) for shift in (0, tangent, other)]
    a, b = xy[1] - xy[0], xy[2] - xy[0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / step**2
    density = pixel_density(torch.from_numpy(points), torch.from_numpy(normal), camera)
    np.testing.assert_allclose(density, area, rtol=1e-3)


def test_the_ground_is_seen_best_from_where_it_has_most_pixels():
    found = find(FRAMES[:1], FRAMES[1:4], "facing")
    pixel = torch.from_numpy(FRAMES[0].correspondence.object.ravel() == GEOMETRY.heroes) & found.covered
    point = torch.from_numpy(FRAMES[0].correspondence.point.reshape(-1, 4))[pixel, :3].double()
    up = torch.tensor([0.0, 1.0, 0.0])
    density = torch.stack([pixel_density(point, up, frame.camera) for frame in FRAMES[1:4]], dim=1)
    share = found.weight[pixel].unflatten(1, (3, 4)).sum(dim=2)
    # cameras stand at nearly the same height, so depth decides
    heights = torch.tensor([frame.camera.position[1] for frame in FRAMES[1:4]])
    wanted = facing_shares(share > 0, (density / heights).float())
    torch.testing.assert_close(share, wanted, atol=1e-3, rtol=1e-3)


def test_to_casts():
    found = find(FRAMES[:1], FRAMES[1:2]).to(torch.float16)
    assert (found.index.dtype, found.weight.dtype, found.covered.dtype) == (torch.int64, torch.float16, torch.bool)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same_and_the_same_again():
    def on_gpu(frame):
        return make_view(frame.correspondence, frame.view.frame, frame.camera, GEOMETRY.heroes, torch.device("cuda"))

    wanted = find(FRAMES, FRAMES[:4])
    found, again = (sources([on_gpu(f) for f in FRAMES], [on_gpu(f) for f in FRAMES[:4]]) for _ in range(2))
    features = features_of(4)
    torch.testing.assert_close(found.weight.cpu(), wanted.weight, atol=1e-5, rtol=0)
    assert torch.equal(found.covered.cpu(), wanted.covered)
    torch.testing.assert_close(unify(features.cuda(), found).cpu(), unify(features, wanted), atol=1e-4, rtol=0)
    for one, other in zip(vars(found).values(), vars(again).values(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(unify(features.cuda(), found), unify(features.cuda(), again))
