from pathlib import Path

import numpy as np
import pytest

from renderer.atlas import (
    atlas,
    bake,
    cover,
    is_chart,
    lookup,
    share_out,
    surface_points,
    triangle_areas,
    unwrap,
)
from renderer.config import SceneConfig
from renderer.files import cache_folder
from renderer.gbuffer import Geometry
from renderer.load import load_scene
from renderer.scene import Object
from renderer.shapes import assemble, rounded

ASSETS = Path(__file__).parents[2] / ".." / "shared" / "assets"


def sheet(n=6):
    """A grid of n × n quads over the unit square: vertices [V, 3], faces [T, 3], corner UVs [T, 3, 2]."""
    y, x = np.mgrid[: n + 1, : n + 1] / n
    index = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    vertices = np.stack([x, y, 0.2 * np.sin(3 * x)], axis=-1).reshape(-1, 3).astype(np.float32)
    return vertices, faces.astype(np.int32), vertices[faces][..., :2].copy()


def blob(seed=0):
    """A closed object of six charts, as one Geometry."""
    half = np.random.default_rng(seed).uniform(0.5, 1, 3)
    part, positions = assemble("blob", rounded(half, 6))
    return Geometry(
        faces=part.faces,
        face_object=np.zeros(len(part.faces), np.int32),
        corner_uv=part.corner_uv,
        rest=positions.astype(np.float32),
        ground=None,
        dome=False,
    )


def inside(points, corners):
    """Brute force: is each 2D point in the triangle? Barycentrics [3] each, by the definition of signed areas."""
    a, b, c = corners
    weights = np.linalg.solve(
        np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]]), [*points.T, np.ones(len(points))]
    )
    return (weights >= 0).all(axis=0), weights.T


def test_cover_finds_every_cell_centre_of_every_triangle():
    rng, side = np.random.default_rng(0), 13
    triangles = rng.uniform(-0.3, 1.3, (40, 3, 2))
    triangle, cell, barycentrics = cover(triangles, side)
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    for number, corners in enumerate(triangles):
        wanted, weights = inside(centres, corners)
        mine = triangle == number
        assert np.array_equal(cell[mine], np.flatnonzero(wanted))
        np.testing.assert_allclose(barycentrics[mine], weights[wanted], atol=1e-9)


def test_cover_in_batches_is_the_same():
    triangles = np.random.default_rng(1).uniform(0, 1, (30, 3, 2))
    triangles[0] = [[0, 0], [1, 0], [0, 1]]
    whole = cover(triangles, 600)
    assert len(whole[0]) > 300_000
    parts = [cover(triangles[i : i + 1], 600) for i in range(30)]
    assert np.array_equal(whole[1], np.concatenate([cell for _, cell, _ in parts]))


def test_a_chart_is_one():
    vertices, faces, uv = sheet()
    assert is_chart(uv, vertices[faces])
    assert is_chart(uv[:, ::-1], vertices[faces]), "a mirrored chart is a chart"


def test_what_is_no_chart():
    vertices, faces, uv = sheet()
    corners = vertices[faces]
    assert not is_chart(uv * 1.01, corners), "out of range"
    assert not is_chart(uv - 0.01, corners), "out of range"
    overlapping, flat, broken = uv.copy(), uv.copy(), uv.copy()
    overlapping[:2] = uv[2:4]
    flat[:2, :, 1] = 0.5
    broken[0, 0] = np.nan
    assert not is_chart(overlapping, corners)
    assert not is_chart(flat, corners)
    assert not is_chart(broken, corners)


def test_a_tiny_fault_is_forgiven():
    vertices, faces, uv = sheet(20)
    uv[0] = uv[2]
    assert is_chart(uv, vertices[faces])


@pytest.mark.parametrize(
    ("file", "own"), [("CesiumMilkTruck.glb", False), ("RiggedSimple.glb", False), ("Fox.glb", True)]
)
def test_real_files(file, own):
    if not (ASSETS / file).exists():
        pytest.skip(f"{file} is not here")
    scene = load_scene(SceneConfig(name=str(ASSETS / file)), 12.0)
    charts = [
        part.corner_uv is not None and is_chart(part.corner_uv, points[part.faces])
        for part, points in zip(scene.objects, scene.at(0.0), strict=True)
    ]
    assert all(charts) if own else not all(charts)
    for part, points, good in zip(scene.objects, scene.at(0.0), charts, strict=True):
        corner_uv = atlas(part, points)
        assert is_chart(corner_uv, points[part.faces])
        assert np.array_equal(corner_uv, part.corner_uv) == good


def test_unwrap_is_cached_by_content_and_survives_a_broken_cache(tmp_path, monkeypatch):
    import xatlas

    calls = []
    parametrize = xatlas.parametrize
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(xatlas, "parametrize", lambda *mesh: calls.append(1) or parametrize(*mesh))
    geometry = blob()
    first = unwrap(geometry.rest, geometry.faces)
    assert (first.dtype, first.shape, len(calls)) == (np.float32, (len(geometry.faces), 3, 2), 1)
    assert is_chart(first, geometry.rest[geometry.faces])
    assert np.array_equal(unwrap(geometry.rest.copy(), geometry.faces.astype(np.int64)), first)
    assert len(calls) == 1
    unwrap(geometry.rest * 1.5, geometry.faces)
    assert len(calls) == 2, "another shape, another atlas"

    files = list(cache_folder().rglob("*.f32"))
    assert len(files) == 2
    whole = files[0].read_bytes()
    for damage in (b"", b"garbage", whole[:-7], whole[:-4], b"\xff" * len(whole)):
        for file in files:
            file.write_bytes(damage)
        assert np.array_equal(unwrap(geometry.rest, geometry.faces), first)


def test_unwrap_where_no_cache_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    geometry = blob()
    assert is_chart(unwrap(geometry.rest, geometry.faces), geometry.rest[geometry.faces])


def test_split_vertices_make_no_charts_of_their_own():
    """The same surface with every corner its own vertex, as files have it at hard edges."""
    vertices, faces, _ = sheet()
    loose = np.arange(faces.size, dtype=np.int32).reshape(-1, 3)
    geometry = Geometry(
        loose, np.zeros(len(loose), np.int32), unwrap(vertices[faces].reshape(-1, 3), loose), vertices, None, False
    )
    assert geometry.chart.max() == 0


def test_atlas_without_uvs_is_unwrapped():
    vertices, faces, _ = sheet()
    assert is_chart(atlas(Object("sheet", faces, None), vertices), vertices[faces])


def test_share_out_spends_the_budget_by_area():
    assert share_out([25.0], 128) == (128,)
    sides = share_out([100.0, 300.0, 600.0], 128)
    assert sum(side**2 for side in sides) == pytest.approx(128**2, rel=0.02)
    assert sides[2] / sides[0] == pytest.approx(6**0.5, rel=0.03)
    assert min(share_out([0.0, 1.0], 64)) >= 1, "an object that is never seen has an atlas, too"
    assert min(share_out([0.0, 0.0], 64)) >= 1


@pytest.mark.parametrize("sides", [(4, 4), (16, 9), (64, 40)])
def test_every_texel_shows_a_surface_point_of_its_own_cell(sides):
    first, second = blob(0), blob(1)
    texels = bake([first.corner_uv, second.corner_uv], sides)
    corner_uv = np.concatenate([first.corner_uv, second.corner_uv])
    owner = np.repeat([0, 1], [len(first.faces), len(second.faces)])
    assert np.array_equal(owner[texels.triangle], texels.object)
    np.testing.assert_allclose(texels.barycentrics.sum(axis=1), 1, atol=1e-6)
    uv = (corner_uv[texels.triangle] * texels.barycentrics[..., None]).sum(axis=1)
    side = np.array(sides)[texels.object]
    cell = uv * side[:, None]
    assert (np.abs(cell - np.stack([texels.column, texels.row], axis=1) - 0.5) <= 0.5 + 1e-4).all()
    for number, table in enumerate(texels.index):
        mine = np.flatnonzero(texels.object == number)
        assert np.array_equal(np.sort(table[table >= 0]), mine), "the table holds each texel once"
        assert np.array_equal(table[texels.row[mine], texels.column[mine]], mine)


def test_a_covered_cell_shows_its_centre():
    geometry = blob()
    texels = bake([geometry.corner_uv], [48])
    uv = (geometry.corner_uv[texels.triangle] * texels.barycentrics[..., None]).sum(axis=1) * 48
    centre = np.abs(uv - np.stack([texels.column, texels.row], axis=1) - 0.5).max(axis=1) < 1e-4
    _, covered, _ = cover(geometry.corner_uv, 48)
    assert np.array_equal(np.flatnonzero(centre), np.flatnonzero(np.isin(texels.row * 48 + texels.column, covered)))


def test_every_chart_has_a_texel_however_coarse():
    _, _, uv = sheet(2)
    uv = 0.02 * uv + 0.01 + np.array([0.3, 0.7])  # smaller than a cell, around no centre
    assert len(bake([uv], [8]).object) >= 1


def points_of(geometry, count, seed=0):
    rng = np.random.default_rng(seed)
    area = triangle_areas(geometry.rest[geometry.faces])
    triangle = rng.choice(len(area), count, p=area / area.sum())
    barycentrics = rng.dirichlet([1, 1, 1], count)
    return triangle, barycentrics, (geometry.corner_uv[triangle] * barycentrics[..., None]).sum(axis=1)


def test_lookup_is_the_cell_or_else_the_nearest_baked_point():
    geometry = blob()
    side = 24
    texels = bake([geometry.corner_uv], [side])
    triangle, barycentrics, uv = points_of(geometry, 3000)
    found = lookup(texels, geometry, triangle, barycentrics, uv)
    baked = surface_points(geometry.rest, geometry.faces, texels.triangle, texels.barycentrics)
    wanted = surface_points(geometry.rest, geometry.faces, triangle, barycentrics)
    missed = 0
    for i, (u, v) in enumerate(uv):
        cell = texels.index[0][int(v * side), int(u * side)]
        if cell >= 0 and geometry.chart[texels.triangle[cell]] == geometry.chart[triangle[i]]:
            assert found[i] == cell
        else:
            missed += 1
            distance = np.linalg.norm(baked - wanted[i], axis=1)
            assert distance[found[i]] == pytest.approx(distance.min(), abs=1e-9)
    assert missed > 30


def test_lookup_stays_in_the_object():
    a, b = blob(0), blob(1)
    both = Geometry(
        faces=np.concatenate([a.faces, b.faces + len(a.rest)]),
        face_object=np.repeat(np.arange(2, dtype=np.int32), [len(a.faces), len(b.faces)]),
        corner_uv=np.concatenate([a.corner_uv, b.corner_uv]),
        rest=np.concatenate([a.rest, b.rest]),  # at the same place
        ground=None,
        dome=False,
    )
    texels = bake([a.corner_uv, b.corner_uv], [12, 20])
    triangle, barycentrics, uv = points_of(both, 2000)
    found = lookup(texels, both, triangle, barycentrics, uv)
    assert np.array_equal(texels.object[found], both.face_object[triangle])


@pytest.mark.parametrize("side", [6, 10, 40])
def test_lookup_never_leaves_for_another_chart_far_away(side):
    """A cell across the border of two charts belongs to one of them; pixels of the other must not land there."""
    geometry = blob()
    texels = bake([geometry.corner_uv], [side])
    triangle, barycentrics, uv = points_of(geometry, 3000)
    found = lookup(texels, geometry, triangle, barycentrics, uv)
    distance = np.linalg.norm(
        surface_points(geometry.rest, geometry.faces, triangle, barycentrics)
        - surface_points(geometry.rest, geometry.faces, texels.triangle[found], texels.barycentrics[found]),
        axis=1,
    )
    texel = (
        np.sqrt(triangle_areas(geometry.rest[geometry.faces]).sum() / triangle_areas(geometry.corner_uv).sum()) / side
    )
    assert distance.max() < 2 * texel


def test_charts_hang_together_by_their_corners():
    assert len(np.unique(blob().chart)) == 6


def test_triangle_areas():
    triangle = np.array([[[0, 0], [3, 0], [0, 4]]], float)
    assert triangle_areas(triangle) == pytest.approx([6])
    assert triangle_areas(np.pad(triangle, ((0, 0), (0, 0), (0, 1)))) == pytest.approx([6])
