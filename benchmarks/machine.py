"""Description of the machine and its matrix rate, printed at the head of every benchmark."""

import os
import platform
import time
from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.layers.precision import fast_dtype
from worldmodel.training.reports.markdown import machine


def matrix_rate(dtype: torch.dtype, device: str, repeats: int = 8) -> float:
    """FLOP/s of a square matmul, best of a few."""
    a, b = (torch.randn(2048, 2048, device=device).to(dtype) for _ in range(2))
    return 2 * 2048**3 / seconds_of(lambda: a @ b, repeats, device)


def seconds_of(run: Callable[[], object], repeats: int = 1, device: str = "cpu") -> float:
    """Duration of the fastest of several calls."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def flops_of(run: Callable[[], object]) -> float:
    """Multiplications and additions of the matmuls, convolutions and attentions in a call."""

    def blocks(x, weight, *_, out_shape, **__) -> int:
        return 2 * prod(out_shape) * x[-1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: blocks}) as counter:
        run()
    return counter.get_total_flops()


def describe(device: str) -> dict[torch.dtype, float]:
    """Print machine, versions and load; returns the matrix rates (FLOP/s) of this run by dtype."""
    name = torch.cuda.get_device_name() if device != "cpu" else machine()["cpu"]
    print(f"{name}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {platform.platform()}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}")
    if device == "cpu":
        limits = [f"{n}={os.environ[n]}" for n in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if n in os.environ]
        print(", ".join([f"torch uses {torch.backends.cpu.get_cpu_capability()}", *limits]))
    # Where bfloat16 is not fast, its product takes minutes.
    rates = {d: matrix_rate(d, device) for d in dict.fromkeys((torch.float32, fast_dtype(device)))}
    print(", ".join(f"{str(d).removeprefix('torch.')} {rate / 1e9:.0f} GFLOP/s" for d, rate in rates.items()))
    return rates
