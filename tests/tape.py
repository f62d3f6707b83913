"""A recorder for tests that keeps what a CUDA graph keeps: operations, the memory they work on, the host's values of
then."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from worldmodel.model.cuda_graphs import Recorded
from worldmodel.model.outputs import StepOut


def tensors_in(tree: Any) -> list[torch.Tensor]:
    leaves = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return [tensor for tensor in leaves if not tensor.is_mkldnn]  # weights in a processor's own order: only read


def places(tensors: list[torch.Tensor]) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in tensors}


class Tape(TorchDispatchMode):
    """While it is on, everything runs and is recorded; `rewind` undoes its changes to older memory."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[tuple] = []
        self.made: list[torch.Tensor] = []  # kept alive, as a graph keeps its memory
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        if func._schema.is_mutable:
            for tensor in given:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in places(self.made) | self.before.keys():
                    self.before[storage.data_ptr()] = storage, storage.clone()
        out = func(*args, **kwargs)
        fresh = [t for t in tensors_in(out) if not places([t]) & places(given)]
        self.made += fresh
        self.recorded.append((func, args, kwargs, fresh))
        return out

    def rewind(self) -> None:
        for storage, content in self.before.values():
            storage.copy_(content)

    def repeat(self) -> None:
        for func, args, kwargs, fresh in self.recorded:
            out = func(*args, **kwargs)
            given = places(tensors_in((args, kwargs)))
            again = [t for t in tensors_in(out) if not places([t]) & given]
            for mine, new in zip(fresh, again, strict=True):
                mine.copy_(new)


class Tapes:
    """Takes the place of `worldmodel.model.cuda_graphs.CudaGraphs`."""

    def __init__(self, device: torch.device) -> None:
        pass

    def __call__(self, once: Callable[[], object], step: Callable[[], StepOut]) -> Recorded:
        once()
        tape = Tape()
        with tape:
            out = step()
        tape.rewind()
        return Recorded(tape.repeat, out)
