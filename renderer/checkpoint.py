"""What a render goes on from when its driver dies: latents and the sampler's memory after a step, in one safetensors file."""

import copy
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from renderer.errors import RenderError
from renderer.files import atomic
from renderer.sampling import Clip

Arrays = dict[str, NDArray]


class CheckpointError(ValueError):
    """A file that is not whole or another render's, or a sampler whose memory no file can hold."""


class Checkpoints:
    """The checkpoint of one render, step by step: each takes the place of the one before.

    key: the render's hash; a checkpoint that carries another one is of no use. clip: before its first step. note: takes a line for
    the person. Files are written while the next step is computed.
    """

    def __init__(self, path: Path, key: str, clip: Clip, note: Callable[[str], None]):
        self.path, self.key, self.clip, self.note = path, key, clip, note
        self.fresh, self.possible = copy.deepcopy(clip.samplers[0]), True
        self.writer, self.writing = ThreadPoolExecutor(1), Future[None]()
        self.writing.set_result(None)

    def resume(self) -> int:
        """Have the clip as it was when last saved. Returns how many steps that was after; 0 to begin anew."""
        try:
            found = load(self.path, self.key)
        except CheckpointError as error:
            self.note(f"the checkpoint {self.path} is ignored, and denoising begins anew: {error}")
            return 0
        if found is None:
            return 0
        step, self.clip.latents, states = found
        for sampler, state in zip(self.clip.samplers, states, strict=True):
            vars(sampler).update(state)
        return step

    def save(self, step: int) -> None:
        """The clip after so many steps, in the background: nothing may take a step before `settle`."""
        if not self.possible:
            return
        try:
            states = [sampler_state(sampler, self.fresh) for sampler in self.clip.samplers]
            state, arrays = pack(self.key, step, self.clip.latents, states)
        except CheckpointError as error:
            self.note(f"no checkpoints of this render: {error}")
            self.possible = False
            return
        self.writing = self.writer.submit(write, self.path, state, arrays)

    def settle(self) -> None:
        """Wait for the file. Raises RenderError where it cannot be written; the one before is intact then."""
        self.writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.shutdown()
        if error is None:
            self.settle()


def sampler_state(scheduler: Any, fresh: Any) -> dict[str, Any]:
    """The attributes of a diffusers scheduler that its steps have changed, by name.

    fresh: the same scheduler before its first step. With these set, it goes on as the first one would, whatever its kind.
    """
    before = vars(fresh)
    return {
        name: value for name, value in vars(scheduler).items() if name not in before or not _same(value, before[name])
    }


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def pack(key: str, step: int, latents: list[Tensor], samplers: list[dict[str, Any]]) -> tuple[str, Arrays]:
    """What a file holds of these, as JSON and arrays that share their memory.

    latents: float32 [n, C, h, w] each. samplers: tensors, plain values and lists of them; raises CheckpointError for anything else.
    """
    arrays: Arrays = {}
    packed = {"latents": _pack(latents, arrays), "samplers": _pack(samplers, arrays)}
    return json.dumps({"render": key, "step": step, **packed}), arrays


def write(path: Path, state: str, arrays: Arrays) -> None:
    """Write a checkpoint, whole or not at all, with a sha256 over all of it. Raises RenderError where that fails."""
    try:
        with atomic(path) as part:
            save_file(arrays, part, {"state": state, "sha256": _sha256(state, arrays)})
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise RenderError(
            f"cannot write the checkpoint {path} ({reason}): what is finished stays; make room, then the same command goes on"
        ) from error


def load(path: Path, key: str) -> tuple[int, list[Tensor], list[dict[str, Any]]] | None:
    """(step, latents, samplers) as packed, or None if there is no file. Raises CheckpointError if it is of no use."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["state"]
        intact = _sha256(text, arrays) == metadata["sha256"]
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"it is not whole ({' '.join(str(error).split())})") from error
    if not intact:
        raise CheckpointError("it is not as it was written (its sha256 differs)")
    state = json.loads(text)
    if state["render"] != key:
        raise CheckpointError("it is another render's")
    return state["step"], _unpack(state["latents"], arrays), _unpack(state["samplers"], arrays)


def _sha256(state: str, arrays: Arrays) -> str:
    layout = [(name, array.dtype.str, array.shape) for name, array in sorted(arrays.items())]
    digest = hashlib.sha256(json.dumps([state, layout]).encode())
    for _, array in sorted(arrays.items()):
        digest.update(array.data)
    return digest.hexdigest()


def _pack(value: Any, arrays: Arrays) -> Any:
    """JSON for a value; its tensors join `arrays`, and {"tensor": name} stands for each."""
    if isinstance(value, Tensor):
        name = str(len(arrays))
        arrays[name] = value.contiguous().numpy(force=True)
        return {"tensor": name}
    if type(value) is dict:
        return {"dict": {name: _pack(item, arrays) for name, item in value.items()}}
    if type(value) is list:
        return [_pack(item, arrays) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise CheckpointError(f"the sampler's memory holds a {type(value).__name__}")


def _unpack(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if isinstance(value, dict) and "tensor" in value:
        return torch.from_numpy(arrays[value["tensor"]])
    if isinstance(value, dict):
        return {name: _unpack(item, arrays) for name, item in value["dict"].items()}
    return value
