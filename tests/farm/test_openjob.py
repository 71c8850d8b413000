"""What Open Job Description reads, and the template in jobs/cluster that makes it run us."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from farm.command import configure, renders
from farm.openjob import OpenJobLines

ROOT = Path(__file__).parents[2]
TEMPLATE = yaml.safe_load((ROOT / "jobs" / "cluster" / "openjd.yaml").read_text())


def row(name, state, error=None):
    return {
        "name": name,
        "state": state,
        "error": error,
        "frames": 4,
        "steps": 2,
        "resolution": [64, 64],
        "folder": None,
    }


def test_each_line_is_said_once_and_a_reason_is_one_line(capsys):
    rows = [row("a", "rendering"), row("b", "waiting")]
    lines = OpenJobLines(lambda: rows)
    lines.look()
    lines.look()
    rows[:] = [row("a", "complete"), row("b", "failed", "no\nmemory")]
    lines.look()
    assert capsys.readouterr().out.splitlines() == [
        "openjd_progress: 0.0",
        "openjd_status: 0 of 2 rendered, starting",
        "openjd_progress: 100.0",
        "openjd_status: 1 of 2 rendered",
        "openjd_fail: b: no memory",
    ]


def test_the_template_is_valid():
    model = pytest.importorskip("openjd.model")
    template = model.decode_job_template(template=TEMPLATE)
    values = {"Checkout": str(ROOT), "Seeds": "1-3"}
    given = {name: model.ParameterValue(type=kind(name), value=value) for name, value in values.items()}
    job = model.create_job(job_template=template, job_parameter_values=everything(model, given))
    (step,) = job.steps
    assert len(model.StepParameterSpaceIterator(space=step.parameterSpace)) == 3


def kind(name):
    from openjd.model import ParameterValueType

    return ParameterValueType(next(p["type"] for p in TEMPLATE["parameterDefinitions"] if p["name"] == name))


def everything(model, given):
    for parameter in TEMPLATE["parameterDefinitions"]:
        if "default" in parameter:
            value = model.ParameterValue(type=kind(parameter["name"]), value=parameter["default"])
            given.setdefault(parameter["name"], value)
    return given


def test_prompts_reach_the_command_line_as_they_were_typed(tmp_path):
    """The template's own script, in front of a submit.py that shows what it was given."""
    prompts = ['a "tin" toy, shiny', "it's 50% {brass} \\ $HOME\\\\x", 'a \\" b\\\\', "a=b"]
    checkout = tmp_path / "check out"
    (checkout / "farm").mkdir(parents=True)
    (checkout / "farm" / "submit.py").write_text("import sys; print(*sys.argv[1:], sep='\\0', end='')")
    script = TEMPLATE["steps"][0]["script"]
    files = {file["name"]: file["data"] for file in script["embeddedFiles"]}
    values = {"Prompts": "\n".join(prompts), "Settings": "frames=4\n\nsteps=2\n", "Scene": "fish", "SceneFile": ""}
    names = {f"Param.{name}": value for name, value in values.items()}
    names |= {"Param.Output": str(tmp_path / "o"), "Param.Checkout": str(checkout)}
    names |= {f"Task.File.{name}": str(tmp_path / name) for name in files}
    for name, data in files.items():
        for known, value in names.items():
            data = data.replace(f"{{{{{known}}}}}", value)
        (tmp_path / name).write_text(data)
    ran = subprocess.run([sys.executable, tmp_path / "Render", "7"], capture_output=True, text=True, check=True)
    multirun, *given = ran.stdout.split("\0")
    assert multirun == "-m"
    configs = [configure(job) for job in renders(given, sweep=True)]
    assert [config.prompt for config in configs] == prompts
    for config in configs:
        assert (config.scene.name, config.seed, config.frames, config.steps) == ("fish", 7, 4, 2)
        assert config.notify.openjd
        assert config.output.dir == os.path.join(tmp_path, "o", "seed-7")
