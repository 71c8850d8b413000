"""A submission as it is watched: renders.parquet and index.html in its folder, and the terminal."""

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from farm import records
from farm.config import SubmitConfig
from farm.page import Page
from farm.progress import Screen
from farm.records import State
from renderer.errors import UserError
from renderer.manifest import read_manifest


class Watch:
    """Tells of all renders of a submission until the block ends. Several of them report at once.

    folder: of the sweep, or of the render that is alone, which has no table, and whose folder is untouched before it begins.
    rows: of the renders, by name, as they are before.
    """

    def __init__(self, folder: Path, rows: dict[str, dict[str, Any]], sweep: bool):
        self.rows, self.table = rows, folder / records.NAME if sweep else None
        self.writing = threading.Lock()
        self.screen, self.page = Screen(self.current), Page(folder, self.current)

    def current(self) -> list[Mapping[str, Any]]:
        """The renders' rows, as they stand."""
        return list(self.rows.values())

    def tell(self, name: str, state: State, config: SubmitConfig | None, error: str | None = None) -> None:
        """What is known of a render now. A full disk is reported by whoever writes frames."""
        manifest = None
        with contextlib.suppress(UserError):
            if config and config.output.dir:
                manifest = read_manifest(Path(config.output.dir))
        with self.writing, contextlib.suppress(OSError):
            self.rows[name] = records.row(name, state, config, manifest, error)
            if self.table:
                records.write(self.table, self.current())

    def __enter__(self) -> Self:
        self.screen.__enter__()
        if self.table:
            with contextlib.suppress(OSError):
                records.write(self.table, self.current())
            self.page.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.screen.__exit__()
        self.page.close()
