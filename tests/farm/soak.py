"""Sweeps of tiny renders under random faults, for as long as you like; every frame must be that of an undisturbed run.

python tests/farm/soak.py minutes=10 seed=0    what happens, and when, follows from the seed
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.random_model import make_model

SUBMIT = Path(__file__).parents[2] / "farm" / "submit.py"
RENDERS, FRAMES = 3, 6
PATIENCE = 20  # seconds after which a worker that was stopped is replaced; longer than a worker takes to load its model
FAULTS = {  # which process, and what happens to it
    "worker killed": ("RenderWorker", signal.SIGKILL),
    "worker stopped": ("RenderWorker", signal.SIGSTOP),
    "store killed": ("FeatureStore", signal.SIGKILL),
    "driver killed": (None, signal.SIGKILL),
    "driver interrupted": (None, signal.SIGINT),
}


def command(model: Path, output: Path, farm: str) -> list[str]:
    settings = f"scene=flag prompt=tin method=paper method.keyframes=2 frames={FRAMES} steps=6 chunk=1 resolution=64"
    farm = f"model={model} model.device=cpu farm={farm} farm.threads=1 output={output}"
    return [sys.executable, str(SUBMIT), "-m", *settings.split(), *farm.split(), f"seed=range({RENDERS})"]


def hashes(output: Path) -> dict[str, list[str]]:
    """sha256 of each frame, by render."""
    manifests = {path.parent.name: json.loads(path.read_text()) for path in output.glob("*/manifest.json")}
    return {name: [frame["sha256"] for frame in manifest["frames"]] for name, manifest in manifests.items()}


def descendants(pid: int) -> list[int]:
    """All processes that a process has started, and they in turn."""
    found, parents = [pid], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


def victims(driver: int, kind: str | None) -> list[int]:
    if kind is None:
        return [driver]
    found = []
    for pid in descendants(driver):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"ray::{kind}".encode()):
                found.append(pid)
        except OSError:
            continue
    return found


def disturb(process: subprocess.Popen, chance: random.Random, begun: float) -> list[str]:
    """Faults at random moments until the process ends. Returns what happened."""
    happened = []
    while True:
        try:
            process.wait(timeout=chance.uniform(2, 12))
            return happened
        except subprocess.TimeoutExpired:
            name = chance.choice(list(FAULTS))
        kind, blow = FAULTS[name]
        pids = victims(process.pid, kind)
        if pids:
            os.kill(chance.choice(sorted(pids)), blow)
            happened.append(f"{name} at {time.monotonic() - begun:.0f} s")


def soak(minutes: float, seed: int, folder: Path) -> None:
    model, chance, end = folder / "model", random.Random(seed), time.monotonic() + 60 * minutes
    make_model(model, "tiny")
    subprocess.run(command(model, folder / "undisturbed", "inline"), check=True, capture_output=True)
    expected = hashes(folder / "undisturbed")
    assert len(expected) == RENDERS
    assert all(len(set(frames)) == FRAMES for frames in expected.values())
    rounds = faults = 0
    while time.monotonic() < end:
        output, begun, runs = folder / "disturbed", time.monotonic(), 0
        code, log = None, ""
        while code != 0:
            runs += 1
            assert runs <= 20, f"round {rounds}: no end after {runs} runs; the last said\n{log}"
            arguments = [*command(model, output, "local"), "farm.workers=2", f"farm.patience={PATIENCE}"]
            with tempfile.TemporaryFile("w+") as said:
                process = subprocess.Popen(arguments, stdout=said, stderr=said)
                happened = disturb(process, chance, begun) if runs <= 5 else []
                code = process.wait()
                said.seek(0)
                log = said.read()
            faults += len(happened)
            print(f"round {rounds} run {runs}: {', '.join(happened) or 'undisturbed'}; exit code {code}", flush=True)
            # A second interrupt, while the first one is being cleaned up after, ends Python at once.
            assert code in (0, 1, 130, -signal.SIGINT, -signal.SIGKILL), log
        assert hashes(output) == expected, f"seed {seed}, round {rounds}: other pixels in {output}"
        shutil.rmtree(output)
        rounds += 1
    print(f"{rounds} sweeps, {faults} faults in {minutes:g} minutes: every frame as without them")


if __name__ == "__main__":
    # A shell's background jobs ignore interrupts, and so would the drivers that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = dict(word.split("=") for word in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        soak(float(given.get("minutes", 10)), int(given.get("seed", 0)), Path(directory))
