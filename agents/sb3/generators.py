"""Saving and restoring the global random generators, which Stable-Baselines3 seeds and draws from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def restored_generators(seed: int | None = None) -> Iterator[None]:
    """Restore the state of Python's, NumPy's and torch's global generators after the block.

    Args:
        seed: for all three inside the block, in [0, 2**32); None: they keep their state.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            if seed is not None:
                random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
