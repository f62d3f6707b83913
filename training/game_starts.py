"""Dreams that begin where the real game begins: the first step of real episodes, encoded.

Of the starts in a checkpoint half come from the middle of recorded play, of older ones all. A dream from there is
another task than a fresh episode of the game, and their returns do not compare.

Letters: K episodes, F frames of a step, H W C pixels, G signals.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

import gymnasium as gym
import numpy as np
import torch

from worldmodel.batches import Starts
from worldmodel.model import WorldModel
from worldmodel.training.scores import encode_decode


@contextmanager
def open_game(wm: WorldModel, env_id: str) -> Iterator[gym.Env]:
    """The real game, after checking that it is the dream's: same actions, same unit of reward."""
    env = gym.make(env_id)
    try:
        if env.action_space != wm.config.action.held.to_gym():
            raise ValueError(
                f"the dream's actions are {wm.config.action.held.to_gym()}, those of {env_id} are {env.action_space}; "
                f"compare it with the game it was learned from{_home(wm)}"
            )
        unit = getattr(env.unwrapped, "reward_kind", wm.config.reward)
        if unit != wm.config.reward:
            raise ValueError(
                f"the dream's rewards are of the kind {wm.config.reward!r}, those of {env_id} are {unit!r}, and their "
                f"sums do not compare; give the game it was learned from{_home(wm)}"
            )
        yield env
    finally:
        env.close()


def _home(wm: WorldModel) -> str:
    return f", {wm.config.env_id}" if wm.config.env_id else ""


def begin_in_game(wm: WorldModel, env: gym.Env, count: int, seed: int) -> WorldModel:
    """The same model (not a copy of its weights) whose dreams begin with the first step of `count` real episodes.

    Args:
        env: as `open_game` gives it; start i is its reset with seed + i.
    """
    if wm.config.dynamics.frame_condition > 1:
        raise ValueError(
            f"this model is told {wm.config.dynamics.frame_condition} first steps, and the game shows one before the "
            'first action; begin with recorded play instead (starts="recorded", --starts recorded)'
        )
    infos = [env.reset(seed=seed + i)[1] for i in range(count)]
    names, shape = wm.config.signal_names, (wm.frames_per_step, wm.height, wm.width, wm.config.tokenizer.channels)
    for name in ("frames", *names):
        if name not in infos[0]:
            raise ValueError(
                f"a start needs info[{name!r}], as VideoGenReal-… envs give it; here is {', '.join(infos[0])}"
            )
    frames = np.stack([info["frames"] for info in infos])
    if frames.shape[1:] != shape:
        raise ValueError(f"the dream has frames {shape} (F, H, W, C), the game shows {frames.shape[1:]}")
    codes, _ = encode_decode(wm.tokenizer, torch.from_numpy(frames)[:, None], wm.device)
    action = wm.config.action
    actions = torch.zeros((count, 0, *action.shape), dtype=torch.float32 if action.kind == "box" else torch.int64)
    signals = torch.tensor([[info[name] for name in names] for info in infos], dtype=torch.float32)
    begins = copy(wm)
    begins.starts = Starts(codes, actions, signals.view(count, 1, len(names)))
    return begins


def begin_in_middle(wm: WorldModel) -> WorldModel:
    """The same model (not a copy of its weights) whose dreams all begin in the middle of recorded play."""
    begins = copy(wm)
    begins.starts = None if wm.starts is None else wm.starts._replace(first=None)
    return begins
