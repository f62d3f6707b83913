"""From context steps to the cache of a dream, at its start and whenever a limited context is full.

The context of a model with a table of `max_steps` positions in time is limited: when full, it restarts from its last
half, which the states of such a model carry as extras ("codes" and "actions").

Letters: B rows, T steps, h w latent grid, M slices.
"""

import torch
from torch import Tensor

from worldmodel.dynamics import DreamState, DynamicsConfig
from worldmodel.layers.attention import KVCache
from worldmodel.model.network import Network


def burn_in(
    network: Network, codes: Tensor, actions: Tensor, frames: Tensor | None = None
) -> tuple[KVCache, Tensor, dict[str, Tensor]]:
    """Cache, outputs and extras of a dream that starts from codes (B, T, h, w, M) and actions (B, T-1, …)."""
    dynamics, config = network.dynamics, network.config.dynamics
    if config.action_condition == "clip":
        raise ValueError("a model of whole clips needs all actions at once: use sample(actions=…)")
    extras: dict[str, Tensor] = {}
    if config.limited:
        inputs = codes.shape[1] - 1 + config.lead
        if inputs >= config.max_steps:
            kept = config.half
            codes, actions, frames = codes[:, -kept:], actions[:, actions.shape[1] - (kept - 1) :], None
        extras["codes"] = _last(codes, config.half)
        extras["actions"] = _last(actions, config.half - 1)
    if config.frame_condition:
        if codes.shape[1] < config.frame_condition:
            raise ValueError(f"the model needs {config.frame_condition} first steps, got {codes.shape[1]}")
        if frames is None:
            frames = network.tokenizer.decode(codes[:, : config.frame_condition])
        vector = dynamics.frame_vector(frames, len(codes))
        assert vector is not None
        extras["frames"] = vector
    condition = dynamics.condition(len(codes), codes.shape[1] - 1 + config.lead, actions, extras.get("frames"))
    cache, outputs = dynamics.burn_in(codes.flatten(2, 3), condition, network.tokenizer.lookup)
    return cache, outputs, extras


def renew(network: Network, state: DreamState) -> None:
    """Restart the rows whose limited context is full from the last half of it, in the memory of `state`."""
    config = network.config.dynamics
    if not config.limited:
        return
    rows = (state.cache.lengths >= config.max_steps).nonzero().flatten()
    if len(rows):
        full = state.select(rows)
        cache, _, extras = burn_in(network, full.extras["codes"], full.extras["actions"])
        full.cache = network.dynamics.move(cache, state.clock)
        full.extras |= extras
        state.put(rows, full)


def extras_after(config: DynamicsConfig, extras: dict[str, Tensor], codes: Tensor, action: Tensor) -> dict[str, Tensor]:
    """Extras after a step with codes (B, h, w, M) and the action that led to it; a new dict."""
    extras = dict(extras)
    if config.limited:
        extras["codes"] = _last(torch.cat((extras["codes"], codes[:, None]), dim=1), config.half)
        extras["actions"] = _last(torch.cat((extras["actions"], action[:, None]), dim=1), config.half - 1)
    return extras


def _last(x: Tensor, steps: int) -> Tensor:
    """The last steps of (B, T, …), padded with zeros in front if there are fewer: (B, steps, …)."""
    missing = x.new_zeros(len(x), max(steps - x.shape[1], 0), *x.shape[2:])
    return torch.cat((missing, x), dim=1)[:, max(x.shape[1] - steps, 0) :]
