"""Out of memory: how to know it, and how to say which chunk would have fitted."""

import errno
import gc
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from renderer.errors import OutOfMemoryError
from renderer.frames import FrameRenderer
from renderer.heap import give_memory_back

# What grows with the number of frames that a method is given, and where these frames and their latents stand among its arguments.
SETTINGS = {"predict": ("chunk", 1), "decode": ("chunk", 0), "keyframe_features": ("method.keyframes", 1)}
# The last but one is all that oneDNN, which computes torch's convolutions on a CPU, has to say.
WORDS = ("out of memory", "allocate memory", "ALLOC_FAILED", "could not create a primitive", "can't start new thread")


def out_of_memory(error: BaseException | None) -> bool:
    """Is this how Python, NumPy or torch, on a GPU or a CPU, say that memory is short? Or does it come of such an error?

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    (True, True)
    """
    if error is None:
        return False
    short = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)
    return short or said or out_of_memory(error.__cause__ or error.__context__)


def within_memory(resolve: Callable[[], tuple[FrameRenderer, Sequence]], free: Callable[[], None], method: str) -> Any:
    """Call a method of FrameRenderer; where memory is short, once more with everything freed that can be made again.

    resolve: the renderer and the method's arguments. Raises OutOfMemoryError, which says what would fit, where that does not help.
    """

    def attempt() -> Any:
        renderer, given = resolve()
        return getattr(renderer, method)(*given)

    for call in (attempt, lambda: in_new_thread(attempt)):
        try:
            return call()
        except Exception as error:
            if not out_of_memory(error):
                raise
        free()
        free_unheld()
    raise OutOfMemoryError(f"{method} needs more memory than there is: {advice(*resolve(), method)}")


def in_new_thread(call: Callable[[], Any]) -> Any:
    """What the call returns or raises, from a thread of its own.

    Where oneDNN was refused memory while it made a convolution, it makes no other in that thread, however much is free by then; in
    another thread it does. Seen with torch 2.13 on Linux; tests/renderer/test_memory.py brings it about.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def free_unheld() -> None:
    """Free what nobody holds any more: cycles, the CUDA allocator's blocks, and the C library's where it can."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    give_memory_back()


def advice(renderer: FrameRenderer, arguments: Sequence, method: str) -> str:
    """What the person can do where a method of FrameRenderer ran out of memory. Tries it: half as many frames, a quarter, ..."""
    if method not in SETTINGS:
        return "a lower resolution= or a smaller model needs less"
    setting, at = SETTINGS[method]
    number = len(arguments[at]) if setting == "method.keyframes" else renderer.plan.config.chunk
    while number > 1:
        number //= 2
        if fits(renderer, method, at, arguments, number):
            return f"{setting}={number} fits (other pixels: it is another render)"
    return f"not even {setting}=1 fits: a lower resolution= or a smaller model needs less"


def fits(renderer: FrameRenderer, method: str, at: int, arguments: Sequence, number: int) -> bool:
    """Can the method be called with so many frames? Leaves nothing behind."""
    free_unheld()
    frames, latents = arguments[at : at + 2]
    fewer = [*arguments[:at], frames[:number], latents[:number], *arguments[at + 2 :]]
    config = replace(renderer.plan.config, chunk=number)
    with tempfile.TemporaryDirectory() as pictures:
        plan = replace(renderer.plan, config=config, pictures=Path(pictures))
        try:
            in_new_thread(partial(getattr(FrameRenderer(plan, renderer.networks, renderer), method), *fewer))
        except Exception as error:
            if not out_of_memory(error):
                raise
            return False
    return True
