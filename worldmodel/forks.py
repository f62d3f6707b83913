"""Torch in forked processes.

A fork copies only the calling thread. Torch's pool of OpenMP threads is then missing in the child, whose first parallel
operation would wait for it for ever; with one thread, torch needs no pool. `AsyncVectorEnv` forks by default on Linux,
after making an env in the parent.
"""

import os
import sys


def _after_fork_in_child() -> None:
    torch = sys.modules.get("torch")
    # Attributes are missing while another thread of the parent is still importing torch.
    if torch is not None and hasattr(torch, "set_num_threads") and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


def keep_torch_usable_after_forks() -> None:
    """Make every forked child of this process compute with one thread; call it once per process."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)
