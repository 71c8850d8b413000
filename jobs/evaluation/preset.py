"""Presets: what an evaluation renders, as YAML files, ours or whoever's runs it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from farm.config import check_choice, show
from renderer.errors import ConfigError

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}


@dataclass
class Preset:
    """The keys of a file. scenes, methods: names and what is typed for each. settings: what is typed for all clips.

    No methods: all of conf/method. baseline: the method that others are paired with. reference: the method whose single pictures
    have the detail that others are measured by; without it among the methods detail has no number.
    """

    scenes: dict[str, str] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    methods: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    baseline: str = "paper"
    reference: str = "per_frame"


def find(preset: str) -> Path:
    """The file that preset= means: a name of ours, or a path. Raises ConfigError."""
    path = Path(preset)
    if path.suffix not in (".yaml", ".yml"):
        check_choice("preset", preset, PRESETS)
        return PRESETS[preset]
    if not path.is_file():
        raise ConfigError(f"preset={show(preset)}: there is no such file")
    return path


def read(path: Path) -> Preset:
    """A preset from its file. Raises ConfigError, one line, for what cannot be one."""
    try:
        found = OmegaConf.merge(OmegaConf.structured(Preset), OmegaConf.create(path.read_text("utf-8")))
        preset = OmegaConf.to_object(found)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"preset={path}, line {where}: {error.problem}; expected YAML") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"preset={path}, {error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(preset, Preset)
    texts = {f"{key}.{name}": text for key in ("scenes", "methods") for name, text in getattr(preset, key).items()}
    for key, text in (texts | {f"prompts[{i}]": text for i, text in enumerate(preset.prompts)}).items():
        if not isinstance(text, str):  # OmegaConf lets lists and mappings pass
            raise ConfigError(f"preset={path}, {key}: {text}: expected text")
    for key in ("scenes", "prompts", "seeds"):
        if not getattr(preset, key):
            raise ConfigError(f"preset={path}: expected some {key}; jobs/evaluation/presets has examples")
    return preset


def described() -> Iterator[tuple[str, str]]:
    """Each of ours with the comment that its file begins with."""
    for name, path in PRESETS.items():
        yield name, path.read_text("utf-8").partition("\n")[0].lstrip("# ")
