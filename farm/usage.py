"""What `--help` says, and what a mistyped command line does. Names, defaults and their lines come from where they are defined."""

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from farm.command import JOBS
from farm.config import CONF, GROUPS, KEYS
from renderer.builtin import BUILTIN
from renderer.errors import ConfigError
from renderer.model import PRESETS
from renderer.vocabulary import help_text


class Parser(argparse.ArgumentParser):
    """One whose mistakes are said in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help shows what there is")


HEAD = """\
An animated 3D scene and a prompt in, a temporally consistent video out.

  python farm/submit.py scene=dancer prompt="a golden statue in a snowy forest"
  python farm/submit.py scene=Fox.glb scene.clip=Walk prompt="a fox made of ice, moonlight" frames=24
  python farm/submit.py -m scene=dancer,turntable prompt='"a lava golem","a knitted toy"'
  python farm/submit.py -m job=materials frames=24

  -m, --multirun   one render of every combination of the values that commas separate; prompts then in quotes
  -c, --cfg job    show the configuration instead of rendering
  -h, --help       this

A prompt is free text, as you type it. The same command with the same output=, or resume=FOLDER, goes on where a render was
interrupted, and leaves a finished one as it is.
FARM_DEBUG=1 in the environment shows where an error comes from."""

SHORT = {f"{name}.name": name for name in ("scene", "model", "method", "farm")} | {
    "noise.kind": "noise",
    "output.dir": "output",
}


def usage() -> str:
    """The whole text, lines of at most about 120 characters."""
    sections = {
        "Scenes (scene=, or a path)": BUILTIN,
        "Models (model=, or a folder or hub id in diffusers layout)": {
            name: preset.description for name, preset in PRESETS.items()
        },
        "Methods (method=)": described(choices("method")),
        "Farms (farm=)": described(choices("farm")),
        "Jobs (-m job=; settings beside it override the job's and add to them)": described(JOBS),
        "Keys, with their defaults": dict(keys()),
    }
    text = [line for title, entries in sections.items() for line in section(title, entries)]
    words = textwrap.indent(help_text(width=110), "  ")
    return "\n".join([HEAD, *text, "", "What model=pocket knows (a prompt word outside it brings a warning):", words])


def section(title: str, entries: Mapping[str, str]) -> Iterator[str]:
    width = min(28, max(map(len, entries)))
    yield from ("", f"{title}:")
    for name, line in entries.items():
        yield f"  {name:<{width}}  {line}"


def choices(group: str) -> dict[str, Path]:
    return {name: CONF / group / f"{name}.yaml" for name in GROUPS[group]}


def described(files: Mapping[str, Path]) -> dict[str, str]:
    """Each file's name with the comment that it begins with."""
    return {name: file.read_text("utf-8").partition("\n")[0].lstrip("# ") for name, file in files.items()}


def keys() -> Iterator[tuple[str, str]]:
    for path, spec in KEYS.items():
        default = spec.default if isinstance(spec.default, str) else json.dumps(spec.default)
        yield f"{SHORT.get(path, path)}={default}", spec.help
