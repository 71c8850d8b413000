"""The networks of the embedded model, all but the critics stock classes of diffusers and transformers.

Sizes are chosen together: 45 MB in fp16 for everything that ships, self-attention at 32², 16² and 8² on the way down and up, and
about 5 GMAC for one evaluation of UNet and ControlNet at 256².
"""

from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from jobs.pocket import words
from jobs.pocket.tokenizer import TEXT_LENGTH

TEXT_WIDTH = 192
LATENT_CHANNELS, LATENT_SCALE = 4, 8
JUDGE_SIZE = 160  # the side of the pictures that the judge looks at


def autoencoder() -> Any:  # these classes of diffusers have no types
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 112, 112),
        layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=16, sample_size=256, mid_block_add_attention=False,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def _text_config(vocabulary: int, width: int, layers: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 4, projection_dim=width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=TEXT_LENGTH, hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
    )  # fmt: skip


def placed(model: nn.Module, device: torch.device) -> Any:
    """The model on a device, its convolutions in the layout that GPUs like."""
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Denoiser(nn.Module):
    """Text encoder, ControlNet and UNet as they are trained: together, from nothing."""

    def __init__(self, vocabulary: int):
        super().__init__()
        shared = {
            "in_channels": LATENT_CHANNELS, "block_out_channels": (128, 160, 160), "layers_per_block": 1,
            "norm_num_groups": 16,
            "cross_attention_dim": TEXT_WIDTH,
            # In these classes the argument is the number of heads: 32 channels each.
            "attention_head_dim": (4, 5, 5),
        }  # fmt: skip
        self.unet: Any = UNet2DConditionModel(
            sample_size=32, out_channels=LATENT_CHANNELS, down_block_types=("CrossAttnDownBlock2D",) * 3,
            up_block_types=("CrossAttnUpBlock2D",) * 3, **shared,
        )  # fmt: skip
        self.controlnet: Any = ControlNetModel(
            conditioning_embedding_out_channels=(8, 16, 32, 64), down_block_types=("DownBlock2D",) * 3,
            mid_block_type="UNetMidBlock2D",
            **shared,
        )  # fmt: skip
        self.text_encoder: Any = CLIPTextModel(_text_config(vocabulary, TEXT_WIDTH, 2, 6))

    def forward(self, latents: Tensor, timesteps: Tensor, ids: Tensor, control: Tensor) -> Tensor:
        """v-prediction [B, 4, h, w] for noisy latents [B, 4, h, w], timesteps [B], token ids [B, L] and control
        images [B, 3, 8h, 8w]."""
        text = self.text_encoder(input_ids=ids).last_hidden_state
        down, middle = self.controlnet(latents, timesteps, text, control, return_dict=False)
        return self.unet(
            latents,
            timesteps,
            text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]


def scheduler() -> Any:
    """v-prediction with zero terminal signal, so that pictures may be darker or brighter than grey (Lin et al.,
    2024)."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        timestep_spacing="trailing", rescale_betas_zero_snr=True, clip_sample=False, set_alpha_to_one=True,
    )  # fmt: skip


def judge(vocabulary: int) -> Any:
    """A small image-text embedding in CLIP's own layout."""
    text = _text_config(vocabulary, 96, 2, 4).to_dict()
    vision = {
        "hidden_size": 144, "intermediate_size": 432, "num_hidden_layers": 5, "num_attention_heads": 3, "image_size": JUDGE_SIZE,
        "patch_size": 8, "hidden_act": "quick_gelu",
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=96))


def _convolution(a: int, b: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]


def _separable(a: int, b: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A convolution of each channel, then one across them: wide fields for few parameters (after MobileNet)."""
    depthwise = nn.Conv2d(a, a, size, stride, size // 2, groups=a, bias=False)
    return [depthwise, nn.BatchNorm2d(a), nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]


class Critic(nn.Module):
    """A small U-shaped network that finds the hero and tells what is seen: the yardstick of silhouettes and, by its
    features, the autoencoder's perceptual loss."""

    channels = (3, 24, 48, 96, 128)
    context, width = 160, 40

    def __init__(self) -> None:
        super().__init__()
        pairs = list(zip(self.channels, self.channels[1:], strict=False))
        stages = [nn.Sequential(*_convolution(a, b, 2), *_convolution(b, b)) for a, b in pairs]
        far = nn.Sequential(
            *_separable(self.channels[-1], self.context, 3, 2), *_separable(self.context, self.context, 5)
        )
        self.stages = nn.ModuleList([*stages, far])
        self.lateral = nn.ModuleList(nn.Conv2d(c, self.width, 1) for c in (*self.channels[1:], self.context))
        self.merge = nn.ModuleList(nn.Sequential(*_convolution(self.width, self.width)) for _ in stages)
        self.mask = nn.Sequential(nn.Conv2d(self.width, 4, 1), nn.PixelShuffle(2))
        self.sizes = [len(words.MATERIALS), len(words.ENVIRONMENTS), len(words.LIGHTS), len(words.STYLES)]
        self.labels = nn.Linear(self.channels[-1] + 2 * self.context, sum(self.sizes))

    def features(self, images: Tensor) -> list[Tensor]:
        """What the stages find, at a half to 1/32 of the size of images [B, 3, H, W] in [0, 1]."""
        found, x = [], images * 2 - 1
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mask logits [B, 1, H, W] and logits of material, environment, light and style for images [B, 3, H,
        W] in [0, 1]."""
        found = self.features(images)
        x = self.lateral[-1](found[-1])
        for finer, lateral, merge in zip(found[-2::-1], self.lateral[-2::-1], self.merge, strict=True):
            x = merge(F.interpolate(x, size=finer.shape[-2:], mode="bilinear") + lateral(finer))
        mask = self.mask(x)
        near, far = found[-2:]
        hero = [_mean_where(f, torch.sigmoid(mask.detach().float())) for f in (near, far)]
        return mask, self.labels(torch.cat([*hero, far.mean((2, 3))], 1)).split(self.sizes, 1)


def _mean_where(features: Tensor, share: Tensor) -> Tensor:
    """Mean [B, C] of features [B, C, h, w] over what a finer map [B, 1, H, W] in [0, 1] marks."""
    weight = F.interpolate(share, size=features.shape[-2:], mode="area").to(features.dtype) + 1e-3
    return (features * weight).sum((2, 3)) / weight.sum((2, 3))


class Discriminator(nn.Module):
    """Judges patches of pictures (PatchGAN); trained beside the autoencoder only."""

    def __init__(self) -> None:
        super().__init__()
        block = lambda a, b: [nn.Conv2d(a, b, 4, 2, 1), nn.GroupNorm(8, b), nn.LeakyReLU(0.2)]  # noqa: E731
        self.body = nn.Sequential(
            nn.Conv2d(3, 48, 4, 2, 1), nn.LeakyReLU(0.2), *block(48, 96), *block(96, 160), nn.Conv2d(160, 1, 3, 1, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images * 2 - 1)
