"""A small scene in code that tests pose and look at, and atlases of any shape."""

import numpy as np

from renderer.atlas import Texels
from renderer.gbuffer import GBuffer, Geometry, gather
from renderer.rasterise import Caster, rasterise
from renderer.shapes import assemble, rounded

SIZE = (40, 31)


def still_life(ground=0.0, dome=True) -> Geometry:
    """A box and an ellipsoid beside it, standing on the ground."""
    parts = [
        assemble("box", [p.at(-0.6, 0.5, 0) for p in rounded([0.5, 0.5, 0.5], 6, 8.0)]),
        assemble("egg", [p.at(0.7, 0.8, 0.2) for p in rounded([0.5, 0.8, 0.5], 6)]),
    ]
    (box, box_points), (egg, egg_points) = parts
    return Geometry(
        faces=np.concatenate([box.faces, egg.faces + len(box_points)]),
        face_object=np.repeat(np.arange(2, dtype=np.int32), [len(box.faces), len(egg.faces)]),
        corner_uv=np.concatenate([box.corner_uv, egg.corner_uv]),
        rest=np.concatenate([box_points, egg_points]).astype(np.float32),
        ground=ground,
        dome=dome,
    )


def rigid(geometry, time):
    """The egg circles the box, which stands still."""
    vertices = geometry.rest.copy()
    egg = np.unique(geometry.faces[geometry.face_object == 1])
    cos, sin = np.cos(time), np.sin(time)
    vertices[egg] = vertices[egg] @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    return vertices


def bent(geometry, time):
    """Everything leans and twists."""
    x, y, z = geometry.rest.T.astype(np.float64)
    angle = 0.6 * np.sin(time) * y
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x * cos + z * sin + 0.2 * np.sin(time) * y**2, y, z * cos - x * sin], axis=1).astype(np.float32)


def shoot(geometry, camera, vertices=None, size=SIZE) -> GBuffer:
    vertices = geometry.rest if vertices is None else vertices
    return gather(
        geometry,
        vertices,
        camera,
        rasterise(vertices, geometry.faces, camera, size, caster=Caster(vertices, geometry.faces)),
    )


def charts(masks) -> Texels:
    """Texels of one chart per object, from which cells of its atlas it covers: bool [side, side] each. They show no surface."""
    index, parts, first = [], [], 0
    for number, mask in enumerate(masks):
        row, column = np.nonzero(mask)
        table = np.full(mask.shape, -1, np.int32)
        table[row, column] = np.arange(first, first + len(row))
        index.append(table)
        parts.append(np.stack([np.full(len(row), number), row, column]).astype(np.int32))
        first += len(row)
    obj, row, column = np.concatenate(parts, axis=1)
    nothing = np.zeros((first, 3), np.float32)
    sides = tuple(len(mask) for mask in masks)
    return Texels(sides, obj, row, column, nothing[:, 0].astype(np.int32), nothing, tuple(index))
