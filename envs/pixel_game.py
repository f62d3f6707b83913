"""Any Gymnasium env that shows images, as a game that can be recorded and dreamt of.

Letters: F frames per step, G signals, H W C pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldmodel.envs.game_actions import GameActions
from worldmodel.envs.game_checks import finite, of_reset, of_step
from worldmodel.media.brightness import to_bytes
from worldmodel.media.resize import area_resize

_DEFAULT_FPS = 30.0  # steps per second of an env whose metadata have no render_fps
# Keys of a step's info, in games and in dreams, which a signal of the same name would hide.
_OWN_INFO = ("frames", "signals", "native_reward", "labels", "nll", "entropy", "episode", "final_obs", "final_info")
# Packages whose envs report a time limit as both terminated and truncated.
_TIME_UP_IF_BOTH = ("vizdoom",)
SignalReader = Callable[[gym.Env, dict[str, Any]], float]  # from the env and the info of its last step


class PixelGame(gym.Env[np.ndarray, Any]):
    """Wraps any env that shows images as a game with the interface of `VideoGenReal-…`.

    Register one in your own module, and pass its id as ``module:Id-v0`` wherever an env is expected
    (docs/own-game.md). A step repeats its action for `frame_skip` steps of the env, keeps `frames_per_step` evenly
    spaced images of them and adds up the rewards. If an episode ends within a step, the last image fills the remaining
    frames, also if the env then shows nothing, or a black screen as ViZDoom's own envs do. Actions: see `GameActions`.

    What the env returns is checked at every reset and step. An end that is both terminated and truncated counts as
    terminated, as Gymnasium defines it; for ViZDoom's own envs, which mean a time limit, it counts as truncated.

    The observation is the last frame of the step. `info` holds ``frames`` (F, H, W, C) uint8, ``signals`` (G,) float32,
    each signal under its own name, and ``native_reward``, the reward of the step.

    Args:
        env: shows images as observations, (H, W, 1 or 3) uint8, or by `render()` with ``render_mode="rgb_array"``,
            which may also return (H, W) and the other dtypes that `to_bytes` converts, such as floats in [0, 1].
        size: height and width to which images are shrunk by area; None keeps them as they are.
        frame_skip: steps of the env per step; a multiple of `frames_per_step`.
        frames_per_step: F.
        action_names: one per action or dimension, or one per button of a MultiBinary.
        signals: game variables: names of numbers in the env's ``info``; or a mapping from each signal's name to such a
            name or to a function of env and info.
        one_thread: run all games of this kind in one process in a single thread (needed for those drawn by pyglet).

    Raises:
        ValueError: the env's actions or images, or an option, are not supported; at a reset or a step, a signal is
            missing, a signal or the reward is not finite, or an image differs in shape from the first one.
        TypeError: `env`, `size` or `signals` have the wrong type; at a reset or a step, the env breaks Gymnasium's
            rules, or a signal is not a number.

    Example:
        >>> import gymnasium as gym
        >>> import numpy as np
        >>> from worldmodel.envs import PixelGame
        >>> class Walk(gym.Env):  # a white pixel on a line
        ...     observation_space = gym.spaces.Box(0, 255, (16, 64, 3), np.uint8)
        ...     action_space = gym.spaces.Discrete(2)
        ...     def reset(self, seed=None, options=None):
        ...         super().reset(seed=seed)
        ...         self.x = 32
        ...         return self._picture(), {}
        ...     def step(self, action):
        ...         self.x += 1 if action else -1
        ...         return self._picture(), 1.0, self.x in (0, 63), False, {"X": self.x}
        ...     def _picture(self):
        ...         picture = np.zeros((16, 64, 3), np.uint8)
        ...         picture[8, self.x] = 255
        ...         return picture
        >>> game = PixelGame(Walk(), size=None, action_names=("left", "right"))
        >>> observation, info = game.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = game.step(1)
        >>> reward, info["frames"].shape  # two steps of the env
        (2.0, (2, 16, 64, 3))
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
        one_thread: bool = False,
    ) -> None:
        if frames_per_step < 1 or frame_skip < 1 or frame_skip % frames_per_step:
            raise ValueError(
                "frame_skip must be a multiple of frames_per_step, both at least 1, "
                f"got frame_skip={frame_skip} and frames_per_step={frames_per_step}"
            )
        _check_size(size)
        if not isinstance(env, gym.Env):
            raise TypeError(
                f"PixelGame wraps a gymnasium.Env, got a {type(env).__module__}.{type(env).__name__}; write a "
                "gymnasium.Env around games with another interface (docs/own-game.md)"
            )
        self.game = env
        self.frame_skip, self.frames_per_step = frame_skip, frames_per_step
        self._actions = GameActions(env.action_space, action_names)
        self.action_spec, self.action_space = self._actions.spec, self._actions.space
        self._time_up_if_both = type(env.unwrapped).__module__.partition(".")[0] in _TIME_UP_IF_BOTH
        self._readers = _readers(signals)
        self.signal_names = tuple(self._readers)
        seen = env.observation_space
        self._shows = isinstance(seen, gym.spaces.Box) and seen.dtype == np.uint8 and len(seen.shape) == 3
        if not self._shows and env.render_mode != "rgb_array":
            raise ValueError(
                f"the env shows no images: its observations are {seen}, its render mode is {env.render_mode!r}; create "
                'it with render_mode="rgb_array"'
            )
        self._picture = np.zeros((0, 0, 0), np.uint8)  # until the first reset
        self._picture = self._look(of_reset(env.reset())[0])
        height, width, channels = self._picture.shape
        new_height, new_width = size or (height, width)
        if channels not in (1, 3) or not 0 < new_height <= height or not 0 < new_width <= width:
            raise ValueError(
                "images must have 1 or 3 channels and can be shrunk, not enlarged: they are "
                f"({height}, {width}, {channels}), wanted size {size}; give a size (height, width) that fits, or None"
            )
        self.observation_space = gym.spaces.Box(0, 255, (new_height, new_width, channels), np.uint8)
        fps = (env.metadata or {}).get("render_fps") or _DEFAULT_FPS
        self.metadata = self.metadata | {
            "render_fps": finite("the env's render_fps", fps) / frame_skip,
            "one_thread": one_thread,
        }
        self._playing = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; seed and options are passed on to the env."""
        super().reset(seed=seed)
        observation, info = of_reset(self.game.reset(seed=seed, options=options))
        self._playing = True
        self._picture = self._look(observation)
        return self._step_of([self._picture] * self.frames_per_step, 0.0, info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Repeat the action for `frame_skip` steps of the env, or until the episode ends."""
        if not self._playing:
            raise ResetNeeded("No episode is running: it has not begun, or it has ended. Call reset() before step().")
        done = self._actions.of(action)
        pictures, total, terminated, truncated = [], 0.0, False, False
        info: dict[str, Any] = {}
        for number in range(1, self.frame_skip + 1):
            if not (terminated or truncated):
                observation, reward, terminated, truncated, info = of_step(self.game.step(done))
                total += reward
                if self._is_kept(number) or terminated or truncated:
                    self._picture = self._look(observation, terminated or truncated)
            if self._is_kept(number):
                pictures.append(self._picture)
        if terminated and truncated:
            terminated, truncated = not self._time_up_if_both, self._time_up_if_both
        self._playing = not (terminated or truncated)
        observation, info = self._step_of(pictures, total, info)
        return observation, total, terminated, truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The last image at the env's own size, (H, W, C) uint8."""
        return self._picture.copy()

    def close(self) -> None:
        self.game.close()

    def _is_kept(self, number: int) -> bool:
        """Whether the image of this step of the env, counted from 1, becomes one of the step's frames."""
        return number % (self.frame_skip // self.frames_per_step) == 0

    def _look(self, observation: Any, ended: bool = False) -> np.ndarray:
        """The current image, (H, W, C) uint8; the previous one if the episode has ended and the env shows nothing."""
        seen = observation if self._shows else self.game.render()
        before = self._picture if self._picture.size else None
        source = "the env's observations" if self._shows else "the env's render()"
        if seen is None and ended and before is not None:
            return before
        if not isinstance(seen, np.ndarray):
            raise ValueError(f"{source} must be one image, a NumPy array (H, W, C), got {_kind(seen)}")
        try:
            picture = to_bytes(seen).copy()
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.ndim != 3 or (before is not None and picture.shape != before.shape):
            wanted = "(H, W, C) or (H, W)" if before is None else f"{before.shape} as before"
            raise ValueError(f"{source} must be images {wanted}, got an array {seen.shape}")
        return before if ended and before is not None and not picture.any() else picture

    def _step_of(
        self, pictures: list[np.ndarray], native_reward: float, game_info: dict[str, Any]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Observation and info of a step with these images; `game_info` comes from the wrapped env."""
        frames = area_resize(np.stack(pictures), *self.observation_space.shape[:2])
        named = {name: finite(f"signal {name!r}", read(self.game, game_info)) for name, read in self._readers.items()}
        signals = np.array(list(named.values()), np.float32)
        return frames[-1].copy(), {"frames": frames, "signals": signals, "native_reward": native_reward, **named}


def _from_info(name: str) -> SignalReader:
    def read(env: gym.Env, info: dict[str, Any]) -> float:
        if name not in info:
            raise ValueError(
                f"the env's info has no {name!r}, it holds {', '.join(info) or 'nothing'}; choose signals that it "
                "holds at every reset and step, or give functions"
            )
        return info[name]

    return read


def _readers(signals: Any) -> dict[str, SignalReader]:
    if isinstance(signals, str):
        raise TypeError(f"signals must be a list of names, such as [{signals!r}], got the string {signals!r}")
    if not isinstance(signals, Mapping):
        if len(set(signals)) < len(signals):
            raise ValueError(f"names of signals must be different, got {', '.join(map(str, signals))}")
        signals = {name: name for name in signals}
    for name, read in signals.items():
        if not isinstance(name, str):
            raise TypeError(f"names of signals must be strings, got {name!r}")
        if name in _OWN_INFO or name.startswith("_"):
            raise ValueError(
                f"a signal cannot be called {name!r}: info has own keys {', '.join(_OWN_INFO)}, and masks that begin "
                'with "_"; choose another name, signals={NAME: …}'
            )
        if not isinstance(read, str) and not callable(read):
            raise TypeError(f"signal {name!r} must be a name in info, or a function of env and info; got {read!r}")
    return {name: _from_info(read) if isinstance(read, str) else read for name, read in signals.items()}


def _kind(seen: Any) -> str:
    if isinstance(seen, list | tuple):
        return f"a {type(seen).__name__} of {len(seen)}"
    return "None" if seen is None else f"a {type(seen).__name__}"


def _check_size(size: Any) -> None:
    if size is None:
        return
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(side, int | np.integer) for side in size):
        raise TypeError(f"size is (height, width) in pixels, or None, got {size!r}")
