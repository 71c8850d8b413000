"""Pictures that let a person judge a clip at a glance: guides, contact sheet, comparison, the clip unwrapped into UV."""

import functools
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

from renderer.atlas import Texels

PAPER = (22, 23, 27)  # behind everything
INK = (214, 215, 218)
FAINT = (128, 131, 138)
# Tried by name, as Pillow's own font knows little beyond ASCII and its spaces vanish in small print.
FONTS = ("DejaVuSans.ttf", "Arial.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf")

SHEET_WIDTH = 1920
GAP = 6  # pixels between pictures
DILATION = 3  # texels by which a chart grows into the gap around it
UNSEEN = 0.35  # brightness of a texel that this frame does not see


# --- guides ---------------------------------------------------------------------------------------------------------


def guide_frame(
    obj: NDArray[np.int32],
    uv: NDArray[np.float32],
    control: NDArray[np.float32],
    normal: NDArray[np.float32],
    heroes: int,
) -> NDArray[np.uint8]:
    """uv | depth | normals of one frame, side by side, uint8 [h, w, 3].

    From a G-buffer: obj int32 [H, W] (0..heroes-1 heroes, then ground, dome; -1 nothing), uv float32 [H, W, 2], control
    float32 [H, W] in [0, 1], normal float32 [H, W, 3] unit, world.
    """
    return compare_frame(
        [
            ("uv", uv_picture(obj, uv, heroes)),
            ("depth", depth_picture(control)),
            ("normals", normal_picture(obj, normal, heroes)),
        ]
    )


def uv_picture(obj: NDArray[np.int32], uv: NDArray[np.float32], heroes: int) -> NDArray[np.uint8]:
    """Texture coordinates as colour: u turns the hue around the hero's own, v is brightness, with a checker of 16 and 64.

    obj: int32 [H, W]; uv: float32 [H, W, 2] → uint8 [H, W, 3]. Ground and dome are neutral.
    """
    hero = (obj >= 0) & (obj < heroes)
    u, v = np.where(hero[..., None], uv, 0).astype(np.float64).transpose(2, 0, 1)
    coarse, fine = (((np.floor(u * n) + np.floor(v * n)) % 2) for n in (16, 64))
    hue = 0.6 + obj * 0.618034 + 0.42 * (u - 0.5)  # golden ratio: neighbouring objects get distant hues
    lightness = 0.52 + 0.26 * v + 0.09 * (coarse - 0.5) + 0.035 * (fine - 0.5)
    colour = _oklch(lightness, 0.115, hue)
    neutral = np.where(obj[..., None] == heroes, (54, 56, 62), (34, 35, 40))
    return np.where(hero[..., None], colour, neutral).astype(np.uint8)


def depth_picture(control: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The control image as the model sees it. float32 [H, W] in [0, 1] → uint8 [H, W, 3]."""
    return np.repeat(np.round(np.clip(control, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def normal_picture(obj: NDArray[np.int32], normal: NDArray[np.float32], heroes: int) -> NDArray[np.uint8]:
    """World normals in the usual colours, (n + 1) / 2; neutral off the heroes, where they say nothing.

    obj: int32 [H, W]; normal: float32 [H, W, 3] unit → uint8 [H, W, 3].
    """
    hero = (obj >= 0) & (obj < heroes)
    return np.where(hero[..., None], np.round((np.clip(normal, -1, 1) + 1) * 127.5), PAPER).astype(np.uint8)


def _oklch(lightness: NDArray[np.floating], chroma: float, hue: NDArray[np.floating]) -> NDArray[np.floating]:
    """OKLCH (Ottosson 2020; hue in turns) to sRGB in [0, 255], [..., 3]: equal steps look equal, no hue glares."""
    a, b = chroma * np.cos(2 * np.pi * hue), chroma * np.sin(2 * np.pi * hue)
    lms = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(lms**3 @ to_rgb.T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# --- side by side ---------------------------------------------------------------------------------------------------


def compare_frame(panels: Sequence[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Pictures of one height side by side, each with its label below: uint8 [H, W_i, 3] each → uint8 [h, w, 3]."""
    heights = {image.shape[0] for _, image in panels}
    assert len(heights) == 1, heights
    height = heights.pop()
    size = max(10, round(height / 26))
    strip = round(1.9 * size)
    width = sum(image.shape[1] for _, image in panels) + GAP * (len(panels) - 1)
    page = Image.new("RGB", (width, height + strip), PAPER)
    draw = ImageDraw.Draw(page)
    left = 0
    for label, image in panels:
        page.paste(Image.fromarray(image), (left, 0))
        draw.text((left + image.shape[1] / 2, height + strip / 2), label, INK, _font(label, size), anchor="mm")
        left += image.shape[1] + GAP
    return np.asarray(page)


def sheet_times(frames: int, columns: int = 8) -> list[int]:
    """At most `columns` frame numbers, spread evenly over a clip of `frames`, first and last included.

    >>> sheet_times(24)
    [0, 3, 7, 10, 13, 16, 20, 23]
    """
    return [round(t) for t in np.linspace(0, frames - 1, min(frames, columns)).tolist()]


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], times: Sequence[int], prompt: str, facts: str = ""
) -> NDArray[np.uint8]:
    """Guides and results over time on one page, uint8 [h, w, 3], at most SHEET_WIDTH wide.

    rows: (label, one picture uint8 [H, W, 3] for each of `times`), e.g. the guide's, then the result's. times: their frame
    numbers. prompt: printed above; facts: a faint line under it, e.g. scene, method, seed.
    """
    margin, side_label = 36, 28
    height, width, _ = rows[0][1][0].shape
    tile_width = min((SHEET_WIDTH - 2 * margin - side_label - GAP * (len(times) - 1)) // len(times), width)
    tile_height = round(height * tile_width / width)
    page_width = max(2 * margin + side_label + len(times) * (tile_width + GAP) - GAP, 640)

    caption = [(line, INK, font, 32) for line, font in _wrap(prompt, 22, page_width - 2 * margin, most=3)]
    caption += [(line, FAINT, font, 26) for line, font in _wrap(facts, 15, page_width - 2 * margin, most=1)]
    top = margin + sum(pitch for *_, pitch in caption) + 12
    page_height = top + len(rows) * (tile_height + GAP) - GAP + 26 + margin - 10
    page = Image.new("RGB", (page_width, page_height), PAPER)
    draw = ImageDraw.Draw(page)
    y = margin - 6
    for line, ink, font, pitch in caption:
        draw.text((margin, y + pitch / 2), line, ink, font, anchor="lm")
        y += pitch

    for row, (label, images) in enumerate(rows):
        y = top + row * (tile_height + GAP)
        turned = Image.new("RGB", (tile_height, side_label), PAPER)
        ImageDraw.Draw(turned).text((tile_height / 2, side_label / 2 - 2), label, FAINT, _font(label, 15), anchor="mm")
        page.paste(turned.rotate(90, expand=True), (margin - 4, y))
        for column, image in enumerate(images):
            tile = Image.fromarray(image).resize((tile_width, tile_height), Image.Resampling.LANCZOS)
            page.paste(tile, (margin + side_label + column * (tile_width + GAP), y))
    for column, time in enumerate(times):
        x = margin + side_label + column * (tile_width + GAP) + tile_width / 2
        draw.text((x, page_height - margin), str(time), FAINT, _font("", 15), anchor="mm")
    return np.asarray(page)


def _wrap(text: str, size: int, width: int, most: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """At most so many lines of at most `width` pixels, and their font; what does not fit becomes an ellipsis."""
    text = text[: most * width].encode("utf-8", "replace").decode()  # no character is narrower than a pixel
    font = _font(text, size)
    lines: list[str] = []
    for word in text.split():
        if lines and (len(lines) == most or font.getlength(f"{lines[-1]} {word}") <= width):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [(_cut(line, font, width), font) for line in lines]


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    fits = bisect_right(range(len(line)), float(width), key=lambda n: font.getlength(line[:n] + "…"))
    return line[: max(fits - 1, 0)].rstrip() + "…"


@functools.lru_cache(maxsize=64)
def _font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Of the fonts installed and, last, Pillow's own, the first that lacks the fewest characters of the text."""
    fonts = []
    for name in FONTS:
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    default = ImageFont.load_default(size)
    assert isinstance(default, ImageFont.FreeTypeFont), "Pillow comes with FreeType"
    return min([*fonts, default], key=lambda font: _missing(font, text))


def _missing(font: ImageFont.FreeTypeFont, text: str) -> int:
    placeholder = bytes(font.getmask("\uffff"))  # not a character, so this is what the font draws when it has none
    return sum(bytes(font.getmask(character)) == placeholder for character in set(text) if not character.isspace())


# --- the clip unwrapped into UV -------------------------------------------------------------------------------------


class TextureView:
    """Draws each frame's texture in UV, one after the other: what holds still here is consistent.

    A texel shows its colour in this frame; where the frame does not see it, the last colour that was seen, dimmed; dark grey
    before it is first seen. The largest atlas is `height` pixels high, the others stand to its right, and v points up.
    """

    def __init__(self, texels: Texels, height: int = 512):
        self.texel = _layout(texels, height)
        self.colour = np.full((len(texels.object), 3), 0.17)
        self.seen = np.zeros(len(texels.object), bool)

    def frame(self, texture: NDArray[np.floating], visible: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """texture [N, 3] in [0, 1] and visible [N] of the next frame → uint8 [h, w, 3]."""
        self.colour[visible] = texture[visible]
        self.seen |= visible
        brightness = np.where(self.seen & ~visible, UNSEEN, 1.0)
        palette = np.clip(self.colour * brightness[:, None] * 255, 0, 255).round().astype(np.uint8)
        return np.concatenate([palette, np.array([PAPER], np.uint8)])[self.texel]  # -1 is the last: the background


def _layout(texels: Texels, height: int) -> NDArray[np.int32]:
    """Which texel each pixel of the picture shows, int32 [height, w], -1 for none. Charts grow by DILATION texels."""
    order = np.argsort(-np.array(texels.sides), kind="stable")
    sides = np.array(texels.sides)[order]
    others = 1.0  # texels are equally large everywhere, unless many objects would make a banner of the picture
    while _pack(sizes := _sizes(sides, height, others), height)[1] > 2 * height + GAP and others > 0.01:
        others *= 0.9
    places, width = _pack(sizes, height)
    picture = np.full((height, width), -1, np.int32)
    for number, size, (left, top) in zip(order, sizes, places, strict=True):
        table = texels.index[number]
        distance, nearest = distance_transform_edt(table < 0, return_indices=True)
        grown = np.where(distance <= DILATION, table[tuple(nearest)], -1)
        cell = ((np.arange(size) + 0.5) * len(table) / size).astype(int)
        picture[top : top + size, left : left + size] = grown[::-1][np.ix_(cell, cell)]
    return picture


def _sizes(sides: NDArray[np.integer], height: int, others: float) -> list[int]:
    """Pixels along the side of each atlas; sides: texels along it, the largest first, which gets the full height."""
    return [height, *np.maximum(np.round(others * height * sides[1:] / sides[0]), 1).astype(int).tolist()]


def _pack(sizes: Sequence[int], height: int) -> tuple[list[tuple[int, int]], int]:
    """Squares, the largest first, into columns from left to right: (left, top) of each, and the width of all."""
    places, left, top, column = [], 0, 0, sizes[0]
    for size in sizes:
        if top + size > height:
            left, top, column = left + column + GAP, 0, size
        places.append((left, top))
        top += size + GAP
    return places, left + column
