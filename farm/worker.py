"""The worker actor: a loaded model and caches, nothing that would be missed. Every call is a pure function of its arguments."""

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from farm.overview import Worker
from farm.store import Key
from renderer.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from renderer.attention import KeyframeFeatures
    from renderer.frames import FrameRenderer

RENDERS = 3  # whose poses and places a worker keeps: its own render's, and those that it helps out

Order = tuple[str, list[Any], str, tuple]
"""A call as it comes to a worker: (plan_id, plan, method, arguments). plan: a list around the reference to a Plan, fetched only
when it is a new one. One argument to Ray, as it packs each of several by itself, at a cost."""

Packed = dict[str, list[NDArray[np.uint8]]]
"""Keyframe features as they travel: layer name → bytes of its tokens."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Stands for keyframe features in the arguments of a call, and says by which method of FrameRenderer they are made.

    arguments: a list around the reference to that method's arguments, which few readers fetch.
    """

    key: Key
    method: str
    arguments: list[Any]


@dataclass(frozen=True)
class Sent:
    """A tensor among a call's arguments, or its result, on the way between driver and worker."""

    array: NDArray


class FeaturesLostError(RuntimeError):
    """Features that others were promised are gone."""


class RenderWorker:
    """One GPU, or a fixed number of CPU threads."""

    def __init__(self) -> None:
        from renderer.frames import NetworkCache  # torch loads here, on the worker: nobody else waits for it

        self.networks = NetworkCache()
        self.renderers: dict[str, FrameRenderer] = {}
        self.features: dict[Key, KeyframeFeatures] = {}

    def where(self) -> Worker:
        """This process, and how full its GPU is."""
        import torch

        found = Worker(pid=os.getpid(), node=ray.util.get_node_ip_address())
        if torch.cuda.is_initialized():  # which it is once a network is there
            free, found["capacity"] = torch.cuda.mem_get_info()
            found["memory"] = found["capacity"] - free
        return found

    def memory(self) -> int:
        """Bytes that this worker's GPU has, or this machine."""
        import torch

        if torch.cuda.is_available():
            return torch.cuda.mem_get_info()[1]
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def run(self, order: Order, features: Any = None) -> Any:
        """A method of FrameRenderer.

        features: what a Kept among the arguments stands for, as `hand_out` gave it; None where they are here, or are to be made
        here. Raises OutOfMemoryError.
        """
        from renderer.memory import within_memory

        plan_id, plan, method, arguments = order
        return send(within_memory(lambda: self.resolve(plan_id, plan, arguments, features), self.free, method))

    def keep(self, plan_id: str, plan: list[Any], kept: Kept) -> int:
        """Make keyframe features, which stay here until they are forgotten; returns their size in bytes."""
        import torch

        made: KeyframeFeatures = self.run((plan_id, plan, kept.method, ray.get(kept.arguments[0])))
        # Laid out as what travels arrives; and no inference tensors any more, which only inference mode may do everything with.
        alone = partial(torch.clone, memory_format=torch.contiguous_format)
        features = {layer: tuple(map(alone, tokens)) for layer, tokens in made.items()}
        self.features[kept.key] = features
        settle()
        return sum(tensor.nbytes for tokens in features.values() for tensor in tokens)

    def hand_out(self, key: Key, packed: bool) -> "KeyframeFeatures | Packed":
        """Features that are kept here, for other workers: as tensors, or as arrays that shared memory can hold."""
        if key not in self.features:
            raise FeaturesLostError(f"keyframe features {key} had to make room")
        features = self.features[key]
        return {layer: [pack(one) for one in tokens] for layer, tokens in features.items()} if packed else features

    def forget(self, key: Key) -> None:
        """Nobody needs these features any more."""
        self.features.pop(key, None)

    def free(self) -> None:
        """Hold nothing that can be made again."""
        self.features.clear()
        self.renderers.clear()
        self.networks.loaded.clear()

    def resolve(
        self, plan_id: str, plan: list[Any], arguments: tuple, features: Any
    ) -> tuple["FrameRenderer", list[Any]]:
        """The renderer of this plan's frames, and the arguments with features where something stands for them."""
        for kept in (value for value in arguments if isinstance(value, Kept)):
            if kept.key in self.features:
                continue
            if features is None:
                self.keep(plan_id, plan, kept)
            else:
                resolved = self.render_frames(plan_id, plan).plan
                self.features[kept.key] = {layer: unpack(tokens, resolved) for layer, tokens in features.items()}
                settle()
        given = [self.features[value.key] if isinstance(value, Kept) else receive(value) for value in arguments]
        return self.render_frames(plan_id, plan), given

    def render_frames(self, plan_id: str, plan: list[Any]) -> "FrameRenderer":
        """The renderer of this plan's frames. The last one gives a new one what both have in common."""
        from renderer.frames import FrameRenderer

        if plan_id not in self.renderers:
            resolved: Plan = ray.get(plan[0])
            # Whoever still holds another model would keep two of them in memory.
            self.renderers = {name: other for name, other in self.renderers.items() if other.plan.spec == resolved.spec}
            last = next(reversed(self.renderers.values()), None)
            self.renderers[plan_id] = FrameRenderer(resolved, self.networks, last)
        self.renderers[plan_id] = self.renderers.pop(plan_id)  # the last one used is the last to go
        while len(self.renderers) > RENDERS:
            del self.renderers[next(iter(self.renderers))]
        return self.renderers[plan_id]


def send(value: Any) -> Any:
    """A tensor as the array that it shows, and everything else as it is.

    Pickle takes a tensor ten times as long as an array, and takes along all of the memory that a tensor is a part of: a chunk's
    latents, before the first step, are a part of the whole clip's.
    """
    import torch

    return Sent(value.numpy(force=True)) if isinstance(value, torch.Tensor) else value


def receive(value: Any) -> Any:
    """What was sent. Arrays lie in shared memory, to which nobody may write: a tensor has memory of its own."""
    import torch

    return torch.tensor(value.array) if isinstance(value, Sent) else value


def pack(tensor: "Tensor") -> NDArray[np.uint8]:
    """A tensor's bytes. Ray maps arrays into every reader's memory as they lie; bfloat16, which NumPy lacks, has bytes, too."""
    import torch

    return tensor.cpu().contiguous().view(torch.uint8).numpy()


def unpack(tokens: Any, plan: Plan) -> "tuple[Tensor, ...]":
    """A layer's features as they were before packing, of the plan's type and on its device; tensors as they are.

    On a CPU unpacked arrays are shared memory: nobody may write to it.
    """
    import torch

    return tuple(
        torch.from_numpy(part).view(getattr(torch, plan.dtype)).to(plan.device)
        if isinstance(part, np.ndarray)
        else part
        for part in tokens
    )


def settle() -> None:
    """Wait for the GPU: tensors travel on streams of their own, which those that compute know nothing of."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
