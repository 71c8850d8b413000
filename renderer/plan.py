"""A render, resolved: every number that the pixels depend on, decided once on the driver and sent to whoever computes."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from renderer.builtin import BUILTIN
from renderer.camera import Camera, camera_path
from renderer.config import RenderConfig, SceneConfig
from renderer.errors import ConfigError
from renderer.gbuffer import Geometry
from renderer.load import content_hash, load_scene
from renderer.model import ModelSpec, model_spec
from renderer.rasterise import check_backend
from renderer.scene import Scene

WORK = ".work"  # per-frame files of a render, in its output folder; gone when it is complete
STAGE = 3  # of what the files of a stage hold: others are not those that renders look for, and are made again


@dataclass(frozen=True)
class Survey:
    """What must be known of the whole clip before any frame is made.

    near, far: largest and smallest 1/z of a visible surface. areas: the largest projected area of each hero, in latent pixels.
    coverage: mean share of the picture that heroes take.
    """

    near: float
    far: float
    areas: tuple[float, ...]
    coverage: float


@dataclass(frozen=True)
class Plan:
    """config: resolved, no None where the model or scene has a default. work: folder of this render's per-frame files.

    size, latent_size: (width, height). times: seconds of each frame. levels: halvings of the latent grid at which feature
    layers lie. keyframes: K, 0 where every frame is on its own. threads: torch threads of a CPU worker, a constant of the
    render as they change the last bits. stage: folder of what depends on scene and camera alone. pictures: folder of the
    finished frames. survey: None until the clip has been surveyed.
    """

    config: RenderConfig
    spec: ModelSpec
    size: tuple[int, int]
    latent_size: tuple[int, int]
    times: tuple[float, ...]
    cameras: tuple[Camera, ...]
    levels: tuple[int, ...]
    steps: int
    guidance: float
    keyframes: int
    device: str
    dtype: str
    threads: int
    work: Path
    stage: Path
    pictures: Path
    survey: Survey | None = None

    @property
    def frames(self) -> int:
        return len(self.times)

    def level_size(self, level: int) -> tuple[int, int]:
        """(width, height) of the feature grid after so many halvings of the latent grid."""
        width, height = self.latent_size
        return -(-width // 2**level), -(-height // 2**level)

    @property
    def shared(self) -> bool:
        """Do other renders look at the same scene?"""
        return self.stage != self.work

    def picture_path(self, frame: int) -> Path:
        return self.pictures / f"{frame:05d}.png"

    def guide_path(self, frame: int) -> Path:
        return self.stage / "guides" / f"{frame:05d}.png"

    def arrays_path(self, frame: int) -> Path:
        """Control image, noise places and correspondence of a frame."""
        return self.stage / "gbuffers" / f"{frame:05d}.arrow"

    @property
    def preview_path(self) -> Path:
        """A clip of what the render will look like, while it denoises."""
        return self.work / "preview.mp4"

    def texture_path(self, frame: int) -> Path:
        return self.work / "textures" / f"{frame:05d}.arrow"

    def chunks(self) -> list[tuple[int, ...]]:
        """The frames that go through the network together: a function of the render alone."""
        n = self.config.chunk
        return [tuple(range(i, min(i + n, self.frames))) for i in range(0, self.frames, n)]


def make_plan(
    config: RenderConfig, folder: Path, device: str, threads: int, shared: Path | None = None
) -> tuple[Plan, Scene]:
    """Resolve a validated configuration; returns the loaded scene, too. Raises a UserError for what cannot be.

    folder: the render's output. device: cpu | cuda, what the workers have. threads: of a CPU worker. shared: folder in which
    renders of one scene find each other's G-buffers.
    """
    check_backend(config.scene.rasteriser)
    spec = model_spec(config.model)
    resolution = config.resolution or spec.resolution
    size = (resolution, resolution) if isinstance(resolution, int) else (int(resolution[0]), int(resolution[1]))
    if any(side % spec.vae_factor for side in size):
        raise ConfigError(f"resolution={list(size)}: both sides must be multiples of {spec.vae_factor} for this model")
    method = config.method
    dtype = {"auto": "float16" if device == "cuda" else "float32"}.get(config.model.dtype, config.model.dtype)
    steps, guidance = config.steps or spec.steps, spec.guidance if config.guidance is None else config.guidance
    resolved = replace(
        config,
        resolution=list(size),
        steps=steps,
        guidance=guidance,
        model=replace(config.model, device=device, dtype=dtype),
    )
    scene = load_scene(config.scene, config.fps)
    times = tuple(i / config.fps for i in range(config.frames))
    plan = Plan(
        config=resolved,
        spec=spec,
        size=size,
        latent_size=(size[0] // spec.vae_factor, size[1] // spec.vae_factor),
        times=times,
        cameras=tuple(camera_path(scene, config.scene.camera, times, size)),
        levels=tuple(sorted({level for level, _ in feature_layers(spec, method.layers)})),
        steps=steps,
        guidance=guidance,
        keyframes=min(method.keyframes, config.frames),
        device=device,
        dtype=dtype,
        threads=threads,
        work=folder.resolve() / WORK,
        stage=folder.resolve() / WORK,
        pictures=folder.resolve() / "frames",
    )
    return replace(plan, stage=shared.resolve() / stage_name(plan)) if shared else plan, scene


def portable(plan: Plan) -> Plan:
    """The plan for processes with another working folder: the scene's path is absolute."""
    scene = plan.config.scene
    if scene.name in BUILTIN or not os.path.exists(scene.name):
        return plan
    return replace(plan, config=replace(plan.config, scene=replace(scene, name=os.path.abspath(scene.name))))


def feature_layers(spec: ModelSpec, layers: str) -> tuple[tuple[int, int], ...]:
    """(level, channels) of the self-attention layers that take part: of the decoder, or all."""
    return spec.decoder if layers == "decoder" else spec.encoder + spec.decoder


def feature_bytes(plan: Plan) -> int:
    """Bytes of the features of one keyframe pass, at most: pre- and, if frames take them, post-attention tokens of all layers."""
    branches, size = 1 + (plan.guidance > 1), {"float32": 4}.get(plan.dtype, 2)
    tokens = sum(
        channels * int(np.prod(plan.level_size(level)))
        for level, channels in feature_layers(plan.spec, plan.config.method.layers)
    )
    return (1 + (plan.config.method.alpha > 0)) * branches * plan.keyframes * tokens * size


def stage_name(plan: Plan) -> str:
    """A name for everything that the files of a stage depend on, the same for all prompts, seeds and samplers."""
    config = plan.config
    layers = (plan.levels, config.method.texels) if plan.keyframes else ()
    grid = (plan.size, plan.latent_size, config.noise.texels)
    seen = (STAGE, config.scene, content_hash(config.scene), config.fps, plan.frames, grid, layers)
    return f"{Path(config.scene.name).stem}-{hashlib.sha256(repr(seen).encode()).hexdigest()[:16]}"


def geometry(scene: Scene, config: SceneConfig, corner_uvs: Sequence[NDArray[np.float32]]) -> Geometry:
    """All objects of a scene as one mesh. corner_uvs: the charts of each object, [T_i, 3, 2]."""
    rest = scene.at(0.0)
    first = np.cumsum([0, *(len(positions) for positions in rest)])
    ground = None if config.ground is False else scene.ground
    if config.ground and ground is None:
        ground = float(min(positions[:, 1].min() for positions in rest))
    return Geometry(
        faces=np.concatenate([obj.faces + offset for obj, offset in zip(scene.objects, first, strict=False)]).astype(
            np.int32
        ),
        face_object=np.repeat(np.arange(len(scene.objects), dtype=np.int32), [len(obj.faces) for obj in scene.objects]),
        corner_uv=np.concatenate(corner_uvs),
        rest=np.concatenate(rest),
        ground=ground,
        dome=config.dome,
    )
