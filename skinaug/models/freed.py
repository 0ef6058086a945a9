"""Memory that a network on a CPU frees and asks for again at every layer."""

from __future__ import annotations

import numpy as np

LARGEST = 31 * 2**20  # bytes; the C library learns from blocks of up to 32 MiB


def keep_freed_memory() -> None:
    """Let this process keep freed blocks of up to 31 MiB for whoever asks next.

    glibc hands what is larger than a threshold back to the system when it is freed, and each page costs again when it is next
    written. The threshold starts at 128 KiB and rises to the largest block that was freed so far (mallopt(3), M_MMAP_THRESHOLD):
    one that nobody writes to is freed here. Costs 62 MiB at most; other C libraries do as they did.
    """
    np.empty(LARGEST, np.uint8)
