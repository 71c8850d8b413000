from dataclasses import replace

import numpy as np
import pytest
import trimesh
from conftest import QUIET
from toys import charts

from renderer.arrays import load_arrays
from renderer.atlas import surface_points
from renderer.config import SceneConfig
from renderer.export import atlas_pictures, bake_clip, export_texture, fill
from renderer.plan import make_plan
from renderer.render import InlineExecutor, survey
from renderer.stage import Stage
from renderer.video import read_png, write_png

TEXELS = charts([np.tri(12, dtype=bool), np.ones((4, 4), bool)])
N = len(TEXELS.object)


def paint(points):
    """A colour for every place of the surface, [P, 3] → [P, 3]."""
    return 0.5 + 0.4 * np.sin(2.5 * points + np.array([0, 1, 2]))


@pytest.fixture(scope="module", params=["bounce", "turntable"])
def exported(request, small, tmp_path_factory):
    """A clip whose pictures show painted surfaces, and its export: (stage, texels, folder)."""
    folder = tmp_path_factory.mktemp("clip")
    plan, _ = make_plan(small(scene=SceneConfig(name=request.param), resolution=160, frames=4), folder, "cpu", 1)
    plan = survey(replace(plan, keyframes=0), InlineExecutor(), QUIET)
    stage = Stage(plan)
    texels = stage.picture_texels()
    for frame in range(plan.frames):
        gbuffer = stage.gbuffer(frame, plan.size, *stage.pose(frame))
        hero = gbuffer.triangle >= 0
        picture = np.zeros((*hero.shape, 3))
        geometry = stage.geometry
        points = surface_points(geometry.rest, geometry.faces, gbuffer.triangle[hero], gbuffer.barycentrics[hero])
        picture[hero] = paint(points)
        write_png(plan.picture_path(frame), np.rint(picture * 255).astype(np.uint8))
    stage.unwrap(range(plan.frames))
    export_texture(plan, texels, folder)
    return stage, texels, folder


def test_a_viewer_finds_the_paint_where_the_clip_showed_it(exported):
    """Read back by trimesh, which knows nothing of atlases: texture looked up by UV at places of the surface."""
    stage, texels, folder = exported
    facing = np.max(
        [load_arrays(stage.plan.texture_path(frame))["facing"] for frame in range(stage.plan.frames)], axis=0
    )
    loaded = trimesh.load_scene(folder / "textured.glb")
    assert len(loaded.geometry) == len(stage.scene.objects)
    for (name, mesh), obj, positions in zip(
        loaded.geometry.items(), stage.scene.objects, stage.scene.at(0.0), strict=True
    ):
        assert len(mesh.faces) == len(obj.faces)
        assert mesh.triangles == pytest.approx(positions[obj.faces], abs=1e-5)
        assert (
            np.abs(
                (mesh.vertex_normals * trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).vertex_normals).sum(1)
            ).mean()
            > 0.9
        )
        texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
        assert np.array_equal(texture, read_png(folder / "texture" / f"{name}.png"))
        number = list(loaded.geometry).index(name)
        mine = np.flatnonzero(texels.object == number)
        face = texels.triangle[mine] - np.flatnonzero(stage.geometry.face_object == number)[0]
        weights = texels.barycentrics[mine]
        u, v = np.einsum("pcu,pc->up", mesh.visual.uv[mesh.faces[face]], weights)
        side = len(texture)
        found = texture[
            np.clip(((1 - v) * side).astype(int), 0, side - 1), np.clip((u * side).astype(int), 0, side - 1)
        ]
        error = np.abs(found / 255 - paint(np.einsum("pcx,pc->px", positions[obj.faces[face]], weights))).mean(axis=1)
        well_seen = facing[mine] > 0.4
        assert well_seen.sum() > 20
        assert np.median(error[well_seen]) < 0.03
        assert (error[well_seen] < 0.15).mean() > 0.95


def test_views_count_by_how_squarely_they_look():
    square, glancing = np.full((N, 3), 200, np.uint8), np.full((N, 3), 0, np.uint8)
    seen = np.ones(N, bool)
    clip = [(square, seen, np.full(N, 1.0)), (glancing, seen, np.full(N, 0.2)), (glancing, seen, np.zeros(N))]
    colour, shown = bake_clip(TEXELS, clip)
    assert shown.all()
    assert colour == pytest.approx(200 / 255, abs=0.01)
    half = np.arange(N) < N // 2
    colour, shown = bake_clip(TEXELS, [(square, half, np.where(half, 1.0, 0)), (glancing, ~half, np.zeros(N))])
    assert shown.all()  # a glimpse counts where there is nothing better
    assert colour[~half].max() == 0


def test_what_no_frame_shows_takes_the_nearest_colour_of_its_own_object():
    rng = np.random.default_rng(0)
    points, colour = rng.random((N, 3)), rng.random((N, 3)).astype(np.float32)
    shown = (TEXELS.object == 0) & (np.arange(N) % 3 == 0)
    filled = fill(TEXELS, colour, shown, points)
    assert np.array_equal(filled[shown], colour[shown])
    for texel in np.flatnonzero((TEXELS.object == 0) & ~shown):
        nearest = min(np.flatnonzero(shown), key=lambda known: np.linalg.norm(points[known] - points[texel]))
        assert np.array_equal(filled[texel], colour[nearest])
    assert (filled[TEXELS.object == 1] == 0.5).all()


def test_gaps_between_charts_are_filled_and_row_0_is_at_the_bottom():
    colour = np.stack([TEXELS.row / 12, TEXELS.column / 12, TEXELS.object], axis=1).astype(np.float32)
    first, second = atlas_pictures(TEXELS, colour)
    assert first.shape == (12, 12, 3)
    assert first[::-1][np.tril_indices(12)][:, 0] == pytest.approx(np.tril_indices(12)[0] / 12 * 255, abs=0.51)
    assert (first[..., 2] == 0).all()
    assert (second[..., 2] == 255).all()
