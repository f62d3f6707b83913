"""Many dreams side by side: a native Gymnasium vector environment, one batched model step per env step.

Letters: B rows (dreams), H W C pixels, h w latent grid, M slices, E features of a code vector, V codes.
"""

import os
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.envs.start_states import StartStates
from worldmodel.model import WorldModel
from worldmodel.names import did_you_mean, refuse_unknown

OBSERVATIONS = ("rgb", "latent", "codes")
_AUTORESET_MODES = {mode.name.lower(): mode for mode in AutoresetMode}  # same_step, next_step, disabled


class DreamVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """B dreams of one world model; the agent's step is one latent step of the model.

    Row i of a batch seeded with s dreams what a `DreamEnv` seeded with s + i dreams. Frames are decoded only for
    `obs="rgb"` and in `render()`.

    `infos` holds, each with its mask ``_name``: ``nll`` and ``entropy`` (nats; how unlikely the drawn step was, and how
    unsure the model was), and each game variable under its name (``HEALTH``, ...), the model's own running value.

    Args:
        num_envs: B.
        model: shipped name, checkpoint folder, or a `WorldModel`.
        obs: "rgb" (H, W, C) uint8, the step's last frame; "latent" (h, w, E) float32, the code vectors; "codes"
            (h, w, M) int64 in [0, V).
        temperature: of the codes' distribution; 0 takes the likeliest code.
        horizon: steps after which a row is truncated; None for no limit.
        seed_from: where dreams begin; "starts" are the segments of real play in the checkpoint.
        device: "auto" takes a GPU if there is one; a `WorldModel` stays where it is.
        autoreset_mode: "same_step", "next_step" or "disabled" (then `reset(options={"reset_mask": mask})`), as
            Gymnasium defines them.
        render_mode: "rgb_array" or None.

    Raises:
        ValueError: an option's value is not valid.
        TypeError: an option is unknown.
        FileNotFoundError: no such model.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 35 / 4}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        model: WorldModel | str | os.PathLike = "doom-hgs",
        obs: Literal["rgb", "latent", "codes"] = "rgb",
        temperature: float = 1.0,
        horizon: int | None = None,
        seed_from: str = "starts",
        device: str | torch.device = "auto",
        autoreset_mode: str | AutoresetMode = "same_step",
        render_mode: str | None = None,
        **unknown: object,
    ) -> None:
        refuse_unknown(unknown, DreamVectorEnv)
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon must be at least 1 step, or None for no limit, got {horizon}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}.{did_you_mean(str(render_mode), ['rgb_array'])}")
        self.autoreset_mode = as_autoreset_mode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        check_observation_kind(obs)  # before a model is loaded
        self.model = load_model(model, device)
        self.num_envs = num_envs
        self.obs = obs
        self.temperature = temperature
        self.horizon = horizon
        self.render_mode = render_mode
        self.single_observation_space = observation_space(self.model, obs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self.model.config.action.to_gym()
        self.action_space = batch_space(self.single_action_space, num_envs)

        self.rngs = [seeding.np_random()[0] for _ in range(num_envs)]  # one per row: what a row draws is its own
        self._starts = StartStates(self.model, seed_from)
        self._state: DreamState | None = None
        self._elapsed = np.zeros(num_envs, np.int64)  # steps since the row's reset
        self._ended = np.zeros(num_envs, bool)  # rows that ended in the last step and still wait for their reset
        self._observations = np.zeros(self.observation_space.shape, self.observation_space.dtype)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new dreams in all rows, or in those of a mask.

        Args:
            seed: s gives row i the seed s + i; a list gives each row its own (None: goes on drawing as before).
            options: {"reset_mask": (B,) bool}: only these rows begin anew.

        Returns: observations of all rows, and infos of those that were reset.
        """
        rows = self._rows_to_reset(options or {})
        for row, row_seed in enumerate(self._row_seeds(seed)):
            if row in rows and row_seed is not None:
                self.rngs[row] = seeding.np_random(row_seed)[0]
        self._state = self._begin(rows)
        mask = np.zeros(self.num_envs, bool)
        mask[rows] = True
        return self._observations.copy(), _masked(self._signals(self._state), mask)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step in every row.

        Args:
            actions: (B,) integers, or (B, A) float32 within the bounds.

        Returns: observations (B, ...), rewards (B,) float32 in the unit of the real game's env, terminations and
            truncations (B,) bool, never both, and infos.
        """
        if self._state is None:
            raise ResetNeeded("No dream has begun. Call reset() before step().")
        actions = valid_actions(self.single_action_space, actions, (self.num_envs,))
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeeded(
                f"The dreams in rows {np.flatnonzero(self._ended).tolist()} have ended, and autoreset is disabled. "
                'Call reset(), or reset(options={"reset_mask": mask}) for these rows alone.'
            )
        begun = self._ended.copy()  # in next_step mode these rows spend this step on their reset
        state, out = self.model.step(self._state, torch.from_numpy(actions), self.temperature)
        self._elapsed += 1
        rewards = np.where(begun, np.float32(0), _numpy(out.reward))
        terminations = _numpy(out.terminated) & ~begun
        over = self._elapsed >= (np.inf if self.horizon is None else self.horizon)
        truncations = over & ~terminations & ~begun
        ended = terminations | truncations
        self._observations = observe(self.model, out.codes, self.obs)
        doubt = {"nll": _numpy(out.nll), "entropy": _numpy(out.entropy)}

        final: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and ended.any():
            final_obs = np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(ended):
                final_obs[row] = self._observations[row].copy()
            final_info = _masked(doubt | self._signals(state), ended)
            final = {"final_obs": final_obs, "_final_obs": ended, "final_info": final_info, "_final_info": ended.copy()}
            begun = ended
        else:
            self._ended = ended.copy()
        self._state = state
        if begun.any():
            self._state = self._begin(np.flatnonzero(begun))
        everyone = np.ones(self.num_envs, bool)
        infos = _masked(doubt, ~begun) | _masked(self._signals(self._state), everyone) | final
        return self._observations.copy(), rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray | None, ...]:
        """The last frame of every row, (H, W, C) uint8, or None without a render mode."""
        if self.render_mode is None:
            return (None,) * self.num_envs
        if self._state is None:
            raise ResetNeeded("No dream has begun. Call reset() before render().")
        return tuple(observe(self.model, self._state.codes, "rgb"))

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The rows' generators, as in Gymnasium's own vector envs."""
        return tuple(self.rngs)

    def _begin(self, rows: np.ndarray) -> DreamState:
        """The state with new dreams in `rows`."""
        running = self._state if len(rows) < self.num_envs else None  # None: no row goes on
        context = self._starts.draw([self.rngs[row] for row in rows])
        fresh = self.model.start_codes(*context, clock=None if running is None else running.clock)
        self._observations[rows] = observe(self.model, fresh.codes, self.obs)
        self._elapsed[rows] = 0
        self._ended[rows] = False
        return fresh if running is None else running.put(rows.tolist(), fresh)

    def _signals(self, state: DreamState) -> dict[str, np.ndarray]:
        """The game variables of all rows by name."""
        return dict(zip(self.model.config.signal_names, _numpy(state.signals).T, strict=True))

    def _rows_to_reset(self, options: dict[str, Any]) -> np.ndarray:
        if unknown := set(options) - {"reset_mask"}:
            name = min(map(str, unknown))
            raise ValueError(f"unknown reset option {name!r}.{did_you_mean(name, ['reset_mask'])}")
        if "reset_mask" not in options:
            return np.arange(self.num_envs)
        mask = np.asarray(options["reset_mask"])
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool with at least one True, got {mask!r}")
        if self._state is None and not mask.all():
            raise ResetNeeded("No dream has begun: the first reset must be of all rows, without a reset_mask.")
        return np.flatnonzero(mask)

    def _row_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None or isinstance(seed, int | np.integer):
            return [None if seed is None else int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"seed must be one number or a list of {self.num_envs}, got {len(seed)} of them")
        return seed


def as_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """Gymnasium's own type for "same_step", "next_step" or "disabled"."""
    if isinstance(mode, AutoresetMode):
        return mode
    if mode not in _AUTORESET_MODES:
        raise ValueError(f"unknown autoreset_mode {mode!r}.{did_you_mean(mode, _AUTORESET_MODES)}")
    return _AUTORESET_MODES[mode]


def load_model(model: WorldModel | str | os.PathLike, device: str | torch.device = "auto") -> WorldModel:
    """The model itself, or the one of this shipped name or folder."""
    return model if isinstance(model, WorldModel) else WorldModel.from_pretrained(model, usable_device(device))


def usable_device(device: str | torch.device) -> torch.device:
    """A device of this machine; "auto" is a GPU if there is one. ValueError with the valid ones for any other."""
    valid = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        valid.append("mps")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if str(device) not in valid and not (str(device) == "cuda" and torch.cuda.is_available()):
        raise ValueError(f"no device {str(device)!r} here.{did_you_mean(str(device), valid)}")
    return torch.device(device)


def check_observation_kind(obs: str) -> None:
    if obs not in OBSERVATIONS:
        raise ValueError(f"unknown obs {obs!r}.{did_you_mean(obs, OBSERVATIONS)}")


def observation_space(model: WorldModel, obs: str) -> gym.spaces.Box:
    """Space of one observation of this kind.

    Codes are a Box, although only equality means anything between them: Stable-Baselines3 and the frame stack take no
    three-dimensional MultiDiscrete.
    """
    check_observation_kind(obs)
    tokenizer = model.tokenizer
    if obs == "rgb":
        return gym.spaces.Box(0, 255, (model.height, model.width, model.config.tokenizer.channels), np.uint8)
    if obs == "latent":
        return gym.spaces.Box(-np.inf, np.inf, (*tokenizer.grid, tokenizer.code_dim), np.float32)
    return gym.spaces.Box(0, tokenizer.num_codes - 1, (*tokenizer.grid, tokenizer.num_slices), np.int64)


@torch.inference_mode()
def observe(model: WorldModel, codes: Tensor, obs: str) -> np.ndarray:
    """What an agent sees of one step: codes (n, h, w, M) -> (n, *observation_space(model, obs).shape)."""
    if obs == "rgb":
        return _numpy(model.tokenizer.decode(codes[:, None])[:, 0, -1])
    if obs == "latent":
        return _numpy(model.tokenizer.code_vectors(codes))
    return _numpy(codes).copy()  # not a window into the dream's state


def valid_actions(space: gym.Space, actions: Any, batch: tuple[int, ...]) -> np.ndarray:
    """Actions of shape (*batch, *space.shape) in the space's dtype, or InvalidAction."""
    given = np.asarray(actions)
    shape = (*batch, *space.shape)
    if isinstance(space, gym.spaces.Discrete):
        if given.shape == shape and given.dtype.kind in "iu" and np.all((given >= 0) & (given < space.n)):
            return given.astype(np.int64)
        raise InvalidAction(f"an action is an integer in [0, {space.n}), in shape {shape}; got {actions!r}")
    if given.shape == shape and given.dtype.kind in "fiu":
        given = given.astype(np.float32)
        if np.all((given >= space.low) & (given <= space.high)):  # false for NaN
            return given
    raise InvalidAction(
        f"an action is {space.shape[0]} numbers in [{space.low.tolist()}, {space.high.tolist()}], in shape {shape}; "
        f"got {actions!r}"
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def _masked(values: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Gymnasium's vector infos: each (B,) value, 0 where it is absent, with its mask."""
    infos: dict[str, np.ndarray] = {}
    for name, value in values.items():
        infos |= {name: np.where(mask, value, value.dtype.type(0)), f"_{name}": mask.copy()}
    return infos
