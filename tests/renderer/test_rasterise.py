import numpy as np
import oracle
import pytest

from renderer.builtin import build
from renderer.camera import camera_path
from renderer.config import CameraConfig
from renderer.rasterise import Caster, projection, rasterise

SIZE = (37, 26)  # odd, and not square
# How far beside a pixel's centre a rasteriser may look, in pixels: nvdiffrast snaps vertices to 1/16 of a pixel.
SLACK = {"embree": 1e-3, "nvdiffrast": 1 / 16}
BACKENDS = ["embree", pytest.param("nvdiffrast", marks=pytest.mark.cuda)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "nvdiffrast":
        pytest.importorskip("nvdiffrast.torch")
        if not pytest.importorskip("torch").cuda.is_available():
            pytest.skip("needs a CUDA device")
    return request.param


def soup(seed, triangles=80, spread=2.0, size=1.0):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-spread, spread, (triangles, 1, 3))
    corners = centres + rng.normal(0, size, (triangles, 3, 3))
    return corners.reshape(-1, 3).astype(np.float32), np.arange(3 * triangles, dtype=np.int32).reshape(-1, 3)


def agree(vertices, faces, camera, size, backend):
    """Same triangle and barycentrics as the oracle; on an edge that two triangles share, the other one at the same depth."""
    triangle, barycentrics = rasterise(vertices, faces, camera, size, backend)
    wanted, weights, _ = oracle.rasterise(vertices, faces, camera, size)
    assert (triangle.dtype, barycentrics.dtype, triangle.shape) == (np.int32, np.float32, size[::-1])
    assert (barycentrics[triangle < 0] == 0).all()

    same = triangle == wanted
    points = (vertices[faces[triangle]] * barycentrics[..., None]).sum(axis=2)
    # On a sliver barycentrics mean little in float32; the point that they stand for does.
    exact = (vertices[faces[wanted]] * weights[..., None]).sum(axis=2)
    hit = same & (wanted >= 0)
    np.testing.assert_allclose(points[hit], exact[hit], atol=2e-3)
    assert np.median(np.abs(barycentrics - weights)[hit]) < 1e-4
    np.testing.assert_allclose(barycentrics.sum(axis=-1)[triangle >= 0], 1, atol=1e-5)

    # Elsewhere rounding decided on which side of an edge a pixel centre lies: the answer is right just beside the centre.
    beside = [(x, y) for x in (-SLACK[backend], 0, SLACK[backend]) for y in (-SLACK[backend], 0, SLACK[backend])]
    nearby = [oracle.rasterise(vertices, faces, camera, size, offset) for offset in beside]
    known = np.any([triangle == ids for ids, _, _ in nearby], axis=0)
    # Many triangles may share a pixel; then it is another piece of a surface that lies there.
    found_depth = -(points @ camera.view[2, :3] + camera.view[2, 3])
    close = np.any([np.isclose(found_depth, depth, rtol=1e-2) for _, _, depth in nearby], axis=0) & (triangle >= 0)
    assert (~(known | close)).mean() <= (0 if backend == "embree" else 0.005)
    assert (~same & ~close).mean() < 0.02
    return triangle


@pytest.mark.parametrize("seed", range(4))
def test_triangle_soups(seed, backend):
    triangle = agree(*soup(seed), oracle.look_at((1.0, 2.0, 6.0)), SIZE, backend)
    assert len(np.unique(triangle)) > 20


def test_triangles_behind_and_around_the_camera_and_out_of_view(backend):
    vertices, faces = soup(7, triangles=200, spread=6.0, size=2.0)
    depth = -(vertices @ np.array([0.0, 0.0, 1.0]))[faces]  # the camera stands at the origin
    assert ((depth.min(axis=1) < 0) & (depth.max(axis=1) > 0)).sum() > 20, "some triangles cross the eye's plane"
    agree(vertices, faces, oracle.look_at((0.0, 0.0, 0.0), (0.0, 0.0, -1.0), fov=70), SIZE, backend)


def test_an_empty_view_is_empty(backend):
    vertices, faces = soup(0)
    triangle, _ = rasterise(vertices, faces, oracle.look_at((0.0, 0.0, 50.0), (0.0, 0.0, 99.0)), SIZE, backend)
    assert (triangle == -1).all()


def test_triangle_zero_is_not_lost(backend):
    vertices = np.array([[-9, -9, 0], [9, -9, 0], [0, 20, 0]], np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    triangle, _ = rasterise(vertices, faces, oracle.look_at((0.0, 0.0, 3.0)), SIZE, backend)
    assert (triangle == 0).all()


def test_row_zero_is_the_top_and_both_sides_are_seen(backend):
    vertices = np.array([[-1, 0.2, 0], [1, 0.2, 0], [0, 1, 0]], np.float32)
    for faces in ([[0, 1, 2]], [[2, 1, 0]]):
        triangle, _ = rasterise(vertices, np.array(faces, np.int32), oracle.look_at((0.0, 0.0, 3.0)), SIZE, backend)
        rows = np.nonzero((triangle == 0).any(axis=1))[0]
        assert len(rows)
        assert rows.max() < SIZE[1] / 2


@pytest.mark.parametrize("name", ["bounce", "flag"])
def test_builtin_scenes(name, backend):
    scene = build(name)
    camera = camera_path(scene, CameraConfig(), [0.4], (24, 24))[0]
    positions = scene.at(0.4)
    first = np.cumsum([0, *map(len, positions)])
    faces = np.concatenate([part.faces + start for part, start in zip(scene.objects, first, strict=False)])
    triangle = agree(np.concatenate(positions), faces, camera, (24, 24), backend)
    assert (triangle >= 0).mean() > 0.1


def test_cast_measures_distance_in_the_rays_own_length():
    vertices, faces = soup(3)
    origin = np.array([0.3, -0.2, 5.0])
    directions = np.random.default_rng(0).normal(0, 1, (300, 3)) - origin
    (triangle, _), distance = Caster(vertices, faces).cast(origin, directions)
    wanted, _, exact = oracle.cast(vertices, faces, origin, directions)
    assert (triangle == wanted).mean() > 0.99
    same = (triangle == wanted) & (wanted >= 0)
    np.testing.assert_allclose(distance[same], exact[same], rtol=1e-3)
    assert np.isinf(distance[triangle < 0]).all()


def test_projection_puts_points_where_the_camera_does_and_holds_their_depths():
    camera = oracle.look_at((2.0, 1.0, 5.0))
    points = np.random.default_rng(0).uniform(-2, 2, (200, 3))
    matrix = projection(camera, SIZE, points) @ camera.view
    clip = np.concatenate([points, np.ones((200, 1))], axis=1) @ matrix.T
    xy, depth = camera.project(points, SIZE)
    np.testing.assert_allclose(clip[:, 3], depth)
    screen = clip[:, :3] / clip[:, 3:]
    np.testing.assert_allclose((screen[:, 0] + 1) / 2 * SIZE[0], xy[:, 0], atol=1e-9)
    np.testing.assert_allclose((1 - screen[:, 1]) / 2 * SIZE[1], xy[:, 1], atol=1e-9)
    assert (np.abs(screen[:, 2]) < 1).all()
    assert (np.argsort(screen[:, 2]) == np.argsort(depth)).all(), "nearer is smaller"
