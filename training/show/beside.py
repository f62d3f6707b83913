"""Players in the dream and in the real game, side by side from the same first frame.

Letters: T steps, F frames of a step, H W C pixels.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from worldmodel.data import ActionSpec
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.model import WorldModel
from worldmodel.progress import Progress, progress
from worldmodel.training.dream_vs_real.game_starts import open_game
from worldmodel.training.dream_vs_real.policies import make_player
from worldmodel.training.show.kinds import World, board, open_world, short_name
from worldmodel.training.show.lanes import DREAMT, GIVEN, REAL, REWARD, SURPRISE, Lane, curve
from worldmodel.training.show.real_play import game_scene
from worldmodel.training.show.scenes import DreamScene, Scene
from worldmodel.training.show.settings import ShowConfig, check_players
from worldmodel.training.show.starts import name_of, real_game
from worldmodel.training.show.storyboard import Storyboard


def players(
    model: World,
    *,
    real: str | None = None,
    players: Sequence[str | os.PathLike] = ("sticky",),
    device: str = "auto",
    **settings: Any,
) -> Storyboard:
    """Players in the dream and in the real game: the first frame is the same, then each world goes its own way.

    Args:
        model: as in `rollout`.
        real: id of the game; None: that of the model.
        players: blind policies, or folders of saved agents, which see both worlds as in their training.
        settings: fields of `ShowConfig`; n episodes of each player, `steps` steps or less.
    """
    config, wm = ShowConfig(**settings), open_world(model, device)
    check_players(players)
    env_id, n = real or real_game(wm), config.n or 1
    lanes: list[Lane] = []
    with progress(2 * len(players) * n * config.steps, "step", "play") as bar:
        for name in players:
            for episode in range(n):
                seed = config.seed + episode
                label = short_name(str(name)) + (f" {episode + 1}" if n > 1 else "")
                lanes += _both(wm, env_id, str(name), label, seed, config, bar)
    lanes = [lane._replace(opens=place % 2 == 0 and place > 0) for place, lane in enumerate(lanes)]
    title = f"{name_of(model)}: the same player from the same first frame, in the real game and in the dream"
    return board(wm, title, lanes, 1, None)


def _both(
    wm: WorldModel, env_id: str, name: str, label: str, seed: int, config: ShowConfig, bar: Progress
) -> list[Lane]:
    """An episode of the game, and the dream that begins with its first step."""
    with open_game(wm, env_id) as env:
        game = game_scene(wm, env, make_player(wm, name), seed)
        game.begin()
        first = game.recent()
        real = _lane(game, wm.config.action, f"{label}\nreal game", REAL, config.steps, bar)
    dreamer = make_player(wm, name)
    dream = DreamScene(DreamEnv(wm, dreamer.obs, config.temperature), dreamer.policy, seed)  # type: ignore[arg-type]
    dream.begin(first)
    return [real, _lane(dream, wm.config.action, f"{label}\ndream", DREAMT, config.steps, bar)]


def _lane(scene: Scene, action: ActionSpec, label: str, origin: str, steps: int, bar: Progress) -> Lane:
    """Let the scene's policy play from its first step on, which is given, to the end or for `steps` steps.

    The lane has the world's actions, which hold the player's for all frames of a step.
    """
    assert scene.shown is not None
    shown, actions = [scene.shown], []
    while len(shown) <= steps and not shown[-1].ended:
        shown.append(scene.step())
        actions.append(scene.last_action)
        bar.update(1)
    known = {REWARD: curve([one.reward for one in shown[1:]], 1)}
    if scene.is_dream:
        known = {SURPRISE: curve([np.nan if one.nll is None else one.nll for one in shown[1:]], 1)} | known
    taken = np.array(actions, action.dtype).reshape(len(actions), *action.held.shape)
    return Lane(
        f"{label}\nreturn {shown[-1].total:.1f}",
        np.stack([one.frames for one in shown]),
        (GIVEN, *(origin,) * (len(shown) - 1)),
        known,
        action.hold(torch.from_numpy(taken)).numpy(),
        shown[-1].ending,
    )
