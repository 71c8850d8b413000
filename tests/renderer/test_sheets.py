import colorsys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import charts

from renderer.atlas import Texels
from renderer.sheets import (
    DILATION,
    GAP,
    PAPER,
    SHEET_WIDTH,
    TextureView,
    compare_frame,
    contact_sheet,
    depth_picture,
    guide_frame,
    normal_picture,
    sheet_times,
    uv_picture,
)


def squares(sides, chart=0.5) -> Texels:
    """One square chart at the lower left of each object's atlas, `chart` of its side."""
    masks = []
    for side in sides:
        n = max(1, int(chart * side))
        masks.append(np.pad(np.ones((n, n), bool), (0, side - n)))
    return charts(masks)


def flat(colour, height=40, width=50):
    return np.full((height, width, 3), colour, np.uint8)


def codes(picture):
    """One number for each colour, [h, w]."""
    return picture.astype(int) @ [65536, 256, 1]


def box(coded, colour):
    """top, bottom, left, right of the rectangle that this colour fills."""
    found = coded == codes(np.array(colour))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert found[top:bottom, left:right].all()
    return top, bottom, left, right


# --- guides ---------------------------------------------------------------------------------------------------------


def test_uv_colours_belong_to_surface_points():
    rng = np.random.default_rng(0)
    obj, uv = rng.integers(0, 3, (20, 30)).astype(np.int32), rng.random((20, 30, 2)).astype(np.float32)
    picture = uv_picture(obj, uv, heroes=3)
    order = rng.permutation(600)
    moved = uv_picture(obj.reshape(-1)[order].reshape(20, 30), uv.reshape(-1, 2)[order].reshape(20, 30, 2), heroes=3)
    assert np.array_equal(moved.reshape(-1, 3), picture.reshape(-1, 3)[order])
    # Within a cell of the checker, any step of 1/32 in u or v can be told.
    steps = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1).reshape(1, -1, 2) / 32 + 1 / 256
    colours = uv_picture(np.zeros(steps.shape[:2], np.int32), steps.astype(np.float32), heroes=1)
    assert len(np.unique(colours[0], axis=0)) > 0.9 * 32 * 32


def test_objects_have_hues_of_their_own_and_the_surroundings_none():
    obj = np.arange(-1, 6, dtype=np.int32)[None]
    picture = uv_picture(obj, np.full((1, 7, 2), 0.5, np.float32), heroes=4)[0]
    hues = np.sort([colorsys.rgb_to_hsv(*colour / 255)[0] for colour in picture[1:5]])
    assert np.diff([*hues, hues[0] + 1]).min() > 0.08
    for colour in picture[[0, 5, 6]].astype(int):  # nothing, ground, dome
        assert np.ptp(colour) < 12
        assert colour.max() < 80
    assert np.ptp(picture[1:5].astype(int), axis=1).min() > 60


def test_uv_outside_the_heroes_is_ignored():
    obj = np.array([[0, 1]], np.int32)
    uv = np.array([[[0.5, 0.5], [np.nan, np.inf]]], np.float32)
    assert np.ptp(uv_picture(obj, uv, heroes=1)[0, 1].astype(int)) < 12


def test_normals_have_the_usual_colours():
    obj = np.array([[0, 0, 0, 1]], np.int32)
    normal = np.array([[[0, 0, 1], [1, 0, 0], [0, -1, 0], [0, 1, 0]]], np.float32)
    picture = normal_picture(obj, normal, heroes=1)[0].tolist()
    assert picture == [[128, 128, 255], [255, 128, 128], [128, 0, 128], list(PAPER)]


def test_depth_is_the_control_image():
    assert depth_picture(np.array([[0, 0.5, 1]], np.float32)).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]


def test_the_guide_frame_shows_all_three():
    obj, uv = np.zeros((64, 80), np.int32), np.random.default_rng(0).random((64, 80, 2)).astype(np.float32)
    control, normal = uv[..., 0], np.concatenate([uv, uv[..., :1]], axis=2)
    picture = guide_frame(obj, uv, control, normal, heroes=1)
    panels = [uv_picture(obj, uv, 1), depth_picture(control), normal_picture(obj, normal, 1)]
    for number, panel in enumerate(panels):
        assert np.array_equal(picture[:64, number * (80 + GAP) :][:, :80], panel)


# --- side by side ---------------------------------------------------------------------------------------------------


def test_compared_pictures_are_untouched_and_labelled():
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 256, (64, width, 3), dtype=np.uint8) for width in (80, 64))
    picture = compare_frame([("per frame", left), ("ours", right)])
    assert np.array_equal(picture[:64, :80], left)
    assert np.array_equal(picture[:64, 80 + GAP :], right)
    strip = picture[64:].astype(int)
    assert (np.abs(strip[:, :80] - PAPER).sum(axis=2) > 100).any()
    assert (np.abs(strip[:, 80 + GAP :] - PAPER).sum(axis=2) > 100).any()
    assert np.array_equal(compare_frame([("a", left), ("ours", right)])[:, 80:], picture[:, 80:])


@given(st.integers(1, 2000), st.integers(2, 12))
def test_sheet_times_span_the_clip(frames, columns):
    times = sheet_times(frames, columns)
    assert len(times) == min(frames, columns)
    assert times == sorted(set(times))
    assert (times[0], times[-1]) == (0, frames - 1)
    assert np.ptp(np.diff(times)) <= 1 if len(times) > 2 else True


@pytest.mark.parametrize("size", [(256, 256), (192, 108), (288, 512), (64, 64)])
@pytest.mark.parametrize("columns", [1, 3, 8])
def test_the_contact_sheet_has_every_picture_in_its_place(size, columns):
    guides = [flat((200, 10 + 20 * i, 0), *size) for i in range(columns)]
    results = [flat((0, 10 + 20 * i, 200), *size) for i in range(columns)]
    sheet = contact_sheet([("guide", guides), ("result", results)], range(columns), "a fox made of ice", "seed 0")
    assert sheet.shape[1] <= SHEET_WIDTH
    coded = codes(sheet)
    above = [box(coded, guide[0, 0]) for guide in guides]
    below = [box(coded, result[0, 0]) for result in results]
    for (top, bottom, left, right), under in zip(above, below, strict=True):
        assert (bottom - top) / (right - left) == pytest.approx(size[0] / size[1], rel=0.02)
        assert under == (bottom + GAP, 2 * bottom - top + GAP, left, right)
    assert all(one[3] + GAP == other[2] for one, other in pairwise(above))


@pytest.mark.parametrize(
    "prompt", ["", "a", "word " * 5000, "x" * 20000, "雪" * 3000, "\x00 \udcff \n é", 'a, b = "c" ($5)']
)
def test_any_prompt_fits_on_the_sheet(prompt):
    row = ("result", [flat((250, 0, 0), 128, 128)] * 4)
    sheet = contact_sheet([row], range(4), prompt)
    empty = contact_sheet([row], range(4), "")
    assert sheet.shape[1] == empty.shape[1]
    assert 0 <= sheet.shape[0] - empty.shape[0] <= 3 * 40
    assert (sheet[:, :20] == PAPER).all()
    assert (sheet[:, -20:] == PAPER).all()
    top = np.flatnonzero((codes(sheet) == codes(np.array((250, 0, 0)))).any(axis=1))[0]
    assert (sheet[top - 6 : top] == PAPER).all()
    assert (sheet[:top] != PAPER).any() == bool(prompt)


# --- the clip unwrapped into UV -------------------------------------------------------------------------------------


def test_v_points_up_and_every_texel_is_shown_once():
    texels = squares((16,), chart=1)
    colour = np.stack([texels.row, texels.column, 0 * texels.row], axis=1) / 15
    picture = TextureView(texels, height=32).frame(colour, np.ones(256, bool))
    expected = colour.reshape(16, 16, 3)[::-1].repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(picture / 255 - expected).max() < 0.5 / 255 + 1e-9


def test_a_steady_texture_holds_still_and_what_is_unseen_is_dimmed():
    texels = squares((16,), chart=1)
    rng = np.random.default_rng(0)
    colour, seen, never = 0.3 + 0.6 * rng.random((256, 3)), rng.random(256) > 0.4, rng.random(256) > 0.9
    view = TextureView(texels, height=16)

    def frame(texture, visible):
        return view.frame(np.where(visible[:, None], texture, np.nan), visible)[::-1].reshape(256, 3) / 255

    first = frame(colour, ~never)
    assert np.array_equal(frame(colour, ~never), first)
    second = frame(colour, seen & ~never)
    assert np.array_equal(second[seen], first[seen])
    dimmed = ~seen & ~never
    ratio = second[dimmed] / first[dimmed]
    assert ratio.max() - ratio.min() < 0.02  # the same colour, darker
    assert ratio.max() < 0.5
    assert len(np.unique(first[never], axis=0)) == 1
    assert first[never].max() < 0.2


def test_charts_grow_a_little_into_the_gaps():
    texels = squares((32,), chart=0.5)
    picture = TextureView(texels, height=32).frame(np.full((256, 3), 1.0), np.ones(256, bool))
    white = (picture == 255).all(axis=2)[::-1]
    assert white[:16, : 16 + DILATION].all()
    assert not white[:, 17 + DILATION :].any()
    assert (picture[::-1][:, 17 + DILATION :] == PAPER).all()


@pytest.mark.parametrize(
    "sides", [(64,), (32, 64), (64, 64), (10, 200, 30, 7), (50,) * 9, tuple(range(4, 60)), (4,) * 120]
)
def test_all_objects_are_shown_and_the_largest_is_the_largest(sides):
    texels = squares(sides, chart=1)
    picture = TextureView(texels, height=256).frame(
        np.repeat((texels.object[:, None] + 1) / 255, 3, axis=1), np.ones(len(texels.object), bool)
    )
    assert picture.shape[0] == 256
    assert picture.shape[1] <= 2 * 256 + GAP
    extents = []
    for number in range(1, len(sides) + 1):
        top, bottom, left, right = box(codes(picture), (number, number, number))  # whole: nothing lies over it
        assert bottom - top == right - left
        extents.append(bottom - top)
    largest = int(np.argmax(sides))
    assert extents[largest] == 256
    order = np.argsort(sides, kind="stable")
    assert len(set(sides)) == 1 or (np.diff(np.array(extents)[order]) >= 0).all()


def test_an_object_without_texels_leaves_its_place_empty():
    texels = squares((8, 8), chart=1)
    empty = Texels(
        (8, 8),
        texels.object[:64],
        texels.row[:64],
        texels.column[:64],
        texels.triangle[:64],
        texels.barycentrics[:64],
        (texels.index[0], np.full((8, 8), -1, np.int32)),
    )
    picture = TextureView(empty, height=16).frame(np.ones((64, 3)), np.ones(64, bool))
    assert (picture[:, :16] == 255).all()
    assert (picture[:, 16:] == PAPER).all()
