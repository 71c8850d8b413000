"""status.json is always whole, current, and says how it ended; without a terminal each phase is one plain line."""

import json
import os
import pty
import subprocess
import sys
import textwrap
import time

import pytest

from farm.progress import INTERVAL, Progress


def status(folder):
    return json.loads((folder / "status.json").read_text("utf-8"))


def test_follows_a_render(tmp_path, capsys):
    with Progress(tmp_path, frames=10) as progress:
        progress.phase("set-up", 1)
        assert status(tmp_path) == {
            "state": "running",
            "phase": "set-up",
            "step": 0,
            "steps": 0,
            "frames_done": 0,
            "frames": 10,
            "workers": [],
            "eta_s": None,
            "error": None,
        }
        progress.workers([{"pid": 7, "node": "10.0.0.1"}])
        progress.phase("denoising", 5, done=2)
        assert (status(tmp_path)["step"], status(tmp_path)["steps"]) == (2, 5)
        for _ in range(3):
            progress.advance(1 / 3)
        time.sleep(3 * INTERVAL)
        now = status(tmp_path)
        assert (now["phase"], now["step"], now["workers"]) == ("denoising", 3, [{"pid": 7, "node": "10.0.0.1"}])
        assert now["eta_s"] > 0
        progress.advance(2)
        progress.phase("decoding", 10)
        progress.advance(10)
    assert {key: status(tmp_path)[key] for key in ("state", "step", "frames_done", "eta_s", "error")} == {
        "state": "done",
        "step": 5,
        "frames_done": 10,
        "eta_s": 0,
        "error": None,
    }
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" s  ")[1] for line in err.splitlines()] == [
        "set-up (1)",
        "denoising (5, 2 done before)",
        "decoding (10)",
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError("no such luck"), "no such luck"), (KeyError(), "KeyError"), (KeyboardInterrupt(), "interrupted")],
)
def test_says_how_it_failed(tmp_path, error, words):
    def render():
        with Progress(tmp_path, frames=1) as progress:
            progress.phase("set-up", 1)
            raise error

    with pytest.raises(type(error)):
        render()
    assert status(tmp_path)["state"] == "failed"
    assert status(tmp_path)["error"] == words


def test_leaves_a_folder_alone_before_the_first_phase(tmp_path):
    def render():
        with Progress(tmp_path, frames=1):
            raise ValueError("the folder holds another render")

    with pytest.raises(ValueError, match="another render"):
        render()
    assert list(tmp_path.iterdir()) == []


def test_writes_seldom_and_whole(tmp_path):
    """Read as fast as we can while it is written as fast as it goes: every text is whole, and few are new."""
    seen = set()
    with Progress(tmp_path, frames=1) as progress:
        progress.phase("denoising", 10**9)
        begin = time.monotonic()
        while time.monotonic() < begin + 5 * INTERVAL:
            progress.advance()
            seen.add((tmp_path / "status.json").read_text("utf-8"))
        elapsed = time.monotonic() - begin
    assert all(json.loads(text)["state"] == "running" for text in seen)
    assert 2 <= len(seen) <= elapsed / INTERVAL + 2


def test_a_terminal_shows_all_renders(tmp_path):
    script = textwrap.dedent("""
        import sys, pathlib, time
        from farm import records
        from farm.progress import Progress, Screen
        folder = pathlib.Path(sys.argv[1])
        rows = [records.row(name, "waiting", None) for name in ("a-tin-toy", "a-paper-toy", "a-clay-toy")]
        rows[0] |= {"state": "rendering", "folder": str(folder)}
        rows[1] |= {"state": "failed", "error": "the scene is [empty]"}
        with Screen(lambda: rows) as screen, Progress(folder, 4, "a-tin-toy", screen) as progress:
            progress.phase("denoising", 4)
            progress.workers([{"pid": 1, "node": "n", "memory": 3 << 30, "capacity": 80 << 30}, {"pid": 2, "node": "n"}])
            progress.advance(2)
            time.sleep(1)
            rows[0]["state"] = "complete"
        print("video: here")
    """)
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=child, env=environment, text=True, check=True)
    shown = os.read(parent, 100_000).decode()
    os.close(parent)
    os.close(child)
    assert done.stdout == "video: here\n"
    for words in ("a-tin-toy", "denoising", "step 2/4", "2 workers, 3.0 of 80 GiB", "0:00:0", "1 of 3"):
        assert words in shown, words
    assert "a-paper-toy: the scene is [empty]" in shown
    assert "\n\n\n" not in shown.replace("\r", "")
