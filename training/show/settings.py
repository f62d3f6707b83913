"""How much a storyboard shows, and of what."""

import os
from collections.abc import Sequence

from worldmodel.settings import NonNegativeInt, PositiveInt, Temperature, checked_dataclass


@checked_dataclass
class ShowConfig:
    """What to show; the same settings show the same."""

    n: PositiveInt | None = None  # clips, starts, or futures or episodes of each player; None: as many as suit
    steps: PositiveInt = 16  # dreamt steps
    given_steps: PositiveInt = 4  # steps of real play that the model is given before it dreams
    skip: NonNegativeInt = 0  # steps of a game that is played now before the first one that is used
    split: str = "test"  # split of a store from which clips are drawn
    temperature: Temperature = 1.0  # of dreams; 0 takes the likeliest codes
    seed: NonNegativeInt = 0  # draws clips, starts and dreams; of the first episode of a game that is played now
    codes: bool = False  # also show codes, and where they change


def check_players(players: Sequence[str | os.PathLike]) -> None:
    """TypeError if players are a single name, whose letters would be taken for names; ValueError if there are none."""
    if isinstance(players, str | os.PathLike):
        raise TypeError(f"players must be a list of names or folders, such as [{str(players)!r}], got {players!r}")
    if not players:
        raise ValueError("give at least one player, such as sticky (--players)")
