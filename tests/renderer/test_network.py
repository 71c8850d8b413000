import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import PER_FRAME, QUIET
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from transformers import AutoTokenizer, CLIPTextModel

from renderer.attention import KeyframePass
from renderer.config import ModelConfig, NoiseConfig
from renderer.errors import ModelError
from renderer.model import model_spec
from renderer.network import Network
from renderer.plan import make_plan
from renderer.render import InlineExecutor, decode, denoise, make_gbuffers, survey
from renderer.video import read_png


@pytest.fixture(scope="module")
def network(checkpoint):
    return Network(model_spec(ModelConfig(name=str(checkpoint))), "decoder", "cpu", torch.float32)


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    """diffusers' own pipeline on the same files."""
    parts = {"unet": UNet2DConditionModel, "controlnet": ControlNetModel, "vae": AutoencoderKL}
    loaded = {name: kind.from_pretrained(checkpoint, subfolder=name) for name, kind in parts.items()}
    pipe = StableDiffusionControlNetPipeline(
        **loaded,
        text_encoder=CLIPTextModel.from_pretrained(checkpoint, subfolder="text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint / "tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(checkpoint, subfolder="scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("scheduler", "kind", "guidance", "scale"),
    [("ddim", DDIMScheduler, 3.0, 1.0), ("euler", EulerDiscreteScheduler, 3.0, 0.6), ("ddim", DDIMScheduler, 1.0, 1.0)],
)
def test_per_frame_is_diffusers_controlnet_pipeline(small, pipeline, tmp_path, scheduler, kind, guidance, scale):
    config = small(method=PER_FRAME, guidance=guidance, frames=3)
    config = replace(config, model=replace(config.model, scheduler=scheduler, control_scale=scale))
    plan, _ = make_plan(config, tmp_path, "cpu", 1)
    executor = InlineExecutor()
    plan = survey(plan, executor, QUIET)
    make_gbuffers(plan, executor, QUIET)
    latents = denoise(plan, executor, QUIET)
    decode(plan, executor, QUIET, latents)

    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    noise = executor.renderer.noise(range(3), 0)
    control = np.stack([executor.renderer.arrays(frame)["control"] for frame in range(3)])
    assert control.max() == 1
    inputs = dict(
        prompt=[config.prompt] * 3,
        negative_prompt=[config.negative_prompt] * 3,
        image=torch.from_numpy(control)[:, None].expand(-1, 3, -1, -1),
        latents=noise,
        num_inference_steps=3,
        guidance_scale=guidance,
        controlnet_conditioning_scale=scale,
    )
    torch.testing.assert_close(latents, pipeline(**inputs, output_type="latent").images, atol=1e-4, rtol=0)
    wanted = pipeline(**inputs, output_type="np").images
    pictures = np.stack([read_png(plan.picture_path(frame)) for frame in range(3)])
    assert np.abs(pictures / 255 - wanted).max() < 0.5 / 255 + 1e-4
    assert pictures.std() > 1, "there is something to compare"


def test_the_prompt_is_encoded_once_a_branch(network):
    both = network.encode_prompt("a tin toy", "blur", 3.0)
    assert both.shape == (2, 24, 16)
    assert torch.equal(network.encode_prompt("a tin toy", "anything", 1.0), both[1:])
    assert torch.equal(network.encode_prompt("blur", "", 1.0), both[:1])


def test_a_long_or_strange_prompt_fits(network):
    for prompt in ("word " * 500, "", "ünïcödé 🦊", "<|endoftext|>"):
        assert network.encode_prompt(prompt, "", 3.0).shape == (2, 24, 16)


def predict(network, latents, prompt, control, scale=1.0, sharing=None):
    return network.predict(latents, 400, prompt, control, scale, sharing)


@pytest.fixture
def inputs(network):
    generator = torch.Generator().manual_seed(0)
    latents, control = torch.randn(3, 4, 8, 8, generator=generator), torch.rand(3, 64, 64, generator=generator)
    return latents, network.encode_prompt("a tin toy", "blur", 3.0), control


def test_branches_and_frames_are_independent(network, inputs):
    latents, prompt, control = inputs
    whole = predict(network, latents, prompt, control)
    assert whole.shape == (2, 3, 4, 8, 8)
    torch.testing.assert_close(predict(network, latents, prompt[1:], control)[0], whole[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(predict(network, latents, prompt.flip(0), control), whole.flip(0), atol=1e-5, rtol=1e-4)
    one = predict(network, latents[1:2], prompt, control[1:2])
    torch.testing.assert_close(one[:, 0], whole[:, 1], atol=1e-5, rtol=1e-4)


def test_control_is_seen_and_weighed(network, inputs):
    latents, prompt, control = inputs
    plain, none = predict(network, latents, prompt, control), predict(network, latents, prompt, control, 0.0)
    assert not torch.allclose(plain, none, atol=1e-3)
    assert torch.equal(none, predict(network, latents, prompt, 1 - control, 0.0))
    alone = network.unet(
        latents.repeat(2, 1, 1, 1), 400, encoder_hidden_states=prompt.repeat_interleave(3, dim=0), return_dict=False
    )[0]
    torch.testing.assert_close(none.flatten(0, 1), alone, atol=1e-5, rtol=1e-4)


def test_keyframes_see_each_other_in_every_feature_layer(network, inputs):
    latents, prompt, control = inputs
    sharing = KeyframePass(2)
    together = predict(network, latents, prompt, control, sharing=sharing)
    assert sorted(sharing.features) == sorted(network.feature_layers)
    for pre, post in sharing.features.values():
        assert pre.shape == post.shape
        assert pre.shape[:2] == (2, 3)
    assert not torch.allclose(together, predict(network, latents, prompt, control), atol=1e-4)
    alone = predict(network, latents[:1], prompt, control[:1], sharing=KeyframePass(2))
    torch.testing.assert_close(alone, predict(network, latents[:1], prompt, control[:1]), atol=1e-5, rtol=1e-4)


def test_pictures(network):
    pictures = network.decode(torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert (pictures.shape, pictures.dtype) == ((2, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("part", ["unet", "controlnet", "vae", "text_encoder"])
def test_missing_weights_are_one_line(checkpoint, tmp_path, part):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    for file in (folder / part).glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError) as found:
        Network(model_spec(ModelConfig(name=str(folder))), "decoder", "cpu", torch.float32)
    assert "\n" not in str(found.value)
    assert "safetensors" in str(found.value)


def test_what_was_inverted_is_made_again(small, tmp_path):
    """Without guidance, from the noise of its inversion, DDIM makes the depth images of which it is the inversion."""
    config = small(method=PER_FRAME, guidance=1.0, frames=3, steps=30, noise=NoiseConfig(kind="inverted"))
    config = replace(config, model=replace(config.model, scheduler="ddim"))
    plan, _ = make_plan(config, tmp_path, "cpu", 1)
    executor = InlineExecutor()
    plan = survey(plan, executor, QUIET)
    renderer, _ = executor.resolve(plan, ())
    depth = torch.from_numpy(np.stack([renderer.arrays(frame)["control"] for frame in range(3)]))
    wanted = renderer.network.encode(depth[:, None].expand(-1, 3, -1, -1))
    found = denoise(plan, executor, QUIET)
    other = denoise(replace(plan, config=replace(config, noise=NoiseConfig(kind="random"))), executor, QUIET)
    assert (found - wanted).abs().mean() < 0.1 * (other - wanted).abs().mean()
    assert torch.equal(renderer.invert([2])[0], renderer.invert([1, 2])[1]), "whatever it is inverted together with"
