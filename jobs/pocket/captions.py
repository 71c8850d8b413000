"""Captions of a picture: varied order, synonyms, dropped parts and filler, as people write prompts."""

import random
from dataclasses import dataclass

from jobs.pocket import words
from jobs.pocket.words import COLOURS, ENVIRONMENTS, LIGHTS, MATERIALS, NOUNS, STYLES

MATERIAL_NAMES, ENVIRONMENT_NAMES = list(MATERIALS), list(ENVIRONMENTS)
LIGHT_NAMES, STYLE_NAMES, FAMILY_NAMES = list(LIGHTS), list(STYLES), list(NOUNS)
NO_COLOUR = -1


@dataclass(frozen=True)
class Labels:
    """What a picture shows, as indices into the tables of `words`; colours are -1 where there is none."""

    material: int
    environment: int
    light: int
    style: int
    colour: int
    backdrop: int
    family: int


def article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _filled(phrase: str, labels: Labels) -> str:
    colour = COLOURS[labels.colour] if labels.colour >= 0 else ""
    backdrop = COLOURS[labels.backdrop] if labels.backdrop >= 0 else ""
    return " ".join(phrase.replace("{c}", colour).replace("{b}", backdrop).split())


def canonical(labels: Labels, noun: str = "statue") -> str:
    """The plain caption of a picture, everything named once."""
    material = MATERIALS[MATERIAL_NAMES[labels.material]]
    adjective = (
        next((a for a in material.adjectives if "{c}" in a), material.adjectives[0])
        if labels.colour >= 0
        else material.adjectives[0]
    )
    text = (
        article(_filled(f"{adjective} {noun}", labels))
        + " "
        + _filled(ENVIRONMENTS[ENVIRONMENT_NAMES[labels.environment]][0], labels)
    )
    if labels.light:
        text += ", " + LIGHTS[LIGHT_NAMES[labels.light]][0]
    return text + (f", {STYLES[STYLE_NAMES[labels.style]][0]}" if labels.style else "")


def _subject(labels: Labels, rng: random.Random) -> str:
    material = MATERIALS[MATERIAL_NAMES[labels.material]]
    family = FAMILY_NAMES[labels.family]
    noun = rng.choice(
        NOUNS[family]
        if rng.random() < 0.6
        else words.ANYTHING
        if rng.random() < 0.6
        else rng.choice(list(NOUNS.values()))
    )
    if rng.random() < 0.1:
        noun = f"{rng.choice(words.SIZES)} {noun}"
    natural = MATERIAL_NAMES[labels.material] != "fur" or family in ("humanoid", "quadruped", "blob")
    if material.creatures and natural and rng.random() < 0.25:
        subject = rng.choice(material.creatures)
    elif rng.random() < 0.07:
        subject = noun
    elif rng.random() < 0.55:
        subject = f"{_filled(rng.choice(material.adjectives), labels)} {noun}"
    else:
        joint = rng.choice(("made of", "made of", "of", "covered in", "made out of", "built from", "made from", "with"))
        subject = f"{noun} {joint} {_filled(rng.choice(material.substances), labels)}"
    if rng.random() < 0.08:
        subject += " " + rng.choice(words.MOTIONS)
    return article(subject) if rng.random() < 0.8 else subject


def caption(labels: Labels, rng: random.Random) -> str:
    """One random caption. The subject is always named, its material, environment and light about 90 % of the time."""
    subject, parts = _subject(labels, rng), []
    if rng.random() < 0.87:
        place = _filled(rng.choice(ENVIRONMENTS[ENVIRONMENT_NAMES[labels.environment]]), labels)
        if rng.random() < 0.15:
            bare = place
            for lead in (
                "in a ",
                "in an ",
                "in the ",
                "on a ",
                "on the ",
                "among ",
                "near a ",
                "in front of ",
                "at the ",
                "in ",
                "on ",
            ):
                if place.startswith(lead):
                    bare = place[len(lead) :]
                    break
            place = (
                ", "
                + bare
                + ("" if "background" in bare else rng.choice(("", " background", " in the background", " scene")))
            )
        parts.append(place)
    if (labels.light and rng.random() < 0.92) or rng.random() < 0.1:
        parts.append(rng.choice(("", ", ")) + rng.choice(LIGHTS[LIGHT_NAMES[labels.light]]))
    if rng.random() < 0.3:
        rng.shuffle(parts)
    text = subject
    if parts and rng.random() < 0.1:
        text = parts.pop(0).strip(", ") + rng.choice((" with ", ", ")) + subject
    for part in parts:
        text += part if part.startswith(",") else rng.choice((" ", " ", ", ")) + part
    if (labels.style and rng.random() < 0.95) or rng.random() < 0.12:
        style = rng.choice(STYLES[STYLE_NAMES[labels.style]])
        text = (
            f"{text}, {style}" if rng.random() < 0.5 else f"{article(style) if rng.random() < 0.5 else style} of {text}"
        )
    if rng.random() < 0.15:
        filler = rng.choice(words.FILLER)
        text = (
            f"{text}, {filler}"
            if rng.random() < 0.6
            else f"{filler} {text}"
            if rng.random() < 0.5
            else f"{filler}, {text}"
        )
    return text.lower()
