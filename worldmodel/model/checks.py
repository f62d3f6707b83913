"""Argument checks for `WorldModel`.

Letters: B rows, A dimensions of an action, K starts, T steps, h w latent grid, M slices, G signals.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.dynamics import DreamState
from worldmodel.dynamics.sampling import as_seeds
from worldmodel.model.batches import FIRST, Starts
from worldmodel.model.network import Network
from worldmodel.model.state_checks import check_of_world


def check_dreams(network: Network) -> None:
    """ValueError if the model cannot code, draw and decode one step at a time."""
    reasons = {
        "clip": "it codes a whole clip at once: every code depends on frames after it, and no step can be decoded "
        "before the clip is complete",
        "causal": "decoding a step needs the steps before it, which a dream's state does not hold",
    }
    temporal = network.config.tokenizer.temporal
    if temporal in reasons:
        raise ValueError(
            f'a tokenizer with temporal="{temporal}" cannot dream, since {reasons[temporal]}. '
            'Make whole videos with sample(…), or train one with temporal="step"'
        )
    if network.dynamics.cannot_dream:
        raise ValueError(f"these dynamics cannot dream: {network.dynamics.cannot_dream}")


def check_mode(network: Network) -> None:
    """ValueError in training mode if that would change what a model draws: dropout, or norms over the batch."""
    if not network.training:
        return
    noisy = (nn.Dropout, nn.modules.batchnorm._BatchNorm)
    if any(isinstance(part, noisy) and part.training and getattr(part, "p", 1.0) for part in network.modules()):
        raise ValueError(
            "the world model is in training mode, in which dropout and batch norms change what it dreams: call "
            "wm.prepare() or wm.eval() first"
        )


def check_seeds(seeds: Sequence[int] | Tensor | None, rows: int, device: torch.device) -> Tensor:
    """One seed per row, (B,) int64; 0, 1, … if None."""
    return as_seeds(range(rows) if seeds is None else seeds, rows, device)


def check_signals(network: Network, signals: Tensor | np.ndarray | None, rows: int) -> Tensor:
    """Game variables (B, G) float32 on the model's device, the usual ones if None; ValueError if they are invalid."""
    if signals is None:
        signals = network.usual_signals.expand(rows, -1)
    given = torch.as_tensor(signals, dtype=torch.float32)
    wanted = (rows, len(network.config.signal_names))
    if given.shape != wanted:
        raise ValueError(f"signals must be {wanted}, got {tuple(given.shape)}")
    if given.device.type == "cpu" and not given.isfinite().all():  # on a GPU the check would make the host wait
        raise ValueError(f"signals must be finite; give None for the world's usual ones, got {given.tolist()}")
    return given.to(network.device)


def check_state(network: Network, state: DreamState) -> DreamState:
    """The state, with its cache in the dtype of the model's; ValueError if it belongs to another model.

    A state from a file or from another instance is checked in full once, and then marked as this model's.
    """
    check_mode(network)
    state.check_fresh()
    if state.world is not network:
        check_of_world(network, state)
        state.world = network
    cache = state.cache
    dtype = network.dynamics.cache_dtype
    if cache.keys[0].dtype == dtype:
        return state
    return state.with_cache(cache.map(lambda t: t.to(dtype) if t.is_floating_point() else t.clone()))


def check_actions(
    network: Network, actions: Tensor | np.ndarray, lead: Sequence[int], steps: int | None = None
) -> Tensor:
    """Actions of shape `lead`, or (*lead, steps), on the model's device; ValueError if they are invalid."""
    spec = network.config.action
    dtype = torch.int64 if spec.kind == "discrete" else torch.float32
    given = torch.as_tensor(actions)
    actions = given.to(network.device)
    wanted = (*lead, *(() if steps is None else (steps,)), *spec.shape)
    if actions.is_floating_point() != dtype.is_floating_point or actions.shape != wanted:
        raise ValueError(f"actions must be {dtype} of shape {wanted}, got {actions.dtype} {tuple(actions.shape)}")
    if given.device.type == "cpu" and given.numel():  # on a GPU the check would make the host wait
        spec.check(given.to(dtype).flatten(0, -1 - len(spec.shape)).numpy())
    return actions.to(dtype)


def check_starts(network: Network, starts: Starts, prefix: str = "") -> None:
    """ValueError if these starts do not fit the model: their shapes, types or values."""
    action, tokenizer = network.config.action, network.tokenizer
    count, steps = starts.codes.shape[:2] if starts.codes.ndim > 1 else (0, 0)
    wanted = {
        "codes": (count, steps, *tokenizer.grid, tokenizer.num_slices),
        "actions": (count, steps - 1, *action.shape),
        "signals": (count, steps, len(network.config.signal_names)),
    }
    for name, shape in wanted.items():
        if not count or not steps or getattr(starts, name).shape != shape:
            found = tuple(getattr(starts, name).shape)
            raise ValueError(f"{prefix}{name} of the start segments must be {shape}, at least one, got {found}")
    if starts.codes.min() < 0 or starts.codes.max() >= tokenizer.num_codes:
        raise ValueError(f"{prefix}codes of the start segments must be in [0, {tokenizer.num_codes})")
    for name, wanted_dtype in (("actions", action.torch_dtype), ("signals", torch.float32)):
        if (dtype := getattr(starts, name).dtype) != wanted_dtype:
            raise ValueError(f"{prefix}{name} of the start segments must be {wanted_dtype}, got {dtype}")
    if not starts.signals.isfinite().all():
        raise ValueError(f"{prefix}signals of the start segments must be finite")
    action.check(starts.actions.flatten(0, 1).cpu().numpy())
    if starts.first is not None:
        check_starts(network, starts.first, FIRST)
