"""glTF scenes: agreement with Blender, each feature against a slow or independent reference, and clear errors."""

import base64
from pathlib import Path

import numpy as np
import pytest
from glb import TRIANGLE, Glb, everything, pack
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation, Slerp

from renderer.config import SceneConfig
from renderer.errors import SceneError
from renderer.load import content_hash, load_scene
from renderer.scene import Scene

ASSETS = Path(__file__).parents[2] / ".." / "shared" / "assets"
RNG = np.random.default_rng(0)


def load(path: Path, clip: str | None = None) -> Scene:
    return load_scene(SceneConfig(name=str(path), clip=clip), 12.0)


def one_node(tmp_path: Path, glb: Glb, **node) -> Scene:
    glb.add("nodes", **({"mesh": 0} | node))
    return load(glb.write(tmp_path))


def surface(scene: Scene, time: float = 0.0) -> np.ndarray:
    """All triangles' corners, float64 [T, 3, 3]."""
    return np.concatenate([p[o.faces] for o, p in zip(scene.objects, scene.at(time), strict=True)]).astype(float)


@pytest.mark.parametrize(
    ("file", "clip", "reference"),
    [
        ("Fox.glb", "Walk", "Fox_Walk"),
        ("Fox.glb", "Run", "Fox_Run"),
        ("CesiumMan.glb", None, "CesiumMan"),
        ("RiggedSimple.glb", None, "RiggedSimple"),
        ("CesiumMilkTruck.glb", None, "CesiumMilkTruck"),
        ("AnimatedMorphCube/AnimatedMorphCube.gltf", None, "AnimatedMorphCube"),
    ],
)
def test_agrees_with_blender(file, clip, reference):
    if not (ASSETS / file).exists():
        pytest.skip("needs the shared assets")
    scene, expected = load(ASSETS / file, clip), np.load(ASSETS / "reference" / f"{reference}.npz")
    tolerance = 1e-3 * np.ptp(expected["points"].reshape(-1, 3), axis=0).max()
    for time, points in zip(expected["times"], expected["points"], strict=True):
        ours = np.concatenate(scene.at(float(time)))
        assert cKDTree(points).query(ours)[0].max() < tolerance
        assert cKDTree(ours).query(points)[0].max() < tolerance


def test_rotation_is_slerp_the_short_way(tmp_path):
    glb, times = Glb(), np.array([1, 1.5, 3, 3.2], np.float32)
    keys = Rotation.random(4, rng=1).as_quat().astype(np.float32)
    keys[2] = -keys[1]  # the same rotation: nothing may turn in between
    glb.add_mesh(TRIANGLE)
    glb.add_clip((0, "rotation", "LINEAR", times, keys))
    scene = one_node(tmp_path, glb)
    assert scene.duration == pytest.approx(2.2)
    for time in np.linspace(0, 2.19, 23):
        expected = Slerp(times, Rotation.from_quat(keys))(time + 1).apply(TRIANGLE)
        np.testing.assert_allclose(scene.at(time)[0], expected, atol=1e-6)


def test_cubic_spline_is_hermite(tmp_path):
    glb, times = Glb(), np.array([0, 0.3, 1], np.float32)
    keys = RNG.normal(size=(3, 3, 3)).astype(np.float32)  # [key, in-tangent | value | out-tangent, xyz]
    glb.add_mesh(TRIANGLE)
    glb.add_clip((0, "translation", "CUBICSPLINE", times, keys.reshape(9, 3)))
    scene = one_node(tmp_path, glb)
    for k in (0, 1):
        spline = CubicHermiteSpline(times[k : k + 2], keys[k : k + 2, 1], [keys[k, 2], keys[k + 1, 0]])
        for time in np.linspace(times[k], times[k + 1], 7)[:-1]:
            np.testing.assert_allclose(scene.at(time)[0], TRIANGLE + spline(time), atol=1e-6)


def test_step_holds_and_ends_stay(tmp_path):
    glb, step = Glb(), np.array([0.5, 1], np.float32)
    glb.add_mesh(TRIANGLE)
    glb.add_clip(
        (0, "translation", "STEP", step, np.array([[1, 0, 0], [2, 0, 0]], np.float32)),
        (0, "scale", "LINEAR", np.array([0, 2], np.float32), np.ones((2, 3), np.float32)),
    )
    scene = one_node(tmp_path, glb)
    assert [scene.at(t)[0][0, 0] for t in (0, 0.5, 0.99, 1, 1.9, 2.0, 2.6)] == [1, 1, 1, 2, 2, 1, 1]


@pytest.mark.parametrize("stored", [True, False])
def test_sparse_accessor(tmp_path, stored):
    glb, points = Glb(), np.zeros((5, 3), np.float32)
    points[:3] = RNG.normal(size=(3, 3)) if stored else 0
    mesh = glb.add_mesh(points)
    rows, values = np.array([1, 2, 4], np.uint16), RNG.normal(size=(3, 3)).astype(np.float32)
    accessor = glb.json["accessors"][glb.json["meshes"][mesh]["primitives"][0]["attributes"]["POSITION"]]
    accessor["sparse"] = {
        "count": 3,
        "indices": {"bufferView": glb.add_view(rows.tobytes()), "componentType": 5123},
        "values": {"bufferView": glb.add_view(values.tobytes())},
    }
    if not stored:
        del accessor["bufferView"]
    glb.json["meshes"][mesh]["primitives"][0]["indices"] = glb.add_accessor(np.array([0, 1, 2, 2, 4, 3], np.uint8))
    points[rows] = values
    np.testing.assert_array_equal(one_node(tmp_path, glb).at(0)[0], points)


def test_interleaved_vertices(tmp_path):
    glb, vertices = Glb(), RNG.normal(size=(3, 5)).astype(np.float32)
    view = glb.add_view(vertices.tobytes(), byteStride=20)
    layout = {"bufferView": view, "componentType": 5126, "count": 3}
    position = glb.add("accessors", **layout, type="VEC3")
    uv = glb.add("accessors", **layout, type="VEC2", byteOffset=12)
    glb.add("meshes", primitives=[{"attributes": {"POSITION": position, "TEXCOORD_0": uv}}])
    scene = one_node(tmp_path, glb)
    np.testing.assert_array_equal(scene.at(0)[0], vertices[:, :3])
    np.testing.assert_allclose(scene.objects[0].corner_uv[0], vertices[:, 3:] * [1, -1] + [0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "normalized"), [(np.int16, True), (np.uint16, False), (np.int8, True), (np.uint8, True)]
)
def test_quantized_positions(tmp_path, dtype, normalized):
    glb, steps = Glb(), np.iinfo(dtype)
    stored = RNG.integers(steps.min, steps.max, (3, 4), dtype=dtype, endpoint=True)  # padded to 4 for alignment
    stored[0, 0] = steps.min
    view = glb.add_view(stored.tobytes(), byteStride=stored.strides[0])
    entry = {"componentType": {1: 5121, 2: 5123}[stored.itemsize] - (steps.min < 0), "normalized": normalized}
    position = glb.add("accessors", bufferView=view, count=3, type="VEC3", **entry)
    glb.add("meshes", primitives=[{"attributes": {"POSITION": position}}])
    with pytest.raises(SceneError, match="POSITION"):  # integers need the extension
        one_node(tmp_path, glb)
    glb.json |= {"extensionsUsed": ["KHR_mesh_quantization"], "extensionsRequired": ["KHR_mesh_quantization"]}
    expected = np.maximum(stored[:, :3] / steps.max, -1) if normalized else stored[:, :3]
    np.testing.assert_allclose(load(glb.write(tmp_path)).at(0)[0], expected, rtol=1e-6)


def test_lists_strips_fans_and_indices_show_the_same(tmp_path):
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    glb = Glb()
    glb.add_mesh(square, mode=6)
    glb.add_mesh(square, np.array([0, 1, 3, 2], np.uint32), mode=5)
    glb.add_mesh(square, np.array([0, 1, 2, 0, 2, 3], np.uint16))
    glb.add_mesh(square[[0, 1, 2, 0, 2, 3]])
    for mesh in range(4):
        glb.add("nodes", mesh=mesh, name=str(mesh))
    scene = load(glb.write(tmp_path))
    for part, points in zip(scene.objects, scene.at(0), strict=True):
        a, b, c = points[part.faces].astype(float).swapaxes(0, 1)
        np.testing.assert_allclose(
            np.cross(b - a, c - a) / 2, [[0, 0, 0.5]] * 2
        )  # each faces +Z with half of the square
        assert len(np.unique(np.concatenate([a, b, c]), axis=0)) == 4


def test_instances_are_objects_with_their_own_transform(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    glb.add("nodes", children=[1, 2], translation=[0, 5, 0], name="parent")
    glb.add("nodes", mesh=0, scale=[2, 2, 2], name="leaf")
    glb.add("nodes", mesh=0, matrix=[0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 7, 0, 0, 1], name="leaf")
    scene = load(glb.write(tmp_path))
    assert [part.name for part in scene.objects] == ["leaf#0", "leaf#1"]
    first, second = scene.at(0)
    np.testing.assert_allclose(first, 2 * TRIANGLE + [0, 5, 0])
    np.testing.assert_allclose(second, TRIANGLE[:, [1, 0, 2]] * [-1, 1, 1] + [7, 5, 0])
    assert (scene.duration, scene.ground) == (0, 5)


def test_mirrored_instance_keeps_its_outside(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE, uv=TRIANGLE[:, :2])
    a, b, c = surface(one_node(tmp_path, glb, scale=[-1, 1, 1]))[0]
    assert np.cross(b - a, c - a)[2] > 0
    part = load(tmp_path / "scene.glb").objects[0]
    np.testing.assert_allclose(part.corner_uv[0], (TRIANGLE[:, :2] * [1, -1] + [0, 1])[part.faces[0]])


def test_morph_and_skin_against_loops(tmp_path):
    """Morph first, then the weighted joints' matrices; the skinned node's own transform does not count."""
    glb, count = Glb(), 9
    points = RNG.normal(size=(count, 3)).astype(np.float32)
    targets = RNG.normal(size=(2, count, 3)).astype(np.float32)
    joints, weights = RNG.integers(0, 3, (2, count, 4), dtype=np.uint8), RNG.random((2, count, 4)).astype(np.float32)
    inverse = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    inverse[:, :3] += 0.2 * RNG.normal(size=(3, 3, 4))
    attributes = {f"JOINTS_{i}": glb.add_accessor(joints[i]) for i in (0, 1)}
    attributes |= {f"WEIGHTS_{i}": glb.add_accessor(weights[i]) for i in (0, 1)}
    glb.add_mesh(points, attributes=attributes, targets=[{"POSITION": glb.add_accessor(target)} for target in targets])
    glb.add("skins", joints=[3, 1, 2], inverseBindMatrices=glb.add_accessor(inverse))
    glb.json["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 0, 0]},
        {"children": [2], "translation": [0, 1, 0]},
        {"children": [3], "scale": [1, 2, 1]},
        {"translation": [0, 0, 1]},
    ]
    times = np.array([0, 2], np.float32)
    shift, morph = RNG.normal(size=(2, 3)).astype(np.float32), RNG.random((2, 2)).astype(np.float32)
    glb.add_clip((1, "translation", "LINEAR", times, shift), (0, "weights", "LINEAR", times, morph.ravel()))
    scene = load(glb.write(tmp_path))

    def local(translation, scale=(1, 1, 1)):
        matrix = np.diag([*scale, 1.0])
        matrix[:3, 3] = translation
        return matrix

    for time in (0, 0.7, 1.6):
        s = time / 2
        one = local((1 - s) * shift[0] + s * shift[1])
        two = one @ local((0, 0, 0), (1, 2, 1))
        world = [two @ local((0, 0, 1)), one, two]  # in the skin's order of joints
        mix = (1 - s) * morph[0] + s * morph[1]
        for v in range(count):
            rest = np.append(points[v] + mix[0] * targets[0, v] + mix[1] * targets[1, v], 1)
            total, expected = 0.0, np.zeros(4)
            for joint, weight in zip(joints[:, v].ravel(), weights[:, v].ravel(), strict=True):
                expected += weight * (world[joint] @ inverse[joint] @ rest)
                total += weight
            np.testing.assert_allclose(scene.at(time)[0][v], expected[:3] / total, atol=1e-5)


def test_morph_weights_at_rest_come_from_the_node_then_the_mesh(tmp_path):
    glb = Glb()
    mesh = glb.add_mesh(TRIANGLE, targets=[{"POSITION": glb.add_accessor(np.ones((3, 3), np.float32))}])
    glb.json["meshes"][mesh]["weights"] = [0.25]
    glb.add("nodes", mesh=mesh)
    glb.add("nodes", mesh=mesh, weights=[3])
    first, second = load(glb.write(tmp_path)).at(0)
    np.testing.assert_allclose(first, TRIANGLE + 0.25)
    np.testing.assert_allclose(second, TRIANGLE + 3)


def test_default_scene_only(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    for name in "abc":
        glb.add("nodes", mesh=0, name=name)
    glb.json |= {"scenes": [{"nodes": [0]}, {"nodes": [2, 1]}], "scene": 1}
    assert [part.name for part in load(glb.write(tmp_path)).objects] == ["b", "c"]
    del glb.json["scene"]
    assert [part.name for part in load(glb.write(tmp_path)).objects] == ["a"]


def test_clips_by_name_and_index(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    for length, name in ((1, {"name": "Walk"}), (2, {}), (3, {"name": "0"})):
        times = np.array([0, length], np.float32)
        glb.add_clip((0, "scale", "LINEAR", times, np.ones((2, 3), np.float32)), **name)
    glb.add("nodes", mesh=0)
    path = glb.write(tmp_path)
    durations = {clip: load(path, clip).duration for clip in (None, "Walk", "1", "0", "2")}
    assert durations == {None: 1, "Walk": 1, "1": 2, "0": 3, "2": 3}  # a name goes before an index
    with pytest.raises(SceneError, match="no clip is called 'Fly'; choose one of: Walk, 1, 0"):
        load(path, "Fly")


def test_cameras(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    glb.add("cameras", type="perspective", perspective={"yfov": 0.6, "znear": 0.1})
    glb.add("cameras", type="orthographic", orthographic={"xmag": 1, "ymag": 1, "znear": 0, "zfar": 1}, name="plan")
    glb.json["nodes"] = [
        {"mesh": 0},
        {"children": [2], "scale": [3, 3, 3]},
        {"camera": 0, "name": "shot"},
        {"camera": 1},
    ]
    times = np.array([0, 1], np.float32)
    glb.add_clip((2, "translation", "LINEAR", times, np.array([[0, 0, 0], [0, 0, 2]], np.float32)))
    scene = load(glb.write(tmp_path))
    (camera,) = scene.cameras
    assert (camera.name, camera.fov_y) == ("shot", 0.6)
    np.testing.assert_allclose(camera.pose(0.5), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(camera.pose(2.5), camera.pose(0.5))
    assert any("plan" in note for note in scene.notes)


def test_unusable_triangles_are_left_out_and_reported(tmp_path):
    points = np.concatenate([TRIANGLE, TRIANGLE + 2, TRIANGLE * [1, 0, 0]]).astype(np.float32)
    points[4] = np.nan
    scene = one_node(tmp_path, glb := Glb(), mesh=glb.add_mesh(points))
    np.testing.assert_array_equal(scene.at(0)[0], TRIANGLE)  # vertices that nothing uses go too
    assert list(scene.notes) == [
        "left out 1 of 3 triangles of 'mesh 0' with vertices that are not finite",
        "left out 1 of 3 triangles of 'mesh 0' without area",
    ]
    with pytest.raises(SceneError, match=r"nothing to see: left out 1 of 2.*; left out 1 of 2"):
        one_node(tmp_path, glb := Glb(), mesh=glb.add_mesh(points[3:]))


def test_triangles_that_grow_from_nothing_stay(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    scales = np.array([[0, 0, 0], [1, 1, 1]], np.float32)
    glb.add_clip((0, "scale", "LINEAR", np.array([0, 1], np.float32), scales))
    scene = one_node(tmp_path, glb)
    assert len(scene.objects[0].faces) == 1
    assert not scene.notes


def test_points_that_overflow_in_motion_are_an_error(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    values = np.array([[1, 1, 1], [1, 1, 1], [3e38, 1, 1], [1, 1, 1]], np.float32)
    glb.add_clip((0, "scale", "STEP", np.array([0, 1, 1.001, 1.002], np.float32), values))
    scene = one_node(tmp_path, glb)
    scene.at(0.5)
    with pytest.raises(SceneError, match="not finite at"):
        scene.at(1.0015)


def test_ground_is_the_lowest_point_of_the_clip(tmp_path):
    glb = Glb()
    glb.add_mesh(TRIANGLE)
    path = np.array([[0, 0, 0], [0, -3, 0], [0, 1, 0]], np.float32)
    glb.add_clip((0, "translation", "LINEAR", np.array([0, 0.5, 1], np.float32), path))
    assert one_node(tmp_path, glb).ground == pytest.approx(-3)


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
