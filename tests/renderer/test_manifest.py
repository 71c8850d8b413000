import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from renderer.errors import OutputError
from renderer.manifest import (
    Frame,
    check_output,
    frame_hash,
    new_manifest,
    read_manifest,
    render_hash,
    versions,
    write_manifest,
)
from renderer.video import write_png

CONFIG = {
    "prompt": 'a fox, it\'s = $5 ("ice") – 雪\n true',
    "seed": 3,
    "scene": {"name": "fox.glb", "clip": "Walk"},
    "frames": 3,
}


@pytest.fixture
def manifest():
    return new_manifest(CONFIG, {"chunk": 8, "threads": 2}, "CPU", ["two triangles were degenerate"])


@pytest.fixture
def partial(tmp_path, manifest):
    """A folder with two finished frames of `manifest`, and the stored manifest."""
    frames = []
    for index, image in enumerate(np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)):
        file = f"frames/{index:05d}.png"
        write_png(tmp_path / file, image)
        frames.append(Frame(file=file, sha256=frame_hash(image)))
    stored = replace(manifest, frames=frames)
    write_manifest(tmp_path, stored)
    return tmp_path, stored


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_manifest_survives_the_disk(tmp_path, manifest):
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "elsewhere") is None
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    "prompt", ['"', "\\u0041", "a\u2028b", "é 雪 🎨", "\udcff not UTF-8", "\x00\x1f", "null", " x "]
)
def test_the_prompt_is_kept_byte_for_byte(tmp_path, prompt):
    write_manifest(tmp_path, new_manifest({**CONFIG, "prompt": prompt}, {}, "CPU", []))
    data = (tmp_path / "manifest.json").read_bytes()
    assert json.loads(data.decode("utf-8"))["prompt"] == prompt


def test_render_hash_depends_on_values_not_on_order():
    base = {"prompt": "x", "steps": 4, "scene": {"a": 1, "b": [1.5, None]}}
    assert render_hash(base) == render_hash({"scene": {"b": [1.5, None], "a": 1}, "steps": 4, "prompt": "x"})
    for other in ({"steps": 5}, {"prompt": "X"}, {"scene": {"a": 1, "b": [None, 1.5]}}, {"extra": None}):
        assert render_hash(base | other) != render_hash(base)


def test_everything_that_pixels_depend_on_changes_the_hash(monkeypatch, manifest):
    def hash_of(config=CONFIG, constants=manifest.constants, device="CPU"):
        return new_manifest(config, constants, device, []).render_hash

    assert hash_of() == manifest.render_hash  # notes and time do not count
    assert hash_of(config={**CONFIG, "seed": 4}) != manifest.render_hash
    assert hash_of(constants={"chunk": 4, "threads": 2}) != manifest.render_hash
    assert hash_of(device="H200") != manifest.render_hash
    monkeypatch.setattr("renderer.manifest.versions", lambda: {**versions(), "ray": "0"})
    assert hash_of() == manifest.render_hash
    monkeypatch.setattr("renderer.manifest.versions", lambda: {**versions(), "torch": "0"})
    assert hash_of() != manifest.render_hash


def test_frame_hash_is_of_the_pixels_not_of_the_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png", compress_level=0)
    assert frame_hash(np.asarray(Image.open(tmp_path / "a.png"))) == hashlib.sha256(image.tobytes()).hexdigest()
    assert frame_hash(image[:, ::-1]) == frame_hash(image[:, ::-1].copy()) != frame_hash(image)


def test_versions_are_those_installed():
    assert versions()["numpy"] == np.__version__
    assert versions()["python"] == sys.version.split()[0]


def test_a_new_folder_is_made_and_left_empty(tmp_path, manifest):
    folder = tmp_path / "renders" / "fox"
    assert check_output(folder, manifest) == manifest
    assert list(folder.iterdir()) == []


def test_files_that_are_not_ours_to_write_do_not_matter(tmp_path, manifest):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "frames").mkdir()
    assert check_output(tmp_path, manifest) == manifest


def test_finished_frames_are_found_again(partial, manifest):
    folder, stored = partial
    assert check_output(folder, manifest) == stored
    write_manifest(folder, replace(stored, state="complete"))
    assert check_output(folder, manifest).state == "complete"


@pytest.mark.parametrize("harm", ["missing", "truncated", "other pixels", "flipped byte", "empty"])
def test_frames_are_recognised_by_their_pixels(partial, manifest, harm):
    folder, stored = partial
    write_manifest(folder, replace(stored, state="complete"))
    path = folder / "frames/00001.png"
    data = path.read_bytes()
    match harm:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "other pixels":
            write_png(path, np.zeros((12, 16, 3), np.uint8))
        case "flipped byte":
            path.write_bytes(data[:60] + bytes([data[60] ^ 255]) + data[61:])
        case "empty":
            path.write_bytes(b"")
    found = check_output(folder, manifest)
    assert found.frames == stored.frames[:1]
    assert found.state == "rendering"


def test_any_flipped_byte_of_a_frame_is_survived(partial, manifest):
    folder, _ = partial
    path = folder / "frames/00001.png"
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])
        assert len(check_output(folder, manifest).frames) in (1, 2)


def test_another_render_is_an_error_that_says_what_differs(partial):
    folder, _ = partial
    other = new_manifest(
        {**CONFIG, "seed": 4, "scene": {"name": "fox.glb", "clip": "Run"}}, {"chunk": 8, "threads": 2}, "CPU", []
    )
    with pytest.raises(OutputError, match=r"another render.*differs in seed, scene\.clip\)") as error:
        check_output(folder, other)
    assert str(folder) in one_line(error)


@pytest.mark.parametrize("name", ["frames/00000.png", "video.mp4"])
def test_pictures_without_a_manifest_are_an_error(tmp_path, manifest, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match="choose another folder") as error:
        check_output(tmp_path, manifest)
    assert Path(name).parts[0] in one_line(error)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"frames": null}', '{"frames": [{}]}', "\xff"])
def test_a_broken_manifest_is_an_error(tmp_path, manifest, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(OutputError, match=r"manifest\.json") as error:
        check_output(tmp_path, manifest)
    one_line(error)


def test_an_unwritable_folder_is_an_error(tmp_path, manifest):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot write") as error:
            check_output(folder, manifest)
        assert str(folder) in one_line(error)


def test_no_heavy_import():
    code = "import sys, renderer.manifest; print({'torch', 'ray', 'diffusers', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
