"""The typed configuration of a submission, and every check of it that needs no scene and no weights."""

import dataclasses
import datetime
import difflib
import hashlib
import os
import re
import tempfile
import types
import typing
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from renderer.builtin import BUILTIN
from renderer.config import RenderConfig, key
from renderer.errors import ConfigError, OutputError
from renderer.model import PRESETS, SCHEDULERS

CONF = Path(__file__).parents[1] / "conf"


@dataclass(kw_only=True)
class FarmConfig:
    name: str = key("local", "local (Ray on this machine) | inline (no Ray, same pixels) | cluster (a running one)")
    workers: int | None = key(None, "null: one per GPU, or as many CPU workers as fit")
    threads: int = key(2, "threads of a CPU worker; pixels depend on it, so it is never the core count")
    priority: int = key(0, "on a cluster, submissions of higher priority get their workers first")
    patience: float = key(900.0, "seconds after which a call counts as stuck, and its worker is replaced")
    transport: str = key("auto", "keyframe features: auto | object_store | nccl (GPU to GPU) | recompute; same pixels")
    feature_memory: float = key(0.3, "share of the object store, or of each GPU, that they may take")
    address: str | None = key(None, "the cluster's address, or auto; ray.address is the same key")
    runtime_env: str | None = key(
        None, "what a cluster's workers need: {pip: [...], env_vars: {...}}, or a YAML file of it; as Ray has it"
    )


@dataclass(kw_only=True)
class OutputConfig:
    dir: str | None = key(None, "folder or URI of the render, with -m of all renders; null: a new one in renders/")
    compare: bool = key(False, "also render frame by frame, and make compare.mp4")


@dataclass(kw_only=True)
class RemoteConfig:
    """What may be loaded from URIs."""

    limit: float = key(
        1024.0, "MiB that a scene at a URI may take with all its files, or a render that comes back from there"
    )


@dataclass(kw_only=True)
class NotifyConfig:
    """Who hears, as JSON, of a render that has failed and of the end of all; and who reads how far it is."""

    url: str | None = key(None, "http(s) address to POST to when a render fails and when all have ended")
    command: str | None = key(None, "shell command that gets the same on stdin")
    openjd: bool = key(False, "also Open Job Description's progress lines on stdout, as AWS Deadline Cloud reads them")


@dataclass(kw_only=True)
class ExportConfig:
    texture: bool = key(
        False, "also texture/*.png, the clip's appearance baked into UV, and textured.glb that wears it"
    )


@dataclass(kw_only=True)
class SubmitConfig(RenderConfig):
    """One render, who computes it, and where it goes."""

    farm: FarmConfig = field(default_factory=FarmConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)


@dataclass(frozen=True)
class Key:
    """A leaf of the configuration. type: without None, which `optional` says."""

    type: type
    optional: bool
    default: Any
    help: str


def leaves(cls: type, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Dotted path and Key of every leaf below a configuration dataclass, in order."""
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        if dataclasses.is_dataclass(hint):
            yield from leaves(typing.cast(type, hint), f"{prefix}{f.name}.")
        else:
            optional = isinstance(hint, types.UnionType)
            kind = next(t for t in hint.__args__ if t is not types.NoneType) if optional else hint
            yield prefix + f.name, Key(kind, optional, f.default, f.metadata["help"])


KEYS = dict(leaves(SubmitConfig))

# Config groups: `method=paper` picks conf/method/paper.yaml.
GROUPS = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in ("method", "farm")}

CHOICES = {
    "scene.camera.move": ("auto", "static", "orbit", "dolly", "follow", "file"),
    "scene.rasteriser": ("embree", "nvdiffrast"),
    "model.dtype": ("auto", "float16", "bfloat16", "float32"),
    "method.layers": ("decoder", "all"),
    "method.choose": ("random", "even", "coverage"),
    "method.keys": ("own+keyframes", "keyframes", "anchor+previous", "own"),
    "method.unify": ("fill+mean", "fill", "mean", "adjacent", "facing"),
    "farm.transport": ("auto", "object_store", "nccl", "recompute"),
    "noise.kind": ("uv", "fixed", "random", "inverted"),
}

# Of Ray's runtime_env, what a person may set: the code is ours, and the working folder is the node's.
RUNTIME_ENV = ("pip", "uv", "conda", "env_vars", "config")

# Both ends included; a NaN is in no range.
RANGES = {
    "scene.camera.azimuth": (-36000, 36000),
    "scene.camera.elevation": (-90, 90),
    "scene.camera.fov": (1, 170),
    "scene.camera.fill": (0.05, 1),
    "scene.camera.turn": (-36000, 36000),
    "seed": (0, 2**63 - 1),
    "frames": (1, 100_000),
    "fps": (0.01, 1000),
    "steps": (1, 1000),
    "guidance": (0, 1000),
    "chunk": (1, 1024),
    "model.control_scale": (0, 100),
    "method.keyframes": (0, 1000),
    "method.alpha": (0, 1),
    "method.alpha_until": (0, 1),
    "method.until": (0, 1),
    "method.sharpen": (0, 2),
    "method.adain_until": (0, 1),
    "method.paint": (0, 32),
    "method.texels": (0.25, 64),
    "noise.texels": (0.25, 64),
    "farm.workers": (1, 10_000),
    "farm.threads": (1, 256),
    "farm.priority": (-1000, 1000),
    "farm.patience": (1, 1e6),
    "farm.feature_memory": (0.001, 1),
    "remote.limit": (0.001, 1e6),
}


def show(value: object) -> str:
    """A value as one short printable piece of an error message."""
    text = str(value)
    if not text.isprintable() or text != text.strip() or not text:
        text = repr(text)
    return text if len(text) <= 80 else text[:77] + "..."


def one_line(error: Exception) -> str:
    """What somebody else's error says, as part of a line of ours."""
    return " ".join(str(error).split())[:300]


def suggest(word: str, known: Collection[str]) -> str:
    """'; did you mean X?' for the known word nearest to a misspelt one, or nothing."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def check_choice(path: str, value: str, known: Collection[str]) -> None:
    """Raises ConfigError unless `value` is one of the `known` words."""
    if value not in known:
        raise ConfigError(f"{path}={show(value)}: expected one of {', '.join(known)}{suggest(value, known)}")


def validate(config: SubmitConfig) -> None:
    """Everything that can be said about a submission at once. Raises ConfigError: one line on the first mistake."""
    for path, spec in KEYS.items():
        value: Any = config
        for name in path.split("."):
            value = getattr(value, name)
        if isinstance(value, str):
            check_text(path, value)
        if path in CHOICES:
            check_choice(path, value, CHOICES[path])
        if path in RANGES and value is not None:
            low, high = RANGES[path]
            if not low <= value <= high:
                number = "a whole number" if spec.type is int else "a number"
                raise ConfigError(f"{path}={value}: expected {number} from {low} to {high}")
    check_choice("method", config.method.name, GROUPS["method"])
    check_choice("farm", config.farm.name, GROUPS["farm"])
    check_scene(config.scene.name)
    check_resolution(config.resolution)
    check_model(config.model.base or config.model.name)
    check_scheduler(config.model.scheduler)
    check_device(config.model.device)
    if config.output.dir == "":
        raise ConfigError("output='': expected a folder")
    if config.notify.url is not None and not re.match("https?://[^/]", config.notify.url):
        raise ConfigError(
            f"notify.url={show(config.notify.url)}: expected an address that begins with https:// or http://"
        )
    for name in ("address", "runtime_env"):
        value = getattr(config.farm, name)
        if value is not None and config.farm.name != "cluster":
            raise ConfigError(f"farm.{name}={show(value)} is a cluster's: expected farm=cluster")
    parse_runtime_env(config.farm.runtime_env or "{}")


def check_text(path: str, text: str) -> None:
    """Text from the command line whose bytes were not UTF-8 holds surrogates, which no tokenizer and no JSON takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{path}={show(text)}: character {error.start + 1} is not valid UTF-8") from None


def is_uri(text: str) -> bool:
    """Does a name lead to some store, as s3://bucket/fox.glb does? Whether there is one, farm/remote.py finds out."""
    return re.match("[a-z][a-z0-9+.-]*://", text) is not None


def check_scene(name: str) -> None:
    if not is_uri(name) and name not in BUILTIN and not os.path.exists(name):
        known = ", ".join(BUILTIN)
        raise ConfigError(f"scene={show(name)}: no such file, and no built-in scene ({known}){suggest(name, BUILTIN)}")


def check_resolution(resolution: Any) -> None:
    sides = resolution if isinstance(resolution, list) else [resolution, resolution]
    if resolution is None:
        return
    if len(sides) != 2 or any(type(side) is not int for side in sides):
        raise ConfigError(f"resolution={show(resolution)}: expected N or [W,H], such as 512 or [768,512]")
    for side in sides:
        if not 64 <= side <= 4096:
            raise ConfigError(f"resolution={show(resolution)}: expected sides from 64 to 4096 pixels")
        if side % 8:
            nearest = f"the multiple of 8 nearest to {side} is {8 * round(side / 8)}"
            raise ConfigError(f"resolution={show(resolution)}: expected multiples of 8; {nearest}")


def check_model(name: str) -> None:
    hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name)
    if name not in PRESETS and not hub_id and not os.path.isdir(name):
        known = ", ".join(PRESETS)
        raise ConfigError(
            f"model={show(name)}: expected {known}, a folder or a hub id (owner/name){suggest(name, PRESETS)}"
        )


def parse_runtime_env(text: str) -> dict[str, Any]:
    """What farm.runtime_env says, as Ray's runtime_env has it; Ray itself checks what is below the keys.

    text: a YAML mapping, or the path of a file that holds one. Raises ConfigError.

    >>> parse_runtime_env("{pip: [av>=14], env_vars: {HF_HOME: /models}}")
    {'pip': ['av>=14'], 'env_vars': {'HF_HOME': '/models'}}
    """
    expected = f"expected {{{', '.join(f'{name}: ...' for name in RUNTIME_ENV)}}}, or a YAML file of it"
    try:
        found = yaml.safe_load(text if text.startswith("{") else Path(text).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"farm.runtime_env={show(text)}: {reason}; {expected}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"farm.runtime_env={show(text)}: {expected}")
    for name in found:
        check_choice("farm.runtime_env", str(name), RUNTIME_ENV)
    variables = found.get("env_vars", {})
    if not isinstance(variables, dict) or any(type(part) is not str for item in variables.items() for part in item):
        raise ConfigError('farm.runtime_env: env_vars: expected {NAME: text, ...}, numbers in quotes, such as {N: "1"}')
    return found


def check_scheduler(name: str | None) -> None:
    """Only the spelling: whether diffusers has such a class is known when the model loads."""
    if name is not None and not re.fullmatch(r"[A-Z]\w*Scheduler", name):
        check_choice("model.scheduler", name, SCHEDULERS)


def check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigError(f"model.device={show(device)}: expected auto, cpu, cuda or cuda:N")


def slug(text: str, length: int = 40) -> str:
    """A piece of a file name that still says what the text was: a golden STATUE! -> a-golden-statue."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:length].strip("-")
    return words or hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def default_folder(config: SubmitConfig, now: datetime.datetime, sweep: bool = False) -> str:
    """renders/<date>_<time>_<scene>_<prompt>, or renders/<date>_<time>_sweep for all renders of a sweep."""
    what = "sweep" if sweep else f"{slug(Path(config.scene.name).stem)}_{slug(config.prompt)}"
    return f"renders/{now:%Y-%m-%d_%H-%M-%S}_{what}"


def make_folder(folder: Path) -> None:
    """Creates the output folder and tries to write into it. Raises OutputError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except FileExistsError:
        raise OutputError(f"output={show(folder)} is a file: expected a folder, new or of this render") from None
    except OSError as error:
        raise OutputError(f"output={show(folder)} cannot be written: {error.strerror}") from None
