"""A tiny game for collection tests: a step counter that ends after a random number of steps.

Importing this module registers the games; worker processes import it on meeting GAME_ID or LARGER_GAME_ID.
"""

import time

import gymnasium as gym
import numpy as np

from worldmodel.data import ActionSpec

GAME_ID = "tests.training.counting_game:CountingGame-v0"
LARGER_GAME_ID = "tests.training.counting_game:LargerCountingGame-v0"  # frames that an agent's network can see
TWO_BUTTONS = "tests.training.counting_game:TwoButtons-v0"  # a wrapper replaces the game's actions by two


class CountingGame(gym.Env):
    """Frames are noise from the env's seed; the signal counts steps; action 1 is rewarded with 1, action 2 with -1.

    Args:
        step_seconds: how long a step takes.
        fails: raise an error in the second episode.
        labels: tell that bright pixels are things.
    """

    metadata = {"render_modes": [], "render_fps": 12}  # noqa: RUF012
    action_spec = ActionSpec(kind="discrete", n=3, names=("noop", "left", "right"))  # as tests.tiny
    signal_names = ("COUNT",)
    frames_per_step = 2
    reward_kind = "health"
    size = 8  # pixels of a frame, high and wide

    def __init__(self, step_seconds: float = 0.0, fails: bool = False, labels: bool = False) -> None:
        self.label_names = ("thing", "other") if labels else ()
        self.action_space = self.action_spec.to_gym()
        self.observation_space = gym.spaces.Box(0, 255, (self.size, self.size, 3), np.uint8)
        self.step_seconds = step_seconds
        self.fails = fails
        self.episodes = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episodes += 1
        if self.fails and self.episodes == 2:
            raise ArithmeticError("the game is broken")
        self.count, self.length = 0, int(self.np_random.integers(4, 12))
        return self._told(0.0)

    def step(self, action):
        time.sleep(self.step_seconds)
        self.count += 1
        reward = (0.0, 1.0, -1.0)[action]
        observation, info = self._told(10 * reward)
        over = self.count == self.length
        return observation, reward, over and self.length % 2 == 0, over and self.length % 2 == 1, info

    def _told(self, native_reward: float):
        frames = self.np_random.integers(0, 256, (2, *self.observation_space.shape)).astype(np.uint8)
        signals = np.array([self.count], np.float32)
        info = {"frames": frames, "signals": signals, "native_reward": native_reward, "COUNT": self.count}
        if self.label_names:
            info["labels"] = (frames[..., :2] > 127).all(-1, keepdims=True).repeat(2, axis=-1).astype(np.uint8)
        return frames[-1], info


class LargerCountingGame(CountingGame):
    size = 16


def two_buttons() -> gym.Env:
    """The larger game with its last two actions alone."""
    return gym.wrappers.TransformAction(LargerCountingGame(), lambda button: button + 1, gym.spaces.Discrete(2))


gym.register("CountingGame-v0", entry_point=CountingGame)
gym.register("TwoButtons-v0", entry_point=two_buttons)
gym.register("LargerCountingGame-v0", entry_point=LargerCountingGame)
