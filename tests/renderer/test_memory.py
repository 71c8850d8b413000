"""Memory that ends in one process, at a real limit."""

import os
import subprocess
import sys

SCRIPT = """
import resource, sys
from dataclasses import replace
from pathlib import Path

import torch
from conftest import PER_FRAME, QUIET

from renderer.config import ModelConfig, RenderConfig, SceneConfig
from renderer.errors import OutOfMemoryError
from renderer.plan import make_plan
from renderer.render import InlineExecutor, survey

model, folder = sys.argv[1:3]
config = RenderConfig(scene=SceneConfig(name="flag"), prompt="a", frames=1, chunk=512, resolution=128, method=PER_FRAME)
executor = InlineExecutor()
plan, _ = make_plan(replace(config, model=ModelConfig(name=model, device="cpu")), Path(folder), "cpu", 1)
plan = survey(plan, executor, QUIET)
executor.prepare(plan)
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (int(line.split()[1]) * 1024 + 340 * 10**6, -1))
call = (500, (0,), torch.zeros(1, 4, 16, 16), [], None)
try:
    list(executor.run(plan, "predict", [call]))
except OutOfMemoryError as error:
    print(error)
"""


def test_one_line_names_the_chunk_that_fits(checkpoint, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(checkpoint), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("predict needs more memory than there is: chunk=")
