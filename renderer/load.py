"""From a scene's name or path to a clean Scene, whatever kind of file it is."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from renderer.config import SceneConfig
from renderer.errors import SceneError
from renderer.gltf import load_gltf
from renderer.gltf_file import open_gltf, printable, read_bytes
from renderer.meshes import SUFFIXES, load_mesh, load_sequence, sequence_files
from renderer.scene import Object, Scene

SAMPLES = 16  # times of a clip at which its triangles and its lowest point are looked at
FARTHEST = 1e18  # coordinates beyond overflow float32 once squared
FROM_THE_SIDE = 60.0  # degrees; what is longer than wide, such as an animal or a car, shows little from the front
SLIVER = 1e-7  # height / longest edge below which a triangle's area is rounding


def load_scene(config: SceneConfig, fps: float) -> Scene:
    """The scene that `config` names: a built-in one, a .glb/.gltf/.obj/.ply/.stl file, or a folder of .obj frames.

    fps: rate at which a folder's frames are played. Objects' names are unique and their vertices all used; triangles that
    never have an area and those with vertices that are not finite are left out, with a note. The ground lies under the
    lowest point of the clip (built-in scenes bring their own). positions raises SceneError rather than return what is not
    finite. Raises SceneError for anything that cannot be loaded.
    """
    from renderer.builtin import BUILTIN, build

    if config.name in BUILTIN:
        if config.clip is not None:
            raise SceneError(f"scene {config.name}: has no clips to choose from; leave scene.clip out")
        return build(config.name)
    path = _path(config.name)
    if path.suffix.lower() in (".glb", ".gltf") and not path.is_dir():
        scene = load_gltf(path, config.clip)
    elif config.clip is not None:
        raise SceneError(f"{path.name}: only .glb and .gltf files have clips to choose from; leave scene.clip out")
    else:
        scene = load_sequence(path, fps) if path.is_dir() else load_mesh(path)
    return clean(scene, path.name)


def content_hash(config: SceneConfig) -> str:
    """sha256 (hex) of what `config.name` holds: the file and the buffers or frames it is made of, or a built-in's geometry.

    It does not depend on where the file lies, nor on the other settings (`clip` among them).
    """
    from renderer.builtin import BUILTIN, build

    parts: list[bytes | memoryview]
    if config.name in BUILTIN:
        scene = build(config.name)
        parts = [
            array.tobytes() for part in scene.objects for array in (part.faces, part.corner_uv) if array is not None
        ]
        parts += [points.tobytes() for time in _times(scene) for points in scene.at(time)]
    elif (path := _path(config.name)).is_dir():
        parts = [read_bytes(frame, frame.name) for frame in sequence_files(path)]
    elif path.suffix.lower() in SUFFIXES:
        parts = [read_bytes(path, path.name)]
    else:
        document = open_gltf(path)
        parts = [document.content, *document.buffers]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))  # so that parts cannot shift into each other
        digest.update(part)
    return digest.hexdigest()


def _path(name: str) -> Path:
    """The path of a scene file or folder that exists and is of a known kind."""
    from renderer.builtin import BUILTIN

    path, known = Path(name), ", ".join((".glb", ".gltf", *SUFFIXES))
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name that no file can have
        exists = False
    if not exists:
        raise SceneError(
            f"scene '{printable(name, 200)}' is neither a built-in scene ({', '.join(BUILTIN)}) "
            "nor an existing file; check the path"
        )
    if not path.is_dir() and path.suffix.lower() not in (".glb", ".gltf", *SUFFIXES):
        raise SceneError(f"{path.name}: no scene file; expected {known} or a folder of .obj frames; export it as .glb")
    return path


def _times(scene: Scene) -> NDArray[np.float64]:
    return np.linspace(0.0, scene.duration, SAMPLES if scene.duration > 0 else 1, endpoint=False)


def _survey(scene: Scene) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]], list[NDArray[np.float32]]]:
    """Per object, over the clip: triangles [T] that are not finite at some time, or else flat at all; lowest y [V]."""
    infinite = [np.zeros(len(part.faces), bool) for part in scene.objects]
    flat = [np.ones(len(part.faces), bool) for part in scene.objects]
    lowest = [points[:, 1] for points in scene.at(0.0)]
    for time in _times(scene):
        for i, (part, points) in enumerate(zip(scene.objects, scene.at(time), strict=True)):
            usable = np.all(np.abs(points) < FARTHEST, axis=1)
            infinite[i] |= ~usable[part.faces].all(axis=1)
            flat[i] &= ~infinite[i]
            still = np.flatnonzero(flat[i])
            flat[i][still] = _is_flat(points, part.faces[still])
            lowest[i] = np.fmin(lowest[i], points[:, 1])
    return infinite, flat, lowest


def clean(scene: Scene, file: str) -> Scene:
    """The scene with unusable triangles and unused vertices left out, names made unique, and a ground; see load_scene.

    file: what errors call it. Raises SceneError if nothing is left.
    """
    infinite, flat, lowest = _survey(scene)
    parts: list[tuple[int, Object, NDArray[np.integer]]] = []
    notes, ground = list(scene.notes), np.inf
    names = _unique([part.name for part in scene.objects])
    for i, (name, part) in enumerate(zip(names, scene.objects, strict=True)):
        good = ~(infinite[i] | flat[i])
        for bad, what in ((infinite[i], "with vertices that are not finite"), (flat[i], "without area")):
            if bad.any():
                notes.append(f"left out {bad.sum()} of {len(bad)} triangles of '{name}' {what}")
        if good.any():
            used, faces = np.unique(part.faces[good], return_inverse=True)
            corner_uv = None if part.corner_uv is None else part.corner_uv[good]
            parts.append((i, Object(name, faces.reshape(-1, 3).astype(np.int32), corner_uv), used))
            ground = min(ground, lowest[i][used].min())
    if not parts:
        reasons = "; ".join(notes) or "its scene has no meshes"
        raise SceneError(f"{file}: there is nothing to see: {printable(reasons, 300)}; expected a mesh with triangles")

    def positions(time: float) -> list[NDArray[np.float32]]:
        points = scene.positions(time)
        result = [points[i][used] for i, _, used in parts]
        for (_, part, _), vertices in zip(parts, result, strict=True):
            if not (np.abs(vertices) < FARTHEST).all():
                raise SceneError(f"{file}: '{part.name}' is not finite at {time:.3f} s; mend its animation")
        return result

    objects = tuple(part for _, part, _ in parts)
    width, _, length = np.ptp(np.concatenate(positions(0.0)), axis=0)
    azimuth = FROM_THE_SIDE if length > 1.5 * width else scene.azimuth
    return replace(
        scene, objects=objects, positions=positions, ground=float(ground), azimuth=azimuth, notes=tuple(notes)
    )


def _is_flat(points: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Triangles [T] that repeat a vertex or whose area is zero up to rounding."""
    a, b, c = points.astype(np.float64)[faces].swapaxes(0, 1)
    edges = np.stack([b - a, c - b, a - c])
    longest = (edges**2).sum(axis=2).max(axis=0)
    return np.linalg.norm(np.cross(edges[0], edges[1]), axis=1) <= SLIVER * longest


def _unique(names: list[str]) -> list[str]:
    """Names with '#0', '#1', ... behind those that occur more than once."""
    total, seen = Counter(names), Counter[str]()
    result = []
    for name in names:
        result.append(f"{name}#{seen[name]}" if total[name] > 1 else name)
        seen[name] += 1
    return result
