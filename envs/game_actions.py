"""The actions of any Gymnasium env as one choice or as numbers, which is what the models know.

Letters: n actions to choose from, or numbers of an action.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from worldmodel.data import ActionSpec
from worldmodel.envs.spaces import check_names, valid_actions

_MOST_COMBINATIONS = 64  # of buttons and switches that become one choice
_WIDEST = 1e6  # bounds beyond stand for none, such as float32's largest number
_CHOICE = (
    "gymnasium.wrappers.TransformAction(env, lambda choice: CHOICES[choice], gymnasium.spaces.Discrete(len(CHOICES)))"
)


class GameActions:
    """An action space as an `ActionSpec`, and every action back in the env's own form.

    - Discrete, from whatever number: a choice.
    - MultiBinary and MultiDiscrete: a choice among all combinations, the last entry changing fastest.
    - Box of any shape, also of integers (to which numbers are rounded): its numbers, row by row.

    Args:
        space: the env's.
        names: one for each action or number; of a MultiBinary also one for each button, which name the combinations
            ("noop", "left", "left+attack").

    Raises:
        ValueError: the space is of another kind, too large or without bounds, or the names do not fit; says what to do.
    """

    def __init__(self, space: gym.Space, names: Sequence[str] = ()) -> None:
        self._space = space
        self._choices: np.ndarray | None = None
        check_names(names)
        names = tuple(names)
        if isinstance(space, spaces.Discrete):
            self.spec = ActionSpec(kind="discrete", n=int(space.n), names=names)
        elif isinstance(space, spaces.MultiBinary | spaces.MultiDiscrete):
            self._choices = _combinations(space)
            if isinstance(space, spaces.MultiBinary) and len(names) == np.prod(space.shape):
                names = _names_of(self._choices.reshape(len(self._choices), -1), names)
            self.spec = ActionSpec(kind="discrete", n=len(self._choices), names=names)
        elif isinstance(space, spaces.Box) and np.prod(space.shape):
            low, high = space.low.ravel().tolist(), space.high.ravel().tolist()
            if not all(-_WIDEST <= least < most <= _WIDEST for least, most in zip(low, high, strict=True)):
                raise ValueError(
                    f"the numbers of an action need bounds, each low below its high and within ±{_WIDEST:g}, got "
                    f"{space}; give it some: gymnasium.wrappers.TransformAction(env, lambda action: action, "
                    "gymnasium.spaces.Box(low, high))"
                )
            self.spec = ActionSpec(
                kind="box", n=len(low), names=names, low=tuple(map(float, low)), high=tuple(map(float, high))
            )
        else:
            raise ValueError(
                f"actions must be Discrete, MultiBinary, MultiDiscrete or a Box, got {space}; make one choice of them: "
                f"{_CHOICE}"
            )
        self.space = self.spec.to_gym()

    def of(self, action: Any) -> Any:
        """An action of `spec` in the form and dtype of the env's space; InvalidAction if it is none."""
        given = valid_actions(self.space, action, ())
        if self._choices is not None:
            return self._choices[given].copy()
        if isinstance(self._space, spaces.Discrete):
            return self._space.dtype.type(int(given) + int(self._space.start))
        box = self._space
        assert isinstance(box, spaces.Box)
        numbers = given.reshape(box.shape)
        if box.dtype.kind != "f":
            numbers = np.rint(numbers)
        return np.clip(numbers.astype(box.dtype), box.low, box.high)  # float32 may have rounded a bound outwards


def _combinations(space: spaces.MultiBinary | spaces.MultiDiscrete) -> np.ndarray:
    """All elements of the space, (n, *space.shape)."""
    if isinstance(space, spaces.MultiBinary):
        entries = [range(2)] * int(np.prod(space.shape))
    else:
        pairs = zip(space.start.ravel().tolist(), space.nvec.ravel().tolist(), strict=True)
        entries = [range(start, start + count) for start, count in pairs]
    count = int(np.prod([len(entry) for entry in entries], dtype=float))
    if count > _MOST_COMBINATIONS:
        raise ValueError(
            f"{space} has {count:,} combinations, of which at most {_MOST_COMBINATIONS} become a choice; choose some: "
            f"{_CHOICE}"
        )
    return np.array(list(product(*entries)), space.dtype).reshape(count, *space.shape)


def _names_of(choices: np.ndarray, buttons: Sequence[str]) -> tuple[str, ...]:
    """What each combination of buttons is called, choices (n, buttons) of 0 and 1."""
    pressed = ([name for name, down in zip(buttons, choice, strict=True) if down] for choice in choices)
    return tuple("+".join(names) or "noop" for names in pressed)
