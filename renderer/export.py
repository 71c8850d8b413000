"""The appearance of a clip as a baked texture, and a GLB that wears it, for Blender or any viewer."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from renderer.arrays import load_arrays
from renderer.atlas import Texels, surface_points
from renderer.files import atomic
from renderer.plan import Plan
from renderer.scene import Object
from renderer.stage import Stage
from renderer.video import write_png

SQUARELY = (
    4.0  # power of the cosine by which a view counts: one at 60 degrees has a sixteenth of one that looks straight on
)
GLANCE = 1e-4  # weight of a view of which only part of a sample shows the texel: it counts where there is no other
GREY = 0.5  # of an object that no frame shows


def export_texture(plan: Plan, texels: Texels, folder: Path) -> None:
    """texture/*.png and textured.glb from the textures of a clip's frames, made of these texels, in the work folder."""
    stage = Stage(plan)
    frames = (load_arrays(plan.texture_path(frame)) for frame in range(plan.frames))
    colour, shown = bake_clip(texels, ((frame["colour"], frame["seen"], frame["facing"]) for frame in frames))
    positions = stage.scene.at(0.0)
    points = surface_points(np.concatenate(positions), stage.geometry.faces, texels.triangle, texels.barycentrics)
    pictures = atlas_pictures(texels, fill(texels, colour, shown, points))
    write_textured(folder, stage.scene.objects, positions, stage.chart_uvs, pictures)


def bake_clip(
    texels: Texels, clip: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.floating]]]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One texture from those of all frames: the mean over the views of a texel, weighted by how squarely it is seen.

    clip: (colour uint8 [N, 3], seen bool [N], facing [N], the cosine or 0) of each frame, see Stage.unwrap. Returns colours
    [N, 3] in [0, 1], and which texels any frame shows.
    """
    total, weights = np.zeros((len(texels.object), 3)), np.zeros(len(texels.object))
    for colour, seen, facing in clip:
        weight = np.where(seen, np.maximum(facing.astype(np.float64) ** SQUARELY, GLANCE), 0)
        total += weight[:, None] * colour / 255
        weights += weight
    return (total / np.maximum(weights, 1e-12)[:, None]).astype(np.float32), weights > 0


def fill(
    texels: Texels, colour: NDArray[np.float32], shown: NDArray[np.bool_], points: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Colours [N, 3] in which texels that no frame shows have that of the nearest shown point [N, 3] of their object."""
    filled = np.where(shown[:, None], colour, GREY).astype(np.float32)
    for number in range(len(texels.sides)):
        mine = texels.object == number
        known, unknown = np.flatnonzero(mine & shown), np.flatnonzero(mine & ~shown)
        if len(known) and len(unknown):
            filled[unknown] = colour[known[cKDTree(points[known]).query(points[unknown])[1]]]
    return filled


def atlas_pictures(texels: Texels, colour: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """Each object's atlas, uint8 [side, side, 3], v up. Gaps between charts take the nearest texel, as viewers blur across."""
    pictures = []
    for table in texels.index:
        nearest = distance_transform_edt(table < 0, return_distances=False, return_indices=True)
        pictures.append(np.rint(colour[table[tuple(nearest)]] * 255).astype(np.uint8)[::-1])
    return pictures


def write_textured(
    folder: Path,
    objects: Sequence[Object],
    positions: Sequence[NDArray[np.floating]],
    corner_uvs: Sequence[NDArray[np.floating]],
    pictures: Sequence[NDArray[np.uint8]],
) -> None:
    """texture/NUMBER-NAME.png of each object, and textured.glb with all of them in this pose: positions [V_i, 3] each.

    corner_uvs: [T_i, 3, 2], v up. Unlit appearance is what pictures show, so the material neither shines nor reflects.
    """
    import trimesh

    scene = trimesh.Scene()
    for number, (obj, vertices, corner_uv, picture) in enumerate(
        zip(objects, positions, corner_uvs, pictures, strict=True)
    ):
        name = f"{number}-{''.join(c if c.isalnum() or c in '-_' else '-' for c in obj.name)[:60]}"
        write_png(folder / "texture" / f"{name}.png", picture)
        # A vertex for each place that it has in the atlas; normals as they were before, so that seams do not show.
        corners = np.concatenate([obj.faces.reshape(-1, 1), corner_uv.reshape(-1, 2)], axis=1)
        split, faces = np.unique(corners, axis=0, return_inverse=True)
        vertex = split[:, 0].astype(np.int64)
        normals = trimesh.Trimesh(vertices, obj.faces, process=False).vertex_normals
        material = trimesh.visual.material.PBRMaterial(
            name=name,
            baseColorTexture=Image.fromarray(picture),
            metallicFactor=0.0,
            roughnessFactor=1.0,
            doubleSided=True,
        )
        mesh = trimesh.Trimesh(
            vertices[vertex],
            faces.reshape(-1, 3),
            vertex_normals=normals[vertex],
            visual=trimesh.visual.TextureVisuals(uv=split[:, 1:], material=material),
            process=False,
        )
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    buffer = io.BytesIO()
    scene.export(buffer, file_type="glb", include_normals=True)
    with atomic(folder / "textured.glb") as part:
        part.write_bytes(buffer.getvalue())
