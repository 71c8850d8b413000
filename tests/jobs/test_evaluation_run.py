"""A whole evaluation with the embedded model, as small as it goes."""

import json
import re

import pyarrow.parquet as pq
import pytest

from jobs.evaluate import main
from jobs.evaluation.grid import Clip
from jobs.evaluation.run import balanced

METHODS = ("per_frame", "paper")
SETTINGS = [
    "preset=smoke", "frames=3", "steps=1", "resolution=64", "farm=inline", "farm.threads=1", "scenes=flag",
    f"methods={','.join(METHODS)}", 'prompts="a golden statue","a knitted toy"',
]  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of an evaluation that was rendered in two shares, and what the second printed."""
    output = tmp_path_factory.mktemp("evaluation")
    assert main([*SETTINGS, f"output={output}", "part=1/2"]) == 0
    assert not (output / "summary.json").exists()
    assert main([*SETTINGS, f"output={output}"]) == 0
    return output


def test_the_summary_has_every_measure_of_every_method(evaluated):
    summary = json.loads((evaluated / "summary.json").read_text())
    assert list(summary["methods"]) == list(METHODS)
    for method in METHODS:
        found = summary["methods"][method]
        assert found["uv_mse"]["n"] == 2
        assert found["uv_mse"]["median"] > 0
        assert found["uv_mse"]["iqr"] >= 0
        for measure in (
            "warp_psnr",
            "prompt_fidelity",
            "stable_detail_2",
            "silhouette_iou",
            "edge_alignment",
            "memory",
        ):
            assert found[measure]["n"] == 2, measure
        assert found["prompt_found"]["n"] == 2
    assert summary["methods"]["per_frame"]["single_detail_1"]["median"] == pytest.approx(1)
    assert summary["methods"]["per_frame"]["uv_mse"]["pairs"] == 2


def test_a_share_without_clips_is_done_at_once(tmp_path, capsys):
    assert main([*SETTINGS, f"output={tmp_path}", "part=1/99"]) == 0
    assert "part=1/99: no clip of 4" in capsys.readouterr().out


def test_tables_hold_every_clip_and_every_frame(evaluated):
    clips = pq.read_table(evaluated / "clips.parquet").to_pylist()
    frames = pq.read_table(evaluated / "frames.parquet").to_pylist()
    assert len(clips) == 4
    assert len(frames) == 4 * 3
    assert {row["frame"] for row in frames} == {0, 1, 2}
    for row in clips:
        mine = [f["uv_mse"] for f in frames if all(f[key] == row[key] for key in ("scene", "prompt", "method"))]
        assert mine[0] is None
        assert min(mine[1:]) <= row["uv_mse"] <= max(mine[1:])


def test_the_page_finds_its_clips_and_figures(evaluated):
    page = (evaluated / "index.html").read_text()
    linked = re.findall(r'(?:src|poster)="([^"]+)"', page)
    assert len(linked) == 4 + 2 * 4
    assert all((evaluated / path).stat().st_size > 0 for path in linked)


def test_the_same_command_renders_nothing_again(evaluated, capsys):
    before = {path: path.stat().st_mtime_ns for path in evaluated.glob("clips/*/*") if path.is_file()}
    assert main([*SETTINGS, f"output={evaluated}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "per_frame" in capsys.readouterr().out


def test_another_evaluation_does_not_take_what_is_not_its_own(evaluated):
    assert main([*SETTINGS, "steps=2", f"output={evaluated}"]) == 2
    summary = json.loads((evaluated / "summary.json").read_text())
    assert summary["settings"].count("steps=1") == 1


def test_nothing_to_summarise_is_one_line(tmp_path, capsys):
    assert main([*SETTINGS, f"output={tmp_path}", "render=false"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_share_makes_nothing_that_was_prepared_and_leaves_it_for_the_others(tmp_path):
    settings = [*SETTINGS, f"output={tmp_path}"]
    assert main([*settings, "prepare=2"]) == 0
    prepared = {path: path.stat().st_mtime_ns for path in (tmp_path / ".work").rglob("*.arrow")}
    assert {path.parent.name for path in prepared} >= {"survey", "gbuffers", "texels"}
    assert main([*settings, "part=1/2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".work").rglob("*.arrow")} == prepared
    assert main(settings) == 0
    assert not (tmp_path / ".work").exists()


def test_what_was_cut_off_is_compared_where_all_methods_are():
    a, b, alone = (Clip("dancer", "x", seed, method, ()) for seed, method in ((0, "a"), (0, "b"), (1, "a")))
    assert list(balanced(dict.fromkeys([a, b, alone]), 2)) == [a, b]
    assert list(balanced(dict.fromkeys([a, alone]), 2)) == [a, alone]
