"""Several processes as one training: each takes its share of every batch, gradients are averaged.

A process group exists when torchrun or Ray Train started the process; without one everything here is a no-op. All
processes must see the same run folder and the same data (one machine, or a shared file system).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from inspect import signature
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from worldmodel.devices import usable_device

Batch = TypeVar("Batch")

_PATIENCE = timedelta(hours=2)  # how long the others wait while one process encodes a store or evaluates


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def training_device(device: str) -> torch.device:
    """Where this process trains; "auto" is its own GPU if there is one."""
    if device != "auto":
        return usable_device(device)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


@contextmanager
def group() -> Iterator[None]:
    """Join the process group that torchrun announced in the environment; leave it at the end."""
    if "RANK" not in os.environ or size() > 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(training_device("auto"))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def share(batch: Batch, device: torch.device | str = "cpu") -> Batch:
    """This process's rows of a batch, on `device`: a tensor, or a dataclass of tensors, whose first axis is the rows.

    The shares of all processes, one after the other, are the batch.
    """
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{field.name: share(getattr(batch, field.name), device) for field in fields(batch)})
    if batch is None:  # a part that this model does not use
        return batch
    assert isinstance(batch, Tensor)
    if len(batch) % size():
        raise ValueError(f"a batch of {len(batch)} rows cannot be shared by {size()} processes; change batch_size")
    mine = batch.chunk(size())[rank()]
    if torch.device(device).type == "cuda":  # from pinned memory the copy does not hold up the host
        mine = mine.pin_memory()
    return mine.to(device, non_blocking=True)  # type: ignore[return-value]


class _Loss(nn.Module):
    """A model together with its loss, so that DistributedDataParallel sees the call."""

    def __init__(self, model: nn.Module, loss: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, batch: Any) -> Any:
        return self._loss(batch)


def averaging(model: nn.Module, loss: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The loss, whose gradients are averaged over all processes in the backward pass.

    Buffers stay as they are: the codebooks sum their statistics over the processes themselves.
    """
    if size() == 1:
        return loss
    renamed = "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # in torch 2.13
    no_buffers: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    return DistributedDataParallel(_Loss(model, loss), static_graph=True, **no_buffers)


def mean(value: Tensor) -> Tensor:
    """Mean over all processes of a scalar or vector."""
    if size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / size()


def first(make: Callable[[], Batch]) -> Batch:
    """What process 0 makes, in all processes; the others wait for it. It must be picklable (scores, not models)."""
    if size() == 1:
        return make()
    made = [make() if rank() == 0 else None]
    dist.broadcast_object_list(made, src=0)
    return made[0]  # type: ignore[return-value]
