"""What many tests need: a small model with random weights in diffusers layout, and settings that render in a second."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from renderer.config import MethodConfig, ModelConfig, RenderConfig, SceneConfig

# Read when torch and the hub's client are first imported: the last bits do not depend on this machine's cores, and no test
# waits for a network.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

PER_FRAME = MethodConfig(name="per_frame", keyframes=0, adain_until=0.0)


class Quiet:
    """Progress that nobody looks at."""

    def phase(self, name, total, done=0):
        pass

    def advance(self, units=1):
        pass

    def note(self, line):
        pass


QUIET = Quiet()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Nothing is cached in the person's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A Stable Diffusion model with a ControlNet, small and random: latents of 4 channels at 1/8, attention at two levels."""
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("checkpoint")
    vocabulary = tokenizer(folder / "tokenizer")
    common = dict(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,  # in Stable Diffusion 1.5 this is the number of heads
        norm_num_groups=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), **common)
        common.pop("sample_size")
        controlnet = ControlNetModel(conditioning_embedding_out_channels=(4, 4, 8, 8), **common)
        for parameter in controlnet.parameters():  # its output layers begin at zero and would hide the control image
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=24,
                bos_token_id=vocabulary["<|startoftext|>"],
                eos_token_id=vocabulary["<|endoftext|>"],
                pad_token_id=vocabulary["<|endoftext|>"],
            )
        )
    for name, part in {"unet": unet, "controlnet": controlnet, "vae": vae, "text_encoder": text_encoder}.items():
        part.save_pretrained(folder / name, safe_serialization=True)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "render_defaults.json").write_text(json.dumps({"steps": 3, "guidance": 3.0, "resolution": 64}))
    return folder


def tokenizer(folder: Path) -> dict[str, int]:
    """A CLIP tokenizer that spells: every letter is a token, and there is nothing to merge. Returns its vocabulary."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!'"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 24,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return vocabulary


@pytest.fixture(scope="session")
def small(checkpoint):
    """small(**changes) → RenderConfig: five frames of 64², three steps, the small model."""
    base = RenderConfig(
        scene=SceneConfig(name="flag"),
        prompt="a tin toy",
        negative_prompt="blur",
        seed=3,
        frames=5,
        resolution=64,
        chunk=2,
        model=ModelConfig(name=str(checkpoint), device="cpu"),
        method=MethodConfig(name="paper", keyframes=2),
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture(scope="session")
def small_disk():
    """small_disk(folder, size, command, **options): subprocess.run with a file system of so many bytes at `folder`."""
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")

    def run(folder, size, command, **options):
        mount = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
        return subprocess.run([*alone, "sh", "-c", mount, "sh", size, str(folder), *command], timeout=120, **options)

    return run
