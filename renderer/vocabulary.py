"""What the embedded model understands: the words of a prompt that it knows, and known words close to those that it
does not.

The model knows the vocabulary that it was trained on and nothing else; the list lies beside its weights. No torch here.
"""

import difflib
import functools
import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "pocket" / "vocabulary.json"
KINDS = ("materials", "environments", "lights", "styles")
# Words that say nothing of their own: a prompt may use them without being told that the model ignores them.
SILENT = frozenset(
    [
        "this",
        "that",
        "these",
        "those",
        "it",
        "there",
        "here",
        "some",
        "any",
        "no",
        "not",
        "or",
        "but",
        "so",
        "i",
        "you",
        "he",
        "she",
        "we",
        "they",
        "my",
        "your",
        "our",
        "their",
    ]
)
CLOSE = (
    0.72  # difflib's ratio from which a known word counts as close: "forrest" finds "forest", "zebra" finds no "bear"
)


@dataclass(frozen=True)
class Unknown:
    """A word of a prompt that the model does not know, and up to three known ones like it."""

    word: str
    close: tuple[str, ...]


@functools.cache
def vocabulary(file: Path = FILE) -> dict:
    """Phrases by kind ("materials": {name: [phrases]}, ...), "colours" and "words", as written beside the weights."""
    return json.loads(file.read_text())


def _stems(word: str) -> list[str]:
    """The word itself and what it may be a plural or possessive of."""
    bare = word.removesuffix("'s").strip("'")
    return [bare, bare.removesuffix("s"), bare.removesuffix("es"), bare.removesuffix("ies") + "y"]


def unknown_words(prompt: str, file: Path = FILE) -> list[Unknown]:
    """The words of a prompt outside the vocabulary, in order, each once.

    >>> [u.word for u in unknown_words("a golden statue in a snowy forest")]
    []
    """
    known = set(vocabulary(file)["words"]) | SILENT
    found: dict[str, Unknown] = {}
    for word in re.findall(r"(?<![a-z0-9])[a-z][a-z']*", prompt.lower()):
        if word not in found and not any(stem in known for stem in _stems(word)):
            close = difflib.get_close_matches(word, sorted(known - SILENT), n=3, cutoff=CLOSE)
            found[word] = Unknown(word, tuple(close))
    return list(found.values())


def warning(prompt: str, file: Path = FILE) -> str | None:
    """One line that names the unknown words of a prompt and close known ones; None if the model knows them all.

    >>> warning("a golden statue on a beach") is None
    True
    """
    unknown = unknown_words(prompt, file)
    if not unknown:
        return None
    told = [f"'{u.word}'" + (f" (close: {', '.join(u.close)})" if u.close else "") for u in unknown]
    what = "it" if len(told) == 1 else "them"
    return f"model=pocket does not know {', '.join(told)} and will misread {what}; --help lists what it knows"


def help_text(width: int = 120, file: Path = FILE) -> str:
    """The vocabulary for `--help`: one wrapped paragraph per kind, each entry by its first phrase."""
    known = vocabulary(file)
    bare = lambda phrase: " ".join(phrase.replace("{c}", "").replace("{b}", "red").split())  # noqa: E731
    groups = {kind: [bare(phrases[0]) for phrases in known[kind].values()] for kind in KINDS} | {
        "colours": known["colours"]
    }
    lines = [
        textwrap.wrap(f"{kind}: {', '.join(names)}", width, subsequent_indent="  ") for kind, names in groups.items()
    ]
    return "\n".join(line for paragraph in lines for line in paragraph)
