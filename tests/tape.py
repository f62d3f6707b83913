"""A recorder for tests that keeps what a CUDA graph keeps: operations, the memory they work on, the host's values of
then."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from worldmodel.model.cuda_graphs import Recorded
from worldmodel.model.outputs import StepOut


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """Those in lists, tuples and dicts; torch's own walk through any tree takes ten times as long."""
    if isinstance(tree, torch.Tensor):
        return [] if tree.is_mkldnn else [tree]  # weights in a processor's own order: only read
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, list | tuple):
        return []
    return [tensor for part in tree for tensor in tensors_in(part)]


def place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Tape(TorchDispatchMode):
    """While it is on, everything runs and is recorded; `rewind` undoes its changes to older memory."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[tuple] = []
        self.made: set[int] = set()  # the places of what was made meanwhile; kept alive by `recorded`
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        if func._schema.is_mutable:
            for tensor in given:
                if place(tensor) not in self.made and place(tensor) not in self.before:
                    storage = tensor.untyped_storage()
                    self.before[place(tensor)] = storage, storage.clone()
        older = {place(tensor) for tensor in given}
        out = func(*args, **kwargs)
        fresh = [(number, tensor) for number, tensor in enumerate(tensors_in(out)) if place(tensor) not in older]
        self.made.update(place(tensor) for _, tensor in fresh)
        self.recorded.append((func, args, kwargs, fresh))
        return out

    def rewind(self) -> None:
        for storage, content in self.before.values():
            storage.copy_(content)

    def repeat(self) -> None:
        for func, args, kwargs, fresh in self.recorded:
            out = func(*args, **kwargs)
            again = tensors_in(out) if fresh else []
            for number, mine in fresh:
                mine.copy_(again[number])


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
