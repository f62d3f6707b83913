"""A linear layer that keeps its weight in the memory layout of the CPU's matmul kernel."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.cpu.features import has_onednn_layouts, longest_stable_sum

_WORTH_A_LAYOUT = 2**14  # elements of a weight


class CachedLayoutLinear(nn.Linear):
    """nn.Linear whose weight, outside training, is also held in oneDNN's layout.

    Otherwise every matmul would first reorder the weight, which for few rows costs more than the matmul itself
    (docs/performance.md). Equal to the plain matmul, bit for bit in bfloat16, except where the processor's kernels
    choose by the number of rows how they add up a long sum: there it is added up in pieces, so that a row is rounded
    alike whatever other rows are in the batch. Changes written through `weight.data` are missed, because torch does not
    count them: write under `torch.no_grad()`, or call `forget`.
    """

    # Address and version of the weight, and its pieces in oneDNN's layout: usually one.
    _cached: tuple[int, int, tuple[Tensor, ...]] | None = None

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
            pieces = self._reordered(weight)
            if pieces is not None and len(pieces) == 1:
                how = "none" if activation == "gelu" else ""  # GELU without tanh
                return torch.ops.mkldnn._linear_pointwise.default(x, pieces[0], bias, activation, [], how)
            if pieces is not None:
                out = _sum_of_pieces(x, pieces, bias)
                return F.gelu(out) if activation == "gelu" else out
        out = F.linear(x, weight, bias)
        return F.gelu(out) if activation == "gelu" else out

    def _reordered(self, weight: Tensor) -> tuple[Tensor, ...] | None:
        """The weight in oneDNN's layout, in pieces of its inputs, updated after changes; None if it does not pay."""
        address, version = weight.data_ptr(), 0 if weight.is_inference() else weight._version
        kept = self._cached
        if kept is not None and kept[0] == address and kept[1] == version:
            return kept[2]
        if not weight.is_cpu or weight.numel() < _WORTH_A_LAYOUT or not has_onednn_layouts(weight.dtype):
            return None
        parts = weight.detach().split(longest_stable_sum(weight.dtype), dim=1)
        pieces = tuple(torch.ops.mkldnn._reorder_linear_weight(part.contiguous(), None) for part in parts)
        self._cached = address, version, pieces
        return pieces

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


def _sum_of_pieces(x: Tensor, pieces: tuple[Tensor, ...], bias: Tensor | None) -> Tensor:
    """x W^T + b, the products with one piece of W's inputs added to those with the pieces before it."""
    first, *others = x.split(longest_stable_sum(x.dtype), dim=-1)
    out = torch.ops.mkldnn._linear_pointwise.default(first, pieces[0], bias, "none", [], "")
    for part, piece in zip(others, pieces[1:], strict=True):
        out = torch.ops.mkldnn._linear_pointwise.binary(part, out, piece, None, "add")
    return out
