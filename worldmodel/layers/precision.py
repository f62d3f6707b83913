"""bf16 where the machine multiplies it fast, float32 elsewhere; products that follow their weight's dtype."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Settings of oneDNN's variable ONEDNN_MAX_CPU_ISA that leave its bfloat16 dot products out.
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


@cache
def _cpu_multiplies_bf16() -> bool:
    """True if the processor has bf16 dot products (4x float32 where measured, docs/performance.md) and may use them.

    Without them torch falls back on a reference routine, about 50 times slower than float32.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", ""))
    return (
        bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and limit.upper() not in _WITHOUT_BF16
    )


def _cpu_flags() -> set[str]:
    """Names of the processor's instruction sets; none where the system does not list them."""
    if hasattr(torch.cpu, "get_capabilities"):  # newer versions of torch
        return {name for name, has in torch.cpu.get_capabilities().items() if has is True}
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


_WORTH_BLOCKS = 2**14  # numbers of a weight


@cache
def _has_blocks(dtype: torch.dtype) -> bool:
    """True if torch can hold weights of this dtype in the order of oneDNN's kernels."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    if dtype == torch.float32:
        return True
    return dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """The dtype in which `device` multiplies matrices fastest without loss scaling: bfloat16 or float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32


def warn_if_slow(device: torch.device | str, dtype: torch.dtype) -> None:
    """Warn once per process if `device` multiplies matrices of `dtype` much more slowly than float32."""
    on_cpu = torch.device(device).type == "cpu"
    if (dtype == torch.float16 and on_cpu) or (dtype == torch.bfloat16 and fast_dtype(device) != dtype):
        _warn_once(f"{str(dtype).removeprefix('torch.')} {SLOW_PRODUCTS}")


SLOW_PRODUCTS = (
    "matrix products are up to 50 times slower than float32 on this device; use dtype='auto' or torch.float32"
)


@cache
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=4)


_own = threading.local()


@contextmanager
def autocast(device: torch.device | str, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Autocast to `dtype` (default: the device's fast one); none for float32."""
    dtype, outer = dtype or fast_dtype(device), in_own_autocast()
    _own.inside = True
    try:
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            yield
    finally:
        _own.inside = outer


def in_own_autocast() -> bool:
    """True inside `autocast` of this module, which the library chose itself, in this thread."""
    return getattr(_own, "inside", False)


def follow(x: Tensor, weight: Tensor) -> Tensor:
    """`x` in the dtype of the weight, unless autocast casts both: going through float32 would copy x twice."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)


class Linear(nn.Linear):
    """nn.Linear that casts its input to the weight's dtype: a model may hold bf16 products in a float32 body.

    A CPU multiplies a weight that is not in training in an order of its own (`_in_blocks`).
    """

    _blocks: tuple[int, int, Tensor] | None = None  # which weight, and that weight in the processor's order

    def reset_parameters(self) -> None:
        if self.weight.numel():  # a game without variables has none to predict, and torch would warn of that
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self._product(x, "none", "")

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of the layer's output, on the way out of the product where the processor's kernel can."""
        return self._product(x, "gelu", "none")

    def _product(self, x: Tensor, then: str, how: str) -> Tensor:
        """The product, and what the processor's kernel calls by these names after it."""
        # With few rows Python takes as long as the product: every line here counts.
        parameters = self._parameters  # where a module finds them, but later
        weight, bias = parameters["weight"], parameters["bias"]
        assert weight is not None
        if x.dtype != weight.dtype:
            x = follow(x, weight)
        if weight.requires_grad:  # in training: fused optimisers change a weight without counting its version up
            if self._blocks is not None:
                self._blocks = None
        elif not torch.is_grad_enabled() and x.dtype == weight.dtype:
            blocks = self._in_blocks(weight)
            if blocks is not None:
                return torch.ops.mkldnn._linear_pointwise.default(x, blocks, bias, then, [], how)
        made = F.linear(x, weight, bias)
        return F.gelu(made) if then == "gelu" else made

    def _in_blocks(self, weight: Tensor) -> Tensor | None:
        """The weight as the processor's kernel wants it, made anew when the weight has changed; None if not worth it.

        Without it each product would bring the weight into that order first, which for few rows costs more than the
        product (docs/performance.md). Equal to the plain product, bit for bit in bfloat16. What is written through
        `weight.data` is not seen: torch does not count it. Write under `torch.no_grad()`.
        """
        place, version = weight.data_ptr(), 0 if weight.is_inference() else weight._version
        kept = self._blocks
        if kept is not None and kept[0] == place and kept[1] == version:
            return kept[2]
        if not weight.is_cpu or weight.numel() < _WORTH_BLOCKS or not _has_blocks(weight.dtype):
            return None
        blocks = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self._blocks = place, version, blocks
        return blocks

    def forget(self) -> None:
        """Bring the weight into the processor's order anew when it is multiplied next."""
        self._blocks = None

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.forget()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_blocks": None}  # the processor's order is neither copied nor sent


class Conv3d(nn.Conv3d):
    """nn.Conv3d that casts its input to the weight's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(follow(x, self.weight))


class ConvTranspose3d(nn.ConvTranspose3d):
    """nn.ConvTranspose3d that casts its input to the weight's dtype."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(follow(x, self.weight), output_size)


class EmbeddingSum(nn.Embedding):
    """The sum of several entries of a table, which is held in the dtype of the products it is added to."""

    def forward(self, entries: Tensor) -> Tensor:
        """(..., n) int64 -> (..., D), looked up and summed in one go: a tenth of the time of one after the other."""
        return F.embedding_bag(entries.flatten(0, -2), self.weight, mode="sum").unflatten(0, entries.shape[:-1])


def cast_products(module: nn.Module, dtype: torch.dtype) -> None:
    """Hold the weights of all matrix products in `dtype`; norms, positions, codebooks and residual sums stay.

    The arithmetic equals that of autocast, without casting every weight in every call.
    """
    for layer in module.modules():
        if isinstance(layer, Linear | EmbeddingSum | Conv3d | ConvTranspose3d):
            layer.to(dtype)
        if isinstance(layer, Linear):
            layer.forget()


def uncast_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and tensors of a module's state that `cast_products` leaves as they are."""
    cast = {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in module.named_modules()
        if isinstance(layer, Linear | EmbeddingSum | Conv3d | ConvTranspose3d)
        for name in layer.state_dict()
    }
    return [(name, tensor) for name, tensor in module.state_dict().items() if name not in cast]
