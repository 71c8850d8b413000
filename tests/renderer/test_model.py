import json
import shutil
import subprocess
import sys
import time

import pytest
from safetensors.numpy import load_file, save_file

from renderer.config import ModelConfig
from renderer.errors import ModelError
from renderer.model import PRESETS, known_scheduler, model_spec, weights_hash


@pytest.fixture
def copy(checkpoint, tmp_path):
    """The small model in a folder of its own, to be damaged."""
    return shutil.copytree(checkpoint, tmp_path / "model")


def refused(**config):
    """The one line with which a model is refused, in less than two seconds."""
    begin = time.perf_counter()
    with pytest.raises(ModelError) as found:
        model_spec(ModelConfig(**config))
    assert time.perf_counter() - begin < 2
    message = str(found.value)
    assert "\n" not in message
    return message


def edit(path, **changes):
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def test_a_folder(checkpoint):
    spec = model_spec(ModelConfig(name=str(checkpoint)))
    assert (spec.base, spec.controlnet, spec.scheduler) == (str(checkpoint), None, None)
    assert (spec.latent_channels, spec.vae_factor) == (4, 8)
    assert (spec.decoder, spec.encoder) == (((1, 32),) * 2 + ((0, 16),) * 2, ((0, 16), (1, 32), (1, 32)))
    assert (spec.resolution, spec.steps, spec.guidance) == (64, 3, 3.0), "from render_defaults.json"


def test_defaults_where_the_model_says_nothing(copy):
    (copy / "render_defaults.json").unlink()
    spec = model_spec(ModelConfig(name=str(copy)))
    assert (spec.resolution, spec.steps, spec.guidance) == (64, 50, 7.5)


def test_levels_are_those_with_attention(copy):
    edit(
        copy / "unet" / "config.json",
        block_out_channels=[8, 8, 8, 8],
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    )
    spec = model_spec(ModelConfig(name=str(copy)))
    assert {level for level, _ in spec.decoder} == {1}
    assert {level for level, _ in spec.encoder} == {1, 2, 3}, "the middle block attends at the coarsest level"


def test_base_and_controlnet_by_themselves(checkpoint, copy):
    shutil.move(copy / "controlnet", copy.parent / "depth")
    assert "controlnet/config.json" in refused(name=str(copy))
    spec = model_spec(ModelConfig(name="pocket", base=str(copy), controlnet=str(copy.parent / "depth")))
    assert (spec.base, spec.controlnet) == (str(copy), str(copy.parent / "depth"))


def test_presets_say_what_they_are():
    assert {"pocket", "sd15"} <= set(PRESETS)
    assert all(preset.description for preset in PRESETS.values())


@pytest.mark.parametrize("file", ["unet/config.json", "vae/config.json", "controlnet/config.json"])
def test_missing_and_broken_files(copy, file):
    (copy / file).write_text("{")
    assert file in refused(name=str(copy))
    (copy / file).unlink()
    message = refused(name=str(copy))
    assert file in message
    assert "diffusers layout" in message


def test_another_kind_of_model(copy):
    edit(copy / "unet" / "config.json", down_block_types=None)
    assert "down_block_types" in refused(name=str(copy))


def test_a_hub_model_without_a_network_says_what_to_fetch():
    message = refused(name="somebody/some-model-that-is-not-here")
    assert "hf download somebody/some-model-that-is-not-here" in message
    assert "model.base=" in message


@pytest.mark.parametrize("name", ["a/b/c", "no such folder", "./nowhere"])
def test_neither_folder_nor_hub_id(name):
    assert "pocket" in refused(name=name)


def test_an_unreachable_hub_is_asked_once(tmp_path):
    """Without the offline switch, and with nobody answering: the error does not wait for retries."""
    code = (
        "import time; from renderer.config import ModelConfig; from renderer.model import model_spec\n"
        "import huggingface_hub; begin = time.perf_counter()\n"
        "try: model_spec(ModelConfig(name='somebody/something'))\n"
        "except ValueError as error: print(type(error).__name__, time.perf_counter() - begin)"
    )
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    name, seconds = done.stdout.split()
    assert name == "ModelError"
    assert float(seconds) < 2


def test_schedulers():
    for name in ("ddim", "euler", "dpm++", "unipc", "HeunDiscreteScheduler", "LCMScheduler"):
        assert known_scheduler(name)
    for name in (
        "",
        "heun",
        "Heun",
        ".*",
        "DDIMSchedulerOutput",
        "DDIMSchedule",
        "(",
        "SchedulerMixin",
        "FlowMatchEulerDiscreteScheduler",
    ):
        assert not known_scheduler(name), name
    assert "nonsense" in refused(scheduler="nonsense")
    assert "dpm++" in refused(scheduler="nonsense")


def test_the_hash_follows_the_weights_and_the_settings(checkpoint, copy):
    def hashed():
        return weights_hash(model_spec(ModelConfig(name=str(copy))))

    seen = {hashed()}
    assert seen == {weights_hash(model_spec(ModelConfig(name=str(checkpoint))))}, "not on where the folder lies"
    for part in ("unet", "controlnet", "vae"):
        file = next((copy / part).glob("*.safetensors"))
        tensors = load_file(file)
        first = min(tensors)
        tensors[first] = tensors[first] + 1e-3
        save_file(tensors, file)
        seen.add(hashed())
    edit(copy / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    seen.add(hashed())
    assert len(seen) == 5
    (copy / "notes.md").write_text("a person's notes")
    assert hashed() in seen
