"""glTF files: buffers beside them, and clear errors about what cannot be read."""

import base64

import numpy as np
import pytest
from glb import TRIANGLE, Glb, everything, load, one_node, pack

from renderer.config import SceneConfig
from renderer.errors import SceneError
from renderer.load import content_hash


def test_buffers_outside_the_json(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    glb.add("nodes", mesh=0)
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "sub dir" / "a.bin").write_bytes(glb.data)
    inline = "data:application/octet-stream;base64," + base64.b64encode(glb.data).decode()
    for uri in (inline, "sub%20dir/a.bin", "./sub dir/../sub dir/a.bin"):
        (tmp_path / "scene.gltf").write_bytes(glb.document(uri=uri))
        np.testing.assert_array_equal(load(tmp_path / "scene.gltf").at(0)[0], TRIANGLE)
    before = content_hash(SceneConfig(name=str(tmp_path / "scene.gltf")))
    (tmp_path / "sub dir" / "a.bin").write_bytes((TRIANGLE + 1).tobytes())
    assert content_hash(SceneConfig(name=str(tmp_path / "scene.gltf"))) != before


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.bin",
        "/etc/passwd",
        "http://host/a.bin",
        "file:///etc/passwd",
        "link.bin",
        "a/../../secret.bin",
        "",
        "a\0",
    ],
)
def test_buffers_stay_in_the_folder(tmp_path, uri):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    glb.add("nodes", mesh=0)
    (tmp_path / "secret.bin").write_bytes(glb.data)
    folder = tmp_path / "scene"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "scene.gltf").write_bytes(glb.document(uri=uri))
    with pytest.raises(SceneError, match="leaves the file's folder"):
        load(folder / "scene.gltf")


def _change(*path, value=None):
    """An edit of the document: sets the entry at `path`, or removes it."""

    def edit(document: dict) -> None:
        for key in path[:-1]:
            document = document[key]
        if value is None:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_change("asset"), "its asset is missing, expected a JSON object"),
        (_change("asset", "version", value="1.0"), r"is glTF 1.0, expected 2.x"),
        (_change("extensionsRequired", value=["KHR_draco_mesh_compression"]), "KHR_draco_mesh_compression"),
        (_change("nodes", value={}), "its nodes is an object, expected a list"),
        (_change("nodes", 0, "mesh", value="0"), r"nodes\[0\] mesh is 0, expected an integer from 0 to 1"),
        (_change("nodes", 0, "mesh", value=9), r"nodes\[0\] mesh is 9, expected an integer from 0 to 1"),
        (_change("nodes", 0, "skin", value=True), "skin is True"),
        (_change("nodes", 0, "weights", value=[1, 2]), "weights is a list of 2, expected 1 numbers"),
        (_change("nodes", 2, "children", value=[1]), "form a cycle"),
        (_change("nodes", 3, "children", value=[2, 4]), r"child 2, which nodes\[1\] has too"),
        (_change("nodes", 2, "translation", value=[0, 1]), "translation is a list of 2, expected 3 numbers"),
        (_change("nodes", 2, "translation", value=[0, 1, "x"]), "translation is a list of 3, expected 3 numbers"),
        (_change("nodes", 2, "matrix", value=list(range(16))), "is animated and has a matrix"),
        (_change("accessors", 0, "count", value=10**9), "exceeds what a scene may hold"),
        (_change("accessors", 0, "count", value=7), r"accessors\[0\] needs 28 bytes of bufferViews\[0\], which has 24"),
        (_change("accessors", 3, "componentType", value=5121), "component type 5121, expected VEC3 of 5126"),
        (_change("accessors", 5, "type", value="VEC2"), "is VEC2 of component type 5121, expected SCALAR"),
        (_change("bufferViews", 0, "byteLength", value=10**6), "ends at byte 1000000 of a buffer"),
        (_change("bufferViews", 0, "byteStride", value=3), "byteStride 3, expected at least 4"),
        (_change("buffers", 0, "byteLength", value=10**6), "its byteLength says 1000000"),
        (_change("buffers", value=[]), "has none"),
        (_change("skins", 0, "joints", value=[1]), "has vertices on joint 1, its skin has 1"),
        (_change("skins", 0, "joints", value=[1, 2, 3]), "2 inverse bind matrices for 3 joints"),
        (_change("meshes", 0, "primitives", 0, "attributes", "JOINTS_0"), "no JOINTS_0"),
        (
            _change("animations", 0, "samplers", 0, "interpolation", value="EASE"),
            "expected STEP, LINEAR or CUBICSPLINE",
        ),
        (
            _change("animations", 0, "samplers", 1, "interpolation", value="STEP"),
            "output has 27 numbers, expected 3 keys × 3",
        ),
        (_change("animations", 0, "channels", 0, "sampler", value=3), "sampler is 3, expected an integer from 0 to 2"),
        (_change("animations", 0, "channels", 0, "target", "path", value="colour"), "path is 'colour'"),
        (_change("animations", 0, "channels", 2, "target", "node", value=3), "has no morph targets"),
        (_change("cameras", 0, "perspective", "yfov", value=4), "yfov is 4.0, expected radians"),
        (_change("scenes", 0, "nodes", value=[]), "there is nothing to see: its scene has no meshes"),
    ],
)
def test_malformed_documents_are_named(tmp_path, edit, message):
    glb = everything()
    glb.json["buffers"] = [{"byteLength": len(glb.data)}]
    edit(glb.json)
    with pytest.raises(SceneError, match=message) as error:
        load(glb.write(tmp_path))
    assert str(error.value).startswith("scene.glb: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        ([0, 1, 1], 1.0, "increasing key times"),
        ([0, np.nan, 2], 1.0, "increasing key times"),
        ([], 1.0, "increasing key times"),
        ([0, 1, 2], np.inf, "not finite"),
    ],
)
def test_malformed_key_frames(tmp_path, times, values, message):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    glb.add_clip((0, "scale", "LINEAR", np.array(times, np.float32), np.full((3, 3), values, np.float32)))
    with pytest.raises(SceneError, match=message):
        one_node(tmp_path, glb)


def test_index_out_of_range(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE, np.array([0, 1, 3], np.uint8))
    with pytest.raises(SceneError, match="indices point to vertex 3 of 3"):
        one_node(tmp_path, glb)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GLB file"),
        (b"PNG....", "not a GLB file"),
        (b"glTF", "truncated"),
        (everything().bytes()[:-9], "truncated"),
        (everything().bytes().replace(b"glTF\2", b"glTF\1", 1), "version 1"),
        (pack(b'{"asset": NaN}', b""), "NaN is not a JSON number"),
        (pack(b"[" * 100_000, b""), "JSON cannot be read"),
        (pack(b"\xff\xff\xff", b""), "JSON cannot be read"),
        (pack(b"[]", b""), "JSON is a list"),
    ],
)
def test_malformed_containers(tmp_path, content, message):
    (tmp_path / "scene.glb").write_bytes(content)
    with pytest.raises(SceneError, match=message):
        load(tmp_path / "scene.glb")


@pytest.mark.parametrize("name", ["nothing.glb", "dancr", "a\0b", "x" * 5000])
def test_missing_files(tmp_path, name):
    with pytest.raises(SceneError, match="neither a built-in scene"):
        load(tmp_path / name)
