"""The procedural world: shapes, control images, labels. Small pictures: the reference renderer is no fast one on a CPU."""

import numpy as np
import pytest
import torch
import trimesh

from jobs.pocket import camera, dataset, environments, lighting, materials, sdf, shapes, styles, words, world
from jobs.pocket.draws import Draws
from jobs.pocket.figure import Figure
from jobs.pocket.surface import RGB
from renderer.camera import Camera
from renderer.gbuffer import Geometry, control_image, gather
from renderer.rasterise import rasterise

RESOLUTION = 48


def seeded(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def ball(radius: float, centre: tuple[float, float, float]) -> shapes.Shapes:
    """One sphere where we want it, in the table that the renderer reads."""
    figure = Figure(Draws(1, seeded()))
    figure.ball(figure.at(0, 0, 0), 0.5)
    rows, floor = shapes._fitted(figure)
    rows[:, 0:6] = torch.tensor([*centre, *centre])
    rows[:, 6:8] = radius
    return shapes.Shapes(rows, floor, torch.zeros(1, dtype=torch.long))


def test_every_table_has_the_same_names():
    assert list(materials.MATERIALS) == list(words.MATERIALS)
    assert list(environments.ENVIRONMENTS) == list(words.ENVIRONMENTS)
    assert ["render", *styles.STYLES] == list(words.STYLES)
    assert set(lighting.OUTDOORS) == set(words.LIGHTS)
    assert list(shapes.FAMILIES) == list(words.NOUNS)
    assert list(RGB) == words.COLOURS


def test_a_ball_is_a_ball():
    points = torch.randn(1, 500, 3, generator=seeded()) * 0.8
    centre = torch.tensor([0.2, -0.1, 0.3])
    true = (points - centre).norm(dim=-1) - 0.5
    torch.testing.assert_close(sdf.distance(ball(0.5, (0.2, -0.1, 0.3)).rows, points), true, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", shapes.FAMILIES)
def test_heroes_fit_the_unit_ball_and_stand_on_their_floor(family):
    heroes = shapes.sample(24, seeded(3), family)
    direction = torch.nn.functional.normalize(torch.randn(1, 400, 3, generator=seeded()), dim=-1)
    assert (sdf.distance(heroes.rows, direction.expand(24, -1, -1) * 1.12) > 0).all(), "nothing sticks out of the ball"
    inside = torch.rand(24, 4000, 3, generator=seeded(1)) * 2 - 1
    found = sdf.distance(heroes.rows, inside) < 0
    assert found.any(1).all(), "there is something in it"
    lowest = torch.where(found, inside[..., 1], torch.inf).amin(1, keepdim=True)
    assert (lowest > heroes.floor - 0.05).all()


def test_distances_are_lower_bounds():
    """Sphere tracing is right only if the field never changes faster than the distance does."""
    heroes = shapes.sample(16, seeded(5))
    a = torch.randn(16, 300, 3, generator=seeded(6)) * 0.6
    b = a + torch.randn(16, 300, 3, generator=seeded(7)) * 0.05
    slope = (sdf.distance(heroes.rows, a) - sdf.distance(heroes.rows, b)).abs() / (a - b).norm(dim=-1)
    assert slope.quantile(0.99) < 1.15
    assert slope.max() < 1.6


def test_control_images_agree_with_the_rasterisers():
    """The same ball and ground by sphere tracing and by our rasteriser: what the model learns from is what it will be given."""
    size, radius, ground = 64, 0.6, -0.7
    eye = np.array([0.4, 0.3, 2.6])
    backward = eye / np.linalg.norm(eye)
    right = np.cross([0.0, 1.0, 0.0], backward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(backward, right), backward])
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = rotation, -rotation @ eye
    pinhole = Camera(view, np.deg2rad(40))

    mesh = trimesh.creation.icosphere(5, radius)
    corners = np.zeros((len(mesh.faces), 3, 2), np.float32)
    vertices = mesh.vertices.astype(np.float32)
    owner = np.zeros(len(mesh.faces), np.int32)
    geometry = Geometry(mesh.faces.astype(np.int32), owner, corners, vertices, ground, True)
    hits = rasterise(vertices, geometry.faces, pinhole, (size, size))
    gbuffer = gather(geometry, vertices, pinhole, hits)

    rays = torch.tensor(pinhole.rays((size, size)).reshape(1, -1, 3), dtype=torch.float32)
    length = rays.norm(dim=-1)
    hero = ball(radius, (0.0, 0.0, 0.0))
    hero = shapes.Shapes(hero.rows, torch.tensor([[ground]]), hero.family)
    one = torch.ones(1, 1)
    cameras = camera.View(
        torch.tensor(eye[None], dtype=torch.float32), rays / length[..., None], 1 / length, one, size, one
    )
    found = camera.trace(hero, cameras, torch.ones(1, 1, dtype=torch.bool))

    inverse = 1 / (found.distance * cameras.cosine)
    near, far = 0.55, 0.02
    ours = camera.control_image(inverse, found.hero | found.ground, torch.tensor([[near]]), torch.tensor([[far]]))
    ours = ours.reshape(size, size).clamp(max=1).numpy()
    theirs = control_image(gbuffer, near, far)
    same_thing = (found.hero.reshape(size, size).numpy() == (gbuffer.object == 0)) & ((ours > 0) == (theirs > 0))
    assert same_thing.mean() > 0.985, "they differ along outlines only"
    # The nearest 30 units: farther out the ground of the training pictures ends.
    compared = same_thing & ((theirs == 0) | (gbuffer.inverse_depth > 1 / 30))
    np.testing.assert_allclose(ours[compared], theirs[compared], atol=0.01)


def test_pictures_follow_their_seed_and_the_convention():
    first = dataset.render(4, 7, torch.device("cpu"), RESOLUTION, batch=2)
    again = dataset.render(4, 7, torch.device("cpu"), RESOLUTION, batch=2)
    other = dataset.render(4, 8, torch.device("cpu"), RESOLUTION, batch=2)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    control = first.control.float() / 255
    assert ((control == 0) | (control >= 0.095)).all()
    assert (control.amax((1, 2, 3)) >= 0.495).all()
    assert (control.amax((1, 2, 3)) <= 1).all()
    assert (control[first.hero] > 0).float().mean() > 0.9
    assert first.hero.any(3).any(2).all()


@pytest.mark.parametrize("style", words.STYLES)
def test_styles_and_moods_draw_finite_pictures(style):
    heroes = shapes.sample(1, seeded(2))
    for mood in lighting.OUTDOORS[:: 2 if style == "render" else 6]:
        pictures = world.render(heroes, [("zebra", style)], "meadow", mood, seeded(4), RESOLUTION)
        assert torch.isfinite(pictures.image).all()
        assert 0.02 < pictures.image.std() < 0.6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernel_is_the_reference():
    heroes = shapes.sample(64, seeded(0, "cuda"))
    points = torch.randn(64, 3000, 3, generator=seeded(1, "cuda"), device="cuda") * 0.7
    torch.testing.assert_close(sdf.distance(heroes.rows, points), sdf._distance(heroes.rows, points), atol=1e-5, rtol=0)


def test_each_look_is_that_of_its_share_of_the_pictures():
    heroes = shapes.sample(4, seeded(3))
    looks = [("leaves", "render"), ("lava", "pixel art")]
    pictures = world.render(heroes, looks, "studio", "day", seeded(4), RESOLUTION)
    red, green, _ = (pictures.image * pictures.hero).sum((2, 3)).T
    assert (green > red).tolist() == [True, True, False, False]
    blocks = pictures.image.unfold(2, styles.PIXEL, styles.PIXEL).unfold(3, styles.PIXEL, styles.PIXEL).flatten(4)
    spread = blocks.std(-1).amax((1, 2, 3))
    assert (spread < 1e-6).tolist() == [False, False, True, True]


def test_windows_of_pictures_keep_their_masks_and_ask_only_for_what_they_show():
    side = 64
    hero = torch.zeros(1, 1, side, side, dtype=torch.bool)
    hero[..., :16, :16] = True  # in a corner: many windows do not see it
    images = hero.expand(1, 3, -1, -1)
    data = dataset.Dataset(images.to(torch.uint8) * 255, images[:, :1].to(torch.uint8), hero, torch.full((1, 7), 5))
    torch.manual_seed(0)
    asked = set()
    for _ in range(30):
        seen, mask, labels, _ = dataset.views(data, 3)
        assert torch.equal(seen.mean(1, keepdim=True) > 0.5, mask)
        hidden = mask.float().mean((1, 2, 3)) < dataset.HARDLY
        assert torch.equal(labels[:, 0] == dataset.UNASKED, hidden)
        assert (labels[:, 1:] == 5).all()
        asked.add(bool(hidden[0]))
    assert asked == {True, False}
    assert (data.labels == 5).all()


def test_heroes_stand_apart_from_surroundings_that_are_as_bright():
    hero = torch.zeros(1, 1, 32, 32)
    hero[..., 8:24, 8:24] = 1
    for own, around in ((0.9, 0.85), (0.2, 0.22), (0.05, 0.1), (0.9, 0.3)):
        image = (hero * own + (1 - hero) * around).expand(1, 3, -1, -1)
        apart = world.separated(image, hero)
        inside = hero.expand_as(apart) > 0
        assert torch.equal(apart[inside], image[inside])
        gap = (apart[inside].mean() - apart[~inside].mean()).abs()
        assert gap >= min(world.GAP, around) - 1e-4  # twice as bright is the most
        if abs(own - around) > world.GAP:
            assert torch.equal(apart, image)


def test_outlines_are_smooth_and_nothing_else_changes():
    image, hero = torch.rand(1, 3, 32, 32, generator=seeded(0)), torch.zeros(1, 1, 32, 32)
    hero[..., 10:20, 12:30] = 1
    soft = world.smoothed(image, hero)
    changed = (soft != image).any(1)[0]
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[9:21, 11:31] = True
    expected[11:19, 13:29] = False
    assert torch.equal(changed, expected)
