import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from worldmodel.layers.cpu.memory import keep_freed_memory
import numpy as np
kept = keep_freed_memory()
def work():
    for _ in range(4):  # 20 MiB given back at once, which glibc alone returns to the system
        blocks = [np.ones(5 * 2**20, np.uint8) for _ in range(4)]
        del blocks
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**variables):
    environment = {"PATH": "/usr/bin:/bin", "NUMPY_MADVISE_HUGEPAGE": "0", **variables}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_reused_without_requesting_new_pages():
    kept, faults = run()
    assert kept and faults < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_the_users_allocator_settings_stay():
    kept, faults = run(MALLOC_MMAP_THRESHOLD_="131072")
    assert not kept and faults > 5000
