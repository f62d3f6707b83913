"""What the page is told, as JSON: of a game or dream as a whole, of one step of it, of several futures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldmodel.training.show.play.keys import Keys
from worldmodel.training.show.play.player import Wheel
from worldmodel.training.show.play.stage import Stage
from worldmodel.training.show.play.timeline import Moment, finite
from worldmodel.training.show.scenes import DreamScene, Shown

Told = tuple[dict[str, Any], tuple[np.ndarray, ...]]


def about(name: str, names: Sequence[str], stage: Stage, wheel: Wheel, came_from: str) -> dict[str, Any]:
    """What does not change from step to step."""
    scene, world = stage.scene, stage.world
    told: dict[str, Any] = {
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
        "palette": stage.palette,
        "num_codes": 0 if world is None else world.tokenizer.num_codes,
        "slices": 0 if world is None else len(world.tokenizer.lookup.vectors),
    }
    return {"about": told}


def of_moment(told: dict[str, Any], stage: Stage, moment: Moment) -> Told:
    """A step, its frames, and what a world makes of them."""
    shown, seen = moment
    parts = {"frames": shown.frames}
    if seen is not None and seen.frames is not None:
        parts["seen"] = seen.frames
    told = told | {"now": _numbers(shown, moment.nll), "first": stage.timeline.first}
    if seen is not None:
        told |= {"codes": seen.codes.ravel().tolist(), "grid": seen.codes.shape}
    return _with(told, parts)


def of_futures(told: dict[str, Any], stage: Stage, futures: Sequence[Shown]) -> Told:
    """Several futures side by side: the frames of all, one after the other."""
    numbers = [_numbers(shown, shown.nll) for shown in futures]
    told = told | {"futures": numbers, "first": stage.timeline.first}
    return _with(told, {"frames": np.concatenate([shown.frames for shown in futures])})


def _with(told: dict[str, Any], parts: dict[str, np.ndarray]) -> Told:
    return told | {"parts": [[name, part.shape] for name, part in parts.items()]}, tuple(parts.values())


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
