"""The worker actor: a loaded model and caches, nothing that would be missed. Every call is a pure function of its arguments."""

import gc
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from farm.overview import Worker
from farm.store import Key
from renderer.errors import OutOfMemoryError
from renderer.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from renderer.attention import KeyframeFeatures
    from renderer.frames import FrameRenderer

RENDERS = 3  # whose poses and places a worker keeps: its own render's, and those that it helps out

Packed = dict[str, list[NDArray[np.uint8]]]
"""Keyframe features as they travel: layer name → bytes of its pre- and post-attention tokens."""


@dataclass(frozen=True)
class Kept:
    """Stands for keyframe features that lie with the workers, in the arguments of a call."""

    key: Key


class FeaturesLostError(RuntimeError):
    """The features that a call needs are gone: make them again, then repeat the call."""


class RenderWorker:
    """One GPU, or a fixed number of CPU threads. store: handle of the UV feature store actor."""

    def __init__(self, store: Any):
        from renderer.frames import NetworkCache  # torch loads here, on the worker: nobody else waits for it

        self.store = store
        self.networks = NetworkCache()
        self.renderers: dict[str, FrameRenderer] = {}
        self.features: tuple[Key, KeyframeFeatures] | None = None

    def where(self) -> Worker:
        """This process, and how full its GPU is."""
        import torch

        found = Worker(pid=os.getpid(), node=ray.util.get_node_ip_address())
        if torch.cuda.is_initialized():  # which it is once a network is there
            free, found["capacity"] = torch.cuda.mem_get_info()
            found["memory"] = found["capacity"] - free
        return found

    def run(self, plan_id: str, plan: list[Any], method: str, arguments: tuple) -> Any:
        """A method of FrameRenderer. plan: a list around the reference to a Plan, fetched only when it is a new one.

        Where memory is short, once more with all caches freed. Raises OutOfMemoryError where that does not help.
        """
        from renderer.memory import advice, out_of_memory

        for _ in range(2):
            try:
                return self.attempt(plan_id, plan, method, arguments)
            except Exception as error:
                if not out_of_memory(error):
                    raise
            self.free()
        needs = f"{method} needs more memory than a worker has"
        raise OutOfMemoryError(f"{needs}: {advice(*self.resolve(plan_id, plan, arguments), method)}")

    def keep(self, plan_id: str, plan: list[Any], method: str, arguments: tuple) -> tuple[int, Packed]:
        """As run, for keyframe features: their size in bytes, and the features in the node's shared memory."""
        features = self.run(plan_id, plan, method, arguments)
        packed = {layer: [pack(tensor) for tensor in pair] for layer, pair in features.items()}
        return sum(array.nbytes for pair in packed.values() for array in pair), packed

    def attempt(self, plan_id: str, plan: list[Any], method: str, arguments: tuple) -> Any:
        renderer, given = self.resolve(plan_id, plan, arguments)
        return getattr(renderer, method)(*given)

    def free(self) -> None:
        """Give back everything that can be made again."""
        import torch

        self.features = None
        self.renderers.clear()
        self.networks.loaded.clear()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def resolve(self, plan_id: str, plan: list[Any], arguments: tuple) -> tuple["FrameRenderer", list[Any]]:
        """The renderer of this plan's frames, and the arguments with features where something stands for them."""
        renderer = self.render_frames(plan_id, plan)
        return renderer, [self.fetch(value, renderer.plan) if isinstance(value, Kept) else value for value in arguments]

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

    def fetch(self, kept: Kept, plan: Plan) -> "KeyframeFeatures":
        """The features, on this device. Chunks of one step that run here share them."""
        if self.features is None or self.features[0] != kept.key:
            reference = ray.get(self.store.find.remote(kept.key))
            if reference is None:
                raise FeaturesLostError(f"keyframe features {kept.key} are not in the store")
            try:
                packed: Packed = ray.get(reference[0])
            except ray.exceptions.ObjectLostError as error:
                raise FeaturesLostError(f"keyframe features {kept.key} are lost") from error
            features = {layer: (unpack(pre, plan), unpack(post, plan)) for layer, (pre, post) in packed.items()}
            self.features = (kept.key, features)
        return self.features[1]


def pack(tensor: "Tensor") -> NDArray[np.uint8]:
    """A tensor's bytes. Ray maps arrays into every reader's memory as they lie; bfloat16, which NumPy lacks, has bytes, too."""
    import torch

    return tensor.cpu().contiguous().view(torch.uint8).numpy()


def unpack(array: NDArray[np.uint8], plan: Plan) -> "Tensor":
    """The tensor of these bytes, of the plan's type and on its device. On a CPU it is shared memory: nobody may write to it."""
    import torch

    return torch.from_numpy(array).view(getattr(torch, plan.dtype)).to(plan.device)
