"""The pre-trained parts, used as modules: text encoder, UNet with ControlNet, VAE. The loop around them is ours."""

from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel

from renderer.attention import Injection, KeyframePass, share_attention
from renderer.errors import ModelError
from renderer.model import ModelSpec, located


class Network:
    """A loaded model on one device; lives as long as its worker.

    layers: decoder | all, the self-attention layers that take part. device, dtype: as torch has them.
    """

    def __init__(self, spec: ModelSpec, layers: str, device: str, dtype: torch.dtype):
        self.device, self.dtype = torch.device(device), dtype
        options = {"torch_dtype": dtype, "use_safetensors": True, "low_cpu_mem_usage": False}
        for library in (transformers, diffusers):
            library.utils.logging.disable_progress_bar()
        base = located(spec.base)
        try:
            self.unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet", **options)
            self.controlnet = (
                ControlNetModel.from_pretrained(spec.controlnet, **options)
                if spec.controlnet
                else ControlNetModel.from_pretrained(base, subfolder="controlnet", **options)
            )
            self.vae = AutoencoderKL.from_pretrained(base, subfolder="vae", **options)
            self.text_encoder = CLIPTextModel.from_pretrained(
                base, subfolder="text_encoder", dtype=dtype, use_safetensors=True
            )
            # A folder's tokenizer is opened as a folder: some versions look up a subfolder on the hub only.
            folder = Path(base) / "tokenizer"
            self.tokenizer = (
                AutoTokenizer.from_pretrained(folder)
                if folder.is_dir()
                else AutoTokenizer.from_pretrained(base, subfolder="tokenizer")
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"model {spec.base}: cannot load its weights ({reason}); expected safetensors in diffusers layout; "
                f"where there is a network `hf download {spec.base}` fetches a hub model"
            ) from error
        for module in (self.unet, self.controlnet, self.vae, self.text_encoder):
            module.eval().requires_grad_(False).to(self.device)
        for module in (self.unet, self.controlnet, self.vae):  # convolutions run faster so, on CPUs and GPUs alike
            module.to(memory_format=torch.channels_last)
        self.feature_layers = share_attention(self.unet, layers)

    @torch.inference_mode()
    def encode_prompt(self, prompt: str, negative_prompt: str, guidance: float) -> Tensor:
        """Text embeddings [G, L, D]: (unconditional, conditional), or the conditional one alone where guidance ≤ 1."""
        texts = [negative_prompt, prompt] if guidance > 1 else [prompt]
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings),
            truncation=True,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids.to(self.device))[0]

    @torch.inference_mode()
    def predict(
        self,
        latents: Tensor,
        timestep: float,
        prompt: Tensor,
        control: Tensor,
        control_scale: float,
        sharing: KeyframePass | Injection | None,
    ) -> Tensor:
        """One network evaluation a frame and guidance branch.

        latents: scheduler-scaled [n, C, h, w]. prompt: [G, L, D]. control: depth in [0, 1], [n, H, W]. Returns [G, n, C, h, w].
        """
        branches, frames = len(prompt), len(latents)
        x = latents.to(self.device, self.dtype).repeat(branches, 1, 1, 1)
        text = prompt.repeat_interleave(frames, dim=0)
        image = control.to(self.device, self.dtype)[:, None].expand(-1, 3, -1, -1).repeat(branches, 1, 1, 1)
        t = torch.tensor(timestep, device=self.device)
        down, mid = self.controlnet(
            x,
            t,
            encoder_hidden_states=text,
            controlnet_cond=image,
            conditioning_scale=control_scale,
            return_dict=False,
        )
        prediction = self.unet(
            x,
            t,
            encoder_hidden_states=text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            cross_attention_kwargs={"sharing": sharing},
            return_dict=False,
        )[0]
        return prediction.unflatten(0, (branches, frames))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures [n, 3, H, W] in [0, 1] to latents float32 [n, C, h, w], scheduler-scaled: the posterior's mean."""
        posterior = self.vae.encode((images * 2 - 1).to(self.device, self.dtype)).latent_dist
        return (posterior.mean * self.vae.config.scaling_factor).float().cpu()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latents [n, C, h, w] to pictures uint8 [n, H, W, 3]."""
        scaled = latents.to(self.device, self.dtype) / self.vae.config.scaling_factor
        images = self.vae.decode(scaled, return_dict=False)[0].float()
        return ((images / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
