"""The typed configuration of one render. conf/ fills it, farm/ validates it, the manifest records it."""

from dataclasses import dataclass, field
from typing import Any


def key(default: Any, help: str) -> Any:
    """A dataclass field that carries its own line of `--help`."""
    return field(default=default, metadata={"help": help})


@dataclass(kw_only=True)
class CameraConfig:
    move: str = key("auto", "auto | static | orbit | dolly | follow | file")
    azimuth: float | None = key(None, "degrees around the hero, 0 = front, 90 = from +X; null: what suits the scene")
    elevation: float | None = key(None, "degrees above the horizon; null: what suits the scene")
    fov: float = key(35.0, "vertical field of view, degrees")
    fill: float = key(0.8, "share of the frame's height or width that the hero takes")
    turn: float | None = key(None, "degrees that an orbit turns over the clip; null: what suits the scene")


@dataclass(kw_only=True)
class SceneConfig:
    name: str = key(
        "dancer", "a built-in scene, or a path or URI: .glb .gltf .obj .ply .stl, or a folder of .obj frames"
    )
    clip: str | None = key(None, "animation of the file, by name; null: the first")
    ground: bool | None = key(None, "ground plane; null: what suits the scene")
    rasteriser: str = key("embree", "embree | nvdiffrast (CUDA; the extra of that name)")
    dome: bool = key(True, "a dome gives the background a surface, so that it moves with the camera")
    camera: CameraConfig = field(default_factory=CameraConfig)


@dataclass(kw_only=True)
class ModelConfig:
    name: str = key("pocket", "pocket | sd15 | a folder in diffusers layout | a hub id")
    base: str | None = key(None, "folder or hub id of the model's parts, instead of the name's")
    controlnet: str | None = key(None, "folder or hub id; null: the model's own `controlnet` folder")
    scheduler: str | None = key(None, "ddim | euler | dpm++ | unipc | a diffusers class name; null: the model's own")
    control_scale: float = key(1.0, "weight of the ControlNet's residuals")
    dtype: str = key("auto", "auto (float16 on CUDA, float32 on CPU) | float16 | bfloat16 | float32")
    device: str = key("auto", "auto | cpu | cuda")


@dataclass(kw_only=True)
class MethodConfig:
    """How frames are made to agree. What the paper leaves open is a value here."""

    name: str = key("generative_rendering", "a file of conf/method, which sets the keys below")
    keyframes: int = key(4, "K frames that share their features, at most all frames; 0: every frame on its own")
    choose: str = key(
        "coverage", "keyframes: random (drawn anew at each step) | even | coverage (together see the most)"
    )
    layers: str = key("decoder", "feature layers: decoder | all self-attention layers")
    keys: str = key(
        "own+keyframes", "tokens that a frame attends to: own+keyframes | keyframes | anchor+previous | own"
    )
    alpha: float = key(0.5, "weight of the unified post-attention features on covered pixels; 0: not at all")
    unify: str = key("facing", "how views of a place become one: fill+mean | fill | mean | adjacent | facing")
    alpha_until: float = key(
        0.15, "fraction of the steps with unified features, no longer than attention across frames"
    )
    until: float = key(1.0, "fraction of the steps with attention and injection across frames")
    sharpen: float = key(
        0.75, "how much attention across frames is sharpened, as many keys flatten it: 0: not | 0.5: same entropy | 1"
    )
    adain_until: float = key(0.5, "fraction of the steps with latent normalisation")
    paint: int = key(
        12, "frames whose finished pictures all others take what they show of the same places from; 0: none"
    )
    texels: float = key(4.0, "texels per feature pixel, linear: the scene's budget is (texels × layer resolution)²")


@dataclass(kw_only=True)
class NoiseConfig:
    kind: str = key(
        "uv",
        "uv (noise lives on the surface) | fixed (one for all frames) | random (new in each frame) | "
        "inverted (what DDIM would make the clip of depth from)",
    )
    texels: float = key(1.0, "texels per latent pixel, linear")


@dataclass(kw_only=True)
class RenderConfig:
    """One scene × one prompt × one seed × one method. None: the model's own default."""

    scene: SceneConfig = field(default_factory=SceneConfig)
    prompt: str = key("a golden statue in a snowy forest", "free text, as you type it")
    negative_prompt: str = key("", "what should not be seen")
    seed: int = key(0, "another seed, another clip")
    frames: int = key(16, "length of the clip")
    fps: float = key(12.0, "frames per second")
    resolution: Any = field(default=None, metadata={"help": "N or [W,H], multiples of 8; null: the model's own"})
    steps: int | None = key(None, "denoising steps; null: the model's own")
    guidance: float | None = key(None, "classifier-free guidance scale; null: the model's own")
    chunk: int = key(8, "frames that go through the network together")
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
