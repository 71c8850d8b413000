"""The table of a sweep: read back, it says what the manifests and metrics say, with the same types from the first row on."""

import datetime
import json
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farm import driver
from farm.config import FarmConfig, OutputConfig, SubmitConfig, leaves
from farm.progress import Progress
from farm.records import PHASES, SCHEMA, row, write
from renderer.config import RenderConfig
from renderer.manifest import read_manifest


@pytest.fixture(scope="module")
def submitted(small, tmp_path_factory):
    """A real render, complete in its folder."""
    folder = tmp_path_factory.mktemp("sweep") / "tin"
    config = SubmitConfig(
        **{name: getattr(small(), name) for name in asdict(small())} | {"steps": None, "prompt": 'a "tin" 金, toy'},
        farm=FarmConfig(name="inline", threads=1),
        output=OutputConfig(dir=str(folder)),
    )
    with Progress(folder, config.frames) as progress:
        driver.submit(config, progress)
    return config


def read_back(path: Path, *rows: dict) -> list[dict]:
    write(path, rows)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    return table.to_pylist()


def test_a_complete_render(submitted, tmp_path):
    folder = Path(submitted.output.dir)
    manifest = read_manifest(folder)
    assert manifest is not None
    [read] = read_back(tmp_path / "renders.parquet", row("tin", "complete", submitted, manifest))
    metrics = json.loads((folder / "metrics.json").read_text())
    expected = {
        "name": "tin",
        "state": "complete",
        "error": None,
        "scene": "flag",
        "scene.camera.fov": 35.0,
        "prompt": 'a "tin" 金, toy',
        "seed": 3,
        "method": "paper",
        "method.keyframes": 2,
        "steps": 3,  # of the model, as nothing was submitted
        "resolution": [64, 64],
        "render_hash": manifest.render_hash,
        "device": manifest.device,
        "uv_mse": metrics["uv_mse"],
        "detail.single": metrics["detail"]["single"],
        "stable_detail": metrics["stable_detail"],
        "video": str(folder / "video.mp4"),
    }
    assert {column: read[column] for column in expected} == expected
    assert all(Path(read[column]).exists() for column in ("folder", "video", "contact_sheet"))
    assert {phase: read[f"seconds.{phase}"] for phase in PHASES} == manifest.timings
    assert read["started"].isoformat() == manifest.started
    assert datetime.timedelta(0) <= read["finished"] - read["started"] < datetime.timedelta(minutes=5)
    missing = {column for column, value in read.items() if value is None}
    assert missing == {"error"} | {
        column
        for column in missing
        if column.startswith(("scene.", "model."))  # settings whose null means something
    }


def test_columns_are_the_same_whatever_is_known(submitted, tmp_path):
    manifest = read_manifest(Path(submitted.output.dir))
    assert manifest is not None
    rows = [
        row("a", "waiting", submitted),
        row("b", "rendering", submitted, replace(manifest, finished=None, timings={"set-up": 1.5})),
        row("c", "failed", None, error="frames=0: expected a whole number"),
        row("d", "failed", submitted, manifest, error="a path \udcff\nof bytes"),
    ]
    waiting, rendering, mistaken, failed = read_back(tmp_path / "renders.parquet", *rows)
    assert (waiting["scene"], waiting["steps"], waiting["resolution"], waiting["started"]) == (
        "flag",
        None,
        [64, 64],
        None,
    )
    assert (rendering["seconds.set-up"], rendering["seconds.denoising"], rendering["finished"]) == (1.5, None, None)
    assert rendering["steps"] == 3
    known = {"name", "state", "error"}
    assert {column for column, value in mistaken.items() if value is not None} == known
    assert failed["error"] == "a path \\udcff\nof bytes"
    for record in (waiting, rendering, mistaken, failed):  # only what is complete has a clip to look at
        assert (record["video"], record["contact_sheet"], record["uv_mse"]) == (None, None, None)
    assert read_back(tmp_path / "renders.parquet") == []


def test_metrics_that_somebody_took_away_are_unknown(submitted, tmp_path):
    moved = replace(submitted, output=OutputConfig(dir=str(tmp_path)))
    [read] = read_back(tmp_path / "renders.parquet", row("tin", "complete", moved))
    assert (read["uv_mse"], read["video"], read["folder"]) == (None, None, str(tmp_path))


def test_every_setting_is_a_column_of_its_type():
    types = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    names = {"scene.name": "scene", "model.name": "model", "method.name": "method", "noise.kind": "noise"}
    for path, key in leaves(RenderConfig):
        assert SCHEMA.field(names.get(path, path)).type == types.get(key.type, pa.list_(pa.int64())), path
    assert len(set(SCHEMA.names)) == len(SCHEMA.names)


def test_a_reader_at_any_time_sees_a_whole_table(submitted, tmp_path):
    path, sizes, done = tmp_path / "renders.parquet", [], threading.Event()
    rows = [row(f"render-{i}", "waiting", submitted) for i in range(40)]
    write(path, rows[:1])

    def read():
        while not done.is_set():
            with path.open("rb") as file:
                sizes.append(len(pq.read_table(file).to_pylist()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(1, len(rows) + 1):
            write(path, rows[:n])
    finally:
        done.set()
        reader.join()
    assert sizes == sorted(sizes)
    assert len(sizes) > 1
    assert [file.name for file in tmp_path.iterdir()] == ["renders.parquet"]
