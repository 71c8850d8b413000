"""index.html in the folder of a render or a sweep: its clips and how they stand, current while it runs.

One file that opens from disk, without a server. A page may read no files there, but it may run scripts: while the render runs
the page runs index.js again and again, which brings what is new, and so keeps its place, its sorting and its filters.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from farm import overview
from farm.overview import LOG, Entry, Pace
from farm.records import CONFIG, METRICS, PHASES
from renderer.files import atomic
from renderer.plan import WORK

TEMPLATE = Path(__file__).with_name("page.html")
GENERATOR = '<meta name="generator" content="generative-render-farm">'
INTERVAL = 1.0  # seconds between two writings at least,
SHARE = 0.05  # and of the time that they take at most
TAIL = 4000  # characters of a log that the page shows
PREVIEW = f"{WORK}/preview.mp4"  # Plan.preview_path
CLIPS = {"clip": "video.mp4", "texture": "texture.mp4", "guides": "guides.mp4", "compare": "compare.mp4"}
FILES = (*CLIPS.values(), "contact_sheet.png", "frames", "metrics.json", "manifest.json", LOG, "error.log")
SIZE = ("resolution", "frames")  # told of each render by themselves

Rows = Callable[[], Sequence[Mapping[str, Any]]]


class Page:
    """Writes the page from `start` to `close`. rows: of renders.parquet, as they stand. folder: of the page."""

    def __init__(self, folder: Path, rows: Rows):
        self.folder, self.rows = folder, rows
        self.begun, self.pace = time.time(), Pace()
        self.known: dict[str, tuple[Entry, dict[str, Any]]] = {}
        self.ended = threading.Event()
        self.writer = threading.Thread(target=self.keep_writing, name="page", daemon=True)

    def start(self) -> None:
        """From now on there is a page; a page that somebody else has put there stays."""
        if not self.writer.ident and is_ours(self.folder / "index.html"):
            self.writer.start()

    def close(self) -> None:
        """The page as it stays."""
        if self.writer.ident:
            self.ended.set()
            self.writer.join()
            self.write(live=False)

    def keep_writing(self) -> None:
        took = 0.0
        while True:
            begun = time.monotonic()
            self.write(live=True)
            took = time.monotonic() - begun
            if self.ended.wait(max(INTERVAL, took / SHARE)):
                return

    def write(self, live: bool) -> None:
        """The page as it is now. A full disk is reported by whoever writes frames; the page only tells of them."""
        entries = [overview.look(row, live) for row in self.rows()]
        left = self.pace.left(overview.totals(entries).share)
        with contextlib.suppress(OSError):
            write_page(
                self.folder, [(entry, self.shown(entry)) for entry in entries], time.time() - self.begun, left, live
            )

    def shown(self, entry: Entry) -> dict[str, Any]:
        """As `describe`; of renders at rest nothing changes any more."""
        if entry.name not in self.known or self.known[entry.name][0] != entry or entry.state == "rendering":
            self.known[entry.name] = entry, describe(entry, self.folder)
        return self.known[entry.name][1]


def write_page(
    folder: Path, renders: Sequence[tuple[Entry, Mapping[str, Any]]], spent: float, left: float | None, live: bool
) -> None:
    """index.html, and index.js for those who look at it already. renders: each with what `describe` says of it.

    spent, left: seconds, of all. live: whether somebody renders.
    """
    total = overview.totals([entry for entry, _ in renders])
    settings = [described["settings"] for _, described in renders]
    common = shared(renders)
    news = {
        "title": folder.resolve().name,
        "written": time.time(),
        "live": live,
        "seconds": spent,
        "eta_s": left,
        "workers": total.workers,
        "memory": overview.amount(total.memory, total.capacity),
        "common": common,
        "varied": list(dict.fromkeys(key for s in settings for key in s if key not in common)),
        "renders": [
            dict(entry) | {"settings": {key: value for key, value in entry["settings"].items() if key not in common}}
            for _, entry in renders
        ],
    }
    text = script(news)
    page = TEMPLATE.read_text("utf-8").replace("<!--generator-->", GENERATOR).replace("/*data*/", text)
    for name, content in (("index.js", f"show({text});\n"), ("index.html", page)):
        with atomic(folder / name) as part:
            part.write_text(content, "utf-8", "backslashreplace")


def shared(renders: Sequence[tuple[Entry, Mapping[str, Any]]]) -> dict[str, Any]:
    """Settings that all renders have in common. What a render leaves to its model is known once it has begun: one that has not
    is not asked what it lacks."""
    values: dict[str, list[Any]] = {key: [] for _, described in renders for key in described["settings"]}
    for key, found in values.items():
        found += [d["settings"].get(key) for e, d in renders if key in d["settings"] or e.row["render_hash"]]
    return {key: found[0] for key, found in values.items() if all(value == found[0] for value in found)}


def script(value: Any) -> str:
    """JSON that may stand in a script: no end of one, no comment, no line that JavaScript ends where JSON does not.

    >>> script("</script>")
    '"\\\\u003c/script>"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def describe(entry: Entry, page: Path) -> dict[str, Any]:
    """A render as the page knows it; its files as links from the folder `page`."""
    row, status, folder = entry.row, entry.status, entry.folder
    seconds = [row[f"seconds.{phase}"] for phase in PHASES if row[f"seconds.{phase}"] is not None]
    unknown = (None, "") if row["render_hash"] else (None, "", "auto")  # auto: until it begins
    found = {
        "name": entry.name,
        "state": entry.state,
        "error": row["error"] or (status.error if entry.state == "stopped" else None),
        "share": round(entry.share, 3),
        "seconds": round(sum(seconds), 1) if seconds else None,
        "resolution": row["resolution"] if row["resolution"] and row["resolution"][0] else None,
        "prompt": row["prompt"],
        "frames": row["frames"],
        "metrics": {key: row[key] for key in METRICS if row[key] is not None},
        "settings": {key: row[key] for key in CONFIG if key not in SIZE and row[key] not in unknown},
        "files": {},
    }
    if entry.state == "rendering":
        found |= {key: getattr(status, key) for key in ("phase", "step", "steps", "frames_done", "eta_s")}
        found["gang"] = len(status.workers)
    if folder is None or not folder.exists():
        return found
    found["files"] = {name: link(folder / name, page) for name in FILES if (folder / name).exists()}
    clips = CLIPS if entry.state == "complete" else CLIPS | {"clip": PREVIEW}
    found |= {key: versioned(folder / name, page) for key, name in clips.items() if (folder / name).exists()}
    if entry.state == "complete" and (folder / "frames" / "00000.png").exists():
        found["poster"] = link(folder / "frames" / "00000.png", page)
    elif "clip" in found:
        found["preview"] = True
    if entry.state in ("failed", "stopped"):
        found["log"] = tail(folder / "error.log") or tail(folder / LOG)
    return found


def versioned(path: Path, page: Path) -> dict[str, Any]:
    """A link that changes when the file does."""
    return {"url": link(path, page), "version": path.stat().st_mtime_ns // 1_000_000}


def link(path: Path, page: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path, page)))


def tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text("utf-8", "replace")[-TAIL:]
    return ""


def is_ours(path: Path) -> bool:
    """Is there no page, or one that we may write over?"""
    try:
        return GENERATOR in path.read_text("utf-8", "replace")[:2000]
    except FileNotFoundError:
        return True
    except OSError:
        return False
