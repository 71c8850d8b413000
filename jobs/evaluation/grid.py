"""What is rendered: a preset of jobs/evaluation/presets and what the command line changes of it, as one Clip per render."""

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from farm import command
from farm.config import GROUPS, SubmitConfig, check_choice, is_uri, show, slug, validate
from jobs.evaluation.preset import find, read
from renderer.errors import ConfigError

KEYS = ("preset", "output", "part", "prepare", "render", "baseline", "methods", "scenes", "prompts", "seeds")

EXPECTED = {"seeds": "whole numbers separated by commas", "prepare": "a number of processes"}


@dataclass(frozen=True)
class Clip:
    """One render of an evaluation: the names of what it is of, and its settings as typed for farm/submit.py."""

    scene: str
    prompt: str
    seed: int
    method: str
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{slug(self.scene)}_{slug(self.prompt)}_{self.seed}_{slug(self.method)}"


@dataclass(frozen=True)
class Grid:
    """Every combination of these. scenes, methods: names and their settings. baseline, reference: see Preset.

    part: (i, n), the i-th of n shares of the clips, from 1. prepare: processes that make what clips of one scene share, and nothing
    else; 0: clips are made. render: whether clips are rendered; else what is there is summarised.
    """

    preset: str
    scenes: Mapping[str, Sequence[str]]
    prompts: Sequence[str]
    seeds: Sequence[int]
    methods: Mapping[str, Sequence[str]]
    settings: Sequence[str]
    baseline: str
    reference: str
    output: Path
    part: tuple[int, int]
    prepare: int
    render: bool

    def clips(self) -> list[Clip]:
        """All clips, scene by scene, so that a share of them meets few scenes."""
        return [
            Clip(scene, prompt, seed, method, (*self.settings, *self.scenes[scene], *self.methods[method]))
            for scene, prompt, seed, method in itertools.product(self.scenes, self.prompts, self.seeds, self.methods)
        ]

    def share(self) -> list[Clip]:
        """The clips that this command renders: a run of them, of n as equal as can be."""
        clips, (number, count) = self.clips(), self.part
        return clips[len(clips) * (number - 1) // count : len(clips) * number // count]

    def configs(self, clips: Sequence[Clip]) -> dict[Clip, SubmitConfig]:
        """The checked configuration of each clip, below the output folder. Raises ConfigError."""
        composed: dict[tuple[str, ...], SubmitConfig] = {}
        found = {}
        for clip in clips:
            if clip.settings not in composed:
                (overrides,) = command.renders(clip.settings)
                composed[clip.settings] = command.configure(overrides)
            config = composed[clip.settings]
            config = replace(config, prompt=clip.prompt, seed=clip.seed)
            config = replace(config, output=replace(config.output, dir=str(self.output / "clips" / clip.name)))
            validate(config)
            found[clip] = config
        return found


def parse(arguments: Sequence[str]) -> Grid:
    """The grid that a command line asks for. Raises ConfigError, one line, for the first mistake."""
    given: dict[str, str] = {}
    settings = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{show(argument)}: expected key=value; --help lists the keys")
        if key in KEYS:
            given[key] = value
        elif key in ("scene", "prompt", "method", "seed"):
            raise ConfigError(f"{argument}: an evaluation has several: expected {key}s={value}")
        else:
            command.normalise(argument)  # raises for a key that there is not
            settings.append(argument)
    if is_uri(given.get("output", "")):
        raise ConfigError(f"output={given['output']}: expected a folder; an evaluation goes to no URI")
    path = find(given.get("preset", "table"))
    preset = read(path)
    every = {name: [f"method={name}"] for name in GROUPS["method"]}
    methods = words(preset.methods) or every
    usual, typed = shlex.split(preset.settings), {setting.partition("=")[0] for setting in settings}
    grid = Grid(
        preset=path.stem,
        scenes=pick(given, "scenes", words(preset.scenes), {}),
        prompts=command.items("prompt", given["prompts"]) if "prompts" in given else preset.prompts,
        seeds=[whole("seeds", word) for word in given["seeds"].split(",")] if "seeds" in given else preset.seeds,
        methods=pick(given, "methods", methods, every),
        settings=[*(word for word in usual if word.partition("=")[0] not in typed), *settings],
        baseline=given.get("baseline", preset.baseline),
        reference=preset.reference,
        output=Path(given.get("output", f"renders/evaluate-{path.stem}")),
        part=share(given.get("part", "1/1")),
        prepare=whole("prepare", given.get("prepare", "0")),
        render=given.get("render", "true") == "true",
    )
    check_choice("render", given.get("render", "true"), ("true", "false"))
    check_choice("baseline", grid.baseline, list(grid.methods))
    if len({clip.name for clip in grid.clips()}) < len(grid.clips()):
        raise ConfigError("two of the scenes, prompts or methods have names that make the same folder")
    return grid


def words(lines: Mapping[str, str]) -> dict[str, list[str]]:
    """Names and the settings of each, which a preset writes as on a command line."""
    return {name: shlex.split(line) for name, line in lines.items()}


def pick(
    given: Mapping[str, str], key: str, usual: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    """The names that the command line asks for, or the usual ones, with their settings. A scene may be one that has no name yet."""
    if key not in given:
        return dict(usual)
    known = {**others, **usual}
    names = command.items("scene.name", given[key])
    if len(set(names)) < len(names):
        raise ConfigError(f"{key}={show(given[key])}: one is given twice")
    for name in names:
        if key == "methods":
            check_choice(key, name, known)
    return {name: known.get(name, [f"scene={name}"]) for name in names}


def whole(key: str, text: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigError(f"{key}={show(text)}: expected {EXPECTED[key]}")
    return int(text)


def share(text: str) -> tuple[int, int]:
    """i/n as two numbers.

    >>> share("2/4")
    (2, 4)
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"part={show(text)}: expected i/n with i from 1 to n, such as 2/4")
    return int(number), int(count)
