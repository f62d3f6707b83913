"""Messages to the page, as JSON: of a game or dream as a whole, of one step of it, of several futures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldmodel.training.show.play.keys import Keys
from worldmodel.training.show.play.player import Wheel
from worldmodel.training.show.play.stage import Stage
from worldmodel.training.show.play.timeline import CLIP_KINDS, Moment, finite
from worldmodel.training.show.scenes import DreamScene, Shown

Message = tuple[dict[str, Any], tuple[np.ndarray, ...]]


def about(name: str, names: Sequence[str], stage: Stage, wheel: Wheel, came_from: str) -> dict[str, Any]:
    """What does not change from step to step."""
    scene = stage.scene
    message: dict[str, Any] = {
        "world": name,
        "worlds": list(names),
        "dream": scene.is_dream,
        "fps": scene.fps,
        "bindings": Keys(scene.action).bindings,
        "drivers": list(wheel.offers(scene).items()),
        "driver": wheel.now(scene),
        "temperature": scene.temperature if isinstance(scene, DreamScene) else None,
        "dreams_on": stage.onlooker_name,
        "came_from": came_from,
        "usual": stage.usual,
        "clips": list(CLIP_KINDS),
    }
    return {"about": message | stage.code_colors}


def of_moment(message: dict[str, Any], stage: Stage, moment: Moment) -> Message:
    """A step, its frames, and what a world makes of them."""
    shown, seen = moment
    parts = {"frames": shown.frames}
    if seen is not None and seen.frames is not None:
        parts["seen"] = seen.frames
    message = message | {"now": _numbers(shown, moment.nll), "first": stage.timeline.first}
    if seen is not None:
        message |= {"codes": seen.codes.ravel().tolist(), "grid": seen.codes.shape}
    return _with(message, parts)


def of_futures(message: dict[str, Any], stage: Stage, futures: Sequence[Shown]) -> Message:
    """Several futures side by side: the frames of all, one after the other."""
    numbers = [_numbers(shown, shown.nll) for shown in futures]
    message = message | {"futures": numbers, "first": stage.timeline.first}
    return _with(message, {"frames": np.concatenate([shown.frames for shown in futures])})


def _with(message: dict[str, Any], parts: dict[str, np.ndarray]) -> Message:
    return message | {"parts": [[name, part.shape] for name, part in parts.items()]}, tuple(parts.values())


def _numbers(shown: Shown, nll: float | None) -> dict[str, Any]:
    return {
        "step": shown.step,
        "reward": finite(shown.reward),
        "return": finite(shown.total),
        "native": None if shown.native is None else finite(shown.native),
        "nll": None if nll is None else finite(nll),
        "signals": {name: finite(value) for name, value in shown.signals.items()},
        "ended": shown.ended,
    }
