"""The scene of a render, frame by frame: poses, G-buffers, correspondence, textures. Everything here is made without a network."""

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from renderer.arrays import load_arrays, save_arrays
from renderer.atlas import Texels, atlases, bake, share_out, surface_points
from renderer.correspondence import Correspondence, correspond, pixel_density, texel_samples, unmixed
from renderer.gbuffer import GBuffer, Geometry, control_image, facing_normals, gather
from renderer.load import load_scene
from renderer.lookup import Lookup, Shot, look_up, make_shot
from renderer.noise import surface_keys
from renderer.plan import Plan, Survey, geometry
from renderer.rasterise import Caster, rasterise
from renderer.scene import Scene
from renderer.sheets import guide_frame
from renderer.video import read_png, write_png

DIRECTIONS = 4096  # of which a camera sees about as many as a hundred


class Stage:
    """The loaded scene of one render on one worker, and nothing that cannot be made again."""

    def __init__(self, plan: Plan, last: "Stage | None" = None):
        """last: the stage of another plan. Its scene is taken over where it is the same, and what it keeps of each frame, too, see
        `same_stage`."""
        self.plan = plan
        self.scene: Scene
        self.geometry: Geometry
        self.arrays: Callable[[int], Mapping[str, NDArray]]
        self.texels: Callable[[tuple[int, int], float], Texels]
        self.painter: Callable[[int], Shot]
        if last is not None and (last.plan.config.scene, last.plan.config.fps) == (plan.config.scene, plan.config.fps):
            self.scene, self.geometry = last.scene, last.geometry
        else:
            self.scene = load_scene(plan.config.scene, plan.config.fps)
            self.geometry = geometry(self.scene, plan.config.scene, atlases(self.scene))
        if last is not None and same_stage(last.plan, plan):
            self.arrays, self.texels, self.painter = last.arrays, last.texels, last.painter
        else:
            self.arrays = functools.lru_cache(maxsize=256)(self._arrays)
            self.texels = functools.cache(self._texels)
            self.painter = functools.cache(self.shot)

    def pose(self, frame: int) -> tuple[NDArray[np.float32], Caster]:
        """World vertices [V, 3] of a frame, and rays at them."""
        vertices = np.concatenate(self.scene.at(self.plan.times[frame]))
        return vertices, Caster(vertices, self.geometry.faces)

    def gbuffer(self, frame: int, size: tuple[int, int], vertices: NDArray[np.float32], caster: Caster) -> GBuffer:
        """The G-buffer of a frame at any size (width, height)."""
        camera = self.plan.cameras[frame]
        backend = self.plan.config.scene.rasteriser
        hits = rasterise(vertices, self.geometry.faces, camera, size, backend, caster)
        return gather(self.geometry, vertices, camera, hits)

    def survey(self, frames: Sequence[int]) -> Survey:
        """What these frames say about the clip, looked at on the latent grid."""
        seen = [self.of_scene(f"survey/{frame:05d}", partial(self._survey, frame)) for frame in frames]
        areas = [arrays["areas"] for arrays in seen]
        return Survey(
            near=float(max(arrays["near"] for arrays in seen)),
            far=float(min(arrays["far"] for arrays in seen)),
            areas=tuple(np.max(areas, axis=0).tolist()),
            coverage=float(np.sum(areas) / (len(frames) * np.prod(self.plan.latent_size))),
        )

    def _survey(self, frame: int) -> dict[str, NDArray]:
        gbuffer = self.gbuffer(frame, self.plan.latent_size, *self.pose(frame))
        inverse = gbuffer.inverse_depth[gbuffer.inverse_depth > 0]
        return {
            "near": np.array(inverse.max(initial=0.0), np.float64),
            "far": np.array(inverse.min(initial=np.inf), np.float64),
            "areas": np.bincount(gbuffer.object[gbuffer.triangle >= 0], minlength=self.geometry.heroes),
        }

    def _texels(self, size: tuple[int, int], density: float) -> Texels:
        """The heroes' texels for a grid of this (width, height) with `density` texels along a pixel."""
        assert self.plan.survey is not None
        return bake(self.chart_uvs, share_out(self.plan.survey.areas, density * np.prod(size) ** 0.5))

    @functools.cached_property
    def chart_uvs(self) -> list[NDArray[np.float32]]:
        splits = np.cumsum([len(obj.faces) for obj in self.scene.objects])[:-1]
        return np.split(self.geometry.corner_uv, splits)

    def make_gbuffers(self, frames: Sequence[int]) -> None:
        """Write each frame's control image, noise places and correspondence at every feature level, and its guide picture."""
        assert self.plan.survey is not None
        plan, survey = self.plan, self.plan.survey
        noise_sides = share_out(survey.areas, plan.config.noise.texels * np.prod(plan.latent_size) ** 0.5)
        for frame in frames:
            vertices, caster = self.pose(frame)
            camera = plan.cameras[frame]
            picture = self.gbuffer(frame, plan.size, vertices, caster)
            latent = self.gbuffer(frame, plan.latent_size, vertices, caster)
            control = control_image(picture, survey.near, survey.far)
            arrays: dict[str, NDArray] = {
                "control": control,
                "noise": surface_keys(latent, self.geometry, noise_sides, camera, plan.config.noise.texels),
                "background": latent.triangle < 0,
            }
            for level in plan.levels if plan.keyframes else ():
                size = plan.level_size(level)
                gbuffer = unmixed(self.gbuffer(frame, size, vertices, caster), picture.object)
                texels = self.texels(size, plan.config.method.texels)
                table = correspond(gbuffer, texels, self.geometry, vertices, caster)
                arrays |= {f"{name}/{level}": value for name, value in vars(table).items()}
            guide_picture = guide_frame(picture.object, picture.uv, control, picture.normal, self.geometry.heroes)
            write_png(self.plan.guide_path(frame), guide_picture)
            save_arrays(self.plan.arrays_path(frame), arrays)

    def _arrays(self, frame: int) -> dict[str, NDArray]:
        # A machine that does not share this folder makes what it lacks: the files are a cache, not a message.
        if not self.plan.arrays_path(frame).exists():
            self.make_gbuffers([frame])
        return load_arrays(self.plan.arrays_path(frame))

    def correspondence(self, frame: int, level: int) -> Correspondence:
        """A frame's correspondence at one feature level."""
        arrays = self.arrays(frame)
        return Correspondence(**{name: arrays[f"{name}/{level}"] for name in Correspondence.__dataclass_fields__})

    def shot(self, frame: int) -> Shot:
        """A frame's geometry at the size of its picture."""
        vertices, caster = self.pose(frame)
        gbuffer = self.gbuffer(frame, self.plan.size, vertices, caster)
        return make_shot(gbuffer, self.geometry, vertices, caster, self.plan.device)

    def lookup(self, frame: int, painters: Sequence[int]) -> Lookup:
        """Where a frame's picture finds what the painters show."""
        agreed = agreeing(self.plan, len(painters))

        def make() -> dict[str, NDArray]:
            found = look_up(self.shot(frame), [self.painter(painter) for painter in painters], agreed, self.geometry)
            return {name: values.cpu().numpy() for name, values in vars(found).items()}

        arrays = self.of_scene(f"lookup-{len(painters)}-{agreed}/{frame:05d}", make)
        return Lookup(**{name: torch.tensor(array, device=self.plan.device) for name, array in arrays.items()})

    def of_scene(self, name: str, make: Callable[[], Mapping[str, NDArray]]) -> Mapping[str, NDArray]:
        """Arrays that depend on scene and camera alone: made once where renders share a folder, each time where none does."""
        path = self.plan.stage / f"{name}.arrow"
        if path.exists():
            return load_arrays(path)
        arrays = make()
        if self.plan.shared:
            save_arrays(path, arrays)
        return arrays

    def facing(self, frames: Sequence[int]) -> NDArray[np.float32]:
        """How well each frame shows each place, [n, N], relative to one another; 0: not at all.

        Places are texels of the heroes, about one a latent pixel, and directions around the camera, for what is behind them.
        """
        return np.stack(
            [self.of_scene(f"facing/{frame:05d}", partial(self._facing, frame))["facing"] for frame in frames]
        )

    def _facing(self, frame: int) -> dict[str, NDArray]:
        size, texels, camera = self.plan.latent_size, self.texels(self.plan.latent_size, 1.0), self.plan.cameras[frame]
        vertices, caster = self.pose(frame)
        gbuffer = self.gbuffer(frame, size, vertices, caster)
        _, weight = texel_samples(gbuffer, texels, self.geometry, vertices, caster)
        points = surface_points(vertices, self.geometry.faces, texels.triangle, texels.barycentrics)
        normals = facing_normals(vertices, self.geometry.faces, camera)[texels.triangle]
        xy, depth = camera.project(directions(DIRECTIONS), size)
        inside = (depth > 0) & (xy >= 0).all(axis=1) & (xy < size).all(axis=1)
        column, row = np.where(inside[:, None], xy, 0).astype(int).T
        behind = inside & (gbuffer.object[row, column] >= self.geometry.heroes)
        density = pixel_density(torch.from_numpy(points), torch.from_numpy(normals), camera).numpy()
        facing = np.concatenate([weight.any(axis=1) * density, behind])
        return {"facing": facing.astype(np.float32)}

    def unwrap(self, frames: Sequence[int]) -> None:
        """Write the textures of finished frames: what their pictures show at each texel, about one texel a pixel.

        seen: whether the frame shows it at all. facing: the cosine of the angle at which it is seen; 0 where it is not, or
        where a pixel that its colour comes from shows something else, too.
        """
        for frame in frames:
            samples = self.texture_samples(frame)
            colours = read_png(self.plan.picture_path(frame)).reshape(-1, 3)
            sampled = (colours[samples["pixel"]] * samples["weight"][..., None]).sum(axis=1)
            texture = {
                "colour": np.rint(sampled).astype(np.uint8),
                "seen": samples["weight"].any(axis=1),
                "facing": samples["facing"],
            }
            save_arrays(self.plan.texture_path(frame), texture)

    def texture_samples(self, frame: int) -> Mapping[str, NDArray]:
        """Where the texels of `unwrap` lie in a frame's picture, and at which angle."""
        return self.of_scene(f"texels/{frame:05d}", partial(self._texture_samples, frame))

    def make_lookups(self, frames: Sequence[int], painters: Sequence[int]) -> None:
        """Write what painting and unwrapping look up in these frames, for renders that share this stage."""
        assert self.plan.shared
        for frame in frames:
            self.texture_samples(frame)
            if painters:
                self.lookup(frame, painters)

    def _texture_samples(self, frame: int) -> dict[str, NDArray]:
        texels, camera = self.picture_texels(), self.plan.cameras[frame]
        vertices, caster = self.pose(frame)
        gbuffer = self.gbuffer(frame, self.plan.size, vertices, caster)
        pixel, weight = texel_samples(gbuffer, texels, self.geometry, vertices, caster)
        points = surface_points(vertices, self.geometry.faces, texels.triangle, texels.barycentrics)
        normals = facing_normals(vertices, self.geometry.faces, camera)[texels.triangle]
        to_eye = camera.position - points
        cosine = (to_eye * normals).sum(axis=1) / np.maximum(np.linalg.norm(to_eye, axis=1), 1e-20)
        facing = np.where(weight.all(axis=1), np.clip(cosine, 0, 1), 0).astype(np.float16)
        return {"pixel": pixel, "weight": weight, "facing": facing}

    def picture_texels(self) -> Texels:
        """The texels on which finished pictures are compared and shown."""
        return self.texels(self.plan.size, 1.0)


def agreeing(plan: Plan, painters: int) -> int:
    """How many of so many painters lie on top of the others, see renderer.lookup.layer: the first ones, or all of them."""
    # Keyframes that together see the most are the first painters, too, and have looked at each other.
    keyframes = plan.keyframes if plan.config.method.choose == "coverage" else 0
    return min(keyframes, painters) or painters


def same_stage(plan: Plan, other: Plan) -> bool:
    """Do two renders look at the same scene in the same way, with the same network? Then what one keeps of a frame is the other's,
    too, and holds on to nothing else."""
    both = ((p.stage, p.survey, p.spec, p.config.method.layers, p.device, p.dtype) for p in (plan, other))
    return plan.shared and next(both) == next(both)


def directions(count: int) -> NDArray[np.float64]:
    """Directions spread evenly over the sphere, homogeneous [count, 4], by the golden angle."""
    y, turn = 1 - (2 * np.arange(count) + 1) / count, np.pi * (3 - 5**0.5) * np.arange(count)
    level = np.sqrt(1 - y**2)
    return np.stack([level * np.cos(turn), y, level * np.sin(turn), np.zeros(count)], axis=1)


def merge_surveys(surveys: Sequence[Survey], frames: Sequence[int]) -> Survey:
    """One survey of a clip from those of its chunks; frames: how many each chunk has."""
    return Survey(
        near=max(survey.near for survey in surveys),
        far=min(survey.far for survey in surveys),
        areas=tuple(np.max([survey.areas for survey in surveys], axis=0).tolist()),
        coverage=float(np.average([survey.coverage for survey in surveys], weights=frames)),
    )
