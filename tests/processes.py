"""How tests start processes that need torch."""

import multiprocessing

import pytest

# Forked ones need not import torch again, which takes seconds, and have no threads to miss: tests compute with one.
START = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
# Python 3.12 and later warn of forks.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
