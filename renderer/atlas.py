"""UV atlases that are charts: every surface point has one place in its object's atlas, and every place one surface point."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from renderer.cache import kept
from renderer.gbuffer import Geometry
from renderer.scene import Object, Scene

CHECK_SIDE = 512  # cells along the side of the grid on which double cover is judged
TOLERANCE = 0.01  # share of a file's UVs that may be doubly covered, and that may have no area


@dataclass(frozen=True)
class Texels:
    """The baked texels of a scene's heroes at one density: those cells of each atlas that show a surface point.

    sides: texels along the side of each object's square atlas. object, row, column: int32 [N], row 0 at v = 0.
    triangle: int32 [N] over all objects' faces, barycentrics: float32 [N, 3]: the surface point of each texel.
    index: for each object int32 [side, side], the texel of a cell or -1.
    """

    sides: tuple[int, ...]
    object: NDArray[np.int32]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    triangle: NDArray[np.int32]
    barycentrics: NDArray[np.float32]
    index: tuple[NDArray[np.int32], ...]


def triangle_areas(corners: NDArray[np.floating]) -> NDArray[np.float64]:
    """Areas [T] of triangles with corners [T, 3, 2 or 3]."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    if corners.shape[-1] == 2:
        return 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    return 0.5 * np.linalg.norm(np.cross(a, b), axis=1)


def cover(
    corner_uv: NDArray[np.floating], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Which cell centres does each UV triangle cover, in a side × side grid over [0, 1]²?

    corner_uv: [T, 3, 2]. Returns triangle [M], cell [M] (row · side + column) and barycentrics [M, 3], one row a
    (triangle, cell) pair, by triangle then cell.
    """
    uv = corner_uv.astype(np.float64) * side - 0.5  # cell centres at the integers
    low = np.clip(np.ceil(uv.min(axis=1) - 1e-9), 0, side).astype(np.int64)
    high = np.clip(np.floor(uv.max(axis=1) + 1e-9), -1, side - 1).astype(np.int64)
    extent = np.maximum(high - low + 1, 0)
    found = []
    # Boxes are unrolled in batches, so that memory stays bounded however large a triangle is.
    counts = extent.prod(axis=1)
    batch = np.cumsum(counts) // 4_000_000
    for b in np.unique(batch[counts > 0]):
        t = np.flatnonzero((batch == b) & (counts > 0))
        triangle = np.repeat(t, counts[t])
        offset = np.arange(len(triangle)) - np.repeat(np.cumsum(counts[t]) - counts[t], counts[t])
        column = low[triangle, 0] + offset % extent[triangle, 0]
        row = low[triangle, 1] + offset // extent[triangle, 0]
        p = np.stack([column, row], axis=1)
        a, b_, c = uv[triangle, 0], uv[triangle, 1], uv[triangle, 2]
        total = _cross(b_ - a, c - a)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.stack([_cross(b_ - p, c - p), _cross(c - p, a - p), _cross(a - p, b_ - p)], axis=1)
            weights = weights / total[:, None]
        inside = (weights >= -1e-9).all(axis=1) & (total != 0)
        found.append((triangle[inside], (row * side + column)[inside], weights[inside]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3))
    triangles, cells, barycentrics = zip(*found, strict=True)
    return np.concatenate(triangles), np.concatenate(cells), np.concatenate(barycentrics)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def is_chart(corner_uv: NDArray[np.floating], corners: NDArray[np.floating]) -> bool:
    """Do a file's UVs give every surface point a place of its own?

    corner_uv: [T, 3, 2]; corners: the same triangles in space, [T, 3, 3]. True if the UVs lie in [0, 1], less than 1 % of the
    covered cells are covered twice, and less than 1 % of the surface has no area in UV.
    """
    if not np.isfinite(corner_uv).all() or corner_uv.min() < -1e-4 or corner_uv.max() > 1 + 1e-4:
        return False
    area = triangle_areas(corners)
    if area[triangle_areas(corner_uv) < 1e-12].sum() >= TOLERANCE * area.sum():
        return False
    # A centre that lies just on the edge of two neighbours is no double cover.
    _, cell, barycentrics = cover(corner_uv, CHECK_SIDE)
    times = np.bincount(cell[barycentrics.min(axis=1) > 1e-6], minlength=CHECK_SIDE**2)
    return bool((times > 1).sum() < TOLERANCE * max((times > 0).sum(), 1))


def unwrap(positions: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float32]:
    """Charts by xatlas for a mesh in its rest pose, cached by content. positions [V, 3], faces [T, 3] → corner UVs [T, 3, 2]."""
    digest = hashlib.sha256(positions.astype(np.float32).tobytes() + faces.astype(np.int32).tobytes()).hexdigest()
    return kept(f"atlas/{digest}.f32", (len(faces), 3, 2), partial(parametrize, positions, faces))


def parametrize(positions: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float32]:
    """As `unwrap`, without a cache."""
    import xatlas

    # Files split vertices at every seam and hard edge; charts should follow the surface, so weld by position first.
    welded, inverse = np.unique(positions.astype(np.float32), axis=0, return_inverse=True)
    _, indices, uvs = xatlas.parametrize(welded, inverse.reshape(-1)[faces].astype(np.uint32))
    return np.asarray(uvs, np.float32)[np.asarray(indices)]


def atlas(obj: Object, positions: NDArray[np.floating]) -> NDArray[np.float32]:
    """Corner UVs [T, 3, 2] for correspondence: the file's own where they are charts, else xatlas's. positions: rest pose [V, 3]."""
    if obj.corner_uv is not None and is_chart(obj.corner_uv, positions[obj.faces]):
        return np.clip(obj.corner_uv, 0, 1).astype(np.float32)
    return unwrap(positions, obj.faces)


def atlases(scene: Scene) -> list[NDArray[np.float32]]:
    """Corner UVs of every object, [T_i, 3, 2] each."""
    return [atlas(obj, positions) for obj, positions in zip(scene.objects, scene.at(0.0), strict=True)]


def share_out(areas: Sequence[float], side: float) -> tuple[int, ...]:
    """Atlas sides for objects with these largest projected areas, so that all texels together number about side²."""
    total = max(sum(areas), 1e-9)
    return tuple(max(4, round(side * (area / total) ** 0.5)) for area in areas)


def bake(corner_uvs: Sequence[NDArray[np.floating]], sides: Sequence[int]) -> Texels:
    """The texels of every object's atlas. corner_uvs: [T_i, 3, 2] each; sides: cells along each atlas.

    A cell whose centre no triangle covers, but in which the centroid of a triangle lies, shows that centroid, so that a chart
    smaller than a cell still has a texel.
    """
    parts, index, first_face, first_texel = [], [], 0, 0
    for number, (corner_uv, side) in enumerate(zip(corner_uvs, sides, strict=True)):
        triangle, cell, barycentrics = cover(corner_uv, side)
        centroid = np.clip((corner_uv.mean(axis=1) * side).astype(np.int64), 0, side - 1)
        triangle = np.concatenate([triangle, np.arange(len(corner_uv))])
        cell = np.concatenate([cell, centroid[:, 1] * side + centroid[:, 0]])
        barycentrics = np.concatenate([barycentrics, np.full((len(corner_uv), 3), 1 / 3)])
        cell, first = np.unique(cell, return_index=True)  # the first is a covering triangle wherever there is one
        table = np.full(side * side, -1, np.int32)
        table[cell] = np.arange(first_texel, first_texel + len(cell))
        index.append(table.reshape(side, side))
        parts.append(
            (np.full(len(cell), number), cell // side, cell % side, triangle[first] + first_face, barycentrics[first])
        )
        first_face, first_texel = first_face + len(corner_uv), first_texel + len(cell)
    obj, row, column, triangle, barycentrics = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Texels(
        sides=tuple(sides),
        object=obj.astype(np.int32),
        row=row.astype(np.int32),
        column=column.astype(np.int32),
        triangle=triangle.astype(np.int32),
        barycentrics=np.clip(barycentrics, 0, 1).astype(np.float32),
        index=tuple(index),
    )


def lookup(
    texels: Texels,
    geometry: Geometry,
    triangle: NDArray[np.integer],
    barycentrics: NDArray[np.floating],
    uv: NDArray[np.floating],
) -> NDArray[np.int32]:
    """The texel under each of P surface points: the cell that its uv lies in, or the nearest baked surface point of its object.

    triangle: [P]; barycentrics: [P, 3]; uv: [P, 2]. Returns int32 [P]. A cell may lie across the border of two charts and
    show the other one; that counts as not baked, as it may be anywhere on the object.
    """
    found = np.full(len(triangle), -1, np.int32)
    for number, (side, table) in enumerate(zip(texels.sides, texels.index, strict=True)):
        mine = np.flatnonzero(geometry.face_object[triangle] == number)
        column, row = np.clip((uv[mine] * side).astype(np.int64), 0, side - 1).T
        texel = table[row, column]
        missing = (texel < 0) | (geometry.chart[texels.triangle[texel]] != geometry.chart[triangle[mine]])
        if missing.any():
            own = np.flatnonzero(texels.object == number)
            baked = surface_points(geometry.rest, geometry.faces, texels.triangle[own], texels.barycentrics[own])
            at = mine[missing]
            wanted = surface_points(geometry.rest, geometry.faces, triangle[at], barycentrics[at])
            texel[missing] = own[cKDTree(baked).query(wanted)[1]]
        found[mine] = texel
    return found


def surface_points(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    triangle: NDArray[np.integer],
    barycentrics: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Points [P, 3] on triangles [P] at barycentrics [P, 3] of a mesh with these vertices [V, 3] and faces [T, 3]."""
    return np.einsum("pcx,pc->px", vertices[faces[triangle]].astype(np.float64), barycentrics.astype(np.float64))
