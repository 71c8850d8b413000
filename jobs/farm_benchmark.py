"""What the farm costs, measured on whole renders of real workers: targets of jobs/benchmark.py."""

import contextlib
import json
import os
import resource
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
from farm.progress import Progress, Worker
from farm.watch import Watch
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
