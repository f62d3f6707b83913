"""Finds matmuls in bfloat16, wherever they are made."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from worldmodel.layers import precision

_MORE = ("_linear_pointwise", "_convolution_pointwise", "mkldnn_convolution", "linear", "dot", "mv", "addmv")


class _Watch(TorchDispatchMode):
    """Counts matmuls; unless `fast`, refuses those in bfloat16."""

    def __init__(self, fast: bool) -> None:
        super().__init__()
        self._fast = fast
        self.products = self.in_bf16 = 0  # a test that saw none has shown nothing

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func.overloadpacket
        name = packet.__name__
        if packet in flop_registry or name in _MORE or name.startswith("_scaled_dot_product"):
            self.products += 1
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            found = any(x.dtype == torch.bfloat16 for x in tensors)
            self.in_bf16 += found
            if found and not self._fast:
                raise AssertionError(f"{func} of bfloat16 {[tuple(x.shape) for x in tensors]}")
        return func(*args, **(kwargs or {}))


@contextmanager
def fast_bf16(monkeypatch, fast: bool) -> Iterator[_Watch]:
    """Treats this processor as one with fast or slow bfloat16; if slow, a matmul in it raises AssertionError."""
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: fast)
    with _Watch(fast) as mode:
        yield mode
