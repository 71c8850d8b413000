"""A model with random weights in diffusers layout: as fast and as large as a trained one, for benchmarks and tests.

python jobs/random_model.py sd15 FOLDER    the architecture of Stable Diffusion 1.5 with its ControlNet, 2.7 GB, float16
python jobs/random_model.py tiny FOLDER    a few hundred kB: latents of 4 channels at 1/8, attention at two levels
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

ATTENTION = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "network": {
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "down_block_types": (ATTENTION[0],) * 2,
            "cross_attention_dim": 16,
            "attention_head_dim": 2,  # in Stable Diffusion 1.5 this is the number of heads
            "norm_num_groups": 8,
        },
        "unet": {"sample_size": 8, "up_block_types": (ATTENTION[1],) * 2},
        "controlnet": {"conditioning_embedding_out_channels": (4, 4, 8, 8)},
        "vae": {"block_out_channels": (8,) * 4, "norm_num_groups": 4},
        "text": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        "tokens": 24,
        "defaults": {"steps": 3, "guidance": 3.0, "resolution": 64},
        "control": 0.1,
        "dtype": torch.float32,
    },
    "sd15": {
        "network": {
            "block_out_channels": (320, 640, 1280, 1280),
            "layers_per_block": 2,
            "down_block_types": (ATTENTION[0],) * 3 + ("DownBlock2D",),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        "unet": {"sample_size": 64, "up_block_types": ("UpBlock2D",) + (ATTENTION[1],) * 3},
        "controlnet": {},
        "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        "tokens": 77,
        "defaults": {},
        "control": 0.01,
        "dtype": torch.float16,
    },
}


def make_model(folder: Path, size: str, device: str = "cpu") -> None:
    """Write a model of this size (a name in SIZES) into a folder. device: where its weights are drawn, which shows in them."""
    sizes = SIZES[size]
    vocabulary = write_tokenizer(folder / "tokenizer", sizes["tokens"])
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**sizes["network"], **sizes["unet"])
        controlnet: Any = ControlNetModel(**sizes["network"], **sizes["controlnet"])
        for parameter in controlnet.parameters():  # its output layers begin at zero and would hide the control image
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=sizes["control"])
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **sizes["vae"]
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                **sizes["text"],
                vocab_size=len(vocabulary),
                max_position_embeddings=sizes["tokens"],
                bos_token_id=vocabulary["<|startoftext|>"],
                eos_token_id=vocabulary["<|endoftext|>"],
                pad_token_id=vocabulary["<|endoftext|>"],
            )
        )
    parts: dict[str, Any] = {"unet": unet, "controlnet": controlnet, "vae": vae, "text_encoder": text_encoder}
    for name, part in parts.items():
        part.to(sizes["dtype"]).save_pretrained(folder / name, safe_serialization=True)
    scheduler: Any = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "render_defaults.json").write_text(json.dumps(sizes["defaults"]))


def write_tokenizer(folder: Path, length: int) -> dict[str, int]:
    """A CLIP tokenizer that spells: every letter is a token, and there is nothing to merge. Returns its vocabulary."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!'"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": length,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return vocabulary


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SIZES:
        sys.exit(__doc__)
    make_model(Path(sys.argv[2]), sys.argv[1], "cuda" if torch.cuda.is_available() else "cpu")
