"""The clips, sheets and metrics of a finished render, from its pictures and its work folder. Streams: memory is flat in frames."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from renderer.arrays import load_arrays
from renderer.atlas import Texels
from renderer.files import write_json
from renderer.metrics import texture_metrics
from renderer.plan import Plan
from renderer.sheets import GAP, TextureView, compare_frame, contact_sheet, sheet_times
from renderer.video import read_png, write_mp4, write_png

Picture = NDArray[np.uint8]

# What is measured is seen at less than 60 degrees. Further round, a pixel holds so much surface that even a painted texture
# changes: with this, of such a texture's finest octave 95 to 99 % is stable on the built-in scenes, without it 88 %.
SQUARE = 0.5


class Textures:
    """The textures of a clip's frames, read from disk one at a time, as often as somebody looks at them.

    facing: least cosine of the angle at which a texel must be seen to count; 0: whatever is seen.
    """

    def __init__(self, plan: Plan, facing: float = 0.0):
        self.plan, self.facing = plan, facing

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        for frame in range(self.plan.frames):
            arrays = load_arrays(self.plan.texture_path(frame))
            seen = arrays["facing"] >= self.facing if self.facing else arrays["seen"]
            yield np.float32(1 / 255) * arrays["colour"], seen


def write_outputs(
    plan: Plan, texels: Texels, folder: Path, advance: Callable[[], None], per_frame: Plan | None = None
) -> None:
    """video.mp4, guides.mp4, texture.mp4, contact_sheet.png, metrics.json, and compare.mp4 where there is a per-frame render.

    plan: surveyed; its pictures, guides and textures, made of these texels, are on disk. per_frame: the same with every
    frame on its own. advance: called after each file.
    """
    assert plan.survey is not None
    config, fps, frames = plan.config, plan.config.fps, range(plan.frames)
    textures = Textures(plan)

    def picture(frame: int) -> Picture:
        return read_png(plan.picture_path(frame))

    def guide(frame: int) -> Picture:
        return read_png(plan.guide_path(frame))

    write_mp4(folder / "video.mp4", map(picture, frames), fps)
    advance()
    write_mp4(folder / "guides.mp4", map(guide, frames), fps)
    advance()
    view = TextureView(texels)
    write_mp4(folder / "texture.mp4", (view.frame(*texture) for texture in textures), fps)
    advance()
    times = sheet_times(plan.frames)
    rows = [
        ("uv", [guide_panel(guide(frame), plan.size, 0) for frame in times]),
        ("depth", [guide_panel(guide(frame), plan.size, 1) for frame in times]),
        ("result", [picture(frame) for frame in times]),
    ]
    facts = f"{Path(config.scene.name).stem} · {config.model.name} · {config.method.name} · seed {config.seed}"
    write_png(folder / "contact_sheet.png", contact_sheet(rows, times, config.prompt, facts))
    advance()
    metrics = texture_metrics(texels, Textures(plan, SQUARE))
    write_json(folder / "metrics.json", {"hero_coverage": plan.survey.coverage, **metrics})
    advance()
    if per_frame is not None:
        panels = (
            [
                ("guide", guide_panel(guide(frame), plan.size, 1)),
                ("per frame", read_png(per_frame.picture_path(frame))),
                (config.method.name.replace("_", " "), picture(frame)),
            ]
            for frame in frames
        )
        write_mp4(folder / "compare.mp4", map(compare_frame, panels), fps)
        advance()


def guide_panel(guide: Picture, size: tuple[int, int], number: int) -> Picture:
    """One picture of a guide frame (uv, depth, normals), without its label."""
    left = number * (size[0] + GAP)
    return guide[: size[1], left : left + size[0]]
