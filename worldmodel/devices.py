"""Devices of this machine by name."""

import torch

from worldmodel.errors import did_you_mean


def usable_device(device: str | torch.device) -> torch.device:
    """A device of this machine; "auto" is a GPU if there is one. ValueError with the valid ones for any other."""
    valid = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        valid.append("mps")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:  # no name of a device at all
        found = None
    here = {"cpu": 1, "meta": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if found is None or (found.index or 0) >= here.get(found.type, 0):
        raise ValueError(f"no device {str(device)!r} here.{did_you_mean(str(device), valid)}")
    return found
