"""Memory that the C library keeps for itself.

glibc gives threads arenas of their own, up to eight a processor, and keeps what is freed in each. A worker has some
twenty threads, each of which makes large arrays now and then: measured with 10,000 series, a fifth of its resident
memory was freed memory in arenas (``mallopt(3)``).
"""

from __future__ import annotations

import contextlib
import ctypes

# malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

ARENAS = 2

LARGE = 1_000_000
"""Blocks of so many bytes are given back to the system as soon as they are freed. By default the limit grows."""


def return_freed_memory() -> None:
    """Keep little freed memory; does nothing where the C library is not glibc. Call it before threads start."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((M_ARENA_MAX, ARENAS), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, LARGE)):
            mallopt(option, value)
