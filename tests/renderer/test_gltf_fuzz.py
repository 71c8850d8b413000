"""Damaged glTF files either load and show finite points at any time, or raise a SceneError of one line."""

import copy
import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from glb import everything, pack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderer.config import SceneConfig
from renderer.errors import SceneError
from renderer.load import load_scene

FOX = Path(__file__).parents[2] / ".." / "shared" / "assets" / "Fox.glb"
SMALL = everything().bytes()

pytestmark = pytest.mark.filterwarnings("error")  # a warning is a line that the person should not have to see
fuzz = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(folder: Path, content: bytes) -> bool:
    """Whether the file could be shown; anything but that or a SceneError fails the test."""
    path = folder / "scene.glb"
    path.write_bytes(content)
    try:
        scene = load_scene(SceneConfig(name=str(path)), 12.0)
        assert math.isfinite(scene.duration)
        assert math.isfinite(scene.ground)
        for time in (0.0, 0.31 * scene.duration, 0.77, 1e6):
            for part, points in zip(scene.objects, scene.at(time), strict=True):
                assert np.isfinite(points).all()
                assert len(part.faces)
                assert 0 <= part.faces.min() <= part.faces.max() < len(points)
                assert part.corner_uv is None or np.isfinite(part.corner_uv).all()
            assert all(np.isfinite(camera.pose(time)).all() for camera in scene.cameras)
    except SceneError as error:
        message = str(error)
        assert message.startswith("scene.glb: ")
        assert message.isprintable()
        return False
    return True


def flip(content: bytes, flips: list[tuple[float, int]]) -> bytes:
    """Each flip: a place in the file as a fraction of its length, and the bits to turn."""
    damaged = bytearray(content)
    for place, bits in flips:
        damaged[int(place * len(damaged))] ^= bits
    return bytes(damaged)


flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8)


def test_the_unharmed_file_is_shown(tmp_path):
    assert survives(tmp_path, SMALL)


@fuzz
@given(flips=flips)
def test_flipped_bytes(tmp_path, flips):
    survives(tmp_path, flip(SMALL, flips))


@fuzz
@given(flips=flips)
def test_flipped_bytes_in_the_buffer(tmp_path, flips):
    json_end = 20 + struct.unpack_from("<I", SMALL, 12)[0] + 8
    survives(tmp_path, SMALL[:json_end] + flip(SMALL[json_end:], flips))


@settings(fuzz, max_examples=60)
@given(end=st.floats(0, 1, exclude_max=True), flips=flips)
def test_truncated(tmp_path, end, flips):
    content = SMALL[: int(end * len(SMALL))]
    assert not survives(tmp_path, content)
    if len(content) > 12:  # a truncated file whose header claims that it is whole
        survives(tmp_path, content[:8] + struct.pack("<I", len(content)) + content[12:])


@pytest.mark.skipif(not FOX.exists(), reason="needs the shared assets")
@settings(fuzz, max_examples=40)
@given(flips=flips)
def test_flipped_bytes_in_the_fox(tmp_path, flips):
    content = FOX.read_bytes()
    survives(
        tmp_path, flip(content, [(place**3, bits) for place, bits in flips])
    )  # denser in the JSON, which comes first


def places(value, path=()):
    """Paths of all entries below a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from places(child, (*path, key))


DOCUMENT = json.loads(everything().document())
DATA = bytes(everything().data)
PLACES = [
    *places(DOCUMENT),
    *(
        ("buffers", 0, "uri"),
        ("bufferViews", 0, "byteStride"),
        ("bufferViews", 3, "byteOffset"),
        ("skins", 0, "skeleton"),
    ),
    *(
        ("accessors", 0, "sparse"),
        ("accessors", 0, "byteOffset"),
        ("accessors", 3, "normalized"),
        ("nodes", 4, "children"),
    ),
    *(
        ("nodes", 0, "camera"),
        ("nodes", 0, "matrix"),
        ("nodes", 1, "scale"),
        ("nodes", 3, "skin"),
        ("nodes", 4, "mesh"),
    ),
    *(
        ("meshes", 0, "weights"),
        ("extensionsRequired",),
        ("extensionsUsed",),
        ("animations", 0, "channels", 0, "extras"),
    ),
]
nasty = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            False,
            "",
            "\ud800",
            "a\nb",
            "VEC2",
            "MAT4",
            "data:;base64,AAAA",
            "../a",
            "http://[",
            "a\0",
            [],
            {},
            [[]],
            [{}],
            [None],
        ]
    ),
    st.integers(-2, 40),
    st.sampled_from([5120, 5121, 5122, 5123, 5125, 5126, 2**31, 2**53, 2**64, -(2**70), 10**400]),
    st.sampled_from([0.5, -0.0, 1e-300, 1e300, -1e38, 3.0]),
    st.lists(st.sampled_from([0, 1, -1, 1e38, 1e300, "x"]), max_size=16),
)


@settings(fuzz, max_examples=400)
@given(edits=st.lists(st.tuples(st.sampled_from(PLACES), st.booleans(), nasty), min_size=1, max_size=3))
def test_edited_json(tmp_path, edits):
    document = copy.deepcopy(DOCUMENT)
    for path, remove, value in edits:
        owner = document
        try:
            for key in path[:-1]:
                owner = owner[key]
            owner[path[-1]] = value
            if remove:
                del owner[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier edit has taken the place away
    survives(tmp_path, pack(json.dumps(document).encode(), DATA))
