"""`videogen-dream show`: a storyboard of a world model, written as a picture or a film."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from worldmodel.data import EpisodeStorage
from worldmodel.model import WorldModel
from worldmodel.training.show.beside import players as players_beside
from worldmodel.training.show.kinds import futures, rollout, same_actions
from worldmodel.training.show.settings import ShowConfig, check_players
from worldmodel.training.show.storyboard import Storyboard, check_suffix

Kind = Literal["rollout", "futures", "same-actions", "players"]

# What players would ignore: they begin with the first frame of an episode of the game.
_NOT_FOR_PLAYERS = ("data", "given_steps", "skip", "split")


class Shown(NamedTuple):
    """A storyboard and its file."""

    board: Storyboard
    file: Path

    def __str__(self) -> str:
        return f"{self.board}\nwrote {self.file}"


def show(
    model: WorldModel | str | os.PathLike,
    /,
    out: str | Path,
    kind: Kind = "rollout",
    config: ShowConfig | None = None,
    *,
    data: EpisodeStorage | str | Path | None = None,
    real: str | None = None,
    players: Sequence[str | os.PathLike] = ("sticky",),
    columns: int | None = None,
    scale: int | None = None,
    fps: float | None = None,
    device: str = "auto",
) -> Shown:
    """Draw a world model's dreams as a sheet (.png) or as a film (.mp4, .gif, .webp).

    rollout: real play, its reconstruction, and the dream that continues its first steps by the same actions.
    futures: several dreams of one start, with other draws or of several players.
    same-actions: one sequence of actions dreamt from several starts.
    players: the same player in the dream and in the real game, from the same first frame.

    In notebooks: worldmodel.visualize (docs/show.md).

    Args:
        model: a run folder, a checkpoint folder, a shipped name, a hub id or a dream's id.
        out: file; its ending decides between sheet and film.
        kind: what to show.
        data: store of the game, for real play; without it the game is played now for rollout and players, and futures
            and same-actions begin with the model's own starts.
        real: id of the real game to play; without it that of the model, where one is needed.
        players: who acts: blind policies, such as sticky or cycle:move_left*8,move_right*8 (docs/collecting.md), or
            folders of saved agents; rollout and same-actions take one.
        columns: most steps in a row of a sheet (10), or panels in a row of a film (4).
        scale: screen pixels per pixel, by default 2 in a sheet and 4 in a film.
        fps: images per second of a film; without it as fast as the game.
        device: where the model runs; "auto" takes a GPU if there is one.

    Raises: ValueError if an argument or a setting would be ignored, or the model cannot dream step by step.
    """
    config, out = config or ShowConfig(), check_suffix(out)
    if out.suffix == ".png" and fps is not None:
        raise ValueError("a sheet has no speed: leave out fps (--fps), or write a film")
    _check(kind, config, data, real, players)
    settings = asdict(config)
    common: dict[str, Any] = {"real": real, "device": device, **settings}
    if kind == "rollout":
        board = rollout(model, data=data, player=players[0], **common)
    elif kind == "futures":
        board = futures(model, data=data, players=players, **common)
    elif kind == "same-actions":
        board = same_actions(model, data=data, player=str(players[0]), **common)
    else:
        board = players_beside(model, players=players, **common)
    layout = {"columns": columns, "scale": scale, "fps": fps}
    return Shown(board, board.save(out, **{name: value for name, value in layout.items() if value is not None}))


def _check(kind: Kind, config: ShowConfig, data: Any, real: str | None, players: Sequence[str | os.PathLike]) -> None:
    """Refuse what the kind would ignore."""
    check_players(players)
    if kind in ("rollout", "same-actions") and len(players) != 1:
        raise ValueError(f"{kind} takes one player (--players), got {len(players)}: {', '.join(map(str, players))}")
    given: Mapping[str, Any] = asdict(config) | {"data": data}
    usual = asdict(ShowConfig()) | {"data": None}
    changed = [name for name, value in given.items() if value is not usual[name] and value != usual[name]]
    reasons = {}
    if kind == "players":
        reasons = dict.fromkeys(_NOT_FOR_PLAYERS, "players begin with the first frame of the game")
        reasons["codes"] = "they are for the other kinds"
    if data is None:
        reasons.setdefault("split", "it is for a store (--data)")
    plays = real is not None or (kind == "rollout" and data is None)
    if not plays:
        reasons.setdefault("skip", "it is for a game that is played now (--real)")
    if not plays and data is None:
        own = "without real play (--data or --real) a dream is given the model's own starts"
        reasons.setdefault("given_steps", own)
    if kind == "rollout" and data is not None and tuple(players) != ("sticky",):
        raise ValueError("a store's play is shown as it was recorded: leave out --players")
    for name in changed:
        if name in reasons:
            raise ValueError(f"leave out --{name.replace('_', '-')}: {reasons[name]}")
