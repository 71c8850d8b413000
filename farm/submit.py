"""python farm/submit.py scene=dancer prompt="a golden statue": one command, one clip. --help lists everything.

Exit codes: 0; 1 a render failed; 2 the person's mistake; 130 interrupted.
"""

import argparse
import contextlib
import dataclasses
import datetime
import os
import shlex
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.records import State
    from farm.watch import Watch
    from farm.workshop import Workshop

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
NOW = datetime.datetime.now()

try:
    from omegaconf import OmegaConf

    from farm import command, remote, resume
    from farm.config import SubmitConfig, default_folder, is_uri, make_folder, validate
    from farm.progress import Progress
    from farm.usage import Parser, usage
    from renderer import vocabulary
    from renderer.errors import ConfigError, RenderError, UserError
except ModuleNotFoundError as missing:
    print(
        f"error: {missing.name} is not installed: run `pip install -e .` in the checkout, or `make demo`",
        file=sys.stderr,
    )
    sys.exit(MISTAKE)
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job"])
    parser.add_argument("settings", nargs="*")
    return parser.parse_intermixed_args(arguments)


def prepare(overrides: Sequence[str], subfolder: str | None = None) -> SubmitConfig:
    """The checked configuration of one render, its output folder chosen (in a sweep below the sweep's). Raises a UserError.

    A scene at a URI is fetched; an output at a URI becomes the folder from which it goes there.
    """
    config = command.configure(overrides)
    validate(config)
    output = config.output.dir or default_folder(config, NOW, sweep=subfolder is not None)
    folder = remote.local(output) / (subfolder or "")
    remote.check_cache()
    remote.scene(config.scene.name, config.remote.limit)
    return dataclasses.replace(config, output=dataclasses.replace(config.output, dir=str(folder)))


def single(config: SubmitConfig, arguments: Sequence[str]) -> Path:
    """Renders one configuration into its folder; returns the video's path. Raises UserError, or what else went wrong.

    arguments: as the person typed them.
    """
    from farm import records
    from farm.mirror import mirrored
    from farm.watch import CancelledError, Watch  # brings pyarrow

    folder = Path(str(config.output.dir))
    name = folder.absolute().name
    rows = {name: records.row(name, "waiting", config)}
    with (
        mirrored(folder, config.remote.limit) as bring,
        Watch(folder, rows, False, typed(arguments, folder), config) as watch,
    ):
        bring(folder)
        try:
            video = submit(config, name, watch)
        except Exception as error:
            watch.tell(name, "cancelled" if isinstance(error, CancelledError) else "failed", config, one_line(error))
            raise
        watch.tell(name, "complete", config)
        return video


def typed(arguments: Sequence[str], folder: Path) -> list[str]:
    """What the person would type to go on with what goes to `folder`."""
    others = [argument for argument in arguments if not argument.startswith("output=")]
    return [*others, f"output={remote.shown(folder.absolute())}"]


def submit(config: SubmitConfig, name: str, watch: "Watch", workshop: "Workshop | None" = None) -> Path:
    """Renders one configuration into its folder, watched; returns the video's path. Raises UserError, or what else went wrong.

    workshop: of a sweep.
    """
    assert config.output.dir is not None
    folder = Path(config.output.dir)
    ours = not folder.exists()
    make_folder(folder)
    for line in warnings(config):
        print(f"warning: {line}", file=sys.stderr)
    try:
        from farm import driver  # brings Ray and torch, so it comes after everything that can be checked without them

        shown, begun = name if workshop else "", partial(watch.tell, name, "rendering", config)
        with Progress(folder, config.frames, shown, watch.screen, begun, partial(watch.check, name)) as progress:
            watch.check(name)
            return driver.submit(config, progress, workshop, watch.standing)
    except KeyboardInterrupt as error:
        error.add_note(
            f"what is finished stays; the same command with {shlex.quote(f'output={remote.shown(folder)}')} goes on"
        )
        raise
    except Exception as error:
        if not isinstance(error, (UserError, RenderError)):
            log = folder / "error.log"
            log.write_text("".join(traceback.format_exception(error)), "utf-8", "backslashreplace")
            error.add_note(f"see {log}")
        raise
    finally:
        if ours:
            with contextlib.suppress(OSError):
                folder.rmdir()  # goes only if nothing has come into it


def warnings(config: SubmitConfig) -> Iterator[str]:
    """What the person should hear before a render: words that the embedded model does not know."""
    if config.model.name == "pocket" and config.model.base is None:
        line = vocabulary.warning(config.prompt)
        if line is not None:
            yield line


def sweep(jobs: Sequence[Sequence[str]], arguments: Sequence[str], only: Collection[str] | None = None) -> int:
    """Renders all jobs on one farm, each into its own folder. One that fails fails alone. Returns the exit code.

    arguments: as the person typed them. only: names of those to render, where the others are to stay as they are.
    """
    names = command.names(jobs)
    jobs = [job for name, job in zip(names, jobs, strict=True) if only is None or name in only]
    names = [name for name in names if only is None or name in only]
    outcomes: dict[str, Path | Exception] = {}
    configs: dict[str, SubmitConfig] = {}
    for name, job in zip(names, jobs, strict=True):
        try:
            configs[name] = prepare(job, name)
        except UserError as error:
            report(error, name)
            outcomes[name] = error
    lost = 0
    if configs:
        try:
            render_all(names, configs, outcomes, arguments, only is not None)
        except RenderError as error:  # what is finished has not reached its URI
            lost = report(error)
    for name in names:
        outcome = outcomes[name]
        said = f"failed, {one_line(outcome)}" if isinstance(outcome, Exception) else remote.shown(outcome)
        print(f"{name}: {said}")
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    if len(failures) == len(jobs) and all(isinstance(failure, UserError) for failure in failures):
        return MISTAKE
    return FAILED if failures else lost


def render_all(
    names: Sequence[str],
    configs: dict[str, SubmitConfig],
    outcomes: dict[str, Path | Exception],
    arguments: Sequence[str],
    others: bool,
) -> None:
    """The renders of a sweep that can begin. outcomes: what is known of those that cannot; those of these are added.

    others: whether the sweep has more renders, which stay as they are.
    """
    from farm import records
    from farm.mirror import mirrored
    from farm.sweep import run
    from farm.watch import CancelledError, Watch  # brings pyarrow

    folders = {Path(str(config.output.dir)).absolute().parent for config in configs.values()}
    if len(folders) > 1 and any(is_uri(remote.shown(folder)) for folder in folders):
        raise ConfigError("output= names several places: expected one URI for all renders of a sweep")
    folder = Path(os.path.commonpath(folders))
    make_folder(folder)
    rows = {name: records.row(name, "waiting", None) for name in names}
    rows |= {name: records.row(name, "waiting", config) for name, config in configs.items()}
    rows |= {name: records.row(name, "failed", None, None, str(error)) for name, error in outcomes.items()}

    def render(name: str, workshop: "Workshop") -> Path:
        bring(Path(str(configs[name].output.dir)))
        return submit(configs[name], name, watch, workshop)

    def ended(name: str, outcome: Path | Exception) -> None:
        outcomes[name] = outcome
        error = one_line(outcome) if isinstance(outcome, Exception) else None
        state: State = "cancelled" if isinstance(outcome, CancelledError) else "failed" if error else "complete"
        watch.tell(name, state, configs[name], error)
        if isinstance(outcome, Exception):
            report(outcome, name)
        else:
            watch.screen.note(f"{name}: {remote.shown(outcome)} ({len(outcomes)} of {len(names)})")

    before = records.read(folder / records.NAME) if others else {}
    first, wanted = next(iter(configs.values())), set(configs)
    with (
        mirrored(folder, first.remote.limit) as bring,
        Watch(folder, before | rows, True, typed(arguments, folder), first) as watch,
    ):
        while wanted:
            run({name: configs[name] for name in configs if name in wanted}, folder, render, ended, watch.standing)
            wanted = watch.take_again() & set(configs)


def one_line(error: BaseException) -> str:
    """What went wrong, and where the rest stands."""
    if isinstance(error, (UserError, RenderError)):
        return "; ".join([remote.shown(error), *getattr(error, "__notes__", [])])
    what = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return f"unexpected {type(error).__name__}: {what} ({'; '.join(getattr(error, '__notes__', ['FARM_DEBUG=1 shows where']))})"


def report(error: BaseException, name: str = "") -> int:
    """One line on stderr. Returns the exit code."""
    if os.environ.get("FARM_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        print("; ".join(["interrupted", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return INTERRUPTED
    print(f"error: {name}{': ' if name else ''}{one_line(error)}", file=sys.stderr)
    return MISTAKE if isinstance(error, UserError) else FAILED


def main(arguments: Sequence[str]) -> int:
    """Does what the arguments say. Returns the exit code."""
    try:
        given = options(arguments)
        if given.help:
            print(usage())
            return 0
        jobs = command.renders(resume.expand(given.settings, given.multirun), given.multirun)
        if given.cfg:
            shown = [OmegaConf.create(dataclasses.asdict(command.configure(job))) for job in jobs]
            print("---\n".join(map(OmegaConf.to_yaml, shown)), end="")
            return 0
        if given.multirun:
            return sweep(jobs, arguments)
        print(f"video: {remote.shown(single(prepare(jobs[0]), arguments))}")
        return 0
    except BrokenPipeError:  # whoever read stdout has gone, as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        return report(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
