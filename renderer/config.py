"""The typed configuration of one render. conf/ fills it, farm/ validates it, the manifest records it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class CameraConfig:
    move: str = "auto"  # auto | static | orbit | dolly | follow | file
    azimuth: float | None = (
        None  # degrees around the hero, 0 = from the front (+Z), 90 = from +X; None: what suits the scene
    )
    elevation: float | None = None  # degrees above the horizon
    fov: float = 35.0  # vertical field of view, degrees
    fill: float = 0.8  # share of the frame's height or width that the hero takes
    turn: float | None = None  # degrees that an orbit turns over the clip


@dataclass(kw_only=True)
class SceneConfig:
    name: str = "dancer"  # a built-in scene, or a path: .glb .gltf .obj .ply .stl, or a folder of .obj frames
    clip: str | None = None  # animation of the file, by name; None: the first
    ground: bool | None = None  # ground plane; None: what suits the scene
    dome: bool = True  # a dome around the scene gives the background a surface, so that it moves with the camera
    camera: CameraConfig = field(default_factory=CameraConfig)


@dataclass(kw_only=True)
class ModelConfig:
    name: str = "pocket"  # pocket | sd15 | custom
    base: str | None = None  # folder in diffusers layout, or hub id
    controlnet: str | None = None  # folder or hub id; None: the base's own `controlnet` subfolder
    scheduler: str | None = None  # ddim | euler | dpm++ | unipc | ..., or a diffusers class name; None: the model's own
    control_scale: float = 1.0  # weight of the ControlNet's residuals
    dtype: str = "auto"  # auto: float16 on CUDA, float32 on CPU
    device: str = "auto"


@dataclass(kw_only=True)
class MethodConfig:
    """DESIGN.md section 3; italics there are the defaults here."""

    name: str = "generative_rendering"
    keyframes: int = 4  # K frames drawn anew at each step; clamped to the number of frames; 0: every frame on its own
    layers: str = "decoder"  # feature layers: decoder | all self-attention layers
    pre: bool = True  # K/V from [own tokens, keyframe tokens]
    post: bool = True  # blend in the unified post-attention features
    alpha: float = 0.6  # weight of the unified features on covered pixels
    unify: str = "fill+mean"  # T: fill+mean | fill | mean
    until: float = 1.0  # fraction of the steps with attention and injection across frames
    adain_until: float = 0.5  # fraction of the steps with latent normalisation
    texels: float = 4.0  # texels per feature pixel, linear: the scene's budget is (texels × layer resolution)²


@dataclass(kw_only=True)
class NoiseConfig:
    kind: str = "uv"  # uv | fixed | random
    texels: float = 1.0  # texels per latent pixel, linear


@dataclass(kw_only=True)
class RenderConfig:
    """One scene × one prompt × one seed × one method. None: the model's own default."""

    scene: SceneConfig = field(default_factory=SceneConfig)
    prompt: str = "a golden statue in a snowy forest"
    negative_prompt: str = ""
    seed: int = 0
    frames: int = 16
    fps: float = 12.0
    resolution: Any = None  # N or [W, H]
    steps: int | None = None
    guidance: float | None = None
    chunk: int = 8  # frames that go through the network together
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
