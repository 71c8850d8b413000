"""A glTF 2.0 file: container, JSON, buffers, accessors. Whatever is wrong with them ends here as one SceneError line.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import base64
import json
import math
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from renderer.errors import SceneError

MAX_BYTES = 1 << 30  # of a file with all its buffers
MAX_NUMBERS = 1 << 26  # that all accessors together may decode to (22 million vertices)

BYTE, UNSIGNED_BYTE, SHORT, UNSIGNED_SHORT, UNSIGNED_INT, FLOAT = 5120, 5121, 5122, 5123, 5125, 5126
DTYPES = {BYTE: "<i1", UNSIGNED_BYTE: "<u1", SHORT: "<i2", UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4", FLOAT: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}

TABLES = ("accessors", "animations", "buffers", "bufferViews", "cameras", "meshes", "nodes", "scenes", "skins")

# Extensions that change nothing we read (appearance), or that we evaluate (quantization).
HARMLESS = ("KHR_mesh_quantization", "KHR_texture_", "KHR_materials_", "KHR_lights_", "EXT_texture_", "KHR_xmp")


@dataclass(frozen=True)
class Entry:
    """A JSON object of the file and where it stands in it; its getters return checked values or raise a SceneError."""

    file: str
    where: str  # "nodes[3]"; "its" for the document itself
    value: dict[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def fail(self, what: str) -> NoReturn:
        raise SceneError(
            f"{self.file}: {self.where} {what}; the file is damaged or not valid glTF 2.0, export it again"
        )

    def _expect(self, ok: bool, key: str, expected: str) -> None:
        if not ok:
            value = self.value.get(key, "missing")
            found = "an object" if isinstance(value, dict) else printable(str(value))
            self.fail(
                f"{key} is {f'a list of {len(value)}' if isinstance(value, list) else found}, expected {expected}"
            )

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; without a default the key is required (so for all getters)."""
        value: Any = self.value.get(key, default)
        self._expect(_is_number(value), key, "a number")
        return float(value)

    def integer(self, key: str, default: int | None = None, *, below: int = 1 << 53) -> int:
        """An integer in [0, below)."""
        value: Any = self.value.get(key, default)
        expected = f"an integer from 0 to {below - 1}" if below < 1 << 53 else "an integer of at least 0"
        self._expect(_is_number(value) and value == int(value) and 0 <= value < below, key, expected)
        return int(value)

    def text(self, key: str, default: str | None = None) -> str:
        value: Any = self.value.get(key, default)
        self._expect(isinstance(value, str), key, "a text")
        return value

    def flag(self, key: str) -> bool:
        value = self.value.get(key, False)
        self._expect(isinstance(value, bool), key, "true or false")
        return value

    def numbers(self, key: str, length: int, default: Collection[float]) -> NDArray[np.float64]:
        """`length` finite numbers, float64 [length]."""
        value = self.value.get(key, default)
        ok = isinstance(value, list | tuple) and len(value) == length and all(map(_is_number, value))
        self._expect(ok, key, f"{length} numbers")
        return np.array(list(value), np.float64)

    def indices(self, key: str, *, below: int) -> list[int]:
        """A list of integers in [0, below); empty where the key is missing."""
        values = self.value.get(key, [])
        self._expect(isinstance(values, list), key, "a list")
        for value in values:
            Entry(self.file, self.where, {key: value}).integer(key, below=below)
        return [int(value) for value in values]

    def texts(self, key: str) -> list[str]:
        values = self.value.get(key, [])
        self._expect(isinstance(values, list) and all(isinstance(v, str) for v in values), key, "a list of texts")
        return values

    def child(self, key: str) -> "Entry":
        value: Any = self.value.get(key)
        self._expect(isinstance(value, dict), key, "a JSON object")
        return Entry(self.file, f"{self.where}.{key}".removeprefix("its."), value)

    def children(self, key: str) -> list["Entry"]:
        """A list of JSON objects; empty where the key is missing."""
        values = self.value.get(key, [])
        self._expect(
            isinstance(values, list) and all(isinstance(v, dict) for v in values), key, "a list of JSON objects"
        )
        place = f"{self.where}.{key}".removeprefix("its.")
        return [Entry(self.file, f"{place}[{i}]", value) for i, value in enumerate(values)]


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 1 << 53
    return isinstance(value, float) and math.isfinite(value)


def printable(text: str, limit: int = 60) -> str:
    """Text of a file, safe to print on one line: control characters and lone surrogates become '?'."""
    text = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass
class Document:
    """An open glTF file. content: the file's bytes; buffers: the bytes that its buffers name."""

    root: Entry
    content: bytes
    buffers: list[memoryview] = field(default_factory=list)
    numbers_read: int = 0

    def __post_init__(self) -> None:
        self.tables = {key: self.root.children(key) for key in TABLES}

    def follow(self, owner: Entry, key: str, table: str) -> Entry:
        """The entry of `table` whose index stands in owner[key]."""
        rows = self.tables[table]
        if not rows:
            owner.fail(f"{key} points into {table}, but the file has none")
        return rows[owner.integer(key, below=len(rows))]

    def quantized(self) -> bool:
        return "KHR_mesh_quantization" in self.root.texts("extensionsUsed") + self.root.texts("extensionsRequired")

    def read(self, owner: Entry, key: str, shape: str, kinds: Collection[int]) -> NDArray:
        """The accessor that owner[key] points to: [count, width of shape]; float32 if FLOAT or normalised, else integer.

        shape: "VEC3" etc., kinds: the component types that may be used here.
        """
        accessor = self.follow(owner, key, "accessors")
        kind, count = accessor.integer("componentType"), accessor.integer("count")
        if accessor.text("type") != shape or kind not in kinds:
            expected = " or ".join(str(k) for k in kinds)
            accessor.fail(
                f"is {printable(accessor.text('type'))} of component type {kind}, expected {shape} of {expected} "
                f"for {owner.where}.{key}"
            )
        width, dtype = WIDTHS[shape], np.dtype(DTYPES[kind])
        self.numbers_read += count * width
        if self.numbers_read > MAX_NUMBERS:
            accessor.fail(f"with count {count} exceeds what a scene may hold ({MAX_NUMBERS} numbers)")
        stored = "bufferView" in accessor
        values = self._elements(accessor, count, width, dtype) if stored else np.zeros((count, width), dtype)
        if "sparse" in accessor:
            values = self._substitute(accessor.child("sparse"), values.copy())
        if kind == FLOAT or not accessor.flag("normalized"):
            return values.astype(dtype.newbyteorder("="))
        return np.maximum(values.astype(np.float32) / np.iinfo(dtype).max, -1.0)

    def _substitute(self, sparse: Entry, values: NDArray) -> NDArray:
        count = sparse.integer("count", below=len(values) + 1)
        places = sparse.child("indices")
        kind = places.integer("componentType")
        if kind not in (UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT):
            places.fail(f"has component type {kind}, expected an unsigned integer")
        rows = self._elements(places, count, 1, np.dtype(DTYPES[kind]))[:, 0]
        if count and rows.max() >= len(values):
            places.fail(f"point to element {rows.max()} of {len(values)}")
        values[rows] = self._elements(sparse.child("values"), count, values.shape[1], values.dtype)
        return values

    def _elements(self, owner: Entry, count: int, width: int, dtype: np.dtype) -> NDArray:
        """`count` elements from owner's buffer view; a view of the buffer, checked against its length beforehand."""
        view = self.follow(owner, "bufferView", "bufferViews")
        self.follow(view, "buffer", "buffers")
        buffer = self.buffers[view.integer("buffer")]
        start, length = view.integer("byteOffset", 0), view.integer("byteLength")
        offset, size = owner.integer("byteOffset", 0), width * dtype.itemsize
        stride = view.integer("byteStride", 0) or size
        if start + length > len(buffer):
            view.fail(f"ends at byte {start + length} of a buffer of {len(buffer)} bytes")
        if stride < size:
            view.fail(f"has byteStride {stride}, expected at least {size} for {owner.where}")
        if count and offset + stride * (count - 1) + size > length:
            owner.fail(f"needs {offset + stride * (count - 1) + size} bytes of {view.where}, which has {length}")
        if not count:
            return np.zeros((0, width), dtype)
        return np.ndarray((count, width), dtype, buffer, start + offset, (stride, dtype.itemsize))


def open_gltf(path: Path) -> Document:
    """Read a .glb or .gltf file with the buffers that it refers to. Raises SceneError."""
    document, binary = _read_document(path)
    room = MAX_BYTES - len(document.content)
    for i, buffer in enumerate(document.tables["buffers"]):
        data = binary if i == 0 and binary is not None and "uri" not in buffer else _buffer(path, buffer, room)
        room -= len(data) if data is not binary else 0
        length = buffer.integer("byteLength")
        if len(data) < length:
            buffer.fail(f"has {len(data)} bytes, its byteLength says {length}")
        document.buffers.append(memoryview(data)[:length])
    return document


def buffer_files(path: Path) -> list[str]:
    """The files beside a .glb or .gltf that it needs, as paths from its folder; they need not be there. Raises SceneError."""
    buffers = _read_document(path)[0].tables["buffers"]
    named = [buffer for buffer in buffers if "uri" in buffer and not buffer.text("uri").startswith("data:")]
    return list({_beside(path, buffer).relative_to(path.parent.resolve()).as_posix(): None for buffer in named})


def _read_document(path: Path) -> tuple[Document, bytes | None]:
    """A file without its buffers, and its binary chunk, None if there is none."""
    content = read_bytes(path, path.name)
    if content[:4] == b"glTF":
        text, binary = _split_glb(path.name, content)
    elif path.suffix.lower() == ".glb":
        raise SceneError(
            f"{path.name}: not a GLB file: starts with {content[:4]!r}, expected the magic b'glTF'; export it again"
        )
    else:
        text, binary = content, None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # ValueError: JSON, its encoding, absurdly long numbers
        raise SceneError(
            f"{path.name}: its JSON cannot be read: {printable(str(error), 100)}; export the file again"
        ) from None
    if not isinstance(value, dict):
        raise SceneError(f"{path.name}: its JSON is a {type(value).__name__}, expected a glTF 2.0 document")
    root = Entry(path.name, "its", value)
    version = root.child("asset").text("version")
    if not version.startswith("2."):
        raise SceneError(f"{path.name}: is glTF {printable(version)}, expected 2.x; export it again as glTF 2.0")
    needed = [name for name in root.texts("extensionsRequired") if not name.startswith(HARMLESS)]
    if needed:
        raise SceneError(
            f"{path.name}: needs the extension {printable(', '.join(needed), 200)}, which is not supported; "
            "export it without (mesh compression and the like switched off)"
        )
    return Document(root, content), binary


def read_bytes(path: Path, name: str, room: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most `room` bytes; `name` is what a SceneError calls it."""
    try:
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise SceneError(f"{name}: the file {problem}; looked at {path}")
        if path.stat().st_size > room:
            raise SceneError(
                f"{name}: the file is larger than a scene may be ({MAX_BYTES >> 20} MiB in all); simplify it"
            )
        return path.read_bytes()
    except OSError as error:
        raise SceneError(f"{name}: the file cannot be read: {error.strerror}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _split_glb(name: str, content: bytes) -> tuple[bytes, bytes | None]:
    """The JSON chunk and the binary chunk, None if there is none."""
    if len(content) < 20:
        raise SceneError(
            f"{name}: truncated: {len(content)} bytes, expected a GLB header of 20; export or copy it again"
        )
    version, length, json_length, json_type = struct.unpack_from("<4I", content, 4)
    if version != 2:
        raise SceneError(f"{name}: GLB version {version} is not supported, expected 2; export it again as glTF 2.0")
    if length > len(content):
        raise SceneError(f"{name}: truncated: {len(content)} bytes, its header says {length}; export or copy it again")
    if json_type != 0x4E4F534A or 20 + json_length > length:
        raise SceneError(f"{name}: its first chunk is no complete JSON chunk, as GLB needs; export or copy it again")
    text, rest = content[20 : 20 + json_length], content[20 + json_length : length]
    if len(rest) < 8:
        return text, None
    size, kind = struct.unpack_from("<2I", rest)
    if size > len(rest) - 8:
        raise SceneError(
            f"{name}: its second chunk has {len(rest) - 8} bytes, its header says {size}; export or copy it again"
        )
    return text, rest[8 : 8 + size] if kind == 0x004E4942 else None


def _buffer(path: Path, buffer: Entry, room: int) -> bytes:
    uri = buffer.text("uri")
    if uri.startswith("data:"):
        header, _, payload = uri.partition(",")
        if not header.endswith(";base64"):
            buffer.fail("has a data URI that is not base64")
        try:
            return base64.b64decode(payload, validate=True)
        except ValueError as error:
            buffer.fail(f"has a data URI that cannot be decoded ({error})")
    return read_bytes(_beside(path, buffer), f"{path.name}: {buffer.where} '{printable(uri)}'", room)


def _beside(path: Path, buffer: Entry) -> Path:
    """Where the file that a buffer names lies: below the folder of `path`. Raises SceneError for any other place."""
    uri, folder = buffer.text("uri"), path.parent.resolve()
    relative = unquote(uri)
    try:
        inside = not urlsplit(uri).scheme and not Path(relative).is_absolute()
        target = (folder / relative).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
        inside, target = False, folder
    if not inside or not target.is_relative_to(folder) or target == folder:
        raise SceneError(
            f"{path.name}: {buffer.where} has the URI '{printable(uri)}', which leaves the file's folder; "
            "put the buffer beside the file and export it with a relative URI"
        )
    return target
