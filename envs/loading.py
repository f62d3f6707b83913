"""From a name to a world model on a device."""

import os

import torch

from worldmodel.model import WorldModel
from worldmodel.names import did_you_mean


def load_model(model: WorldModel | str | os.PathLike, device: str | torch.device = "auto") -> WorldModel:
    """The model itself, or the one of this shipped name or folder."""
    return model if isinstance(model, WorldModel) else WorldModel.from_pretrained(model, usable_device(device))


def usable_device(device: str | torch.device) -> torch.device:
    """A device of this machine; "auto" is a GPU if there is one. ValueError with the valid ones for any other."""
    valid = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        valid.append("mps")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if str(device) not in valid and not (str(device) == "cuda" and torch.cuda.is_available()):
        raise ValueError(f"no device {str(device)!r} here.{did_you_mean(str(device), valid)}")
    return torch.device(device)
