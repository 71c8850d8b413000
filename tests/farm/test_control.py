"""Control of a driver that lives and of one that has died, as a person does it: from another shell."""

import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from farm import control, letterbox, submit
from farm.config import ConfigError, NotifyConfig, OutputConfig, SubmitConfig, validate
from farm.letterbox import BOX, Letterbox, post
from farm.notify import Notifier
from renderer.errors import OutputError

FARM = Path(__file__).parents[2] / "farm"
PROMPTS = ("a tin toy", "a paper toy", "a clay toy")
NAMES = [prompt.replace(" ", "-") for prompt in PROMPTS]


def command(checkpoint, folder, steps=4, **settings):
    """A sweep of three renders, one after the other, in one process."""
    typed = {
        "frames": 4,
        "chunk": 1,
        "resolution": 64,
        "farm.threads": 1,
        "method": "paper",
        "method.keyframes": 2,
    } | settings
    prompts = ",".join(f'"{prompt}"' for prompt in PROMPTS)
    arguments = ["-m", "scene=flag", f"model={checkpoint}", "model.device=cpu", "farm=inline", f"prompt={prompts}"]
    return [*arguments, f"steps={steps}", *(f"{key}={value}" for key, value in typed.items()), f"output={folder}"]


@contextlib.contextmanager
def driver(arguments):
    """The submission, on a thread of this process: a list that holds its exit code once it has ended."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(submit.main(arguments)))
    thread.start()
    try:
        yield codes
    finally:
        thread.join()


@pytest.fixture
def told(capsys, monkeypatch):
    """told(argument, ...) → (exit code, stdout, stderr) of farm/control.py."""
    monkeypatch.chdir(Path.cwd())  # a retry goes where the command was given

    def told(*arguments):
        capsys.readouterr()
        code = control.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return told


def status(folder, name):
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / name / "status.json").read_text())
    return {"phase": "", "step": 0}


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def states(folder):
    return {row["name"]: row["state"] for row in pq.read_table(folder / "renders.parquet").to_pylist()}


def hashes(folder):
    return [frame["sha256"] for frame in json.loads((folder / "manifest.json").read_text())["frames"]]


@pytest.fixture(scope="module")
def undisturbed(checkpoint, tmp_path_factory):
    """The sweep that nobody touches: its folder."""
    folder = tmp_path_factory.mktemp("undisturbed") / "sweep"
    assert submit.main(command(checkpoint, folder)) == 0
    return folder


def test_logs_have_a_line_for_each_chunk(undisturbed, told):
    code, out, _ = told("logs", undisturbed, NAMES[0])
    assert code == 0
    stamp = r"^\d{4}-\d\d-\d\dT[\d:]+\.\d{3}Z  "
    for method, times in {"predict": 4 * 4, "keyframe_features": 4, "decode": 4}.items():
        assert len(re.findall(rf"{stamp}{method} .*\d s$", out, re.MULTILINE)) == times, method
    assert "denoising (4)" in out
    assert out.splitlines()[-1].endswith("done")


def test_a_live_driver_pauses_goes_on_and_gives_up_what_nobody_wants(checkpoint, undisturbed, tmp_path, told):
    """Then a retry makes exactly what was given up, with the pixels of an undisturbed sweep."""
    folder = tmp_path / "sweep"
    with driver(command(checkpoint, folder)) as codes:
        wait_for(lambda: status(folder, NAMES[0])["phase"])
        assert told("pause", folder)[:2] == (0, f"pause: {', '.join(NAMES)}\n")
        assert told("priority", folder, "-7")[:2] == (0, "priority: -7\n")
        assert json.loads((folder / "submission.json").read_text())["priority"] == -7
        time.sleep(1)
        before = (folder / NAMES[0] / "render.log").read_text()
        shell = [sys.executable, FARM / "control.py", "list", tmp_path]  # another one
        assert "paused" in subprocess.run(shell, capture_output=True, text=True, timeout=60).stdout
        assert "a-tin-toy    rendering" in told("show", folder)[1]
        assert told("cancel", folder, NAMES[0], NAMES[2])[:2] == (0, f"cancel: {NAMES[0]}, {NAMES[2]}\n")
        wait_for(lambda: states(folder)[NAMES[0]] == "cancelled")
        assert (folder / NAMES[0] / "render.log").read_text().startswith(before)
        assert "waiting" in told("show", folder, NAMES[1])[1]
        assert told("resume", folder)[0] == 0
    assert codes == [1]
    assert states(folder) == dict(zip(NAMES, ("cancelled", "complete", "cancelled"), strict=True))
    assert "2 cancelled" in told("list", folder)[1]
    finished = (folder / NAMES[1] / "manifest.json").stat().st_mtime_ns

    code, out, err = told("retry", folder)
    assert code == 0, err
    assert NAMES[1] not in out
    assert set(states(folder).values()) == {"complete"}
    assert (folder / NAMES[1] / "manifest.json").stat().st_mtime_ns == finished
    assert [hashes(folder / name) for name in NAMES] == [hashes(undisturbed / name) for name in NAMES]
    assert told("retry", folder)[:2] == (0, "retry: nothing has failed and nothing is missing\n")
    assert not (folder / BOX).exists()


def test_a_dead_driver(checkpoint, undisturbed, tmp_path, told):
    folder = tmp_path / "sweep"
    process = subprocess.Popen(
        [sys.executable, FARM / "submit.py", *command(checkpoint, folder)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: status(folder, NAMES[1])["step"] > 0)
    finally:
        process.kill()
        process.wait()
    assert told("list", tmp_path)[1] == f"{folder}: ended, 1 complete, 2 stopped\n"
    phase = status(folder, NAMES[1])["phase"]  # four tiny steps may be over before the kill arrives
    assert phase in ("denoising", "decoding")
    assert f"{NAMES[1]:<11}  stopped    {phase}, step" in told("show", folder)[1]
    assert "predict 0" in told("logs", folder, NAMES[1])[1]
    code, out, err = told("cancel", folder)
    assert (code, out) == (1, "")
    assert "nobody renders" in err
    (folder / NAMES[0] / "video.mp4").unlink()  # missing is missing, whatever the table says
    assert told("retry", folder, NAMES[0], NAMES[1])[0] == 0
    assert states(folder) == dict(zip(NAMES, ("complete", "complete", "waiting"), strict=True))
    assert [hashes(folder / name) for name in NAMES[:2]] == [hashes(undisturbed / name) for name in NAMES[:2]]
    assert (folder / NAMES[0] / "video.mp4").exists()


def test_a_render_on_its_own(checkpoint, tmp_path, told):
    arguments = [
        argument for argument in command(checkpoint, tmp_path / "one", steps=120)[1:] if "prompt" not in argument
    ]
    with driver([*arguments, "prompt=a tin toy"]) as codes:
        wait_for(lambda: status(tmp_path, "one")["step"] > 0)
        assert told("list", tmp_path)[1] == f"{tmp_path / 'one'}: running, rendering\n"
        assert told("cancel", tmp_path / "one")[0] == 0
    assert codes == [1]
    code, out, _ = told("retry", tmp_path / "one")
    assert (code, out) == (0, f"video: {tmp_path / 'one' / 'video.mp4'}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cancle", "x"], "invalid choice"),
        (["show"], "expected a FOLDER"),
        (["show", "nowhere"], "neither renders.parquet nor manifest.json"),
        (["list", "nowhere"], "no such folder"),
        (["logs", "{sweep}", "a-tin-toi"], "did you mean a-tin-toy?"),
        (["priority", "{sweep}", "high"], "expected a whole number"),
        (["priority", "{sweep}"], "expected a whole number"),
    ],
)
def test_mistakes(undisturbed, capsys, arguments, said):
    assert control.main([argument.replace("{sweep}", str(undisturbed)) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


def test_a_mailbox(tmp_path, monkeypatch):
    monkeypatch.setattr(letterbox, "INTERVAL", 0.01)
    box = Letterbox(tmp_path, lambda message: f"{message['do']} it is")
    assert post(tmp_path, {"do": "pause"}) is None
    box.open()
    assert post(tmp_path, {"do": "pause"}) == "pause it is"
    assert post(tmp_path, {"dont": 1}) == "not understood: KeyError: 'do'"
    (tmp_path / BOX / "1.json").write_text("{")  # somebody's half a message
    assert post(tmp_path, {"do": "go"}) == "go it is"
    with pytest.raises(OutputError, match="is being rendered already"):
        Letterbox(tmp_path, str).open()
    assert post(tmp_path, {"do": "go"}) == "go it is"  # whoever was there stays
    box.close()
    assert list(tmp_path.iterdir()) == []
    assert post(tmp_path, {"do": "go"}) is None


def test_the_last_answer_is_heard(tmp_path, monkeypatch):
    """Whoever is told to cancel says so before he leaves."""
    monkeypatch.setattr(letterbox, "INTERVAL", 0.01)
    left = []

    def obey(message):
        left.append(threading.Thread(target=box.close))
        left[-1].start()
        return "gone"

    box = Letterbox(tmp_path, obey)
    box.open()
    monkeypatch.setattr(letterbox, "LOOK", 0.2)
    assert post(tmp_path, {"do": "cancel"}) == "gone"
    left[0].join()
    assert list(tmp_path.iterdir()) == []


def test_notifications(tmp_path):
    heard = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(
                (self.headers["Content-Type"], json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            )
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    notes, event = [], {"event": "failed", "name": "flüg", "error": "no luck"}
    url, written = f"http://127.0.0.1:{server.server_port}/hook", tmp_path / "event"
    notifier = Notifier(NotifyConfig(url=url, command=f"cat > '{written}'"), notes.append)
    notifier.send(event)
    notifier.close()
    assert (heard, json.loads(written.read_text())) == ([("application/json", event)], event)
    assert notes == []
    server.shutdown()
    server.server_close()
    notifier = Notifier(NotifyConfig(url=url, command="exit 3"), notes.append)
    notifier.send(event)
    notifier.close()
    assert sorted(re.search(r"not notified: (\w+)", note)[1] for note in notes) == ["CalledProcessError", "URLError"]


def test_a_sweep_notifies(tmp_path):
    """Of a render that fails, and of the end of all."""
    (tmp_path / "broken.glb").write_bytes(b"glTF, but not really")
    arguments = ["-m", f"scene={tmp_path / 'broken.glb'}", "seed=1,2", "farm=inline", f"output={tmp_path / 'sweep'}"]
    assert submit.main([*arguments, f"notify.command=cat >> {tmp_path}/events"]) == 2
    events = [json.loads(text) for text in (tmp_path / "events").read_text().replace("}{", "}\n{").splitlines()]
    assert sorted(event["event"] for event in events) == ["ended", "failed", "failed"]
    assert next(event for event in events if event["event"] == "ended")["renders"] == {"failed": 2}


def test_an_address_is_an_address():
    config = SubmitConfig(notify=NotifyConfig(url="ftp://x"), output=OutputConfig())
    with pytest.raises(ConfigError, match=r"notify\.url=ftp://x: expected an address"):
        validate(config)
