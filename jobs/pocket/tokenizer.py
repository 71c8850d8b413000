"""The tokenizer: byte-pair encoding in CLIP's format, learnt from the world's own captions."""

import json
import random
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from jobs.pocket import words
from jobs.pocket.captions import Labels, caption

TEXT_LENGTH = 32
MERGED = 1000  # entries before the bare letters and the two marks are added
START, END = "<|startoftext|>", "<|endoftext|>"
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def random_labels(rng: random.Random) -> Labels:
    colour = lambda: rng.randrange(len(words.COLOURS))  # noqa: E731
    tables = (words.MATERIALS, words.ENVIRONMENTS, words.LIGHTS, words.STYLES)
    material, environment, light, style = (rng.randrange(len(t)) for t in tables)
    return Labels(material, environment, light, style, colour(), colour(), rng.randrange(len(words.NOUNS)))


def build(folder: Path) -> None:
    """Write `vocab.json`, `merges.txt` and the configuration of a CLIPTokenizer into `folder`."""
    from transformers import CLIPTokenizer

    rng = random.Random(0)
    corpus = [caption(random_labels(rng), rng) for _ in range(30000)]
    corpus += [word for word in words.known_words() for _ in range(20)]
    corpus += [c for c in "abcdefghijklmnopqrstuvwxyz0123456789!,.?-'\":;()&/+" for _ in range(5)]
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED, end_of_word_suffix="</w>", initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    # The trainer numbers letters in another order in every process; a token's number has to name it for good.
    letters = alphabet + [c + "</w>" for c in alphabet]
    tokens = letters + sorted(set(model["vocab"]) - set(letters))
    vocabulary = {token: i for i, token in enumerate([*tokens, START, END])}
    coder: Any = CLIPTokenizer
    coder(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH).save_pretrained(folder)


def load(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, model_max_length=TEXT_LENGTH)


def encode(tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids, all of TEXT_LENGTH."""
    return tokenizer(texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True)["input_ids"]
