"""What is shown of a world model: lanes of frames along time, where they come from, and values beneath them.

Letters: T steps, F frames of a step, H W C pixels, k pictures of codes in a step, h w their grid.
Time: `actions[t]` leads to step t + 1; curves have a value for each step, NaN where there is none.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import ActionSpec
from worldmodel.media.canvas import Color
from worldmodel.media.write import CONTEXT_COLOR, PREDICTION_COLOR, UNSEEN_COLOR
from worldmodel.training.show.sample_inputs import action_text

RECONSTRUCTION_COLOR: Color = (204, 121, 167)  # purple of Okabe and Ito
END_COLOR: Color = (213, 94, 0)  # vermillion

# Behind white names of actions: far apart in hue, and unlike the colours of frames.
_ACTIONS: tuple[Color, ...] = (
    (150, 55, 60), (45, 95, 165), (35, 120, 75), (125, 95, 20), (115, 60, 145), (20, 120, 130), (150, 60, 115),
)  # fmt: skip
_NOOP: Color = (80, 80, 84)

SURPRISE, REWARD = "surprise", "reward"
GIVEN, REAL, RECONSTRUCTED, DREAMT, CODES = "given", "real", "reconstructed", "dreamt", "codes"


class Origin(NamedTuple):
    """Where a frame comes from, in words for the legend, and the colour around it."""

    words: str
    color: Color


ORIGINS = {
    GIVEN: Origin("given to the model", CONTEXT_COLOR),
    DREAMT: Origin("dreamt by the model", PREDICTION_COLOR),
    REAL: Origin("real game, hidden from the model", UNSEEN_COLOR),
    RECONSTRUCTED: Origin("real game through the tokenizer: the best that a dream could look", RECONSTRUCTION_COLOR),
    CODES: Origin("codes, one colour for each; yellow: changed since the step before", (0, 158, 115)),
}
CURVES = {
    SURPRISE: "surprise: how unlikely the model found each step (negative log-likelihood, nats)",
    REWARD: "reward: of each step; in a dream as the model predicts it",
}


class Lane(NamedTuple):
    """One video, step by step."""

    label: str
    frames: NDArray[np.uint8]  # (T, F, H, W, 3)
    origins: tuple[str, ...]  # T keys of ORIGINS
    curves: Mapping[str, NDArray[np.float64]] = {}  # (T,) by the names in CURVES
    actions: NDArray | None = None  # (T-1, …), where each lane has its own
    ended: str = ""  # how the episode ended with the last step, "" if it did not
    opens: bool = False  # begins a group of lanes that belong together


class Story(NamedTuple):
    """Lanes with a common time, to be drawn as a sheet or as a film."""

    title: str
    lanes: tuple[Lane, ...]
    given: int  # steps that the model is given
    spec: ActionSpec  # of the actions
    steps_per_second: float
    actions: NDArray | None = None  # (T-1, …) of all lanes

    @property
    def steps(self) -> int:
        """Of the longest lane."""
        return max(len(lane.frames) for lane in self.lanes)

    @property
    def legend(self) -> list[Origin]:
        """The origins that occur."""
        found = {origin for lane in self.lanes for origin in lane.origins}
        return [origin for name, origin in ORIGINS.items() if name in found]

    @property
    def curves(self) -> list[str]:
        """The names of curves that occur."""
        return [name for name in CURVES if any(name in lane.curves for lane in self.lanes)]

    def scale(self, curve: str) -> tuple[float, float]:
        """Smallest and largest value of a curve in all lanes, and 0."""
        values = np.concatenate([lane.curves[curve] for lane in self.lanes if curve in lane.curves])
        values = values[np.isfinite(values)]
        return min(0.0, float(values.min(initial=0.0))), max(0.0, float(values.max(initial=0.0)))

    @property
    def action_colors(self) -> dict[str, Color]:
        """A colour for each action of a discrete game, by its name; gray for `noop`."""
        names = [action_text(np.array(action), self.spec) for action in range(self.spec.n)]
        colors = iter(cycle(_ACTIONS))
        return {name: _NOOP if name == "noop" else next(colors) for name in names}

    @property
    def shown_actions(self) -> dict[str, Color]:
        """The colours of the actions that occur, by their names; none if actions are numbers."""
        if self.spec.kind != "discrete":
            return {}
        taken = [each for each in (self.actions, *(lane.actions for lane in self.lanes)) if each is not None]
        found = {action_text(action, self.spec) for each in taken for action in each}
        return {name: color for name, color in self.action_colors.items() if name in found}

    def step_name(self, step: int) -> str:
        """Dreamt steps count from 1; the last given one is 0."""
        return str(step - self.given + 1)


def curve(values: Sequence[float] | NDArray, before: int) -> NDArray[np.float64]:
    """Values of the steps after the first `before`, which have none."""
    return np.concatenate((np.full(before, np.nan), np.asarray(values, np.float64)))


def code_frames(images: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pictures of codes (T, k, h, w, 3) as frames (T, F, H, W, 3): each code covers its part of the picture."""
    count, height, width = shape
    _, k, h, w, _ = images.shape
    rows, columns = (np.arange(size) * codes // size for size, codes in ((height, h), (width, w)))
    return images[:, [index * k // count for index in range(count)]][:, :, rows][:, :, :, columns]


def signed(actions: NDArray, spec: ActionSpec) -> NDArray[np.float32]:
    """Continuous actions (T, A) within their bounds as numbers in [-1, 1]."""
    low, high = np.array(spec.low, np.float32), np.array(spec.high, np.float32)
    return 2 * (actions - low) / (high - low) - 1
