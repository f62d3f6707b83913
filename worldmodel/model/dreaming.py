"""Dreaming step by step: how a dream begins from given steps, goes on with an action, and renews a full context.

The functions behind `WorldModel.start_codes`, `step` and `imagine`, whose docstrings describe their arguments.

Letters: B rows, T given steps, N imagined steps, F frames of a step, H W C pixels, h w latent grid, M slices, E code
features, G signals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState, Sampling
from worldmodel.dynamics.sampling import uniforms
from worldmodel.layers.attention import KVCache
from worldmodel.model.checks import check_actions, check_dreams, check_seeds, check_state
from worldmodel.tokenizer import VQVAE

if TYPE_CHECKING:
    from worldmodel.model import WorldModel


@dataclass
class StepOut:
    """What one dreamt step gives; entry b belongs to row b."""

    codes: Tensor  # (B, h, w, M) int64
    reward: Tensor  # (B,) float32, expectation in the unit of the data
    terminated: Tensor  # (B,) bool
    termination_probability: Tensor  # (B,) float32
    signals: Tensor  # (B, G) float32, running values after the step, within the range of the training play
    nll: Tensor  # (B,) nats per step: how unlikely the model found the step it drew
    entropy: Tensor  # (B,) nats per step: how unsure it was
    outputs: Tensor = field(repr=False)  # (B, S, D) of the dynamics, which predicted the step
    _tokenizer: VQVAE = field(repr=False)
    _frames: Tensor | None = field(default=None, repr=False)

    @torch.inference_mode()
    def frames(self) -> Tensor:
        """The step's frames (B, F, H, W, C) uint8, decoded when first asked for."""
        if self._frames is None:
            self._frames = self._tokenizer.decode(self.codes.unsqueeze(1)).squeeze(1)
        return self._frames

    @torch.inference_mode()
    def latents(self) -> Tensor:
        """The code vectors (B, h, w, E) float32."""
        return self._tokenizer.code_vectors(self.codes)


class Branches(NamedTuple):
    """N futures of each of B rows; entry h follows action h."""

    rewards: Tensor  # (B, N, H) float32
    terminated: Tensor  # (B, N, H) bool
    termination_probability: Tensor  # (B, N, H) float32
    signals: Tensor  # (B, N, H, G) float32, running values
    nll: Tensor  # (B, N, H) nats per step
    codes: Tensor  # (B, N, H, h, w, M) int64


class Rollout(NamedTuple):
    """Imagined steps; entry n follows action n."""

    frames: Tensor  # (B, N, F, H, W, C) uint8
    rewards: Tensor  # (B, N) float32
    terminated: Tensor  # (B, N) bool
    codes: Tensor  # (B, N, h, w, M) int64


# --- steps -------------------------------------------------------------------------------------------------------


def start(
    wm: "WorldModel",
    codes: Tensor | np.ndarray,
    actions: Tensor | np.ndarray,
    signals: Tensor | np.ndarray | None,
    seeds: Sequence[int] | Tensor | None,
    clock: int | None,
    frames: Tensor | None,
) -> DreamState:
    """The state of dreams that go on from encoded steps."""
    check_dreams(wm)
    codes = torch.as_tensor(codes, device=wm.device)
    if codes.ndim != 5 or not codes.shape[1]:
        raise ValueError(f"codes must be (B, T, h, w, M) with at least one given step, got {tuple(codes.shape)}")
    codes = wm.tokenizer.check_codes(codes)
    actions = check_actions(wm, actions, codes.shape[:1], codes.shape[1] - 1)
    rows, num_signals = len(codes), len(wm.config.signal_names)
    if signals is None:
        signals = wm.usual_signals.expand(rows, -1)
    signals = torch.as_tensor(signals, dtype=torch.float32, device=wm.device)
    if signals.shape != (rows, num_signals):
        raise ValueError(f"signals must be ({rows}, {num_signals}), got {tuple(signals.shape)}")
    seeds = check_seeds(seeds, rows, wm.device)
    cache, outputs, extras = _burn_in(wm, codes, actions, frames)
    counter = torch.zeros(rows, dtype=torch.int64, device=wm.device)
    last = codes[:, -1].clone()
    state = DreamState(cache, last, outputs, signals.clone(), seeds.clone(), counter, cache.clock, extras, wm)
    return state if clock is None else at_clock(wm, state, clock)


def at_clock(wm: "WorldModel", state: DreamState, clock: int) -> DreamState:
    """The same dreams at another time, in memory of their own."""
    if isinstance(clock, bool) or not isinstance(clock, Integral) or clock < 0:
        raise ValueError(f"clock must be a whole number from 0 on, got {clock!r}")
    state = check_state(wm, state)
    return state.with_cache(wm.dynamics.move(state.cache, int(clock)))


def _burn_in(
    wm: "WorldModel", codes: Tensor, actions: Tensor, frames: Tensor | None = None
) -> tuple[KVCache, Tensor, dict[str, Tensor]]:
    """Cache, outputs and extras of a dream that goes on from codes (B, T, h, w, M) with actions (B, T-1, …)."""
    dynamics, config = wm.dynamics, wm.config.dynamics
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
            raise ValueError(f"the model wants {config.frame_condition} first steps, got {codes.shape[1]}")
        if frames is None:
            frames = wm.tokenizer.decode(codes[:, : config.frame_condition])
        vector = dynamics.frame_vector(frames, len(codes))
        assert vector is not None
        extras["frames"] = vector
    condition = dynamics.condition(len(codes), codes.shape[1] - 1 + config.lead, actions, extras.get("frames"))
    cache, outputs = dynamics.burn_in(codes.flatten(2, 3), condition, wm.tokenizer.codebook.lookup)
    return cache, outputs.to(wm.dynamics.start_token.dtype), extras


def _renew(wm: "WorldModel", state: DreamState) -> None:
    """Let the rows whose limited context is full begin again from its last half."""
    rows = (state.cache.lengths >= wm.config.dynamics.max_steps).nonzero().flatten()
    if len(rows):
        full = state.select(rows)
        cache, _, extras = _burn_in(wm, full.extras["codes"], full.extras["actions"])
        full.cache = wm.dynamics.move(cache, state.clock)
        full.extras |= extras
        state.put(rows, full)


def step(
    wm: "WorldModel",
    state: DreamState,
    action: Tensor | np.ndarray,
    temperature: float,
    given: Tensor | np.ndarray | None = None,
) -> tuple[DreamState, StepOut]:
    """One more step of every row, in the memory of `state`; with `given` codes, the one that came."""
    state = check_state(wm, state)
    if given is not None:
        given = torch.as_tensor(given, device=wm.device)
        if given.shape != state.codes.shape:
            raise ValueError(f"codes must be of shape {tuple(state.codes.shape)}, got {tuple(given.shape)}")
        given = wm.tokenizer.check_codes(given).flatten(1, 2)
    action = check_actions(wm, action, (len(state),))
    if wm.config.dynamics.limited:
        _renew(wm, state)
    noise = uniforms(state.seeds, state.counter, wm.dynamics.noise_per_step)
    condition = wm.dynamics.condition(len(state), 1, action[:, None], state.extras.get("frames"))
    options = Sampling(temperature=temperature)
    drawn, outputs = wm.dynamics.step(
        state.codes.flatten(1, 2), condition, state.cache, noise, wm.tokenizer.codebook.lookup, options, given
    )
    codes = drawn.codes.view_as(state.codes)
    heads = wm.heads(wm.head_inputs(outputs, codes), state.signals, wm.head_action(action))
    probability = wm.heads.termination_probability(heads)
    signals = wm.heads.signals_after(heads, state.signals)
    out = StepOut(
        codes=codes,
        reward=wm.heads.two_hot.mean(heads.reward),
        terminated=probability >= wm.heads.threshold,
        termination_probability=probability,
        signals=signals,
        nll=drawn.nll.sum(-1),
        entropy=drawn.entropy.sum(-1),
        outputs=outputs,
        _tokenizer=wm.tokenizer,
    )
    extras = dict(state.extras)
    if wm.config.dynamics.limited:
        half = wm.config.dynamics.half
        extras["codes"] = _last(torch.cat((extras["codes"], codes[:, None]), dim=1), half)
        extras["actions"] = _last(torch.cat((extras["actions"], action[:, None]), dim=1), half - 1)
    next_state = DreamState(
        state.cache, codes, outputs, signals, state.seeds, state.counter + 1, state.cache.clock, extras, wm
    )
    return next_state, out


def branch(
    wm: "WorldModel",
    state: DreamState,
    actions: Tensor | np.ndarray,
    temperature: float,
    seeds: Tensor | np.ndarray | Sequence[Sequence[int]] | None,
) -> Branches:
    """N futures of every row of `state`, which stays as it is."""
    actions = torch.as_tensor(actions)
    lead = actions.shape[1:3]
    if actions.ndim < 3 or not all(lead):
        raise ValueError(
            f"actions must be ({len(state)}, N, H, …), for N futures of H steps of each row, got {tuple(actions.shape)}"
        )
    actions = check_actions(wm, actions, (len(state), *lead))
    futures = lead[0]
    own = branch_seeds(state.seeds, futures) if seeds is None else torch.as_tensor(seeds, device=wm.device)
    if own.shape != (len(state), futures):
        raise ValueError(f"seeds must be ({len(state)}, {futures}), one for each future, got {tuple(own.shape)}")
    running = state.repeat(futures).reseed(own.flatten())
    outs = []
    for action in actions.flatten(0, 1).unbind(1):
        running, out = step(wm, running, action, temperature)
        outs.append(out)
    return Branches(
        *(
            torch.stack([getattr(out, name) for out in outs], dim=1).unflatten(0, (len(state), futures))
            for name in ("reward", "terminated", "termination_probability", "signals", "nll", "codes")
        )
    )


def branch_seeds(seeds: Tensor, futures: int) -> Tensor:
    """Seeds of N futures of rows with seeds (B,): (B, N) int64; the first keeps the row's own."""
    return seeds[:, None] ^ (torch.arange(futures, device=seeds.device) * 0x9E3779B1)


def imagine(
    wm: "WorldModel",
    frames: Tensor | np.ndarray,
    actions: Tensor | np.ndarray,
    context_actions: Tensor | np.ndarray | None,
    signals: Tensor | np.ndarray | None,
    seeds: Sequence[int] | Tensor | None,
    temperature: float,
) -> Rollout:
    """A dream along given actions, the first one taken after the last given step."""
    frames = torch.as_tensor(frames, device=wm.device)
    if torch.as_tensor(actions).ndim < 2:
        raise ValueError(f"actions must be (B, N, …), N of each row, got shape {tuple(torch.as_tensor(actions).shape)}")
    if not torch.as_tensor(actions).shape[1]:
        raise ValueError("imagine needs at least one action; each one makes a step")
    if context_actions is None:
        if frames.shape[1] > 1:
            raise ValueError(f"a context of {frames.shape[1]} steps needs context_actions, the actions between them")
        context_actions = torch.as_tensor(actions)[:, :0]
    state = wm.start(frames, context_actions, signals, seeds)
    steps = []
    for action in torch.as_tensor(actions, device=wm.device).unbind(1):
        state, out = wm.step(state, action, temperature)
        steps.append(out)
    codes = torch.stack([out.codes for out in steps], dim=1)
    rewards, terminated = (torch.stack([getattr(o, name) for o in steps], dim=1) for name in ("reward", "terminated"))
    return Rollout(wm.tokenizer.decode(codes), rewards, terminated, codes)


def _last(x: Tensor, steps: int) -> Tensor:
    """The last steps of (B, T, …), with zeros before them if there are fewer: (B, steps, …)."""
    missing = x.new_zeros(len(x), max(steps - x.shape[1], 0), *x.shape[2:])
    return torch.cat((missing, x), dim=1)[:, max(x.shape[1] - steps, 0) :]
