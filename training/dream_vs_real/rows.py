"""Many dreams side by side, each with its own start and length, for `play_episodes`.

Letters: B rows, n some of them, K starts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodel.envs.dream.rollout import Dreams
from worldmodel.envs.dream.rules import DreamRules
from worldmodel.envs.spaces import observation_space
from worldmodel.envs.vectors import key_of
from worldmodel.model import WorldModel
from worldmodel.model.batches import Starts

_SHRINKS = 0.75  # ended rows are left out once at most this share still dreams


class DreamRows(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """B dreams of one model. A reset with seed k begins with start k; the dream is truncated after limits[k] steps.

    Rows that have ended rest until they are reset. Once enough of them rest, only the others are dreamt, and the
    resting rows cannot be reset alone any more.

    Args:
        starts: K starts; they may be repeated.
        limits: (K,) steps.
        seed: the dream from start k draws from seed + k.
        obs: as in `DreamVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int,
        model: WorldModel,
        starts: Starts,
        limits: Sequence[int] | np.ndarray,
        seed: int,
        obs: str = "codes",
        temperature: float = 1.0,
    ) -> None:
        self.num_envs, self.model = num_envs, model
        self.single_observation_space = observation_space(model, obs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = model.config.action.held.to_gym()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.action_spec = model.config.action.held
        self._starts, self._limits, self._seed = starts, np.asarray(limits), seed
        self._dreams = Dreams(model, obs, DreamRules(temperature=temperature))
        self._rows = np.arange(num_envs)  # those that the state holds
        self._resting = np.zeros(num_envs, bool)
        self._start_of, self._steps = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self._observations = np.zeros(self.observation_space.shape, self.observation_space.dtype)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin dreams from the starts `seed` (B,) in the rows of options["reset_mask"]; without a mask in all rows."""
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        rows, numbers = np.flatnonzero(mask), np.asarray(seed)[mask]
        if self._dreams.state is None or len(rows) == self.num_envs:
            self._rows, places = np.arange(self.num_envs), None
        else:
            if len(lost := np.setdiff1d(rows, self._rows)):
                raise ValueError(f"rows {lost.tolist()} have rested for too long and are left out: reset all rows")
            places = np.searchsorted(self._rows, rows).tolist()
        starts, seeds = self._starts, [key_of(self._seed + int(number)) for number in numbers]
        chosen = torch.from_numpy(numbers)
        device = self.model.device
        fresh = self.model.start_codes(
            starts.codes[chosen].to(device),
            starts.actions[chosen].to(device),
            starts.signals[chosen, -1].to(device),
            torch.tensor(seeds, device=device),
        )
        self._observations[rows] = self._dreams.begin(places, fresh, reset_clock=places is None).cpu().numpy()
        self._resting[rows], self._start_of[rows], self._steps[rows] = False, numbers, 0
        return self._observations.copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step in every row that is not resting."""
        self._leave_out_resting()
        held = self._rows
        dreamt = self._dreams.step(torch.from_numpy(np.asarray(actions)[held]).to(self.model.device))
        self._observations[held] = dreamt.observations.cpu().numpy()
        rewards, terminations = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool)
        rewards[held], terminations[held] = dreamt.rewards.cpu().numpy(), dreamt.terminations.cpu().numpy()
        rewards[self._resting], terminations[self._resting] = 0.0, False
        self._steps += 1
        truncations = (self._steps >= self._limits[self._start_of]) & ~terminations & ~self._resting
        self._resting |= terminations | truncations
        return self._observations.copy(), rewards, terminations, truncations, {}

    def _leave_out_resting(self) -> None:
        awake = ~self._resting[self._rows]
        if 0 < awake.sum() <= _SHRINKS * len(awake):
            self._dreams.state = self._dreams.running.select(torch.from_numpy(awake))
            self._rows = self._rows[awake]
