"""Framing: nothing is cut, the hero fills the frame, moves are smooth, mistakes are named."""

from dataclasses import replace
from functools import cache
from math import radians

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from renderer.builtin import BUILTIN, build
from renderer.camera import camera_path, fit
from renderer.config import CameraConfig
from renderer.errors import ConfigError, SceneError
from renderer.scene import FileCamera, Object, Scene

TIMES = [i / 12 for i in range(16)]


def _box_scene(motion, duration=2.0, ground=0.0, cameras=()):
    """A cloud of 200 points of about 1 × 2 × 0.5 on the ground, moved by motion(time) -> shift."""
    cloud = np.random.default_rng(0).uniform([-0.5, 0, -0.25], [0.5, 2, 0.25], (200, 3))
    faces = np.arange(198).reshape(-1, 3).astype(np.int32)
    positions = lambda time: [(cloud + motion(time)).astype(np.float32)]  # noqa: E731
    return Scene("box", (Object("box", faces),), positions, duration, ground, cameras)


def _walker():
    return _box_scene(lambda time: np.array([0.0, 0.05 * np.sin(20 * time), 2.5 * time]))


def _projected(scene, cameras, times, size):
    """Positions in the frame as shares of its half width and height, [frames, N, 2]."""
    frames = []
    for camera, time in zip(cameras, times, strict=True):
        xy, depth = camera.project(np.concatenate(scene.at(time)), size)
        assert (depth > 0).all()
        frames.append(2 * xy / size - 1)
    return np.stack(frames)


@pytest.fixture(scope="module", params=BUILTIN)
def scene(request):
    scene = build(request.param)
    return replace(scene, positions=cache(scene.positions))


@pytest.mark.parametrize(
    ("move", "size"),
    [
        ("auto", (256, 256)),
        ("static", (512, 288)),
        ("orbit", (192, 320)),
        ("dolly", (256, 256)),
        ("follow", (320, 240)),
    ],
)
def test_nothing_is_cut_and_the_hero_fills_the_frame(scene, move, size):
    cameras = camera_path(scene, CameraConfig(move=move, fill=0.8), TIMES, size)
    seen = _projected(scene, cameras, TIMES, size)
    assert np.abs(seen).max() < 0.9
    if move == "dolly":  # ends framed; before that the hero is smaller
        assert np.ptp(seen[0], axis=0).max() < np.ptp(seen[-1], axis=0).max()
        seen = _projected(scene, [cameras[-1]] * len(TIMES), TIMES, size)
    extent = np.ptp(seen, axis=(0, 1)) / 2
    assert 0.75 < extent.max() < 0.85
    centre = (seen.max(axis=(0, 1)) + seen.min(axis=(0, 1))) / 2
    assert np.abs(centre).max() < 0.01


@pytest.mark.parametrize("fill", [0.3, 0.8, 1.0])
def test_fill_is_exact(fill):
    scene = _walker()
    cameras = camera_path(scene, CameraConfig(move="static", fill=fill), TIMES, (320, 200))
    assert np.ptp(_projected(scene, cameras, TIMES, (320, 200)), axis=(0, 1)).max() / 2 == pytest.approx(fill, rel=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.05, 3), st.floats(0.05, 3))
def test_fit_is_the_linear_programme(seed, slope_x, slope_y):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(50, 3)) * rng.uniform(0.1, 5, 3) + rng.normal(size=3)
    slopes = np.array([slope_x, slope_y])
    eye = fit(points, slopes)
    rows, bounds = [], []
    for axis, slope in enumerate(slopes):
        for sign in (1, -1):  # sign (p - eye) <= slope (eye_z - p_z)
            row = np.zeros(3)
            row[axis], row[2] = -sign, -slope
            rows += [row] * len(points)
            bounds += list(-sign * points[:, axis] - slope * points[:, 2])
    nearest = linprog([0, 0, 1], A_ub=np.array(rows), b_ub=bounds, bounds=[(None, None)] * 3)
    assert eye[2] == pytest.approx(nearest.fun, rel=1e-6, abs=1e-6)
    assert (np.array(rows) @ eye <= np.array(bounds) + 1e-6).all()


def test_an_orbit_is_a_seamless_loop_at_one_distance():
    cameras = camera_path(build("turntable"), CameraConfig(), TIMES, (256, 256))  # auto: orbit, 360 degrees
    turn = 2 * np.pi / len(TIMES)
    step = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    eyes = np.array([camera.position for camera in cameras])
    centre = eyes.mean(axis=0)
    for i, camera in enumerate(cameras):
        after = cameras[(i + 1) % len(cameras)]
        np.testing.assert_allclose(after.position - centre, step @ (camera.position - centre), atol=1e-9)
        np.testing.assert_allclose(after.view[:3, :3], camera.view[:3, :3] @ step.T, atol=1e-9)


def test_turn_and_azimuth_of_an_orbit():
    config = CameraConfig(move="orbit", azimuth=30, turn=-40)
    cameras = camera_path(build("bounce"), config, TIMES, (256, 256))
    back = np.array([camera.view[2, :3] for camera in cameras])
    azimuths = np.degrees(np.arctan2(back[:, 0], back[:, 2]))
    np.testing.assert_allclose(azimuths, 30 - 40 * np.arange(16) / 16, atol=1e-9)


def test_auto_follows_who_travels_and_stands_still_otherwise():
    eyes = [camera.position for camera in camera_path(_walker(), CameraConfig(), TIMES, (256, 256))]
    steps = np.diff(eyes, axis=0)
    np.testing.assert_allclose(steps[:, 2], 2.5 / 12, atol=1e-3)  # the walk, without the bobbing
    assert np.abs(steps[:, 1]).max() < 0.02
    still = camera_path(build("dancer"), CameraConfig(), TIMES, (256, 256))
    assert all((camera.view == still[0].view).all() for camera in still)


def test_following_survives_the_end_of_the_cycle():
    times = [i / 12 for i in range(60)]  # two and a half cycles of a walk that starts over
    cameras = camera_path(_walker(), CameraConfig(move="follow"), times, (256, 256))
    hips = [c.project(_walker().at(t)[0][:1], (256, 256))[0][0] for c, t in zip(cameras, times, strict=True)]
    assert np.ptp(hips, axis=0).max() < 20


def test_the_camera_looks_from_the_asked_side():
    camera = camera_path(build("flag"), CameraConfig(azimuth=90, elevation=20), TIMES, (256, 256))[0]
    np.testing.assert_allclose(camera.view[2, :3], [np.cos(radians(20)), np.sin(radians(20)), 0], atol=1e-9)


@pytest.mark.parametrize("move", ["static", "orbit", "dolly", "follow"])
def test_the_eye_stays_above_the_ground(move):
    for scene in (build("flag"), _walker()):
        cameras = camera_path(scene, CameraConfig(move=move, elevation=-40), TIMES, (256, 256))
        assert min(camera.position[1] for camera in cameras) > scene.ground
        assert np.abs(_projected(scene, cameras, TIMES, (256, 256))).max() < 0.9
    floating = camera_path(build("fish"), CameraConfig(move=move, elevation=-40), TIMES, (256, 256))
    assert floating[0].view[2, 1] == pytest.approx(np.sin(radians(-40)))


def test_one_frame_and_flat_objects_can_be_framed():
    flat = _box_scene(lambda time: np.array([0.0, 0.0, 0.0]), duration=0.0, ground=None)
    points = flat.at(0)[0] * np.float32([1, 1, 0])
    plane = Scene("plane", flat.objects, lambda time: [points], 0.0, None)
    for move in ("auto", "follow", "dolly"):
        cameras = camera_path(plane, CameraConfig(move=move, azimuth=0, elevation=0), [0.0], (256, 256))
        if move != "dolly":
            assert np.ptp(_projected(plane, cameras, [0.0], (256, 256)), axis=(0, 1)).max() / 2 == pytest.approx(0.8)


def test_the_file_camera_is_used_as_it_is():
    def pose(time):
        matrix = np.diag([2.0, 2.0, 2.0, 1.0])  # a scale, as some exporters leave one in a camera's node
        matrix[:3, 3] = [time, 1.0, 5.0]
        return matrix

    scene = _box_scene(lambda time: np.zeros(3), duration=1.0, cameras=(FileCamera("shot", 0.7, pose),))
    cameras = camera_path(scene, CameraConfig(move="file"), [0.0, 0.5, 1.25], (256, 256))
    np.testing.assert_allclose([camera.position for camera in cameras], [[0, 1, 5], [0.5, 1, 5], [0.25, 1, 5]])
    assert all(camera.fov_y == 0.7 for camera in cameras)
    np.testing.assert_allclose(cameras[0].view[:3, :3], np.eye(3))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"fov": 0.0}, "fov"),
        ({"fov": 170.0}, "fov"),
        ({"fov": float("nan")}, "fov"),
        ({"fill": 0.04}, "fill"),
        ({"fill": 1.5}, "fill"),
        ({"elevation": 90.0}, "elevation"),
        ({"azimuth": float("inf")}, "azimuth"),
        ({"turn": float("nan")}, "turn"),
        ({"move": "crane"}, "follow"),
    ],
)
def test_absurd_settings_are_named_in_one_line(wrong, named):
    with pytest.raises(ConfigError, match=named) as raised:
        camera_path(_walker(), CameraConfig(**wrong), TIMES, (256, 256))
    assert "\n" not in str(raised.value)


def test_scenes_without_a_camera_or_without_extent_say_so():
    with pytest.raises(SceneError, match=r"box.*no camera"):
        camera_path(_walker(), CameraConfig(move="file"), TIMES, (256, 256))
    point = Scene("dot", (), lambda time: [np.ones((3, 3), np.float32)], 0.0, None)
    with pytest.raises(SceneError, match="dot"):
        camera_path(point, CameraConfig(), TIMES, (256, 256))
