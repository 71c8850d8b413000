"""What the farm costs and gains, measured on whole renders of real workers: targets of jobs/benchmark.py."""

import contextlib
import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm import driver, records, submit
from farm.command import renders
from farm.config import SubmitConfig
from farm.machine import find_machine, local_gpus
from farm.overview import LOG
from farm.progress import Progress, Worker
from farm.sweep import Outcome, run_on
from farm.watch import Watch
from farm.workshop import Workshop
from renderer.manifest import Manifest, read_manifest

SUBMIT = Path(submit.__file__)
MODEL = Path(__file__).with_name("random_model.py")
TICKS = os.sysconf("SC_CLK_TCK")


class Enough(Exception):  # noqa: N818
    """A render has shown what it was to show."""


class Clocked(Progress):
    """Writes down what the clock, this process's processors and its workers' show when each phase begins.

    last: phase that is not waited for; its beginning ends the render with Enough.
    """

    def __init__(self, folder: Path, frames: int, last: str = "", begun: Callable[[], None] = lambda: None):
        super().__init__(folder, frames, begun=begun)
        self.last = last
        self.pids: set[int] = set()
        self.clocks: dict[str, tuple[float, float, float]] = {}

    def phase(self, name: str, total: int, done: int = 0) -> None:
        super().phase(name, total, done)
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.clocks[name] = time.perf_counter(), used.ru_utime + used.ru_stime, sum(map(processor_seconds, self.pids))
        if name == self.last:
            raise Enough

    def workers(self, workers: Sequence[Worker]) -> None:
        super().workers(workers)
        self.pids |= {worker["pid"] for worker in workers}

    def note(self, line: str) -> None:
        """The benchmark's table is all that is shown."""

    def between(self, first: str, last: str) -> tuple[float, float, float]:
        """Seconds from one phase's beginning to another's: on the clock, of this process's processors, of the workers'."""
        clock, own, workers = (b - a for a, b in zip(self.clocks[first], self.clocks[last], strict=True))
        return clock, own, workers


def processor_seconds(pid: int) -> float:
    """User and system time that a process has used; 0 of one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def configured(settings: Sequence[str], folder: Path, name: str) -> SubmitConfig:
    """settings: later ones count."""
    last = {setting.partition("=")[0]: setting for setting in settings}
    (job,) = renders([*last.values(), f"output={folder}"])
    return submit.prepare(job, name)


def rendered(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def driver_overhead(settings: Sequence[str]) -> None:
    """Everything that the driver's processors do while a render denoises, per chunk; and how busy its workers are.

    Some of it is done for each chunk, and some in each second: Ray's own threads, and what a person is shown. A second render, of
    many chunks that take milliseconds, tells the two apart. The baseline is the same render in one process of as many threads as
    one worker has.
    """
    common = ["steps=4", "chunk=2", "farm.threads=1", "model.device=cpu"]
    settings = ["frames=24", *common, *settings]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        model = Path(folder) / "tiny"
        subprocess.run([sys.executable, MODEL, "tiny", model], check=True, capture_output=True)
        tiny = [*common, "frames=256", "scene=flag", "prompt=a", "resolution=64", f"model={model}", "farm=local"]
        inline = denoised([*settings, "farm=inline"], Path(folder) / "inline")
        ray = denoised([*settings, "farm=local"], Path(folder) / "Ray")
        quick = denoised(tiny, Path(folder) / "quick")
    chunk, second = per_chunk_and_second([(run.chunks, run.seconds, run.own) for run in (ray, quick)])
    print(f"{' '.join(settings)}: {ray.chunks} chunks and their keyframe passes")
    for name, run in {"driver, processor time a chunk": ray, "  the same, tiny model": quick}.items():
        each = f"{run.chunks} chunks of {1e3 * run.seconds / run.chunks:.0f} ms"
        print(f"  {name:<32}{1e3 * run.own / run.chunks:6.1f} ms   {each}")
    print(f"  {'of these two: for each chunk':<32}{1e3 * chunk:6.1f} ms   (aim: 5 ms at most)")
    print(f"  {'              in each second':<32}{1e3 * second:6.1f} ms")
    busy = ray.of_workers / ray.seconds / ray.workers
    alone = inline.own / inline.seconds
    print(f"  {'beside that of the workers':<32}{ray.own / ray.of_workers:6.1%}")
    print(f"  {f'utilisation of {ray.workers} workers':<32}{busy:6.1%}   of one process {alone:.1%}")
    print(f"  {'ratio':<32}{busy / alone:6.2f}")
    speedup = inline.seconds / ray.seconds
    print(f"  {'denoising, one process / Ray':<32}{speedup:6.2f}   {speedup / ray.workers:.2f} a worker")


@dataclass(frozen=True)
class Denoised:
    """One render's denoising: seconds on the clock, of the driver's processors, and of the workers' processors."""

    chunks: int
    seconds: float
    own: float
    of_workers: float
    workers: int


def denoised(settings: Sequence[str], folder: Path) -> Denoised:
    """With all that shows a person how it stands, as in farm/submit.py, but for the terminal."""
    config, name = configured(settings, folder.parent, folder.name), folder.name
    folder.mkdir()
    watch = Watch(folder, {name: records.row(name, "waiting", config)}, False, (), config)
    progress = Clocked(folder, config.frames, "decoding", lambda: watch.tell(name, "rendering", config))
    with watch, contextlib.suppress(Enough), progress:
        driver.submit(config, progress)
    chunks = rendered(folder).config["steps"] * -(-config.frames // config.chunk)
    return Denoised(chunks, *progress.between("denoising", "decoding"), len(progress.pids))


def per_chunk_and_second(runs: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Processor seconds for each chunk, and in each second on the clock, of two runs (chunks, seconds, processor seconds).

    >>> per_chunk_and_second([(10, 100.0, 1.5), (1000, 100.0, 6.45)])
    (0.005, 0.0145)
    """
    (n, s, own), (m, r, other) = runs
    return (own * r - other * s) / (n * r - m * s), (n * other - m * own) / (n * r - m * s)


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


TRANSPORTS = ("object_store", "recompute", "nccl")


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
    # A few steps each load the models everywhere, make the G-buffers, and have the workers meet.
    jobs: dict[str, Sequence[str]] = {"warm-sweep": [*sweep, "steps=1"]} if sweep else {}
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


def memory(settings: Sequence[str], frames: int) -> None:
    """How much more memory a driver and its workers take for a clip of so many frames than for a quarter of it.

    The network is tiny; latents are as large as the settings' resolution makes them.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        model = Path(folder) / "tiny"
        subprocess.run([sys.executable, MODEL, "tiny", model], check=True, capture_output=True)
        fixed = [
            f"model={model}",
            "model.device=cpu",
            "scene=flag",
            "prompt=a",
            "steps=2",
            "farm.workers=1",
            "farm.threads=1",
        ]
        fixed += ["resolution=64", "chunk=8", "method=paper", *settings]
        counts = (frames // 4, frames)
        peaks = [peak_memory([*fixed, f"frames={count}"], Path(folder) / str(count)) for count in counts]
        side = rendered(Path(folder) / str(frames)).config["resolution"]
    latents = 16 * side[0] * side[1] / 64 / 1024
    print(f"{' '.join(fixed[1:])}: own memory in MB at its peak; a frame's latents take {latents:.1f} KB")
    print(f"  {'':<10}{counts[0]:>7} frames{counts[1]:>7} frames   KB a frame")
    for name, small, large in zip(("driver", "worker"), *peaks, strict=True):
        print(f"  {name:<10}{small:>14.1f}{large:>14.1f}{1024 * (large - small) / (counts[1] - counts[0]):>13.1f}")


def peak_memory(settings: Sequence[str], output: Path) -> tuple[float, float]:
    """MB of memory of its own (not of mapped files) that a driver, and the largest of its workers, ever has."""
    command = [sys.executable, str(SUBMIT), *settings, f"output={output}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        peaks = [0.0, 0.0]
        while process.poll() is None:
            time.sleep(0.1)
            with contextlib.suppress(OSError, ValueError):
                workers = json.loads((output / "status.json").read_text())["workers"]
                found = [own_memory(process.pid), max(own_memory(worker["pid"]) for worker in workers)]
                peaks = [max(pair) for pair in zip(peaks, found, strict=True)]
    assert process.returncode == 0, f"{' '.join(settings)}: exit code {process.returncode}"
    return peaks[0], peaks[1]


def own_memory(pid: int) -> float:
    """MB of a process that belong to it alone."""
    status = Path(f"/proc/{pid}/status").read_text()
    # A process that has ended and is still listed has none.
    return int(next((line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")), 0)) / 1024
