"""Any Gymnasium env as a game that can be recorded and dreamt of, by the pictures that it shows.

Letters: F frames per step, G signals, H W C pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldmodel.envs.spaces import action_spec_of
from worldmodel.media.brightness import to_bytes
from worldmodel.media.resize import area_resize

_USUAL_FPS = 30.0  # steps a second of an env that does not tell
SignalReader = Callable[[gym.Env, dict[str, Any]], float]  # of the env and the info of its last step


class PixelGame(gym.Env[np.ndarray, Any]):
    """A game with the interface of `VideoGenReal-…`, made of any env with Discrete actions or a Box of one axis.

    Register one in a module of your own, and give its id as ``module:Id-v0`` wherever an env is asked for
    (docs/own-game.md). A step repeats its action for `frame_skip` steps of the env and keeps `frames_per_step` of their
    pictures, evenly spaced. Rewards are added up. At an end the last picture stands in for what is missing.

    The observation is the last frame of the step. `info` holds ``frames`` (F, H, W, C) uint8, ``signals`` (G,) float32,
    each signal under its own name, and ``native_reward``, the reward of the step.

    Args:
        env: shows pictures as observations, (H, W, 1 or 3) uint8, or by `render()` with ``render_mode="rgb_array"``,
            which may also be (H, W) and of the other number types that `to_bytes` converts, such as floats in [0, 1].
        size: height and width to which pictures are shrunk by area; None leaves them.
        frame_skip: steps of the env per step; a multiple of `frames_per_step`.
        frames_per_step: F.
        action_names: one for each action or number.
        signals: game variables: names of numbers in the env's ``info``; or for each name such a name, or a function of
            env and info.

    Raises:
        ValueError: the env's actions or pictures, or an option, are not of these kinds; at a reset or a step, a signal
            is not told or not finite.
        TypeError: `size` or `signals` are of another type; at a reset or a step, a signal is no number.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"
    reward_kind = "native"

    def __init__(
        self,
        env: gym.Env,
        *,
        size: tuple[int, int] | None = (64, 64),
        frame_skip: int = 2,
        frames_per_step: int = 2,
        action_names: Sequence[str] = (),
        signals: Sequence[str] | Mapping[str, SignalReader | str] = (),
    ) -> None:
        if frames_per_step < 1 or frame_skip < 1 or frame_skip % frames_per_step:
            raise ValueError(
                "frame_skip must be a multiple of frames_per_step, both at least 1, "
                f"got frame_skip={frame_skip} and frames_per_step={frames_per_step}"
            )
        _check_size(size)
        self.game = env
        self.frame_skip, self.frames_per_step = frame_skip, frames_per_step
        self.action_spec = action_spec_of(env.action_space, action_names)
        self.action_space = self.action_spec.to_gym()
        self._readers = _readers(signals)
        self.signal_names = tuple(self._readers)
        seen = env.observation_space
        self._shows = isinstance(seen, gym.spaces.Box) and seen.dtype == np.uint8 and len(seen.shape) == 3
        if not self._shows and env.render_mode != "rgb_array":
            raise ValueError(
                f"the env shows no pictures: its observations are {seen}, its render mode is {env.render_mode!r}; make "
                'it with render_mode="rgb_array"'
            )
        height, width, channels = self._look(env.reset()[0]).shape
        new_height, new_width = size or (height, width)
        if channels not in (1, 3) or not 0 < new_height <= height or not 0 < new_width <= width:
            raise ValueError(
                "pictures must have 1 or 3 channels and can be shrunk, not enlarged: they are "
                f"({height}, {width}, {channels}), wanted size {size}"
            )
        self.observation_space = gym.spaces.Box(0, 255, (new_height, new_width, channels), np.uint8)
        fps = env.metadata.get("render_fps") or _USUAL_FPS
        self.metadata = self.metadata | {"render_fps": float(fps) / frame_skip}
        self._picture = np.zeros((height, width, channels), np.uint8)
        self._playing = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode of the env; the seed and the options are its."""
        super().reset(seed=seed)
        observation, info = self.game.reset(seed=seed, options=options)
        self._playing = True
        self._picture = self._look(observation)
        return self._step_of([self._picture] * self.frames_per_step, 0.0, info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Repeat the action for `frame_skip` steps of the env, or until the episode ends."""
        if not self._playing:
            raise ResetNeeded("No episode is running: it has not begun, or it has ended. Call reset() before step().")
        pictures, total, terminated, truncated = [], 0.0, False, False
        info: dict[str, Any] = {}
        for number in range(1, self.frame_skip + 1):
            if not (terminated or truncated):
                observation, reward, terminated, truncated, info = self.game.step(action)
                total += float(reward)
            if number % (self.frame_skip // self.frames_per_step) == 0:
                self._picture = self._look(observation)
                pictures.append(self._picture)
        terminated, truncated = bool(terminated), bool(truncated and not terminated)
        self._playing = not (terminated or truncated)
        observation, info = self._step_of(pictures, total, info)
        return observation, total, terminated, truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The last picture at the env's own size, (H, W, C) uint8."""
        return self._picture.copy()

    def close(self) -> None:
        self.game.close()

    def _look(self, observation: Any) -> np.ndarray:
        """The picture of this moment, (H, W, C) uint8."""
        try:
            picture = to_bytes(observation if self._shows else self.game.render()).copy()
        except ValueError as error:
            raise ValueError(f"the env's {'observations' if self._shows else 'render()'}: {error}") from error
        return picture[..., None] if picture.ndim == 2 else picture

    def _step_of(
        self, pictures: list[np.ndarray], native_reward: float, told: dict[str, Any]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Observation and info of a step with these pictures; `told` is the env's own info."""
        frames = area_resize(np.stack(pictures), *self.observation_space.shape[:2])
        named = {name: _number(name, read(self.game, told)) for name, read in self._readers.items()}
        signals = np.array(list(named.values()), np.float32)
        return frames[-1].copy(), {"frames": frames, "signals": signals, "native_reward": native_reward, **named}


def _from_info(name: str) -> SignalReader:
    def read(env: gym.Env, info: dict[str, Any]) -> float:
        if name not in info:
            raise ValueError(
                f"the env's info has no {name!r}, it holds {', '.join(info) or 'nothing'}; give signals that it tells "
                "at every step and at a reset, or functions"
            )
        return info[name]

    return read


def _readers(signals: Any) -> dict[str, SignalReader]:
    if isinstance(signals, str):
        raise TypeError(f"signals are several names, such as [{signals!r}], got the text {signals!r}")
    if not isinstance(signals, Mapping):
        signals = {name: name for name in signals}
    for name, read in signals.items():
        if not isinstance(read, str) and not callable(read):
            raise TypeError(f"signal {name!r} must be a name in info, or a function of env and info; got {read!r}")
    return {name: _from_info(read) if isinstance(read, str) else read for name, read in signals.items()}


def _number(name: str, value: Any) -> float:
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "biuf":
        raise TypeError(f"signal {name!r} must be a number, got {value!r}")
    if not np.isfinite(array):
        raise ValueError(f"signal {name!r} must be finite, got {value!r}")
    return float(array)


def _check_size(size: Any) -> None:
    if size is None:
        return
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(side, int | np.integer) for side in size):
        raise TypeError(f"size is (height, width) in pixels, or None, got {size!r}")
