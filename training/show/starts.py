"""Where shown dreams begin: in real play, or in a world model's own starts.

Letters: T steps, h w latent grid, M slices.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.dynamics import DreamState
from worldmodel.model import WorldModel
from worldmodel.training.show.dreamt import begin, encoded
from worldmodel.training.show.real_play import Clip, clips_of_game, clips_of_store
from worldmodel.training.show.settings import ShowConfig


class Source(NamedTuple):
    """What real play to take; with neither a store nor a game the world's own starts."""

    data: EpisodeStorage | str | Path | None = None
    real: str | None = None  # id of a game, which is played now
    player: str = "sticky"  # by whom


class Start(NamedTuple):
    """The beginning of dreams."""

    state: DreamState  # one row
    last: NDArray[np.int64]  # (h, w, M), the codes of the last step that the dream is given


def real_game(wm: WorldModel) -> str:
    """The id of the game that a world was learned from."""
    if not wm.config.env_id:
        raise ValueError("this world does not name its game: give real play, data=STORE (--data), or the id of the "
                         "game, real=ID (--real)")  # fmt: skip
    return wm.config.env_id


def clips(wm: WorldModel, source: Source, n: int, given: int, config: ShowConfig) -> list[Clip]:
    """`n` clips of `given` steps and those to dream after them, or fewer where a game ends before."""
    steps = given + config.steps
    if source.data is not None and source.real is not None:
        raise ValueError("real play comes from a store (data) or is played now (real): leave one out")
    if source.data is None:
        env_id = source.real or real_game(wm)
        return clips_of_game(wm, env_id, source.player, n, steps, given + 1, config.seed, config.skip)
    return clips_of_store(wm, open_stores(source.data), n, steps, config.split, config.seed)


def starts(wm: WorldModel, source: Source, n: int, given: int, config: ShowConfig) -> list[Start]:
    """`n` different beginnings."""
    if source.data is None and source.real is None:
        return _own_starts(wm, n, config.seed)
    found = []
    for index, clip in enumerate(clips(wm, source, n, given, config)):
        codes = encoded(wm, clip.frames[given - 1 : given])
        found.append(Start(begin(wm, clip, given, config.seed + index), codes[0].numpy()))
    return found


def _own_starts(wm: WorldModel, n: int, seed: int) -> list[Start]:
    if wm.starts is None:
        raise ValueError("this world has no starts of its own: give real play, data=STORE (--data) or real=ID (--real)")
    count = len(wm.starts.codes)
    rows = np.random.default_rng(seed).choice(count, n, replace=n > count)
    codes, actions, signals = (tensor[torch.from_numpy(rows)] for tensor in wm.starts[:3])
    states = (
        wm.start_codes(codes[row, None], actions[row, None], signals[row, None, -1], [seed + row]) for row in range(n)
    )
    return [Start(state, codes[row, -1].cpu().numpy()) for row, state in enumerate(states)]


def name_of(model: WorldModel | str | os.PathLike) -> str:
    """What a title calls a world: of an absolute path the last folder."""
    if isinstance(model, WorldModel):
        return model.config.env_id or "a world model"
    return Path(model).name if Path(model).is_absolute() else str(model)
