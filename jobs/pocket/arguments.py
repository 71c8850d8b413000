"""`key=value` words of a command into a typed dataclass. No torch here."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException


class ArgumentError(ValueError):
    """The person's mistake, in one line."""


def parse(kind: type, arguments: list[str], choices: Mapping[str, Sequence[str]]) -> Any:
    """An instance of the dataclass `kind`; raises ArgumentError. `choices`: for some keys the values that they may have."""
    for word in arguments:
        if "=" not in word:
            raise ArgumentError(f"{word}: expected key=value; --help lists the keys")
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.from_cli(arguments)))
    except OmegaConfBaseException as error:
        raise ArgumentError(f"{error.full_key}: {str(error).splitlines()[0]}; --help lists the keys") from error
    for key, values in choices.items():
        if getattr(settings, key) not in values:
            raise ArgumentError(f"{key}={getattr(settings, key)}: expected one of {', '.join(values)}")
    return settings
