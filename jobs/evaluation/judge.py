"""What a CLIP model makes of pictures: how alike they are, and how much they are what was asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel
from transformers.image_processing_base import ImageProcessingMixin

from renderer.errors import ModelError
from renderer.model import POCKET

CLIP = "openai/clip-vit-base-patch32"
EMBEDDED = POCKET / "judge"


class Judge:
    """A CLIP model, and the critic that finds heroes where one lies beside it. On the GPU where there is one.

    name: "pocket" for the embedded one, which knows the embedded model's vocabulary and no more; else a folder or hub id.
    Raises ModelError where it cannot be loaded.
    """

    def __init__(self, name: str):
        self.name, source = name, str(EMBEDDED) if name == "pocket" else name
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        transformers.utils.logging.disable_progress_bar()
        try:
            self.model: Any = CLIPModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True).eval()
            processing, _ = ImageProcessingMixin.get_image_processor_dict(source)
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"judge {source}: cannot be loaded; where there is a network `hf download {CLIP}` fetches CLIP"
            ) from error
        self.model.to(self.device)
        self.mean, self.std = (
            torch.tensor(processing[f"image_{key}"], device=self.device)[:, None, None] for key in ("mean", "std")
        )
        self.critic = load_critic().to(self.device) if name == "pocket" else None
        self.told: dict[tuple[str, ...], Tensor] = {}

    @torch.inference_mode()
    def images(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Unit embeddings [B, D] of pictures uint8 [H, W, 3]: the largest square in their middle is what is looked at."""
        images = scaled(pictures).to(self.device)
        height, width = images.shape[-2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = images[..., top : top + side, left : left + side]
        size = self.model.config.vision_config.image_size
        pixels = F.interpolate(square, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
        pooled = self.model.vision_model(pixel_values=(pixels - self.mean) / self.std).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1).cpu()

    @torch.inference_mode()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Unit embeddings [B, D] of prompts."""
        if tuple(prompts) not in self.told:
            length = min(self.tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings)
            tokens = self.tokenizer(
                list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
            )
            pooled = self.model.text_model(**tokens.to(self.device)).pooler_output
            self.told[tuple(prompts)] = F.normalize(self.model.text_projection(pooled), dim=-1).cpu()
        return self.told[tuple(prompts)]

    @torch.inference_mode()
    def silhouettes(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.bool_] | None:
        """Where a hero is seen in pictures uint8 [H, W, 3], bool [B, H, W]; None where there is no critic."""
        if self.critic is None:
            return None
        return (self.critic(scaled(pictures).to(self.device))[0][:, 0] > 0).cpu().numpy()


def scaled(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures uint8 [H, W, 3] as float32 [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def load_critic() -> Any:
    """The network that finds the hero in pictures of the embedded model."""
    from safetensors.torch import load_file

    from jobs.pocket.networks import Critic

    critic = Critic()
    critic.load_state_dict(load_file(Path(EMBEDDED) / "critic.safetensors"))
    return critic.float().eval()
