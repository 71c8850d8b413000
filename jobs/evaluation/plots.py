"""The figures of an evaluation, from its rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from jobs.evaluation.summary import MEASURES, number

Summary = Mapping[str, Any]

# The methods that the eye should find; all others are grey.
COLOURS = {"generative_rendering": "#c8442c", "paper": "#2a6fb0", "per_frame": "#20201f"}
GREY, SPREAD = "#9a978f", 0.25
STYLE: Any = {
    "figure.facecolor": "white", "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#777777",
    "axes.grid": True, "grid.color": "#e8e6e1", "axes.axisbelow": True, "font.size": 9, "axes.titlesize": 10,
    "legend.frameon": False, "savefig.bbox": "tight", "savefig.dpi": 150,
}  # fmt: skip
# Drawn for every method, or every step of a sweep.
OVERVIEW = (
    "uv_mse", "uv_mse_normalised", "stable_detail_2", "single_detail_2",
    "prompt_fidelity", "warp_psnr_hero", "edge_alignment", "seconds",
)  # fmt: skip
CURVES = ("uv_mse", "uv_mse_mean", "prompt_fidelity")


def write_plots(folder: Path, summary: Summary, frames: Sequence[Mapping[str, Any]]) -> None:
    """consistency.png (against detail), cost.png (against consistency), frames.png (over frame number) and measures.png."""
    with plt.rc_context(STYLE):
        for name, x, y in (
            ("consistency", "uv_mse_normalised", "stable_detail_2"),
            ("cost", "seconds", "uv_mse_normalised"),
        ):
            scatter(folder / f"{name}.png", summary, x, y)
        overview(folder / "measures.png", summary)
        curves(folder / "frames.png", summary, frames)


def colour(method: str) -> str:
    return COLOURS.get(method, GREY)


def title(measure: str) -> str:
    return next(m.title for m in MEASURES if m.name == measure)


def better(measure: str) -> str:
    """An arrow to where a measure is better, for an axis."""
    return {"lower": " (lower is better)", "higher": " (higher is better)", "": ""}[
        next(m.better for m in MEASURES if m.name == measure)
    ]


def scatter(path: Path, summary: Summary, x: str, y: str) -> None:
    """Each method's median in two measures, with its quartiles as a cross."""
    figure, axes = plt.subplots(figsize=(7.5, 5))
    places = []
    for method, found in summary["methods"].items():
        at = [number(found[measure]["median"]) for measure in (x, y)]
        if not np.isfinite(at).all():
            continue
        for measure in (x, y):
            low, high = number(found[measure]["q1"]), number(found[measure]["q3"])
            ends = ([low, high], [at[1], at[1]]) if measure == x else ([at[0], at[0]], [low, high])
            axes.plot(*ends, color=colour(method), alpha=SPREAD, linewidth=1.2, solid_capstyle="round")
        axes.scatter(at[0], at[1], s=36, color=colour(method), zorder=3)
        places.append((method, *at))
    for axis, measure in (("x", x), ("y", y)):
        if measure in ("uv_mse_normalised", "seconds"):
            axes.set(**{f"{axis}scale": "log"})
            scale = axes.xaxis if axis == "x" else axes.yaxis
            scale.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            scale.set_major_formatter(lambda value, _: f"{value:g}")
            scale.set_minor_formatter(NullFormatter())
    label(axes, places)
    axes.set(xlabel=title(x) + better(x), ylabel=title(y) + better(y))
    axes.set_title(
        f"medians and quartiles over {summary['clips'] // max(len(summary['methods']), 1)} clips a method",
        color="#666666",
    )
    figure.savefig(path)
    plt.close(figure)


def label(axes: Axes, places: Sequence[tuple[str, float, float]]) -> None:
    """Names beside points, each moved up or down until it covers no other and no point, inside the axes."""
    axes.figure.canvas.draw()
    points = {method: axes.transData.transform((x, y)) for method, x, y in places}
    taken: list[NDArray] = [np.concatenate([point - 5, point + 5]) for point in points.values()]
    for method, x, y in sorted(places, key=lambda place: -place[2]):
        point, width = points[method], 6.2 * len(method)
        for shift in sorted(range(-240, 241, 10), key=abs):
            box = np.array([point[0] + 8, point[1] - 6 + shift, point[0] + 8 + width, point[1] + 6 + shift])
            inside = axes.bbox.y0 < box[1] and box[3] < axes.bbox.y1
            if inside and not any((box[:2] < other[2:]).all() and (other[:2] < box[2:]).all() for other in taken):
                break
        taken.append(box)
        scale = 72 / axes.figure.dpi
        axes.annotate(
            method.replace("_", " "), (x, y), (8 * scale, shift * scale), textcoords="offset points", va="center",
            color=colour(method) if method in COLOURS else "#55534d", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5} if abs(shift) > 10 else None,
        )  # fmt: skip


def overview(path: Path, summary: Summary) -> None:
    """Medians and quartiles of every method in the order of the summary, one panel a measure."""
    methods = list(summary["methods"])
    rows = -(-len(OVERVIEW) // 4)
    figure, grid = plt.subplots(rows, 4, figsize=(13, rows * (0.9 + 0.21 * len(methods))), sharey=True)
    for axes, measure in zip(grid.flat, OVERVIEW, strict=True):
        for position, method in enumerate(methods):
            found = summary["methods"][method][measure]
            axes.plot(
                [number(found["q1"]), number(found["q3"])],
                [position] * 2,
                color=colour(method),
                alpha=0.45,
                linewidth=3,
                solid_capstyle="butt",
            )
            axes.scatter(number(found["median"]), position, s=22, color=colour(method), zorder=3)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.margins(y=0.5 / len(methods))
        axes.set_title(title(measure), loc="left")
        axes.set_xlabel(better(measure).strip(" ()"), fontsize=8, color="#666666")
        axes.set_yticks(range(len(methods)), [method.replace("_", " ") for method in methods])
    grid.flat[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def curves(path: Path, summary: Summary, frames: Sequence[Mapping[str, Any]]) -> None:
    """Measures over frame number, the median of a method's clips."""
    figure, grid = plt.subplots(1, len(CURVES), figsize=(4.4 * len(CURVES), 3.4))
    for axes, measure in zip(grid, CURVES, strict=True):
        for method in sorted(summary["methods"], key=lambda m: m in COLOURS):
            by_frame: dict[int, list[float]] = {}
            for row in frames:
                if row["method"] == method and np.isfinite(number(row[measure])):
                    by_frame.setdefault(row["frame"], []).append(number(row[measure]))
            x = sorted(by_frame)
            axes.plot(
                x,
                [np.median(by_frame[f]) for f in x],
                color=colour(method),
                linewidth=1.8 if method in COLOURS else 0.8,
                alpha=1 if method in COLOURS else 0.6,
                label=method.replace("_", " ") if method in COLOURS else None,
            )
        axes.set_title(title(measure), loc="left")
        axes.set_xlabel("frame")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if better(measure).startswith(" (lower"):
            axes.set_ylim(bottom=0)
    figure.tight_layout()
    known = len(set(COLOURS) & set(summary["methods"]))
    if known:
        figure.legend(
            *grid[0].get_legend_handles_labels(), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=known
        )
    figure.savefig(path)
    plt.close(figure)
