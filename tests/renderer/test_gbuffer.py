from dataclasses import replace

import numpy as np
import oracle
import pytest
from toys import SIZE, shoot, still_life

from renderer.gbuffer import NOTHING, Geometry, control_image
from renderer.shapes import assemble, disc

CAMERA = oracle.look_at((1.0, 1.6, 4.0), (0.0, 0.6, 0.0), fov=60)


def test_every_pixel_shows_one_thing():
    geometry = still_life()
    gbuffer = shoot(geometry, CAMERA)
    assert geometry.heroes == 2
    assert set(np.unique(gbuffer.object)) == {0, 1, 2, 3}, "box, egg, ground, dome"
    hero = gbuffer.triangle >= 0
    assert np.array_equal(hero, gbuffer.object < 2)
    assert np.array_equal(geometry.face_object[gbuffer.triangle[hero]], gbuffer.object[hero])
    assert (gbuffer.uv[~hero] == 0).all()
    assert (gbuffer.barycentrics[~hero] == 0).all()
    exact = np.einsum("pcu,pc->pu", geometry.corner_uv[gbuffer.triangle[hero]], gbuffer.barycentrics[hero])
    np.testing.assert_allclose(gbuffer.uv[hero], exact, atol=1e-6)


def test_points_project_back_to_their_pixels():
    gbuffer = shoot(still_life(), CAMERA)
    xy, depth = CAMERA.project(gbuffer.point.reshape(-1, 4), SIZE)
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    np.testing.assert_allclose(xy, np.stack([x.ravel(), y.ravel()], axis=1), atol=1e-3)
    surface = gbuffer.inverse_depth.ravel() > 0
    np.testing.assert_allclose(1 / depth[surface], gbuffer.inverse_depth.ravel()[surface], rtol=1e-5)
    assert np.array_equal(gbuffer.point[..., 3].ravel() == 1, surface)
    assert np.array_equal(surface, gbuffer.object.ravel() != 3)


def test_points_lie_on_what_they_show():
    geometry = still_life()
    gbuffer = shoot(geometry, CAMERA)
    hero, ground = gbuffer.object < 2, gbuffer.object == 2
    corners = geometry.rest[geometry.faces[gbuffer.triangle[hero]]]
    exact = np.einsum("pcx,pc->px", corners, gbuffer.barycentrics[hero])
    np.testing.assert_allclose(gbuffer.point[hero][:, :3], exact, atol=1e-4)
    np.testing.assert_allclose(gbuffer.point[ground][:, 1], 0, atol=1e-5)


def test_the_nearest_surface_is_shown_against_brute_force():
    """The ground as two huge triangles and the heroes, in one z-buffer."""
    geometry = still_life()
    gbuffer = shoot(geometry, CAMERA)
    far = 5e3
    square = np.array([[-far, 0, -far], [far, 0, -far], [far, 0, far], [-far, 0, far]])
    vertices = np.concatenate([geometry.rest, square])
    corners = len(geometry.rest) + np.array([[0, 1, 2], [0, 2, 3]])
    triangle, _, depth = oracle.rasterise(vertices, np.concatenate([geometry.faces, corners]), CAMERA, SIZE)
    wanted = np.append(geometry.face_object, [2, 2])[triangle]
    wanted[triangle < 0] = 3
    same = wanted == gbuffer.object
    assert same.mean() > 0.995
    np.testing.assert_allclose(gbuffer.inverse_depth[same], (1 / depth)[same], atol=1e-4)


def test_normals_are_unit_and_face_the_camera():
    gbuffer = shoot(still_life(), CAMERA)
    surface = gbuffer.object != 3
    np.testing.assert_allclose(np.linalg.norm(gbuffer.normal[surface], axis=1), 1, atol=1e-5)
    assert (gbuffer.normal[~surface] == 0).all()
    assert ((gbuffer.normal * CAMERA.rays(SIZE)).sum(axis=-1)[surface] <= 1e-6).all()
    np.testing.assert_allclose(gbuffer.normal[gbuffer.object == 2], [[0, 1, 0]] * (gbuffer.object == 2).sum())


def test_normals_face_the_camera_whatever_the_winding():
    geometry = still_life()
    turned = replace(geometry, faces=geometry.faces[:, ::-1].copy(), corner_uv=geometry.corner_uv[:, ::-1].copy())
    one, other = shoot(geometry, CAMERA), shoot(turned, CAMERA)
    np.testing.assert_allclose(one.normal, other.normal, atol=1e-5)
    np.testing.assert_allclose(one.uv, other.uv, atol=1e-4)


def test_the_ground_hides_what_lies_below_it():
    sunk = still_life(ground=0.7)
    gbuffer = shoot(sunk, CAMERA)
    hero = gbuffer.object < 2
    assert hero.any()
    assert (gbuffer.point[hero][:, 1] > 0.7 - 1e-3).all()
    buried = shoot(still_life(ground=2.0), oracle.look_at((1.0, 3.0, 4.0)))
    assert not (buried.object < 2).any()
    assert (buried.triangle == -1).all()


def test_a_hero_that_lies_flat_on_the_ground_is_seen():
    part, points = assemble("mat", [disc(1.0, 0.0, 6)])
    mat = Geometry(
        part.faces, np.zeros(len(part.faces), np.int32), part.corner_uv, points.astype(np.float32), 0.0, True
    )
    camera = oracle.look_at((0.3, 1.1, 2.7), fov=50)
    gbuffer = shoot(mat, camera)
    radius = np.linalg.norm(gbuffer.point[..., [0, 2]], axis=-1)
    on_plane = gbuffer.point[..., 3] == 1
    assert (gbuffer.object[on_plane & (radius < 0.95)] == 0).all(), "no fight between two surfaces at one depth"
    assert (gbuffer.object[on_plane & (radius > 1.05)] == 1).all()


def test_a_camera_below_the_ground_sees_through_it():
    gbuffer = shoot(still_life(), oracle.look_at((0.5, -1.0, 3.0), (0.0, 0.6, 0.0)))
    assert not (gbuffer.object == 2).any()
    assert (gbuffer.object < 2).any()


def test_straight_down():
    gbuffer = shoot(still_life(), oracle.look_at((0.0, 5.0, 0.0), up=(0.0, 0.0, -1.0)))
    assert set(np.unique(gbuffer.object)) == {0, 1, 2}
    ground = gbuffer.object == 2
    np.testing.assert_allclose(gbuffer.inverse_depth[ground], 1 / 5, rtol=1e-5)


def test_straight_up_is_all_dome():
    gbuffer = shoot(still_life(), oracle.look_at((5.0, 1.0, 5.0), (5.0, 9.0, 5.0), up=(0.0, 0.0, 1.0)))
    assert (gbuffer.object == 3).all()
    assert (gbuffer.inverse_depth == 0).all()
    assert np.isfinite(gbuffer.point).all()


@pytest.mark.parametrize(("ground", "dome"), [(None, True), (None, False), (0.0, False)])
def test_without_ground_or_dome(ground, dome):
    gbuffer = shoot(still_life(ground, dome), CAMERA)
    full = shoot(still_life(), CAMERA)
    assert ((gbuffer.object < 2) >= (full.object < 2)).all()
    assert (2 in gbuffer.object) == (ground is not None)
    assert (3 in gbuffer.object) == dome
    assert (NOTHING in gbuffer.object) == (not dome)
    assert (gbuffer.inverse_depth[gbuffer.object == NOTHING] == 0).all()


def test_charts_do_not_join_objects():
    geometry = still_life()
    assert len(np.unique(geometry.chart)) == 12
    charts = [set(geometry.chart[geometry.face_object == number]) for number in range(2)]
    assert not charts[0] & charts[1]


def test_control_image():
    gbuffer = shoot(still_life(), CAMERA)
    inverse = gbuffer.inverse_depth[gbuffer.inverse_depth > 0]
    control = control_image(gbuffer, float(inverse.max()), float(inverse.min()))
    assert control.dtype == np.float32
    surface = gbuffer.object != 3
    assert (control[~surface] == 0).all()
    assert control[surface].min() == pytest.approx(0.1)
    assert control.max() == pytest.approx(1)
    order = np.argsort(gbuffer.inverse_depth[surface], kind="stable")
    assert (np.diff(control[surface][order]) >= 0).all(), "nearer is brighter"
    slope = np.polyfit(gbuffer.inverse_depth[surface], control[surface], 1)
    np.testing.assert_allclose(np.polyval(slope, gbuffer.inverse_depth[surface]), control[surface], atol=1e-5)


def test_control_image_does_not_pump():
    """A still surface keeps its brightness, however the rest of the picture moves; what exceeds the constants is clipped."""
    geometry = still_life()
    moved = geometry.rest.copy()
    egg = np.unique(geometry.faces[geometry.face_object == 1])
    moved[egg] += np.array([0.0, 0.3, 2.0], np.float32)
    before, after = shoot(geometry, CAMERA), shoot(geometry, CAMERA, moved)
    still = (before.object == 0) & (after.object == 0)
    a, b = control_image(before, 0.4, 0.05), control_image(after, 0.4, 0.05)
    assert np.array_equal(a[still], b[still])
    assert (after.inverse_depth > 0.4).any()
    assert b.max() == 1


def test_control_image_of_one_depth():
    gbuffer = shoot(still_life(ground=None), CAMERA)
    flat = replace(gbuffer, inverse_depth=np.where(gbuffer.inverse_depth > 0, np.float32(0.25), np.float32(0)))
    assert np.isfinite(control_image(flat, 0.25, 0.25)).all()
