"""From argv to typed configurations: text survives byte for byte, sweeps are products, mistakes are one line."""

import functools
import itertools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm import command
from farm.command import JOBS, configure, names, renders
from farm.config import GROUPS, KEYS, RANGES, SubmitConfig, slug, validate
from renderer.builtin import BUILTIN
from renderer.config import SceneConfig
from renderer.errors import ConfigError
from renderer.vocabulary import warning

NASTY = [
    "",
    " ",
    " a fox, made of ice ",
    'it\'s a "golden" statue',
    "a=b, (c) [d] {e: f} <g>",
    "$HOME ${seed} $${x} \\${y} ${oc.env:HOME} ${",
    "???",
    "true",
    "null",
    "1e3",
    "\\",
    "\\\\'\\\"\\",
    "'quoted'",
    '"quoted","twice"',
    "first\nsecond\r\n\tthird",
    "金の像、雪の森 🗿 naïve Ünïcödé",
    "%text%00",
    "choice(a,b)",
    "range(3)",
    "- --help -m",
    "#: !!python/object",
]
nasty_text = st.one_of(st.sampled_from(NASTY), st.text(), st.text(alphabet="\\'\"${}[](),=:?%~ \n\tab1"))


def one(*arguments: str) -> SubmitConfig:
    [overrides] = renders(arguments)
    return configure(overrides)


def swept(*arguments: str) -> list[SubmitConfig]:
    return [configure(overrides) for overrides in renders(arguments, sweep=True)]


def quote(text: str, mark: str) -> str:
    """As a person quotes: a backslash before a mark of the text, and backslashes doubled only where one must."""
    text = re.sub(rf"(\\*){mark}", lambda m: 2 * m[1] + "\\" + mark, text)
    return mark + re.sub(r"\\+\Z", lambda m: 2 * m[0], text) + mark


@settings(max_examples=20)
@given(texts=st.lists(nasty_text, min_size=5, max_size=5))
def test_text_survives(texts):
    keys = ["prompt", "negative_prompt", "scene", "output", "model.base"]
    config = one(
        *(f"{key}={text}" for key, text in zip(keys, texts, strict=True) if (key, text) != ("model.base", "null"))
    )
    assert [config.prompt, config.negative_prompt, config.scene.name] == texts[:3]
    assert texts[3] in (config.output.dir, "null")
    assert texts[4] in (config.model.base, "null")


@settings(max_examples=150)
@given(
    texts=st.lists(nasty_text, min_size=1, max_size=4, unique=True),
    mark=st.sampled_from("'\""),
    comma=st.sampled_from([",", ", "]),
)
def test_quoted_prompts_form_the_sweep(texts, mark, comma):
    jobs = renders(["prompt=" + comma.join(quote(text, mark) for text in texts)], sweep=True)
    assert jobs == [renders([f"prompt={text}"])[0] for text in texts]


def test_sweep_over_nasty_prompts():
    configs = swept("prompt=" + ",".join(quote(text, '"') for text in NASTY))
    assert [config.prompt for config in configs] == NASTY


@pytest.mark.parametrize(
    "prompt", ["a fox, moonlight", "a fox", "", 'a "fox", a cat', '"a" and "b"', "'tis,'twas", '"a","b']
)
def test_other_prompts_of_a_sweep_are_one_as_typed(prompt):
    assert [config.prompt for config in swept(f"prompt={prompt}", "seed=1,2")] == [prompt, prompt]


@pytest.mark.parametrize("path", ["../a b/x (1), y=z.glb", "x,y.glb", "C:\\a\\b.glb", "${x}.glb", "a'b.glb", "[1].glb"])
def test_paths_are_as_typed(path):
    config = one(f"scene={path}", f"output={path}", f"model={path}", f"scene.clip={path}")
    assert [config.scene.name, config.output.dir, config.model.name, config.scene.clip] == [path] * 4


def test_sweep_over_scenes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a, b.glb").touch()
    for value, expected in {
        "dancer,../x y/Fox (1)=2.glb": ["dancer", "../x y/Fox (1)=2.glb"],
        'dancer,"c, d.glb"': ["dancer", "c, d.glb"],
        "'c, d.glb','dancer'": ["c, d.glb", "dancer"],
        "a, b.glb": ["a, b.glb"],
    }.items():
        assert [config.scene.name for config in swept(f"scene={value}")] == expected


def test_sweep_is_the_product_in_typed_order():
    configs = swept('prompt="x","y"', "seed=range(2)", "method=paper,per_frame", "output=a,b")
    expected = itertools.product("xy", [0, 1], ["paper", "per_frame"])
    assert [(config.prompt, config.seed, config.method.name) for config in configs] == list(expected)
    assert {config.output.dir for config in configs} == {"a,b"}
    assert [config.method.name for config in swept("method=glob(*)")] == GROUPS["method"]


def test_values_given_twice_are_one_render():
    assert renders(["seed=1,2,1", 'prompt="a","a"'], sweep=True) == renders(["seed=1,2", 'prompt="a"'], sweep=True)


def test_names_tell_renders_apart():
    jobs = renders(
        ["scene=fish,x/Fox.glb", 'prompt="A lava golem!","金","a LAVA golem","銀"', "seed=1,2", "frames=4"], sweep=True
    )
    found = names(jobs)
    assert len(set(found)) == len(jobs)
    assert any(re.fullmatch(r"fox_a-lava-golem_seed-2(_\w{8})?", name) for name in found)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in found)
    assert names(renders(["seed=1"], sweep=True)) == ["render"]


@pytest.mark.parametrize("job", JOBS)
def test_jobs_are_valid_sweeps_that_the_embedded_model_understands(job):
    jobs = renders([f"job={job}"], sweep=True)
    assert len(set(names(jobs))) == len(jobs) > 1
    for config in map(configure, jobs):
        validate(config)
        assert config.model.name == "pocket"
        assert warning(config.prompt) is None


def test_a_job_is_what_a_person_would_have_typed():
    typed = ["prompt=a blue and white porcelain statue in a meadow", "scene=dancer,fish,turntable"]
    methods = "method=per_frame,paper,generative_rendering"
    assert renders(["job=methods"], sweep=True) == renders([*typed, methods], sweep=True)
    # What is typed besides wins under any of its key's names, and adds to the product.
    assert renders(["scene.name=flag", "job=methods", "seed=1,2"], sweep=True) == renders(
        [typed[0], methods, "scene=flag", "seed=1,2"], sweep=True
    )
    assert [config.prompt for config in swept("job=materials", 'prompt="x","y, z"')] == ["x", "y, z"]


@pytest.fixture
def write_job(tmp_path, monkeypatch):
    def write(text):
        (tmp_path / "mine.yaml").write_text(text, "utf-8")
        monkeypatch.setitem(command.JOBS, "mine", tmp_path / "mine.yaml")

    return write


def test_values_of_a_job_mean_what_they_mean_on_the_command_line(write_job):
    write_job(
        "scene.clip: yes\nscene.ground: null\nhydra:\n  sweeper:\n    params:\n"
        "      resolution: '[64,72],128'\n      prompt: '\"on\", \"${x}, y\"'\n"
    )
    configs = swept("job=mine")
    assert {(config.scene.clip, config.scene.ground) for config in configs} == {("yes", None)}
    assert [(config.resolution, config.prompt) for config in configs] == list(
        itertools.product([[64, 72], 128], ["on", "${x}, y"])
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scen: fish\nhydra: {sweeper: {params: {seed: '1,2'}}}", ["jobs/mine.yaml", "unknown key scen", "scene"]),
        ("hydra: {sweeper: {params: {promt: '1,2'}}}", ["jobs/mine.yaml", "unknown key promt", "prompt"]),
        ("hydra: {sweeper: {params: {seed: [1, 2]}}}", ["jobs/mine.yaml", "seed=['1', '2']", "text"]),
        ("hydra: {sweeper: {params: {seed: '1,x'}}}", ["seed=x", "a whole number"]),
        ("scene: {name: fish}\nhydra: {sweeper: {params: {seed: '1,2'}}}", ["jobs/mine.yaml", "scene="]),
        ("seed: 1", ["jobs/mine.yaml", "hydra: sweeper: params:"]),
        ("hydra: 3", ["jobs/mine.yaml", "hydra: sweeper: params:"]),
        ("", ["jobs/mine.yaml", "hydra: sweeper: params:"]),
        ("a: b: c", ["jobs/mine.yaml", "YAML"]),
    ],
)
def test_mistakes_in_a_job_are_one_line(write_job, text, words):
    write_job(text)
    with pytest.raises(ConfigError) as caught:
        swept("job=mine")
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_job_needs_to_exist_and_multirun():
    for arguments, words in {("job=materials",): "add -m", ("job=material",): "did you mean materials"}.items():
        with pytest.raises(ConfigError, match=words):
            renders(arguments)
    with pytest.raises(ConfigError, match=", ".join(JOBS)):
        renders(["job=x"], sweep=True)
    with pytest.raises(ConfigError, match="one job"):
        renders(["job=materials", "job=methods"], sweep=True)


def test_defaults_are_the_dataclasses():
    assert one() == SubmitConfig()


def leaf(config: object, path: str):
    return functools.reduce(getattr, path.split("."), config)


def test_every_key_can_be_set_and_is_typed():
    samples = {int: ("7", 7), float: ("0.25", 0.25), bool: ("false", False), str: ("x", "x")}
    wanted = {
        path: samples.get(key.type, ("[64,72]", [64, 72]))
        for path, key in KEYS.items()
        if path.split(".")[0] not in GROUPS
    }
    config = one(*(f"{path}={typed}" for path, (typed, _) in wanted.items()))
    assert {path: leaf(config, path) for path in wanted} == {path: value for path, (_, value) in wanted.items()}


def test_groups_set_their_keys_and_give_way_to_single_ones():
    assert one("method=per_frame").method.keyframes == 0
    assert one("method.alpha=0.25", "method=paper").method.alpha == 0.25
    assert one("method.name=paper").method == one("method=paper").method
    assert one("noise=random").noise.kind == "random"


def test_ray_address_is_a_cluster():
    config = one("ray.address=10.0.0.1:6379")
    assert (config.farm.name, config.farm.address) == ("cluster", "10.0.0.1:6379")
    assert one("farm=cluster").farm.address == "auto"


def test_null_empties_optional_text_only():
    assert one("scene.clip=null", "prompt=null").scene.clip is None
    assert one("scene.clip=null", "prompt=null").prompt == "null"
    assert [config.scene.clip for config in swept("scene.clip=null,Walk")] == [None, "Walk"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("promt=x", ["unknown key promt", "prompt"]),
        ("methd=paper", ["did you mean method"]),
        ("+promt=x", ["unknown key", "prompt"]),
        ("++unknown=1", ["unknown key"]),
        ("scene.camera.mov=orbit", ["scene.camera.move"]),
        ("scene.camera={mov: orbit}", ["unknown key scene.camera.mov", "scene.camera.move"]),
        ("+scene.camera={mov: orbit}", ["unknown key scene.camera.mov"]),
        ("scene.camera=3", ["scene.camera=3", "{key: value"]),
        ("method={alphb: 1}", ["method=", "paper"]),
        ("hydra.run.dir=x", ["unknown key"]),
        ("method@x=paper", ["unknown key"]),
        ("~seed", ["not key=value"]),
        ("golden", ["golden", "quotes"]),
        ("=3", ["unknown key"]),
        ("steps=abc", ["steps=abc", "a whole number or null"]),
        ("frames=1.5", ["frames=1.5", "a whole number"]),
        ("frames=null", ["a whole number"]),
        ("frames=", ["a whole number"]),
        ("frames=(", ["frames=(", "a whole number"]),
        ("seed=${nothing}", ["seed=", "a whole number"]),
        ("fps=fast", ["fps=fast", "a number"]),
        ("scene.dome=perhaps", ["true or false"]),
        ("steps=10,20", ["steps=10,20", "-m"]),
        ("seed=range(3)", ["-m"]),
        ("resolution=512,256", ["-m", "[W,H]"]),
        ("method=papr", ["method=papr", "did you mean paper"]),
        ("farm=clutser", ["did you mean cluster"]),
        ("method=paper,per_frame", ["-m"]),
    ],
)
def test_mistakes_of_form_are_one_line(argument, words):
    with pytest.raises(ConfigError) as caught:
        one(argument)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("scene=dncer", ["scene=dncer", "no such file", *BUILTIN, "did you mean dancer"]),
        ("scene=", ["scene=''"]),
        ("scene=" + "x" * 5000, ["no such file"]),
        ("scene=a\nb\x00", ["no such file"]),
        ("noise=vu", ["noise.kind=vu", "uv, fixed, random"]),
        ("scene.camera.move=orbti", ["did you mean orbit"]),
        ("resolution=500", ["multiples of 8", "496"]),
        ("resolution=[512,507]", ["504"]),
        ("resolution=[512,512,512]", ["N or [W,H]"]),
        ("resolution=512x512", ["N or [W,H]"]),
        ("resolution=true", ["N or [W,H]"]),
        ("resolution=8", ["64 to 4096"]),
        ("resolution=[64,100000]", ["64 to 4096"]),
        ("frames=0", ["frames=0", "1 to 100000"]),
        ("fps=nan", ["fps=nan"]),
        ("guidance=inf", ["guidance=inf"]),
        ("method.alpha=1.5", ["method.alpha=1.5", "0 to 1"]),
        ("seed=-1", ["seed=-1"]),
        ("seed=99999999999999999999", ["seed=9"]),
        ("model=pockt", ["did you mean pocket"]),
        ("model=./no/such/folder", ["folder"]),
        ("model.scheduler=ddmi", ["did you mean ddim"]),
        ("model.device=gpu", ["cuda"]),
        ("output=", ["output"]),
        ("prompt=\udcff", ["UTF-8"]),
    ],
)
def test_mistakes_of_value_are_one_line(argument, words):
    with pytest.raises(ConfigError) as caught:
        validate(one(argument))
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("path", RANGES)
def test_ranges_include_their_ends(path):
    parent, _, name = path.rpartition(".")
    config = SubmitConfig()
    node = leaf(config, parent) if parent else config
    low, high = RANGES[path]
    for value in (low, high):
        setattr(node, name, value)
        validate(config)
    for value in (low - 1, high + 1, math.nan):
        setattr(node, name, value)
        with pytest.raises(ConfigError, match=re.escape(path)):
            validate(config)


def test_good_values_pass():
    for arguments in [
        ["resolution=512", "model=owner/name", "model.scheduler=HeunDiscreteScheduler", "scene=."],
        ["resolution=[768,64]", "model.device=cuda:1", "farm.workers=3"],
    ]:
        validate(one(*arguments))
    for name in BUILTIN:
        validate(SubmitConfig(scene=SceneConfig(name=name)))


def test_an_address_belongs_to_a_cluster():
    with pytest.raises(ConfigError, match="farm=cluster"):
        validate(one("farm.address=auto", "farm=local"))


@settings(max_examples=100)
@given(st.text())
def test_slugs_are_file_names(text):
    assert re.fullmatch(r"[a-z0-9-]{1,40}", slug(text))
