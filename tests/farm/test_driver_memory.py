"""What a driver holds for each frame of a long clip: the latents, the sampler's memory, and little else."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import QUIET

from renderer.heap import give_memory_back
from renderer.manifest import Books, new_manifest
from renderer.plan import make_plan
from renderer.render import denoise

SCRIPT = """
import sys
from test_driver_memory import peaks
print(*peaks(sys.argv[1]))
"""


class Elsewhere:
    """All that a driver sees of workers: what they answer, one after the other."""

    def run(self, plan, method, arguments):
        width, height = plan.latent_size
        sizes = [len(given[1] if method == "predict" else given[0]) for given in arguments]
        kind = (lambda *shape: torch.ones(shape[0], *shape[2:]) > 0) if method == "background" else torch.randn
        return ((i, kind(size, 4, height, width)) for i, size in enumerate(sizes))

    def keep(self, plan, method, arguments, readers):
        return None


def peaks(folder):
    """Bytes of memory that this process has ever had, after a clip of 40, 100 and 300 frames at the latents' size of SD 1.5."""
    import resource
    from pathlib import Path

    from conftest import PAPER

    from renderer.config import ModelConfig, RenderConfig, SceneConfig

    give_memory_back()
    config = RenderConfig(scene=SceneConfig(name="flag"), prompt="a", resolution=512, steps=3, method=PAPER)
    config = replace(config, chunk=8, model=ModelConfig(name=f"{folder}/model", device="cpu", scheduler="dpm++"))
    for frames in (40, 100, 300):
        below = Path(folder) / str(frames)
        plan, _ = make_plan(replace(config, frames=frames), below, "cpu", 1)
        books = Books(below, new_manifest({"prompt": "", "seed": 3}, {}, "CPU", []))
        denoise(plan, Elsewhere(), QUIET, books, lambda clean: None)
        yield 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_a_driver_holds_latents_and_history_and_little_else(checkpoint, tmp_path):
    (tmp_path / "model").symlink_to(checkpoint)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    _, few, many = map(int, done.stdout.split())
    latents = 4 * 64 * 64 * 4
    assert (many - few) / 200 < 100_000 + 2 * latents  # two: what DPM-Solver++ remembers
