"""Still meshes and OBJ sequences through `load_scene`."""

import math
import re

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderer.config import SceneConfig
from renderer.errors import SceneError
from renderer.load import content_hash, load_scene

OBJ = """mtllib ../../../etc/passwd
o floor
v 0 0 0
v 1 0 0
v 1 0 1
v 0 0 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
vn 0 1 0
usemtl stone
f 1/1/1 4/4/1 3/3/1 2/2/1
o wall
v 0 0 0
v 0 1 0
v 1 1 0
f 5/1/1 7/3/1 6/4/1
"""


def load(path, fps=12.0):
    return load_scene(SceneConfig(name=str(path)), fps)


def test_obj_has_its_objects_and_uvs(tmp_path):
    (tmp_path / "room.obj").write_text(OBJ)
    scene = load(tmp_path / "room.obj")
    points = dict(zip([part.name for part in scene.objects], scene.at(0), strict=True))
    parts = {part.name: part for part in scene.objects}
    assert set(parts) == {"floor", "wall"}
    assert (len(parts["floor"].faces), len(parts["wall"].faces)) == (2, 1)
    floor = parts["floor"]
    np.testing.assert_array_equal(points["floor"][floor.faces][..., [0, 2]], floor.corner_uv)
    np.testing.assert_array_equal(points["wall"][parts["wall"].faces][..., :2], parts["wall"].corner_uv)
    assert (scene.name, scene.duration, scene.ground, scene.notes) == ("room", 0, 0, ())


@pytest.mark.parametrize("kind", ["obj", "ply", "stl"])
def test_surface_survives(tmp_path, kind):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.export(tmp_path / f"ball.{kind}")
    scene = load(tmp_path / f"ball.{kind}")
    corners = scene.at(0)[0][scene.objects[0].faces]
    np.testing.assert_allclose(corners, mesh.triangles, atol=1e-6)
    assert scene.objects[0].corner_uv is None
    assert scene.ground == pytest.approx(-1)


def test_ply_uvs(tmp_path):
    rows = "0 0 0 .5 .25\n1 0 0 1 0\n0 1 0 0 1\n"
    properties = "".join(f"property float {name}\n" for name in "xyzst")
    header = f"ply\nformat ascii 1.0\nelement vertex 3\n{properties}element face 1\n"
    (tmp_path / "a.ply").write_text(f"{header}property list uchar int vertex_indices\nend_header\n{rows}3 0 1 2\n")
    np.testing.assert_allclose(load(tmp_path / "a.ply").objects[0].corner_uv, [[[0.5, 0.25], [1, 0], [0, 1]]])


def write_sequence(folder, count):
    """Frame k is OBJ moved up by k; normals, which exporters renumber, differ from frame to frame."""
    folder.mkdir()
    for k in range(count):
        text = re.sub(r"^v (\S+) (\S+)", lambda m, k=k: f"v {m[1]} {int(m[2]) + k}", OBJ, flags=re.MULTILINE)
        text = text.replace("3/3/1", "3/3/2").replace("vn 0 1 0", "vn 0 1 0\nvn 0 0 1") if k % 2 else text
        (folder / f"frame_{k}.obj").write_text(text)
    return folder


def test_sequence_plays_in_natural_order_at_the_renders_rate(tmp_path):
    folder = write_sequence(tmp_path / "walk", 12)
    (folder / "notes.txt").write_text("not a frame")
    for fps in (12.0, 30.0):
        scene = load(folder, fps)
        assert (scene.name, scene.ground) == ("walk", 0)
        assert scene.duration == pytest.approx(12 / fps)
        heights = [min(points[:, 1].min() for points in scene.at(k / fps)) for k in range(25)]
        assert heights == [k % 12 for k in range(25)]


def test_sequence_of_other_triangles(tmp_path):
    folder = write_sequence(tmp_path / "walk", 3)
    (folder / "frame_2.obj").write_text(OBJ.replace("f 5/1/1 7/3/1 6/4/1", "f 5/1/1 6/4/1 7/3/1"))
    with pytest.raises(SceneError, match=r"frame_2\.obj: has other objects or triangles than frame_0\.obj"):
        load(folder)


def test_content_hash_follows_the_content(tmp_path):
    folder = write_sequence(tmp_path / "walk", 3)
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "b.obj").write_text(OBJ)
    hashes = {name: content_hash(SceneConfig(name=str(tmp_path / name))) for name in ("a.obj", "b.obj", "walk")}
    assert hashes["a.obj"] == hashes["b.obj"] != hashes["walk"]
    (folder / "frame_1.obj").write_text(OBJ + "\n")
    assert content_hash(SceneConfig(name=str(folder))) != hashes["walk"]
    assert content_hash(SceneConfig(name="fish")) not in (*hashes.values(), content_hash(SceneConfig(name="flag")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", "", "has no triangles"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "has no triangles"),
        ("a.obj", "v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "without three numbers"),
        ("a.obj", "v 0 0 0\nf 1 2 3\n", "not a readable OBJ file"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\n", "negative indices"),
        ("a.obj", "v 0 0 1e99\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "there is nothing to see: left out 1 of 1 triangles"),
        (
            "a.ply",
            "ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n",
            "not a readable PLY",
        ),
        ("a.stl", "solid a\nendsolid", "has no triangles"),
        ("a.usdc", "PXR-USDC", "no scene file; expected .glb"),
        ("folder/notes.txt", "", "has no .obj files"),
    ],
)
def test_malformed_meshes(tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="latin-1")
    with pytest.raises(SceneError, match=message) as error:
        load(path if path.parent == tmp_path else path.parent)
    assert str(error.value).isprintable()


def test_only_gltf_has_clips(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    for name in (str(tmp_path / "a.obj"), "fish"):
        with pytest.raises(SceneError, match=r"leave scene\.clip out"):
            load_scene(SceneConfig(name=name, clip="Walk"), 12.0)


@pytest.mark.filterwarnings("error")  # a warning is a line that the person should not have to see
@pytest.mark.parametrize("kind", ["obj", "ply", "stl"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bytes(tmp_path, kind, flips):
    content = bytearray(trimesh.creation.box().export(file_type=kind) if kind != "obj" else OBJ.encode())
    for place, bits in flips:
        content[int(place * len(content))] ^= bits
    (tmp_path / f"a.{kind}").write_bytes(content)
    try:
        scene = load(tmp_path / f"a.{kind}")
        for part, points in zip(scene.objects, scene.at(0), strict=True):
            assert np.isfinite(points).all()
            assert 0 <= part.faces.min() <= part.faces.max() < len(points)
        assert math.isfinite(scene.ground)
    except SceneError as error:
        message = str(error)
        assert message.startswith(f"a.{kind}: ")
        assert message.isprintable()
