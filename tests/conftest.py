"""What many tests need: a small model with random weights in diffusers layout, and settings that render in a second."""

import logging
import os
import re
import shutil
import subprocess
import urllib.request
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest
from hypothesis import settings

from renderer.config import MethodConfig, ModelConfig, RenderConfig, SceneConfig
from renderer.files import cache_folder

# Read when torch and the hub's client are first imported: the last bits do not depend on this machine's cores, and no test
# waits for a network.
# A token in the person's home is none of the clusters' that tests start, and Ray reads the mode once for a process.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled"}

settings.register_profile("seeded", derandomize=True, deadline=None)  # what fails here fails everywhere
settings.load_profile("seeded")

PER_FRAME = MethodConfig(name="per_frame", keyframes=0, adain_until=0.0, paint=0)
PAPER = MethodConfig(
    name="paper",
    keyframes=2,
    choose="random",
    alpha=0.6,
    unify="fill+mean",
    alpha_until=1.0,
    until=1.0,
    sharpen=0.0,
    paint=0,
)


@pytest.hookimpl(tryfirst=True)
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


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(name) → its cache folder: from now on this is a machine of that name, with only atlases in its cache at first."""
    from farm import remote

    atlases = cache_folder() / "atlas"
    atlases.mkdir(parents=True, exist_ok=True)

    def become(name):
        remote.fetched.cache_clear()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        if not cache_folder().exists():
            cache_folder().mkdir(parents=True)
            (cache_folder() / "atlas").symlink_to(atlases)
        return cache_folder()

    become("here")
    return become


class Store(logging.Handler):
    """moto's object server on a free port of this machine. asked: its requests that went well, as "PUT /bucket/key"."""

    def __init__(self):
        super().__init__()
        self.asked, self.port = [], 0
        self.start()

    def emit(self, record):
        found = re.search(r"([A-Z]+ /[^ ?]*)\S* HTTP/[\d.]+.{0,6}\" 2\d\d", record.getMessage())
        if found:
            self.asked.append(found[1])

    def start(self):
        """What was stored before a stop is there again."""
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer("127.0.0.1", self.port)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def stop(self):
        self.server.stop()

    @cached_property
    def files(self):
        """A client that remembers nothing."""
        import fsspec

        return fsspec.filesystem("s3", use_listings_cache=False)


@pytest.fixture(scope="session")
def _store():
    with pytest.MonkeyPatch.context() as patch:
        log = logging.getLogger("werkzeug")
        patch.setattr(log, "level", logging.INFO)
        patch.setattr(log, "propagate", False)
        store = Store()
        patch.setattr(log, "handlers", [store])
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "2")
        patch.setenv("AWS_ACCESS_KEY_ID", "person")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield store
        store.stop()


@pytest.fixture
def store(_store, machine):
    """An object store with one empty bucket, `bucket`, of which the environment knows. Requests are tried twice at most."""
    with urllib.request.urlopen(f"http://127.0.0.1:{_store.port}/moto-api/reset", b""):
        _store.files.mkdir("bucket")
    _store.asked.clear()
    return _store
