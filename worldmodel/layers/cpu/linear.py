"""A linear layer that keeps its weight in the memory layout of the CPU's matmul kernel."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.cpu.features import has_onednn_layouts

_WORTH_A_LAYOUT = 2**14  # elements of a weight


class CachedLayoutLinear(nn.Linear):
    """nn.Linear whose weight, outside training, is also held in oneDNN's layout.

    Otherwise every matmul would first reorder the weight, which for few rows costs more than the matmul itself
    (docs/performance.md). Equal to the plain matmul, bit for bit in bfloat16. Changes written through `weight.data` are
    missed, because torch does not count them: write under `torch.no_grad()`, or call `forget`.
    """

    _cached: tuple[int, int, Tensor] | None = None  # address and version of the weight, and the reordered weight

    def product(self, x: Tensor, activation: Literal["none", "gelu"] = "none") -> Tensor:
        """x W^T + b, for x in the weight's dtype or under autocast, followed by the activation."""
        # With few rows, Python takes as long as the matmul, so every line here counts.
        parameters = self._parameters  # faster than attribute access
        weight, bias = parameters["weight"], parameters["bias"]
        assert weight is not None
        if weight.requires_grad:  # in training: fused optimisers change a weight without raising its version
            if self._cached is not None:
                self._cached = None
        elif not torch.is_grad_enabled() and x.dtype == weight.dtype:
            reordered = self._reordered(weight)
            if reordered is not None:
                how = "none" if activation == "gelu" else ""  # GELU without tanh
                return torch.ops.mkldnn._linear_pointwise.default(x, reordered, bias, activation, [], how)
        out = F.linear(x, weight, bias)
        return F.gelu(out) if activation == "gelu" else out

    def _reordered(self, weight: Tensor) -> Tensor | None:
        """The weight in oneDNN's layout, updated after changes; None if it does not pay off."""
        address, version = weight.data_ptr(), 0 if weight.is_inference() else weight._version
        kept = self._cached
        if kept is not None and kept[0] == address and kept[1] == version:
            return kept[2]
        if not weight.is_cpu or weight.numel() < _WORTH_A_LAYOUT or not has_onednn_layouts(weight.dtype):
            return None
        reordered = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self._cached = address, version, reordered
        return reordered

    @property
    def batch_invariant(self) -> bool:
        """True if the output of a row has the same bits whatever other rows are in the batch."""
        weight = self.weight
        return not (weight.requires_grad or torch.is_grad_enabled()) and self._reordered(weight) is not None

    def forget(self) -> None:
        """Drop the reordered weight; the next matmul reorders it again."""
        self._cached = None

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.forget()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_cached": None}  # the reordered weight is neither copied nor pickled
