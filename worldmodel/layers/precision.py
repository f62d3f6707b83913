"""bfloat16 where the hardware multiplies it fast, else float32; layers that follow the dtype of their weight."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.cpu.features import multiplies_bf16
from worldmodel.layers.cpu.linear import CachedLayoutLinear


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """The dtype of the fastest matmuls on `device` without loss scaling: bfloat16 or float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if multiplies_bf16() else torch.float32


def warn_if_slow(device: torch.device | str, dtype: torch.dtype) -> None:
    """Warn once per process if `device` multiplies matrices of `dtype` much more slowly than float32."""
    on_cpu = torch.device(device).type == "cpu"
    if (dtype == torch.float16 and on_cpu) or (dtype == torch.bfloat16 and fast_dtype(device) != dtype):
        _warn_once(f"{str(dtype).removeprefix('torch.')} {SLOW_PRODUCTS}")


SLOW_PRODUCTS = "matmuls are up to 50 times slower than float32 on this device; use dtype='auto' or torch.float32"


@cache
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=4)


_own = threading.local()


@contextmanager
def autocast(device: torch.device | str, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Autocast to `dtype` (default: the device's fast dtype); no autocast for float32."""
    dtype, outer = dtype or fast_dtype(device), in_own_autocast()
    _own.inside = True
    try:
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            yield
    finally:
        _own.inside = outer


def in_own_autocast() -> bool:
    """True inside `autocast` of this module in this thread."""
    return getattr(_own, "inside", False)


def follow(x: Tensor, weight: Tensor) -> Tensor:
    """Cast `x` to the weight's dtype, unless autocast casts both: going through float32 would copy x twice."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)


class Linear(CachedLayoutLinear):
    """nn.Linear that casts its input to the weight's dtype, so that a float32 model can hold bf16 matmuls."""

    def reset_parameters(self) -> None:
        if self.weight.numel():  # torch warns of empty weights, which a game without signals has
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.product(self._follow(x))

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of the layer's output, fused into the matmul where the processor can."""
        return self.product(self._follow(x), "gelu")

    def _follow(self, x: Tensor) -> Tensor:
        weight = self._parameters["weight"]
        assert weight is not None
        return x if x.dtype == weight.dtype else follow(x, weight)


def _learns_wrongly(layer: nn.Conv3d | nn.ConvTranspose3d, depth: int, width: int) -> bool:
    """Whether autocast to bfloat16 would give the layer's kernel a gradient of uninitialised memory.

    On a CPU that happens where the kernel is longer in time than the `depth` it is laid over, and where it strides
    along a `width` of one (torch 2.13 with oneDNN, avx512_bf16).
    """
    learns = layer.weight.requires_grad and torch.is_grad_enabled() and layer.weight.device.type == "cpu"
    return learns and (layer.kernel_size[0] > depth or (width == 1 and layer.stride[2] > 1))


class Conv3d(nn.Conv3d):
    """nn.Conv3d that casts its input to the weight's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        if _learns_wrongly(self, x.shape[2], x.shape[4]):
            with torch.autocast("cpu", enabled=False):
                return super().forward(follow(x, self.weight))
        return super().forward(follow(x, self.weight))


class ConvTranspose3d(nn.ConvTranspose3d):
    """nn.ConvTranspose3d that casts its input to the weight's dtype."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        depth, width = (
            (x.shape[axis + 2] - 1) * self.stride[axis] - 2 * int(self.padding[axis]) + self.kernel_size[axis]
            for axis in (0, 2)
        )
        if _learns_wrongly(self, depth, width):
            with torch.autocast("cpu", enabled=False):
                return super().forward(follow(x, self.weight), output_size)
        return super().forward(follow(x, self.weight), output_size)


class EmbeddingSum(nn.Embedding):
    """Sum of several entries of a table, held in the dtype of the matmuls that it is added to."""

    def forward(self, entries: Tensor) -> Tensor:
        """(..., n) int64 -> (..., D), looked up and summed in one call, which takes a tenth of the time of a loop."""
        return F.embedding_bag(entries.flatten(0, -2), self.weight, mode="sum").unflatten(0, entries.shape[:-1])


def cast_matmuls(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights of all matmuls to `dtype`; norms, positions, codebooks and residual sums stay.

    Equals autocast arithmetically, without casting every weight in every call.
    """
    for layer in module.modules():
        if isinstance(layer, Linear | EmbeddingSum | Conv3d | ConvTranspose3d):
            layer.to(dtype)
        if isinstance(layer, Linear):
            layer.forget()


def uncast_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and tensors of a module's state that `cast_matmuls` leaves unchanged."""
    cast = {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in module.named_modules()
        if isinstance(layer, Linear | EmbeddingSum | Conv3d | ConvTranspose3d)
        for name in layer.state_dict()
    }
    return [(name, tensor) for name, tensor in module.state_dict().items() if name not in cast]
