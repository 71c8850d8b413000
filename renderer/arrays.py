"""Named arrays in one Arrow file that is mapped into memory, so that a process holds only what it touches."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from renderer.files import atomic


def save_arrays(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays as one row of an Arrow IPC file, dtype and shape in the schema; whole or not at all."""
    fields = [
        pa.field(name, pa.large_binary(), metadata={"array": json.dumps([array.dtype.str, array.shape])})
        for name, array in arrays.items()
    ]
    row = [pa.array([array.tobytes()], pa.large_binary()) for array in arrays.values()]
    with atomic(path) as part, pa.ipc.new_file(str(part), pa.schema(fields)) as writer:
        writer.write(pa.record_batch(row, schema=pa.schema(fields)))


def load_arrays(path: Path) -> dict[str, NDArray]:
    """The arrays of such a file as read-only views of the mapped memory: nothing is copied."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    arrays = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        dtype, shape = json.loads(field.metadata[b"array"])
        # A private mapping could be written to, and the next reader of this process would see it.
        view = memoryview(column[0].as_buffer()).toreadonly()
        arrays[field.name] = np.frombuffer(view, np.dtype(dtype)).reshape(shape)
    return arrays
