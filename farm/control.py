"""python farm/control.py list: what runs or ran, and what is to become of it. --help lists everything.

All it knows stands in the folders: renders.parquet, manifest.json, status.json. So it works from another shell, and after the
driver has died. Exit codes: 0; 1 nobody there, or a render failed; 2 the person's mistake.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
HELP = """\
What runs or ran, and what is to become of it. FOLDER is the output of a render or of a sweep, NAME a render in a sweep.

  python farm/control.py list [FOLDER]             submissions in FOLDER (default: renders), newest first
  python farm/control.py show FOLDER [NAME]        every render, or one, as it stands
  python farm/control.py logs FOLDER [NAME ...]    what its chunks did, a line for each; what failed, why
  python farm/control.py cancel FOLDER [NAME ...]  end renders; what is finished stays
  python farm/control.py retry FOLDER [NAME ...]   render what failed, was cancelled or is missing, and nothing else
  python farm/control.py pause FOLDER              finish the calls at hand, let the workers go, and wait
  python farm/control.py resume FOLDER             go on
  python farm/control.py priority FOLDER N         on a cluster, higher ones get their workers first (farm.priority)"""

try:
    from farm import letterbox, overview, records, remote
    from farm.config import RANGES, OutputConfig, SubmitConfig, show, suggest
    from farm.overview import LOG, Entry
    from farm.usage import Parser
    from farm.watch import SUBMISSION
    from renderer.errors import ConfigError, UserError
    from renderer.manifest import read_manifest
except ModuleNotFoundError as missing:
    print(
        f"error: {missing.name} is not installed: run `pip install -e .` in the checkout, or `make demo`",
        file=sys.stderr,
    )
    sys.exit(MISTAKE)

ORDERS = ("cancel", "pause", "resume")
TAIL = 200  # lines of a log


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("do", nargs="?", choices=["list", "show", "logs", "retry", "priority", *ORDERS])
    parser.add_argument("folder", nargs="?", type=remote.local)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args(arguments)
    if given.do not in (None, "list") and given.folder is None:
        raise ConfigError(f"{given.do} what? expected a FOLDER; --help shows what there is")
    return given


# --- what there is ---


def submission(folder: Path) -> list[Entry]:
    """The renders of the submission whose output `folder` is, as they stand. Raises ConfigError where there is none."""
    live = letterbox.is_alive(folder)
    with contextlib.suppress(FileNotFoundError):
        return [overview.look(row, live) for row in records.read(folder / records.NAME).values()]
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None:
        raise ConfigError(
            f"{show(remote.shown(folder))}: neither {records.NAME} nor manifest.json is here; expected the folder of a render or a "
            "sweep, or the URI to which this machine sent one"
        )
    status = overview.read_status(folder)
    state: records.State = (
        "complete" if manifest.state == "complete" else "failed" if status.state == "failed" else "rendering"
    )
    config = SubmitConfig(output=OutputConfig(dir=str(folder)))
    return [overview.look(records.row(folder.absolute().name, state, config, manifest, status.error), live)]


def submissions(folder: Path) -> Iterator[tuple[Path, list[Entry]]]:
    """Those in a folder, or the folder itself, newest first."""
    if not folder.is_dir():
        raise ConfigError(f"{show(remote.shown(folder))}: no such folder here")
    below = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime)
    for path in [folder, *below]:
        with contextlib.suppress(UserError):
            yield path, submission(path)
            if path == folder:
                return


def chosen(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The entries of these names, all where there are none. Raises ConfigError."""
    known = {entry.name: entry for entry in entries}
    for name in names:
        if name not in known:
            raise ConfigError(f"{show(name)}: no such render{suggest(name, known) or '; show FOLDER lists them'}")
    return [known[name] for name in names] if names else list(entries)


# --- what it says ---


def summary(folder: Path, entries: Sequence[Entry]) -> str:
    """How a submission stands, in a few words.

    >>> summary(Path("nowhere"), [])
    'ended'
    """
    counts = overview.totals(entries).counts if entries else {}
    states = [f"{number} {state}" for state, number in counts.items()] if len(entries) > 1 else list(counts)
    if not letterbox.is_alive(folder):
        return ", ".join(["ended", *states])
    return ", ".join(["paused" if about(folder).get("paused") else "running", *states])


def lines(entries: Sequence[Entry]) -> Iterator[str]:
    """One for each render: name, state, how far it is or why it failed."""
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        status, more = entry.status, entry.row["error"] or ""
        if entry.state in ("rendering", "stopped") and status.phase:
            more = f"{status.phase}, step {status.step}/{status.steps}, frame {status.frames_done}/{status.frames}"
            more += f", {len(status.workers)} workers" if entry.state == "rendering" else ""
        yield f"{entry.name:<{width}}  {entry.state:<9}  {more}".rstrip()


def details(entry: Entry) -> Iterator[str]:
    """All that is known of one render."""
    yield f"{'state':<24} {entry.state}"
    for column, value in entry.row.items():
        if value is not None and column not in ("name", "state"):
            yield f"{column:<24} {value}"


def log(entry: Entry) -> Iterator[str]:
    """The end of a render's logs."""
    for path in [entry.folder / name for name in (LOG, "error.log")] if entry.folder else ():
        with contextlib.suppress(FileNotFoundError):
            yield from path.read_text("utf-8", "replace").splitlines()[-TAIL:]
    if entry.row["error"]:
        yield f"error: {entry.row['error']}"


def about(folder: Path) -> dict[str, Any]:
    """Who renders or rendered here, and what was typed; empty where nobody wrote it down."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / SUBMISSION).read_text("utf-8"))
    return {}


# --- what it does ---


def retry(folder: Path, names: Sequence[str]) -> int:
    """Have whoever renders here try again, or else render here. Returns the exit code."""
    entries = chosen(submission(folder), names)
    missing = [entry.name for entry in entries if not is_there(entry)]
    if not missing:
        print("retry: nothing has failed and nothing is missing")
        return 0
    if letterbox.is_alive(folder):
        return order(folder, {"do": "retry", "names": list(names)})
    known = about(folder)
    if not known:
        raise ConfigError(f"{show(folder)}: {SUBMISSION} is not there, so nobody knows the command; give it again")
    from farm import command, resume, submit

    arguments = submit.typed(known["arguments"], folder)
    os.chdir(known["cwd"])  # what was typed may hold relative paths
    if not known["sweep"]:
        return submit.main(arguments)
    given = submit.options(arguments)
    jobs = command.renders(resume.expand(given.settings, given.multirun), given.multirun)
    return submit.sweep(jobs, arguments, only=missing)


def is_there(entry: Entry) -> bool:
    return entry.state == "complete" and entry.folder is not None and (entry.folder / "video.mp4").exists()


def number(words: Sequence[str]) -> int:
    """The priority that somebody typed. Raises ConfigError."""
    low, high = RANGES["farm.priority"]
    with contextlib.suppress(ValueError):
        (value,) = map(int, words)
        if low <= value <= high:
            return value
    raise ConfigError(f"priority {show(' '.join(words))}: expected a whole number from {low} to {high}")


def order(folder: Path, message: dict[str, Any]) -> int:
    """Tell whoever renders into the folder what to do. Returns the exit code."""
    answer = letterbox.post(folder, message)
    if answer is None:
        print(f"{message['do']}: nobody renders into {folder} (any more)", file=sys.stderr)
        return FAILED
    print(answer)
    return 0


def act(given: argparse.Namespace) -> int:
    """Does what the arguments say. Returns the exit code."""
    if given.help or given.do is None:
        print(HELP)
    elif given.do == "list":
        for path, entries in submissions(given.folder or Path("renders")):
            print(f"{remote.shown(path)}: {summary(path, entries)}")
    elif given.do == "retry":
        return retry(given.folder, given.names)
    elif given.do == "priority":
        return order(given.folder, {"do": "priority", "to": number(given.names)})
    else:
        entries = chosen(submission(given.folder), given.names)
        if given.do in ORDERS:
            return order(given.folder, {"do": given.do, "names": given.names})
        if given.do == "logs":
            said = [
                line for entry in entries for line in (*([f"== {entry.name}"] if len(entries) > 1 else []), *log(entry))
            ]
        else:
            said = list(details(entries[0]) if len(entries) == 1 else lines(entries))
        print("\n".join(said))
    return 0


def main(arguments: Sequence[str]) -> int:
    try:
        return act(options(arguments))
    except BrokenPipeError:  # whoever read stdout has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
