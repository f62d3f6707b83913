"""Metrics: each against a known answer or a slower, simpler computation."""

import math

import numpy as np
import pytest
import torch

from worldmodel.evaluation import metrics
from worldmodel.evaluation.metrics import (
    auroc,
    best_f1_threshold,
    bits,
    changed_pixels,
    codes_in_use,
    copy_bits,
    f1,
    masked_nmse,
    nmse,
    perplexity,
    psnr,
    r_squared,
    ssim,
)


def gray(*levels: int) -> torch.Tensor:
    """One flat 16 x 16 RGB image per level: (len(levels), 16, 16, 3) uint8."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 16, 16, 3)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_psnr_of_a_constant_offset_equals_its_formula():
    assert psnr(gray(100), gray(110)) == pytest.approx(20 * math.log10(255 / 10), abs=1e-4)


def test_psnr_is_the_mean_of_each_images_psnr_and_not_of_the_pooled_error():
    expected = (20 * math.log10(255 / 10) + 20 * math.log10(255 / 50)) / 2
    assert psnr(gray(100, 100), gray(110, 150)) == pytest.approx(expected, abs=1e-4)


def test_psnr_of_uint8_equals_psnr_of_the_same_images_in_unit_range():
    a, b = noise(4, 16, 16, 3), noise(4, 16, 16, 3, seed=1)
    assert psnr(a, b) == pytest.approx(psnr(a / 255.0, b / 255.0), abs=1e-4)


def test_psnr_of_equal_images_is_finite_and_above_every_visible_error():
    one_level_in_a_quarter_of_the_image = gray(7).clone()
    one_level_in_a_quarter_of_the_image[:, :8, :8] += 1
    assert psnr(gray(7), gray(7)) == pytest.approx(58.92, abs=0.01)
    assert psnr(gray(7), one_level_in_a_quarter_of_the_image) < 54.2


def test_images_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        psnr(gray(1), gray(1, 2))
    with pytest.raises(ValueError, match="both be uint8 or both float"):
        psnr(gray(1), gray(1) / 255.0)


def test_ssim_of_equal_images_is_one_and_of_an_inverted_texture_negative():
    texture = noise(2, 32, 32, 3)
    assert ssim(texture, texture) == pytest.approx(1.0, abs=1e-5)
    assert ssim(texture, 255 - texture) < -0.5


def test_ssim_of_flat_images_is_its_luminance_term():
    a, b = 0.2, 0.6
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert ssim(gray(51), gray(153)) == pytest.approx(expected, abs=1e-4)


def test_ssim_equals_a_window_by_window_computation():
    a, b = noise(1, 13, 12, 1), noise(1, 13, 12, 1, seed=1)
    x, y = (image[0, :, :, 0].numpy() / 255.0 for image in (a, b))
    offset = np.arange(11) - 5
    weight = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for i in range(3):
        for j in range(2):
            p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mp, mq = (weight * p).sum(), (weight * q).sum()
            vp, vq = (weight * (p - mp) ** 2).sum(), (weight * (q - mq) ** 2).sum()
            cov = (weight * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    assert ssim(a, b) == pytest.approx(float(np.mean(values)), abs=1e-5)


def test_ssim_equals_torchmetrics_away_from_its_mirrored_edges():
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = noise(4, 32, 32, 3), noise(4, 32, 32, 3, seed=1)
    channels_first = [x.movedim(-1, 1) / 255.0 for x in (a, b)]
    _, image = functional.structural_similarity_index_measure(*channels_first, data_range=1.0, return_full_image=True)
    assert ssim(a, b) == pytest.approx(float(image[..., 5:-5, 5:-5].mean()), abs=1e-5)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(gray(1)[:, :10], gray(1)[:, :10])


def test_nmse_of_the_mean_colour_is_one():
    frames = noise(8, 16, 16, 3) / 255.0
    flat = frames.mean().expand_as(frames)
    assert nmse(frames, flat, variance=float(frames.var(correction=0))) == pytest.approx(1.0, abs=1e-5)


def test_nmse_divides_by_the_given_variance():
    assert nmse(gray(0), gray(51), variance=0.5) == pytest.approx(0.2**2 / 0.5, abs=1e-6)
    with pytest.raises(ValueError, match="variance"):
        nmse(gray(0), gray(51), variance=0.0)


@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_many_images_are_compared_a_few_at_a_time(kept, monkeypatch):
    frames, other = torch.randint(256, (2, 3, 5, 8, 6, 3), generator=torch.Generator().manual_seed(0)).byte()
    other = torch.where(torch.rand(other.shape, generator=torch.Generator().manual_seed(1)) < kept, other, frames)
    whole, sizes, unit_range = (psnr(frames, other), nmse(frames, other, 0.1)), [], metrics._unit_range

    def noting(a, b):
        sizes.append(a.numel())
        return unit_range(a, b)

    monkeypatch.setattr(metrics, "_unit_range", noting)
    monkeypatch.setattr(metrics, "_AT_ONCE", 4 * frames[0, 0].numel())
    assert (psnr(frames, other), nmse(frames, other, 0.1)) == pytest.approx(whole, rel=1e-6)
    assert sizes == 2 * [576, 576, 576, 432]


def test_a_pixel_changes_if_one_channel_moves_by_more_than_a_tenth():
    before, after = gray(100).clone(), gray(100).clone()
    after[0, 2, 3, 1] += 26
    after[0, 4, 5] += 25
    changed = changed_pixels(before, after)
    assert changed.shape == (1, 16, 16) and changed.nonzero().tolist() == [[0, 2, 3]]
    assert torch.equal(changed, changed_pixels(before / 255.0, after / 255.0))


def test_masked_nmse_counts_the_masked_pixels_alone():
    frames, reconstruction = gray(0, 0), gray(0, 0).clone()
    reconstruction[0, 3, 3] = 51
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[:, 3, 3] = True
    assert masked_nmse(frames, reconstruction, mask, variance=0.5) == pytest.approx(0.2**2 / 2 / 0.5)
    assert masked_nmse(frames, reconstruction, ~mask, variance=0.5) == 0.0
    assert masked_nmse(frames, reconstruction, mask & ~mask, variance=0.5) is None
    everything = torch.ones_like(mask)
    assert masked_nmse(frames, reconstruction, everything, 0.5) == pytest.approx(nmse(frames, reconstruction, 0.5))


def test_copying_costs_the_cross_entropy_of_staying_or_not():
    assert copy_bits(0.5, 0.5, num_codes=17) == pytest.approx(0.5 + 0.5 * (1 + 4))
    assert copy_bits(1 / 8, 1 / 8, num_codes=8) == pytest.approx(3.0)  # as with a uniform guess
    assert copy_bits(0.9, 0.9, 512) < copy_bits(0.9, 0.8, 512)  # the true share gives the lowest cost
    with pytest.raises(ValueError, match="expected must be in"):
        copy_bits(0.9, 1.0, 512)


def test_r_squared_is_one_for_the_truth_and_zero_for_its_mean():
    truth = torch.tensor([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])  # the second column does not vary and does not count
    assert r_squared(truth, truth) == 1.0
    assert r_squared(truth.mean(0).expand_as(truth), truth) == pytest.approx(0.0)
    assert r_squared(truth + torch.tensor([1.0, 0.0]), truth) == pytest.approx(1 - 1 / (2 / 3))


def test_perplexity_and_codes_in_use_of_uneven_counts():
    counts = torch.tensor([[5, 5, 5, 5], [8, 0, 0, 0], [1, 1, 2, 0]])
    # Entropy of (1/4, 1/4, 1/2) is 1.5 ln 2.
    assert perplexity(counts).tolist() == pytest.approx([4.0, 1.0, 2**1.5], abs=1e-5)
    assert codes_in_use(counts).tolist() == [4, 1, 3]


def test_auroc_counts_pairs_and_gives_half_for_ties():
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8])
    labels = torch.tensor([False, True, False, True])
    # Pairs (positive, negative): .4>.1, .4=.4, .8>.1, .8>.4 -> 3.5 of 4.
    assert auroc(scores, labels) == pytest.approx(3.5 / 4)
    assert auroc(-scores, labels) == pytest.approx(0.5 / 4)
    assert auroc(torch.ones(4), labels) == pytest.approx(0.5)


def test_auroc_equals_counting_every_pair():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (200,), generator=generator).float()
    labels = torch.rand(200, generator=generator) < 0.2
    difference = scores[labels][:, None] - scores[~labels][None, :]
    expected = ((difference > 0).double() + 0.5 * (difference == 0)).mean()
    assert auroc(scores, labels) == pytest.approx(expected.item(), abs=1e-12)


def test_auroc_without_one_of_the_classes_is_none():
    assert auroc(torch.rand(3), torch.zeros(3, dtype=torch.bool)) is None
    assert auroc(torch.rand(3), torch.ones(3, dtype=torch.bool)) is None


def test_f1_equals_hand_results():
    predicted = torch.tensor([True, True, True, False, False])
    labels = torch.tensor([True, False, False, True, False])
    assert f1(predicted, labels) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert f1(~labels, labels) == 0.0
    nothing = torch.zeros(5, dtype=torch.bool)
    assert f1(nothing, nothing) is None


def test_best_f1_threshold_beats_every_other_threshold():
    generator = torch.Generator().manual_seed(1)
    labels = torch.rand(300, generator=generator) < 0.1
    scores = ((labels + torch.randn(300, generator=generator)) * 4).round() / 4  # with ties
    best = best_f1_threshold(scores, labels)
    every = {t: f1(scores >= t, labels) for t in scores.unique().tolist()}
    assert every[best] == max(every.values())
    assert min(every.values()) < every[best]


def test_best_f1_threshold_separates_separable_scores_at_the_lowest_positive():
    scores = torch.tensor([0.9, 0.1, 0.7, 0.7, 0.3])
    labels = torch.tensor([True, False, True, True, False])
    assert best_f1_threshold(scores, labels) == pytest.approx(0.7)
    assert best_f1_threshold(scores, torch.zeros(5, dtype=torch.bool)) is None


def test_a_threshold_includes_all_equal_scores():
    scores = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.5])
    labels = torch.tensor([True, True, False, False, False])
    # 0.5 would be perfect if it could stop after the second score; with all five it is worse than 0.9 alone.
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        assert best_f1_threshold(scores[order], labels[order]) == pytest.approx(0.9)


def test_scores_and_labels_of_different_length_are_refused():
    for metric in (auroc, f1, best_f1_threshold):
        with pytest.raises(ValueError, match="one label each"):
            metric(torch.rand(3), torch.ones(4, dtype=torch.bool))


def test_scores_that_are_nan_are_refused():
    labels = torch.tensor([True, False, True])
    for metric in (auroc, best_f1_threshold):
        with pytest.raises(ValueError, match="1 of 3 are NaN"):
            metric(torch.tensor([0.1, math.nan, 0.3]), labels)
        assert metric(torch.tensor([0.1, -math.inf, math.inf]), labels) is not None


def test_the_uniform_loss_over_512_codes_is_nine_bits():
    assert bits(math.log(512)) == pytest.approx(9.0)
