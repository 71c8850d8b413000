"""The judge's questions: how prompts in many colours make one answer, and what patches are asked."""

import random

import torch

from jobs.pocket import judge, tokenizer
from jobs.pocket.judge import QUESTIONS, PatchLabels, answers, score
from jobs.pocket.words import COLOURS, ENVIRONMENTS, MATERIALS


def test_every_answer_is_spelt_in_every_colour_or_in_none():
    for question in QUESTIONS:
        for phrases in answers(question):
            assert {len(prompts) for prompts in phrases} <= {1, len(COLOURS)}
            assert not any("{" in prompt for prompts in phrases for prompt in prompts)
    plastic = answers("material")[list(MATERIALS).index("plastic")]
    assert any("a red plastic statue" in prompts for prompts in plastic)


def test_an_answer_is_as_likely_as_its_prompts_together():
    generator = torch.Generator().manual_seed(0)
    likeness, groups = torch.randn(5, 9, generator=generator) * 4, [1, 3, 5]
    found = score(likeness, groups).exp()
    slow = torch.stack([sum(row.exp()[a:b]) for row in likeness for a, b in ((0, 1), (1, 4), (4, 9))])
    torch.testing.assert_close(found, slow.view(5, 3))
    one_red = likeness.clone()
    one_red[:, 2] = 50.0  # a single colour that fits decides for its material
    assert (score(one_red, groups).argmax(1) == 1).all()


def test_questions_are_put_in_many_words_that_fit_their_groups(tmp_path):
    tokenizer.build(tmp_path)
    coder = tokenizer.load(tmp_path)
    ids, groups = judge.wordings(coder, 6, random.Random(0))
    assert ids.shape == (6, sum(map(sum, groups)), tokenizer.TEXT_LENGTH)
    assert len({row.numpy().tobytes() for row in ids}) == 6
    first = 0
    for question, sizes in zip(QUESTIONS, groups, strict=True):
        for phrases, size in zip(answers(question), sizes, strict=True):
            assert size == max(map(len, phrases))
            different = {len({tuple(prompt) for prompt in row[first : first + size].tolist()}) for row in ids}
            assert different <= {1, size}  # one phrase without a colour, over and over, or one in every colour
            first += size


def test_patches_tell_the_material_on_the_hero_and_the_place_beside_it():
    torch.manual_seed(0)
    labels = PatchLabels(12)
    hero = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    hero[:, :, :, :32] = True
    material, environment = torch.tensor([3, 7]), torch.tensor([1, 5])
    tokens = torch.randn(2, 4 * 4, 12)
    logits = labels.head(tokens).view(2, 4, 4, -1)
    slow = torch.stack(
        [
            -logits[b, y, x].log_softmax(0)[material[b] if x < 2 else len(MATERIALS) + environment[b]]
            for b in range(2)
            for y in range(4)
            for x in range(4)
        ]
    ).mean()
    torch.testing.assert_close(labels(tokens, hero, material, environment), slow)
    assert logits.shape[-1] == len(MATERIALS) + len(ENVIRONMENTS)


def test_the_judge_learns_from_what_it_is_shown(monkeypatch, tmp_path):
    from jobs.pocket.captions import Labels, canonical
    from jobs.pocket.dataset import Dataset
    from jobs.pocket.team import Team

    monkeypatch.setattr(judge, "BATCH", 4)
    monkeypatch.setattr(judge, "cosine", lambda *_: 1.0)
    tokenizer.build(tmp_path)
    coder = tokenizer.load(tmp_path)
    labels = torch.tensor([[2, 3, 0, 0, -1, -1, 0], [9, 8, 1, 1, -1, -1, 0]])
    images = torch.stack([torch.full((3, 64, 64), v, dtype=torch.uint8) for v in (40, 220)])
    hero = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    ids = torch.tensor(tokenizer.encode(coder, [canonical(Labels(*row)) for row in labels.tolist()]))[:, None]
    data = Dataset(images, images[:, :1], hero, labels)
    model = judge.train(Team(1, 1, torch.device("cpu"), 0.0), data, ids, coder, 0, steps=12)
    seen = judge.classify(model, coder, images.float() / 255)
    assert all(seen[question].tolist() == labels[:, i].tolist() for i, question in enumerate(QUESTIONS))
