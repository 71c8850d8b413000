"""A sweep of two hundred renders, watched from its first second to its last, in which a worker is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest
from pyarrow import ArrowInvalid
from soak import SUBMIT, hashes, victims
from test_page import browser, names  # noqa: F401

from farm.control import submission

pytestmark = pytest.mark.xdist_group("ray")

RENDERS = 200


def command(model, output, seeds, farm):
    settings = "scene=flag prompt=tin method=paper method.keyframes=1 frames=2 steps=2 chunk=1 resolution=64"
    settings += f" model={model} model.device=cpu farm={farm} farm.threads=1 output={output} seed={seeds}"
    return [sys.executable, str(SUBMIT), "-m", *settings.split()]


@pytest.mark.long
def test_two_hundred_renders_and_a_worker_killed_on_the_way(checkpoint, tmp_path, browser):  # noqa: F811
    few, many = tmp_path / "few", tmp_path / "many"
    subprocess.run(command(checkpoint, few, "0,99,199", "inline"), check=True, capture_output=True, timeout=300)

    tab, errors, seen, killed = browser.new_page(), [], [], 0
    tab.on("pageerror", lambda error: errors.append(str(error)))
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [*command(checkpoint, many, f"range({RENDERS})", "local"), "farm.workers=2"], stdout=said, stderr=said
        )
        try:
            while process.poll() is None:
                time.sleep(1)
                try:
                    states = Counter(pq.read_table(many / "renders.parquet")["state"].to_pylist())
                except (OSError, ArrowInvalid):
                    assert not seen, "once there, the table is always there, whole"
                    continue
                seen.append(states)
                assert states.total() == RENDERS
                assert states["failed"] == 0
                if len(seen) == 1:
                    tab.goto((many / "index.html").as_uri())
                if states["complete"] >= 40 and not killed:
                    os.kill(victims(process.pid, "RenderWorker")[0], signal.SIGKILL)
                    killed = states["complete"]
        finally:
            process.kill()
        assert process.wait() == 0, (tmp_path / "said").read_text()
    assert 40 <= killed < RENDERS
    complete = [states["complete"] for states in seen]
    assert complete == sorted(complete)
    assert len(set(complete)) > 20, "it was watched"
    entries = submission(many)
    assert Counter(entry.state for entry in entries) == {"complete": RENDERS}
    found, expected = hashes(many), hashes(few)
    assert len(found) == RENDERS
    assert len({tuple(frames) for frames in found.values()}) == RENDERS
    assert set(map(tuple, expected.values())) <= set(map(tuple, found.values()))
    assert len(names(tab)) == RENDERS, "the page has followed by itself"
    assert errors == []
    if os.environ.get("SCREENSHOT"):
        tab.screenshot(path=os.environ["SCREENSHOT"])
    tab.close()
