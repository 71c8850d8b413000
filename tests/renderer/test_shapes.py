"""Surface builders against what geometry knows: areas, volumes, lengths."""

import numpy as np
import pytest

from renderer.shapes import assemble, disc, flatten, lathe, pack, patch, rounded, spline, surface_nets, tube


def _volume(patches):
    obj, points = assemble("solid", patches)
    a, b, c = points[obj.faces].swapaxes(0, 1)
    return (a * np.cross(b, c)).sum() / 6


def test_solids_have_their_volumes_and_look_outwards():
    assert _volume(rounded((1, 2, 3), 24)) == pytest.approx(8 * np.pi, rel=0.01)
    assert _volume(rounded((1, 2, 3), 24, exponent=200)) == pytest.approx(48, rel=0.02)
    side = lathe(np.array([[1.0, 0.0], [1.0, 2.0]]), 96)
    lid = disc(1.0, 0.0, 24).map(lambda points: points * [1, -1, -1]).at(0, 2, 0)
    assert _volume([side, disc(1.0, 0.0, 24), lid]) == pytest.approx(2 * np.pi, rel=0.01)
    straight = np.linspace([0, 0, 0], [0, 3, 0], 9)
    closed = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0.0])  # a cone at either end, 3/8 long
    assert _volume([tube(straight, closed, 96)]) == pytest.approx(np.pi * (9 / 4 + 2 / 8), rel=0.01)


def test_a_rectangle_s_chart_has_its_shape():
    u, v = np.meshgrid(np.linspace(0, 3, 7), np.linspace(0, 1, 4))
    p = patch(np.stack([u, v, 0 * u], axis=-1))
    np.testing.assert_allclose(p.uv, np.stack([u, v], axis=-1), atol=1e-12)


def test_packed_charts_keep_their_proportions_and_do_not_touch():
    rng = np.random.default_rng(0)
    charts = [rng.uniform(0, 1, (20, 2)) * rng.uniform(0.1, 2, 2) - 5 for _ in range(12)]
    packed = pack(charts)
    boxes = np.array([[c.min(axis=0), c.max(axis=0)] for c in packed])
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    scales = [np.ptp(after, axis=0) / np.ptp(before, axis=0) for before, after in zip(charts, packed, strict=True)]
    np.testing.assert_allclose(scales, scales[0][0])
    for i in range(12):
        for j in range(i):
            assert (np.maximum(boxes[i, 0], boxes[j, 0]) > np.minimum(boxes[i, 1], boxes[j, 1])).any()


def test_flatten_unrolls_a_half_pipe():
    angle, height = np.meshgrid(np.linspace(-1.5, 1.5, 25), np.linspace(0, 2, 15))
    points = np.stack([np.sin(angle), height, np.cos(angle)], axis=-1).reshape(-1, 3)
    index = np.arange(25 * 15).reshape(15, 25)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    uv = flatten(points, faces, points[:, :2])  # from its shadow on the plane
    flat = np.stack([angle, height], axis=-1).reshape(-1, 2)
    distances = (np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (uv, flat))
    np.testing.assert_allclose(*distances, atol=0.02)
    first, second = uv[faces[:, 1]] - uv[faces[:, 0]], uv[faces[:, 2]] - uv[faces[:, 0]]
    assert (first[:, 0] * second[:, 1] > first[:, 1] * second[:, 0]).all()  # not mirrored, not folded


def test_surface_nets_close_around_a_ball():
    low, cell = np.full(3, -1.3), 0.1
    grid = np.stack(np.meshgrid(*[np.arange(-1.3, 1.3, cell)] * 3, indexing="ij"), axis=-1)
    points, faces = surface_nets(np.linalg.norm(grid, axis=-1) - 1.0, low, cell)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=0.02)
    a, b, c = points[faces].swapaxes(0, 1)
    assert (a * np.cross(b, c)).sum() / 6 == pytest.approx(4 / 3 * np.pi, rel=0.02)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = {tuple(edge) for edge in edges}
    assert len(there) == len(edges)
    assert there == {(b, a) for a, b in there}


def test_a_spline_passes_its_points_at_even_steps():
    knots = [(0.0, 0.0), (1.0, 0.5), (1.5, 2.0), (0.5, 3.0)]
    curve = spline(knots, 200)
    for knot in knots:
        assert np.linalg.norm(curve - knot, axis=1).min() < 0.01
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    assert steps.max() < 1.02 * steps.min()
