"""Speed of the main job on this machine, always against a baseline of the same run.

python jobs/benchmark.py gbuffer            a G-buffer of the dancer (20k triangles) at 512², one thread, against trimesh's rays
python jobs/benchmark.py main               the phases of a render, inline and on Ray, and what Ray and its I/O add to them
python jobs/benchmark.py main frames=8 ...  any key of farm/submit.py; repeats=N (default 3)
python jobs/benchmark.py farm ...           what the driver costs a chunk and a second, and how busy CPU workers are
python jobs/benchmark.py gpus ...           sweeps and a long clip on 1, 2 and 4 GPUs, with the size of Stable Diffusion 1.5
python jobs/benchmark.py memory frames=2000 ...  memory of driver and workers, against a clip of a quarter of the frames
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Read when numpy is first imported: one thread for all but torch, here, in every render, and so with Ray's workers, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers give way to everything else on a machine; a process without Ray does not.
os.environ.setdefault("RAY_worker_niceness", "0")

SIDE = 512
SUBMIT = Path(__file__).parents[1] / "farm" / "submit.py"


def gbuffer(repeats: int) -> None:
    """Embree and the shared gather, called as the main job does; the baseline finds only which triangle each pixel shows."""
    import numpy as np
    import trimesh

    from renderer.atlas import atlases
    from renderer.camera import camera_path
    from renderer.config import SceneConfig
    from renderer.gbuffer import gather
    from renderer.load import load_scene
    from renderer.plan import geometry
    from renderer.rasterise import rasterise

    config = SceneConfig(name="dancer")
    scene = load_scene(config, fps=12)
    (camera,) = camera_path(scene, config.camera, [0.5], (SIDE, SIDE))
    mesh = geometry(scene, config, atlases(scene))
    vertices = np.concatenate(scene.at(0.5))

    def ours() -> None:
        gather(mesh, vertices, camera, rasterise(vertices, mesh.faces, camera, (SIDE, SIDE)))

    def baseline() -> None:
        rays = camera.rays((SIDE, SIDE)).reshape(-1, 3)
        caster = trimesh.Trimesh(vertices, mesh.faces, process=False).ray
        caster.intersects_first(np.broadcast_to(camera.position, rays.shape), rays)

    a, b = alternate(ours, baseline, repeats)
    print(f"G-buffer, {len(mesh.faces)} triangles, {SIDE}², one thread, {repeats} runs: median (min-max) in ms")
    print(f"  ours                       {spread(a)}")
    print(f"  trimesh, triangle ids only {spread(b)}")
    print(f"  ratio {statistics.median(a) / statistics.median(b):.2f}")


def main_job(settings: Sequence[str], repeats: int) -> None:
    """The same render inline and on one Ray worker with as many threads, in turn.

    Each has a process of its own, so that both meet code, weights and network for the first time. Set-up (starting Ray,
    importing, loading scene and model) is shown apart and does not count; ending Ray is in no phase.
    """
    settings = ["frames=8", "steps=4", "chunk=4", *settings]
    inline, ray = [], []
    for _ in range(repeats):
        inline.append(timings([*settings, "farm=inline"]))
        ray.append(timings([*settings, "farm=local", "farm.workers=1"]))
    print(f"{' '.join(settings)}; {repeats} pairs of renders, each in a process of its own; median seconds")
    print(f"  {'phase':<12}{'inline':>8}{'Ray':>8}{'ratio':>8}")
    for phase in inline[0]:
        a, b = (statistics.median(run[phase] for run in runs) for runs in (inline, ray))
        print(f"  {phase:<12}{a:8.2f}{b:8.2f}{'  does not count' if phase == 'set-up' else f'{b / a:8.2f}'}")
    totals = [[sum(run.values()) - run["set-up"] for run in runs] for runs in (inline, ray)]
    ratios = [b / a for a, b in zip(*totals, strict=True)]
    a, b = map(statistics.median, totals)
    print(
        f"  {'the rest':<12}{a:8.2f}{b:8.2f}{statistics.median(ratios):8.2f}  ({min(ratios):.2f}-{max(ratios):.2f} by pair)"
    )


def timings(settings: Sequence[str]) -> dict[str, float]:
    """Seconds per phase of one render by farm/submit.py, as its manifest has them."""
    from renderer.manifest import read_manifest

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        subprocess.run([sys.executable, SUBMIT, *settings, f"output={folder}"], check=True, capture_output=True)
        manifest = read_manifest(Path(folder))
        assert manifest is not None
        return manifest.timings


def alternate(a: Callable[[], None], b: Callable[[], None], repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of two functions called in turn, after a warm-up of each."""
    a()
    b()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, taken in zip((a, b), times, strict=True):
            begun = time.perf_counter()
            function()
            taken.append(1e3 * (time.perf_counter() - begun))
    return times


def spread(milliseconds: Sequence[float]) -> str:
    return f"{statistics.median(milliseconds):7.1f} ({min(milliseconds):.1f}-{max(milliseconds):.1f})"


if __name__ == "__main__":
    words = [word for word in sys.argv[2:] if not word.startswith("repeats=")]
    count = next((int(word.partition("=")[2]) for word in sys.argv[2:] if word.startswith("repeats=")), 0)
    match sys.argv[1:2]:
        case ["gbuffer"] if not words:
            gbuffer(count or 20)
        case ["main"]:
            main_job(words, count or 3)
        case ["farm"]:
            from jobs.farm_benchmark import driver_overhead

            driver_overhead(words)
        case ["gpus"]:
            from jobs.gpu_benchmark import gpus

            gpus(words)
        case ["memory"]:
            from jobs.farm_benchmark import memory

            frames = next((int(word.partition("=")[2]) for word in words if word.startswith("frames=")), 2000)
            memory([word for word in words if not word.startswith("frames=")], frames)
        case _:
            sys.exit(__doc__)
