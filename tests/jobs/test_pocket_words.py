"""Captions, the tokenizer, and what the command line says about unknown words."""

import json
import random
from pathlib import Path

import pytest

from jobs.pocket import tokenizer, words
from jobs.pocket.captions import MATERIAL_NAMES, Labels, canonical, caption
from renderer import vocabulary

SHIPPED = Path(vocabulary.__file__).parent / "pocket"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    from jobs.pocket import shipping

    folder = tmp_path_factory.mktemp("vocabulary")
    shipping.write_vocabulary(folder)
    return folder / "vocabulary.json"


def captions(count: int, seed: int = 0) -> list[tuple[Labels, str]]:
    rng = random.Random(seed)
    return [(labels, caption(labels, rng)) for labels in (tokenizer.random_labels(rng) for _ in range(count))]


def test_captions_name_what_is_seen_most_of_the_time():
    named = 0
    for labels, text in captions(1000):
        material = words.MATERIALS[MATERIAL_NAMES[labels.material]]
        colour = words.COLOURS[labels.colour]
        spoken = [p.replace("{c}", colour) for p in (*material.adjectives, *material.substances, *material.creatures)]
        named += any(phrase in text for phrase in spoken)
    assert 0.85 < named / 1000 < 1


def test_captions_vary():
    labels = tokenizer.random_labels(random.Random(3))
    rng = random.Random(0)
    assert len({caption(labels, rng) for _ in range(200)}) > 150


def test_captions_have_no_holes():
    for labels, text in captions(500):
        assert "{" not in text
        assert "  " not in text
        assert text == text.lower().strip(" ,")
        assert "{" not in canonical(labels)


def test_every_caption_is_known_to_the_command_line(file):
    for _, text in captions(300, 5):
        assert vocabulary.warning(text, file) is None, text


def test_unknown_words_come_with_close_ones(file):
    unknown = vocabulary.unknown_words("a Golden statue in a snowy forrest, with two xylophones", file)
    assert [u.word for u in unknown] == ["forrest", "xylophones"]
    assert "forest" in unknown[0].close
    line = vocabulary.warning("a goldn statue", file)
    assert line is not None
    assert "\n" not in line
    assert "golden" in line


def test_plurals_and_possessives_are_known(file):
    assert vocabulary.unknown_words("two robots and the knight's horses", file) == []


def test_the_vocabulary_file_is_up_to_date(file):
    assert json.loads(file.read_text()) == json.loads(vocabulary.FILE.read_text())


def test_help_lists_every_kind(file):
    text = vocabulary.help_text(100, file)
    assert all(kind in text for kind in vocabulary.KINDS)
    assert max(map(len, text.splitlines())) <= 100
    assert "{" not in text


def test_a_number_names_its_token_for_good(tmp_path):
    """The trainer's own numbers change from run to run; those of the shipped model came from another run, and another rule."""
    vocabularies = []
    for name in ("first", "second"):
        tokenizer.build(tmp_path / name)
        vocabularies.append(tokenizer.load(tmp_path / name).get_vocab())
    assert vocabularies[0] == vocabularies[1]
    assert vocabularies[0].keys() == tokenizer.load(SHIPPED / "tokenizer").get_vocab().keys()


def test_the_tokenizer_keeps_whole_words(tmp_path):
    tokenizer.build(tmp_path)
    coder = tokenizer.load(tmp_path)
    ids = tokenizer.encode(coder, ["a golden statue in a snowy forest", "quixotic zzyzx 42!"])
    assert len(ids[0]) == len(ids[1]) == tokenizer.TEXT_LENGTH
    assert sum(i != coder.eos_token_id for i in ids[0]) == 8, "start and seven words"
    assert coder.decode(ids[1], skip_special_tokens=True).replace(" ", "") == "quixoticzzyzx42!"
    assert max(ids[0]) == coder.eos_token_id == len(coder) - 1
