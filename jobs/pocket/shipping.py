"""The shipped folder in diffusers layout: written after training, read for evaluation."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModel

from jobs.pocket import networks, tokenizer, words
from jobs.pocket.networks import Critic, Denoiser

SHARD = "12MB"
STEPS, GUIDANCE = 12, 2.5
DEFAULTS = {"resolution": 256, "steps": STEPS, "guidance": GUIDANCE}
CRITIC = "judge/critic.safetensors"


@dataclass
class Pocket:
    """The embedded model and its measuring instruments."""

    denoiser: Denoiser
    vae: Any
    judge: Any
    critic: Critic
    coder: Any


def save(folder: Path, pocket: Pocket) -> None:
    """Write everything as fp16 in shards of at most 12 MB; the models stay as they are."""
    plain: Any = torch.contiguous_format
    denoiser = pocket.denoiser
    for name, part in {
        "unet": denoiser.unet, "controlnet": denoiser.controlnet, "text_encoder": denoiser.text_encoder,
        "vae": pocket.vae, "judge": pocket.judge,
    }.items():  # fmt: skip
        copy.deepcopy(part).half().to(memory_format=plain).save_pretrained(folder / name, max_shard_size=SHARD)
    critic: Any = copy.deepcopy(pocket.critic).half()
    state = critic.to(memory_format=plain).state_dict()
    save_file(state, folder / CRITIC)
    networks.scheduler().save_pretrained(folder / "scheduler")
    pocket.coder.save_pretrained(folder / "tokenizer")
    pocket.coder.save_pretrained(folder / "judge")
    write_index(folder)
    write_vocabulary(folder)


def write_index(folder: Path) -> None:
    """`model_index.json`, the defaults of a render, and the judge's preprocessing."""
    index = {
        "_class_name": "StableDiffusionControlNetPipeline", "_diffusers_version": diffusers.__version__,
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "controlnet": ["diffusers", "ControlNetModel"], "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None], "feature_extractor": [None, None], "image_encoder": [None, None],
        "requires_safety_checker": False,
    }  # fmt: skip
    size = {"height": networks.JUDGE_SIZE, "width": networks.JUDGE_SIZE}
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": size, "resample": 3, "do_center_crop": False,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "do_convert_rgb": True,
    }  # fmt: skip
    files = {
        "model_index.json": index,
        "render_defaults.json": DEFAULTS,
        "judge/preprocessor_config.json": preprocessor,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def write_vocabulary(folder: Path) -> None:
    """`vocabulary.json`: the canonical phrases by kind, and every word that the model knows."""
    vocabulary = {
        "materials": {name: list(m.adjectives) for name, m in words.MATERIALS.items()},
        "environments": {name: list(group) for name, group in words.ENVIRONMENTS.items()},
        "lights": {name: list(group) for name, group in words.LIGHTS.items()},
        "styles": {name: list(group) for name, group in words.STYLES.items()},
        "colours": words.COLOURS,
        "words": words.known_words(),
    }
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary, indent=1) + "\n")


def load_model(folder: Path, device: torch.device) -> tuple[Denoiser, Any]:
    """Denoiser and autoencoder of a shipped folder, float32."""
    denoiser = Denoiser(len(tokenizer.load(folder / "tokenizer")))
    denoiser.unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    denoiser.controlnet = ControlNetModel.from_pretrained(folder / "controlnet", torch_dtype=torch.float32)
    denoiser.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    return _ready(denoiser, device), _ready(vae, device)


def load(folder: Path, device: torch.device) -> Pocket:
    """The shipped folder, float32, ready to evaluate."""
    critic = Critic()
    critic.load_state_dict(load_file(folder / CRITIC))
    judge = CLIPModel.from_pretrained(folder / "judge", dtype=torch.float32)
    denoiser, vae = load_model(folder, device)
    return Pocket(denoiser, vae, _ready(judge, device), _ready(critic, device), tokenizer.load(folder / "tokenizer"))


def _ready(part: Any, device: torch.device) -> Any:
    return part.to(device).eval().requires_grad_(False)
