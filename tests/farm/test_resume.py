"""The driver is killed, and the same command goes on: processes, signals and disks are real, and so are the pixels compared."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from farm import driver, resume, submit
from farm.command import configure, renders
from farm.config import FarmConfig, OutputConfig, SubmitConfig
from farm.progress import Progress
from renderer.checkpoint import load
from renderer.config import ModelConfig, RenderConfig
from renderer.errors import ConfigError, OutputError
from renderer.files import claimed
from renderer.manifest import new_manifest, write_manifest

SUBMIT = Path(__file__).parents[2] / "farm" / "submit.py"


@pytest.fixture(scope="module")
def settings(checkpoint):
    """What a person types for a render of eight chunks of one frame and three steps."""
    return [
        "farm=inline",
        "farm.threads=1",
        "scene=flag",
        "prompt=a tin toy, moonlight",
        "method=paper",
        "method.keyframes=2",
        "frames=8",
        "chunk=1",
        f"model={checkpoint}",
        "model.device=cpu",
        "resolution=64",
        "model.scheduler=dpm++",
    ]


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    """sha256 of each frame of a render that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "clip"
    assert submit.main([*settings, f"output={folder}"]) == 0
    assert manifest(folder)["resumed"] == []
    return hashes(folder)


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def found_done(folder):
    """What each run that went on from an earlier one did not have to do."""
    return [{phase: units for phase, units in run.items() if phase != "at"} for run in manifest(folder)["resumed"]]


def hashes(folder):
    return [frame["sha256"] for frame in manifest(folder)["frames"]]


def kill(arguments, folder, when, blow=signal.SIGKILL, code=-signal.SIGKILL):
    """The command, to which a signal is sent once `when()` holds, and which ends with this code. Returns its folder."""
    command = [sys.executable, SUBMIT, *arguments, f"output={folder}"]
    # A shell's background jobs ignore interrupts, and so would this process if the tests are one.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    try:
        while process.poll() is None and not when():
            time.sleep(0.001)
        process.send_signal(blow)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, log
    return folder


@pytest.fixture(scope="module")
def killed(settings, tmp_path_factory):
    """Three folders of the same render: its driver was killed while it denoised, and while it decoded, and a person pressed
    Ctrl-C while it denoised."""
    one, two, three = (tmp_path_factory.mktemp("killed") for _ in range(3))
    with ThreadPoolExecutor() as pool:  # most of their time they import torch
        first = pool.submit(kill, settings, one, (one / ".work" / "frames.safetensors").exists)
        second = pool.submit(kill, settings, two, lambda: (two / "manifest.json").exists() and manifest(two)["frames"])
        third = pool.submit(kill, settings, three, (three / ".work" / "frames.safetensors").exists, signal.SIGINT, 130)
        return first.result(), second.result(), third.result()


def test_killed_while_denoising(settings, undisturbed, killed, capsys):
    folder = killed[0]
    state = manifest(folder)
    done = load(folder / ".work" / "frames.safetensors", state["render_hash"])[0]
    assert 1 <= done < 3
    assert (state["state"], state["frames"]) == ("rendering", [])

    assert submit.main([*settings, f"output={folder}"]) == 0
    assert hashes(folder) == undisturbed
    assert found_done(folder) == [{"G-buffers": 8, "denoising": done}]
    assert capsys.readouterr().out == f"video: {folder / 'video.mp4'}\n"
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["step"], status["steps"], status["frames_done"]) == ("done", 3, 3, 8)


def test_interrupted_while_denoising(settings, undisturbed, killed):
    folder = killed[2]
    assert manifest(folder)["frames"] == []
    assert "interrupted" in json.loads((folder / "status.json").read_text())["error"]
    assert submit.main([*settings, f"output={folder}"]) == 0
    assert hashes(folder) == undisturbed
    assert found_done(folder)[0]["denoising"] >= 1


def test_killed_while_decoding_with_a_damaged_frame_and_a_half_written_one(undisturbed, killed):
    folder = killed[1]
    finished = manifest(folder)["frames"]
    assert 0 < len(finished) < 8
    assert hashes(folder) == undisturbed[: len(finished)]
    damaged = folder / finished[0]["file"]
    damaged.write_bytes(damaged.read_bytes()[:100])
    half_written = folder / "frames" / ".00007.png.0123.part"
    half_written.touch()

    assert submit.main([f"resume={folder}", "farm=inline"]) == 0
    assert hashes(folder) == undisturbed
    (run,) = found_done(folder)
    assert (run["G-buffers"], run["denoising"], run.get("decoding", 0)) == (8, 3, len(finished) - 1)
    assert not half_written.exists()
    assert not (folder / ".work").exists()


class Interrupting(Progress):
    """Ctrl-C once so many units of a phase are done."""

    def __init__(self, folder, frames, phase, units):
        super().__init__(folder, frames)
        self.stop = phase, units
        self.lines = []

    def advance(self, units=1):
        super().advance(units)
        if self.status.phase == self.stop[0] and self.done > self.stop[1]:
            raise KeyboardInterrupt

    def note(self, line):
        self.lines.append(line)


@pytest.fixture(scope="module")
def short(small):
    """short(folder, **output) → SubmitConfig: three frames in this process."""

    def config(folder, **output):
        fields = {name: getattr(small(frames=3), name) for name in RenderConfig.__dataclass_fields__}
        there = OutputConfig(dir=str(folder), **output)
        return SubmitConfig(**fields, farm=FarmConfig(name="inline", threads=1), output=there)

    return config


def run(config, phase="", units=0.0):
    """Submit, stopping in a phase where one is given. Returns what the person is told besides the phases."""
    with Interrupting(Path(config.output.dir), config.frames, phase, units) as progress:
        if phase:
            with pytest.raises(KeyboardInterrupt):
                driver.submit(config, progress)
        else:
            driver.submit(config, progress)
    return [line for line in progress.lines if not re.fullmatch(r" *[\d.]+ s  .*", line)]


@pytest.fixture(scope="module")
def finished(short, tmp_path_factory):
    """The folder of the short render, which nothing happened to."""
    folder = tmp_path_factory.mktemp("finished")
    run(short(folder))
    return folder


def test_damaged_files_of_the_work_folder_are_made_again(short, finished, tmp_path):
    run(short(tmp_path), "denoising", 1.5)
    (checkpoint,) = tmp_path.glob(".work/*.safetensors")
    gbuffer = min(tmp_path.glob(".work/gbuffers/*.arrow"))
    for path in (checkpoint, gbuffer):
        path.write_bytes(path.read_bytes()[:-100])
    (line,) = run(short(tmp_path))
    assert f"{checkpoint} is ignored" in line
    assert hashes(tmp_path) == hashes(finished)
    assert found_done(tmp_path) == [{"G-buffers": 1}]


def test_what_lies_in_the_work_folder_of_a_deleted_render_is_not_taken(short, finished, tmp_path):
    config = short(tmp_path)
    run(replace(config, scene=replace(config.scene, camera=replace(config.scene.camera, fill=0.3))), "denoising", 1.5)
    (tmp_path / "manifest.json").unlink()
    assert run(config) == []
    assert manifest(tmp_path)["resumed"] == []
    assert hashes(tmp_path) == hashes(finished)


def test_a_comparison_asked_for_later_makes_only_that(short, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "clip")
    before = {path: path.stat().st_mtime_ns for path in (folder / "frames").iterdir()}
    run(short(folder, compare=True), "denoising", 1.5)
    assert manifest(folder)["state"] == "rendering"
    run(short(folder, compare=True))
    assert {path: path.stat().st_mtime_ns for path in (folder / "frames").iterdir()} == before
    assert (folder / "compare.mp4").exists()
    assert found_done(folder)[-1] == {"G-buffers": 3, "decoding": 3, "denoising": 1}


def test_a_folder_is_rendered_by_one_driver_at_a_time(short, tmp_path):
    with claimed(tmp_path), pytest.raises(OutputError, match="rendered already"):
        run(short(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_resume_says_what_it_expects(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    for folder, words in ((tmp_path / "nowhere", "manifest.json"), (tmp_path, "manifest.json")):
        assert submit.main([f"resume={folder}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    with pytest.raises(ConfigError, match="leave -m out"):
        resume.expand(["seed=1,2", "resume=there"], sweep=True)


def test_settings_of_every_kind_come_back(tmp_path, monkeypatch):
    """Text that looks like something else, floats, lists, null: typed once more, they make the same configuration."""
    monkeypatch.chdir(tmp_path)
    render = RenderConfig(prompt='null, "a" ${x}\n=1', fps=1 / 3, resolution=[64, 128], guidance=3.0, steps=7)
    render = replace(render, model=ModelConfig(name="pocket", dtype="float32"))

    write_manifest(tmp_path / "clip", new_manifest(asdict(render), {"threads": 3}, "CPU", []))
    (job,) = renders(resume.expand(["resume=clip", "farm=inline"]))
    config = configure(job)
    assert {name: getattr(config, name) for name in RenderConfig.__dataclass_fields__} == vars(render)
    assert (config.farm.name, config.farm.threads, config.output.dir) == ("inline", 3, "clip")


FULL = """
import contextlib, sys, threading, time
from pathlib import Path

from farm import submit

folder, filler = Path(sys.argv[1], "clip"), Path(sys.argv[1], "filler")

def fill():
    while not list(folder.glob(".work/*.safetensors")):
        time.sleep(0.001)
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))

threading.Thread(target=fill).start()
assert submit.main(sys.argv[2:]) == 1
print("room again", file=sys.stderr)
filler.unlink()
assert submit.main(sys.argv[2:]) == 0
print((folder / "manifest.json").read_text())
"""


def test_a_full_disk_ends_the_render_in_one_line_and_it_goes_on_with_room(settings, undisturbed, tmp_path, small_disk):
    script = [sys.executable, "-c", FULL, str(tmp_path), *settings, f"output={tmp_path / 'clip'}"]
    done = small_disk(tmp_path, "64m", script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = done.stderr.splitlines()
    assert re.match("error: .*[Nn]o space.*make room", log[log.index("room again") - 1])
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert [frame["sha256"] for frame in found["frames"]] == undisturbed
    assert found["resumed"][0]["denoising"] >= 1
