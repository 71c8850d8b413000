"""From the measures of all clips to what can be said of a method: medians, spreads, and differences from a baseline, in pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from scipy.stats import bootstrap, wilcoxon

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """A column. title: in tables and plots. better: "lower", "higher", or "" where neither is. digits: after the point."""

    name: str
    title: str
    better: str
    digits: int = 3


OCTAVES = ("finest octave", "2nd octave", "3rd octave", "4th octave")
MEASURES = (
    Measure("uv_mse", "UV MSE, adjacent frames", "lower", 5),
    Measure("uv_mse_mean", "UV MSE to the mean texture", "lower", 5),
    Measure("uv_mse_normalised", "UV MSE / texture variance", "lower", 4),
    Measure("warp_psnr", "warp PSNR, dB", "higher", 2),
    Measure("warp_psnr_hero", "warp PSNR of heroes, dB", "higher", 2),
    Measure("warp_psnr_world", "warp PSNR of ground and dome, dB", "higher", 2),
    *(Measure(f"stable_detail_{i}", f"stable detail, {octave}", "higher") for i, octave in enumerate(OCTAVES, 1)),
    *(Measure(f"single_detail_{i}", f"single-frame detail, {octave}", "higher") for i, octave in enumerate(OCTAVES, 1)),
    Measure("sharpness", "sharpness (mean |Laplacian|)", "higher", 4),
    Measure("prompt_fidelity", "prompt fidelity", "higher", 4),
    Measure("prompt_found", "prompt told from the others", "higher", 3),
    Measure("clip_consistency", "frame consistency, CLIP", "higher", 4),
    Measure("silhouette_iou", "silhouette IoU", "higher", 4),
    Measure("edge_alignment", "depth edges found, AUC", "higher", 4),
    Measure("drift_colour", "colour drift", "lower", 4),
    Measure("drift_detail", "drift of detail", "", 4),
    Measure("drift_sharpness", "drift of sharpness", "", 4),
    Measure("drift_prompt_fidelity", "drift of prompt fidelity", "", 4),
    Measure("noise_correlation", "noise: correlation of neighbours", "", 4),
    Measure("seconds", "seconds per frame", "lower", 4),
    Measure("memory", "peak memory, MB", "lower", 0),
)
PRINTED = (
    "uv_mse", "uv_mse_mean", "uv_mse_normalised", "warp_psnr", "stable_detail_1", "stable_detail_2", "stable_detail_3",
    "single_detail_2", "prompt_fidelity", "clip_consistency", "edge_alignment", "seconds",
)  # fmt: skip
RESAMPLES = 2000
CONFIDENCE = 0.95


def number(value: Any) -> float:
    """A measure as a float, NaN where there is none."""
    return nan if value is None else float(value)


def relative(rows: Sequence[Row], reference: str) -> list[dict[str, Any]]:
    """Rows with their detail in units of what single pictures of the reference method have: same scene, prompt and seed.

    stable_detail_i: what stays over time, so that neither a steady blur nor flicker gains; single_detail_i: of single frames.
    """
    units = {pair(row): row["detail_single"] for row in rows if row["method"] == reference}
    found = []
    for row in rows:
        unit = units.get(pair(row), [None] * len(OCTAVES))
        columns: dict[str, Any] = {name: value for name, value in row.items() if not name.startswith("detail_")}
        for i, of in enumerate(unit):
            for kind, key in (("stable_detail", "detail_mean"), ("single_detail", "detail_single")):
                columns[f"{kind}_{i + 1}"] = number(row[key][i]) / of if of else nan
        found.append(columns)
    return found


def pair(row: Row) -> tuple[str, str, int]:
    """What clips of different methods have in common."""
    return row["scene"], row["prompt"], row["seed"]


def summarise(rows: Sequence[Row], methods: Sequence[str], baseline: str) -> dict[str, dict[str, dict[str, Any]]]:
    """For each method and measure median, quartiles, iqr and n over its clips, and what pairs with the baseline say.

    difference: the median of method - baseline over pairs of clips that differ in nothing else, with a bootstrapped
    interval of 95 %. ratio: the median of method / baseline. p: of Wilcoxon's signed-rank test.
    """
    values = {
        (method, measure.name): {pair(row): number(row.get(measure.name)) for row in rows if row["method"] == method}
        for method in methods
        for measure in MEASURES
    }
    return {
        method: {
            measure.name: describe(values[method, measure.name])
            | ({} if method == baseline else compare(values[method, measure.name], values[baseline, measure.name]))
            for measure in MEASURES
        }
        for method in methods
    }


def describe(values: Mapping[Any, float]) -> dict[str, Any]:
    """Median, quartiles, their distance and the number of those that are numbers."""
    known = [value for value in values.values() if isfinite(value)]
    low, median, high = np.percentile(known, [25, 50, 75]).tolist() if known else (nan, nan, nan)
    return {"median": median, "iqr": high - low, "q1": low, "q3": high, "n": len(known)}


def compare(values: Mapping[Any, float], baseline: Mapping[Any, float]) -> dict[str, Any]:
    """Differences of two methods over the pairs that both have.

    >>> compare({1: 1.0, 2: 3.0, 3: 5.0}, {1: 2.0, 2: 5.0, 3: 8.0})["difference"]["median"]
    -2.0
    """
    pairs = [(values[key], baseline[key]) for key in values.keys() & baseline.keys()]
    a, b = np.array([p for p in pairs if all(map(isfinite, p))]).reshape(-1, 2).T
    difference, low, high, p, ratio = a - b, nan, nan, nan, nan
    if len(difference) and (b > 0).all():
        ratio = float(np.median(a / b))
    if len(difference) > 1 and np.ptp(difference) > 0:
        found = bootstrap(
            (np.sort(difference),), np.median, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        )
        low, high = map(float, found.confidence_interval)
        p = float(wilcoxon(difference).pvalue)
    median = float(np.median(difference)) if len(difference) else nan
    return {
        "difference": {"median": median, "low": low, "high": high},
        "ratio": ratio,
        "p": p,
        "pairs": len(difference),
    }


def table(summary: Mapping[str, Mapping[str, Any]], baseline: str) -> str:
    """Medians as text, one method a line; * where a method differs from the baseline at p < 0.05."""
    titles = [measure for name in PRINTED for measure in MEASURES if measure.name == name]
    width = max(map(len, [*summary, "method"]))
    heads = [measure.name.replace("detail_", "").replace("prompt_", "").replace("clip_", "") for measure in titles]
    columns = [max(len(head), 8) for head in heads]
    lines = [" ".join([f"{'method':<{width}}", *(f"{h:>{w}} " for h, w in zip(heads, columns, strict=True))])]
    for method, found in summary.items():
        cells = [f"{method:<{width}}"]
        for measure, column in zip(titles, columns, strict=True):
            value = found[measure.name]
            mark = "*" if value.get("p", 1.0) < 0.05 else " "
            cells.append(f"{text(value['median'], measure.digits):>{column}}{mark}")
        lines.append(" ".join(cells))
    notes = f"medians over clips; * differs from {baseline} at p < 0.05 (Wilcoxon, paired)"
    return "\n".join([*lines, notes])


def markdown(summary: Mapping[str, Any]) -> str:
    """A whole summary.json as a page of tables: medians with quartiles, then each method's difference from the baseline."""
    methods, baseline = summary["methods"], summary["baseline"]
    facts = f"{summary['clips']} clips, {summary['device']}, {summary['date'][:10]}"
    lines = [f"`{summary['command']}`", "", f"{facts}. Medians, quartiles in brackets.", ""]
    shown = [measure for measure in MEASURES if measure.name in PRINTED]
    lines += ["| method | " + " | ".join(measure.title for measure in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for method, found in methods.items():
        cells = (spread(found[measure.name], measure.digits) for measure in shown)
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    lines += ["", f"Minus `{baseline}`, in pairs: median difference, its 95 % interval in brackets.", ""]
    lines += ["| method | " + " | ".join(measure.title for measure in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for method, found in methods.items():
        if method != baseline:
            cells = (difference(found[measure.name]["difference"], measure.digits) for measure in shown)
            lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(found: Mapping[str, Any], digits: int) -> str:
    low, median, high = (text(number(found[key]), digits) for key in ("q1", "median", "q3"))
    return f"{median} [{low}, {high}]"


def difference(found: Mapping[str, Any], digits: int) -> str:
    low, median, high = (text(number(found[key]), digits) for key in ("low", "median", "high"))
    return f"{median} [{low}, {high}]"


def text(value: float, digits: int) -> str:
    """A number for a person; – where there is none."""
    return f"{value:.{digits}f}" if isfinite(value) else "–"
