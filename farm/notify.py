"""Tells the person, or a program of theirs, that a render has failed or that all have ended."""

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from farm.config import NotifyConfig, one_line

PATIENCE = 15.0  # seconds that a notification may take


class Notifier:
    """Sends events, one after the other, in the background. note: told in one line what could not be sent."""

    def __init__(self, config: NotifyConfig, note: Callable[[str], None]):
        self.config, self.note = config, note
        self.sending: list[threading.Thread] = []

    def send(self, event: Mapping[str, Any]) -> None:
        """POST the event as JSON to notify.url; give it to notify.command on stdin. Waits for neither."""
        body = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace")
        for deliver, to in ((post, self.config.url), (call, self.config.command)):
            if to:
                thread = threading.Thread(target=self.attempt, args=(deliver, to, body), daemon=True)
                thread.start()
                self.sending.append(thread)

    def attempt(self, deliver: Callable[[str, bytes], None], to: str, body: bytes) -> None:
        try:
            deliver(to, body)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.note(f"warning: not notified: {type(error).__name__}: {one_line(error)}")

    def close(self) -> None:
        """Wait for what is on its way."""
        for thread in self.sending:
            thread.join(PATIENCE)


def post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE):
        pass


def call(command: str, body: bytes) -> None:
    subprocess.run(command, shell=True, input=body, timeout=PATIENCE, check=True, capture_output=True)
