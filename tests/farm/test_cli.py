"""The command as a person meets it: a process with arguments, streams and an exit code. No scene or model is loaded here."""

import json
import re
import signal
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import pytest
import yaml

from farm import submit
from farm.command import JOBS
from farm.config import KEYS
from renderer.builtin import BUILTIN
from renderer.errors import SceneError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "farm" / "submit.py"
HEAVY = ("torch", "ray", "diffusers", "transformers")
# Runs the script as `python farm/submit.py` does, then says which heavy modules it has brought in.
WATCHED = f"""
import runpy, sys, time
begin = time.process_time()
sys.argv = sys.argv[1:]
sys.path[0] = {str(SCRIPT.parent)!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    heavy = [name for name in {HEAVY} if name in sys.modules]
    print(f"heavy={{heavy}} seconds={{time.process_time() - begin:.2f}}", file=sys.stderr)
"""


def run(*arguments, cwd):
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)


def watched(*arguments, cwd):
    """The process, and its stderr without the last line, which holds the heavy imports and the seconds that it took."""
    command = [sys.executable, "-c", WATCHED, SCRIPT, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    *lines, last = done.stderr.splitlines()
    found = re.fullmatch(r"heavy=\[\] seconds=([\d.]+)", last)
    assert found, last
    assert float(found[1]) < 2
    return done, lines


def test_help_lists_everything_fast(tmp_path):
    done, lines = watched("--help", cwd=tmp_path)
    assert (done.returncode, lines) == (0, [])
    for name in [
        *BUILTIN,
        *JOBS,
        "pocket",
        "sd15",
        "generative_rendering",
        "paper",
        "per_frame",
        "inline",
        "cluster",
        "-m",
    ]:
        assert re.search(rf"(?m)^  {re.escape(name)}\b", done.stdout), name
    for path, key in KEYS.items():
        short = re.sub(r"\.(name|kind|dir)$", "", path)
        assert re.search(rf"(?m)^  {re.escape(short)}=.*{re.escape(key.help)}$", done.stdout), path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scene=nowhere.glb"], "nowhere.glb"),
        (["scene=dancr"], "did you mean dancer"),
        (["unknown=1"], "unknown key unknown"),
        (["+unknown=1"], "unknown key"),
        (["frames=0"], "frames=0"),
        (["frames=many"], "whole number"),
        (["prompt=a", "golden", "statue"], "quotes"),
        (["resolution=100"], "multiples of 8"),
        (["model.scheduler=nonsense"], "ddim"),
        (["--verbose"], "--verbose"),
        (["-c", "hydra"], "job"),
        (["output=taken"], "is a file"),
        (["output=taken/below"], "cannot be written"),
        (["-m", "output=taken", "seed=1,2"], "is a file"),
        (["-m", "frames=0,-1"], "frames=0"),
        (["-m", "seed=interval(0,1)"], "INTERVAL"),
        (["prompt=\udcff\udcfe"], "UTF-8"),
        (["job=materials"], "-m"),
        (["-m", "job=material"], "did you mean materials"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    assert submit.main(arguments) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert words in errors[0]
    if "-m" not in arguments:
        assert (err.splitlines(), out) == (errors[:1], "")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_mistake_is_told_fast(tmp_path):
    done, lines = watched("scene=dancr", "prompt=x", cwd=tmp_path)
    assert done.returncode == 2
    assert len(lines) == 1


@pytest.mark.parametrize("debug", ["0", "1"])
def test_debug_shows_the_traceback(monkeypatch, capsys, debug):
    monkeypatch.setenv("FARM_DEBUG", debug)
    assert submit.main(["scene=dancr"]) == 2
    assert ("Traceback" in capsys.readouterr().err) == (debug == "1")


def test_prompts_reach_the_configuration(tmp_path):
    prompt = 'it\'s a=b, (c) ${x} "d" \\ {e}\nf 金 '
    done = run("-c", "job", "scene=a b, (1)=2.glb", f"prompt={prompt}", b"negative_prompt=\xe9", cwd=tmp_path)
    shown = yaml.safe_load(done.stdout)
    assert (done.returncode, shown["prompt"], shown["scene"]["name"]) == (0, prompt, "a b, (1)=2.glb")


def test_options_stand_anywhere(capsys):
    assert submit.main(["seed=1", "-m", 'prompt="a","b"', "--cfg", "job"]) == 0
    assert [shown["prompt"] for shown in yaml.safe_load_all(capsys.readouterr().out)] == ["a", "b"]


def test_without_the_package_says_how_to_install(tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: \w+ is not installed: run .*pip install.*\n", done.stderr)


def test_the_script_folder_hides_no_module():
    """`python farm/submit.py` puts farm/ before everything else, so its files must not be called like others' modules."""
    names = {path.stem for path in SCRIPT.parent.glob("*.py")} - {"__init__"}
    assert not names & sys.stdlib_module_names
    installed = {
        path.name.removesuffix(".py")
        for entry in sys.path
        if "site-packages" in entry
        for path in Path(entry).iterdir()
    }
    assert not names & installed


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Stands in for the driver where a render must fail in ways that a real one does not at will. Seeds say what happens."""

    def render(config, progress, workshop=None, standing=None):
        failure = {
            13: SceneError("nothing is in view"),
            14: RuntimeError("first line\nsecond"),
            15: KeyboardInterrupt(),
        }
        progress.phase("set-up", 1)
        if config.seed in failure:
            raise failure[config.seed]
        video = Path(config.output.dir, "video.mp4")
        video.touch()
        return video

    module = types.ModuleType("farm.driver")
    module.submit = render
    monkeypatch.setitem(sys.modules, "farm.driver", module)
    monkeypatch.setattr("farm.driver", module, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("driver")
def test_success_ends_with_where_the_video_is(capsys, tmp_path):
    assert submit.main(["scene=fish", "prompt=A Golden, statue!"]) == 0
    found = re.fullmatch(r"video: (renders/[\d_-]+_fish_a-golden-statue/video.mp4)\n", capsys.readouterr().out)
    assert found
    assert (tmp_path / found[1]).exists()


@pytest.mark.usefixtures("driver")
def test_unexpected_errors_are_one_line_and_a_log(capsys, tmp_path):
    assert submit.main(["output=out", "seed=14"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: unexpected RuntimeError: first line (see out/error.log)"
    assert "Traceback" in (tmp_path / "out" / "error.log").read_text("utf-8")
    assert json.loads((tmp_path / "out" / "status.json").read_text("utf-8"))["state"] == "failed"


@pytest.mark.usefixtures("driver")
def test_interruption_says_how_to_go_on(capsys):
    assert submit.main(["output=out", "seed=15"]) == 130
    assert "output=out" in capsys.readouterr().err


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("setting", "code"), [("seed=1,2", 0), ("seed=1,13", 1), ("seed=13,14", 1), ("seed=13,-1", 2), ("frames=x,1", 1)]
)
def test_a_render_of_a_sweep_fails_alone(capsys, tmp_path, setting, code):
    assert submit.main(["-m", "output=out", setting]) == code
    key, values = setting.split("=")
    lines = capsys.readouterr().out.splitlines()
    for value, line in zip(values.split(","), lines, strict=True):
        name = f"{key}-{value.strip('-')}"
        good = value in ("1", "2")
        assert line.startswith(f"{name}: out/{name}/video.mp4" if good else f"{name}: failed, ")
        assert (tmp_path / "out" / name / "video.mp4").exists() == good


def test_ctrl_c_is_quiet(tmp_path):
    arguments = [sys.executable, SCRIPT, "-m", "seed=range(10000)", "frames=0"]
    # A shell's background jobs ignore interrupts, and so would this process if the tests are one.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    streams = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(arguments, cwd=tmp_path, preexec_fn=listen, **streams)
    assert process.stderr is not None
    process.stderr.readline()  # it has begun to check one render after the other
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert errors.splitlines()[-1] == b"interrupted"
