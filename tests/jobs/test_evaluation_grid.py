import pytest

from jobs.evaluation.grid import parse
from jobs.evaluation.preset import PRESETS, described
from renderer.errors import ConfigError


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_grid_with_a_reference_and_a_baseline(preset):
    grid = parse([f"preset={preset}"])
    assert grid.baseline in grid.methods
    assert grid.reference in grid.methods
    assert len({clip.name for clip in grid.clips()}) == len(grid.clips()) > 0
    assert dict(described())[preset]


def test_the_table_is_large_enough():
    grid = parse([])
    assert len(grid.scenes) >= 6
    assert len(grid.prompts) >= 6
    assert len(grid.seeds) >= 2
    assert {"per_frame", "paper", "generative_rendering"} <= set(grid.methods)


def test_shares_make_the_whole():
    whole = parse(["preset=smoke"]).clips()
    for count in (1, 3, 7):
        shares = [parse(["preset=smoke", f"part={i}/{count}"]).share() for i in range(1, count + 1)]
        assert [clip for part in shares for clip in part] == whole
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_is_typed_takes_the_place_of_what_the_preset_says(tmp_path):
    (tmp_path / "fish.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    grid = parse(
        [
            "preset=smoke",
            "frames=3",
            "methods=paper,per_frame",
            f"scenes=dancer,{tmp_path}/fish.obj",
            'prompts="a fox, in snow","a"',
            "seeds=4,5",
        ]
    )
    assert "frames=3" in grid.settings
    assert "frames=6" not in grid.settings
    assert list(grid.methods) == ["paper", "per_frame"]
    assert list(grid.prompts) == ["a fox, in snow", "a"]
    assert list(grid.seeds) == [4, 5]
    configs = grid.configs(grid.clips())
    assert {config.frames for config in configs.values()} == {3}
    assert {config.scene.name for config in configs.values()} == {"dancer", f"{tmp_path}/fish.obj"}
    assert {(config.prompt, config.seed, config.method.name) for config in configs.values()} == {
        (prompt, seed, method) for prompt in grid.prompts for seed in grid.seeds for method in grid.methods
    }


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("preset=smok", "did you mean smoke"),
        ("methods=papr", "did you mean paper"),
        ("baseline=none", "baseline=none: expected one of"),
        ("seeds=1,x", "whole numbers"),
        ("part=3/2", "expected i/n"),
        ("prompt=a fox", "prompts=a fox"),
        ("frames", "key=value"),
        ("framez=3", "did you mean frames"),
        ("render=perhaps", "true, false"),
        ("methods=paper,paper", "given twice"),
    ],
)
def test_mistakes_are_one_line(argument, words):
    with pytest.raises(ConfigError, match=words) as error:
        parse(["preset=smoke", argument])
    assert "\n" not in str(error.value)


MINE = """
scenes: {ball: scene=bounce}
prompts: [a golden statue in a snowy forest]
seeds: [7]
methods: {per_frame: method=per_frame, half: method=paper method.alpha=0.5}
baseline: half
"""


def test_a_preset_may_be_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text(MINE)
    grid = parse([f"preset={tmp_path / 'mine.yaml'}"])
    assert grid.output.name == "evaluate-mine"
    (config,) = (one for clip, one in grid.configs(grid.clips()).items() if clip.method == "half")
    assert (config.scene.name, config.seed, config.method.alpha) == ("bounce", 7, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("prompts", "promts"), "promts"),
        (("[7]", "[seven]"), r"seeds\[0\].*'seven'"),
        (("[7]", "[]"), "expected some seeds"),
        (("[7]", "[7"), "line 5.*YAML"),
        (("scene=bounce", "[bounce]"), r"scenes\.ball.*expected text"),
        (("scene=bounce", ""), r"scenes\.ball"),
        (("a golden", "a: golden"), r"prompts\[0\].*expected text"),
        (("[a golden statue in a snowy forest]", "['${golden}']"), r"prompts\[0\]"),
        (("baseline: half", "baseline: hal"), "did you mean half"),
    ],
)
def test_mistakes_of_a_preset_are_one_line(tmp_path, change, words):
    (tmp_path / "mine.yaml").write_text(MINE.replace(*change))
    with pytest.raises(ConfigError, match=words) as error:
        parse([f"preset={tmp_path / 'mine.yaml'}"])
    assert "\n" not in str(error.value)


def test_a_preset_that_is_not_there():
    with pytest.raises(ConfigError, match="no such file"):
        parse(["preset=nowhere/mine.yaml"])
