"""training_state.pt of a run folder: everything that a resumed training needs to equal an unbroken one."""

import errno
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from worldmodel.errors import first_line
from worldmodel.files import atomic_write
from worldmodel.settings import difference
from worldmodel.training.earlier_settings import completed, known

FILE = "training_state.pt"
_WAY_OUT = "restore it from a backup, or delete it to train again from the first step"
_FREE = (  # settings that do not decide the weights
    "data",
    "tokenizer",
    "loop.evaluate_every",
    "loop.save_every",
    "loop.compile",
)


class Progress(NamedTuple):
    """How far a training has come."""

    step: int  # optimiser steps done
    best: float  # lowest validation score so far
    scores: dict[str, float]  # of the last evaluation

    def check(self) -> None:
        """ValueError unless the three have their types."""
        counts = type(self.step) is int and self.step >= 0
        numbers = {"best": self.best, **self.scores} if isinstance(self.scores, dict) else {"scores": self.scores}
        odd = [name for name, value in numbers.items() if type(value) not in (int, float) or value != value]
        if not counts or odd:
            raise ValueError(f"step {self.step!r}, and {', '.join(map(str, odd)) or 'all else'} is not a number")


NEW = Progress(0, math.inf, {})


def save_state(
    folder: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    settings: dict[str, Any],
    progress: Progress,
) -> None:
    """Write the state of a run, whole or not at all."""
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "settings": settings,
    }
    with atomic_write(folder / FILE) as temporary:
        torch.save(state | progress._asdict(), temporary)


def load_state(
    folder: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    settings: dict[str, Any],
    device: torch.device,
) -> Progress:
    """Load the state of a run into model and optimisers; `NEW` if the folder has none.

    Raises: ValueError, which names the file: it is damaged, or belongs to a run of other settings.
    """
    path = folder / FILE
    if not path.exists():
        return NEW
    state = _read(path, device, whole=True)
    try:
        there, here = _deciding(completed(state["settings"], settings)), _deciding(known(settings))
        if there != here:
            raise ValueError(difference(there, here))
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} was written by a run with other settings ({first_line(error)}); "
            "use another --out, or delete the folder to start over"
        ) from error
    return Progress(*(state[name] for name in Progress._fields))


def steps_done(folder: Path) -> int:
    """How many steps the run in a folder has saved; 0 if none. ValueError for a damaged file."""
    path = folder / FILE
    return _read(path, torch.device("cpu"), whole=False)["step"] if path.exists() else 0


def _read(path: Path, device: torch.device, whole: bool) -> dict[str, Any]:
    """The saved state; with `whole`, all its bytes are compared with their checksums."""
    try:
        if whole:
            with zipfile.ZipFile(path) as archive:  # torch's own reader does not compare them
                if (record := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of {record} does not match")
        state = torch.load(path, map_location=device, weights_only=True, mmap=not whole)
        wanted = {"model": dict, "optimizers": list, "settings": dict}
        if not isinstance(state, dict):
            raise ValueError("it is not a training state")
        if lacking := [name for name in (*wanted, *Progress._fields) if name not in state]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        if odd := [name for name, kind in wanted.items() if not isinstance(state[name], kind)]:
            raise ValueError(f"{', '.join(odd)} of another type")
        Progress(*(state[name] for name in Progress._fields)).check()
    except Exception as error:  # what damaged bytes make torch's reader raise is of many kinds
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a damaged place in the file causes
            raise
        raise ValueError(f"{path} is damaged ({first_line(error)}): {_WAY_OUT}") from error
    return state


def _deciding(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that may differ between a run and its continuation."""
    return {name: value for name, value in settings.items() if name not in _FREE}
