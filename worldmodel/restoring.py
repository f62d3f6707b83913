"""Builds modules from a config and loads their weights; a forged config cannot make it allocate much memory."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from worldmodel.checksums import check_sums
from worldmodel.errors import first_line
from worldmodel.tensor_files import Declared, misfits, not_finite, read_header, read_tensors

_Module = TypeVar("_Module", bound=nn.Module)
_Value = TypeVar("_Value")
_SPARE_BYTES = 2**30  # allowed for tables that are not saved, such as positions
_RANDOM = (Tensor.normal_, nn.init.normal_, nn.init.kaiming_uniform_, nn.init.uniform_)
# Tensors missing in older world models, including shipped ones; they keep their initial values.
_LATER_TENSORS = {"heads.end_scale", "heads.end_shift", "heads.signal_low", "heads.signal_high"}


def restore(
    folder: Path,
    make: Callable[[], _Module],
    parts: Callable[[_Module], Mapping[str, nn.Module]],
    *,
    among_others: bool = False,
) -> _Module:
    """Build a module with `make` and load its `parts` from the folder's model.safetensors.

    The module is first built on the meta device and compared with the header of the file, so that sizes that differ
    from the file's are refused before they are allocated.

    Args:
        among_others: the file may also hold other parts, which are ignored.

    Raises: ValueError, which names the file, if no module can be built from config.json; also see `fill`.
    """
    config, path = folder / "config.json", folder / "model.safetensors"
    declared = read_header(path)
    with _blaming(config), _at_most(1000 + 16 * len(declared)), torch.device("meta"), _ShapesOnly():
        rehearsal = make()
        own = parts(rehearsal)
        wanted = _states(own)
    _check_fit(path, _belonging(declared, own) if among_others else declared, wanted)
    held = sum(tensor.nbytes for tensor in (*rehearsal.parameters(), *rehearsal.buffers()))
    if held > _SPARE_BYTES + 8 * path.stat().st_size:
        raise ValueError(
            f"{config} requires tables of {held / 2**30:,.0f} GiB for weights of {path.stat().st_size / 2**20:,.1f} "
            "MiB; fetch or train it again"
        )
    with _blaming(config):
        module = make()
    fill(folder, parts(module), among_others=among_others)
    return module


def fill(folder: Path, parts: Mapping[str, nn.Module], *, among_others: bool = False) -> None:
    """Load model.safetensors into fresh modules; the names of part "x" begin with "x.".

    Raises: ValueError, which names the file, if it has missing or unknown tensors, other shapes or dtypes, or values
        that are not finite; or if a file of the folder does not match its SHA256SUMS.
    """
    path, fresh = folder / "model.safetensors", _states(parts)
    declared = read_header(path)
    later = _check_fit(path, _belonging(declared, parts) if among_others else declared, fresh)
    tensors = read_tensors(path)
    if among_others:
        tensors = _belonging(tensors, parts)
    if broken := not_finite(tensors, fresh):
        raise ValueError(
            f"{path} holds values that are not finite, in {', '.join(broken[:8])}; fetch or train it again"
        )
    check_sums(folder)
    tensors |= {name: fresh[name] for name in later}
    for prefix, part in parts.items():
        state = {n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")}
        with torch.no_grad():
            part.load_state_dict(state)


def _check_fit(path: Path, declared: dict[str, Declared], wanted: dict[str, Tensor]) -> set[str]:
    """ValueError unless the wanted tensors are declared; returns the names of those missing in older files."""
    later = set() if _LATER_TENSORS & declared.keys() else _LATER_TENSORS & wanted.keys()
    problems = misfits(declared, {name: tensor for name, tensor in wanted.items() if name not in later})
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ValueError(f"{path} does not fit its config.json: {shown}")
    return later


def _belonging(named: Mapping[str, _Value], parts: Mapping[str, nn.Module]) -> dict[str, _Value]:
    """The entries that belong to one of the parts by their prefix."""
    prefixes = tuple(f"{prefix}." for prefix in parts)
    return {name: value for name, value in named.items() if name.startswith(prefixes)}


def _states(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}": tensor for prefix, module in parts.items() for name, tensor in module.state_dict().items()
    }


@contextmanager
def _blaming(config: Path) -> Iterator[None]:
    """Report any error while building a module as one of the config: its values are valid, but do not go together."""
    try:
        yield
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"no module can be built from {config} ({why})") from error


class _ShapesOnly(TorchFunctionMode):
    """Leave out random values and ranges, for which torch's meta device imports its compiler and sympy (3 s)."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        named = named or {}
        if function in _RANDOM:
            return arguments[0] if arguments else named["tensor"]
        if function is torch.randn and "device" not in named:
            return torch.empty(*arguments, **named)
        if function is torch.arange and "device" not in named:
            return torch.empty(len(range(*arguments)), **{"dtype": torch.int64} | named)
        return function(*arguments, **named)


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Raise ValueError once more than `count` modules and tensors are created: `layers: 20000000` fails early."""
    mine, left = threading.get_ident(), count

    def counted(*_: Any) -> None:
        nonlocal left
        if threading.get_ident() != mine:
            return
        left -= 1
        if left < 0:
            raise ValueError("it has far more layers than model.safetensors has tensors")

    with ExitStack() as stack:
        for register in (
            hooks.register_module_parameter_registration_hook,
            hooks.register_module_buffer_registration_hook,
            hooks.register_module_module_registration_hook,
        ):
            stack.callback(register(counted).remove)
        yield
