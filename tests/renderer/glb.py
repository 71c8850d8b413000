"""Tiny glTF files made in code, for the tests."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from renderer.config import SceneConfig
from renderer.load import load_scene
from renderer.scene import Scene

KINDS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
SHAPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)


class Glb:
    """json: the document; add_* append to it and return the new entry's index."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {"asset": {"version": "2.0"}}
        self.data = bytearray()

    def add(self, table: str, **entry: Any) -> int:
        self.json.setdefault(table, []).append(entry)
        return len(self.json[table]) - 1

    def add_view(self, data: bytes, **entry: Any) -> int:
        self.data += bytes(-len(self.data) % 4)
        index = self.add("bufferViews", buffer=0, byteOffset=len(self.data), byteLength=len(data), **entry)
        self.data += data
        return index

    def add_accessor(self, array: np.ndarray, **entry: Any) -> int:
        """array: [count, ...]; matrices [count, row, column]."""
        stored = array.swapaxes(1, 2) if array.ndim == 3 else array
        layout = {"componentType": KINDS[array.dtype.name], "count": len(array), "type": SHAPES[array.shape[1:]]}
        return self.add("accessors", bufferView=self.add_view(stored.tobytes()), **layout, **entry)

    def add_mesh(
        self, points: np.ndarray, indices: np.ndarray | None = None, uv: np.ndarray | None = None, **entry: Any
    ) -> int:
        """A mesh of one primitive; entry: further keys of the primitive."""
        attributes = {"POSITION": self.add_accessor(points)} | entry.pop("attributes", {})
        if uv is not None:
            attributes["TEXCOORD_0"] = self.add_accessor(uv)
        if indices is not None:
            entry["indices"] = self.add_accessor(indices)
        return self.add("meshes", primitives=[{"attributes": attributes, **entry}])

    def add_clip(self, *channels: tuple[int, str, str, np.ndarray, np.ndarray], **entry: Any) -> int:
        """channels: (node, path, interpolation, times, values)."""
        samplers = [
            {"input": self.add_accessor(times), "output": self.add_accessor(values), "interpolation": interpolation}
            for _, _, interpolation, times, values in channels
        ]
        targets = [{"sampler": i, "target": {"node": c[0], "path": c[1]}} for i, c in enumerate(channels)]
        return self.add("animations", samplers=samplers, channels=targets, **entry)

    def document(self, **buffer: Any) -> bytes:
        """The JSON; buffer: further keys of its one buffer."""
        return json.dumps({"buffers": [{"byteLength": len(self.data), **buffer}], **self.json}).encode()

    def bytes(self) -> bytes:
        return pack(self.document(), bytes(self.data))

    def write(self, folder: Path, name: str = "scene.glb") -> Path:
        path = folder / name
        path.write_bytes(self.bytes())
        return path


def pack(text: bytes, data: bytes) -> bytes:
    """A GLB file of a JSON and a binary chunk."""
    text, data = text + b" " * (-len(text) % 4), data + bytes(-len(data) % 4)
    chunks = struct.pack("<2I", len(text), 0x4E4F534A) + text + struct.pack("<2I", len(data), 0x004E4942) + data
    return struct.pack("<4s2I", b"glTF", 2, 12 + len(chunks)) + chunks


def everything() -> Glb:
    """A small file that uses every feature at once: skin, morph targets, all interpolations, sparse data, a camera."""
    glb = Glb()
    points = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    strip = np.array([0, 1, 2, 3, 4, 5], np.uint8)
    attributes = {
        "JOINTS_0": glb.add_accessor(np.array([[0, 1, 0, 0]] * 6, np.uint8)),
        "WEIGHTS_0": glb.add_accessor(np.array([[128, 127, 0, 0]] * 6, np.uint8), normalized=True),
    }
    sparse = {
        "count": 2,
        "indices": {"bufferView": glb.add_view(np.array([1, 4], np.uint16).tobytes()), "componentType": 5123},
        "values": {"bufferView": glb.add_view(np.ones((2, 3), np.float32).tobytes())},
    }
    target = glb.add("accessors", componentType=5126, count=6, type="VEC3", sparse=sparse)
    mesh = glb.add_mesh(points, strip, points[:, :2], mode=5, attributes=attributes, targets=[{"POSITION": target}])
    glb.add(
        "skins", joints=[1, 2], inverseBindMatrices=glb.add_accessor(np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)))
    )
    glb.add("nodes", mesh=mesh, skin=0, name="figure", weights=[0.5])
    glb.add("nodes", children=[2], rotation=[0, 0, 0, 1])
    glb.add("nodes", translation=[0, 1, 0])
    glb.add("nodes", mesh=glb.add_mesh(TRIANGLE), matrix=np.eye(4).ravel().tolist(), children=[4])
    glb.add("nodes", camera=glb.add("cameras", type="perspective", perspective={"yfov": 0.8, "znear": 0.1}))
    times = np.array([0, 0.5, 1], np.float32)
    turns = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]], np.float32)
    glb.add_clip(
        (1, "rotation", "LINEAR", times, turns),
        (2, "translation", "CUBICSPLINE", times, np.ones((9, 3), np.float32)),
        (0, "weights", "STEP", times, np.array([0, 1, 0.5], np.float32)),
        name="move",
    )
    glb.add("scenes", nodes=[0, 1, 3])
    glb.json["scene"] = 0
    return glb


def load(path: Path, clip: str | None = None) -> Scene:
    return load_scene(SceneConfig(name=str(path), clip=clip), 12.0)


def one_node(tmp_path: Path, glb: Glb, **node) -> Scene:
    glb.add("nodes", **({"mesh": 0} | node))
    return load(glb.write(tmp_path))
