"""glTF scenes: agreement with Blender, and each feature against a slow or independent reference."""

from pathlib import Path

import numpy as np
import pytest
from glb import TRIANGLE, Glb, load, one_node
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation, Slerp

from renderer.errors import SceneError
from renderer.scene import Scene

ASSETS = Path(__file__).parents[2] / ".." / "shared" / "assets"
RNG = np.random.default_rng(0)


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
