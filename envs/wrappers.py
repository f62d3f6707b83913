"""Wrappers that show real games as a dream would look, and a vector env with a thread per game.

Letters: B rows, n some of them, F frames per step, H W C pixels, h w latent grid, M slices, D width of the dynamics.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.rollout import to_numpy
from worldmodel.envs.own_thread import OwnThread
from worldmodel.envs.registry import load_model, other_speed
from worldmodel.envs.spaces import observation_space, show
from worldmodel.envs.vectors import NamesItsAdapter, as_autoreset_mode, row_seeds, rows_to_reset
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_dreams


class _View:
    """Converts the real frames of B rows to a dream's observations; for "features" the model follows every episode."""

    def __init__(self, model: WorldModel | str | os.PathLike, obs: str, rows: int, metadata: Mapping[str, Any]) -> None:
        self.model = load_model(model)
        if differs := other_speed(self.model.config, metadata):
            warnings.warn(differs, stacklevel=3)
        if obs == "features":
            check_dreams(self.model)
            if (given := self.model.config.dynamics.frame_condition) > 1:
                raise ValueError(
                    f"features follow an episode from its first step, but this model needs {given} first steps "
                    '(frame_condition); give obs="latent", or train one with a frame_condition of 0 or 1'
                )
        self.obs = obs
        self.space = observation_space(self.model, obs)
        self._rows = rows
        self._state: DreamState | None = None

    def begin(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Start episodes in these rows with their first frames, (n, F, H, W, C) uint8 -> n observations."""
        codes = self._encode(frames)
        if self.obs != "features":
            return to_numpy(show(self.model, codes, self.obs))
        action = self.model.config.action
        nothing = torch.from_numpy(np.zeros((len(rows), 0, *action.shape), action.dtype))
        running = self._state if len(rows) < self._rows else None  # None: no row continues
        fresh = self.model.start_codes(codes[:, None], nothing, clock=None if running is None else running.clock)
        self._state = fresh if running is None else running.put(rows.tolist(), fresh)
        return to_numpy(self.model.features(fresh))

    def step(self, actions: np.ndarray, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Step these rows with new frames (n, F, H, W, C) and the actions (B, …) of all rows -> n observations."""
        codes = self._encode(frames)
        if self.obs != "features":
            return to_numpy(show(self.model, codes, self.obs))
        assert self._state is not None, "reset comes before step"
        seen = self._state.codes.clone()  # rows at rest keep theirs
        seen[rows] = codes
        action = self.model.config.action
        given = action.hold(torch.from_numpy(np.asarray(actions, action.dtype)))
        self._state, _ = self.model.observe(self._state, given, seen)
        return to_numpy(self.model.features(self._state)[rows])

    @torch.inference_mode()
    def _encode(self, frames: np.ndarray) -> Tensor:
        """(n, F, H, W, C) uint8 -> (n, h, w, M)."""
        return self.model.tokenizer.encode(torch.from_numpy(frames).to(self.model.device)[:, None])[:, 0]


def _frames(info: dict[str, Any]) -> np.ndarray:
    if "frames" not in info:
        raise ValueError(
            'a DreamView needs every frame of a step in info["frames"], (F, H, W, C) uint8, as in VideoGenReal-… '
            f"envs; this env's info holds {', '.join(info) or 'nothing'}"
        )
    return info["frames"]


class DreamView(gym.Wrapper):
    """A real env with a dream's observations, so that an agent moves between the two unchanged.

    Args:
        env: returns each step's frames in ``info["frames"]``.
        model: the dreaming model, its name or its folder.
        obs: "rgb" encodes and decodes the frames; "latent" and "codes" encode them; for "features" the dynamics follow
            the frames and actions from the episode's first step on.

    Warns if the game's steps are longer or shorter than those the model learned from.
    """

    def __init__(self, env: gym.Env, model: WorldModel | str | os.PathLike, obs: str = "rgb") -> None:
        super().__init__(env)
        self._view = _View(model, obs, 1, env.metadata)
        self._row = np.zeros(1, np.int64)
        self.observation_space = self._view.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        _, info = self.env.reset(seed=seed, options=options)
        return self._view.begin(self._row, _frames(info)[None])[0], info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = self.env.step(action)
        seen = self._view.step(np.asarray(action)[None], self._row, _frames(info)[None])
        return seen[0], reward, terminated, truncated, info


class DreamViewVector(VectorWrapper):
    """`DreamView` for a vector env in any autoreset mode: the frames of all rows are encoded in one batch."""

    def __init__(self, env: VectorEnv, model: WorldModel | str | os.PathLike, obs: str = "rgb") -> None:
        super().__init__(env)
        self._view = _View(model, obs, env.num_envs, env.metadata)
        self._mode = env.metadata.get("autoreset_mode")
        self.single_observation_space = self._view.space
        self.observation_space = batch_space(self._view.space, env.num_envs)
        self._observations = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        self._ended = np.zeros(env.num_envs, bool)  # rows whose next step is their reset, in next_step mode

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        _, infos = self.env.reset(seed=seed, options=options)
        self._begin(np.flatnonzero(infos["_frames"]) if "_frames" in infos else np.arange(self.num_envs), infos)
        return self._observations.copy(), infos

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, Any, Any, Any, dict[str, Any]]:
        _, rewards, terminations, truncations, infos = self.env.step(actions)
        frames = _frames(infos)
        sent = infos["_frames"]  # rows at rest send none and keep their last observation
        ended = np.zeros(self.num_envs, bool)
        if "final_obs" in infos:  # the frames of these rows already belong to their next episode
            ended = infos["_final_obs"]
            frames = frames.copy()
            frames[ended] = _frames(infos["final_info"])[ended]
        moved = np.flatnonzero(sent & ~self._ended)
        self._observations[moved] = self._view.step(actions, moved, frames[moved])
        if "final_obs" in infos:
            final_obs = np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(ended):
                final_obs[row] = self._observations[row].copy()
            infos = infos | {"final_obs": final_obs}
        begun = ended | self._ended
        if begun.any():
            self._begin(np.flatnonzero(begun), infos)
        if self._mode is AutoresetMode.NEXT_STEP:
            self._ended = terminations | truncations
        return self._observations.copy(), rewards, terminations, truncations, infos

    def _begin(self, rows: np.ndarray, infos: dict[str, Any]) -> None:
        self._observations[rows] = self._view.begin(rows, _frames(infos)[rows])
        self._ended[rows] = False


class ThreadVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray], metaclass=NamesItsAdapter):
    """Copies of one env, each in its own thread.

    For games that release the interpreter lock: 10 ViZDooms step 1.8 times as fast as one after the other on two cores,
    without starting processes. Each row is made, played and closed in one thread, since an OpenGL context works only
    where it was created; a single row runs in the caller's thread. Games whose metadata hold ``one_thread`` share one.

    Args:
        make_env: makes one env; called `num_envs` times.
        num_envs: B.
        autoreset_mode: "same_step", or "disabled": then a row that has ended rests, repeating its last observation and
            end flags with reward 0, until `reset(options={"reset_mask": mask})`.
    """

    def __init__(
        self, make_env: Callable[[], gym.Env], num_envs: int, autoreset_mode: str | AutoresetMode = "same_step"
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.autoreset_mode = as_autoreset_mode(autoreset_mode)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            raise ValueError('ThreadVectorEnv has autoreset_mode "same_step" and "disabled", not "next_step"')
        self.num_envs = num_envs
        self.envs: list[gym.Env] = []
        self._threads = [OwnThread() for _ in range(num_envs if num_envs > 1 else 0)]
        try:
            for row in range(num_envs):  # one after the other: starting a game may change the working folder
                self.envs.append(self.in_its_thread(row, make_env))
                if row == 0 and self._threads and self.envs[0].metadata.get("one_thread"):
                    for unused in self._threads[1:]:
                        unused.end()
                    self._threads = self._threads[:1] * num_envs
        except BaseException:  # those already made hold windows, files, processes
            self.close()
            raise
        first = self.envs[0]
        self.metadata = first.metadata | {"autoreset_mode": self.autoreset_mode}
        self.render_mode = first.render_mode
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self._observations: list[Any] = [None] * num_envs
        self._terminations = np.zeros(num_envs, bool)
        self._truncations = np.zeros(num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin episodes; `seed` and `options["reset_mask"]` as in Gymnasium's SyncVectorEnv."""
        options = dict(options or {})
        mask = np.isin(np.arange(self.num_envs), rows_to_reset(options, self.num_envs))
        options.pop("reset_mask", None)
        seeds = row_seeds(seed, self.num_envs)
        if any(seen is None and not begins for seen, begins in zip(self._observations, mask, strict=True)):
            raise ResetNeeded("The first reset must be of all rows, without a reset_mask.")
        rows = np.flatnonzero(mask).tolist()
        begun = self._at_once(rows, lambda row: self.envs[row].reset(seed=seeds[row], options=options))
        infos: dict[str, Any] = {}
        for row, (observation, info) in zip(rows, begun, strict=True):
            self._observations[row] = observation
            infos = self._add_info(infos, info, row)
            self._terminations[row] = self._truncations[row] = False
        return self._seen(), infos

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every row that is not at rest; `actions` has one entry per row, ignored for those at rest."""
        if np.shape(actions)[:1] != (self.num_envs,):
            raise InvalidAction(f"step needs one action for each of {self.num_envs} envs, got {actions!r}")
        rewards = np.zeros(self.num_envs, np.float32)
        infos: dict[str, Any] = {}
        for row, result in enumerate(
            self._at_once(range(self.num_envs), lambda row: self._step_row(row, actions[row]))
        ):
            if result is None:
                continue
            observation, rewards[row], self._terminations[row], self._truncations[row], info, final = result
            self._observations[row] = observation
            infos = self._add_info(infos, info | final, row)
        ends = self._terminations.copy(), self._truncations.copy()
        return self._seen(), rewards, *ends, infos

    def _seen(self) -> Any:
        """The observations of all rows: one array, or for a Dict or Tuple space a dict or tuple of arrays."""
        space = self.single_observation_space
        if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
            return concatenate(space, self._observations, create_empty_array(space, self.num_envs))
        return np.stack(self._observations)

    def _step_row(self, row: int, action: Any) -> tuple | None:
        env = self.envs[row]
        if self.autoreset_mode is AutoresetMode.DISABLED and (self._terminations[row] or self._truncations[row]):
            return None
        observation, reward, terminated, truncated, info = env.step(action)
        final = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and (terminated or truncated):
            final = {"final_obs": observation, "final_info": info}
            observation, info = env.reset()
        return observation, reward, terminated, truncated, info, final

    def render(self) -> tuple[Any, ...]:
        return tuple(self._at_once(range(self.num_envs), lambda row: self.envs[row].render()))

    def in_its_thread(self, row: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function in the thread to which this row's env belongs and return its result."""
        return self._at_once([row], lambda _: function(*args, **kwargs))[0]

    def close_extras(self, **kwargs: Any) -> None:
        if not hasattr(self, "_threads"):  # the constructor raised
            return
        self.closed = True  # also if a game cannot be closed
        try:
            self._at_once(range(len(self.envs)), lambda row: self.envs[row].close())
        finally:
            for thread in set(self._threads):
                thread.end()

    def __del__(self) -> None:
        if getattr(self, "closed", True) or not hasattr(self, "_threads"):
            return
        self.closed = True
        for thread, env in zip(self._threads, self.envs, strict=False):  # waiting here could hang
            thread.begin(env.close)
        for thread in set(self._threads):
            thread.end()
        if not self._threads:
            self.envs[0].close()

    def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
        """Gymnasium's, which casts numbers to the type of the first row's, but without changing them: 0.5 beside 1."""
        wider = {}
        for name, value in env_info.items():
            array, number = vector_infos.get(name), np.asarray(value)
            if isinstance(array, np.ndarray) and array.dtype.kind in "biuf" and number.dtype.kind in "biuf":
                wider[name] = array.astype(np.result_type(array, number), copy=False)
        return super()._add_info(vector_infos | wider, env_info, env_num)

    def _at_once(self, rows: Iterable[int], function: Callable[[int], Any]) -> list[Any]:
        """Results of a function called for each row in its thread; errors are raised once all calls have ended."""
        if not self._threads:
            return [function(row) for row in rows]
        running = [self._threads[row].begin(partial(function, row)) for row in rows]
        results, failures = [], []
        for result in running:
            try:
                results.append(result())
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return results
