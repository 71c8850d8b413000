"""The command line, from what the person typed to one SubmitConfig per render.

Hydra composes the configuration, but its grammar is not for free text, and OmegaConf reads `${…}` and `???` in what comes
through. So text crosses both of them as hexadecimal digits, and nothing in it can mean anything on the way.
"""

import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from farm.config import CONF, GROUPS, KEYS, SubmitConfig, check_choice, show, slug, suggest
from renderer.errors import ConfigError

ALIASES = {
    "scene": "scene.name",
    "model": "model.name",
    "noise": "noise.kind",
    "output": "output.dir",
    "method.name": "method",
    "farm.name": "farm",
    "ray.address": "farm.address",
    "ray.runtime_env": "farm.runtime_env",
}
WHOLE = ("prompt", "negative_prompt", "output.dir", "farm.runtime_env")  # a comma in these separates nothing
SPEAKING = ("prompt", "method", "model.name", "noise.kind")  # whose values need no key beside them in a folder's name
EXPECTED: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
MARK = "%text%"

# Named sweeps: `-m job=materials` is jobs/materials.yaml.
JOBS = {path.stem: path for path in sorted(CONF.with_name("jobs").glob("*.yaml"))}

ConfigStore.instance().store(name="schema", node=SubmitConfig)


def renders(arguments: Sequence[str], sweep: bool = False) -> list[list[str]]:
    """Hydra's overrides of each render that `arguments` (key=value as typed) ask for: one, or with `sweep` their product.

    >>> renders(["scene=dancer,fish", "seed=range(2)"], sweep=True)[3][1]
    'seed=1'
    """
    overrides = expand(arguments, sweep)
    chosen = {override.partition("=")[0] for override in overrides}
    if "farm.address" in chosen and "farm" not in chosen:
        overrides.append("farm=cluster")
    with hydra():
        parsed = [parse(override, GlobalHydra.instance().config_loader()) for override in overrides]
        for override in parsed:
            if override.is_sweep_override() and not sweep:
                hint = ", or write resolution=[W,H]" if override.key_or_group == "resolution" else ""
                raise ConfigError(f"{show(override.input_line)} is several values: add -m for one render of each{hint}")
        if not sweep:
            return [overrides]
        try:
            jobs = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
            return [list(job) for job in dict.fromkeys(map(tuple, jobs))]  # a value given twice is one render
        except HydraException as error:
            raise ConfigError(one_line(error)) from error


def expand(arguments: Sequence[str], sweep: bool) -> list[str]:
    """The overrides of `arguments`, with job=NAME replaced by what that job sets and nobody has typed.

    Without `sweep` a job is a mistake, as commas are, and does not imply it: the same text in quotes and commas would
    then be one prompt or several, depending on a word elsewhere on the line.
    """
    jobs = [argument.partition("=")[2] for argument in arguments if argument.startswith("job=")]
    typed = [normalise(argument, sweep) for argument in arguments if not argument.startswith("job=")]
    if not jobs:
        return typed
    settings = job_settings(jobs[0])
    if not sweep:
        raise ConfigError(f"job={jobs[0]} is several renders: add -m")
    if len(jobs) > 1:
        raise ConfigError(f"job= is given {len(jobs)} times: expected one job; each is a command of its own")
    try:
        overrides = [normalise(setting, sweep) for setting in settings]
    except ConfigError as error:
        raise ConfigError(f"jobs/{jobs[0]}.yaml: {error}") from error
    chosen = {override.partition("=")[0] for override in typed}
    return [override for override in overrides if override.partition("=")[0] not in chosen] + typed


def job_settings(job: str) -> list[str]:
    """What a named sweep sets, as a person would type it: fixed settings, then hydra.sweeper.params. Raises ConfigError.

    >>> job_settings("methods")[1:]
    ['scene=dancer,fish,turntable', 'method=per_frame,paper,generative_rendering']
    """
    check_choice("job", job, JOBS)
    try:
        # Of YAML's types only text, so that a value means here what it means on the command line.
        fixed = yaml.load(JOBS[job].read_text("utf-8"), yaml.BaseLoader)
        swept = fixed.pop("hydra")["sweeper"]["params"]
        settings = [*fixed.items(), *swept.items()]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"jobs/{job}.yaml: expected YAML with hydra: sweeper: params: {{key: values}}") from error
    for key, value in settings:
        if not isinstance(value, str):
            raise ConfigError(
                f"jobs/{job}.yaml: {key}={show(value)}: expected text as on the command line, such as a,b"
            )
    return [f"{key}={value}" for key, value in settings]


def configure(overrides: Sequence[str]) -> SubmitConfig:
    """The typed configuration of one render, from conf/ and one of the lists of `renders`. Raises ConfigError."""
    for override in overrides:
        group, _, choice = override.partition("=")
        if group in GROUPS:
            check_choice(group, choice, GROUPS[group])
    try:
        with hydra():
            return decode(OmegaConf.to_object(compose("submit", overrides=list(overrides))))
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, overrides) from error


def normalise(argument: str, sweep: bool = False) -> str:
    """One `key=value` as typed, as the override that Hydra reads the same way. Raises ConfigError for an unknown key.

    >>> normalise("seed=3"), normalise("scene=fish"), normalise("prompt=a, b")
    ('seed=3', 'scene.name=%text%66697368', 'prompt=%text%612c2062')
    """
    typed, equals, value = argument.partition("=")
    if not equals:
        raise ConfigError(f'{show(argument)} is not key=value; text with spaces needs quotes: prompt="a golden statue"')
    path = typed.lstrip("+")  # there is no key to add that is not there already
    path = ALIASES.get(path, path)
    if path not in KEYS and path not in GROUPS and not any(known.startswith(f"{path}.") for known in KEYS):
        known = ["job", "resume", *KEYS, *ALIASES, *GROUPS]
        raise ConfigError(f"unknown key {show(typed)}{suggest(path, known) or '; --help lists them'}")
    if path not in KEYS or KEYS[path].type is not str:
        return f"{path}={value}"
    texts = items(path, value) if sweep else [value]
    null = KEYS[path].optional
    return f"{path}={','.join(text if null and text == 'null' else encode(text) for text in texts)}"


def items(path: str, value: str) -> list[str]:
    """The texts that a value sweeps over: of quoted ones separated by commas each; else a prompt is one as it stands.

    >>> items("prompt", '"a lava golem","a knitted toy"'), items("prompt", "a fox, moonlight"), items("scene.name", "dancer,fish")
    (['a lava golem', 'a knitted toy'], ['a fox, moonlight'], ['dancer', 'fish'])
    """
    try:
        *elements, _ = parse(f"{path}={value},''").sweep_iterator()  # the item more makes a list of a single one too
    except ConfigError:
        elements = []
    texts = [element.text for element in elements if isinstance(element, QuotedString)]
    if texts and len(texts) == len(elements):
        return texts
    if path in WHOLE or os.path.exists(value):
        return [value]
    try:
        return next(csv.reader([value], skipinitialspace=True), [""])
    except csv.Error:
        raise ConfigError(f"{path}={show(value)}: expected names or paths separated by commas") from None


def encode(text: str) -> str:
    """Text as a word that means itself in Hydra's grammar and to OmegaConf."""
    return MARK + text.encode("utf-8", "surrogateescape").hex()


def decode(config: Any) -> Any:
    """Undoes `encode` in all fields of a dataclass, in place."""
    for name, value in vars(config).items():
        if dataclasses.is_dataclass(value):
            decode(value)
        elif isinstance(value, str):
            setattr(config, name, decode_text(value))
    return config


def decode_text(value: str) -> str:
    """The text of `encode`; any other as it is."""
    if not value.startswith(MARK):
        return value
    return bytes.fromhex(value.removeprefix(MARK)).decode("utf-8", "surrogateescape")


@contextmanager
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def parse(override: str, config_loader: ConfigLoader | None = None) -> Override:
    try:
        return OverridesParser.create(config_loader).parse_overrides([override])[0]
    except HydraException as error:
        path, _, value = override.partition("=")
        raise ConfigError(f"{path}={show(value)}: expected {expected(path)}") from error


def explain(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Hydra's and OmegaConf's reports, several lines each, as one."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    path = getattr(cause, "full_key", None)
    for override in overrides:
        key, _, value = override.partition("=")
        if key == path:
            return ConfigError(f"{path}={show(value)}: expected {expected(path)}")
    if path:
        return ConfigError(f"unknown key {path}{suggest(path, KEYS) or '; --help lists them'}")
    return ConfigError(one_line(cause))


def expected(path: str) -> str:
    if path in GROUPS:
        return f"one of {', '.join(GROUPS[path])}"
    if path not in KEYS:
        return "{key: value, ...}"
    return EXPECTED.get(KEYS[path].type, "N or [W,H]") + (" or null" if KEYS[path].optional else "")


def one_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """A folder name for each render of a sweep, from the values that tell it from the others; all different.

    >>> names(renders(["scene=fish", 'prompt="a lava golem","ice"', "seed=1,2"], sweep=True))[:2]
    ['a-lava-golem_seed-1', 'a-lava-golem_seed-2']
    """
    swept = [len(set(column)) > 1 for column in zip(*jobs, strict=True)]
    found = ["_".join(label(override) for override, s in zip(job, swept, strict=True) if s) or "render" for job in jobs]
    return [
        f"{name}_{hashlib.sha256(' '.join(job).encode()).hexdigest()[:8]}" if found.count(name) > 1 else name
        for name, job in zip(found, jobs, strict=True)
    ]


def label(override: str) -> str:
    path, _, value = override.partition("=")
    text = decode_text(value)
    if path == "scene.name":
        return slug(Path(text).stem)
    return slug(text) if path in SPEAKING else f"{path.split('.')[-1]}-{slug(text)}"
