import numpy as np
import oracle
import pytest
import torch
from toys import SIZE, bent, rigid, shoot, still_life

from renderer.atlas import bake, surface_points
from renderer.correspondence import PURE, bilinear, correspond, normalise, unmixed, visible
from renderer.gbuffer import NOTHING, Geometry
from renderer.rasterise import Caster

GEOMETRY = still_life()
TEXELS = bake(np.split(GEOMETRY.corner_uv, [int((GEOMETRY.face_object == 0).sum())]), (60, 60))
CAMERAS = [
    oracle.look_at((1.0, 1.6, 4.0), (0.0, 0.7, 0.0), fov=50),
    oracle.look_at((-1.5, 1.2, 3.6), (0.0, 0.7, 0.0), fov=50),
]
POSES = {"rigid": rigid, "bent": bent}


def frame(pose, number):
    """G-buffer, posed vertices, caster, camera and correspondence of one of two frames."""
    vertices, camera = POSES[pose](GEOMETRY, 0.9 * number), CAMERAS[number]
    gbuffer, caster = shoot(GEOMETRY, camera, vertices), Caster(vertices, GEOMETRY.faces)
    return gbuffer, vertices, caster, camera, correspond(gbuffer, TEXELS, GEOMETRY, vertices, caster)


def stretch(vertices):
    """The largest length in space of a unit of UV, on each triangle [T]."""
    corners, uv = vertices[GEOMETRY.faces].astype(np.float64), GEOMETRY.corner_uv.astype(np.float64)
    jacobian = np.linalg.solve(uv[:, 1:] - uv[:, :1], corners[:, 1:] - corners[:, :1])
    return np.linalg.svd(jacobian, compute_uv=False)[:, 0]


@pytest.mark.parametrize("pose", POSES)
def test_a_pixel_finds_its_own_surface_point_in_the_other_frame(pose):
    here = frame(pose, 0)
    gbuffer, table = here[0], here[4]
    _, vertices, caster, camera, there = frame(pose, 1)
    hero = gbuffer.triangle >= 0
    own = surface_points(vertices, GEOMETRY.faces, gbuffer.triangle[hero], gbuffer.barycentrics[hero])
    exact, depth = camera.project(own, SIZE)
    texel = table.texel[hero]
    centres = np.stack([there.pixel % SIZE[0], there.pixel // SIZE[0]], axis=-1) + 0.5
    found = (centres * there.weight[..., None]).sum(axis=1)[texel]
    both = visible(own, caster, camera, 0.0) & (there.weight[texel] > 0).all(axis=1)  # no corner off the silhouette
    assert both.sum() > 0.3 * hero.sum()

    footprint = stretch(vertices)[gbuffer.triangle[hero]] / 60 * camera.focal(SIZE) / depth
    distance = np.linalg.norm(found - exact, axis=1) / footprint
    uv = gbuffer.uv[hero]
    cells = np.stack([TEXELS.column, TEXELS.row], axis=1)[texel]
    own_cell = (np.floor(uv * 60) == cells).all(axis=1)
    assert own_cell.mean() > 0.95
    assert distance[both & own_cell].max() < np.sqrt(0.5) * 1.1, "half a texel, along its diagonal"
    assert distance[both].max() < 2, "the nearest baked texel is next door"


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("number", [0, 1])
def test_hidden_texels_have_no_weight_and_visible_ones_do(pose, number):
    _, vertices, caster, camera, table = frame(pose, number)
    points = surface_points(vertices, GEOMETRY.faces, TEXELS.triangle, TEXELS.barycentrics)
    _, _, distance = oracle.cast(vertices, GEOMETRY.faces, camera.position, points - camera.position)
    reached = distance > 1 - 1e-3
    seen = visible(points, caster, camera, 0.0)
    assert (seen == reached).mean() > 0.998
    assert (table.weight[~seen] == 0).all()
    assert 0.2 < seen.mean() < 0.6, "about half of a closed surface is turned away"

    total = table.weight.sum(axis=1)
    np.testing.assert_allclose(total[total > 0], 1, atol=1e-6)
    assert (table.weight >= 0).all()
    xy, _ = camera.project(points, SIZE)
    well_inside = seen & (xy > 1).all(axis=1) & (xy < np.array(SIZE) - 1).all(axis=1)
    assert (total[well_inside] > 0).mean() > 0.8, "only a texel on a silhouette finds too little of its object"


@pytest.mark.parametrize("pose", POSES)
def test_nothing_bleeds_over_silhouettes(pose):
    gbuffer, _, _, _, table = frame(pose, 1)
    shown = gbuffer.object.ravel()[table.pixel]
    assert (shown == TEXELS.object[:, None])[table.weight > 0].all()


@pytest.mark.parametrize("pose", POSES)
def test_a_texture_is_what_the_picture_shows(pose):
    """A picture of rest positions, sampled at the texels, gives back the texels' rest positions."""
    gbuffer, _, _, camera, table = frame(pose, 0)
    hero = gbuffer.triangle >= 0
    picture = np.zeros((*gbuffer.object.shape, 3))
    picture[hero] = surface_points(GEOMETRY.rest, GEOMETRY.faces, gbuffer.triangle[hero], gbuffer.barycentrics[hero])
    sampled = (picture.reshape(-1, 3)[table.pixel] * table.weight[..., None]).sum(axis=1)
    exact = surface_points(GEOMETRY.rest, GEOMETRY.faces, TEXELS.triangle, TEXELS.barycentrics)
    seen = table.weight.any(axis=1)
    pixel = 4.0 / camera.focal(SIZE)
    error = np.linalg.norm(sampled - exact, axis=1)[seen] / pixel
    assert np.median(error) < 0.3
    assert error.max() < 6, "at a grazing angle a pixel spans much surface, but it is next door"


def test_no_part_of_an_object_takes_what_another_part_shows():
    """Two sheets of one object, one behind the other: at the front one's rim, pixels of the back one are no answer."""
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    rest = np.concatenate([0.4 * square + [0.03, 0.02, 1], square]).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    uv = np.concatenate([0.2 * square[:, :2] + [0.2, 0.2], 0.25 * square[:, :2] + [0.7, 0.7]]).astype(np.float32)
    geometry = Geometry(faces, np.zeros(4, np.int32), uv[faces], rest, None, False)
    texels = bake([geometry.corner_uv], (64,))
    gbuffer = shoot(geometry, CAMERAS[0])
    table = correspond(gbuffer, texels, geometry, rest, Caster(rest, faces))
    front = gbuffer.triangle.ravel()[table.pixel] < 2
    used = table.weight > 0
    assert (front == (texels.triangle < 2)[:, None])[used].all()
    assert used.any(axis=1)[texels.triangle < 2].mean() > 0.95


def test_a_pixel_that_covers_several_objects_shows_none():
    """Against loops, for a grid that does not divide the picture."""
    camera, size = CAMERAS[0], (9, 7)
    coarse, fine = shoot(GEOMETRY, camera, size=size), shoot(GEOMETRY, camera).object
    clear = unmixed(coarse, fine)
    covered = [[[] for _ in range(size[0])] for _ in range(size[1])]
    for y, x in np.ndindex(fine.shape):
        covered[int((y + 0.5) * size[1] / SIZE[1])][int((x + 0.5) * size[0] / SIZE[0])].append(fine[y, x])
    for y, x in np.ndindex(coarse.object.shape):
        stays = np.mean(covered[y][x] == coarse.object[y, x]) >= PURE
        assert clear.object[y, x] == (coarse.object[y, x] if stays else NOTHING)
        assert clear.triangle[y, x] == (coarse.triangle[y, x] if stays else -1)
    assert 0.05 < (clear.object == NOTHING).mean() < 0.5


def test_arrays_have_their_types():
    gbuffer, *_, table = frame("rigid", 0)
    hero = gbuffer.triangle >= 0
    assert (table.texel >= 0).sum() == hero.sum()
    assert np.array_equal(table.texel >= 0, hero)
    assert np.array_equal(TEXELS.object[table.texel[hero]], gbuffer.object[hero])
    kinds = [value.dtype for value in (table.object, table.texel, table.point, table.pixel, table.weight)]
    assert kinds == [np.int32, np.int32, np.float32, np.int32, np.float32]


def test_the_ground_hides_what_is_below_it_only_from_above():
    points = np.array([[0.0, -0.5, 0.0], [0.0, 3.0, 0.0], [3.0, 0.0, 1.0]])
    away = Caster(np.array([[50, 50, 50], [51, 50, 50], [50, 51, 50]], np.float32), np.array([[0, 1, 2]], np.int32))
    above, below = oracle.look_at((0.0, 2.0, 5.0)), oracle.look_at((0.0, -2.0, 5.0))
    assert visible(points, away, above, 0.0).tolist() == [False, True, True]
    assert visible(points, away, above, None).tolist() == [True, True, True]
    assert visible(points, away, below, 0.0).tolist() == [True, True, True]


def test_bilinear_against_loops():
    rng = np.random.default_rng(0)
    xy = rng.uniform(-1, 8, (500, 2))
    xy[:35] = np.stack(np.meshgrid(np.arange(7), np.arange(5)), axis=-1).reshape(-1, 2) + 0.5  # pixel centres
    seen = rng.random(500) > 0.1
    pixel, weight = bilinear(torch.from_numpy(xy), torch.from_numpy(seen), (7, 5))
    for i, (x, y) in enumerate(xy):
        found, expected = np.zeros((5, 7)), np.zeros((5, 7))
        np.add.at(found.reshape(-1), pixel[i], weight[i])
        for row in range(5):
            for column in range(7):
                expected[row, column] = seen[i] * max(0, 1 - abs(column + 0.5 - x)) * max(0, 1 - abs(row + 0.5 - y))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_weights_sum_to_one_or_nothing():
    weight = normalise(torch.tensor([[0.2, 0.6, 0, 0], [0, 0, 0, 0], [0, 0.4, 0, 0], [0, 1e-9, 0, 0]]))
    np.testing.assert_allclose(weight, [[0.25, 0.75, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_bilinear_survives_points_at_infinity():
    xy = torch.tensor([[1e30, 1.0], [-torch.inf, 2.0], [torch.nan, torch.nan]])
    pixel, weight = bilinear(xy, torch.tensor([True, True, False]), (3, 3))
    assert (weight == 0).all()
    assert ((pixel >= 0) & (pixel < 9)).all()
