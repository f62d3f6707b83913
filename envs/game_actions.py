"""Any Gymnasium action space as one discrete choice or a flat vector, the two forms that the models know.

Letters: n actions to choose from, or dimensions of an action.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from worldmodel.data import ActionSpec
from worldmodel.envs.actions import check_names, valid_actions

_MOST_COMBINATIONS = 64  # of buttons and switches that become one choice
_WIDEST = 1e6  # larger bounds count as unbounded, such as float32's largest number
_CHOICE = (
    "gymnasium.wrappers.TransformAction(env, lambda choice: CHOICES[choice], gymnasium.spaces.Discrete(len(CHOICES)))"
)


class GameActions:
    """Describes an action space as an `ActionSpec`, and converts actions back to the env's own form.

    - Discrete with any start: a choice.
    - MultiBinary and MultiDiscrete: a choice among all combinations, the last entry changing fastest.
    - Box of any shape and dtype: flattened row by row; values are rounded if the Box holds integers.

    Args:
        space: the env's action space.
        names: one per action or dimension; for MultiBinary alternatively one per button, from which the names of the
            combinations are made ("noop", "left", "left+attack").

    Raises:
        ValueError: the space is of another kind, too large or unbounded, or the names do not fit; says what to do.
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
                    f"every dimension of an action needs bounds, low below high and within ±{_WIDEST:g}, got "
                    f"{space}; set them: gymnasium.wrappers.TransformAction(env, lambda action: action, "
                    "gymnasium.spaces.Box(low, high))"
                )
            self.spec = ActionSpec(
                kind="box", n=len(low), names=names, low=tuple(map(float, low)), high=tuple(map(float, high))
            )
        else:
            raise ValueError(
                f"actions must be Discrete, MultiBinary, MultiDiscrete or a Box, got {space}; turn them into one "
                f"choice: {_CHOICE}"
            )
        self.space = self.spec.to_gym()

    def of(self, action: Any) -> Any:
        """Convert an action of `spec` to the form and dtype of the env's space; InvalidAction if it is not valid."""
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
            f"{space} has {count:,} combinations, but a choice can have at most {_MOST_COMBINATIONS}; select some: "
            f"{_CHOICE}"
        )
    return np.array(list(product(*entries)), space.dtype).reshape(count, *space.shape)


def _names_of(choices: np.ndarray, buttons: Sequence[str]) -> tuple[str, ...]:
    """Names of the combinations of buttons, choices (n, buttons) of 0 and 1."""
    pressed = ([name for name, down in zip(buttons, choice, strict=True) if down] for choice in choices)
    return tuple("+".join(names) or "noop" for names in pressed)
