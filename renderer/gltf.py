"""glTF 2.0 scenes: primitives, skins, morph targets and cameras, posed by the file's animation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from renderer.errors import SceneError
from renderer.gltf_animation import STILL, Clip, NodeTree, morph_weights, read_clip, read_nodes
from renderer.gltf_file import (
    BYTE,
    FLOAT,
    SHORT,
    UNSIGNED_BYTE,
    UNSIGNED_INT,
    UNSIGNED_SHORT,
    Document,
    Entry,
    open_gltf,
    printable,
)
from renderer.scene import FileCamera, Object, Scene

Array = NDArray[np.float64]
MAX_VERTICES = 1 << 24  # of all objects together, after instancing
# Component types that the specification allows for each use.
QUANTIZED = (FLOAT, BYTE, UNSIGNED_BYTE, SHORT, UNSIGNED_SHORT)
INDICES = (UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT)
JOINTS = (UNSIGNED_BYTE, UNSIGNED_SHORT)
FRACTIONS = (FLOAT, UNSIGNED_BYTE, UNSIGNED_SHORT)  # weights and UVs
TRIANGLES, STRIP, FAN = 4, 5, 6


@dataclass(frozen=True)
class Primitive:
    """base: rest positions [V, 3]; targets: displacements of the morph targets [M, V * 3]; joints, weights: [V, 4k]."""

    faces: NDArray[np.int32]
    corner_uv: NDArray[np.float32] | None
    base: Array
    targets: NDArray[np.float32]
    joints: NDArray[np.int64]
    weights: Array


@dataclass(frozen=True)
class Skin:
    """joints: nodes [J]; inverse_bind: [J, 4, 4]."""

    joints: list[int]
    inverse_bind: Array


@dataclass(frozen=True)
class Instance:
    """A primitive in its place. blend: [V, J] weights of the skin's joints; rest_weights: [M] of the morph targets."""

    node: int
    primitive: Primitive
    rest_weights: Array
    skin: Skin | None = None
    blend: csr_array | None = None

    def posed(self, world: Array, weights: Array) -> NDArray[np.float32]:
        """World positions [V, 3] for the nodes' transforms [N, 4, 4] and the morph weights [M]."""
        local = self.primitive.base
        if len(weights):
            local = local + (weights.astype(np.float32) @ self.primitive.targets).reshape(-1, 3)
        if self.skin is None or self.blend is None:
            matrix = world[self.node]
            return (local @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
        # A skinned mesh hangs on its joints only: its node's own transform is ignored (glTF 2.0, 3.7.3.3).
        bones = (world[self.skin.joints] @ self.skin.inverse_bind)[:, :3]
        matrices = (self.blend @ bones.reshape(-1, 12)).reshape(-1, 3, 4)
        return (np.einsum("vij,vj->vi", matrices[:, :, :3], local) + matrices[:, :, 3]).astype(np.float32)


@np.errstate(over="ignore", invalid="ignore")  # a scene that is not finite is for the caller to judge
def load_gltf(path: Path, clip: str | None = None) -> Scene:
    """The default scene of a .glb or .gltf file; positions(time) are seconds from the clip's start. Raises SceneError.

    Each primitive in each node becomes an Object. Materials and textures are ignored; so are points and lines (with a note).
    """
    document = open_gltf(path)
    tree = read_nodes(document)
    used = _scene_nodes(document)
    notes: list[str] = []
    objects, instances = _read_instances(document, used, tree, notes)
    targets = {instance.node: len(instance.rest_weights) for instance in instances}
    motion = read_clip(document, clip, targets)

    @np.errstate(over="ignore", invalid="ignore")
    def positions(time: float) -> list[NDArray[np.float32]]:
        world, weights = tree.world(motion, time), morph_weights(motion, time)
        return [i.posed(world, weights.get(i.node, i.rest_weights)) for i in instances]

    cameras = _read_cameras(document, used, tree, motion, notes)
    return Scene(path.stem, tuple(objects), positions, motion.duration, None, cameras, tuple(notes))


def _scene_nodes(document: Document) -> list[int]:
    """Nodes of the default scene, in order; without scenes all nodes."""
    nodes, scenes = document.tables["nodes"], document.tables["scenes"]
    if not scenes:
        return list(range(len(nodes)))
    scene = document.follow(document.root, "scene", "scenes") if "scene" in document.root else scenes[0]
    reached, waiting = set(), scene.indices("nodes", below=len(nodes))
    while waiting:  # ends: read_nodes has checked that the nodes form a forest
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += nodes[node].indices("children", below=len(nodes))
    return sorted(reached)


def _read_instances(
    document: Document, used: list[int], tree: NodeTree, notes: list[str]
) -> tuple[list[Object], list[Instance]]:
    """One Object and Instance per primitive of each node that has a mesh."""
    objects, instances = [], []
    meshes: dict[int, list[Primitive]] = {}
    skins: dict[int, Skin] = {}
    rest = tree.world(STILL, 0.0)
    vertices = 0
    for number in used:
        node = document.tables["nodes"][number]
        if "mesh" not in node:
            continue
        mesh, m = document.follow(node, "mesh", "meshes"), node.integer("mesh")
        if m not in meshes:
            meshes[m] = [p for entry in mesh.children("primitives") if (p := _read_primitive(document, entry, notes))]
        skin = None
        if "skin" in node:
            entry, s = document.follow(node, "skin", "skins"), node.integer("skin")
            skin = skins[s] = skins.get(s) or _read_skin(document, entry)
        mirrored = skin is None and np.linalg.det(rest[number, :3, :3]) < 0
        if len({len(primitive.targets) for primitive in meshes[m]}) > 1:
            mesh.fail("has primitives with different numbers of morph targets")
        for primitive in meshes[m]:
            vertices += len(primitive.base) * (1 + len(primitive.targets))
            if vertices > MAX_VERTICES:
                document.root.fail(
                    f"scene holds more than {MAX_VERTICES} vertices with their instances and morph targets"
                )
            name = node.text("name", mesh.text("name", f"mesh {m}"))
            objects.append(_object(name, primitive, mirrored))
            morph = _rest_weights(node if "weights" in node else mesh, len(primitive.targets))
            blend = _blend(node, primitive, len(skin.joints)) if skin else None
            instances.append(Instance(number, primitive, morph, skin, blend))
    return objects, instances


def _object(name: str, primitive: Primitive, mirrored: bool) -> Object:
    """A mirroring transform turns the triangles' winding around (glTF 2.0, 3.7.4)."""
    order = [0, 2, 1] if mirrored else [0, 1, 2]
    uv = primitive.corner_uv
    return Object(printable(name), primitive.faces[:, order], None if uv is None else uv[:, order])


def _rest_weights(owner: Entry, count: int) -> Array:
    return owner.numbers("weights", count, (0.0,) * count)


def _read_primitive(document: Document, entry: Entry, notes: list[str]) -> Primitive | None:
    """Geometry of a primitive, or None (and a note) if it has no triangles."""
    attributes, mode = entry.child("attributes"), entry.integer("mode", TRIANGLES, below=7)
    if mode < TRIANGLES:
        notes.append(f"{entry.where} is made of points or lines and is left out")
        return None
    kinds = QUANTIZED if document.quantized() else (FLOAT,)
    base = document.read(attributes, "POSITION", "VEC3", kinds).astype(np.float64)
    if "indices" in entry:
        indices = document.read(entry, "indices", "SCALAR", INDICES)[:, 0].astype(np.int64)
        if len(indices) and indices.max() >= len(base):
            entry.fail(f"indices point to vertex {indices.max()} of {len(base)}")
    else:
        indices = np.arange(len(base))
    faces = _triangles(entry, mode, indices).astype(np.int32)

    def per_vertex(owner: Entry, key: str, shape: str, allowed: tuple[int, ...]) -> NDArray:
        values = document.read(owner, key, shape, allowed)
        if len(values) != len(base):
            owner.fail(f"{key} has {len(values)} elements for {len(base)} vertices")
        return values

    corner_uv = None
    if "TEXCOORD_0" in attributes:
        allowed = QUANTIZED if document.quantized() else FRACTIONS
        uv = per_vertex(attributes, "TEXCOORD_0", "VEC2", allowed).astype(np.float32)
        if np.isfinite(uv).all():
            corner_uv = (uv * [1, -1] + [0, 1]).astype(np.float32)[faces]  # glTF counts v downwards
        else:
            notes.append(f"{entry.where} has UVs that are not finite and gets new ones")
    targets = [
        per_vertex(target, "POSITION", "VEC3", kinds).astype(np.float32).ravel()
        if "POSITION" in target
        else np.zeros(base.size, np.float32)
        for target in entry.children("targets")
    ]
    joints, weights = [np.zeros((len(base), 0), np.int64)], [np.zeros((len(base), 0))]
    while f"JOINTS_{len(joints) - 1}" in attributes:
        n = len(joints) - 1
        joints.append(per_vertex(attributes, f"JOINTS_{n}", "VEC4", JOINTS).astype(np.int64))
        weights.append(per_vertex(attributes, f"WEIGHTS_{n}", "VEC4", FRACTIONS).astype(np.float64))
    return Primitive(
        faces,
        corner_uv,
        base,
        np.array(targets, np.float32).reshape(len(targets), base.size),
        np.concatenate(joints, axis=1),
        np.concatenate(weights, axis=1),
    )


def _triangles(entry: Entry, mode: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Triangles [T, 3] of a list, strip or fan of vertices."""
    if mode == TRIANGLES:
        if len(indices) % 3:
            entry.fail(f"has {len(indices)} vertices, expected a multiple of 3 for triangles")
        return indices.reshape(-1, 3)
    i = np.arange(max(len(indices) - 2, 0))
    if mode == STRIP:
        return indices[np.stack([i, i + 1 + i % 2, i + 2 - i % 2], axis=1)]
    return indices[np.stack([i + 1, i + 2, np.zeros_like(i)], axis=1)]


def _read_skin(document: Document, entry: Entry) -> Skin:
    joints = entry.indices("joints", below=len(document.tables["nodes"]))
    if not joints:
        entry.fail("has no joints")
    if "inverseBindMatrices" not in entry:
        return Skin(joints, np.tile(np.eye(4), (len(joints), 1, 1)))
    inverse = document.read(entry, "inverseBindMatrices", "MAT4", (FLOAT,)).astype(np.float64)
    if len(inverse) < len(joints):
        entry.fail(f"has {len(inverse)} inverse bind matrices for {len(joints)} joints")
    if not np.isfinite(inverse).all():
        entry.fail("has inverse bind matrices that are not finite")
    return Skin(joints, inverse[: len(joints)].reshape(-1, 4, 4).swapaxes(1, 2))


def _blend(node: Entry, primitive: Primitive, joint_count: int) -> csr_array:
    """Weights [V, J], each row's sum 1."""
    joints, weights = primitive.joints, primitive.weights
    if not joints.shape[1]:
        node.fail("has a skin, but its mesh has no JOINTS_0 and WEIGHTS_0")
    if not np.isfinite(weights).all() or (weights < 0).any():
        node.fail("has skin weights that are negative or not finite")
    if (joints[weights > 0] >= joint_count).any():
        node.fail(f"has vertices on joint {joints[weights > 0].max()}, its skin has {joint_count}")
    total = weights.sum(axis=1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), np.eye(1, weights.shape[1]))
    rows = np.arange(0, weights.size + 1, weights.shape[1])
    columns = np.minimum(joints, joint_count - 1).ravel()  # joints of weight 0 may be anything
    return csr_array((weights.ravel(), columns, rows), shape=(len(weights), joint_count))


def _read_cameras(
    document: Document, used: list[int], tree: NodeTree, motion: Clip, notes: list[str]
) -> tuple[FileCamera, ...]:
    """The perspective cameras that stand in the scene."""
    cameras = []
    for number in used:
        node = document.tables["nodes"][number]
        if "camera" not in node:
            continue
        entry = document.follow(node, "camera", "cameras")
        name = printable(node.text("name", entry.text("name", f"camera {node.integer('camera')}")))
        if entry.text("type") != "perspective":
            notes.append(f"camera '{name}' is not a perspective camera and is left out")
            continue
        lens = entry.child("perspective")
        fov_y = lens.number("yfov")
        if not 0 < fov_y < np.pi:
            lens.fail(f"yfov is {fov_y}, expected radians between 0 and pi")

        @np.errstate(over="ignore", invalid="ignore")
        def pose(time: float, number: int = number, name: str = name) -> Array:
            wrapped = time % motion.duration if motion.duration > 0 else 0.0
            matrix = tree.world(motion, wrapped)[number]
            scale = np.linalg.norm(matrix[:3, :3], axis=0)  # a camera looks through none
            if not np.isfinite(matrix).all() or not scale.all():
                raise SceneError(
                    f"{document.root.file}: camera '{name}' has no direction at {time:.3f} s; mend its animation"
                )
            matrix[:3, :3] /= scale
            return matrix

        cameras.append(FileCamera(name, fov_y, pose))
    return tuple(cameras)
