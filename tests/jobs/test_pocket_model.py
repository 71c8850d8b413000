"""The shipped weights, loaded by stock classes only: the prompt decides what the judge sees in the picture."""

import json

import pytest
import torch

from renderer.model import POCKET


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusionControlNetPipeline

    pipe = StableDiffusionControlNetPipeline.from_pretrained(POCKET, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def control():
    """A ball in front of nothing, nearest in the middle."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 256), torch.linspace(-1, 1, 256), indexing="ij")
    bulge = (0.75**2 - x**2 - y**2).clamp(min=0).sqrt()
    depth = torch.where(bulge > 0, 0.1 + 0.9 * bulge / 0.75, torch.zeros_like(bulge))
    return depth.expand(1, 3, -1, -1)


def shown(pipeline, control, prompt: str) -> torch.Tensor:
    defaults = json.loads((POCKET / "render_defaults.json").read_text())
    picture = pipeline(
        prompt,
        image=control,
        num_inference_steps=defaults["steps"],
        guidance_scale=defaults["guidance"],
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    )
    return picture.images


@pytest.mark.parametrize(
    ("prompt", "other"),
    [
        ("a golden statue in a meadow", "an ice statue in a meadow"),
        ("a golden statue in a snowy forest", "a golden statue near a volcano"),
        pytest.param("a zebra statue in a desert", "a brick statue in a desert", marks=pytest.mark.long),
    ],
)
def test_the_judge_prefers_the_prompt_that_was_given(pipeline, control, prompt, other):
    from transformers import CLIPModel

    from jobs.pocket import tokenizer
    from jobs.pocket.judge import embed_ids, embed_images

    judge = CLIPModel.from_pretrained(POCKET / "judge", dtype=torch.float32).eval()
    ids = torch.tensor(tokenizer.encode(tokenizer.load(POCKET / "judge"), [prompt, other]))
    with torch.no_grad():
        seen = torch.cat([embed_images(judge, shown(pipeline, control, text)) for text in (prompt, other)])
        likeness = seen @ embed_ids(judge, ids).T
    assert likeness[0, 0] > likeness[0, 1]
    assert likeness[1, 1] > likeness[1, 0]


def test_files_are_small():
    sizes = [file.stat().st_size for file in POCKET.rglob("*") if file.is_file()]
    assert max(sizes) <= 16e6
    assert sum(sizes) <= 46e6
