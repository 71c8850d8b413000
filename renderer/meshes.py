"""Still meshes (OBJ, PLY, STL), and a folder of OBJ files as an animation; trimesh parses them."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renderer.errors import SceneError
from renderer.gltf_file import MAX_BYTES, printable, read_bytes
from renderer.scene import Object, Scene

SUFFIXES = (".obj", ".ply", ".stl")

Part = tuple[Object, NDArray[np.float32]]  # an object and its vertices, float32 [V, 3]


def load_mesh(path: Path) -> Scene:
    """A scene that does not move, from a .obj, .ply or .stl file as it lies there (Y is taken as up). Raises SceneError."""
    parts = _read_parts(path, read_bytes(path, path.name))
    points = [vertices for _, vertices in parts]
    return Scene(path.stem, tuple(part for part, _ in parts), lambda time: points, 0.0, None)


def load_sequence(folder: Path, fps: float = 12.0) -> Scene:
    """An animation with one .obj file a frame at `fps` frames a second, in the files' natural order (f2 before f10).

    Raises SceneError where a file is malformed or has other triangles than the first.
    """
    files, frames, room = sequence_files(folder), [], MAX_BYTES
    for path in files:
        content = read_bytes(path, path.name, room)
        room -= len(content)
        frames.append(_read_parts(path, content))
        if not _same_triangles(frames[0], frames[-1]):
            raise SceneError(
                f"{path.name}: has other objects or triangles than {files[0].name}; "
                "the files of a sequence must show one mesh that only moves"
            )
    objects = tuple(part for part, _ in frames[0])
    points = [[vertices for _, vertices in frame] for frame in frames]
    return Scene(folder.name, objects, lambda time: points[round(time * fps) % len(points)], len(points) / fps, None)


def sequence_files(folder: Path) -> list[Path]:
    """The .obj files of a folder in natural order. Raises SceneError if there is none."""

    def natural(path: Path) -> list[tuple[str, int]]:
        return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", path.name)]

    try:
        files = sorted((p for p in folder.iterdir() if p.suffix.lower() == ".obj" and p.name[0] != "."), key=natural)
    except OSError as error:
        raise SceneError(f"{folder.name}: the folder cannot be read: {error.strerror}") from None
    if not files:
        raise SceneError(f"{folder.name}: the folder has no .obj files; expected one per frame")
    return files


def _same_triangles(a: list[Part], b: list[Part]) -> bool:
    return len(a) == len(b) and all(
        len(points) == len(other_points) and np.array_equal(part.faces, other.faces)
        for (part, points), (other, other_points) in zip(a, b, strict=True)
    )


@np.errstate(over="ignore")  # coordinates beyond float32 become infinite, which `clean` in load.py reports
def _read_parts(path: Path, content: bytes) -> list[Part]:
    import trimesh

    kind = path.suffix.lower()[1:]
    if kind == "obj":
        if re.search(rb"(?m)^f\b.*\s-\d", content):
            raise SceneError(
                f"{path.name}: faces count vertices backwards (negative indices); export it with absolute ones"
            )
        # trimesh splits vertices where normals differ, which may change from frame to frame: v//vn -> v, v/vt/vn -> v/vt.
        content = re.sub(rb"(/-?\d+)/-?\d+", rb"\1", re.sub(rb"//-?\d+", b"", content))
    try:
        with warnings.catch_warnings(action="ignore"):  # what is wrong shows in the result, in words below
            # From memory, so that no material or texture that the file names is opened.
            scene = trimesh.load_scene(io.BytesIO(content), file_type=kind, process=False, split_objects=True)
    except Exception as error:  # trimesh's parsers let whatever they stumble over pass through
        raise SceneError(
            f"{path.name}: not a readable {kind.upper()} file ({printable(str(error))}); export it again"
        ) from None
    parts = []
    for name, mesh in scene.geometry.items():
        if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
            continue
        vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
        if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,):
            raise SceneError(f"{path.name}: has vertices or triangles without three numbers; export it again")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise SceneError(
                f"{path.name}: triangles point to vertex {faces.max()} of {len(vertices)}; export it again"
            )
        uv: Any = getattr(mesh.visual, "uv", None)
        usable = np.shape(uv) == (len(vertices), 2) and np.isfinite(uv).all()
        corner_uv = np.asarray(uv, np.float32)[faces] if usable else None
        parts.append((Object(printable(str(name)), faces.astype(np.int32), corner_uv), vertices.astype(np.float32)))
    if not parts:
        raise SceneError(f"{path.name}: has no triangles; expected a mesh with faces")
    return parts
