from math import isnan, nan

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from toys import charts

from jobs.evaluation.summary import MEASURES, compare, describe, markdown, relative, summarise, table
from renderer.metrics import texture_metrics

TEXELS = charts([np.ones((96, 96), bool)])
N = len(TEXELS.object)
SEEN = np.ones(N, bool)


def row(method, clip, seed=0):
    metrics = texture_metrics(TEXELS, [(texture, SEEN) for texture in clip])
    return {
        "scene": "s", "prompt": "p", "seed": seed, "method": method, "uv_mse": metrics["uv_mse"],
        "detail_single": metrics["detail"]["single"], "detail_mean": metrics["detail"]["mean"],
    }  # fmt: skip


def blurred(texture, sigma):
    return gaussian_filter(texture.reshape(96, 96, 3), (sigma, sigma, 0)).reshape(N, 3)


def test_neither_blur_nor_dithering_nor_both_win_stable_detail():
    """Single pictures flicker around a texture. Whoever keeps all of it wins; blur has less, and grain brings nothing back."""
    rng, frames = np.random.default_rng(0), 8
    texture = rng.uniform(size=(N, 3)).astype(np.float32)
    grain = [0.15 * rng.standard_normal((N, 3), np.float32) for _ in range(frames)]
    clips = {
        "per_frame": [texture + 2 * g for g in grain],
        "kept": [texture] * frames,
        "blurred": [blurred(texture, 1.0)] * frames,
        "dithered": [texture + g for g in grain],
        "blurred and dithered": [blurred(texture, 1.0) + g for g in grain],
    }
    found = {r["method"]: r for r in relative([row(method, clip) for method, clip in clips.items()], "per_frame")}
    stable = {method: np.array([r[f"stable_detail_{i}"] for i in (1, 2, 3)]) for method, r in found.items()}
    assert (stable["kept"] <= 1.05).all()
    assert (stable["blurred"][:2] < 0.8 * stable["kept"][:2]).all()
    assert stable["dithered"] == pytest.approx(stable["kept"], rel=0.08)
    assert stable["blurred and dithered"] == pytest.approx(stable["blurred"], abs=0.02)
    assert found["blurred and dithered"]["single_detail_1"] > 3 * found["blurred"]["single_detail_1"]
    assert found["blurred"]["uv_mse"] < found["dithered"]["uv_mse"] < found["per_frame"]["uv_mse"]


def test_without_the_reference_there_is_no_relative_detail():
    (found,) = relative([row("paper", [np.random.default_rng(0).random((N, 3)).astype(np.float32)] * 2)], "per_frame")
    assert isnan(found["stable_detail_1"])


def rows(methods):
    """One row for each value of each method, over seeds."""
    return [
        {"scene": "s", "prompt": "p", "seed": seed, "method": method, "uv_mse": value}
        for method, values in methods.items()
        for seed, value in enumerate(values)
    ]


def test_pairs_tell_what_medians_do_not():
    """Clips differ far more than methods do. A method that is a tenth better on every one of them is found better."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.01, 1, 40)
    summary = summarise(
        rows({"a": base, "b": 0.9 * base, "c": base * rng.permutation([0.9, 1.1] * 20)}), ["a", "b", "c"], "a"
    )
    b, c = summary["b"]["uv_mse"], summary["c"]["uv_mse"]
    assert b["ratio"] == pytest.approx(0.9)
    assert b["p"] < 1e-6
    assert b["difference"]["high"] < 0
    assert b["pairs"] == 40
    assert c["p"] > 0.05
    assert c["difference"]["low"] <= 0 <= c["difference"]["high"]
    assert summary["a"]["uv_mse"]["n"] == 40
    assert "difference" not in summary["a"]["uv_mse"]
    assert "*" in next(line for line in table(summary, "a").splitlines() if line.startswith("b "))


def test_clips_that_only_one_method_has_are_no_pairs():
    found = compare({1: 1.0, 2: nan, 3: 5.0}, {1: 2.0, 2: 3.0, 4: 1.0})
    assert found["pairs"] == 1
    assert found["difference"]["median"] == -1
    assert isnan(found["p"])


def test_a_measure_that_nobody_has_has_no_numbers():
    summary = summarise(rows({"a": [1.0, 2.0], "b": [1.0, 3.0]}), ["a", "b"], "a")
    assert set(summary["a"]) == {measure.name for measure in MEASURES}
    assert summary["b"]["memory"]["n"] == 0
    assert isnan(summary["b"]["memory"]["median"])
    assert describe({1: 1.0, 2: 2.0, 3: 4.0, 4: nan}) == {"median": 2.0, "iqr": 1.5, "q1": 1.5, "q3": 3.0, "n": 3}


def test_the_page_of_tables_is_markdown_with_every_method_and_pair():
    summary = summarise(rows({"a": [1.0, 2.0, 4.0], "b": [1.0, 3.0, 5.0]}), ["a", "b"], "a")
    facts = {"clips": 6, "device": "none", "date": "2026-01-02T03:04:05", "command": "python", "baseline": "a"}
    lines = markdown({"methods": summary, **facts}).splitlines()
    cells = [line.count("|") for line in lines if line.startswith("|")]
    assert len(cells) == 2 + 2 + 2 + 1
    assert len(set(cells)) == 1
    assert sum(line.startswith("| `a` | 2.00000 [1.50000, 3.00000]") for line in lines) == 1
    assert sum(line.startswith("| `b` |") for line in lines) == 2
