"""Checked reading of safetensors files that may be damaged or forged: their headers and their tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

_FLOATS = ("F16", "BF16", "F32", "F64")  # dtypes in which weights may be stored


class Declared(NamedTuple):
    """A tensor as the header of its file declares it."""

    dtype: str  # safetensors' name: "F32"
    shape: tuple[int, ...]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn safetensors' errors into ValueError or FileNotFoundError with the file's name."""
    from safetensors import SafetensorError

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; the checkpoint is not complete")
    try:
        yield
    except (SafetensorError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); fetch or train it again") from error


def read_header(path: Path) -> dict[str, Declared]:
    """The declared tensors of a file; reads no data."""
    from safetensors import safe_open

    with _naming(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
        return {name: Declared(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU."""
    from safetensors.torch import load_file

    with _naming(path):
        return load_file(path)


def misfits(declared: dict[str, Declared], wanted: dict[str, Tensor]) -> list[str]:
    """Problems of a file's tensors as the state of modules: names, shapes, dtypes."""
    found = [f"missing {name}" for name in sorted(wanted.keys() - declared.keys())]
    found += [f"unknown {name}" for name in sorted(declared.keys() - wanted.keys())]
    for name, tensor in wanted.items():
        if name not in declared:
            continue
        dtype, shape = declared[name]
        if shape != tensor.shape:
            found.append(f"{name} has shape {shape}, wanted {tuple(tensor.shape)}")
        elif not (dtype in _FLOATS if tensor.is_floating_point() else dtype == _NAMES.get(tensor.dtype)):
            found.append(f"{name} is {dtype}, wanted {'a float type' if tensor.is_floating_point() else tensor.dtype}")
    return found


_NAMES = {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}


def not_finite(tensors: dict[str, Tensor], fresh: dict[str, Tensor]) -> list[str]:
    """Names of tensors with NaN, or with an infinity that the `fresh` module does not have at the same index."""
    found = []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.isfinite().all():
            continue
        unbounded = fresh[name].cpu().isinf() & (tensor == fresh[name].to("cpu", tensor.dtype))
        if not (tensor.isfinite() | unbounded).all():
            found.append(name)
    return found
