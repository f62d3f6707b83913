"""The steps of an episode that are behind: to look at, to draw along time, and to save as a clip.

Letters: F frames of a step, H W pixels, h w latent grid, M slices.
"""

import math
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.write import PREDICTION_COLOR, UNSEEN_COLOR, border, upscale, write_video
from worldmodel.training.show.scenes import KEPT, Frames, Shown

CLIP_KINDS = ("gif", "mp4")
_CLIP_SCALE = 4  # screen pixels per pixel


class Seen(NamedTuple):
    """A step as a world model has it."""

    codes: NDArray[np.int64]  # (h, w, M)
    nll: float | None  # negative log-likelihood of the step in nats; None if nothing predicted it
    frames: Frames | None = None  # (F, H, W, 3), the real game through the tokenizer; None in a dream, which is that


class Moment(NamedTuple):
    """One step on the timeline."""

    shown: Shown
    seen: Seen | None = None  # None: no world looks on

    @property
    def nll(self) -> float | None:
        return self.shown.nll if self.seen is None else self.seen.nll


class Timeline:
    """The last steps of an episode, the present one included, in order and without gaps."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=KEPT + 1)

    def __len__(self) -> int:
        return len(self._moments)

    @property
    def first(self) -> int:
        """The earliest step that is kept."""
        return self._moments[0].shown.step

    @property
    def last(self) -> Moment:
        return self._moments[-1]

    def begin(self, moment: Moment) -> None:
        self._moments.clear()
        self._moments.append(moment)

    def add(self, moment: Moment) -> None:
        self._moments.append(moment)

    def at(self, step: int) -> Moment:
        """The moment of a step; the nearest one that is kept if there is no such step."""
        return self._moments[min(max(step - self.first, 0), len(self) - 1)]

    def cut(self, step: int) -> None:
        """Forget what followed a step."""
        while self.last.shown.step > step and len(self) > 1:
            self._moments.pop()

    def points(self) -> list[list[Any]]:
        """[step, reward, nll or None, ending] of every moment, in numbers that JSON has."""
        return [point(moment) for moment in self._moments]

    def clip(self, kind: str, fps: float, dream: bool) -> bytes:
        """The film of all that is kept, as a file: orange around a dream, gray around a real game.

        Args:
            kind: "gif" or "mp4".
            fps: steps per second.
        """
        if kind not in CLIP_KINDS:
            raise ValueError(f"a clip is one of {', '.join(CLIP_KINDS)}, got {kind!r}")
        steps = [moment.shown.frames for moment in self._moments]
        color = PREDICTION_COLOR if dream else UNSEEN_COLOR
        frames = border(upscale(np.concatenate(steps), _CLIP_SCALE), color, _CLIP_SCALE)
        with tempfile.TemporaryDirectory(prefix="videogen-clip-") as folder:
            (path,) = write_video(Path(folder) / f"clip.{kind}", frames, fps * len(steps[0]))
            return path.read_bytes()


def point(moment: Moment) -> list[Any]:
    """What the page draws of a moment: [step, reward, nll or None, ending]."""
    shown = moment.shown
    return [shown.step, finite(shown.reward), None if moment.nll is None else finite(moment.nll), shown.ended]


def finite(value: float) -> float | str:
    """A number as JSON has it: those that are not finite in words."""
    return value if math.isfinite(value) else str(value)
