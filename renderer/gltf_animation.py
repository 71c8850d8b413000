"""Motion of a glTF file: the node tree, one clip's key frames, and where all nodes are at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renderer.errors import SceneError
from renderer.gltf_file import BYTE, FLOAT, SHORT, UNSIGNED_BYTE, UNSIGNED_SHORT, Document, Entry, printable

Array = NDArray[np.float64]
NORMALISED = (FLOAT, BYTE, UNSIGNED_BYTE, SHORT, UNSIGNED_SHORT)
SIZES = {"translation": 3, "rotation": 4, "scale": 3}
REST = {"translation": (0.0, 0.0, 0.0), "rotation": (0.0, 0.0, 0.0, 1.0), "scale": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class Track:
    """Channels of one path that share their key times, evaluated together.

    nodes: [C] targets; times: [K] seconds, increasing; values: [K, 1, C, D], or for CUBICSPLINE [K, 3, C, D], the 3 being
    in-tangent, value and out-tangent.
    """

    path: str  # translation | rotation | scale | weights
    interpolation: str  # STEP | LINEAR | CUBICSPLINE
    nodes: list[int]
    times: Array
    values: Array

    def at(self, time: float) -> Array:
        """Values of all channels, [C, D]; before the first and after the last key the value stays."""
        times, value = self.times, self.values[:, self.values.shape[1] // 2]
        k = int(np.searchsorted(times, time, side="right")) - 1
        if k < 0 or k == len(times) - 1 or self.interpolation == "STEP":
            return self._unit(value[max(k, 0)])
        step = times[k + 1] - times[k]
        s = (time - times[k]) / step
        if self.interpolation == "CUBICSPLINE":
            leaving, arriving = self.values[k, 2], self.values[k + 1, 0]
            return self._unit(
                (2 * s**3 - 3 * s**2 + 1) * value[k]
                + step * (s**3 - 2 * s**2 + s) * leaving
                + (-2 * s**3 + 3 * s**2) * value[k + 1]
                + step * (s**3 - s**2) * arriving
            )
        if self.path == "rotation":
            return slerp(value[k], value[k + 1], s)
        return (1 - s) * value[k] + s * value[k + 1]

    def _unit(self, value: Array) -> Array:
        return unit(value) if self.path == "rotation" else value


@dataclass(frozen=True)
class Clip:
    """start: seconds of the first key; duration: seconds from there to the last."""

    name: str
    start: float
    duration: float
    tracks: tuple[Track, ...]


STILL = Clip("", 0.0, 0.0, ())


@dataclass(frozen=True)
class NodeTree:
    """All nodes of the file. levels: (children [n], their parents [n]) from the roots down; rest: path -> [N, D];
    matrices: [N, 4, 4], the constant local transform of nodes that have one, NaN elsewhere.
    """

    levels: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    rest: dict[str, Array]
    matrices: Array

    def world(self, clip: Clip, time: float) -> Array:
        """Local-to-world transforms of all nodes `time` seconds into the clip, [N, 4, 4]."""
        parts = {path: values.copy() for path, values in self.rest.items()}
        for track in clip.tracks:
            if track.path != "weights":
                parts[track.path][track.nodes] = track.at(clip.start + time)
        world = np.where(np.isnan(self.matrices), compose(**parts), self.matrices)
        for children, parents in self.levels:
            world[children] = world[parents] @ world[children]
        return world


def morph_weights(clip: Clip, time: float) -> dict[int, Array]:
    """Weights of the nodes whose morph targets the clip animates, node -> [targets]."""
    tracks = [(track.nodes, track.at(clip.start + time)) for track in clip.tracks if track.path == "weights"]
    return {node: values for nodes, rows in tracks for node, values in zip(nodes, rows, strict=True)}


def unit(q: Array) -> Array:
    """Quaternions [..., 4] of length 1; zero, which is no rotation, becomes the identity."""
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(norm > 0, q / np.where(norm > 0, norm, 1), REST["rotation"])


def slerp(a: Array, b: Array, s: float) -> Array:
    """Spherical interpolation of quaternions [..., 4] the shorter way round (glTF 2.0, appendix C.4)."""
    a, b = unit(a), unit(b)
    dot = np.sum(a * b, axis=-1, keepdims=True)
    angle = np.arccos(np.minimum(np.abs(dot), 1.0))
    sine = np.sin(angle)
    close = sine < 1e-6  # there the arc is its chord
    safe = np.where(close, 1.0, sine)
    weight_a = np.where(close, 1 - s, np.sin((1 - s) * angle) / safe)
    weight_b = np.where(close, s, np.sin(s * angle) / safe)
    return unit(weight_a * a + weight_b * np.where(dot < 0, -b, b))


def compose(translation: Array, rotation: Array, scale: Array) -> Array:
    """Matrices T·R·S [N, 4, 4] from translations [N, 3], quaternions xyzw [N, 4] and scales [N, 3]."""
    x, y, z, w = unit(rotation).T
    matrix = np.zeros((len(rotation), 4, 4))
    matrix[:, :3, :3] = np.moveaxis(
        np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        ),
        -1,
        0,
    )
    matrix[:, :3, :3] *= scale[:, None, :]
    matrix[:, :3, 3] = translation
    matrix[:, 3, 3] = 1
    return matrix


def read_nodes(document: Document) -> NodeTree:
    """The node tree. Raises SceneError where the nodes form no forest."""
    nodes = document.tables["nodes"]
    children = [node.indices("children", below=len(nodes)) for node in nodes]
    parent = np.full(len(nodes), -1)
    for i, node in enumerate(nodes):
        for child in children[i]:
            if parent[child] != -1:
                node.fail(f"has the child {child}, which nodes[{parent[child]}] has too; expected a tree")
            parent[child] = i
    levels, placed, level = [], 0, np.flatnonzero(parent == -1)
    while len(level):
        levels.append((level, parent[level]))
        placed += len(level)
        level = np.array([child for i in level for child in children[i]], np.intp)
    if placed < len(nodes):
        document.root.fail("nodes form a cycle, expected a tree")
    rest = {
        path: np.array([node.numbers(path, size, REST[path]) for node in nodes]).reshape(-1, size)
        for path, size in SIZES.items()
    }
    matrices = np.full((len(nodes), 4, 4), np.nan)
    for i, node in enumerate(nodes):
        if "matrix" in node:
            matrices[i] = node.numbers("matrix", 16, ()).reshape(4, 4).T
    return NodeTree(levels[1:], rest, matrices)


def read_clip(document: Document, wanted: str | None, targets: dict[int, int]) -> Clip:
    """The clip called `wanted`, or of that index; the first if None (a file without any stands still).

    targets: nodes of the scene that have a mesh -> number of its morph targets. Raises SceneError; for an unknown clip
    it lists those there are.
    """
    animations = document.tables["animations"]
    names = [animation.text("name", str(i)) for i, animation in enumerate(animations)]
    if wanted is None and not animations:
        return STILL
    index = 0 if wanted is None else _choose(document.root.file, names, wanted)

    groups: dict[tuple, list[tuple[int, Array, Array]]] = {}
    samplers = animations[index].children("samplers")
    for channel in animations[index].children("channels"):
        target = channel.child("target")
        if "node" not in target:
            continue  # the target belongs to an extension
        node, path = document.follow(target, "node", "nodes"), target.text("path")
        number = target.integer("node")
        if path not in (*SIZES, "weights"):
            target.fail(f"path is '{printable(path)}', expected translation, rotation, scale or weights")
        if path == "weights" and number not in targets:
            continue  # the node stands in another scene, or has no mesh
        if path == "weights" and not targets[number]:
            target.fail(f"path is weights, but {node.where} has no morph targets")
        if path != "weights" and "matrix" in node:
            node.fail("is animated and has a matrix, expected translation, rotation and scale")
        sampler = samplers[channel.integer("sampler", below=len(samplers))]
        interpolation, times, values = _read_sampler(document, sampler, path, targets.get(number, 0))
        groups.setdefault((path, interpolation, times.tobytes(), values.shape), []).append((number, times, values))
    tracks = tuple(
        Track(
            path,
            interpolation,
            [number for number, _, _ in group],
            group[0][1],
            np.stack([v for _, _, v in group], axis=2),
        )
        for (path, interpolation, _, _), group in groups.items()
    )
    start = min((track.times[0] for track in tracks), default=0.0)
    end = max((track.times[-1] for track in tracks), default=0.0)
    return Clip(names[index], float(start), float(end - start), tracks)


def _choose(file: str, names: list[str], wanted: str) -> int:
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    listed = (
        f"choose one of: {printable(', '.join(names), 500)}" if names else "the file has none, leave scene.clip out"
    )
    raise SceneError(f"{file}: no clip is called '{printable(wanted)}'; {listed}")


def _read_sampler(document: Document, sampler: Entry, path: str, targets: int) -> tuple[str, Array, Array]:
    """Interpolation, key times [K], values [K, 1 or 3, D] of one sampler."""
    interpolation = sampler.text("interpolation", "LINEAR")
    if interpolation not in ("STEP", "LINEAR", "CUBICSPLINE"):
        sampler.fail(f"interpolation is '{printable(interpolation)}', expected STEP, LINEAR or CUBICSPLINE")
    times = document.read(sampler, "input", "SCALAR", [FLOAT])[:, 0].astype(np.float64)
    if not len(times) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        sampler.fail("input must be finite, increasing key times")
    if path == "weights":
        size, values = targets, document.read(sampler, "output", "SCALAR", NORMALISED)
    else:
        size = SIZES[path]
        values = document.read(sampler, "output", f"VEC{size}", NORMALISED)
    parts = 3 if interpolation == "CUBICSPLINE" else 1  # in-tangent, value, out-tangent
    if values.size != len(times) * parts * size:
        sampler.fail(f"output has {values.size} numbers, expected {len(times)} keys × {parts * size}")
    if not np.isfinite(values).all():
        sampler.fail("output has values that are not finite")
    return interpolation, times, values.reshape(-1, parts, size).astype(np.float64)
