"""What the C library does with memory that was freed. Only glibc keeps it, and only glibc has these calls."""

import contextlib
import ctypes

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h


def give_memory_back() -> None:
    """Have large blocks return to the system as soon as they are freed, and threads share one heap; return what is free now.

    Left alone, the C library keeps freed blocks, in pieces and for each thread of its own: a process that holds the latents of a
    long clip takes twice their memory, and one in which memory ended has less for its next try. Not for any process that
    computes: there it costs time.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
        library.mallopt(M_ARENA_MAX, 1)
        library.malloc_trim(0)
