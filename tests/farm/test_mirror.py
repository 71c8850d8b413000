"""Outputs at URIs: real renders, on machines that share nothing but a real object server, which dies when it suits least."""

import json
import re
import threading
import time
from dataclasses import asdict

import fsspec
import pyarrow.parquet as pq
import pytest
import trimesh

from farm import control, mirror, submit
from farm.mirror import ARRIVED, Mirror, goes
from farm.progress import Progress
from renderer.config import RenderConfig
from renderer.errors import OutputError
from renderer.manifest import new_manifest

CLIP = "s3://bucket/renders/clip"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(mirror, "INTERVAL", 0.2)
    monkeypatch.setattr(mirror, "PAUSES", (0.1, 0.1))


@pytest.fixture
def settings(checkpoint):
    return [
        *("farm=inline", "farm.threads=1", "scene=flag", "prompt=a tin toy", "method=paper", "method.keyframes=2"),
        *("frames=3", "chunk=1", "steps=3", f"model={checkpoint}", "model.device=cpu", "resolution=64"),
    ]


def there(store, folder="renders/clip"):
    """Files at the URI, by their path below it."""
    return {key.removeprefix(f"bucket/{folder}/") for key in store.files.find(f"bucket/{folder}")}


def manifest(store, folder="renders/clip"):
    return json.loads(store.files.cat_file(f"bucket/{folder}/manifest.json"))


def written(store):
    return [line.removeprefix("PUT /bucket/") for line in store.asked if line.startswith("PUT /bucket/")]


def test_all_arrives_the_manifest_last_and_another_machine_knows_it(settings, store, machine, monkeypatch, capsys):
    seen, put = [], Mirror.put

    def watched(self, files):
        for name, path, _ in files:
            if name == "manifest.json":
                seen.append((json.loads(path.read_text()), there(store)))
        put(self, files)

    monkeypatch.setattr(Mirror, "put", watched)
    store.files.pipe("bucket/box.ply", trimesh.creation.box().export(file_type="ply"))
    settings = [*settings, "scene=s3://bucket/box.ply"]
    assert submit.main([*settings, f"output={CLIP}"]) == 0
    out, err = capsys.readouterr()
    assert out == f"video: {CLIP}/video.mp4\n"
    here = machine("here") / "outputs" / "s3:" / "bucket" / "renders" / "clip"
    assert there(store) == {
        path.relative_to(here).as_posix()
        for path in here.rglob("*")
        if path.is_file() and path.name not in ("submission.json", ARRIVED)
    }
    assert written(store)[-1] == "renders/clip/manifest.json"
    books = manifest(store)
    assert (books["state"], len(books["frames"])) == ("complete", 3)
    assert books["config"]["scene"]["name"] == "s3://bucket/box.ply"
    assert store.files.info("bucket/renders/clip/index.html")["ContentType"] == "text/html"  # a browser shows it

    assert len(seen) > 1
    assert [at_that_time["state"] for at_that_time, _ in seen].index("complete") == len(seen) - 1
    for at_that_time, files in seen:
        assert {frame["file"] for frame in at_that_time["frames"]} <= files
    assert seen[-1][1] >= there(store) - {"manifest.json"}

    store.asked.clear()
    machine("another")
    for arguments in ([*settings, f"output={CLIP}"], [f"resume={CLIP}", "farm=inline"]):
        assert submit.main(arguments) == 0
        out, err = capsys.readouterr()
        assert out == f"video: {CLIP}/video.mp4\n"
        assert "denoising" not in err
    assert not [key for key in written(store) if key.endswith((".png", ".mp4"))]
    assert manifest(store) == books

    assert submit.main([*settings, "seed=9", f"output={CLIP}"]) == 2
    assert f"output={CLIP} holds another render" in capsys.readouterr().err
    assert manifest(store) == books


@pytest.mark.parametrize("phase", [pytest.param("denoising", marks=pytest.mark.long), "decoding"])
def test_a_machine_vanishes_and_another_goes_on(settings, store, machine, monkeypatch, tmp_path, phase):
    """What was sent while it ran is enough, in the middle of the steps and in the middle of the frames."""

    class Vanishing(Progress):
        def advance(self, units=1):
            super().advance(units)
            end = time.monotonic() + 20
            while self.status.phase == phase and self.done > 1 and time.monotonic() < end:
                files = there(store)
                if ".work/frames.safetensors" in files if phase == "denoising" else manifest(store)["frames"]:
                    raise KeyboardInterrupt
                time.sleep(0.05)

    def vanish(self, *_):
        self.ended.set()
        self.sender.join()

    with monkeypatch.context() as patch:
        patch.setattr(submit, "Progress", Vanishing)
        patch.setattr(Mirror, "__exit__", vanish)
        patch.setattr("renderer.manifest.INTERVAL", 0.0)
        assert submit.main([*settings, f"output={CLIP}"]) == 130
    assert manifest(store)["state"] == "rendering"

    machine("another")
    assert submit.main([*settings, f"output={CLIP}"]) == 0
    books = manifest(store)
    assert books["state"] == "complete"
    assert books["resumed"][0]["denoising"] >= 1
    assert books["resumed"][0].get("decoding", 0) >= (phase == "decoding")
    assert not [name for name in there(store) if name.startswith(".work")]
    if phase == "denoising":  # which the sampler's memory shows in
        assert submit.main([*settings, f"output={tmp_path / 'alone'}"]) == 0
        assert json.loads((tmp_path / "alone" / "manifest.json").read_text())["frames"] == books["frames"]


@pytest.mark.parametrize("back", [pytest.param(True, marks=pytest.mark.long), False])
def test_a_store_that_dies_midway(settings, store, machine, monkeypatch, capsys, back):
    """One that is back before the end costs nothing; one that is not ends the render with one line, and all of it stays here."""
    monkeypatch.setattr(mirror, "PAUSES", (3.0,) if back else (0.1,))

    class Cut(Progress):
        def phase(self, name, total, done=0):
            super().phase(name, total, done)
            if name == "decoding":
                store.stop()
                if back:
                    threading.Timer(2.0, store.start).start()

    with monkeypatch.context() as patch:
        patch.setattr(submit, "Progress", Cut)
        code = submit.main([*settings, f"output={CLIP}"])
    err = capsys.readouterr().err
    here = machine("here") / "outputs" / "s3:" / "bucket" / "renders" / "clip"
    assert json.loads((here / "manifest.json").read_text())["state"] == "complete"
    if back:
        assert code == 0
    else:
        assert code == 1
        assert [line for line in err.splitlines() if line.startswith("error")] == err.splitlines()[-1:]
        assert re.search(rf"output={CLIP} cannot be reached .*the same command .*{here}", err.splitlines()[-1])
        store.start()
        assert submit.main([*settings, f"output={CLIP}"]) == 0
        assert "denoising" not in capsys.readouterr().err
    assert manifest(store)["state"] == "complete"
    assert "video.mp4" in there(store)


def test_a_sweep_goes_there_as_one(settings, store, machine, capsys):
    sweep = ["-m", *settings, "frames=1", "steps=1", "seed=1,2", "output=s3://bucket/sweep"]
    assert submit.main(sweep) == 0
    assert "seed-1: s3://bucket/sweep/seed-1/video.mp4" in capsys.readouterr().out
    rows = pq.read_table(store.files.open("bucket/sweep/renders.parquet")).to_pylist()
    assert [(row["state"], row["folder"]) for row in rows] == [
        ("complete", f"s3://bucket/sweep/seed-{seed}") for seed in (1, 2)
    ]
    assert {"index.html", "index.js", "renders.parquet", "seed-2/video.mp4"} <= there(store, "sweep")
    assert control.main(["show", "s3://bucket/sweep"]) == 0
    assert capsys.readouterr().out.split() == ["seed-1", "complete", "seed-2", "complete"]
    keys = written(store)
    for seed in (1, 2):
        of_render = [key for key in keys if key.startswith(f"sweep/seed-{seed}/")]
        assert of_render[-1] == f"sweep/seed-{seed}/manifest.json"
    assert keys.index("sweep/seed-1/manifest.json") < len(keys) - 5  # it did not wait for the other

    machine("another")
    assert control.main(["show", "s3://bucket/sweep"]) == 2
    assert "s3://bucket/sweep: neither" in capsys.readouterr().err
    store.files.rm("bucket/sweep/seed-2", recursive=True)
    assert submit.main(sweep) == 0
    err = capsys.readouterr().err
    assert "seed-2: denoising" in err
    assert "seed-1: denoising" not in err
    assert manifest(store, "sweep/seed-2")["state"] == "complete"


# --- the rules, without renders ---


def books(seed, state):
    return json.dumps(asdict(new_manifest(asdict(RenderConfig(seed=seed)), {}, "CPU", [])) | {"state": state}).encode()


@pytest.fixture
def place(machine):
    """(place(where, seed, state), mirror, folder here) of memory://renders/x. The first puts a render there or here."""
    files, folder = fsspec.filesystem("memory"), machine("here") / "outputs" / "memory:" / "renders" / "x"

    def put(where, seed, state="rendering", arrived=False):
        if where == "there":
            files.pipe({"/renders/x/manifest.json": books(seed, state), "/renders/x/frames/00000.png": b"theirs"})
            return
        (folder / "frames").mkdir(parents=True)
        (folder / "manifest.json").write_bytes(books(seed, state))
        (folder / "frames" / "00000.png").write_bytes(b"ours")
        if arrived:
            (folder / ARRIVED).touch()

    yield put, Mirror(folder, "memory://renders/x", 1.0), folder
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def frame(folder):
    path = folder / "frames" / "00000.png"
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        (None, None, None),
        ((1, "rendering"), None, b"theirs"),  # begun elsewhere
        (None, (1, "rendering"), b"ours"),  # begun here, and nothing has arrived
        ((1, "rendering"), (1, "rendering"), b"ours"),
        ((1, "complete"), (1, "rendering", True), b"theirs"),  # finished elsewhere
        ((1, "rendering"), (1, "complete", True), b"ours"),  # finished here, and the rest has to arrive
        (None, (1, "complete", True), None),  # deleted there
        ((2, "complete"), (1, "complete", True), b"theirs"),  # replaced there
    ],
)
def test_who_goes_on_from_what(place, there, here, found):
    put, output, folder = place
    for where, render in (("there", there), ("here", here)):
        if render:
            put(where, *render)
    output.bring(folder)
    assert frame(folder) == found


def test_nothing_that_never_arrived_is_given_up(place):
    put, output, folder = place
    put("there", 2)
    put("here", 1)
    with pytest.raises(OutputError, match="memory://renders/x holds another render") as caught:
        output.bring(folder)
    assert submit.one_line(caught.value).endswith(f"here is {folder}")  # where both are told apart
    assert frame(folder) == b"ours"


def test_a_checkpoint_follows_the_render_that_goes_on(place):
    """It is as large as the one before."""
    put, output, folder = place
    put("there", 1)
    there = "/renders/x/.work/frames.safetensors"
    output.fs.pipe(there, b"step 1")
    output.bring(folder)
    checkpoint = folder / ".work" / "frames.safetensors"
    assert checkpoint.read_bytes() == b"step 1"
    checkpoint.write_bytes(b"step 2")
    output.send()
    assert output.fs.cat(there) == b"step 2"
    checkpoint.unlink()
    output.send()
    assert not output.fs.exists(there)


def test_a_page_of_others_is_not_written_over(place):
    _, output, _ = place
    output.fs.pipe("/renders/x/index.html", b"<h1>mine</h1>")
    with pytest.raises(OutputError, match="not ours"), output:
        pass
    assert output.fs.find("/renders/x") == ["/renders/x/index.html"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"frames/notes.txt": b"mine"}, "already holds frames/notes.txt, but no manifest.json"),
        ({"manifest.json": b"{}"}, "renders/x/manifest.json is no manifest"),
        ({"manifest.json": bytes(2**20 + 1)}, "remote.limit=1 MiB"),
        ({"manifest.json": books(1, "complete"), "frames/00000.png": bytes(2**20 + 1)}, "remote.limit=1 MiB"),
    ],
)
def test_what_is_not_ours_or_too_large_stays_there(place, files, words):
    _, output, folder = place
    output.fs.pipe({f"/renders/x/{name}": content for name, content in files.items()})
    with pytest.raises(OutputError, match=re.escape(words)):
        output.bring(folder)
    assert not [path for path in folder.parent.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("manifest.json", True),
        ("seed-1/frames/00000.png", True),
        (".work/frames.safetensors", True),
        ("seed-1/.work/preview.mp4", True),
        ("submission.json", False),  # holds the addresses of webhooks
        (".arrived", False),
        (".control/1.json", False),
        (".work/gbuffers/00000.arrow", False),
        (".work/.frames.safetensors.0123.part", False),
        ("frames/.00000.png.0123.part", False),
        ("../manifest.json", False),
        ("../.work/frames.safetensors", False),
        ("frames/../../x.png", False),
    ],
)
def test_what_goes_there_and_comes_from_there(name, expected):
    assert goes(name) == expected
