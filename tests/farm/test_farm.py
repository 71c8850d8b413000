"""The farm computes what one process computes, to the bit, whoever dies on the way. Ray, workers and model are real."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import ray
from conftest import PAPER

from farm import driver
from farm.config import KEYS, FarmConfig, OutputConfig, SubmitConfig
from farm.dispatcher import Farm
from farm.executor import take_part
from farm.machine import Machine, start_ray, stop_ray
from farm.progress import Progress
from farm.tasks import ChunkError
from renderer.plan import make_plan
from renderer.render import InlineExecutor, survey

pytestmark = pytest.mark.xdist_group("ray")

PAINTED = replace(PAPER, paint=3)


class Silent:
    """A Progress that nobody looks at."""

    def phase(self, name, total): ...

    def advance(self, units=1): ...


def submission(config, folder, **farm):
    fields = {name: getattr(config, name) for name in asdict(config)}
    return SubmitConfig(**fields, farm=FarmConfig(threads=1, **farm), output=OutputConfig(dir=str(folder)))


def render(config, folder, **farm):
    """Submit; returns the sha256 of each frame."""
    with Progress(folder, config.frames) as progress:
        assert driver.submit(submission(config, folder, **farm), progress) == folder / "video.mp4"
    return [frame["sha256"] for frame in json.loads((folder / "manifest.json").read_text())["frames"]]


@pytest.fixture(scope="module")
def undisturbed(small, tmp_path_factory):
    """The frames' hashes of a render in this process."""
    return render(small(method=PAINTED), tmp_path_factory.mktemp("inline"), name="inline")


@pytest.mark.long
def test_one_worker_makes_the_same_pixels(small, undisturbed, tmp_path):
    assert render(small(method=PAINTED), tmp_path, name="local", workers=1) == undisturbed
    assert len(set(undisturbed)) == 5
    files = {path.name for path in tmp_path.iterdir()}
    made = {"frames", "video.mp4", "guides.mp4", "texture.mp4", "contact_sheet.png", "metrics.json", "manifest.json"}
    assert files == {*made, "status.json", "render.log"}
    assert not ray.is_initialized()


BLOWS = {
    "dies": lambda pid: os.kill(pid, signal.SIGKILL),
    "hangs": lambda pid: os.kill(pid, signal.SIGSTOP),
    "has no more memory": lambda pid: resource.prlimit(pid, resource.RLIMIT_DATA, (in_use(pid), -1)),
    "can write no files": lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, -1)),
}


def in_use(pid):
    """Bytes of a process's own memory."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("blow", ["dies", *(pytest.param(blow, marks=pytest.mark.long) for blow in [*BLOWS][1:])])
def test_a_worker_that_something_happens_to_changes_nothing(small, undisturbed, tmp_path, blow):
    """Two workers; one of them meets it while it denoises, as a person would bring it about: by the pid in status.json."""
    config, killed = small(method=PAINTED), []

    def kill_one():
        while not killed and not done.wait(0.005):
            with contextlib.suppress(OSError, ValueError):
                status = json.loads((tmp_path / "status.json").read_text())
                if status["phase"] == "denoising" and status["workers"]:
                    killed.append(status["workers"][0]["pid"])
                    BLOWS[blow](killed[0])

    done = threading.Event()
    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        hashes = render(config, tmp_path, name="local", workers=2, patience=5)
    finally:
        done.set()
        killer.join()
    assert killed
    assert killed[0] != os.getpid()
    assert hashes == undisturbed


def test_the_same_command_again_has_nothing_to_do(small, undisturbed, tmp_path):
    assert render(small(method=PAINTED), tmp_path, name="inline") == undisturbed
    before = (tmp_path / "manifest.json").stat().st_mtime_ns
    begun = time.monotonic()
    assert render(small(method=PAINTED), tmp_path, name="inline") == undisturbed
    assert (tmp_path / "manifest.json").stat().st_mtime_ns == before
    assert time.monotonic() - begun < 5


RAY = Path(sys.executable).with_name("ray")
SUBMIT = Path(__file__).parents[2] / "farm" / "submit.py"
SILENT = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def cluster(monkeypatch):
    """The address of a cluster of one CPU that somebody else runs. The environment holds its token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    with tempfile.TemporaryDirectory(
        prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:  # sockets' paths are short
        where = [f"--temp-dir={folder}", "--port=0", "--node-ip-address=127.0.0.1"]
        command = [RAY, "start", "--head", "--block", *where, "--num-cpus=1", "--include-dashboard=false"]
        head = subprocess.Popen(command, env=os.environ | {"RAY_AUTH_MODE": "token"}, **SILENT)
        address = Path(folder, "ray_current_cluster")
        try:
            while head.poll() is None and not address.exists():
                time.sleep(0.1)
            yield address.read_text().strip()
        finally:
            head.terminate()  # it ends what it has started
            head.wait(timeout=20)


def test_a_cluster_makes_the_same_pixels_and_stays_up(small, undisturbed, cluster, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # a farm in this process has set it; the token must be enough
    config = submission(small(method=PAINTED), tmp_path, name="cluster", workers=1, address=cluster)
    subprocess.run([sys.executable, SUBMIT, *typed(config)], check=True, timeout=120, **SILENT)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [frame["sha256"] for frame in manifest["frames"]] == undisturbed
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    subprocess.run([RAY, "health-check", f"--address={cluster}"], check=True, timeout=30, **SILENT)


def typed(config):
    """What a person types for this configuration."""
    for path in KEYS:
        value = config
        for name in path.split("."):
            value = getattr(value, name)
        yield f"{path}={'null' if value is None else value}"


@pytest.fixture(scope="module")
def farm(small, tmp_path_factory):
    """Two workers, a surveyed plan, and what one process computes for it."""
    config = submission(small(method=PAINTED), tmp_path_factory.mktemp("farm"), name="local", workers=2)
    plan, _ = make_plan(config, Path(config.output.dir), "cpu", threads=1)
    plan = survey(plan, InlineExecutor(), Silent())
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        start_ray(config.farm)
        workers = Farm(config.farm, Machine("cpu", "CPU", 2))
        with take_part(workers, lambda workers: None) as executor:
            executor.prepare(plan)
            yield executor, plan
        workers.close()
    finally:
        stop_ray()


def noise(executor, plan, frames):
    (_, latents), *_ = executor.run(plan, "noise", [(frames, 0)])
    return latents


def test_features_are_freed_when_all_chunks_are_done(farm):
    executor, plan = farm
    chunks = plan.chunks()
    kept = executor.keep(
        plan, "keyframe_features", (500, [0, 2], noise(executor, plan, (0, 2)), True), readers=len(chunks)
    )
    calls = [(500, chunk, noise(executor, plan, chunk), [0, 2], kept, 0.6) for chunk in chunks]
    assert sorted(position for position, _ in executor.run(plan, "predict", calls)) == list(range(len(chunks)))
    assert booked(executor, kept) == []


def booked(executor, kept):
    return [
        entry
        for entry in ray.get(executor.farm.features.store.book.remote())["entries"]
        if entry["pass"] == kept.key[1]
    ]


class Poison:
    """Frames that take down whoever looks at them."""

    def __iter__(self):
        os._exit(1)


def test_a_chunk_that_kills_three_workers_fails_with_the_reason(farm):
    executor, plan = farm
    with pytest.raises(ChunkError, match="survey of chunk 1 killed 3 workers"):
        list(executor.run(plan, "survey", [((0,),), (Poison(),)]))
    (_, alive), *_ = executor.run(plan, "survey", [((0,),)])
    assert alive.coverage > 0
