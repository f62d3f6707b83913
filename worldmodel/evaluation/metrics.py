"""Metrics of world models: plain functions on tensors, each tested against a known answer.

Letters: H W C pixels, N any flattened set, V codes. Images are (..., H, W, C), uint8 in [0, 255] or
float in [0, 1].
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

_AT_ONCE = 2**26  # numbers that are compared at once
# Two uint8 images that differ by less than the rounding of their pixels count as equal: 58.9 dB instead of infinity.
ROUNDING_ERROR = 1.0 / 12.0 / 255.0**2


def psnr(frames: Tensor, reconstruction: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, averaged over images.

    Args:
        frames, reconstruction: (..., H, W, C), both uint8 in [0, 255] or both float in [0, 1].

    Returns: dB, higher is better; at most 58.9, the value for an error as small as the rounding to uint8.
    """
    errors = [part.flatten(1).mean(-1) for part in _squared_errors(frames, reconstruction)]
    error_N = torch.cat(errors).clamp(min=ROUNDING_ERROR)
    return float(-10.0 * error_N.log10().mean())


def ssim(frames: Tensor, reconstruction: Tensor) -> float:
    """Structural similarity, averaged over images, channels and all full 11 x 11 windows.

    Args:
        frames, reconstruction: (..., H, W, C), both uint8 in [0, 255] or both float in [0, 1]; H and W at least 11.

    Returns: in [-1, 1], 1 for equal images.
    Source: Wang et al. 2004: Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.
    """
    a, b = _unit_range(frames, reconstruction)
    height, width = a.shape[-3:-1]
    if min(height, width) < 11:
        raise ValueError(f"SSIM uses windows of 11 x 11 pixels, got images of {height} x {width}")
    a, b = (x.movedim(-1, -3) for x in (a, b))  # (..., C, H, W)
    down, along = _gaussian_rows(height, a.device), _gaussian_rows(width, a.device)

    def blur(x: Tensor) -> Tensor:
        return down @ x @ along.T

    mean_a, mean_b = blur(a), blur(b)
    variance_a = blur(a * a) - mean_a.square()
    variance_b = blur(b * b) - mean_b.square()
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float((luminance * structure).mean())


def nmse(frames: Tensor, reconstruction: Tensor, variance: float) -> float:
    """Mean squared error divided by the variance of the data set's pixels; predicting the mean colour gives 1.

    Args:
        frames, reconstruction: (..., H, W, C), both uint8 in [0, 255] or both float in [0, 1].
        variance: of the pixels of the whole data set in units of [0, 1]; above 0.
    """
    if not variance > 0.0:
        raise ValueError(f"variance must be above 0, got {variance}; is the data set one flat colour?")
    errors = [(part.mean(), part.numel()) for part in _squared_errors(frames, reconstruction)]
    total = sum(count for _, count in errors) or 1
    return float(sum(mean * (count / total) for mean, count in errors) / variance)


def changed_pixels(before: Tensor, after: Tensor) -> Tensor:
    """Pixels where a channel differs by more than a tenth of the range.

    Args:
        before, after: (..., H, W, C), both uint8 in [0, 255] or both float in [0, 1].

    Returns: (..., H, W) bool.
    """
    a, b = _unit_range(before, after)
    return ((a - b).abs() > 0.1).any(-1)


def masked_nmse(frames: Tensor, reconstruction: Tensor, mask: Tensor, variance: float) -> float | None:
    """`nmse` over the pixels in `mask` (..., H, W) bool; None if the mask is empty."""
    return nmse(frames[mask][:, None], reconstruction[mask][:, None], variance) if mask.any() else None


def copy_bits(kept: float, expected: float, num_codes: int) -> float:
    """Bits per code of a prior that predicts "the code does not change", which a model should beat.

    It gives the old code the probability `expected` and spreads the rest uniformly over the V - 1 others.

    Args:
        kept: share of the codes that did not change, in [0, 1].
        expected: the prior's probability that a code does not change, in (0, 1).
        num_codes: V.
    """
    if not 0.0 < expected < 1.0:
        raise ValueError(f"expected must be in (0, 1), or a single surprise costs infinitely many bits; got {expected}")
    return -kept * math.log2(expected) - (1.0 - kept) * math.log2((1.0 - expected) / (num_codes - 1))


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of code usage: the equivalent number of uniformly used codes.

    Args:
        counts: (..., V) number of uses of each code, at least one use per codebook.

    Returns: (...) float32 in [1, V].
    """
    probability = counts.double() / counts.sum(-1, keepdim=True)
    return torch.special.entr(probability).sum(-1).exp().float()


def codes_in_use(counts: Tensor) -> Tensor:
    """(..., V) counts -> (...) int64, number of codes used at least once."""
    return (counts > 0).sum(-1)


def auroc(scores: Tensor, labels: Tensor) -> float | None:
    """Area under the ROC curve: how often a random positive scores above a random negative; a tie counts half.

    Args:
        scores: (N,) float, higher means more likely positive.
        labels: (N,) bool.

    Returns: in [0, 1], 0.5 is chance; None if one of the classes is absent.
    """
    _check_pairs(scores, labels)
    labels = labels.bool()
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if positives == 0 or negatives == 0:
        return None
    _, group_N, sizes = scores.unique(return_inverse=True, return_counts=True)
    sizes = sizes.double()
    rank_N = (sizes.cumsum(0) - (sizes - 1) / 2)[group_N]  # from 1; tied scores get their mean rank
    wins = rank_N[labels].sum().item() - positives * (positives + 1) / 2
    return wins / (positives * negatives)


def f1(predicted: Tensor, labels: Tensor) -> float | None:
    """Harmonic mean of precision and recall of (N,) bool predictions.

    Returns: in [0, 1]; None if there are neither positive labels nor positive predictions.
    """
    _check_pairs(predicted, labels)
    predicted, labels = predicted.bool(), labels.bool()
    marked = int(predicted.sum()) + int(labels.sum())
    return 2 * int((predicted & labels).sum()) / marked if marked else None


def best_f1_threshold(scores: Tensor, labels: Tensor) -> float | None:
    """The threshold at which `scores >= threshold` has the best F1; the highest one in a tie.

    Args:
        scores: (N,) float, higher means more likely positive.
        labels: (N,) bool.

    Returns: one of the scores; None if no label is positive.
    """
    _check_pairs(scores, labels)
    if not labels.any():
        return None
    ordered, order = scores.double().sort(descending=True)
    true_N = labels.bool()[order].cumsum(0)
    predicted_N = torch.arange(1, len(scores) + 1, device=scores.device)
    f1_N = 2 * true_N / (predicted_N + int(labels.bool().sum()))
    # A threshold includes all scores equal to it, so only the last of a run of equal scores is a candidate.
    f1_N[:-1].masked_fill_(ordered[:-1] == ordered[1:], -1.0)
    return ordered[f1_N.argmax()].item()


def r_squared(predicted: Tensor, truth: Tensor) -> float:
    """Share of the variance of (N, A) float values that predictions explain, averaged over the columns that vary.

    Returns: at most 1; 0 for predicting the mean; NaN if nothing varies.
    """
    variance_A = truth.double().var(0, correction=0)
    error_A = (predicted.double() - truth.double()).square().mean(0)
    varies = variance_A > 0
    return float((1.0 - error_A[varies] / variance_A[varies]).mean())


def bits(nats: float) -> float:
    """Convert nats to bits."""
    return nats / math.log(2.0)


def _squared_errors(frames: Tensor, reconstruction: Tensor) -> Iterator[Tensor]:
    """Squared errors (N, H, W, C) in [0, 1], a few images at a time, because float32 takes four times their memory."""
    if frames.shape != reconstruction.shape or frames.ndim < 3:
        _unit_range(frames, reconstruction)  # says what is wrong
    a, b = (images.reshape(-1, *images.shape[-3:]) for images in (frames, reconstruction))
    rows = max(1, _AT_ONCE // max(1, a[:1].numel()))
    for parts in zip(a.split(rows), b.split(rows), strict=True):
        x, y = _unit_range(*parts)
        yield (x - y).square()


def _unit_range(frames: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    """Both image sets as float32 in [0, 1], after checking that they are comparable."""
    if frames.shape != reconstruction.shape or frames.ndim < 3:
        raise ValueError(
            f"frames and reconstruction must have one shape (..., H, W, C), "
            f"got {tuple(frames.shape)} and {tuple(reconstruction.shape)}"
        )
    if frames.dtype != reconstruction.dtype:
        raise ValueError(
            f"frames and reconstruction must both be uint8 or both float in [0, 1], "
            f"got {frames.dtype} and {reconstruction.dtype}"
        )
    scale = 255.0 if frames.dtype == torch.uint8 else 1.0
    return frames.float() / scale, reconstruction.float() / scale


def _gaussian_rows(size: int, device: torch.device) -> Tensor:
    """(size - 10, size): row i holds the weights of an 11-wide window over pixels i to i + 10."""
    offset = torch.arange(size, device=device) - torch.arange(size - 10, device=device)[:, None]
    weights = torch.exp(-(offset - 5.0).square() / (2 * 1.5**2)) * ((offset >= 0) & (offset < 11))
    return weights / weights.sum(1, keepdim=True)


def _check_pairs(values: Tensor, labels: Tensor) -> None:
    if values.ndim != 1 or values.shape != labels.shape:
        raise ValueError(f"needs two (N,) tensors, one label each, got {tuple(values.shape)} and {tuple(labels.shape)}")
    if values.isnan().any():
        raise ValueError(f"the values must not be NaN, but {int(values.isnan().sum())} of {len(values)} are NaN")
