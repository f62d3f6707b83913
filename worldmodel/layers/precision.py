"""bf16 where the machine multiplies it fast, float32 elsewhere; products that follow their weight's dtype."""

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@cache
def _cpu_multiplies_bf16() -> bool:
    """True if the processor has bf16 dot products (4x float32 where measured, docs/performance.md)."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """The dtype in which `device` multiplies matrices fastest without loss scaling: bfloat16 or float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32


def autocast(device: torch.device | str, dtype: torch.dtype | None = None) -> AbstractContextManager:
    """Autocast to `dtype` (default: the device's fast one); does nothing for float32."""
    dtype = dtype or fast_dtype(device)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


class Linear(nn.Linear):
    """nn.Linear that casts its input to the weight's dtype: a model may hold bf16 products in a float32 body."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class Conv3d(nn.Conv3d):
    """nn.Conv3d that casts its input to the weight's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class ConvTranspose3d(nn.ConvTranspose3d):
    """nn.ConvTranspose3d that casts its input to the weight's dtype."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x.to(self.weight.dtype), output_size)


class Embedding(nn.Embedding):
    """nn.Embedding that is held in the dtype of the products it is added to."""


def cast_products(module: nn.Module, dtype: torch.dtype) -> None:
    """Hold the weights of all matrix products in `dtype`; norms, positions, codebooks and residual sums stay.

    The arithmetic equals that of autocast, without casting every weight in every call.
    """
    for layer in module.modules():
        if isinstance(layer, Linear | Embedding | Conv3d | ConvTranspose3d):
            layer.to(dtype)
