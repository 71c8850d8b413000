"""Messages to whoever renders into a folder, as files beside its output: no port, no server, and they outlast nobody."""

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from renderer.errors import OutputError
from renderer.files import atomic, claimed

BOX = ".control"
INTERVAL = 0.3  # seconds between two looks for messages
LOOK = 0.05  # and for an answer
PATIENCE = 10.0  # seconds that a message waits for its answer
FETCHING = 1.0  # and that an answer waits to be fetched when its writer leaves


class Letterbox:
    """Has obey(message) answer every message to the folder, from `open` to `close`, on a thread of its own."""

    def __init__(self, folder: Path, obey: Callable[[dict[str, Any]], str]):
        self.box, self.obey = folder / BOX, obey
        self.ended, self.claim = threading.Event(), contextlib.ExitStack()
        self.reader = threading.Thread(target=self.read, name="letterbox", daemon=True)

    def open(self) -> None:
        """From now on the folder is ours. Raises OutputError where somebody else renders into it."""
        self.box.mkdir(mode=0o700, exist_ok=True)
        try:
            self.claim.enter_context(claimed(self.box))
        except OutputError:
            raise OutputError(
                f"output={self.box.parent} is being rendered already: wait for it, or choose another folder"
            ) from None
        for old in self.box.iterdir():  # messages to somebody who died
            old.unlink(missing_ok=True)
        self.reader.start()

    def close(self) -> None:
        if self.reader.ident:
            self.ended.set()
            self.reader.join()
            end = time.monotonic() + FETCHING
            while any(self.box.glob("*.answer")) and time.monotonic() < end:
                time.sleep(LOOK)
            shutil.rmtree(self.box, ignore_errors=True)
            self.claim.close()

    def read(self) -> None:
        while not self.ended.wait(INTERVAL):
            for path in sorted(self.box.glob("*.json")):
                try:
                    answer = self.obey(json.loads(path.read_text("utf-8")))
                except (OSError, ValueError, LookupError, TypeError) as error:
                    answer = f"not understood: {type(error).__name__}: {error}"
                with contextlib.suppress(OSError), atomic(path.with_suffix(".answer")) as part:
                    part.write_text(answer, "utf-8")
                path.unlink(missing_ok=True)


def is_alive(folder: Path) -> bool:
    """Does somebody render into the folder, on this machine or another that shares its files?"""
    try:
        descriptor = os.open(folder / BOX, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def post(folder: Path, message: dict[str, Any]) -> str | None:
    """The answer of whoever renders into the folder, or None if nobody answers."""
    if not is_alive(folder):
        return None
    path = folder / BOX / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.json"
    answer = path.with_suffix(".answer")
    with atomic(path) as part:
        part.write_text(json.dumps(message), "utf-8")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        alive = is_alive(folder)  # asked first: who answers and leaves has answered
        with contextlib.suppress(FileNotFoundError):
            text = answer.read_text("utf-8")
            answer.unlink()
            return text
        if not alive:
            break
        time.sleep(LOOK)
    path.unlink(missing_ok=True)
    return None
