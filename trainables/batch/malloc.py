"""Settings of the C library that keep freed memory in the process.

Every step makes and frees the same few large tensors. The C library hands those back to the
system, and each of their pages is zeroed and mapped anew in the next step: a fifth of the time of
a transformer's step. A process that trains keeps them.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (malloc.h)."""

MAPPED = 32 << 20
"""Bytes from which an allocation is mapped by itself and given back at once: glibc's largest."""

KEPT = 512 << 20
"""Bytes at the end of the heap that are kept when they are free."""


@cache
def keep_freed() -> None:
    """Keep freed memory for the next step; without glibc this does nothing."""
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, MAPPED)
            mallopt(M_TRIM_THRESHOLD, KEPT)
