"""What several GPUs gain, measured on whole renders of real workers: a target of jobs/benchmark.py."""

import contextlib
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farm import driver
from farm.config import SubmitConfig
from farm.machine import find_machine, local_gpus
from farm.overview import LOG
from farm.sweep import Outcome, run_on
from farm.workshop import Workshop
from jobs.farm_benchmark import MODEL, Clocked, Enough, configured, rendered

TRANSPORTS = ("object_store", "recompute", "nccl")


def gpus(settings: Sequence[str]) -> None:
    """Sweeps and one long clip on 1, 2 and 4 GPUs: Stable Diffusion 1.5's architecture with ControlNet, random weights, fp16.

    Then the clip on all of them, with each transport of features. Frames paint nothing over one another: that is the processors'
    work. Without a GPU it tries itself out on CPU workers with a tiny model.
    """
    there = len(local_gpus())
    numbers = [n for n in (4, 2, 1) if n <= (there or 2)]  # most workers first: they make all G-buffers
    size, scale = "tiny", ["resolution=64", "chunk=2", "farm.threads=1"]
    if there:
        size, scale = "sd15", ["resolution=512", "chunk=8"]
    sweep = ["frames=24", "steps=12"] if there else ["frames=4", "steps=2"]
    clip = ["frames=96", "steps=16"] if there else ["frames=24", "steps=8"]
    scale = [*scale, "method.paint=0", *settings]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder, model = Path(name), Path(name) / size
        if not any(setting.startswith("model=") for setting in settings):
            subprocess.run([sys.executable, MODEL, size, model], check=True, capture_output=True)
            say(f"random weights ({size}): {time.perf_counter() - begun:.0f} s")
        common = ["scene=flag", f"model={model}", "prompt=a golden statue", *scale]
        rows = {n: on(n, [*common, f"farm.workers={n}"], sweep, clip, folder) for n in numbers}
        one, most = rows[1], numbers[0]
        say(f"{' '.join(scale)}; sweep: three renders a GPU, {' '.join(sweep)}; clip: {' '.join(clip)}")
        say("  models are loaded and G-buffers made before; a clip: from its first step to the last decoded frame")
        say(f"  {'GPUs':>4}{'renders/min':>13}{'of linear':>11}{'at work':>9}{'clip s':>9}{'speedup':>9}  pixels")
        for n, row in sorted(rows.items()):
            of_linear = row.throughput / one.throughput / n
            speedup = one.clip.seconds / row.clip.seconds
            same = all(row.hashes[name] == one.hashes[name] for name in one.hashes)
            say(
                f"  {n:>4}{60 * row.throughput:>13.2f}{of_linear:>11.2f}{row.at_work:>9.1%}{row.clip.seconds:>9.2f}"
                f"{speedup:>9.2f}  {identical(same)}"
            )
        say(
            f"the clip on {most}, by transport: a worker's first call that reads a pass's features, against its later ones"
        )
        say(
            f"  {'transport':<14}{'clip s':>9}{'step ms':>9}{'features ms':>13}{'of a step':>11}{'gangs broken':>14}  pixels"
        )
        for transport in TRANSPORTS:
            if transport != rows[most].clip.transport:
                row = on(most, [*common, f"farm.workers={most}", f"farm.transport={transport}"], [], clip, folder)
            else:
                row = rows[most]
            step, extra = row.clip.step, row.clip.features
            found = transport if row.clip.transport == transport else f"({row.clip.transport})"
            say(
                f"  {found:<14}{row.clip.seconds:>9.2f}{1e3 * step:>9.0f}{1e3 * extra:>13.1f}{extra / step:>11.1%}"
                f"{row.clip.broken:>14}  {identical(row.hashes['clip'] == one.hashes['clip'])}"
            )


def say(line: str) -> None:
    """At once: whoever waits for the rest may not get it."""
    print(line, flush=True)


def identical(same: bool) -> str:
    return "identical" if same else "DIFFERENT"


@dataclass(frozen=True)
class Clip:
    """One clip: seconds until its last frame is decoded, and of a step; what features cost a reader, in seconds; the transport in
    the end, and how many groups of workers broke."""

    seconds: float
    step: float
    features: float
    transport: str
    broken: int


@dataclass(frozen=True)
class Row:
    """Renders a second of a sweep, from the first one's set-up to the last one's pictures; the share of that time in which workers
    were at a call; a clip; and the frames' hashes by render."""

    throughput: float
    at_work: float
    clip: Clip
    hashes: dict[str, list[str]]


def on(workers: int, common: Sequence[str], sweep: Sequence[str], clip: Sequence[str], folder: Path) -> Row:
    """A sweep, if there are settings for one, and a clip, with so many workers, once models are loaded and G-buffers made.

    All that are measured in one folder share the G-buffers.
    """
    begun = time.perf_counter()
    output = Path(tempfile.mkdtemp(prefix=f"on-{workers}-", dir=folder))
    # A few steps each load the models everywhere, make the G-buffers, and have every worker see the scene.
    jobs: dict[str, Sequence[str]] = {
        f"warm-{n}": [*sweep, "steps=1", f"seed={n}"] for n in range(workers if sweep else 0)
    }
    jobs |= {"warm-clip": [*clip, f"steps={6 if workers > 1 else 1}"], "clip": clip}
    jobs |= {f"seed-{seed}": [*sweep, f"seed={seed}"] for seed in range(3 * workers if sweep else 0)}
    configs = {name: configured([*common, *job], output, name) for name, job in jobs.items()}
    many = [name for name in jobs if name.startswith("seed")]
    first = configs["clip"]
    groups = [[name for name in jobs if name.startswith("warm")], many, ["clip"]]
    with Workshop(first.farm, find_machine(first), folder / "shared") as workshop:
        if first.farm.name != "inline":
            workshop.workers()  # here, as Ray ends with the thread that has started it
        clocks = [network_phases(workshop, {name: configs[name] for name in names}) for names in groups if names]
        farm = workshop.farm
        transport = farm.features.transport if farm else ""
        broken = farm.features.gang.number - 1 if farm and farm.features.gang else 0
    made = clocks[-1]
    measured = Clip(
        made.decoded - made.begun,
        (made.denoised - made.begun) / int(configs["clip"].steps or 1),
        features_cost((output / "clip" / LOG).read_text()),
        transport,
        broken,
    )
    hashes = {name: [frame["sha256"] for frame in rendered(output / name).frames] for name in [*many, "clip"]}
    warm, swept = (clock.decoded - clock.entered for clock in clocks[:2])
    calls = [call for name in many for call in call_seconds((output / name / LOG).read_text())]
    spent = time.perf_counter() - begun
    each = f"{len(calls)} calls of {1e3 * statistics.mean(calls):.0f} ms" if calls else ""
    renders = f"{len(many)} renders {swept:.1f} s, {each}, " if many else ""
    say(
        f"  {workers} workers, {transport}: warm-up {warm:.1f} s, {renders}clip {measured.seconds:.1f} s "
        f"({1e3 * measured.step:.0f} ms a step); {spent:.0f} s in all"
    )
    return Row(len(many) / swept, sum(calls) / swept / workers, measured, hashes)


def call_seconds(log: str) -> list[float]:
    """Seconds of all calls of a render, by its render.log.

    >>> call_seconds("2026-11-26T16:01:01.300Z  predict 0  0.896 s  127.0.0.1 pid 16078  features 0")
    [0.896]
    """
    return [float(seconds) for seconds in re.findall(r"Z  \w+ \d+  ([\d.]+) s  ", log)]


def features_cost(log: str) -> float:
    """Seconds that a worker's first call which reads a keyframe pass's features takes longer than its later ones: getting them
    from the worker that made them, or making them. The median over workers and passes; of a clip's render.log.

    >>> line = "Z  predict 0  {} s  127.0.0.1 pid {}  features {}\\n".format
    >>> features_cost("".join([line(2, 7, 0), line(0.5, 7, 1), line(0.2, 7, 1), line(0.4, 8, 1), line(0.2, 8, 1), line(1, 9, 2)]))
    0.25
    """
    calls = re.findall(r"Z  (\w+) \d+  ([\d.]+) s  \S+ pid (\d+)  features (\d+)$", log, re.MULTILINE)
    makers = {(number, pid) for method, _, pid, number in calls if method == "keyframe_features"}
    seconds: dict[tuple[str, str], list[float]] = {}
    for method, taken, pid, number in calls:
        if method == "predict" and number != "0" and (number, pid) not in makers:
            seconds.setdefault((number, pid), []).append(float(taken))
    found = [first - statistics.median(later) for first, *later in seconds.values() if later]
    return statistics.median(found) if found else math.nan


@dataclass(frozen=True)
class Clock:
    """When the first of some renders entered the farm, and began to denoise; when the last had done so, and had decoded."""

    entered: float
    begun: float
    denoised: float
    decoded: float


def network_phases(workshop: Workshop, configs: dict[str, SubmitConfig]) -> Clock:
    """These renders, to their last decoded frame; no clip is written."""
    clocks = []

    def render(name: str, workshop: Workshop) -> Path:
        folder = Path(str(configs[name].output.dir))
        folder.mkdir(parents=True)
        with contextlib.suppress(Enough), Clocked(folder, configs[name].frames, "writing") as progress:
            try:
                driver.submit(configs[name], progress, workshop)
            finally:
                clocks.append(progress.clocks)
        return folder

    def ended(name: str, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            raise outcome

    run_on(workshop, list(configs), render, ended)
    entered, begun = (min(clock[phase][0] for clock in clocks) for phase in ("set-up", "denoising"))
    denoised, decoded = (max(clock[phase][0] for clock in clocks) for phase in ("decoding", "writing"))
    return Clock(entered, begun, denoised, decoded)
