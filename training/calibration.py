"""Does a prediction mean what it says: predicted against real values by bins, for rewards and for ends of episodes.

Letters: N steps.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.statistics import mean_with_interval, share_interval
from worldmodel.training.metrics import auroc

Floats = NDArray[np.floating]

# Most steps end nothing and are told so with a probability near 0, so the bins are narrow there.
_PROBABILITY_EDGES = (0.0, 0.001, 0.01, *np.arange(0.1, 1.01, 0.1).round(1).tolist())


def calibration_bins(
    predicted: Floats,
    actual: Floats,
    edges: Sequence[float] | Floats,
    interval: Callable[[Floats], tuple[float, float]],
) -> list[dict[str, Any]]:
    """What was predicted and what came, by bins of the prediction.

    Args:
        predicted, actual: (N,).
        edges: of the bins, ascending; the outer two are open. A value on an edge belongs to the bin above it.
        interval: (low, high) of the mean of some of the actual values.

    Returns: for every bin that is not empty "low" and "high" (its least and largest prediction), "count", "predicted"
    and "actual" (means) and "interval" of the latter.
    """
    if predicted.shape != actual.shape or predicted.ndim != 1 or not len(predicted):
        raise ValueError(f"needs one (N,) prediction for each of N values, got {predicted.shape} and {actual.shape}")
    place = np.searchsorted(np.asarray(edges)[1:-1], predicted, side="right")
    bins = []
    for index in np.unique(place):
        told, came = predicted[place == index], actual[place == index]
        bins.append(
            {
                "low": float(told.min()),
                "high": float(told.max()),
                "count": len(told),
                "predicted": float(told.mean()),
                "actual": float(came.mean()),
                "interval": list(interval(came)),
            }
        )
    return bins


def calibration_error(bins: Sequence[Mapping[str, Any]]) -> float:
    """Distance of the mean prediction from the mean of what came, averaged over the bins by their counts."""
    counts = [part["count"] for part in bins]
    return float(np.average([abs(part["predicted"] - part["actual"]) for part in bins], weights=counts))


def reward_calibration(predicted: Floats, actual: Floats, num_bins: int = 12) -> dict[str, Any]:
    """How far predicted rewards (N,) can be added up to a return.

    The bins are of equal width between the 0.1th and the 99.9th percentile of the predictions, so that one stray
    prediction does not push all others into one bin.
    """
    predicted, actual = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    low, high = np.quantile(predicted, (0.001, 0.999))
    bins = calibration_bins(predicted, actual, np.linspace(low, high, num_bins + 1), _mean_interval)
    residual, variance = np.mean((predicted - actual) ** 2), np.var(actual)
    return {
        "steps": len(actual),
        "predicted_mean": float(predicted.mean()),
        "actual_mean": float(actual.mean()),
        "mean_absolute_error": float(np.abs(predicted - actual).mean()),
        "explained": float(1 - residual / variance) if variance > 0 else None,
        "calibration_error": calibration_error(bins),
        "bins": bins,
    }


def termination_calibration(probability: Floats, ended: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """How far predicted probabilities of an end (N,) can be believed, and what a dream's threshold makes of them.

    "brier" is the mean squared distance from what came (0 or 1), "brier_constant" that of always saying the share of
    ends; "skill" is the part of the latter that is gone. "precision" is the share of the ends announced that came,
    "recall" that of those that came that were announced. None where there is nothing to divide by.
    """
    probability, ended = np.asarray(probability, np.float64), np.asarray(ended, bool)
    bins = calibration_bins(probability, ended.astype(np.float64), _PROBABILITY_EDGES, _share_interval)
    brier, share = float(np.mean((probability - ended) ** 2)), float(ended.mean())
    announced = probability >= threshold
    found, constant = int((announced & ended).sum()), share * (1 - share)
    return {
        "steps": len(ended),
        "events": int(ended.sum()),
        "actual_share": share,
        "predicted_share": float(probability.mean()),
        "brier": brier,
        "brier_constant": constant,
        "skill": 1 - brier / constant if constant > 0 else None,
        "calibration_error": calibration_error(bins),
        "auroc": auroc(torch.from_numpy(probability), torch.from_numpy(ended)),
        "threshold": threshold,
        "announced": int(announced.sum()),
        "precision": found / int(announced.sum()) if announced.any() else None,
        "recall": found / int(ended.sum()) if ended.any() else None,
        "bins": bins,
    }


def _mean_interval(values: Floats) -> tuple[float, float]:
    mean, half_width = mean_with_interval(values)
    return mean - half_width, mean + half_width


def _share_interval(values: Floats) -> tuple[float, float]:
    return share_interval(int(values.sum()), len(values))
