"""Keep memory that tensors free in the process, for the next tensors.

glibc may return large blocks to the system and request new ones page by page; in a virtual machine that took between
10 and 100 % of the time of the work on them (docs/performance.md § Beginnings of dreams).
"""

import ctypes
import os
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_LARGEST_IN_HEAP = 32 * 2**20  # bytes; glibc's maximum for this threshold
_KEPT = 2**30  # bytes of free memory kept at the heap's end


@cache
def keep_freed_memory() -> bool:
    """Let the process's main heap keep freed memory, up to 1 GiB at its end; True if it does.

    Only for glibc, and not if the user has configured it with MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or
    GLIBC_TUNABLES.
    """
    variables = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in variables):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP) and mallopt(_TRIM_THRESHOLD, _KEPT))
