"""Scenes at URIs, from a real object server and a real web server, and what outputs at URIs are called here."""

import http.server
import json
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import remote, submit
from renderer import atlas
from renderer.config import SceneConfig
from renderer.errors import ConfigError, SceneError
from renderer.load import content_hash, load_scene

QUAD = b"v 0 0 %d\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n"
BUFFER = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()


def gltf(uri):
    """A triangle whose points stand in another file."""
    return json.dumps(
        {
            "asset": {"version": "2.0"},
            "buffers": [{"uri": uri, "byteLength": len(BUFFER)}],
            "bufferViews": [{"buffer": 0, "byteLength": len(BUFFER)}],
            "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
            "nodes": [{"mesh": 0}],
            "scenes": [{"nodes": [0]}],
            "scene": 0,
        }
    ).encode()


def scene(uri, limit=1.0):
    """The scene at a URI as a submission of its own finds it."""
    remote.fetched.cache_clear()
    return Path(remote.scene(uri, limit))


def test_a_scene_is_fetched_once_for_each_version_of_it(store):
    store.files.pipe("bucket/a b/Quad.OBJ", QUAD % 0)
    first = scene("s3://bucket/a b/Quad.OBJ")
    assert (first.name, first.read_bytes()) == ("Quad.OBJ", QUAD % 0)
    assert scene("s3://bucket/a b/Quad.OBJ") == first
    assert store.asked.count("GET /bucket/a%20b/Quad.OBJ") == 1
    store.files.pipe("bucket/a b/Quad.OBJ", QUAD % 1)
    second = scene("s3://bucket/a b/Quad.OBJ")
    assert (first.read_bytes(), second.read_bytes()) == (QUAD % 0, QUAD % 1)  # who renders the first one still has it
    assert store.asked.count("GET /bucket/a%20b/Quad.OBJ") == 2
    assert remote.scene("dancer", 1.0) == "dancer"


def test_buffers_beside_a_gltf_come_along_and_nothing_else(store):
    files = {"quad.gltf": gltf("parts/my%20points.bin"), "parts/my points.bin": BUFFER, "parts/more.bin": BUFFER}
    store.files.pipe({f"bucket/{name}": content for name, content in files.items()})
    path = scene("s3://bucket/quad.gltf")
    assert {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()} == {
        "quad.gltf",
        "parts/my points.bin",
    }
    assert len(load_scene(SceneConfig(name=str(path)), 12.0).objects) == 1
    before = len(store.asked)
    assert scene("s3://bucket/quad.gltf") == path
    assert not [line for line in store.asked[before:] if line.startswith("GET")]


def test_a_folder_of_frames(store):
    store.files.pipe({f"bucket/walk/f{i}.obj": QUAD % i for i in (1, 2, 10)} | {"bucket/walk/notes.txt": b"not this"})
    path = scene("s3://bucket/walk/")
    assert sorted(file.name for file in path.iterdir()) == ["f1.obj", "f10.obj", "f2.obj"]
    assert load_scene(SceneConfig(name=str(path)), 3.0).duration == 1.0
    assert content_hash(SceneConfig(name=str(path)))


@pytest.mark.parametrize(
    "uri", ["../secret.bin", "/etc/passwd", "%2e%2e/secret.bin", "s3://bucket/secret.bin", "a/../.."]
)
def test_a_gltf_names_nothing_outside_its_folder(store, machine, uri):
    store.files.pipe({"bucket/scenes/quad.gltf": gltf(uri), "bucket/secret.bin": BUFFER})
    with pytest.raises(SceneError, match="leaves the file's folder"):
        scene("s3://bucket/scenes/quad.gltf")
    assert not [line for line in store.asked if "secret" in line and line.startswith("GET")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scene=s3://bucket/nowhere.glb"], "it is not there"),
        (["scene=s3://nobucket/fox.glb"], "bucket does not exist"),
        (["scene=s3://bucket/notes.txt"], "expected .glb, .gltf, .obj"),
        (["scene=s3://bucket/damaged.glb"], "damaged.glb: truncated"),
        (["scene=s3://bucket/large.obj", "remote.limit=0.01"], "remote.limit=0.01 MiB allows (20000 bytes)"),
        (["scene=s3x://bucket/fox.glb"], "did you mean s3"),
        (["scene=memory://nowhere.glb"], "it is not there"),
        (["scene=file:///nowhere.glb"], "it is not there"),
        (["remote.limit=0"], "remote.limit=0"),
        (["output=s3://nobucket/x"], "cannot be written"),
        (["output=s3://"], "expected a folder such as"),
        (["output=s3://bucket/../x"], "expected a folder such as"),
        (["resume=s3://bucket/nowhere"], "there is no manifest.json"),
    ],
)
def test_a_mistake_is_one_line(store, machine, tmp_path, monkeypatch, capsys, arguments, words):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    store.files.pipe({"bucket/notes.txt": b"?", "bucket/damaged.glb": b"glTF", "bucket/large.obj": bytes(20_000)})
    assert submit.main([*arguments, "farm=inline"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert list((tmp_path / "work").iterdir()) == []


def test_who_may_not_is_told_where_credentials_come_from(store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    clients = fsspec.get_filesystem_class("s3")
    clients.clear_instance_cache()
    with pytest.raises(SceneError, match="AWS_ACCESS_KEY_ID"):
        scene("s3://bucket/fox.glb")
    clients.clear_instance_cache()


def test_a_missing_package_is_told_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[s3\]'"):
        remote.connect("s3://bucket/fox.glb")


@contextmanager
def web_server(sizes):
    """Sends zeros without end, and without a word on how many. sizes: grows by the bytes that went out."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            try:
                while sum(sizes) < 2**28:
                    sizes.append(self.wfile.write(bytes(2**16)))
            except OSError:
                pass

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_what_does_not_end_is_not_waited_for(machine):
    sizes = []
    with web_server(sizes) as server, pytest.raises(SceneError, match=r"larger than remote\.limit=1 MiB"):
        scene(f"{server}/endless.glb")
    assert sum(sizes) < 2**26
    assert not [path for path in (machine("here") / "scenes").rglob("*") if path.is_file()]


@pytest.fixture
def shared(store, monkeypatch):
    """A cache at a URI that all machines share."""
    monkeypatch.setenv("FARM_CACHE", "s3://bucket/cache/")
    remote.check_cache.cache_clear()
    yield store
    remote.check_cache.cache_clear()


def test_charts_are_made_once_for_all_machines(shared, tmp_path, monkeypatch):
    import xatlas

    made, parametrize = [], xatlas.parametrize
    monkeypatch.setattr(xatlas, "parametrize", lambda *mesh: made.append(1) or parametrize(*mesh))
    points, faces = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]]), np.array([[0, 1, 2], [0, 2, 3]])

    def unwrapped(machine):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return atlas.unwrap(points, faces)

    first = unwrapped("one")
    (file,) = shared.files.ls("bucket/cache/atlas", detail=False)
    asked = len(shared.asked)
    for machine in ("one", "two", "two"):
        assert np.array_equal(unwrapped(machine), first)
    assert len(made) == 1
    assert len(shared.asked) == asked + 1, "who has it does not ask"
    whole = shared.files.cat_file(file)
    for number, damage in enumerate((b"", whole[:-4], whole + b"more", b"\xff" * len(whole))):
        shared.files.pipe_file(file, damage)
        assert np.array_equal(unwrapped(f"damaged {number}"), first)
        assert len(made) == 2 + number
        assert shared.files.cat_file(file) == whole
    shared.stop()
    try:
        assert np.array_equal(unwrapped("alone"), first)
    finally:
        shared.start()


WANTED = ["scene.name=flag", "prompt=a tin toy"]


def test_a_cache_at_a_uri_is_tried_before_anything_starts(shared, monkeypatch, capsys):
    submit.prepare(WANTED)
    assert capsys.readouterr().err == ""
    assert shared.files.exists("bucket/cache/.writable")
    monkeypatch.setenv("FARM_CACHE", "s3://no-such-bucket/cache")
    remote.check_cache.cache_clear()
    for _ in range(2):
        submit.prepare(WANTED)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: FARM_CACHE=s3://no-such-bucket/cache cannot be written")
    assert "FARM_CACHE" not in os.environ


@pytest.mark.parametrize(("place", "said"), [("s4://bucket/cache", "s3"), ("/a/folder", "XDG_CACHE_HOME")])
def test_a_cache_that_nobody_speaks_for_is_a_mistake(shared, monkeypatch, place, said):
    monkeypatch.setenv("FARM_CACHE", place)
    with pytest.raises(ConfigError, match=said):
        submit.prepare(WANTED)


@given(st.lists(st.text("ab-.:%é ", min_size=1).filter(lambda part: part not in (".", "..")), min_size=1, max_size=4))
def test_names_of_outputs_lead_there_and_back(parts):
    uri = "s3://" + "/".join(parts)
    if "::" in uri:
        with pytest.raises(ConfigError):
            remote.local(uri)
        return
    assert remote.shown(remote.local(uri)) == uri
    assert remote.shown(f"see {remote.local(uri)}: no") == f"see {uri}: no"
    assert remote.local(uri) / "seed-1" == remote.local(f"{uri}/seed-1")


def test_outputs_on_this_machine_are_called_as_they_are(tmp_path):
    for output in ("renders/x", str(tmp_path)):
        assert remote.shown(remote.local(output)) == output
    assert remote.local(f"file://{tmp_path}") == tmp_path
