"""Selecting a device by name."""

import torch

from worldmodel.errors import did_you_mean


def usable_device(device: str | torch.device) -> torch.device:
    """The device of this name; "auto" is a GPU if there is one. ValueError with the valid names if it is missing."""
    valid = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        valid.append("mps")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:  # not the name of any device
        found = None
    here = {"cpu": 1, "meta": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if found is None or (found.index or 0) >= here.get(found.type, 0):
        raise ValueError(f"no device {str(device)!r} here.{did_you_mean(str(device), valid)}")
    return found
