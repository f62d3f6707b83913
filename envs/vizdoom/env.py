"""ViZDoom scenarios as Gymnasium environments that return every frame a world model learns from.

Letters: F frames per step, G signals, H W C pixels.
"""

import os
import tempfile
import threading
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.error import DependencyNotInstalled, InvalidAction, ResetNeeded

from worldmodel.data import ActionSpec
from worldmodel.envs.vizdoom.battle2 import battle2_wad
from worldmodel.envs.vizdoom.object_labels import OTHER, read_labels
from worldmodel.envs.vizdoom.scenarios import Scenario, find_scenario
from worldmodel.errors import check_known, refuse_unknown
from worldmodel.media.resize import area_resize

if TYPE_CHECKING:
    import vizdoom

TICS_PER_SECOND = 35
SIZE = 64  # height and width of a stored frame
_SCREEN_HEIGHT, _SCREEN_WIDTH = 120, 160
_REWARDS = ("native", "health")
_HEALTH_PER_REWARD = 10.0
_working_folder_lock = threading.Lock()  # the working folder belongs to the whole process


class VizdoomEnv(gym.Env[np.ndarray, np.int64]):
    """One Doom scenario. A step holds an action's buttons for `frame_skip` tics and returns `frames_per_step` frames.

    The observation is the last frame of the step, (64, 64, 3) uint8 RGB. `info`, at reset and at every step, holds:

    - ``frames``: (F, 64, 64, 3) uint8, the evenly spaced frames of the step; at reset the first frame F times;
    - ``signals``: (G,) float32 in the order of `signal_names`, and each signal also under its own name;
    - ``native_reward``: the scenario's own reward of the step (0.0 at reset), whatever `reward` is;
    - ``labels``, if requested: (F, 64, 64, 2) uint8, for each pixel of the frames the class of the object it shows and
      the object's number in that frame; 0 for walls, floor, sky and the player's weapon. Class c is
      ``label_names[c - 1]``. `worldmodel.envs.vizdoom.object_labels` defines which pixels belong to an object.

    An episode terminates when the game ends (death, goal reached) and truncates when time is up, never both: a death in
    the last tic is a death. The game shows nothing after its end, so the last valid frame is repeated.
    HEALTH is never reported below 0 (Doom itself goes below it by the depth of the last wound).

    Args:
        scenario: a name in `worldmodel.envs.vizdoom.scenarios.SCENARIOS`.
        reward: "native" is the scenario's own; "health" is the step's change of HEALTH / 10, so that
            a hit counts as much as it takes.
        frame_skip: tics (1/35 s) per step; a multiple of `frames_per_step`.
        frames_per_step: F.
        hud: show the status bar.
        episode_timeout: tics until time is up; None for the scenario's own.
        labels: add labels of objects to `info`; the frames stay the same. For evaluation: nothing learns from them.
        render_mode: "rgb_array" or None; `render()` returns the game's own 120 × 160 image.

    Raises:
        ValueError: an option's value is not valid.
        TypeError: an option is unknown.
        FileNotFoundError: the scenario's map is missing; the message says how to get it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": TICS_PER_SECOND / 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str = "health_gathering_supreme",
        *,
        reward: Literal["native", "health"] = "native",
        frame_skip: int = 4,
        frames_per_step: int = 2,
        hud: bool = False,
        episode_timeout: int | None = None,
        labels: bool = False,
        render_mode: str | None = None,
        **unknown: object,
    ) -> None:
        refuse_unknown(unknown, VizdoomEnv)
        check_known("reward", reward, _REWARDS)
        if frames_per_step < 1 or frame_skip < 1 or frame_skip % frames_per_step:
            raise ValueError(
                "frame_skip must be a multiple of frames_per_step, both at least 1, "
                f"got frame_skip={frame_skip} and frames_per_step={frames_per_step}"
            )
        if episode_timeout is not None and episode_timeout < 1:
            raise ValueError(f"episode_timeout must be at least 1 tic, or None, got {episode_timeout}")
        if render_mode is not None:
            check_known("render_mode", render_mode, ["rgb_array"])

        self._scenario = find_scenario(scenario)
        self.scenario = self._scenario.name
        self.reward_kind = reward
        self.frame_skip = frame_skip
        self.frames_per_step = frames_per_step
        self.action_names = self._scenario.action_names
        self.signal_names = self._scenario.signals
        self.label_names = (*self._scenario.objects, OTHER) if labels else ()
        self.action_spec = ActionSpec(kind="discrete", n=len(self.action_names), names=self.action_names)
        self.action_space = gym.spaces.Discrete(len(self.action_names))
        self.observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": TICS_PER_SECOND / frame_skip}

        self._timeout = self._scenario.timeout if episode_timeout is None else episode_timeout
        self._game = _make_game(self._scenario, hud)
        self._game.set_labels_buffer_enabled(labels)
        self._presses = self._scenario.presses
        self._playing = False
        self._tics = 0
        self._signals: dict[str, float] = {}
        self._screen = np.zeros((_SCREEN_HEIGHT, _SCREEN_WIDTH, 3), np.uint8)
        self._labels = np.zeros((SIZE, SIZE, 2), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the same seed gives the same frames, and so do the unseeded resets that follow it."""
        super().reset(seed=seed)
        if not self._game.is_running():
            _start(self._game)
        elif "ATTACK" in self._scenario.buttons:
            self._steady_weapon()
        self._game.set_seed(int(self.np_random.integers(2**31)))
        self._game.new_episode()
        self._playing, self._tics = True, 0
        self._look()
        self._signals = self._read_signals()
        frames = np.repeat(area_resize(self._screen[None], SIZE, SIZE), self.frames_per_step, axis=0)
        return frames[-1].copy(), self._info(frames, [self._labels] * self.frames_per_step, native_reward=0.0)

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the action's buttons for `frame_skip` tics."""
        if not self._playing:
            raise ResetNeeded("No episode is running: it has not begun, or it has ended. Call reset() before step().")
        if not self.action_space.contains(action):
            names = ", ".join(f"{i} {name}" for i, name in enumerate(self.action_names))
            raise InvalidAction(f"action must be an integer among {names}; got {action!r}")

        game = self._game
        game.set_action(self._presses[int(action)])
        screens, labels, native_reward = [], [], 0.0
        for _ in range(self.frames_per_step):
            tics = self.frame_skip // self.frames_per_step
            if self._timeout is not None:
                tics = min(tics, self._timeout - self._tics)
            if tics and not game.is_episode_finished():
                game.advance_action(tics)
                self._tics += tics
                native_reward += game.get_last_reward()
                if not game.is_episode_finished():
                    self._look()
            screens.append(self._screen)
            labels.append(self._labels)
        frames = area_resize(np.stack(screens), SIZE, SIZE)

        terminated = game.is_episode_finished()
        truncated = not terminated and self._tics == self._timeout
        self._playing = not (terminated or truncated)
        health, self._signals = self._signals["HEALTH"], self._read_signals()
        reward = native_reward
        if self.reward_kind == "health":
            reward = (self._signals["HEALTH"] - health) / _HEALTH_PER_REWARD
        return frames[-1].copy(), reward, terminated, truncated, self._info(frames, labels, native_reward)

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The last image at the game's own size, (120, 160, 3) uint8, or None without a render mode."""
        return self._screen.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Stop the game; calling it again does nothing."""
        self._playing = False
        self._game.close()

    def _look(self) -> None:
        """Store what the game shows."""
        state = self._game.get_state()
        self._screen = state.screen_buffer
        if self.label_names:
            self._labels = read_labels(state, self.label_names, SIZE, SIZE)

    def _steady_weapon(self) -> None:
        """Let the weapon come to rest in an episode that is not shown.

        It sways with the player's speed; ViZDoom smooths that over the frames it draws (by at least 1 of at most 16
        units each) and carries it over into the next episode, where equal seeds would give different frames.
        """
        self._game.new_episode()
        self._game.set_action(self._presses[0])
        for _ in range(16):
            self._game.advance_action(1)

    def _read_signals(self) -> dict[str, float]:
        import vizdoom

        read = self._game.get_game_variable
        # A dead player's HEALTH falls below 0 by the depth of the last wound; negative signals mean nothing here.
        names = {"HEALTH", *self.signal_names}
        return {name: max(read(getattr(vizdoom.GameVariable, name)), 0.0) for name in names}

    def _info(self, frames: np.ndarray, labels: list[np.ndarray], native_reward: float) -> dict[str, Any]:
        named = {name: self._signals[name] for name in self.signal_names}
        signals = np.array(list(named.values()), np.float32)
        seen = {"labels": np.stack(labels)} if self.label_names else {}
        return {"frames": frames, "signals": signals, "native_reward": native_reward, **seen, **named}


def _make_game(scenario: Scenario, hud: bool) -> "vizdoom.DoomGame":
    """A game with the scenario's settings, not yet started."""
    try:
        import vizdoom
    except ImportError as error:
        raise DependencyNotInstalled("ViZDoom is missing. Run: pip install 'vizdoom>=1.3,<1.4'") from error

    game = vizdoom.DoomGame()
    if scenario.settings is None:
        understood = game.load_config(str(Path(vizdoom.scenarios_path) / f"{scenario.name}.cfg"))
    else:
        understood = game.set_config(scenario.settings)
        game.set_doom_scenario_path(str(battle2_wad()))
    assert understood, f"ViZDoom does not know all settings of {scenario.name}"
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in scenario.buttons])
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_render_hud(hud)
    game.set_window_visible(False)
    # The env counts the tics itself: the game would end without a last frame, and does not distinguish a death in the
    # last tic from a time-out.
    game.set_episode_timeout(0)
    # battle2 has slits without a wall, which would show the previous frame; with this they are black.
    game.add_game_args("+r_clearbuffer 1")
    game.set_doom_config_path(os.devnull)  # on exit the game would write an .ini file, or complain that it cannot
    return game


def _start(game: "vizdoom.DoomGame") -> None:
    """Start the game's process in a temporary folder, since it leaves a folder "_vizdoom" in its working folder."""
    with _working_folder_lock, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chdir(folder):
        game.init()
