"""Key bindings of the page: the keys for each action of a game."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldmodel.data import ActionSpec

# Action name -> keys, by the browser's `KeyboardEvent.code`.
_KEYS_OF = {
    "turn_left": ("ArrowLeft", "KeyA"),
    "turn_right": ("ArrowRight", "KeyD"),
    "move_forward": ("ArrowUp", "KeyW"),
    "move_backward": ("ArrowDown", "KeyS"),
    "move_left": ("KeyQ",),
    "move_right": ("KeyE",),
    "attack": ("Space",),
}
# In games without turning, the keys for turning move sideways.
_SIDEWAYS = {"move_left": ("ArrowLeft", "KeyA", "KeyQ"), "move_right": ("ArrowRight", "KeyD", "KeyE")}
# Keys for the dimensions of an action, two each: for the lowest and the highest value.
_KEY_PAIRS = (
    ("ArrowLeft", "ArrowRight"),
    ("ArrowDown", "ArrowUp"),
    ("KeyQ", "KeyE"),
    ("KeyA", "KeyD"),
    ("KeyS", "KeyW"),
)


class Keys:
    """Key bindings of a game: keys for each discrete action, or a pair for each dimension of a continuous one."""

    def __init__(self, action: ActionSpec) -> None:
        self._action = action
        self.bindings = _numbers(action) if action.kind == "box" else _choices(action)  # (keys, label)

    def action(self, held: Sequence[str]) -> Any:
        """The action for the keys held, in the order in which they were pressed: the last one counts.

        Keys held together mean the action that joins most of their names by "+", the last one's among them.
        """
        spec = self._action
        if spec.kind == "discrete":
            pressed = [number for key in held for number, (keys, _) in enumerate(self.bindings) if key in keys]
            if pressed:
                return _chord(pressed, spec.names) if spec.names else pressed[-1]
            return spec.names.index("noop") if "noop" in spec.names else 0
        low, high = np.array(spec.low), np.array(spec.high)
        numbers = np.clip(0.0, low, high)
        for key in held:
            for index, (keys, _) in enumerate(self.bindings):
                if key in keys:
                    numbers[index // 2] = (low, high)[index % 2][index // 2]
        return numbers.astype(np.float32)


def _chord(pressed: Sequence[int], names: Sequence[str]) -> int:
    held, last = {names[number] for number in pressed}, names[pressed[-1]]
    parts = [name.split("+") for name in names]
    chords = [number for number, part in enumerate(parts) if last in part and held.issuperset(part)]
    return max(chords, key=lambda number: len(parts[number]), default=pressed[-1])


def _choices(action: ActionSpec) -> list[tuple[tuple[str, ...], str]]:
    """Chords of other actions have no key: one holds the keys of their parts."""
    names = action.names or tuple(f"action {number}" for number in range(action.n))
    keys_of = _KEYS_OF if "turn_left" in names else _KEYS_OF | _SIDEWAYS
    # Actions above 9 have no key, only the page's button, which sends the name ActionN.
    digits = [(f"Digit{number}",) if number < 10 else (f"Action{number}",) for number in range(action.n)]
    chords = [len(parts := name.split("+")) > 1 and {*names}.issuperset(parts) for name in names]
    keys = [
        () if chord else keys_of.get(name, ()) + digit for name, chord, digit in zip(names, chords, digits, strict=True)
    ]
    return list(zip(keys, names, strict=True))


def _numbers(action: ActionSpec) -> list[tuple[tuple[str, ...], str]]:
    if action.n > len(_KEY_PAIRS):
        raise ValueError(f"there are keys for at most {len(_KEY_PAIRS)} dimensions of an action, got {action.n}")
    names = action.names or tuple(f"dimension {index}" for index in range(action.n))
    pairs = zip(names, _KEY_PAIRS[: action.n], strict=True)
    return [((key,), f"{name} {sign}") for name, pair in pairs for key, sign in zip(pair, "-+", strict=True)]
