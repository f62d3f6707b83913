"""What is asked of a world model, checked: seeds, actions, states, and whether it can dream at all.

Letters: B rows, A numbers of an action.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.dynamics.sampling import as_seeds
from worldmodel.model.state_checks import check_of_world

if TYPE_CHECKING:
    from worldmodel.model import WorldModel


def check_dreams(wm: "WorldModel") -> None:
    """Refuse a tokenizer whose steps cannot be dreamt one after the other."""
    reasons = {
        "clip": "it codes a whole clip at once: every code depends on frames after it, and no step can be decoded "
        "before the clip is complete",
        "causal": "decoding a step needs the steps before it, which a dream's state does not hold yet",
    }
    temporal = wm.config.tokenizer.temporal
    if temporal in reasons:
        raise ValueError(
            f'a tokenizer with temporal="{temporal}" cannot dream, since {reasons[temporal]}. '
            'Make whole videos with sample(…), or train one with temporal="step"'
        )


def check_seeds(seeds: Sequence[int] | Tensor | None, rows: int, device: torch.device) -> Tensor:
    """One seed per row, (B,) int64; 0, 1, … if None."""
    return as_seeds(range(rows) if seeds is None else seeds, rows, device)


def check_state(wm: "WorldModel", state: DreamState) -> DreamState:
    """A state of this model, its cache in the dtype of the model's products; ValueError for another model's.

    What another model dreamt, or comes from a file, is checked once: then it is this model's.
    """
    state.check_fresh()
    if state.world is not wm:
        check_of_world(wm, state)
        state.world = wm
    cache = state.cache
    dtype = wm.dynamics.token_in.weight.dtype
    if cache.keys[0].dtype == dtype:
        return state
    return state.with_cache(cache.map(lambda t: t.to(dtype) if t.is_floating_point() else t.clone()))


def check_actions(
    wm: "WorldModel", actions: Tensor | np.ndarray, lead: Sequence[int], steps: int | None = None
) -> Tensor:
    """Actions of shape `lead`, or (*lead, steps), each of the game's kind and range; on the model's device."""
    spec = wm.config.action
    dtype = torch.int64 if spec.kind == "discrete" else torch.float32
    given = torch.as_tensor(actions)
    actions = given.to(wm.device)
    wanted = (*lead, *(() if steps is None else (steps,)), *spec.shape)
    if actions.is_floating_point() != dtype.is_floating_point or actions.shape != wanted:
        raise ValueError(f"actions must be {dtype} of shape {wanted}, got {actions.dtype} {tuple(actions.shape)}")
    if given.device.type == "cpu" and given.numel():  # on a GPU the check would make the host wait
        spec.check(given.to(dtype).flatten(0, -1 - len(spec.shape)).numpy())
    return actions.to(dtype)
