"""The Frechet distance between two sets of features: the distance of the Gaussians fitted to them.

Letters: N and P rows, E features.
Source: Dowson and Landau 1982, as in FID (arXiv:1706.08500, section 2) and FVD (arXiv:1812.01717).
"""

import torch
from torch import Tensor

MIN_ROWS = 4  # of two folds: a distance needs two rows


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), with unbiased covariances S, in float64.

    With a = (N - 1)^(-1/2) times the centred rows of one set and b likewise, S_a S_b = a'a b'b has the non-zero
    eigenvalues of (a b')(a b')', so the trace of its root is the sum of the singular values of a b'. This also holds
    for fewer rows than features, and avoids the root of a singular matrix. The distance falls with the number of rows,
    so distances are comparable only at equal N.

    Args:
        a, b: (N, E) and (P, E) float, at least two rows each, all finite.

    Returns: at least 0, in squared units of the features.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"needs features (N, E) and (P, E) with at least two rows, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    a, b = a.double(), b.double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("the features must be finite numbers")
    offset = (a.mean(0) - b.mean(0)).square().sum()
    a, b = _scaled(a), _scaled(b)
    spread = a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float(offset + spread))


def two_fold_distance(a: Tensor, b: Tensor) -> float:
    """The distance by 2-fold cross-validation: the mean over the two halves of `a`, each against the other half of `b`.

    Row i of one set belongs to row i of the other (a sample, and the real clip whose first frames it was given), and
    even rows are one half: no sample is compared with its own clip. The halves have half the rows, so the distance is
    larger than that of the whole sets.

    Args:
        a, b: (N, E) float, at least four rows.

    Source: Predicting Video with VQVAE (arXiv:2103.01950) section 5.2, which does not say more than "2-fold".
    """
    if len(a) != len(b) or len(a) < MIN_ROWS:
        raise ValueError(
            f"two folds need as many rows of both sets, at least {MIN_ROWS}, got {len(a)} and {len(b)}; use more clips"
        )
    return (frechet_distance(a[::2], b[1::2]) + frechet_distance(a[1::2], b[::2])) / 2


def _scaled(rows: Tensor) -> Tensor:
    """Centred rows x with x'x = the covariance; many rows are first reduced to E rows with the same x'x."""
    rows = (rows - rows.mean(0)) / (len(rows) - 1) ** 0.5
    return torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows
