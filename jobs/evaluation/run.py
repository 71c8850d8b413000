"""An evaluation from its grid to its folder: clips rendered on one farm, measured as they finish, then summarised."""

import contextlib
import functools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from farm import driver, sweep
from farm.config import SubmitConfig, leaves, make_folder
from farm.records import lookup
from farm.submit import one_line, report
from jobs.evaluation.clips import NAME, Examiner, Silent
from jobs.evaluation.grid import Clip, Grid
from jobs.evaluation.judge import CLIP, Judge
from jobs.evaluation.prepare import prepare
from jobs.evaluation.summary import markdown, relative, summarise, table
from renderer.config import RenderConfig
from renderer.errors import ConfigError, UserError
from renderer.files import atomic, write_json
from renderer.manifest import read_manifest
from renderer.model import ModelSpec, model_spec, weights_hash
from renderer.plan import WORK

if TYPE_CHECKING:
    from farm.workshop import Workshop

CLEAR, PEAK, MB = Path("/proc/self/clear_refs"), Path("/proc/self/status"), 2**20


def evaluate(grid: Grid, share: Mapping[Clip, SubmitConfig]) -> int:
    """Renders and measures this command's share of the clips, then, where all are there, writes the summary.

    share: the configurations of grid.share(). Returns how many clips failed.
    """
    if grid.prepare:
        prepare([*share.values()], grid.output / WORK, grid.prepare)
        return 0
    if not share:
        print(f"part={'/'.join(map(str, grid.part))}: no clip of {len(grid.clips())} is in this share")
        return 0
    model = next(iter(share.values())).model
    examiner = Examiner(Judge("pocket" if model.name == "pocket" else CLIP), grid.prompts)
    make_folder(grid.output)
    configs = {clip.name: config for clip, config in share.items()}
    begun, outcomes = time.perf_counter(), dict[str, sweep.Outcome]()

    def ended(name: str, outcome: sweep.Outcome) -> None:
        outcomes[name] = outcome
        if isinstance(outcome, Exception):
            report(outcome, name)
        else:
            seconds = time.perf_counter() - begun
            print(f"{seconds:7.1f} s  {name} ({len(outcomes)} of {len(configs)})", file=sys.stderr, flush=True)

    # Shares find each other's G-buffers, so none may throw them away: the command for the whole does.
    if grid.render:
        whole = grid.part == (1, 1)
        sweep.run(configs, grid.output, partial(render, configs, examiner), ended, clear=whole)
    failures = {name: error for name, error in outcomes.items() if isinstance(error, Exception)}
    if grid.part == (1, 1):
        finish(grid, {clip: config for clip, config in share.items() if done(config)}, examiner)
    for name, error in failures.items():
        print(f"{name}: failed, {one_line(error)}")
    return len(failures)


def render(configs: Mapping[str, SubmitConfig], examiner: Examiner, name: str, workshop: "Workshop") -> Path:
    """One clip, rendered and measured, as far as that is not done; returns the path of its video."""
    config = configs[name]
    if done(config):
        return Path(str(config.output.dir)) / "video.mp4"
    make_folder(Path(str(config.output.dir)))
    forget_peak()
    video = driver.submit(config, Silent(), workshop)  # type: ignore[arg-type]  # it is all that is asked of Progress
    examiner.measure(config, peak_memory(config))
    return video


def done(config: SubmitConfig) -> bool:
    """Has this very clip been rendered and measured? Asked without its scene, which takes longer for a thousand clips."""
    folder = Path(str(config.output.dir))
    try:
        manifest = read_manifest(folder)
    except UserError:
        return False
    if manifest is None or manifest.state != "complete" or not (folder / NAME).exists():
        return False
    typed = {path: value for path, value in settings(config) if value not in (None, "auto") and path != "resolution"}
    kept = all(lookup(manifest.config, path) == value for path, value in typed.items())
    return kept and manifest.constants["weights"] == weights(model_spec(config.model))


def settings(config: SubmitConfig) -> Iterator[tuple[str, Any]]:
    """Path and value of everything that pixels depend on."""
    tree = asdict(config)
    for path, _ in leaves(RenderConfig):
        yield path, lookup(tree, path)


@functools.cache
def weights(model: ModelSpec) -> str:
    """The hash of a model's weights, read once."""
    return weights_hash(model)


def forget_peak() -> None:
    """From here on `peak_memory` counts anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


def peak_memory(config: SubmitConfig) -> float:
    """MB that a render in this process took at most: of the GPU, or of the process where there is none. NaN for Ray's workers."""
    if config.farm.name != "inline":
        return nan
    if torch.cuda.is_available() and config.model.device != "cpu":
        return torch.cuda.max_memory_allocated() / MB
    with contextlib.suppress(OSError):
        lines = (line.split() for line in PEAK.read_text().splitlines())
        return next((int(words[1]) / 1024 for words in lines if words[0] == "VmHWM:"), nan)
    return nan


def finish(grid: Grid, configs: Mapping[Clip, SubmitConfig], examiner: Examiner) -> None:
    """summary.json, table.md, clips.parquet, frames.parquet, plots and the page, from all clips; prints the table."""
    from jobs.evaluation.page import write_page
    from jobs.evaluation.plots import write_plots

    if not configs:
        raise ConfigError(f"output={grid.output}: no clip of this evaluation is finished there")
    configs = balanced(configs, len(grid.methods))
    measured = {clip: examiner.measure(config) for clip, config in configs.items()}
    names = {
        clip: {"scene": clip.scene, "prompt": clip.prompt, "seed": clip.seed, "method": clip.method}
        for clip in measured
    }
    rows = relative([names[clip] | found["row"] for clip, found in measured.items()], grid.reference)
    write_parquet(
        grid.output / "clips.parquet",
        [row | {"folder": f"clips/{clip.name}"} for row, clip in zip(rows, measured, strict=True)],
    )
    frames = [
        names[clip] | {"frame": frame} | dict(zip(found["frames"], values, strict=True))
        for clip, found in measured.items()
        for frame, values in enumerate(zip(*found["frames"].values(), strict=True))
    ]
    write_parquet(grid.output / "frames.parquet", frames)
    methods = summarise(rows, list(grid.methods), grid.baseline)
    summary = {
        "command": " ".join(["python jobs/evaluate.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device(configs),
        "clips": len(rows),
        "scenes": list(grid.scenes),
        "prompts": list(grid.prompts),
        "seeds": list(grid.seeds),
        "settings": list(grid.settings),
        "baseline": grid.baseline,
        "reference": grid.reference,
        "methods": methods,
    }
    write_json(grid.output / "summary.json", summary)
    with atomic(grid.output / "table.md") as part:
        part.write_text(markdown(summary), "utf-8")
    print(table(methods, grid.baseline))
    write_plots(grid.output, summary, frames)
    write_page(grid, summary)
    print(f"page: {grid.output / 'index.html'}")


def balanced(configs: Mapping[Clip, SubmitConfig], methods: int) -> dict[Clip, SubmitConfig]:
    """The clips of those scenes, prompts and seeds that all methods have, or all clips where there are none such: a run that
    was cut off compares no method on easy scenes with another on hard ones."""
    counts = Counter((clip.scene, clip.prompt, clip.seed) for clip in configs)
    whole = {clip: config for clip, config in configs.items() if counts[clip.scene, clip.prompt, clip.seed] == methods}
    if len(whole) < len(configs):
        print(f"{len(configs)} clips, of which {len(whole)} are of scenes, prompts and seeds that all methods have")
    return whole or dict(configs)


def device(configs: Mapping[Clip, SubmitConfig]) -> str:
    """What the clips were rendered on."""
    manifests = (read_manifest(Path(str(config.output.dir))) for config in configs.values())
    return ", ".join(sorted({manifest.device for manifest in manifests if manifest}))


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic(path) as part:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), part)
