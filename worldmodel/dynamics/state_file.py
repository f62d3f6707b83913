"""A dream state as one safetensors file: its tensors, and a header with its clock, its world and a checksum."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.files import atomic_write

_LATEST = 2**53  # larger clocks are invalid


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write `tensors` and metadata `about` them atomically, with a checksum of both."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(whole, temporary, metadata=dict(about) | {"sha256": _digest(whole, about)})


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write` wrote; older files have no checksum and no "world".

    Returns: the tensors, on the CPU, and {"clock", "shortest", "layers": int, "wraps": bool or None in older files,
    "world": str or None}.
    Raises: ValueError that names the file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
        checksum = about.pop("sha256", None)
        if checksum is not None and checksum != _digest(tensors, about):
            raise ValueError("it has changed since it was saved: its checksum differs")
        facts: dict[str, Any] = {name: int(about[name]) for name in ("clock", "shortest", "layers")}
        _check(tensors, **facts)
        facts["wraps"] = {None: None, "0": False, "1": True}[about.get("wraps")]
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        raise ValueError(f"{path} is not a saved dream state ({error}); write one with state.save(path)") from error
    return tensors, facts | {"world": about.get("world")}


def names(layers: int) -> set[str]:
    """Names of all tensors of a state except its extras."""
    parts = {f"{part}.{layer}" for part in ("keys", "values") for layer in range(layers)}
    return {"codes", "outputs", "signals", "seeds", "counter", "lengths"} | parts


def _check(tensors: Mapping[str, Tensor], clock: int, shortest: int, layers: int) -> None:
    """Raise ValueError unless this is a state of some world."""
    if not (0 < layers <= len(tensors) and 0 <= clock < _LATEST and -1 <= shortest < _LATEST):
        raise ValueError(f"layers, clock and shortest are {layers}, {clock} and {shortest}")
    if missing := names(layers) - tensors.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing)[:8])}")
    if unknown := [name for name in tensors.keys() - names(layers) if not name.startswith("extras.")]:
        raise ValueError(f"it has unknown tensors: {', '.join(sorted(unknown)[:8])}")
    rows = {name: tensor.shape[:1] for name, tensor in tensors.items()}
    if other := [name for name, count in rows.items() if count != rows["codes"] or not count]:
        raise ValueError(f"some tensors have another number of rows than its codes: {', '.join(sorted(other)[:8])}")


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(about.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
