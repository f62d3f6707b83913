"""The Frechet distance against closed forms, scipy's matrix root, and its own properties."""

import numpy as np
import pytest
import scipy.linalg
import torch

from worldmodel.evaluation.frechet import frechet_distance


def features(rows, width, seed, scale=1.0, shift=0.0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + shift


def with_moments(rows, mean, deviations):
    """Features whose mean and unbiased standard deviations are exactly these, and whose columns are uncorrelated."""
    x = features(rows, len(mean), seed=3)
    x = torch.linalg.qr(x - x.mean(0)).Q * (rows - 1) ** 0.5
    return x * torch.tensor(deviations, dtype=torch.float64) + torch.tensor(mean, dtype=torch.float64)


def by_scipy(a, b):
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(cov_a + cov_b - 2 * root)


def test_uncorrelated_gaussians_have_a_closed_form():
    a = with_moments(50, [1.0, -2.0, 0.0], [1.0, 2.0, 3.0])
    b = with_moments(40, [0.0, 0.0, 0.5], [2.0, 2.0, 0.5])
    expected = (1 + 4 + 0.25) + (1 + 0 + 2.5**2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("rows_a", "rows_b", "width"), [(300, 200, 8), (60, 50, 24)])
def test_it_equals_scipys_matrix_root(rows_a, rows_b, width):
    mix = features(width, width, seed=7)
    a, b = features(rows_a, width, seed=0) @ mix, features(rows_b, width, seed=1, shift=0.3)
    assert frechet_distance(a, b) == pytest.approx(by_scipy(a, b), rel=1e-6)


def test_one_feature_has_the_textbook_form():
    a, b = features(300, 1, seed=0), features(200, 1, seed=1, scale=2.0, shift=0.3)
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-10)


def test_fewer_rows_than_features_need_no_root_of_a_singular_matrix():
    a, b = features(20, 64, seed=0), features(30, 64, seed=1, scale=2.0)
    roots = [scipy.linalg.eigh(np.cov(x.numpy().T)) for x in (a, b)]
    half = [(v * np.sqrt(np.clip(e, 0, None))) @ v.T for e, v in roots]
    overlap = np.linalg.svd(half[0] @ half[1], compute_uv=False).sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum() - 2 * overlap
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)


def test_the_distance_to_a_permutation_is_zero_and_a_shift_costs_its_square():
    a = features(30, 40, seed=0)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, a + 0.5) == pytest.approx(40 * 0.25, rel=1e-9)


def test_it_is_symmetric_and_keeps_its_value_under_rotation():
    a, b = features(50, 6, seed=0), features(40, 6, seed=1, scale=1.5)
    turn = torch.linalg.qr(features(6, 6, seed=2)).Q
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(5, 3), torch.zeros(5, 4), "at least two rows"),
        (torch.zeros(1, 3), torch.zeros(5, 3), "at least two rows"),
        (torch.full((5, 3), float("nan")), torch.zeros(5, 3), "finite"),
    ],
)
def test_features_without_a_distance_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
