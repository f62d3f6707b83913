"""Calibration of predicted rewards and end probabilities: predicted against real values by bins.

Also fits the scale and shift of a logit that calibrate its probability (Platt scaling).

Steps of an episode resemble each other, so intervals are over episodes: `plays` names the recording of each step.

Letters: N steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.evaluation.metrics import auroc
from worldmodel.statistics import grouped_mean_with_interval, grouped_share_interval

Floats = NDArray[np.floating]
Plays = NDArray[np.integer]

_REWARD_BINS = 12
# Most steps end nothing and get a probability near 0, so the bins are narrow there.
_PROBABILITY_EDGES = (0.0, 0.001, 0.01, *np.arange(0.1, 1.01, 0.1).round(1).tolist())


_SCALE_DOUBT = 0.5  # prior of log(scale): a scale of e**±.5 costs half a nat, so few events hardly change it
_LEAST = 1e-7  # float32 probabilities closer than this to 0 or 1 are not distinguished


def platt_scaling(probability: Tensor, happened: Tensor) -> tuple[float, float]:
    """Scale (above 0) and shift of the logit that best fit probabilities (N,) to events `happened` (N,) bool.

    Maximises the likelihood with a prior that keeps the scale near 1; the shift is free. (1, 0) if all or none
    happened.
    Source: Platt 1999, "Probabilistic outputs for support vector machines".
    """
    if probability.shape != happened.shape or probability.ndim != 1:
        raise ValueError(
            f"needs one (N,) probability for each of N events, got {tuple(probability.shape)} and "
            f"{tuple(happened.shape)}"
        )
    if happened.all() or not happened.any():
        return 1.0, 0.0
    with torch.inference_mode(False), torch.enable_grad():
        logits, labels = probability.double().logit(_LEAST), happened.double()
        parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log of the scale, shift
        optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            log_scale, shift = parameters
            fit = F.binary_cross_entropy_with_logits(logits * log_scale.exp() + shift, labels, reduction="sum")
            value = fit + 0.5 * (log_scale / _SCALE_DOUBT) ** 2
            value.backward()
            return value

        optimizer.step(loss)
    log_scale, shift = parameters.tolist()
    return math.exp(log_scale), shift


def calibration_bins(
    predicted: Floats,
    actual: Floats,
    plays: Plays,
    edges: Sequence[float] | Floats,
    interval: Callable[[Floats, Plays], tuple[float, float]],
) -> list[dict[str, Any]]:
    """Predicted and actual values, by bins of the prediction.

    Args:
        predicted, actual: (N,).
        plays: (N,) recording of each of them.
        edges: ascending edges of the bins; the outer two bins are open. A value on an edge belongs to the bin above it.
        interval: returns the (low, high) interval of the mean of some actual values, from these and their recordings.

    Returns: for every non-empty bin "low" and "high" (smallest and largest prediction), "count", "predicted" and
    "actual" (means) and "interval" of the actual mean.
    """
    if not predicted.shape == actual.shape == plays.shape or predicted.ndim != 1 or not len(predicted):
        raise ValueError(
            f"needs one (N,) prediction and recording for each of N values, got {predicted.shape}, {plays.shape} and "
            f"{actual.shape}"
        )
    bin_of = np.searchsorted(np.asarray(edges)[1:-1], predicted, side="right")
    bins = []
    for index in np.unique(bin_of):
        guesses, truth = predicted[bin_of == index], actual[bin_of == index]
        bins.append(
            {
                "low": float(guesses.min()),
                "high": float(guesses.max()),
                "count": len(guesses),
                "predicted": float(guesses.mean()),
                "actual": float(truth.mean()),
                "interval": list(interval(truth, plays[bin_of == index])),
            }
        )
    return bins


def calibration_error(bins: Sequence[Mapping[str, Any]]) -> float:
    """Absolute difference of the mean prediction and the actual mean, averaged over the bins by their counts."""
    counts = [part["count"] for part in bins]
    return float(np.average([abs(part["predicted"] - part["actual"]) for part in bins], weights=counts))


def reward_calibration(predicted: Floats, actual: Floats, plays: Plays) -> dict[str, Any]:
    """Calibration of predicted rewards (N,), which shows whether their sums are reliable returns.

    The bins have equal width between the 0.1th and the 99.9th percentile of the predictions, so that a single outlier
    does not push all others into one bin.
    """
    predicted, actual = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    low, high = np.quantile(predicted, (0.001, 0.999))
    bins = calibration_bins(predicted, actual, plays, np.linspace(low, high, _REWARD_BINS + 1), _mean_interval)
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


def termination_calibration(
    probability: Floats, ended: NDArray[np.bool_], plays: Plays, threshold: float
) -> dict[str, Any]:
    """Calibration of predicted end probabilities (N,), and the effect of a dream's threshold.

    "brier" is the mean squared error of the probability, "brier_constant" that of always predicting the share of ends;
    "skill" is the relative reduction. "precision" is the share of announced ends that came, "recall" the share of ends
    that were announced. Values without a denominator are None.
    """
    probability, ended = np.asarray(probability, np.float64), np.asarray(ended, bool)
    bins = calibration_bins(
        probability,
        ended.astype(np.float64),
        plays,
        _PROBABILITY_EDGES,
        lambda ends, of: grouped_share_interval(ends > 0, of),
    )
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


def _mean_interval(values: Floats, plays: Plays) -> tuple[float, float]:
    mean, half_width = grouped_mean_with_interval(values, plays)
    return mean - half_width, mean + half_width
