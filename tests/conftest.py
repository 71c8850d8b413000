"""What many tests need: a small model with random weights in diffusers layout, and settings that render in a second."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from renderer.config import MethodConfig, ModelConfig, RenderConfig, SceneConfig

# Read when torch and the hub's client are first imported: the last bits do not depend on this machine's cores, and no test
# waits for a network.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

PER_FRAME = MethodConfig(name="per_frame", keyframes=0, adain_until=0.0, paint=0)
PAPER = MethodConfig(name="paper", keyframes=2, choose="random", alpha=0.6, unify="fill+mean", paint=0)


def pytest_collection_modifyitems(items):
    """Where tests run side by side, those that start Ray follow one another, and a file's tests share their fixtures."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


class Quiet:
    """Progress that nobody looks at."""

    def phase(self, name, total, done=0):
        pass

    def advance(self, units=1):
        pass

    def note(self, line):
        pass


QUIET = Quiet()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Nothing is cached in the person's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A Stable Diffusion model with a ControlNet, small and random."""
    from jobs.random_model import make_model

    folder = tmp_path_factory.mktemp("checkpoint")
    make_model(folder, "tiny")
    return folder


@pytest.fixture(scope="session")
def small(checkpoint):
    """small(**changes) → RenderConfig: five frames of 64², three steps, the small model."""
    base = RenderConfig(
        scene=SceneConfig(name="flag"),
        prompt="a tin toy",
        negative_prompt="blur",
        seed=3,
        frames=5,
        resolution=64,
        chunk=2,
        model=ModelConfig(name=str(checkpoint), device="cpu"),
        method=PAPER,
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture(scope="session")
def small_disk():
    """small_disk(folder, size, command, **options): subprocess.run with a file system of so many bytes at `folder`."""
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")

    def run(folder, size, command, **options):
        mount = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
        return subprocess.run([*alone, "sh", "-c", mount, "sh", size, str(folder), *command], timeout=120, **options)

    return run
