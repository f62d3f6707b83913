"""Planner: dreams many plans ahead and executes the first action of the best one.

It needs no training, only a world model and a reward. The dream tracks the game through its observations (`observe`),
and all plans of all env rows are dreamt in one batch (`branch`).

Letters: n env rows = B rows, N plans of a row, K futures of a plan, H steps, A dimensions of an action, G signals,
h w latent grid, M slices.
Source: planning with the cross-entropy method in a latent space, PlaNet (arXiv:1811.04551); the best plan is kept and
shifted as in iCEM (arXiv:2008.06389). Differs: futures are sampled, and codes are discrete.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.agents.planner.config import PlannerConfig, plan_returns
from worldmodel.agents.planner.proposals import hold, later_plan, make_proposals
from worldmodel.agents.policy import Policy, Rows
from worldmodel.data import ActionSpec
from worldmodel.dynamics import DreamState
from worldmodel.dynamics.sampling import uniforms
from worldmodel.envs.dream.rules import RewardFunction, Transition
from worldmodel.errors import did_you_mean
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_dreams
from worldmodel.model.outputs import Branches

_KEPT = 0.1  # weight of the old proposals when "cem" fits new ones


class Planner(Policy):
    """Plans in a world model, for n env rows in one batch; needs `obs="codes"` of a dream or a `DreamView`.

    A row's draws depend on its seed (`seed_rows`) and on its number of plans since then, not on the other rows.

    Args:
        world: the model to dream in.
        config: how to plan.
        reward_fn: returns rewards (B,) for a `Transition` of B dreamt steps, instead of the model's reward head; the
            same function as the `reward_fn` of a dream env.
        seed: of the draws, until `seed_rows` seeds each row.
        signals: game variables by name at the first step of an episode, such as {"HEALTH": 100}; missing ones start at
            the median of the model's start segments. After the first step the heads predict them.

    Raises:
        ValueError: the model cannot dream from a single step; the message says why.

    Example:
        >>> import numpy as np
        >>> from worldmodel import WorldModel
        >>> from worldmodel.agents.planner import Planner, PlannerConfig
        >>> world = WorldModel.from_pretrained("doom-hg")
        >>> config = PlannerConfig(horizon=3, candidates=4, iterations=1, elites=2)
        >>> planner = Planner(world, config, signals={"HEALTH": 100})
        >>> actions = planner.act(np.zeros((1, 2, 8, 4), np.int64))  # codes of one env
        >>> actions.shape
        (1,)
    """

    action_spec: ActionSpec

    def __init__(
        self,
        world: WorldModel,
        config: PlannerConfig = PlannerConfig(),  # noqa: B008 (frozen)
        reward_fn: RewardFunction | None = None,
        *,
        seed: int = 0,
        signals: Mapping[str, float] | None = None,
    ) -> None:
        check_dreams(world)
        if world.config.dynamics.frame_condition > 1:
            raise ValueError(
                f"a planner starts from one step, but this model needs {world.config.dynamics.frame_condition} "
                "(frame_condition); train one with a frame_condition of 0 or 1"
            )
        self.world = world
        self.action_spec = world.config.action.held
        self.config = config
        self.reward_fn = reward_fn
        self._proposals = make_proposals(self.action_spec, config.horizon)
        self._first_signals = _first_signals(world, signals or {})
        self._seed = seed
        self._seeds = np.zeros(0, np.int64)  # of the rows; there may be more of them than playing rows
        self._drawn = np.zeros(0, np.int64)  # rounds drawn by each row since it was seeded
        self._informed: np.ndarray | None = None  # (n, G) signals of the last step, NaN where unknown
        self._state: DreamState | None = None  # None: no row plays, and the following do not exist
        self._fresh: np.ndarray  # (n,) bool, rows in which an episode begins
        self._done: np.ndarray  # (n,) executed steps of each row's plan
        self._plans: Tensor  # (n, H, …)
        self._parameters: Tensor  # (n, H, …) of the proposals
        self._last: Tensor  # (n, …) actions

    # --- the policy ----------------------------------------------------------------------------------------------

    def reset(self, rows: np.ndarray | None = None) -> None:
        if rows is None:
            self._state = self._informed = None
        elif self._state is not None:
            self._fresh[rows] = True

    def seed_rows(self, rows: Rows, seeds: Sequence[int] | np.ndarray) -> None:
        self._grow(max(rows) + 1)
        self._seeds[rows] = np.asarray(seeds, np.int64)
        self._drawn[rows] = 0

    def acted(self, actions: np.ndarray) -> None:
        if self._state is None or np.shape(actions) != tuple(self._last.shape):
            raise ValueError(f"acted() follows act() with the actions of all rows, got shape {np.shape(actions)}")
        self._last = self._on_device(np.asarray(actions, self.action_spec.dtype))

    def inform(self, infos: Mapping[str, Any]) -> None:
        """Read the game variables of the last step from a vector env's infos."""
        count = next((len(values) for name, values in infos.items() if name.startswith("_")), 0)
        known = np.full((count, len(self.world.config.signal_names)), np.nan, np.float32)
        for index, name in enumerate(self.world.config.signal_names):
            if name in infos:
                known[:, index] = np.where(infos[f"_{name}"], infos[name], np.nan)
        # Infos of a partial reset hold only the reset rows.
        if self._informed is not None and len(self._informed) == count:
            known = np.where(np.isnan(known), self._informed, known)
        self._informed = known if count else None

    @own_defaults
    @torch.inference_mode()
    def act(self, observations: np.ndarray, signals: np.ndarray | None = None) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32.

        Args:
            observations: (n, h, w, M) int64, the codes of the last step.
            signals: (n, G), the game variables after it, NaN where unknown; None: those read by `inform`. Unknown ones
                are predicted by the heads.
        """
        self._follow(self._checked(observations), self._informed if signals is None else signals)
        self._informed = None
        due = np.flatnonzero(self._done >= self.config.replan_every)
        at_once = self.config.batch // self.config.futures
        for first in range(0, len(due), at_once):
            self._plan(due[first : first + at_once])
        done = self._on_device(self._done)
        self._last = self._plans[torch.arange(len(done), device=done.device), done]
        self._done += 1
        return self._last.cpu().numpy()

    def _checked(self, observations: np.ndarray) -> Tensor:
        tokenizer = self.world.tokenizer
        wanted = (*tokenizer.grid, tokenizer.num_slices)
        if observations.shape[1:] != wanted or observations.dtype.kind != "i":
            raise ValueError(
                f"a planner needs codes, integers of shape (n, {', '.join(map(str, wanted))}), got "
                f'{observations.dtype} {observations.shape}; create the env, or its DreamView, with obs="codes"'
            )
        if self._state is not None and len(self._state) != len(observations):
            raise ValueError(
                f"this planner plays {len(self._state)} envs, got {len(observations)} observations; call reset() first"
            )
        return self._on_device(observations.astype(np.int64))

    def _grow(self, count: int) -> None:
        missing = range(len(self._seeds), count)
        seeds = [np.random.default_rng((self._seed, row)).integers(2**62) for row in missing]
        self._seeds = np.append(self._seeds, np.array(seeds, np.int64))
        self._drawn = np.append(self._drawn, np.zeros(len(missing), np.int64))

    def _whole(self, actions: Tensor) -> Tensor:
        """Actions in the model's format."""
        return self.world.config.action.hold(actions)

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.world.device)

    # --- following the game --------------------------------------------------------------------------------------

    def _follow(self, codes: Tensor, signals: np.ndarray | None) -> None:
        """Advance the dreams by the observed step, and begin those of new episodes."""
        count, state = len(codes), self._state
        if signals is not None and np.shape(signals) != (count, self._first_signals.shape[0]):
            wanted = (count, self._first_signals.shape[0])
            raise ValueError(f"signals must be {wanted}, the game variables of each row, got {np.shape(signals)}")
        if state is None:
            self._grow(count)
            self._fresh = np.ones(count, bool)
            self._done = np.zeros(count, np.int64)
            self._parameters = self._proposals.start(count, codes.device)
            plan = np.zeros((count, self.config.horizon, *self.action_spec.shape), self.action_spec.dtype)
            self._plans = self._on_device(plan)
        else:  # also steps rows of new episodes, without effect, since all rows share a clock
            state, _ = self.world.observe(state, self._whole(self._last), codes)
        fresh = self._on_device(np.flatnonzero(self._fresh))
        if len(fresh):
            clock = None if state is None else state.clock
            first = self._first_signals.expand(len(fresh), -1)
            begun = self.world.start_codes(codes[fresh, None], self._whole(self._plans[fresh, :0]), first, clock=clock)
            state = begun if state is None else state.put(fresh, begun)
            self._parameters[fresh] = self._proposals.start(len(fresh), codes.device)
            self._done[self._fresh] = self.config.replan_every
        assert state is not None  # if no row played before, all are fresh
        if signals is not None:
            given = self._on_device(np.asarray(signals, np.float32))
            state.signals.copy_(torch.where(given.isnan(), state.signals, given))
        self._state = state

    # --- planning ------------------------------------------------------------------------------------------------

    def _plan(self, rows: np.ndarray) -> None:
        """Make new plans for some rows."""
        assert self._state is not None
        config, index = self.config, self._on_device(rows)
        state = self._state.select(index)
        known = self._on_device(~self._fresh[rows])  # rows that have a plan
        best = later_plan(self._plans[index], config.replan_every)
        parameters = self._proposals.later(self._parameters[index], config.replan_every)
        each = torch.arange(len(rows), device=index.device)[:, None]
        for _ in range(config.rounds):
            quantiles, seeds = self._draw(rows)
            plans = self._proposals.draw(parameters, quantiles)
            # The best plan so far competes again and wins ties.
            plans[known, 0] = best[known]
            order = self._returns(state, plans, seeds).argsort(dim=1, descending=True, stable=True)
            best = plans[each[:, 0], order[:, 0]]
            known[:] = True
            if config.method == "cem":
                parameters = _KEPT * parameters + (1 - _KEPT) * self._proposals.fit(
                    plans[each, order[:, : config.elites]]
                )
        self._plans[index], self._parameters[index] = best, parameters
        self._done[rows] = 0
        self._fresh[rows] = False

    def _draw(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Quantiles of a round's plans (B, N, H, …), and the seeds of their futures (B, K)."""
        config = self.config
        seeds, drawn = self._on_device(self._seeds[rows]), self._on_device(self._drawn[rows])
        self._drawn[rows] += 1
        shape = (config.candidates, config.horizon, 1 + self._proposals.quantiles_per_step)
        numbers = uniforms(seeds, drawn, config.futures + int(np.prod(shape)))
        chance = numbers[:, config.futures :].unflatten(1, shape)
        quantiles = hold(chance[..., 1:], chance[..., 0], config.repeat)
        return quantiles, (numbers[:, : config.futures] * 2**24).long()

    def _returns(self, state: DreamState, plans: Tensor, seeds: Tensor) -> Tensor:
        """Returns (B, N) of plans (B, N, H, …): the mean over their futures, which begin with seeds (B, K)."""
        futures = seeds.shape[1]
        returns = []
        for part in plans.split(max(1, self.config.batch // (len(plans) * futures)), dim=1):
            actions = part.repeat_interleave(futures, dim=1)
            branches = self.world.branch(
                state,
                self._whole(actions),
                self.config.temperature,
                seeds.repeat(1, part.shape[1]),
                draw_ends=self.config.ends == "hard",
            )
            rewards = self._rewards(state, actions, branches)
            totals = plan_returns(rewards, branches.terminated, branches.termination_probability, self.config)
            returns.append(totals.unflatten(1, (-1, futures)).mean(-1))
        return torch.cat(returns, dim=1)

    def _rewards(self, state: DreamState, actions: Tensor, branches: Branches) -> Tensor:
        """Rewards (B, N, H) of dreamt steps, by the head or by one call of the given function."""
        if self.reward_fn is None:
            return branches.rewards
        lead = branches.rewards.shape
        start = state.signals[:, None, None].expand(-1, lead[1], -1, -1)
        before = torch.cat((start, branches.signals[:, :, :-1]), dim=2)
        names = self.world.config.signal_names
        step = Transition(
            actions=actions.flatten(0, 2),
            reward=branches.rewards.flatten(),
            terminated=branches.terminated.flatten(),
            signals=dict(zip(names, branches.signals.flatten(0, 2).unbind(-1), strict=True)),
            signals_before=dict(zip(names, before.flatten(0, 2).unbind(-1), strict=True)),
            codes=branches.codes.flatten(0, 2),
            _tokenizer=self.world.tokenizer,
        )
        rewards = torch.as_tensor(self.reward_fn(step), dtype=torch.float32, device=actions.device)
        if rewards.shape != step.reward.shape or not rewards.isfinite().all():
            raise ValueError(
                f"reward_fn must return a finite number for each of {len(step)} steps, ({len(step)},), got "
                f"{tuple(rewards.shape)}{'' if rewards.isfinite().all() else ' with values that are not finite'}"
            )
        return rewards.view(lead)


def _first_signals(world: WorldModel, given: Mapping[str, float]) -> Tensor:
    """(G,) float32, the game variables with which episodes begin."""
    names = world.config.signal_names
    for name in given:
        if name not in names:
            raise ValueError(f"this world has no signal {name!r}.{did_you_mean(name, names)}")
        if not math.isfinite(given[name]):
            raise ValueError(f"signals must be finite; omit {name} to use its default, got {given[name]}")
    values = world.usual_signals.cpu().clone()
    for index, name in enumerate(names):
        values[index] = given.get(name, values[index])
    return values.to(world.device)
