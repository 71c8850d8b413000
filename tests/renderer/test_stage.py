from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import PAPER, QUIET

from renderer import plan as plan_module
from renderer.arrays import load_arrays
from renderer.config import CameraConfig, MethodConfig, NoiseConfig, SceneConfig
from renderer.errors import SceneError
from renderer.frames import FrameRenderer, NetworkCache
from renderer.plan import geometry, make_plan
from renderer.render import InlineExecutor, make_gbuffers, survey
from renderer.stage import DIRECTIONS, Stage, directions, merge_surveys
from renderer.video import read_png, write_png


@pytest.fixture
def surveyed(small, tmp_path):
    """surveyed(**changes) → a plan that knows its clip, and its stage."""

    def make(**changes):
        plan, _ = make_plan(small(**changes), tmp_path, "cpu", 1)
        plan = survey(plan, InlineExecutor(), QUIET)
        return plan, Stage(plan)

    return make


def test_the_survey_knows_the_whole_clip(surveyed):
    plan, stage = surveyed()
    gbuffers = [stage.gbuffer(frame, plan.latent_size, *stage.pose(frame)) for frame in range(plan.frames)]
    inverse = np.concatenate([g.inverse_depth[g.inverse_depth > 0] for g in gbuffers])
    assert plan.survey.near == inverse.max()
    assert plan.survey.far == inverse.min()
    for number in range(stage.geometry.heroes):
        assert plan.survey.areas[number] == max((g.object == number).sum() for g in gbuffers)
    assert plan.survey.coverage == pytest.approx(np.mean([g.triangle >= 0 for g in gbuffers]))


def test_surveys_of_chunks_merge_into_that_of_the_clip(surveyed):
    _, stage = surveyed()
    parts = [(0, 1, 2), (3,), (4,)]
    merged = merge_surveys([stage.survey(part) for part in parts], [len(part) for part in parts])
    whole = stage.survey(range(5))
    assert (merged.near, merged.far, merged.areas) == (whole.near, whole.far, whole.areas)
    assert merged.coverage == pytest.approx(whole.coverage)


def test_what_lies_in_a_frames_file(surveyed):
    plan, stage = surveyed()
    stage.make_gbuffers([2])
    arrays = stage.arrays(2)
    assert plan.levels == (0, 1)
    assert arrays["control"].shape == (64, 64)
    assert arrays["noise"].shape == arrays["background"].shape == (8, 8)
    shows_hero = stage.correspondence(2, 0).texel >= 0
    assert 0 < shows_hero.sum() < (~arrays["background"]).sum(), "what covers a silhouette is left out"
    assert not arrays["background"][shows_hero].any()
    for level, side in ((0, 8), (1, 4)):
        table = stage.correspondence(2, level)
        assert table.object.shape == table.texel.shape == (side, side)
        texels = stage.texels((side, side), plan.config.method.texels)
        assert len(table.pixel) == len(table.weight) == len(texels.object)
        assert table.pixel.max() < side**2
        assert (table.weight > 0).any()
    assert read_png(plan.guide_path(2)).shape[0] >= 64


def test_what_depends_on_the_scene_is_made_once_for_all_that_share_it(small, tmp_path, monkeypatch):
    """Surveys, painters' lookups and the samples of textures: the same from a shared folder as made alone."""
    alone, _ = make_plan(small(), tmp_path / "alone", "cpu", 1)
    shared = [make_plan(small(prompt=prompt), tmp_path / prompt, "cpu", 1, tmp_path / "shared")[0] for prompt in "ab"]
    stages, found = list[Stage](), list[list]()
    for number, plan in enumerate([alone, *shared]):
        if number == 2:
            monkeypatch.delattr(Stage, "gbuffer")  # nothing is looked at again
        stages.append(Stage(survey(plan, InlineExecutor(), QUIET)))
        found.append([stages[-1].facing([0, 3]), *vars(stages[-1].lookup(2, [3, 0])).values()])
        for mine, other in zip(found[-1], found[0], strict=True):
            np.testing.assert_array_equal(mine, other)
    assert stages[0].plan.survey == stages[2].plan.survey
    kept = {name: [*(tmp_path / name).rglob("lookup*/*")] for name in ("alone", "shared")}
    assert (len(kept["alone"]), len(kept["shared"])) == (0, 1)


def test_painters_that_are_keyframes_lie_on_top(surveyed):
    """Where keyframes are not the first painters, none has looked at the others, and all are alike."""
    orbit = SceneConfig(name="turntable", camera=CameraConfig(move="orbit", turn=90))

    def shares(**changes):
        _, stage = surveyed(scene=orbit, frames=4, method=replace(PAPER, **changes))
        found = stage.lookup(2, [0, 3, 1])
        return [found.share[found.painter == k].sum() for k in range(3)]

    alike = shares(keyframes=0)
    assert alike == shares(keyframes=1, choose="even") == shares(keyframes=3, choose="coverage")
    assert shares(keyframes=1, choose="coverage") != alike


def test_painters_show_what_others_do_not(surveyed):
    """Directions behind the heroes count, too, and each is seen from where the camera looks."""
    _, stage = surveyed(scene=SceneConfig(name="turntable", camera=CameraConfig(move="orbit", turn=360)), frames=4)
    facing = stage.facing(range(4))
    assert (facing >= 0).all()
    assert ((facing > 0).sum(axis=1) > 0).all()
    around = facing[:, -DIRECTIONS:] > 0
    assert (around.sum(axis=0) <= 1).all(), "four views a quarter turn apart show different surroundings"
    np.testing.assert_allclose(np.linalg.norm(directions(DIRECTIONS)[:, :3], axis=1), 1)
    assert np.abs(directions(DIRECTIONS).mean(axis=0)).max() < 1e-2


def test_control_images_share_their_constants(surveyed):
    plan, stage = surveyed()
    stage.make_gbuffers(range(5))
    for frame in range(5):
        gbuffer = stage.gbuffer(frame, plan.size, *stage.pose(frame))
        control, surface = stage.arrays(frame)["control"], gbuffer.inverse_depth > 0
        wanted = 0.1 + 0.9 * (gbuffer.inverse_depth - plan.survey.far) / (plan.survey.near - plan.survey.far)
        np.testing.assert_allclose(control[surface], wanted[surface].clip(0.1, 1), atol=1e-6)
        assert (control[~surface] == 0).all()


def test_frames_on_their_own_need_no_correspondence(surveyed):
    plan, stage = surveyed(method=MethodConfig(keyframes=0))
    assert plan.keyframes == 0
    assert set(stage.arrays(0)) == {"control", "noise", "background"}


def test_a_missing_file_is_made_again_and_is_the_same(surveyed):
    plan, stage = surveyed()
    stage.make_gbuffers(range(5))
    before = {name: array.copy() for name, array in stage.arrays(3).items()}
    plan.arrays_path(3).unlink()
    plan.guide_path(3).unlink()
    again = Stage(plan).arrays(3)
    assert again.keys() == before.keys()
    assert all(np.array_equal(again[name], before[name]) for name in before)
    assert plan.guide_path(3).exists()


def test_levels_follow_the_layers_and_odd_sizes_round_up(small, tmp_path):
    plan, _ = make_plan(small(resolution=[88, 56]), tmp_path, "cpu", 1)
    assert plan.latent_size == (11, 7)
    assert plan.level_size(1) == (6, 4)


def test_chunks_are_a_function_of_the_render(small, tmp_path):
    plan, _ = make_plan(small(frames=5, chunk=2), tmp_path, "cpu", 1)
    assert plan.chunks() == [(0, 1), (2, 3), (4,)]
    assert make_plan(small(frames=1, chunk=8), tmp_path, "cpu", 1)[0].chunks() == [(0,)]


def test_nothing_in_view_is_the_persons_mistake(small, tmp_path):
    plan, _ = make_plan(small(), tmp_path, "cpu", 1)
    for camera in plan.cameras:
        camera.view[:3, 3] += [0, 0, 1000]  # everything is behind it
    with pytest.raises(SceneError, match="in view"):
        survey(plan, InlineExecutor(), QUIET)


@pytest.mark.parametrize(
    ("wanted", "name", "ground"), [(None, "flag", 0.0), (False, "flag", None), (None, "fish", None)]
)
def test_the_ground_is_what_the_scene_or_the_person_wants(small, tmp_path, wanted, name, ground):
    _, scene = make_plan(small(scene=SceneConfig(name=name)), tmp_path, "cpu", 1)
    uvs = [part.corner_uv for part in scene.objects]
    assert geometry(scene, SceneConfig(name=name, ground=wanted), uvs).ground == ground
    floating = geometry(scene, SceneConfig(name=name, ground=True), uvs)
    assert floating.ground == pytest.approx(min(p[:, 1].min() for p in scene.at(0.0)), abs=0.05)


def test_objects_become_one_mesh(surveyed):
    _, stage = surveyed()
    whole, vertices = stage.geometry, np.concatenate(stage.scene.at(0.0))
    assert np.array_equal(whole.rest, vertices)
    assert whole.heroes == len(stage.scene.objects)
    first = 0
    for number, (part, points) in enumerate(zip(stage.scene.objects, stage.scene.at(0.0), strict=True)):
        mine = whole.face_object == number
        assert np.array_equal(vertices[whole.faces[mine]], points[part.faces])
        assert np.array_equal(whole.corner_uv[mine], stage.chart_uvs[number])
        first += len(points)
    assert first == len(vertices)


@pytest.mark.parametrize("kind", ["uv", "fixed", "random"])
def test_noise_by_kind(surveyed, kind):
    plan, _ = surveyed(noise=NoiseConfig(kind=kind), resolution=128)
    renderer = FrameRenderer(plan, NetworkCache())
    noise, background = renderer.noise(range(5), 0), renderer.background(range(5))
    assert noise.shape == (5, 4, 16, 16)
    assert background.shape == (5, 16, 16)
    alone = [renderer.noise([frame], 0)[0] for frame in (4, 0)]
    assert np.array_equal(noise[4], alone[0])
    assert np.array_equal(noise[0], alone[1])
    equal = (noise[0] == noise[1]).float().mean()
    assert {"uv": 0.1 < equal < 1, "fixed": equal == 1, "random": equal == 0}[kind]
    later = renderer.noise(range(5), 3)
    assert torch.equal(later[0] == later[1], noise[0] == noise[1]), "a sampler's own noise lives at the same places"
    assert not (later == noise).any()


def test_a_steady_picture_unwraps_to_a_steady_texture(surveyed):
    """A picture painted by what each pixel shows comes back from the texture, at every texel that is seen."""
    plan, stage = surveyed(scene=SceneConfig(name="flag", camera=CameraConfig(move="static")))
    texels = stage.picture_texels()
    palette = np.random.default_rng(0).integers(0, 256, (stage.geometry.heroes + 2, 3)).astype(np.uint8)
    for frame in (0, 3):
        gbuffer = stage.gbuffer(frame, plan.size, *stage.pose(frame))
        write_png(plan.picture_path(frame), palette[gbuffer.object])
    stage.unwrap([0, 3])
    for frame in (0, 3):
        texture = load_arrays(plan.texture_path(frame))
        assert texture["colour"].dtype == np.uint8
        assert 0.1 < texture["seen"].mean() < 0.9
        assert np.array_equal(texture["colour"][texture["seen"]], palette[texels.object[texture["seen"]]])
        assert (texture["colour"][~texture["seen"]] == 0).all()


def test_make_gbuffers_covers_every_frame(small, tmp_path):
    plan, _ = make_plan(small(method=MethodConfig(keyframes=0)), tmp_path, "cpu", 1)
    executor = InlineExecutor()
    plan = survey(plan, executor, QUIET)
    make_gbuffers(plan, executor, QUIET)
    assert all(plan.arrays_path(frame).exists() and plan.guide_path(frame).exists() for frame in range(5))


def test_renders_that_share_a_stage_share_what_is_kept_of_its_frames(small, tmp_path):
    """On a worker, views stay on the GPU for the next prompt of a sweep. Alone, or with another network, nothing is taken over."""

    def renderer(name, last, shared=True, **changes):
        plan, _ = make_plan(
            small(prompt=name, **changes), tmp_path / name, "cpu", 1, tmp_path / "s" if shared else None
        )
        return FrameRenderer(survey(plan, InlineExecutor(), QUIET), NetworkCache(), last)

    first = renderer("first", None)
    first.make_gbuffers([0])
    second = renderer("second", first)
    assert second.view(0, 1) is first.view(0, 1)
    assert second.arrays(0) is first.arrays(0)
    layers = MethodConfig(layers="all")
    for other in (renderer("alone", second, shared=False), renderer("layers", second, method=layers)):
        other.make_gbuffers([0])
        assert other.scene is first.scene
        assert other.arrays(0) is not first.arrays(0)


def test_files_of_another_version_are_not_found(small, tmp_path, monkeypatch):
    """What an older version left in a shared folder may lack what this one reads."""

    def stage():
        return make_plan(small(), tmp_path / "out", "cpu", 1, tmp_path / "shared")[0].stage

    before = stage()
    assert stage() == before
    monkeypatch.setattr(plan_module, "STAGE", plan_module.STAGE + 1)
    assert stage() != before
