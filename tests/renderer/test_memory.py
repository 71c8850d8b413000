"""Memory that ends in one process: a real limit, one line with the chunk that fits, and the process goes on."""

import os
import subprocess
import sys

ADVICE = """
import re, resource, sys
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
call = (500, (0,), torch.zeros(1, 4, 16, 16), [], None, 0.0)
try:
    list(executor.run(plan, "predict", [call]))
except OutOfMemoryError as error:
    print(error)
    chunk = int(re.search("chunk=([0-9]+)", str(error))[1])
((_, found),) = executor.run(replace(plan, config=replace(plan.config, chunk=chunk)), "predict", [call])
assert found.isfinite().all()
"""

# Blocks that malloc got back stay with the process: what it asks for in small pieces is there, what oneDNN maps is not.
RECOVERY = """
import ctypes, resource
from pathlib import Path

import torch

from renderer.memory import within_memory

@torch.inference_mode()
def convolve(channels):
    return torch.nn.functional.conv2d(torch.zeros(1, channels, 16, 16), torch.zeros(16, channels, 3, 3)).shape

class Renderer:
    def decode(self, channels):
        return convolve(channels)

convolve(16)
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
*blocks, _ = [malloc(60_000) for _ in range(1000)]
for block in blocks:
    free(block)
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (int(line.split()[1]) * 1024, -1))
refused = 0
for channels in range(32, 800, 16):
    try:
        convolve(channels)
    except RuntimeError:
        refused += 1
assert refused, "memory did not end"
resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
print(within_memory(lambda: (Renderer(), (816,)), lambda: None, "decode"))
"""


def run(script, *arguments):
    """The only line that it prints, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return line


def test_memory_that_is_free_again_is_used():
    assert run(RECOVERY) == "torch.Size([1, 16, 14, 14])"


def test_one_line_names_the_chunk_that_fits(checkpoint, tmp_path):
    line = run(ADVICE, checkpoint, tmp_path)
    assert line.startswith("predict needs more memory than there is: chunk=")
