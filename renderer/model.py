"""Which weights a render uses, and what they imply: sizes, steps, feature levels. Reads JSON only; network.py loads the rest."""

import hashlib
import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderer.config import ModelConfig
from renderer.errors import ModelError

POCKET = Path(__file__).parent / "pocket"
PATIENCE = 5.0  # seconds to wait for the hub's first answer


@dataclass(frozen=True)
class Preset:
    """A model by name: where its parts are and what suits it where the weights do not say so themselves."""

    description: str
    base: str
    controlnet: str | None = None
    scheduler: str | None = None


PRESETS = {
    "pocket": Preset("our own small model, embedded: needs no network and no GPU; knows its vocabulary only", "pocket"),
    "sd15": Preset(
        "Stable Diffusion 1.5 with the depth ControlNet, from the hub",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "lllyasviel/control_v11f1p_sd15_depth",
        "dpm++",
    ),
}


# Schedulers by a short name: diffusers' class and what it is made with. Any other class of diffusers goes by its own name.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


@dataclass(frozen=True)
class ModelSpec:
    """What the main job must know of a model before its weights are loaded.

    base, controlnet: pocket, a folder or a hub id (controlnet None: the base's own subfolder); `located` says where in this
    process. vae_factor: pixels along a latent pixel.
    decoder, encoder: its self-attention layers, each as (halvings of the latent grid, channels); the middle is the encoder's.
    resolution, steps, guidance: the model's own defaults. scheduler: its name or None for the model's own.
    """

    base: str
    controlnet: str | None
    scheduler: str | None
    latent_channels: int
    vae_factor: int
    decoder: tuple[tuple[int, int], ...]
    encoder: tuple[tuple[int, int], ...]
    resolution: int
    steps: int
    guidance: float


def model_spec(config: ModelConfig) -> ModelSpec:
    """Resolve a model by preset name, folder in diffusers layout or hub id. Raises ModelError where parts are missing."""
    if config.scheduler and not known_scheduler(config.scheduler):
        raise ModelError(
            f"model.scheduler={config.scheduler}: unknown; use {', '.join(SCHEDULERS)} or a class of diffusers such as "
            "HeunDiscreteScheduler"
        )
    preset = PRESETS.get(config.name, Preset("", config.name))
    base, controlnet = absolute(config.base or preset.base), config.controlnet or preset.controlnet
    controlnet = controlnet and absolute(controlnet)
    if base == "pocket" and not POCKET.is_dir():
        raise ModelError(
            f"model=pocket: its weights are missing from {POCKET}; get the whole checkout, or train them with "
            "`python jobs/train_pocket.py`"
        )
    unet, vae = read_json(base, "unet/config.json"), read_json(base, "vae/config.json")
    if controlnet is None:
        read_json(base, "controlnet/config.json")
    else:
        read_json(controlnet, "config.json")
    own = Path(located(base)) / "render_defaults.json"
    defaults = {"steps": 50, "guidance": 7.5, **(read_json(base, own.name) if own.exists() else {})}
    try:
        vae_factor = 2 ** (len(vae["block_out_channels"]) - 1)
        encoder, decoder = attention_layers(unet)
        return ModelSpec(
            base=base,
            controlnet=controlnet,
            scheduler=config.scheduler or preset.scheduler,
            latent_channels=vae["latent_channels"],
            vae_factor=vae_factor,
            decoder=decoder,
            encoder=encoder,
            resolution=defaults.get("resolution") or unet["sample_size"] * vae_factor,
            steps=defaults["steps"],
            guidance=float(defaults["guidance"]),
        )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"model {base}: its unet or vae config.json lacks {error}; expected a Stable Diffusion model in diffusers layout"
        ) from error


def located(base: str) -> str:
    """Folder or hub id of a model's parts, in this process: the embedded model lies beside this code, wherever that is."""
    return str(POCKET) if base == "pocket" else base


def absolute(base: str) -> str:
    """A folder as other processes find it, whatever their working folder; anything else as it is."""
    return os.path.abspath(base) if base != "pocket" and os.path.isdir(base) else base


def attention_layers(unet: dict[str, Any]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Self-attention layers in a UNet's config.json, encoder with middle and decoder, each layer as (level, channels)."""
    channels = unet["block_out_channels"]
    depth = len(channels)

    def each(value: int | list[int]) -> list[int]:
        return [value] * depth if isinstance(value, int) else value

    blocks = each(unet.get("transformer_layers_per_block", 1))
    resnets = each(unet["layers_per_block"])
    upwards = unet.get("reverse_transformer_layers_per_block") or blocks[::-1]
    encoder, decoder = list[tuple[int, int]](), list[tuple[int, int]]()
    for i in range(depth):
        if "CrossAttn" in unet["down_block_types"][i]:
            encoder += [(i, channels[i])] * (resnets[i] * blocks[i])
        if "CrossAttn" in unet["up_block_types"][i]:
            level = depth - 1 - i
            decoder += [(level, channels[level])] * ((resnets[level] + 1) * upwards[i])
    return (*encoder, *[(depth - 1, channels[-1])] * blocks[-1]), tuple(decoder)


def weights_hash(spec: ModelSpec) -> str:
    """sha256 over a model's files: their names, sizes and first MiB. Hub models count by repository and commit."""
    digest = hashlib.sha256()
    for base in (spec.base, spec.controlnet):
        if base is None:
            continue
        folder = Path(located(base))
        if not folder.is_dir():
            found = fetch(base, "config.json" if base == spec.controlnet else "unet/config.json")
            commit = str(found).partition("/snapshots/")[2] or str(found)  # and not whose cache it lies in
            digest.update(f"{base}@{commit}".encode())
            continue
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".txt")):
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(folder)}:{path.stat().st_size}:".encode() + file.read(2**20))
    return digest.hexdigest()


def known_scheduler(name: str) -> bool:
    """Is this one of our short names, or a scheduler of diffusers for images? Looked up as text: importing it takes seconds."""
    if name in SCHEDULERS:
        return True
    package = importlib.util.find_spec("diffusers")
    assert package is not None
    assert package.origin is not None
    sources = (file.read_text("utf-8") for file in Path(package.origin).parent.glob("schedulers/scheduling_*.py"))
    return any(
        re.search(rf"^class {re.escape(name)}\(SchedulerMixin", source, re.MULTILINE)
        and "def scale_model_input" in source
        for source in sources
    )


def read_json(base: str, file: str) -> dict[str, Any]:
    """A JSON file of a model in a folder or on the hub. Raises ModelError where it is missing."""
    folder = Path(located(base))
    path = folder / file if folder.is_dir() else fetch(base, file)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {base}: cannot read {file} ({type(error).__name__}); expected a folder in diffusers layout with "
            "unet/, vae/, text_encoder/, tokenizer/, scheduler/ and controlnet/ (or model.controlnet=FOLDER)"
        ) from error


def fetch(repository: str, file: str) -> Path:
    """A file of a hub repository, from the local cache or over the network. Raises ModelError where neither has it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        try:
            return Path(hf_hub_download(repository, file, local_files_only=True))
        except LocalEntryNotFoundError:
            get_hf_file_metadata(
                hf_hub_url(repository, file), timeout=PATIENCE
            )  # asks once; a download tries for half a minute
            return Path(hf_hub_download(repository, file))
    except HFValidationError as error:
        raise ModelError(
            f"model {repository}: neither a preset ({', '.join(PRESETS)}), nor a folder, nor a hub id (owner/name)"
        ) from error
    except Exception as error:  # what the hub's client raises without a network depends on its version
        raise ModelError(
            f"model {repository}: {file} is neither in the local hub cache nor can it be fetched ({type(error).__name__}); "
            f"where there is a network run `hf download {repository}` and copy the folder here, then give it with "
            f"model.base=FOLDER or model.controlnet=FOLDER; model=pocket needs no download"
        ) from error
