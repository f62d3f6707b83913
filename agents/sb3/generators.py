"""The global random generators, which Stable-Baselines3 seeds and draws from: lent, and given back as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def restored_generators(seed: int | None = None) -> Iterator[None]:
    """Whatever is drawn inside, Python's, NumPy's and torch's generators go on afterwards as if nothing had been.

    Args:
        seed: of all three inside, in [0, 2**32); None: they go on from where they are.
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
