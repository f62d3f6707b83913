"""What can be shown of a world model: real play beside its dream, futures of one start, one sequence of actions.

Letters: T steps, F frames of a step, H W C pixels, h w latent grid, M slices.
Source: VideoGen (arXiv:2104.10157) figures 5 to 8.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agents.blind.policies import is_scripted
from worldmodel.data import EpisodeStorage
from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.env import world_of
from worldmodel.envs.registry import load_model, steps_per_second
from worldmodel.envs.spaces import observe
from worldmodel.media.code_colors import code_colors, draw_changes
from worldmodel.media.write import as_rgb
from worldmodel.model import WorldModel
from worldmodel.progress import Progress, progress
from worldmodel.training.dream_vs_real.policies import Player, make_player
from worldmodel.training.show.dreamt import Act, Dreamt, begin, decoded, dream, encoded, recorded, surprise
from worldmodel.training.show.lanes import (
    CODES,
    DREAMT,
    GIVEN,
    REAL,
    RECONSTRUCTED,
    REWARD,
    SURPRISE,
    Lane,
    Story,
    code_frames,
    curve,
)
from worldmodel.training.show.real_play import Clip
from worldmodel.training.show.settings import ShowConfig, check_players
from worldmodel.training.show.starts import Source, Start, clips, name_of, starts
from worldmodel.training.show.storyboard import Storyboard

World = WorldModel | str | os.PathLike
Store = EpisodeStorage | str | Path


def rollout(
    model: World,
    *,
    data: Store | None = None,
    real: str | None = None,
    player: str | os.PathLike = "sticky",
    device: str = "auto",
    **settings: Any,
) -> Storyboard:
    """Real play, its reconstruction, and the dream that continues its first steps by the same actions.

    Args:
        model: a world model, or a run folder, a checkpoint folder, a shipped name, a hub id or a dream's id.
        data: store of the game; None: the game is played now.
        real: id of the game to play; None: that of the model.
        player: who plays the game: a blind policy, such as cycle:move_left*8,move_right*8, or a saved agent's folder.
        settings: fields of `ShowConfig`.
    """
    config, wm = ShowConfig(**settings), open_world(model, device)
    given = config.given_steps
    found = clips(wm, Source(data, real, str(player)), config.n or 1, given, config)
    lanes: list[Lane] = []
    with progress(sum(len(clip.frames) - given for clip in found), "step", "dream") as bar:
        for index, clip in enumerate(found):
            lanes += _rollout_lanes(wm, clip, config, config.seed + index, bar)
    own = None if len(found) == 1 else [clip.actions for clip in found]
    first = range(0, len(lanes), len(lanes) // len(found))
    if own is not None:
        for place, actions in zip(first, own, strict=True):
            lanes[place] = lanes[place]._replace(actions=actions)
    lanes = [lane._replace(opens=place in first and place > 0) for place, lane in enumerate(lanes)]
    title = f"{name_of(model)}: {_steps(given)} of the real game given, then dreamt by the same actions"
    return board(wm, title, lanes, given, found[0].actions if own is None else None)


def futures(
    model: World,
    *,
    data: Store | None = None,
    real: str | None = None,
    players: Sequence[str | os.PathLike] = ("sticky",),
    device: str = "auto",
    **settings: Any,
) -> Storyboard:
    """Several dreamt futures of one start: other draws with the same actions, or of several players.

    Args:
        model, data, real: as in `rollout`; with neither store nor game one of the model's own starts.
        players: who acts in the dream: blind policies, or folders of saved agents.
        settings: fields of `ShowConfig`; n futures of each player.
    """
    config, wm = ShowConfig(**settings), open_world(model, device)
    check_players(players)
    n = config.n or (4 if len(players) == 1 else 1)
    (start,) = starts(wm, Source(data, real), 1, config.given_steps, config)
    lanes = []
    with progress(len(players) * n * config.steps, "step", "dream") as bar:
        for player in (make_player(wm, name) for name in players):
            state = start.state.repeat(n).reseed(range(config.seed, config.seed + n))
            dreams = dream(wm, state, played(wm, player, n, config.seed), config.steps, config.temperature, bar)
            for number, one in enumerate(dreams):
                who = short_name(player.name) if len(players) > 1 else "future"
                lanes += _dream_lanes(wm, f"{who} {number + 1}" if n > 1 else who, start, one, config)
    return _with_actions(wm, f"{name_of(model)}: {len(players) * n} futures of one start", lanes)


def same_actions(
    model: World,
    *,
    data: Store | None = None,
    real: str | None = None,
    player: str = "sticky",
    device: str = "auto",
    **settings: Any,
) -> Storyboard:
    """One sequence of actions, dreamt from several starts.

    Args:
        model, data, real: as in `futures`.
        player: the blind policy that gives the actions, such as cycle:turn_right*4,move_forward*8.
        settings: fields of `ShowConfig`; n starts.
    """
    config, wm = ShowConfig(**settings), open_world(model, device)
    if not is_scripted(str(player)):
        raise ValueError(f"the same actions from every start need a blind policy, such as sticky, got {player}")
    begun = starts(wm, Source(data, real), config.n or 4, config.given_steps, config)
    lanes = []
    with progress(len(begun) * config.steps, "step", "dream") as bar:
        for number, start in enumerate(begun):
            act = played(wm, make_player(wm, player), 1, config.seed)
            (one,) = dream(wm, start.state, act, config.steps, config.temperature, bar)
            lanes += _dream_lanes(wm, f"start {number + 1}", start, one, config)
    return _with_actions(wm, f"{name_of(model)}: the same actions from {len(begun)} starts", lanes)


# --- lanes -----------------------------------------------------------------------------------------------------------


def _rollout_lanes(wm: WorldModel, clip: Clip, config: ShowConfig, seed: int, bar: Progress) -> list[Lane]:
    """Real play, reconstruction and dream, each followed by its codes if they are wanted."""
    given, steps = config.given_steps, len(clip.frames)
    codes = encoded(wm, clip.frames)
    (one,) = dream(wm, begin(wm, clip, given, seed), recorded(wm, clip, given), steps - given, config.temperature, bar)
    both = torch.cat((codes[:given], torch.from_numpy(one.codes))).numpy()
    nats = curve(surprise(wm, clip, codes, given), given)
    known = {SURPRISE: nats, REWARD: curve(clip.rewards, 1)}
    real = Lane("real game", as_rgb(clip.frames), _origins(given, REAL, steps), known, ended=clip.ended)
    again = Lane("reconstruction", as_rgb(decoded(wm, codes)), (RECONSTRUCTED,) * steps)
    dreamt = _dream_lane("dream", as_rgb(decoded(wm, both)), given, one)
    if not config.codes:
        return [real, again, dreamt]
    return [real, again, *code_lanes(wm, "real game", codes.numpy()), dreamt, *code_lanes(wm, "dream", both)]


def _dream_lanes(wm: WorldModel, label: str, start: Start, one: Dreamt, config: ShowConfig) -> list[Lane]:
    """The last given step and the dream, with its actions, followed by its codes if they are wanted."""
    codes = np.concatenate((start.last[None], one.codes))
    lane = _dream_lane(label, as_rgb(decoded(wm, codes)), 1, one)._replace(actions=one.actions)
    return [lane, *(code_lanes(wm, label, codes) if config.codes else [])]


def _dream_lane(label: str, frames: NDArray[np.uint8], given: int, one: Dreamt) -> Lane:
    known = {SURPRISE: curve(one.nll, given), REWARD: curve(one.rewards, given)}
    return Lane(label, frames, _origins(given, DREAMT, len(frames)), known, ended="ended" if one.ended else "")


def code_lanes(wm: WorldModel, of: str, codes: NDArray[np.int64]) -> list[Lane]:
    """Codes (T, h, w, M) as `show-codes` draws them: a lane of colours and one of changes for each codebook."""
    shape = wm.frames_per_step, wm.height, wm.width
    maps = {name: part[0].numpy() for name, part in wm.tokenizer.code_maps(torch.from_numpy(codes[None])).items()}
    colors = code_colors(1 + max(int(part.max()) for part in maps.values()))
    lanes = []
    for name, part in maps.items():
        which = of if len(maps) == 1 else f"{of}\n{name}"
        for label, images in ((f"codes of\n{which}", colors[part]), (f"changes of\n{which}", draw_changes(part))):
            lanes.append(Lane(label, code_frames(images, shape), (CODES,) * len(codes)))
    return lanes


def _origins(given: int, then: str, steps: int) -> tuple[str, ...]:
    return ((GIVEN,) * given + (then,) * steps)[:steps]


def _with_actions(wm: WorldModel, title: str, lanes: Sequence[Lane]) -> Storyboard:
    """Lanes after one given step; where all have the same actions, these stand above them once."""
    every = [lane.actions for lane in lanes if lane.actions is not None]
    longest = max(every, key=len)
    if all(np.array_equal(actions, longest[: len(actions)]) for actions in every):
        return board(wm, title, [lane._replace(actions=None) for lane in lanes], 1, longest)
    return board(wm, title, lanes, 1, None)


def board(wm: WorldModel, title: str, lanes: Sequence[Lane], given: int, actions: NDArray | None) -> Storyboard:
    """Lanes and their common actions as a storyboard."""
    pace = steps_per_second(wm.config)
    title = f"{title} (a step is {1 / pace:.2f} s)"
    return Storyboard(Story(title, tuple(lanes), given, wm.config.action, pace, actions))


# --- small things ----------------------------------------------------------------------------------------------------


def open_world(model: World, device: str) -> WorldModel:
    """The world model, also that of a dream's id."""
    return load_model(world_of(model) if isinstance(model, str) else model, device)


def played(wm: WorldModel, player: Player, rows: int, seed: int) -> Act:
    """A player's actions in dreams; it draws alike in all rows."""
    policy = player.policy
    policy.reset()
    policy.seed_rows(range(rows), [seed] * rows)

    def act(state: DreamState) -> torch.Tensor:
        chosen = policy.act(observe(wm, state, player.obs).cpu().numpy())
        return wm.config.action.hold(torch.as_tensor(chosen, device=wm.device))

    return act


def short_name(name: str) -> str:
    """A player's name in a label: on several lines, of a folder its last part."""
    return name.replace(":", ":\n").replace(",", ",\n") if is_scripted(name) else Path(name).name


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
