"""A submission as Open Job Description has it: lines on stdout that AWS Deadline Cloud and other schedulers read.

https://github.com/OpenJobDescription/openjd-specifications/wiki/How-Jobs-Are-Run
"""

import threading

from farm import overview
from farm.progress import Rows, Screen

INTERVAL = 1.0  # seconds between two looks


class OpenJobLines(Screen):
    """Beside what a person sees: how much is done in percent, what is being done, and why something failed. Each once."""

    def __init__(self, rows: Rows):
        super().__init__(rows)
        self.said = dict[str, str]()
        self.ended = threading.Event()
        self.looking = threading.Thread(target=self.keep_looking, name="openjd", daemon=True)

    def __enter__(self) -> "OpenJobLines":
        self.looking.start()
        return super().__enter__()

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self.ended.set()
        self.looking.join()
        self.look()

    def keep_looking(self) -> None:
        while not self.ended.wait(INTERVAL):
            self.look()

    def look(self) -> None:
        entries = [overview.look(row) for row in self.rows()]
        total = overview.totals(entries)
        phases = {entry.status.phase or "starting" for entry in entries if entry.state == "rendering"}
        self.say("progress", f"{100 * total.share:.1f}")
        self.say(
            "status", ", ".join([f"{total.counts.get('complete', 0)} of {len(entries)} rendered", *sorted(phases)])
        )
        for entry in entries:
            if entry.state == "failed":
                self.say("fail", f"{entry.name}: {entry.row['error']}", entry.name)

    def say(self, what: str, text: str, about: str = "") -> None:
        line = f"openjd_{what}: {' '.join(text.split())}"
        if self.said.get(what + about) != line:
            self.said[what + about] = line
            print(line, flush=True)
