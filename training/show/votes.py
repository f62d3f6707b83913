"""Votes on pairs of videos: which side shows which world, and how many judgements prefer which.

A page holds the seed by which its sides were shuffled, but no names. So does the file of choices that it saves.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from worldmodel.files import read_json
from worldmodel.settings import NonNegativeInt, PositiveInt, checked_dataclass, from_json
from worldmodel.statistics import share_interval

Choice = Literal["left", "right", "same"]
_PREFERRED = {"A": "prefer A", "B": "prefer B", "same": "indifferent"}


@checked_dataclass
class Choices:
    """The file that a page of pairs saves: the choices of one person."""

    page: Annotated[str, Field(min_length=1)]  # id of the page: a hash of its worlds and settings
    pairs: PositiveInt  # on the page
    seed: NonNegativeInt  # by which the sides were shuffled
    person: str  # a random name, made by the browser
    choices: Mapping[str, Choice]  # by the number of the pair


class Tally(NamedTuple):
    """Numbers of judgements that prefer the video of A, that of B, or neither."""

    a: int
    b: int
    indifferent: int

    def __str__(self) -> str:
        """Counts, shares and their 95 % Wilson intervals."""
        total = sum(self)
        lines = [f"{total} judgements"]
        for words, count in zip(_PREFERRED.values(), self, strict=True):
            low, high = share_interval(count, total)
            lines.append(f"{words:12} {count:5}  {count / total:6.1%}  95 % interval {low:.1%} to {high:.1%}")
        return "\n".join(lines)


def a_is_left(pairs: int, seed: int) -> list[bool]:
    """Whether A is shown on the left, for each pair."""
    return [bool(bit) for bit in np.random.default_rng(seed).integers(2, size=pairs)]


def tally(files: Sequence[str | Path]) -> Tally:
    """Count the votes in files of choices of one page, one file per person.

    Raises: ValueError if a file is invalid, belongs to another page or the same person, or if there are no choices.
    """
    read = [_read(path) for path in files]
    persons = Counter(choices.person for choices in read)
    for path, choices in zip(files, read, strict=True):
        if (choices.page, choices.pairs, choices.seed) != (read[0].page, read[0].pairs, read[0].seed):
            raise ValueError(f"{path} is from another page than {files[0]}; tally the choices of one page at a time")
        if persons[choices.person] > 1:
            raise ValueError(f"{path} is one of several files of the same person; omit the others")
    votes: Counter[str] = Counter()
    for choices in read:
        left = a_is_left(choices.pairs, choices.seed)
        for pair, choice in choices.choices.items():
            votes["same" if choice == "same" else "A" if left[int(pair)] == (choice == "left") else "B"] += 1
    if not votes:
        raise ValueError("the files hold no choices; open the page, choose, and save choices.json")
    return Tally(*(votes[name] for name in _PREFERRED))


def _read(path: str | Path) -> Choices:
    try:
        choices = from_json(Choices, read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a file of choices of a page of pairs: {error}") from error
    if unknown := [pair for pair in choices.choices if not (pair.isdecimal() and int(pair) < choices.pairs)]:
        raise ValueError(f"{path} has a choice for pair {unknown[0]!r}, but the page has 0 to {choices.pairs - 1}")
    return choices
