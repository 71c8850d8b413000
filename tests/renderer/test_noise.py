from dataclasses import replace

import numpy as np
import oracle
import pytest
from toys import rigid, shoot, still_life

from renderer.camera import Camera
from renderer.noise import hash_key, hashed_normal, mix64, screen_keys, surface_keys

SIZE = (96, 96)
SIDES = (48, 48)
CAMERA = oracle.look_at((1.0, 1.6, 4.0), (0.0, 0.6, 0.0), fov=60)


def keys_of(geometry, camera, vertices=None, size=SIZE, sides=SIDES, texels=1.0):
    gbuffer = shoot(geometry, camera, vertices, size)
    return gbuffer, surface_keys(gbuffer, geometry, sides, camera, texels)


def first_of_each(keys):
    """One pixel of every place: where no texel repeats."""
    return np.unique(keys, return_index=True)[1]


def assert_normal(values):
    """Mean 0, variance 1, skewness 0, kurtosis 3, each within five standard errors."""
    n = values.size
    assert abs(values.mean()) < 5 / n**0.5
    assert abs(values.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((values**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((values**4).mean() - 3) < 5 * (96 / n) ** 0.5


def assert_white(noise, distinct):
    """Autocorrelation at small lags within five standard errors, over pairs of distinct places. noise [C, h, w]."""
    for dy, dx in [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (3, 1)]:
        a = noise[:, : noise.shape[1] - dy, max(0, -dx) : noise.shape[2] - max(0, dx)]
        b = noise[:, dy:, max(0, dx) : noise.shape[2] + min(0, dx)]
        other = (
            distinct[: distinct.shape[0] - dy, max(0, -dx) : distinct.shape[1] - max(0, dx)]
            != (distinct[dy:, max(0, dx) : distinct.shape[1] + min(0, dx)])
        )
        product = (a * b)[:, other]
        assert abs(product.mean()) < 5 / product.size**0.5, (dy, dx)
    between = np.corrcoef(noise.reshape(len(noise), -1)) - np.eye(len(noise))
    assert np.abs(between).max() < 5 / noise[0].size ** 0.5


@pytest.mark.parametrize("frame", [None, 0, 7])
def test_screen_noise_is_white(frame):
    keys = screen_keys((128, 96), frame)
    assert len(np.unique(keys)) == keys.size
    noise = hashed_normal(keys, 0, 4)
    assert (noise.shape, noise.dtype) == ((4, 96, 128), np.float32)
    assert_normal(noise)
    assert_white(noise, keys)


def test_fixed_noise_stays_and_random_noise_does_not():
    assert np.array_equal(screen_keys(SIZE), screen_keys(SIZE))
    assert not np.intersect1d(screen_keys(SIZE, 0), screen_keys(SIZE, 1)).size
    assert not np.intersect1d(screen_keys(SIZE, 0), screen_keys(SIZE)).size


@pytest.mark.parametrize("what", ["ground", "dome", "everything"])
def test_surface_noise_is_white_where_no_place_repeats(what):
    geometry = still_life()
    camera = {
        "ground": oracle.look_at((7.0, 3.0, 2.0), (9.0, 0.0, 5.0), fov=60),
        "dome": oracle.look_at((1.0, 1.0, 1.0), (2.0, 9.0, 0.0), fov=80),
        "everything": CAMERA,
    }[what]
    gbuffer, keys = keys_of(geometry, camera, sides=(400, 400))
    shown = {"ground": {2}, "dome": {3}, "everything": {0, 1, 2, 3}}[what]
    assert set(np.unique(gbuffer.object)) == shown
    noise = hashed_normal(keys, 5, 4)
    assert_white(noise, keys)
    assert_normal(noise.reshape(4, -1)[:, first_of_each(keys)])
    assert len(np.unique(keys)) > 0.75 * keys.size, "nearly every pixel has a place of its own"


@pytest.mark.parametrize("texels", [1.0, 2.0])
def test_ground_and_dome_are_as_fine_as_the_picture_at_any_distance(texels):
    geometry = replace(still_life(), ground=-1.0)
    camera = oracle.look_at((0.0, 8.0, 30.0), (0.0, 4.0, 0.0), fov=50)
    gbuffer, keys = keys_of(geometry, camera, texels=texels)
    for number in (2, 3):
        mine = keys[gbuffer.object == number]
        assert len(np.unique(mine)) > 0.7 * len(mine)


def test_the_same_cell_of_a_hero_has_the_same_noise_in_every_frame():
    geometry = still_life()
    found = {}
    for number, camera in enumerate([CAMERA, oracle.look_at((-1.5, 1.2, 3.6), (0.0, 0.7, 0.0), fov=50)]):
        gbuffer, keys = keys_of(geometry, camera, rigid(geometry, 0.8 * number))
        noise, hero = hashed_normal(keys, 11, 3), gbuffer.triangle >= 0
        cells = np.floor(gbuffer.uv[hero] * 48).astype(int)
        places = zip(gbuffer.object[hero].tolist(), *cells.T.tolist(), strict=True)
        for place, values in zip(places, noise[:, hero].T, strict=True):
            assert np.array_equal(found.setdefault((number, *place), values), values)
    shared = {place for number, *place in map(tuple, found) if number == 0 for place in [tuple(place)]}
    shared = {place for place in shared if (1, *place) in found}
    assert len(shared) > 300
    assert all(np.array_equal(found[0, *place], found[1, *place]) for place in shared)
    values = np.array([found[0, *place] for place in shared])
    assert_normal(values)


def test_two_heroes_with_the_same_cell_have_different_noise():
    geometry = still_life()
    gbuffer, keys = keys_of(geometry, CAMERA, sides=(1, 1))
    assert len(np.unique(keys[gbuffer.object == 0])) == 1
    assert len(np.unique(keys[gbuffer.object < 2])) == 2


def test_the_ground_keeps_its_noise_while_the_camera_moves():
    """A camera that slides by whole cells, looking straight down, sees the same places elsewhere in the picture."""
    geometry = still_life()
    geometry = replace(geometry, rest=geometry.rest + np.array([99, 0, 0], np.float32))
    view = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, -4], [0, 0, 0, 1]])
    focal = Camera(view, 1.0).focal(SIZE)
    step = 4.0 / focal  # what a pixel spans on the ground
    moved = view.copy()
    moved[0, 3] -= 7 * step
    _, before = keys_of(geometry, Camera(view, 1.0))
    _, after = keys_of(geometry, Camera(moved, 1.0))
    assert np.array_equal(before[:, 7:], after[:, :-7])
    assert len(np.unique(before)) == before.size


def test_the_dome_keeps_its_noise_while_the_camera_turns():
    geometry = still_life(ground=None)
    geometry = replace(geometry, rest=geometry.rest + np.array([0, 0, 999], np.float32))
    seen = []
    for target in ((0.2, 0.4, -1.0), (0.5, 0.3, -1.0)):
        camera = oracle.look_at((0.0, 0.0, 0.0), target, fov=70)
        gbuffer, keys = keys_of(geometry, camera)
        direction = gbuffer.point[..., :3] / np.abs(gbuffer.point[..., 2:3])
        cells = np.floor(direction[..., :2] * camera.focal(SIZE)).astype(int)
        front = np.abs(gbuffer.point[..., 2]) >= np.abs(gbuffer.point[..., :2]).max(axis=-1)
        seen.append(dict(zip(map(tuple, cells[front].tolist()), keys[front].tolist(), strict=True)))
    shared = seen[0].keys() & seen[1].keys()
    assert len(shared) > 2000
    assert all(seen[0][cell] == seen[1][cell] for cell in shared)


def test_seeds_channels_and_kinds_are_independent():
    keys = screen_keys((64, 64))
    draws = np.concatenate([hashed_normal(keys, seed, 4) for seed in (0, 1, 2**32, 2**63 - 1)]).reshape(16, -1)
    correlation = np.corrcoef(draws) - np.eye(16)
    assert np.abs(correlation).max() < 5 / 64


def test_noise_does_not_depend_on_what_else_is_asked():
    keys = screen_keys((32, 24))
    noise = hashed_normal(keys, 9, 4)
    assert np.array_equal(hashed_normal(keys, 9, 2), noise[:2]), "nor on the number of channels"
    assert np.array_equal(hashed_normal(keys[5:9, ::-2], 9, 4), noise[:, 5:9, ::-2]), "nor on its neighbours"
    stacked = hashed_normal(np.stack([screen_keys((32, 24), 3), keys]), 9, 4)
    assert np.array_equal(stacked[:, 1], noise), "nor on the other frames"


def test_keys_tell_all_their_parts_apart():
    x, y, z = (np.arange(24) - 12).reshape(-1, 1, 1), (np.arange(24) - 12).reshape(1, -1, 1), np.arange(5)
    assert len(np.unique(hash_key(x, y, z))) == 24 * 24 * 5
    one, two = np.array([1]), np.array([2])
    assert hash_key(one, two) != hash_key(two, one)


def test_mix64_is_the_published_one():
    """splitmix64 from state 0, as in the reference implementation's first three outputs."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([(golden * i) % 2**64 for i in (1, 2, 3)], np.uint64)
    wanted = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert mix64(states).tolist() == wanted
