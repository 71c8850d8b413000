"""resume=FOLDER: a render's settings from its own manifest, so that nobody has to remember what they typed."""

import json
from collections.abc import Sequence
from typing import Any

from farm import remote
from farm.config import KEYS, is_uri, show
from renderer.errors import ConfigError
from renderer.manifest import NAME, Manifest, read_manifest


def expand(arguments: Sequence[str], sweep: bool = False) -> list[str]:
    """Arguments with resume=FOLDER replaced by what a person would type for the render in it; the others come after.

    Raises ConfigError in a sweep and where the folder holds no render, OutputError where its manifest cannot be read.
    """
    folders = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    if folders and sweep:
        raise ConfigError(
            f"resume={show(folders[0])} is one render: leave -m out (a sweep goes on by the same command)"
        )
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    return [setting for folder in folders for setting in settings(folder)] + others


def settings(folder: str) -> list[str]:
    """key=value for every key of the render in `folder`; what its pixels do not depend on has its default."""
    here = remote.local(folder)
    if is_uri(remote.shown(here)):
        from farm.mirror import Mirror  # brings pyarrow

        Mirror(here, folder, KEYS["remote.limit"].default).bring(here)
    manifest = read_manifest(here)
    if manifest is None:
        raise ConfigError(
            f"resume={show(folder)}: there is no {NAME}; expected the folder of one render that has begun (a sweep goes on "
            "by the same command)"
        )
    typed = {path: value(manifest.config, path) for path in KEYS if path.partition(".")[0] in manifest.config}
    return [*(f"{path}={text}" for path, text in typed.items()), *threads(manifest), f"output={folder}"]


def value(config: Any, path: str) -> str:
    """A key's value as typed: text as it stands, everything else as in JSON."""
    for name in path.split("."):
        config = config[name]
    return config if isinstance(config, str) else json.dumps(config, separators=(",", ":"))


def threads(manifest: Manifest) -> list[str]:
    """What a render on CPUs depends on besides its configuration."""
    number = manifest.constants.get("threads")
    return [] if number is None else [f"farm.threads={number}"]
