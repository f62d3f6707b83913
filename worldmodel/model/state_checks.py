"""Full check of a dream state against a model: fingerprint, and the shapes, dtypes and values of its tensors.

Letters: B rows, T steps, S = h*w tokens, M slices, D width, G signals, W window in steps.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.model.network import Network

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_INTEGERS = (torch.int64,)


class _Wanted(NamedTuple):
    name: str
    tensor: Tensor
    shape: tuple[int, ...]  # without the rows
    dtypes: tuple[torch.dtype, ...]
    least: int = 0  # of integers
    most: int | None = None


def check_of_world(network: Network, state: DreamState) -> None:
    """ValueError if `state` belongs to another world, or holds values that no dream of this world can have.

    Waits for the device, so it is meant for states from elsewhere, not for every step.
    """
    rows = len(state)
    for name, tensor, shape, dtypes, least, most in _wanted(network, state):
        wanted, found = (rows, *shape), tuple(tensor.shape)
        if found != wanted:
            raise ValueError(f"{state.origin} is another model's: it has {name} of shape {found}, wanted {wanted}")
        if tensor.dtype not in dtypes:
            raise ValueError(f"{state.origin} has {name} of {tensor.dtype}, wanted {' or '.join(map(str, dtypes))}")
        if tensor.is_floating_point():
            if not tensor.isfinite().all():
                raise ValueError(f"{state.origin} has {name} that are not finite")
        elif tensor.numel() and not (least <= int(tensor.min()) and (most is None or int(tensor.max()) <= most)):
            raise ValueError(f"{state.origin} has {name} outside [{least}, {'…' if most is None else most}]")
    if state.cache.shortest > int(state.cache.lengths.min()):
        raise ValueError(f"{state.origin} has rows shorter than its shortest, {state.cache.shortest}")
    if not state.cache.wraps and int(state.cache.lengths.max()) > state.cache.clock:
        raise ValueError(f"{state.origin} has rows that begin before time 0, and says that it has none")
    theirs = state.world.fingerprint() if hasattr(state.world, "fingerprint") else state.world
    if theirs is not None and theirs != network.fingerprint():
        raise ValueError(f"{state.origin} is of another world: its keys and codes mean something else in this one")


def _wanted(network: Network, state: DreamState) -> Iterator[_Wanted]:
    config, tokenizer, cache = network.config.dynamics, network.tokenizer, state.cache
    count, shape = network.dynamics.cache_shape
    if (len(cache.keys), len(cache.values)) != (count, count):
        raise ValueError(
            f"{state.origin} is another model's: it has {len(cache.keys)} layers of keys, this model {count}"
        )
    codes = (*tokenizer.grid, tokenizer.num_slices)
    last = tokenizer.num_codes - 1
    yield _Wanted("codes", state.codes, codes, _INTEGERS, most=last)
    yield _Wanted("lengths", cache.lengths, (), _INTEGERS, most=shape[1])
    holds_codes = not network.dynamics.cache_dtype.is_floating_point
    cached = _INTEGERS if holds_codes else (cache.keys[0].dtype,) if cache.keys[0].dtype in _FLOATS else _FLOATS
    for kind, tensors in (("keys", cache.keys), ("values", cache.values)):
        for layer, tensor in enumerate(tensors):
            features = 0 if holds_codes and kind == "values" else shape[-1]
            yield _Wanted(f"{kind} of layer {layer}", tensor, (*shape[:-1], features), cached, most=last)
    yield _Wanted("outputs", state.outputs, (network.dynamics.tokens_per_step, config.width), _FLOATS)
    yield _Wanted("signals", state.signals, (len(network.config.signal_names),), (torch.float32,))
    yield _Wanted("seeds", state.seeds, (), _INTEGERS, least=-(2**63))
    yield _Wanted("counter", state.counter, (), _INTEGERS)
    extras, action = state.extras, network.config.action
    needed = (["codes", "actions"] if config.limited else []) + (["frames"] if config.frame_condition else [])
    if missing := [name for name in needed if name not in extras]:
        raise ValueError(f"{state.origin} is another model's: it lacks the extras {', '.join(missing)}")
    if config.limited:
        most = action.n - 1 if action.kind == "discrete" else None
        yield _Wanted("extras 'codes'", extras["codes"], (config.half, *codes), _INTEGERS, most=last)
        steps = (config.half - 1, *action.shape)
        yield _Wanted("extras 'actions'", extras["actions"], steps, (action.torch_dtype,), most=most)
    if config.frame_condition:
        yield _Wanted("extras 'frames'", extras["frames"], extras["frames"].shape[1:2], _FLOATS)
