"""Memory that tensors give back stays with the process, for the next ones.

glibc may return large blocks to the system and take new ones page by page; in a virtual machine that took a tenth to
all of the time of the work on them (docs/performance.md § Beginnings of dreams).
"""

import ctypes
import os
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_LARGEST_IN_HEAP = 32 * 2**20  # bytes; glibc takes no larger threshold
_KEPT = 2**30  # bytes of free memory at the heap's end


@cache
def keep_freed_memory() -> bool:
    """Let the process's main heap keep what is freed, up to 1 GiB at its end; True if it does.

    Only glibc is told, and not where the user told it otherwise: by its variables MALLOC_TRIM_THRESHOLD_,
    MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES.
    """
    told = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in told):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP) and mallopt(_TRIM_THRESHOLD, _KEPT))
