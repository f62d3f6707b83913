"""The past steps of an episode: to look at, to draw over time, and to save as a clip.

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
_CLIP_SIDE = 256  # screen pixels of a clip's longer side, about; larger frames are not shrunk
_CLIP_BORDER = 4


class Seen(NamedTuple):
    """A step as represented by a world model."""

    codes: NDArray[np.int64]  # (h, w, M)
    nll: float | None  # negative log-likelihood of the step in nats; None if nothing predicted it
    frames: Frames | None = None  # (F, H, W, 3), the real game decoded from its codes; None in a dream


class Moment(NamedTuple):
    """One step on the timeline."""

    shown: Shown
    seen: Seen | None = None  # None: no world follows the game

    @property
    def nll(self) -> float | None:
        return self.shown.nll if self.seen is None else self.seen.nll


class Timeline:
    """The latest steps of an episode, including the current one, in order and without gaps."""

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
        """The moment of a step, or the nearest one that is kept."""
        return self._moments[min(max(step - self.first, 0), len(self) - 1)]

    def cut(self, step: int) -> None:
        """Forget what followed a step."""
        while self.last.shown.step > step and len(self) > 1:
            self._moments.pop()

    def points(self) -> list[list[Any]]:
        """[step, reward, nll or None, ending] of every moment, as JSON values."""
        return [point(moment) for moment in self._moments]

    def clip(self, kind: str, fps: float, dream: bool) -> bytes:
        """A video of all kept steps, as a file: with an orange border for a dream, gray for a real game.

        Args:
            kind: "gif" or "mp4".
            fps: steps per second.
        """
        if kind not in CLIP_KINDS:
            raise ValueError(f"a clip is one of {', '.join(CLIP_KINDS)}, got {kind!r}")
        steps = [moment.shown.frames for moment in self._moments]
        color = PREDICTION_COLOR if dream else UNSEEN_COLOR
        scale = max(1, _CLIP_SIDE // max(steps[0].shape[1:3]))
        frames = border(upscale(np.concatenate(steps), scale), color, _CLIP_BORDER)
        with tempfile.TemporaryDirectory(prefix="videogen-clip-") as folder:
            (path,) = write_video(Path(folder) / f"clip.{kind}", frames, fps * len(steps[0]))
            return path.read_bytes()


def point(moment: Moment) -> list[Any]:
    """The values that the page draws for a moment: [step, reward, nll or None, ending]."""
    shown = moment.shown
    return [shown.step, finite(shown.reward), None if moment.nll is None else finite(moment.nll), shown.ended]


def finite(value: float) -> float | str:
    """A number as a JSON value; infinities and NaN as strings."""
    return value if math.isfinite(value) else str(value)
