"""Statistics of features as LeRobot keeps them for every episode and the whole data set.

Letters: K rows, D dimensions of a feature, V frames, H W C pixels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Statistics = dict[str, NDArray]  # min, max, mean, std, count and quantiles; (D,), or (C, 1, 1) of pixels in [0, 1]

_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def of_numbers(values: NDArray) -> Statistics:
    """Of a column (K,) or (K, D)."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(rows, list(_QUANTILES.values()), axis=0)
    return {
        "min": rows.min(0),
        "max": rows.max(0),
        "mean": rows.mean(0),
        "std": rows.std(0),
        "count": np.array([len(rows)]),
    } | dict(zip(_QUANTILES, quantiles, strict=True))


def of_frames(frames: NDArray[np.uint8]) -> Statistics:
    """Of all pixels of (V, H, W, C) frames, for each channel."""
    channels = [np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(frames.shape[-1])]
    counts = np.stack(channels).astype(np.float64)  # (C, 256)
    levels, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ levels / total
    variance = counts @ levels**2 / total - mean**2
    below = counts.cumsum(1) / total[:, None]
    found = {
        "min": levels[(counts > 0).argmax(1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(variance, 0)),
        **{name: levels[(below >= share).argmax(1)] for name, share in _QUANTILES.items()},
    }
    return {name: value[:, None, None] for name, value in found.items()} | {"count": np.array([len(frames)])}


def joined(parts: Sequence[Statistics]) -> Statistics:
    """Of all episodes from those of each; quantiles are means of the episodes', as LeRobot joins them."""
    counts = np.stack([part["count"] for part in parts]).astype(np.float64)  # (episodes, 1)
    total = counts.sum(0)

    def mean_of(values: NDArray) -> NDArray:
        return (values * counts.reshape(-1, *[1] * (values.ndim - 1))).sum(0) / total

    means = np.stack([part["mean"] for part in parts])
    mean = mean_of(means)
    variance = mean_of(np.stack([part["std"] for part in parts]) ** 2 + (means - mean) ** 2)
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": total.astype(np.int64),
        **{name: mean_of(np.stack([part[name] for part in parts])) for name in _QUANTILES},
    }
