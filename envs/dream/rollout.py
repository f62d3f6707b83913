"""The dreams of an env: begin, step, end. Everything stays on the model's device, without synchronising with the host.

Letters: B rows, n some of them, G signals.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.rules import DreamRules, Transition, one_per_row
from worldmodel.envs.spaces import observe
from worldmodel.envs.vectors import masked
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_state
from worldmodel.model.cuda_graphs import GraphedSteps

# What an env adds to its state; a row's key and the number of its next dream together decide that dream.
_OWN = {"env.return": torch.float32, "env.key": torch.int64, "env.number": torch.int64, "env.ended": torch.bool}
_RETURN = "env.return"  # (B,) float32 in the state: the sum of rewards of each row's dream so far


class TorchStep(NamedTuple):
    """One step of all rows, on the model's device."""

    observations: Tensor  # (B, …) in the dtype of the observation space
    rewards: Tensor  # (B,) float32
    terminations: Tensor  # (B,) bool
    truncations: Tensor  # (B,) bool; never with a termination
    infos: dict[str, Tensor]  # (B,) float32 each: "nll", "entropy", and the game variables by name

    def copied(self) -> "TorchStep":
        """The same in memory of its own; outside `torch.inference_mode` tensors that a policy can learn from."""
        infos = {name: tensor.clone() for name, tensor in self.infos.items()}
        seen, rewards, terminations, truncations = (tensor.clone() for tensor in self[:4])
        return TorchStep(seen, rewards, terminations, truncations, infos)


class Dreams:
    """B dreams of one model with one set of rules."""

    def __init__(self, model: WorldModel, obs: str, rules: DreamRules, graphs: bool = False) -> None:
        self.model, self.obs = model, obs
        self.model_step = GraphedSteps(model).step if graphs else model.step
        self.state: DreamState | None = None
        self.rules = rules

    @property
    def rules(self) -> DreamRules:
        return self._rules

    @rules.setter
    def rules(self, rules: DreamRules) -> None:
        if not isinstance(rules, DreamRules):
            raise TypeError(
                f"rules must be DreamRules, such as dataclasses.replace(env.rules, horizon=9), got {rules!r}"
            )
        self._end_condition = rules.end_condition(self.model.config.signal_names)
        self._rules = rules

    @property
    def running(self) -> DreamState:
        assert self.state is not None, "no dream has begun"
        return self.state

    def begin(self, rows: list[int] | None, fresh: DreamState, reset_clock: bool = False) -> Tensor:
        """Replace some rows (None: all) by n fresh dreams; returns their observations (n, …).

        The clock, on which rounding depends, keeps running, so that a row dreams the same alone and in a batch.

        Args:
            reset_clock: restart the clock of all rows, as if nothing had been dreamt before.
        """
        if not reset_clock and self.state is not None:
            fresh = self.model.at_clock(fresh, self.state.clock)
        fresh.extras[_RETURN] = torch.zeros(len(fresh), device=self.model.device)
        if self.state is not None:  # tensors that the caller added stay with their rows
            for name in self.state.extras.keys() - fresh.extras.keys():
                added = self.state.extras[name]
                fresh.extras[name] = added if rows is None else added[rows]
        observations = observe(self.model, fresh, self.obs)
        self.state = fresh if rows is None else self.running.put(rows, fresh)
        return observations

    @torch.inference_mode()
    def step(self, actions: Tensor) -> TorchStep:
        """Dream one step in every row."""
        before, rules = self.running, self.rules
        signals_before = self._by_name(before.signals)
        whole = self.model.config.action.hold(actions)
        state, out = self.model_step(before, whole, rules.temperature)
        rows, signals = len(actions), self._by_name(state.signals)
        transition = Transition(
            actions=actions,
            reward=out.reward,
            terminated=out.terminated,
            signals=signals,
            signals_before=signals_before,
            codes=out.codes,
            _tokenizer=self.model.tokenizer,
        )
        rewards, terminations = out.reward, out.terminated
        if rules.reward_fn is not None:
            rewards = one_per_row(rules.reward_fn(transition), rows, "reward_fn", torch.float32)
            if rewards.device.type == "cpu" and not rewards.isfinite().all():  # on a GPU this would synchronise
                raise ValueError(f"reward_fn must return finite numbers, got {rewards.tolist()}")
        if self._end_condition is not None:
            terminations = terminations | one_per_row(
                self._end_condition(transition), rows, "terminate_when", torch.bool
            )
        if rules.uncertainty_penalty:
            rewards = rewards - rules.uncertainty_penalty * out.entropy
        truncations = torch.zeros_like(terminations)
        if rules.horizon is not None:
            truncations |= state.counter >= rules.horizon
        if rules.max_uncertainty is not None:
            truncations |= out.entropy > rules.max_uncertainty
        state.extras[_RETURN] = state.extras[_RETURN] + rewards
        self.state = state
        seen = transition.frames()[:, -1] if self.obs == "rgb" else observe(self.model, state, self.obs)
        infos = {"nll": out.nll, "entropy": out.entropy} | signals
        return TorchStep(seen, rewards, terminations, truncations & ~terminations, infos)

    def signals(self) -> dict[str, Tensor]:
        """The game variables of all rows by name, (B,) each."""
        return self._by_name(self.running.signals)

    def episodes(self) -> tuple[Tensor, Tensor]:
        """Return (B,) float32 and length (B,) int64 of every row's dream so far."""
        return self.running.extras[_RETURN], self.running.counter

    def final(self, observations: np.ndarray, infos: Mapping[str, np.ndarray], ended: np.ndarray) -> dict[str, Any]:
        """Gymnasium's final observations and infos of the rows that ended, taken before their reset."""
        final_obs = np.full(len(ended), None, dtype=object)
        for row in np.flatnonzero(ended):
            final_obs[row] = observations[row].copy()
        returns, lengths = (to_numpy(values) for values in self.episodes())
        episode = {"episode": masked({"r": returns, "l": lengths}, ended), "_episode": ended.copy()}
        final_info = masked(infos, ended) | episode
        return {"final_obs": final_obs, "_final_obs": ended, "final_info": final_info, "_final_info": ended.copy()}

    def restore(self, state: DreamState) -> None:
        """Continue from a copy of a state: an env's, or one begun by the model."""
        state = check_state(self.model, state)
        for name, dtype in _OWN.items():
            tensor = state.extras.get(name)
            if tensor is not None and (tensor.shape != (len(state),) or tensor.dtype != dtype):
                raise ValueError(
                    f"{state.origin} has {name} of {tensor.dtype} {tuple(tensor.shape)}, wanted {dtype} ({len(state)},)"
                )
            if tensor is not None and tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"{state.origin} has {name} that are not finite")
        self.state = state.clone()
        self.state.extras.setdefault(_RETURN, torch.zeros(len(state), device=self.model.device))

    def _by_name(self, signals: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.model.config.signal_names, signals.unbind(1), strict=True))


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy values of all rows, (B,) each, to the host in a single transfer."""
    if not tensors:
        return {}
    return dict(zip(tensors, to_numpy(torch.stack(list(tensors.values()))), strict=True))
