"""The built-in scenes: seamless loops, sound surfaces and charts, and motion that obeys what it depicts."""

from itertools import pairwise

import numpy as np
import pytest
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from renderer.builtin import BUILTIN, bounce, build, dancer, flag
from renderer.builtin.figure import figure
from renderer.errors import SceneError


@pytest.fixture(scope="module", params=BUILTIN)
def scene(request):
    return build(request.param)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SceneError, match=r"'teapot'.*dancer.*fish"):
        build("teapot")


def test_size_and_shape(scene):
    positions = scene.positions(0.0)
    assert 3000 <= sum(len(p) for p in positions) <= 20000
    for obj, points in zip(scene.objects, positions, strict=True):
        assert points.dtype == np.float32
        assert np.isfinite(points).all()
        assert obj.faces.dtype == np.int32
        assert set(np.unique(obj.faces)) <= set(range(len(points)))
        corners = points[obj.faces].astype(float)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert np.linalg.norm(normals, axis=1).min() > 0
        assert (corners[:, 0] * normals).sum() > 0  # faces look outwards
    if scene.ground is not None:
        assert min(p[:, 1].min() for p in positions) == pytest.approx(scene.ground, abs=0.005)


def test_loops_are_seamless_and_smooth(scene):
    if scene.duration == 0:
        return
    for start, end in zip(scene.positions(0.0), scene.positions(scene.duration), strict=True):
        np.testing.assert_allclose(start, end, atol=1e-5)
    step = scene.duration / 64
    frames = [np.concatenate(scene.at(i * step)) for i in range(65)]
    speeds = [np.linalg.norm(b - a, axis=1).max() / step for a, b in pairwise(frames)]
    assert max(speeds) < 9  # metres per second
    assert max(speeds) > 0.5


def test_charts_lie_in_the_atlas_and_never_overlap(scene):
    for obj in scene.objects:
        if obj.corner_uv is None:
            continue
        assert obj.corner_uv.min() >= 0
        assert obj.corner_uv.max() <= 1
        flat = np.pad(obj.corner_uv, ((0, 0), (0, 0), (0, 1))).reshape(-1, 3).astype(np.float32)
        atlas = rtcore_scene.EmbreeScene()
        TriangleMesh(atlas, flat, np.arange(len(flat)).reshape(-1, 3).astype(np.int32))
        rng = np.random.default_rng(0)
        for weights in rng.dirichlet(np.ones(3), 3):
            inside = np.einsum("c,tck->tk", weights, obj.corner_uv.astype(float))
            origins = np.pad(inside, ((0, 0), (0, 1)), constant_values=1.0).astype(np.float32)
            down = np.tile(np.float32([0, 0, -1]), (len(origins), 1))
            assert (atlas.run(origins, down) == np.arange(len(origins))).mean() > 0.999


def test_charts_have_little_distortion(scene):
    for obj, points in zip(scene.objects, scene.positions(0.0), strict=True):
        if obj.corner_uv is None:
            continue
        corners, uv = points[obj.faces].astype(float), obj.corner_uv.astype(float)
        edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], axis=-1)
        charted = np.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]], axis=-1)
        assert (np.linalg.det(charted) > 0).all()
        area = np.linalg.norm(np.cross(edges[..., 0], edges[..., 1]), axis=1)
        stretch = np.linalg.svd(edges @ np.linalg.inv(charted), compute_uv=False)
        assert area[stretch[:, 0] > 2.5 * stretch[:, 1]].sum() < 0.1 * area.sum(), obj.name


def test_the_dancer_is_one_closed_skin_with_smooth_weights():
    body = figure()
    edges = np.concatenate([body.faces[:, [0, 1]], body.faces[:, [1, 2]], body.faces[:, [2, 0]]])
    there = {tuple(edge) for edge in edges}
    assert len(there) == len(edges)
    assert there == {(b, a) for a, b in there}  # every edge has exactly two triangles, one each way
    np.testing.assert_allclose(body.weights.sum(axis=1), 1)
    steps = np.abs(body.weights[edges[:, 0]] - body.weights[edges[:, 1]]).max(axis=1)
    assert steps.max() < 0.25


def test_the_dancer_s_bones_keep_their_length_and_feet_stay_on_the_ground():
    body = figure()
    rest = body.joints
    balls = []
    for beat in np.arange(0, dancer.HALF_BEATS, 1 / 16):
        rotations, places = dancer.pose(body, beat)
        for side in "LR":
            for upper, lower in (("thigh", "knee"), ("knee", "ankle"), ("ankle", "ball"), ("arm", "elbow")):
                a, b = f"{upper}.{side}", f"{lower}.{side}"
                np.testing.assert_allclose(
                    places[b], places[a] + rotations[a] @ (rest[b] - rest[a]), atol=2e-3, err_msg=f"{a} at {beat}"
                )
        balls.append([places["ball.L"], places["ball.R"]])
        soles = body.skin(rotations, places)[:, 1].min()
        assert -0.002 < soles < 0.01
    moved = np.linalg.norm(np.diff(balls, axis=0), axis=-1)
    assert (moved.min(axis=1) == 0).all()  # one foot always stands, and does not slide
    for rotation in rotations.values():
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)


def test_bouncing_things_are_rigid_and_do_not_run_into_the_ball():
    scene = build("bounce")
    start = scene.at(0.0)
    names = [obj.name for obj in scene.objects]
    for time in np.linspace(0, scene.duration, 90):
        positions = scene.at(time)
        for before, after in zip(start, positions, strict=True):
            np.testing.assert_allclose(
                np.linalg.norm(after - after[0], axis=1), np.linalg.norm(before - before[0], axis=1), atol=1e-5
            )
        ball = positions[names.index("ball")]
        centre = 0.5 * (ball.min(axis=0) + ball.max(axis=0))
        for name, points in zip(names, positions, strict=True):
            assert points[:, 1].min() > -0.03
            if name != "ball":
                assert np.linalg.norm(points - centre, axis=1).min() > bounce.BALL - 0.02, (name, time)


def test_cloth_neither_stretches_nor_leaves_the_pole():
    for time in np.linspace(0, flag.DURATION, 7):
        front, back = flag._cloth(time)
        middle = 0.5 * (front + back)
        lengths = np.linalg.norm(np.diff(middle, axis=1), axis=-1).sum(axis=1)
        np.testing.assert_allclose(lengths, flag.WIDTH, rtol=0.02)
        np.testing.assert_allclose(middle[:, 0], 0.5 * np.add(*flag._cloth(0.0))[:, 0], atol=1e-9)


def test_positions_are_quick():
    from time import perf_counter

    for name in BUILTIN:
        scene = build(name)
        took = []
        for i in range(5):
            start = perf_counter()
            scene.at(0.1 * i)
            took.append(perf_counter() - start)
        assert min(took) < 0.1
