import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from toys import rigid, shoot, still_life

from jobs.evaluation.measures import (
    depth_edges,
    edge_alignment,
    neighbour_correlation,
    overlap,
    psnr,
    sample,
    sharpness,
    warp,
    warp_error,
)
from renderer.atlas import surface_points
from renderer.camera import camera_path
from renderer.config import CameraConfig
from renderer.scene import Scene

SIZE = (96, 80)


@pytest.fixture(scope="module")
def clip():
    """Geometry, and two frames of a moving scene under a turning camera: (vertices, G-buffer) each."""
    geometry = still_life()
    scene = Scene("toys", (), lambda t: [rigid(geometry, t)], 1.0, 0.0)
    config = CameraConfig(move="orbit", turn=30, elevation=5)
    cameras = camera_path(scene, config, [0.0, 0.1], SIZE)
    poses = [rigid(geometry, time) for time in (0.0, 0.1)]
    return geometry, [(v, shoot(geometry, camera, v, SIZE)) for v, camera in zip(poses, cameras, strict=True)]


def painted(geometry, gbuffer):
    """A picture of surfaces with a smooth colour of their own, and of a ground and a dome with theirs."""
    places = np.array(gbuffer.point[..., :3])
    places /= np.where(gbuffer.point[..., 3:] > 0, 1, np.linalg.norm(places, axis=-1, keepdims=True))
    hero = gbuffer.triangle >= 0
    places[hero] = surface_points(geometry.rest, geometry.faces, gbuffer.triangle[hero], gbuffer.barycentrics[hero])
    return (0.5 + 0.4 * np.sin(3 * places + gbuffer.object[..., None])).astype(np.float32)


def test_a_warp_finds_the_same_place(clip):
    geometry, ((vertices, before), (_, now)) = clip
    xy, seen = warp(now, before, geometry, vertices)
    assert 0.6 < seen.mean() < 1
    for obj in range(geometry.heroes + 2):
        assert seen[now.object == obj].mean() > 0.3
    shown = before.object[tuple(np.floor(xy[seen]).astype(int).T[::-1])]
    assert (shown == now.object[seen]).all()
    picture, last = painted(geometry, now), painted(geometry, before)
    error = warp_error(picture, last, xy, seen) / seen.sum()
    assert psnr(error) > 26
    assert psnr(float(((picture - last) ** 2).mean())) < 22  # without the warp


def test_what_sticks_to_the_screen_does_not_stick_to_the_surface(clip):
    geometry, ((vertices, before), (_, now)) = clip
    xy, seen = warp(now, before, geometry, vertices)
    screen = gaussian_filter(np.random.default_rng(0).random((SIZE[1], SIZE[0], 3)), (2, 2, 0))
    still = warp_error(screen, screen, xy, seen)
    assert still > 20 * warp_error(
        painted(geometry, now), painted(geometry, now), np.indices(seen.shape)[::-1].transpose(1, 2, 0) + 0.5, seen
    )
    moved = (np.indices(seen.shape)[::-1].transpose(1, 2, 0) + 0.5 - xy)[seen]
    assert np.abs(moved).max() > 3


def test_a_frame_beside_itself_does_not_move(clip):
    geometry, ((vertices, gbuffer), _) = clip
    xy, seen = warp(gbuffer, gbuffer, geometry, vertices)
    here = np.indices(seen.shape)[::-1].transpose(1, 2, 0) + 0.5
    assert xy[seen] == pytest.approx(here[seen], abs=1e-3)
    picture = np.random.default_rng(0).random((SIZE[1], SIZE[0], 3))
    assert sample(picture, here) == pytest.approx(picture)


def test_depth_edges_are_the_heroes_outlines(clip):
    _, ((_, gbuffer), _) = clip
    edges = depth_edges(gbuffer)
    hero = gbuffer.triangle >= 0
    outline = np.zeros_like(hero)
    outline[:, 1:] |= gbuffer.object[:, 1:] != gbuffer.object[:, :-1]
    assert edges[outline & hero].all()
    far_off = ~hero & ~np.roll(hero, 1, 0) & ~np.roll(hero, -1, 0) & ~np.roll(hero, 1, 1) & ~np.roll(hero, -1, 1)
    assert not edges[far_off].any()  # nor is the horizon one
    assert edges.mean() < 0.2


def test_edges_where_the_depth_has_them_are_found_and_others_are_not(clip):
    _, ((_, gbuffer), _) = clip
    edges = depth_edges(gbuffer)
    picture = np.repeat((0.2 + 0.3 * (gbuffer.triangle >= 0))[..., None], 3, axis=2).astype(np.float32)
    right = edge_alignment(picture, edges)
    assert right > 0.95
    assert edge_alignment(picture * 2 - 0.3, edges) == pytest.approx(right, abs=1e-3)  # contrast does not matter,
    assert edge_alignment(gaussian_filter(picture, (1, 1, 0)), edges) > 0.9  # a blur of a pixel hardly
    assert edge_alignment(np.roll(picture, 12, axis=1), edges) < right - 0.2
    grain = np.random.default_rng(0).random(picture.shape).astype(np.float32)
    assert edge_alignment(grain, edges) == pytest.approx(0.5, abs=0.1)
    assert np.isnan(edge_alignment(picture, np.zeros_like(edges)))


def test_blur_softens_and_grain_sharpens():
    rng = np.random.default_rng(0)
    picture, mask = rng.random((40, 40, 3)).astype(np.float32), np.ones((40, 40), bool)
    assert sharpness(gaussian_filter(picture, (1, 1, 0)), mask) < 0.3 * sharpness(picture, mask)
    grey = np.full_like(picture, 0.5)
    assert sharpness(grey, mask) == pytest.approx(0, abs=1e-6)
    assert sharpness(grey + 0.01 * rng.standard_normal(grey.shape, np.float32), mask) > 0.01
    assert np.isnan(sharpness(grey, ~mask))


def test_overlap_of_masks():
    a, b = np.array([True, True, False]), np.array([False, True, True])
    assert overlap(a, b) == pytest.approx(1 / 3)
    assert overlap(a, a) == 1
    assert np.isnan(overlap(a & ~a, a & ~a))


def test_noise_that_repeats_texels_or_is_smooth_is_not_white():
    white = np.random.default_rng(0).standard_normal((8, 64, 64))
    repeated, smooth = white.repeat(2, axis=-1), gaussian_filter(white, (0, 1, 1))
    assert neighbour_correlation(white) == pytest.approx(0, abs=0.02)
    assert neighbour_correlation(repeated) == pytest.approx(0.25, abs=0.03)  # half of the pairs across, none down
    assert neighbour_correlation(smooth) > 0.5
