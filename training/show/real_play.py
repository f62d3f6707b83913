"""Clips of a real game to show: out of a store, or played now.

Letters: n clips, T steps, F frames of a step, H W C pixels, G signals.
"""

from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.data import EpisodeStorage
from worldmodel.model import WorldModel
from worldmodel.progress import progress
from worldmodel.training.dream_vs_real.game_starts import open_game
from worldmodel.training.dream_vs_real.policies import Player, make_player
from worldmodel.training.show.sample_inputs import check_same_game, real_clips
from worldmodel.training.show.scenes import GameScene

_TRIES = 20  # episodes that are played for a clip of the wanted length


class Clip(NamedTuple):
    """Consecutive steps of one episode."""

    frames: NDArray[np.uint8]  # (T, F, H, W, C)
    actions: NDArray  # (T-1, …) as a store holds them
    rewards: NDArray[np.float32]  # (T-1,)
    signals: NDArray[np.float32]  # (T, G)
    ended: str  # how the episode ended with the last step; "" if it did not


def clips_of_store(
    wm: WorldModel, store: EpisodeStorage, n: int, steps: int, split: str = "test", seed: int = 0
) -> list[Clip]:
    """`n` clips of `steps` steps, drawn from a split."""
    check_same_game(wm.config, store)
    batch = store.batch(real_clips(store, n, steps, split, seed))
    clips = []
    for row in range(n):
        frames, actions, rewards, signals = (
            column[row].numpy() for column in (batch.frames, batch.actions, batch.rewards, batch.signals)
        )
        ended = "ended" if batch.terminated[row, -1] else "time up" if batch.truncated[row, -1] else ""
        clips.append(Clip(frames, actions, rewards, signals, ended))
    return clips


def clips_of_game(
    wm: WorldModel, env_id: str, player: str, n: int, steps: int, least: int, seed: int = 0, skip: int = 0
) -> list[Clip]:
    """Play the real game: `n` clips of up to `steps` steps, and at least `least`, of the episodes with seeds `seed` on.

    Args:
        player: who plays, a blind policy or an agent.
        skip: steps that are played before a clip.
    """
    clips: list[Clip] = []
    with open_game(wm, env_id) as env, progress(n * (skip + steps), "step", f"play {env_id}") as bar:
        scene = game_scene(wm, env, make_player(wm, player), seed)
        for _ in range(_TRIES * n):
            clip = _play(wm, scene, steps, skip)
            if len(clip.frames) >= least:
                clips.append(clip)
                bar.update(skip + steps)
            if len(clips) == n:
                return clips
    raise ValueError(
        f"no episode of {env_id} from seed {seed} on lasted {skip + least} steps: skip fewer (--skip), give fewer "
        "(--given-steps), or choose another player (--players)"
    )


def _play(wm: WorldModel, scene: GameScene, steps: int, skip: int) -> Clip:
    """The next episode of the scene, from step `skip` on; empty if it ends before."""
    shown = scene.begin()
    frames, actions, rewards, signals = [], [], [], []
    while True:
        action, seen = scene.last_step()
        if shown.step >= skip:
            frames.append(seen.copy())
            signals.append([shown.signals[name] for name in wm.config.signal_names])
            if shown.step > skip:
                actions.append(action)
                rewards.append(shown.reward)
        if shown.ended or len(frames) == steps:
            break
        shown = scene.step()
    held = wm.config.action.held
    taken = np.array(actions, held.dtype).reshape(len(actions), *held.shape)
    return Clip(
        np.array(frames, np.uint8),
        wm.config.action.hold(torch.from_numpy(taken)).numpy(),
        np.array(rewards, np.float32),
        np.array(signals, np.float32).reshape(len(frames), len(wm.config.signal_names)),
        shown.ending,
    )


def game_scene(wm: WorldModel, env: gym.Env, player: Player, seed: int) -> GameScene:
    """The real game with a player who sees it as in its training; the signals are those of the model."""
    view = (wm, player.obs) if player.sees == "dream" else None
    scene = GameScene(env, wm.config.action.held, player.policy, view, seed)
    scene.signal_names = wm.config.signal_names
    return scene
