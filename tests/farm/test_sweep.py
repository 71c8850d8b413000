"""A sweep as a person runs it: one farm for all renders, the same pixels as one by one, and a table of how they stand."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from farm import driver, sweep
from farm.config import FarmConfig, OutputConfig, SubmitConfig
from farm.machine import Machine
from farm.progress import Progress
from farm.workshop import Workshop

pytestmark = pytest.mark.xdist_group("ray")

SUBMIT = Path(__file__).parents[2] / "farm" / "submit.py"


def settings(config, folder):
    fixed = [f"{key}={getattr(config, key)}" for key in ("seed", "frames", "chunk", "resolution")]
    fixed += [
        f"model={config.model.name}",
        "model.device=cpu",
        "method=paper",
        "method.keyframes=2",
        f"output={folder}",
    ]
    return [*fixed, f"negative_prompt={config.negative_prompt}", "farm.workers=2", "farm.threads=1"]


def test_a_sweep_is_one_farm(small, tmp_path):
    """Two scenes, one of them broken, and two prompts, on two workers."""
    config = small()
    (tmp_path / "broken.glb").write_bytes(b"glTF, but not really")
    command = [sys.executable, SUBMIT, "-m", *settings(config, tmp_path / "sweep")]
    command += [f"scene=flag,{tmp_path / 'broken.glb'}", 'prompt="a tin toy","a paper toy"']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr

    rows = {row["name"]: row for row in pq.read_table(tmp_path / "sweep" / "renders.parquet").to_pylist()}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "flag_a-tin-toy": "complete",
        "flag_a-paper-toy": "complete",
        "broken_a-tin-toy": "failed",
        "broken_a-paper-toy": "failed",
    }
    assert "broken.glb" in rows["broken_a-tin-toy"]["error"]
    assert rows["flag_a-tin-toy"]["uv_mse"] > 0
    for name in ("flag_a-tin-toy", "flag_a-paper-toy"):
        assert manifest(tmp_path / "sweep" / name)["model_loads"] <= 2  # two workers

    alone = submission(config, tmp_path / "alone", prompt="a paper toy")
    with Progress(tmp_path / "alone", config.frames) as progress:
        (tmp_path / "alone").mkdir()
        driver.submit(alone, progress)
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "sweep" / "flag_a-paper-toy")
    assert hashes(tmp_path / "alone") != hashes(tmp_path / "sweep" / "flag_a-tin-toy")


def submission(config, folder, **changes):
    fields = {name: getattr(config, name) for name in config.__dataclass_fields__} | changes
    return SubmitConfig(**fields, farm=FarmConfig(name="inline", threads=1), output=OutputConfig(dir=str(folder)))


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def hashes(folder):
    return [frame["sha256"] for frame in manifest(folder)["frames"]]


def test_renders_of_one_scene_share_its_gbuffers_and_one_model(small, tmp_path):
    """In one process: the second render finds what the first has made."""
    found = []
    configs = {p: submission(small(prompt=p), tmp_path / p) for p in ("a tin toy", "a paper toy", "a clay toy")}
    configs["a clay toy"] = replace(configs["a clay toy"], fps=7.0)

    def render(name, workshop):
        (tmp_path / name).mkdir()
        with Progress(tmp_path / name, 5) as progress:
            path = driver.submit(configs[name], progress, workshop)
        found.append(sorted(folder.name for folder in (tmp_path / ".work").iterdir()))
        return path

    ended = {}
    sweep.run(configs, tmp_path, render, ended.__setitem__)
    assert all(isinstance(outcome, Path) for outcome in ended.values())
    assert [len(names) for names in found] == [1, 1, 2]  # another frame rate shows other poses
    assert [manifest(tmp_path / name)["model_loads"] for name in configs] == [1, 1, 1]
    assert not (tmp_path / ".work").exists()


def test_a_failed_render_finds_its_gbuffers_again_and_nothing_else_stays(small, tmp_path):
    """The second of three scenes is interrupted by an error in its last phase."""
    configs = {str(fps): replace(submission(small(frames=3), tmp_path / str(fps)), fps=fps) for fps in (6.0, 7.0, 8.0)}

    class Failing(Progress):
        def phase(self, name, total, done=0):
            super().phase(name, total, done)
            if name == "writing":
                raise RuntimeError("no more")

    def run(kind):
        """Outcomes of the sweep; a `kind` of Progress watches the second scene."""
        outcomes = {}

        def render(name, workshop):
            (tmp_path / name).mkdir(exist_ok=True)
            with (kind if name == "7.0" else Progress)(tmp_path / name, 3) as progress:
                return driver.submit(configs[name], progress, workshop)

        sweep.run(configs, tmp_path, render, outcomes.__setitem__)
        return outcomes

    assert [name for name, outcome in run(Failing).items() if isinstance(outcome, RuntimeError)] == ["7.0"]
    (stage,) = (tmp_path / ".work").iterdir()
    assert len(list((stage / "gbuffers").iterdir())) == 3

    assert all(isinstance(outcome, Path) for outcome in run(Progress).values())
    assert manifest(tmp_path / "7.0")["resumed"][0]["G-buffers"] == 3
    assert not (tmp_path / ".work").exists()


def test_small_renders_go_first_and_those_of_one_model_together(small, tmp_path):
    order = []
    long, short = submission(small(frames=9), tmp_path / "a"), submission(small(frames=2), tmp_path / "b")
    other = submission(small(frames=1), tmp_path / "c")
    other = replace(other, model=replace(other.model, name="zzz"))

    def render(name, workshop):
        order.append(name)
        return tmp_path

    sweep.run({"long": long, "other": other, "short": short}, tmp_path, render, lambda name, outcome: None)
    assert order == ["short", "long", "other"]


def test_an_interrupted_sweep_ends_the_others(tmp_path):
    workshop = Workshop(FarmConfig(name="inline"), Machine("cpu", "CPU", 1))

    def render(name, workshop):
        if name == "second":
            raise KeyboardInterrupt
        return tmp_path

    ended = []
    with pytest.raises(KeyboardInterrupt):
        sweep.run_on(workshop, ["first", "second", "third"], render, lambda name, outcome: ended.append(name))
    assert ended == ["first"]
