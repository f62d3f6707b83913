"""Many dreams side by side: a native Gymnasium vector environment, one batched model step per env step.

Letters: B rows (dreams), N futures of H steps, F frames of a step, H W C pixels, h w latent grid, M slices, E features
of a code vector, D width of the dynamics, V codes.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel.data import ActionSpec
from worldmodel.dynamics import DreamState
from worldmodel.envs.actions import valid_actions
from worldmodel.envs.dream.given_starts import GivenStarts, check_options
from worldmodel.envs.dream.rollout import Dreams, TorchStep, to_host, to_numpy
from worldmodel.envs.dream.rules import DreamRules, EndCondition, RewardFunction
from worldmodel.envs.dream.start_pool import Beginnings, begin
from worldmodel.envs.dream.start_states import BothStarts, Source, make_source
from worldmodel.envs.registry import DOOM_STEPS_PER_SECOND, load_model, steps_per_second
from worldmodel.envs.spaces import check_observation_kind, observation_space, observe, show
from worldmodel.envs.vectors import NamesItsAdapter, as_autoreset_mode, key_of, masked, row_seeds, rows_to_reset
from worldmodel.errors import check_known, refuse_unknown
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_dreams
from worldmodel.model.outputs import Branches


class DreamVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray], metaclass=NamesItsAdapter):
    """B dreams of one world model; the agent's step is one latent step of the model.

    Row i of a batch seeded with s dreams what a `DreamEnv` seeded with s + i dreams. Frames are decoded only for
    `obs="rgb"`, in `render()`, and for a reward function that looks at them.

    `infos` holds, each with its mask ``_name``: ``nll`` and ``entropy`` (nats; how unlikely the sampled step was, and
    how unsure the model was), and each game variable under its name (``HEALTH``, ...), as predicted by the model. With
    "same_step", ``final_info["episode"]`` holds the return ``r`` and the length ``l`` of a dream that has ended
    (Gymnasium's own RecordEpisodeStatistics misses a step in this mode; in the others it is right).

    Args:
        num_envs: B.
        model: shipped name, checkpoint folder, or a `WorldModel`.
        obs: "rgb" (H, W, C) uint8, the step's last frame; "latent" (h, w, E) float32, the code vectors; "codes"
            (h, w, M) int64 in [0, V); "features" (h, w, D+E) float32, the dynamics' summary of the past concatenated
            with the code vectors, for policies without memory.
        temperature: of the codes' distribution; 0 takes the likeliest code.
        horizon: steps after which a row is truncated; None for no limit.
        seed_from: where dreams begin: "starts", segments of real episodes in the checkpoint; the folder of a store of
            the same game; "prior", steps generated from nothing (if the model has learned how videos begin).
        split: of the store: "train", "validation", "test" or "all".
        device: "auto" takes a GPU if there is one; a `WorldModel` stays where it is.
        autoreset_mode: "same_step", "next_step" or "disabled" (then `reset(options={"reset_mask": mask})`), as
            Gymnasium defines them.
        render_mode: "rgb_array" or None.
        reward_fn: replaces the model's rewards: a function of a `Transition` that returns (B,) float32, finite (checked
            only on a CPU; on a GPU the check would synchronise).
        terminate_when: ends dreams that the model would not end: a function of a `Transition` that returns (B,) bool,
            or a comparison of a game variable such as "HEALTH <= 0".
        max_uncertainty: nats; a step with more entropy truncates its dream.
        uncertainty_penalty: subtracted from the reward for each nat of a step's entropy.
        graphs: on a GPU, launch steps as CUDA graphs (`worldmodel.model.cuda_graphs`).
        starts: which starts of that source: "first", the first steps of episodes, as the real game begins; "middle",
            segments from mid-episode; or "all", alternating in each row. For checkpoints without first steps (older
            ones), "all" means "middle".

    Raises:
        ValueError: an option's value is not valid.
        TypeError: an option is unknown.
        FileNotFoundError: no such model.

    Example:
        >>> from worldmodel.envs import DreamVectorEnv
        >>> envs = DreamVectorEnv(4, "doom-hg", obs="latent", horizon=32)
        >>> observations, infos = envs.reset(seed=0)
        >>> observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
        >>> observations.shape, rewards.shape
        ((4, 2, 8, 128), (4,))
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": DOOM_STEPS_PER_SECOND}  # noqa: RUF012

    @own_defaults
    def __init__(
        self,
        num_envs: int = 1,
        model: WorldModel | str | os.PathLike = "doom-hgs",
        obs: Literal["rgb", "latent", "codes", "features"] = "rgb",
        temperature: float = 1.0,
        horizon: int | None = None,
        seed_from: str | os.PathLike = "starts",
        split: str = "train",
        device: str | torch.device = "auto",
        autoreset_mode: str | AutoresetMode = "same_step",
        render_mode: str | None = None,
        reward_fn: RewardFunction | None = None,
        terminate_when: EndCondition | str | None = None,
        max_uncertainty: float | None = None,
        uncertainty_penalty: float = 0.0,
        graphs: bool = False,
        starts: Literal["all", "first", "middle"] = "all",
        **unknown: object,
    ) -> None:
        refuse_unknown(unknown, DreamVectorEnv, max_episode_steps="horizon")
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if render_mode is not None:
            check_known("render_mode", render_mode, ["rgb_array"])
        check_observation_kind(obs)
        rules = DreamRules(  # before a model is loaded
            temperature=temperature,
            horizon=horizon,
            reward_fn=reward_fn,
            terminate_when=terminate_when,
            max_uncertainty=max_uncertainty,
            uncertainty_penalty=uncertainty_penalty,
        )
        self.autoreset_mode = as_autoreset_mode(autoreset_mode)
        self.model = load_model(model, device)
        check_dreams(self.model)
        speed = steps_per_second(self.model.config)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode, "render_fps": speed}
        self.num_envs, self.obs, self.render_mode = num_envs, obs, render_mode
        self.single_observation_space = observation_space(self.model, obs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self.model.config.action.held.to_gym()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._dreams = Dreams(self.model, obs, rules, graphs)
        self._seed_from, self._split, self._starts = seed_from, split, starts
        self._source = make_source(self.model, seed_from, split, starts)
        self._beginnings = Beginnings(self.model, self._source, num_envs)
        # These decide the rows' dreams: a key, drawn from the row's seed, and the number of its next dream.
        self._keys = np.array([key_of(None) for _ in range(num_envs)], np.int64)
        self._numbers = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, bool)  # rows that ended in the last step and await their reset
        self._stale = False  # whether torch calls have moved rows since `_observations` were taken
        self._observations = np.zeros(self.observation_space.shape, self.observation_space.dtype)

    # --- Gymnasium -----------------------------------------------------------------------------------------------

    @own_defaults
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new dreams in all rows, or in those of a mask.

        Args:
            seed: s gives row i the seed s + i; a list gives each row its own (None: continue the row's sequence).
            options: any of "reset_mask" (B,) bool: only these rows are reset; "from" and "starts": as `seed_from` and
                `starts`, for this reset only; or instead of them "frames" (T, F, H, W, C) or (B, T, F, H, W, C) uint8
                to start from, with "actions" (T-1, …) between them and "signals" {name: value} at the last one. One
                image, (H, W, C) or (B, H, W, C), or the path of a file is accepted too (see `GivenStarts`).

        Returns: observations of all rows, and infos of those that were reset.
        """
        options = options or {}
        check_options(options)
        rows = rows_to_reset(options, self.num_envs)
        if self._dreams.state is None and len(rows) < self.num_envs:
            raise ResetNeeded("No dream has begun: the first reset must be of all rows, without a reset_mask.")
        seeds = row_seeds(seed, self.num_envs)
        source = self._source_of(options, rows)
        for row in rows:
            if (row_seed := seeds[row]) is not None:
                self._keys[row], self._numbers[row] = key_of(row_seed), 0
                self._beginnings.forget(row)
        seeded = all(row_seed is not None for row_seed in seeds)
        self._begin(rows, source, reset_clock=seeded and len(rows) == self.num_envs)
        if self._stale:
            self._observe_all()
        mask = np.zeros(self.num_envs, bool)
        mask[rows] = True
        return self._observations.copy(), masked(to_host(self._dreams.signals()), mask)

    @own_defaults
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step in every row.

        Args:
            actions: (B,) integers, or (B, A) float32 within the bounds.

        Returns: observations (B, ...), rewards (B,) float32 in the unit of the real game's env, terminations and
            truncations (B,) bool, never both, and infos.
        """
        self.check_begun("step()")
        actions = valid_actions(self.single_action_space, actions, (self.num_envs,))
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeeded(
                f"The dreams in rows {np.flatnonzero(self._ended).tolist()} have ended, and autoreset is disabled. "
                'Call reset(), or reset(options={"reset_mask": mask}) for these rows alone.'
            )
        begun = self._ended.copy()  # in next_step mode these rows spend this step on their reset
        dreamt = self._dreams.step(torch.from_numpy(actions).to(self.model.device))
        self._observations[:], self._stale = to_numpy(dreamt.observations), False
        rewards = np.where(begun, np.float32(0), to_numpy(dreamt.rewards))
        terminations = to_numpy(dreamt.terminations) & ~begun
        truncations = to_numpy(dreamt.truncations) & ~begun
        ended = terminations | truncations
        infos = to_host(dreamt.infos)
        final: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            final, begun = self._dreams.final(self._observations, infos, ended) if ended.any() else {}, ended
        else:
            self._ended = ended.copy()
        everyone = np.ones(self.num_envs, bool)
        doubt = {name: infos.pop(name) for name in ("nll", "entropy")}
        if begun.any():
            self._begin(np.flatnonzero(begun), self._source)
            infos = to_host(self._dreams.signals())
        infos = masked(doubt, ~begun) | masked(infos, everyone) | final
        return self._observations.copy(), rewards, terminations, truncations, infos

    @own_defaults
    def render(self) -> tuple[np.ndarray | None, ...]:
        """The last frame of every row, (H, W, C) uint8, or None without a render mode."""
        if self.render_mode is None:
            return (None,) * self.num_envs
        self.check_begun("render()")
        return tuple(to_numpy(show(self.model, self._dreams.running.codes, "rgb")))

    # --- beyond Gymnasium ----------------------------------------------------------------------------------------

    @property
    def action_spec(self) -> ActionSpec:
        """The actions of each row, with names."""
        return self.model.config.action.held

    @property
    def rules(self) -> DreamRules:
        """Temperature, reward and end rules; may be replaced while dreams are running."""
        return self._dreams.rules

    @rules.setter
    def rules(self, rules: DreamRules) -> None:
        self._dreams.rules = rules

    @own_defaults
    def step_torch(self, actions: Tensor) -> TorchStep:
        """Dream one step with tensors on the model's device, without synchronising with it.

        Nothing is checked, and no row is reset: after an end a row keeps dreaming until `reset_torch` or `reset`. (A
        model with a limited context, not a sliding window, synchronises at every step to see whether it is full.)

        Args:
            actions: (B,) int64 or (B, A) float32.
        """
        self.check_begun("step_torch()")
        self._stale = True
        return self._dreams.step(actions).copied()

    @own_defaults
    def reset_torch(self, mask: Tensor) -> Tensor:
        """Begin new dreams in the rows of a mask (B,) bool; returns their observations (n, ...), in order of rows.

        Synchronises with the device to read the mask.
        """
        self.check_begun("reset_torch()")
        rows = mask.nonzero().flatten().cpu().numpy()
        self._stale = True
        if not len(rows):  # none has ended
            return torch.from_numpy(self._observations[:0]).to(self.model.device)
        return self._begin_torch(rows, self._source).clone()

    @property
    @own_defaults
    def state(self) -> DreamState:
        """A copy of everything that decides the rows' dreams, also after the next resets; set it to resume from it.

        Copies can be saved, loaded, and their rows selected or repeated. A state begun by the model
        (`env.model.start`) can be set too.
        """
        self.check_begun("state")
        self._beginnings.forget(slice(None))  # so that this env stays bit-identical to one resumed from the copy
        copy = self._dreams.running.clone()
        own = {"env.key": self._keys, "env.number": self._numbers, "env.ended": self._ended}
        copy.extras |= {name: torch.tensor(values, device=self.model.device) for name, values in own.items()}
        return copy

    @state.setter
    @own_defaults
    def state(self, state: DreamState) -> None:
        if len(state) != self.num_envs:
            raise ValueError(
                f"this env dreams {self.num_envs} rows, the state has {len(state)}; use state.select(rows) or "
                "state.repeat(n)"
            )
        self._dreams.restore(state)
        extras = self._dreams.running.extras
        self._keys = to_numpy(extras.pop("env.key", torch.from_numpy(self._keys))).copy()
        self._numbers = to_numpy(extras.pop("env.number", torch.from_numpy(self._numbers))).copy()
        self._ended = to_numpy(extras.pop("env.ended", torch.zeros(self.num_envs, dtype=torch.bool))).copy()
        self._observe_all()
        self._beginnings.forget(slice(None))
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():  # of an env of another mode
            self._begin(np.flatnonzero(self._ended), self._source)

    @own_defaults
    def imagine(self, actions: Tensor | np.ndarray, seeds: Tensor | np.ndarray | None = None) -> Branches:
        """Dream N futures of H steps of every row in one batch; the env itself does not move.

        Args:
            actions: (B, N, H) or (B, N, H, A).
            seeds: (B, N); None: the first future of a row is what it would dream, see `WorldModel.branch`.

        Returns: the model's predictions; the env's reward function and rules are not applied.
        """
        self.check_begun("imagine()")
        whole = self.model.config.action.hold(torch.as_tensor(actions))
        return self.model.branch(self._dreams.running, whole, self.rules.temperature, seeds)

    # --- inside --------------------------------------------------------------------------------------------------

    def _observe_all(self) -> None:
        self._observations[:] = to_numpy(observe(self.model, self._dreams.running, self.obs))
        self._stale = False

    def _begin(self, rows: np.ndarray, source: Source | BothStarts, reset_clock: bool = False) -> None:
        """Begin new dreams in `rows`."""
        self._observations[rows] = to_numpy(self._begin_torch(rows, source, reset_clock))

    def _begin_torch(self, rows: np.ndarray, source: Source | BothStarts, reset_clock: bool = False) -> Tensor:
        if source is self._source:
            fresh = self._beginnings.take(rows, self._keys, self._numbers)
        else:
            fresh = begin(self.model, source, self._keys[rows], self._numbers[rows])
            self._beginnings.forget(rows)
        self._numbers[rows] += 1
        self._ended[rows] = False
        some = rows.tolist() if len(rows) < self.num_envs else None
        return self._dreams.begin(some, fresh, reset_clock)

    def check_begun(self, what: str) -> None:
        """ResetNeeded unless dreams have begun, by a reset or by a state."""
        if self._dreams.state is None:
            raise ResetNeeded(f"No dream has begun. Call reset() before {what}.")

    def _source_of(self, options: Mapping[str, Any], rows: np.ndarray) -> Source | BothStarts:
        if "frames" in options:
            return GivenStarts(self.model, rows, self.num_envs, options)
        if "from" not in options and options.get("starts", self._starts) == self._starts:
            return self._source
        source, default = options.get("from", self._seed_from), "all" if "from" in options else self._starts
        return make_source(self.model, source, self._split, options.get("starts", default))
