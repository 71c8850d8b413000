"""A submission as it is watched and controlled: the files in its folder, the terminal, and messages from farm/control.py."""

import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from farm import gauges, records
from farm.broker import Standing
from farm.config import SubmitConfig
from farm.letterbox import Letterbox
from farm.notify import Notifier
from farm.openjob import OpenJobLines
from farm.page import Page
from farm.progress import Screen
from farm.records import State
from renderer.errors import RenderError, UserError
from renderer.files import write_json
from renderer.manifest import read_manifest

SUBMISSION = "submission.json"  # who renders here, and what the person typed
LOOK = 0.5  # seconds between two looks of a paused render


class CancelledError(RenderError):
    """Somebody does not want this render any more."""

    def __init__(self) -> None:
        super().__init__("cancelled; what is finished stays, and farm/control.py retry goes on")


class Watch:
    """Tells of all renders of a submission until the block ends, and does what it is told. Several of them report at once.

    folder: of the sweep, or of the render that is alone, which has no table, and whose folder is untouched before it begins.
    rows: of the renders, by name, as they are before. arguments: what the person typed. config: of one of the renders.
    """

    def __init__(
        self,
        folder: Path,
        rows: dict[str, dict[str, Any]],
        sweep: bool,
        arguments: Sequence[str] = (),
        config: SubmitConfig | None = None,
    ):
        config = config or SubmitConfig()
        self.folder, self.rows, self.arguments = folder, rows, list(arguments)
        self.table = folder / records.NAME if sweep else None
        self.writing, self.begun = threading.Lock(), False
        self.cancelled, self.again = set[str](), set[str]()
        self.standing = Standing(config.farm.priority)
        self.going = threading.Event()
        self.going.set()
        screen = OpenJobLines if config.notify.openjd else Screen
        self.screen, self.page = screen(self.current), Page(folder, self.current)
        self.letterbox = Letterbox(folder, self.obey)
        self.notifier = Notifier(config.notify, self.screen.note)

    def current(self) -> list[Mapping[str, Any]]:
        """The renders' rows, as they stand."""
        return list(self.rows.values())

    def tell(self, name: str, state: State, config: SubmitConfig | None, error: str | None = None) -> None:
        """What is known of a render now. A full disk is reported by whoever writes frames."""
        manifest = None
        with contextlib.suppress(UserError):
            if config and config.output.dir:
                manifest = read_manifest(Path(config.output.dir))
        with self.writing:
            self.rows[name] = records.row(name, state, config, manifest, error)
            gauges.renders_stand(row["state"] for row in self.current())
            if state == "rendering" and not self.begun:
                self.begin()
            if self.table:
                with contextlib.suppress(OSError):
                    records.write(self.table, self.current())
        if state == "failed":
            self.notifier.send({"event": "failed", "name": name, "error": error, "folder": self.rows[name]["folder"]})

    def begin(self) -> None:
        """The folder is ours: write to it, and listen."""
        self.letterbox.open()
        self.begun = True
        self.page.start()
        self.describe()

    def describe(self) -> None:
        with contextlib.suppress(OSError):
            about = {"arguments": self.arguments, "cwd": os.getcwd(), "sweep": self.table is not None}
            about |= {
                "paused": self.standing.paused,
                "priority": self.standing.priority,
                "host": socket.gethostname(),
                "pid": os.getpid(),
            }
            write_json(self.folder / SUBMISSION, about)
            (self.folder / SUBMISSION).chmod(0o600)  # the address of a webhook is a secret

    def __enter__(self) -> Self:
        if self.table:
            self.begin()
            with contextlib.suppress(OSError):
                records.write(self.table, self.current())
        self.screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.screen.__exit__()
        self.letterbox.close()
        self.page.close()
        if self.begun:
            counts = Counter(row["state"] for row in self.current())
            self.notifier.send({"event": "ended", "folder": str(self.folder.absolute()), "renders": counts})
        self.notifier.close()

    # What others want.

    def obey(self, message: Mapping[str, Any]) -> str:
        """Do what a message says; returns what there is to say to it. Raises LookupError for what nobody knows."""
        wanted = message.get("names") or list(self.rows)
        match message["do"]:
            case "cancel":
                names = [name for name in wanted if self.rows[name]["state"] in ("waiting", "rendering")]
                self.cancelled |= set(names)
                self.again -= set(names)
            case "retry":
                names = [name for name in wanted if self.rows[name]["state"] in ("failed", "cancelled")]
                self.again |= set(names)
            case "pause" | "resume":
                names = [name for name in wanted if self.rows[name]["state"] in ("waiting", "rendering")]
                self.standing.paused = message["do"] == "pause"
                (self.going.clear if self.standing.paused else self.going.set)()
                self.describe()
            case "priority":
                self.standing.priority = int(message["to"])
                self.describe()
                return f"priority: {self.standing.priority}"
            case unknown:
                raise LookupError(unknown)
        said = f"{message['do']}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        self.screen.note(said if names else f"{said}nothing to do")
        return said if names else f"{said}nothing to do"

    def check(self, name: str) -> None:
        """Called by a render between two chunks: waits while all is paused. Raises CancelledError."""
        while name not in self.cancelled and not self.going.wait(LOOK):
            pass
        if name in self.cancelled:
            raise CancelledError

    def take_again(self) -> set[str]:
        """Renders that somebody wants to be tried once more."""
        names, self.again = self.again, set()
        self.cancelled -= names
        return names
