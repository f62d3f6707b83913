"""Detect CPU features before using an instruction."""

import os
from functools import cache
from pathlib import Path

import torch

# Values of oneDNN's ONEDNN_MAX_CPU_ISA that disable its bfloat16 dot products.
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


@cache
def multiplies_bf16() -> bool:
    """True if the CPU has bf16 dot products (4x float32 where measured, docs/performance.md) and may use them.

    Without them torch uses a reference implementation about 50 times slower than float32.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", ""))
    return (
        bool(_flags() & {"avx512_bf16", "amx_bf16"})
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and limit.upper() not in _WITHOUT_BF16
    )


@cache
def longest_stable_sum(dtype: torch.dtype) -> int:
    """Inputs up to which oneDNN adds up a matmul alike for any number of rows; of more, its kernels choose by rows.

    They do so in bfloat16 on AMX from 512 inputs on, and in float32 on AVX-512 from 1,280 (measured with torch 2.13,
    docs/log.md, 2026-12-01).
    """
    if dtype == torch.bfloat16 and "amx_bf16" in _flags():
        return 384
    if dtype == torch.float32 and _flags() & {"avx512_f", "avx512f"}:
        return 1024
    return 2**31


def _flags() -> set[str]:
    """Names of the processor's instruction sets; empty if the system does not list them."""
    if hasattr(torch.cpu, "get_capabilities"):  # newer versions of torch
        return {name for name, has in torch.cpu.get_capabilities().items() if has is True}
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


@cache
def has_onednn_layouts(dtype: torch.dtype) -> bool:
    """True if torch can hold weights of this dtype in the memory layout of oneDNN's kernels."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    if dtype == torch.float32:
        return True
    return dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
