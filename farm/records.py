"""renders.parquet in a sweep's folder: one row per render, for pandas or DuckDB, while the sweep runs and after.

    SELECT name, state, prompt, uv_mse, "seconds.denoising" FROM 'renders/my-sweep/renders.parquet'

Columns and their types come from the configuration's dataclasses, not from the rows, so that they are the same before the
first render has ended and after the last.
"""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from farm.config import SubmitConfig, leaves
from farm.usage import SHORT
from renderer.config import RenderConfig
from renderer.files import atomic
from renderer.manifest import Manifest

NAME = "renders.parquet"
State = Literal["waiting", "rendering", "complete", "failed", "cancelled"]

PHASES = ("set-up", "G-buffers", "denoising", "decoding", "writing")
METRICS = {
    "hero_coverage": pa.float64(),
    "uv_mse": pa.float64(),
    "uv_mse_mean": pa.float64(),
    "uv_mse_normalised": pa.float64(),
    "stable_detail": pa.list_(pa.float64()),
    "detail.single": pa.list_(pa.float64()),
    "detail.mean": pa.list_(pa.float64()),
}
PATHS = ("folder", "video", "contact_sheet")
ARROW = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
TIME = pa.timestamp("ms", tz="UTC")

# The configuration under the names that a person types (`scene`, not `scene.name`); resolution, the one key that is no
# scalar, is [width, height].
CONFIG = {
    SHORT.get(path, path): (path, ARROW.get(spec.type, pa.list_(pa.int64()))) for path, spec in leaves(RenderConfig)
}

SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "state": pa.string(),
        "error": pa.string(),
        **{column: kind for column, (_, kind) in CONFIG.items()},
        "render_hash": pa.string(),
        "device": pa.string(),
        "started": TIME,
        "finished": TIME,
        **{f"seconds.{phase}": pa.float64() for phase in PHASES},
        **METRICS,
        **dict.fromkeys(PATHS, pa.string()),
    }
)


def row(
    name: str, state: State, config: SubmitConfig | None, manifest: Manifest | None = None, error: str | None = None
) -> dict[str, Any]:
    """One render as a row of SCHEMA; None for what is not known (yet).

    config: as submitted, its output folder chosen; None where the person's settings made none. manifest: the books of the
    render once it has begun. Its configuration is the resolved one, with a number where the person left it to the model.
    Metrics and paths are those of files that lie in the folder of a complete render.
    """
    folder = Path(config.output.dir).absolute() if config and config.output.dir else None
    submitted = dataclasses.asdict(config) if config else {}
    books = dataclasses.asdict(manifest) if manifest else {}
    metrics = read_metrics(folder) if folder and state == "complete" else {}
    found = {
        "name": name,
        "state": state,
        "error": error,
        **{column: lookup(books.get("config", submitted), path) for column, (path, _) in CONFIG.items()},
        "render_hash": books.get("render_hash"),
        "device": books.get("device"),
        "started": moment(books.get("started")),
        "finished": moment(books.get("finished")),
        **{f"seconds.{phase}": books.get("timings", {}).get(phase) for phase in PHASES},
        **{path: lookup(metrics, path) for path in METRICS},
        "folder": folder and str(folder),
        "video": existing(folder, "video.mp4") if state == "complete" else None,
        "contact_sheet": existing(folder, "contact_sheet.png") if state == "complete" else None,
    }
    side = found["resolution"]
    return found | {"resolution": [side, side] if isinstance(side, int) else side}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of SCHEMA to `path`, whole: who opens the file has it as it was before or as it is after.

    pandas and DuckDB open a path twice, for the footer and for the pages. Should the file be replaced in the milliseconds
    between, they raise, and reading again helps; `pandas.read_parquet(open(path, "rb"))` never meets that.
    Text that is not UTF-8, such as a folder's undecodable bytes, appears with these bytes escaped.
    """
    assert all(list(row) == SCHEMA.names for row in rows)
    table = pa.Table.from_pylist([{column: printable(value) for column, value in row.items()} for row in rows], SCHEMA)
    with atomic(path) as part:
        pq.write_table(table, part)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a table by name, the columns that it lacks as None. Raises OSError or ValueError where it is none of ours."""
    found = pq.ParquetFile(path).read().to_pylist()
    return {row["name"]: {column: row.get(column) for column in SCHEMA.names} for row in found}


def lookup(tree: Mapping[str, Any], path: str) -> Any:
    """The leaf at a dotted path, or None.

    >>> lookup({"scene": {"camera": {"fov": 35.0}}}, "scene.camera.fov")
    35.0
    """
    name, _, rest = path.partition(".")
    value = tree.get(name)
    return lookup(value or {}, rest) if rest else value


def read_metrics(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "metrics.json").read_text("utf-8"))
    except (
        FileNotFoundError
    ):  # a complete render is one whose frames are there; the person may have taken the rest away
        return {}


def existing(folder: Path | None, name: str) -> str | None:
    return str(folder / name) if folder and (folder / name).exists() else None


def moment(time: str | None) -> datetime.datetime | None:
    """The manifest's ISO 8601."""
    return datetime.datetime.fromisoformat(time) if time else None


def printable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
