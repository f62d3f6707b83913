"""FVD with stand-ins for I3D: TorchScript modules whose logits are known by hand."""

import pytest
import torch
from torch import Tensor, nn

from tests.training.stand_ins import save_script
from worldmodel.evaluation.fvd import fvd_scores, i3d_logits, load_i3d


class Switched(nn.Module):
    """Like published files: scales, resizes and returns features unless these arguments are False."""

    def forward(self, video: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = True) -> Tensor:
        if rescale or resize or return_features:
            return torch.zeros([video.shape[0], 3])
        return video.mean([2, 3, 4])


class PerTime(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        return video.mean([3, 4])


class Counting(nn.Module):
    """Returns the number of clips in its input."""

    def forward(self, video: Tensor) -> Tensor:
        return torch.full([video.shape[0], 1], float(video.shape[0]))


class Wrong(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        return video


def saved(module: nn.Module, path):
    return load_i3d(save_script(module, path))


@pytest.fixture(scope="module")
def means(i3d_file):
    return load_i3d(i3d_file)


def flat(*levels: int, side: int = 20) -> Tensor:
    """One clip of one colour per level: (N, 16, side, side, 3) uint8."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, 16, side, side, 3)


def test_the_network_reads_pixels_between_minus_one_and_one_in_order(means):
    clips = flat(0, 255, 51).clone()
    clips[2, 0] = 255
    clips[1, ..., 2] = 0
    logits = i3d_logits(means, clips)
    assert logits[0].tolist() == pytest.approx([-1.0] * 5)
    assert logits[1].tolist() == pytest.approx([1.0, 1.0, -1.0, 1 / 3, 1.0], abs=1e-5)
    assert logits[2, 3].item() == pytest.approx(1.0) and logits[2, 0].item() == pytest.approx(-0.6 + 1.6 / 16, abs=1e-4)


def test_resizing_is_bilinear_with_corners_not_aligned(means):
    ramp = torch.arange(16, dtype=torch.uint8).mul(16).view(1, 1, 1, 16, 1).expand(1, 16, 16, 16, 3)
    logits = i3d_logits(means, ramp)[0]
    assert logits[4].item() == pytest.approx(240 / 127.5 - 1)  # the edge is kept
    assert logits[0].item() == pytest.approx(120 / 127.5 - 1, abs=1e-5)  # and the mean, which aligned corners keep too
    wedge = ramp.clone()
    wedge[..., :15, :] = 0  # one bright column: spread over 14 of 224, half of the next 14 fades linearly
    assert i3d_logits(means, wedge)[0, 0].item() == pytest.approx(240 / 16 / 127.5 - 1, abs=1e-4)


def test_more_clips_than_fit_at_once_keep_their_order(means):
    levels = list(range(0, 200, 10))
    assert i3d_logits(means, flat(*levels))[:, 0].tolist() == pytest.approx([n / 127.5 - 1 for n in levels], abs=1e-5)


def test_fvd_of_flat_clips_depends_only_on_their_levels(means):
    # All five logits of a flat clip are its level x, so the distance is five times that of one normal variable.
    real, reconstruction, samples = flat(0, 100, 200), flat(10, 110, 210), flat(50, 100, 150)
    scores = fvd_scores(means, real, reconstruction, samples)
    assert scores["fvd"] == pytest.approx(5 * (50 / 127.5) ** 2, rel=1e-4)  # equal means, deviations 100 and 50
    assert scores["r_fvd"] == pytest.approx(5 * (10 / 127.5) ** 2, rel=1e-4)
    assert scores["fvd_star"] == pytest.approx(5 * (10**2 + 50**2) / 127.5**2, rel=1e-4)
    assert scores["clips"] == [3, 3] and "224" in scores["protocol"]
    assert fvd_scores(means, real, real, real)["fvd"] == pytest.approx(0.0, abs=1e-6)


def test_two_folds_compare_the_samples_of_each_half_with_the_real_clips_of_the_other(means):
    real, samples = flat(0, 100, 40, 200), flat(10, 90, 30, 250)
    # Even samples 10 and 30 against odd real clips 100 and 200, odd samples 90 and 250 against even ones 0 and 40: the
    # means are 130 and 150 apart, the unbiased deviations of two numbers are their difference over the root of 2.
    first, second = 130**2 + (100 - 20) ** 2 / 2, 150**2 + (160 - 40) ** 2 / 2
    scores = fvd_scores(means, real, real, samples)
    assert scores["fvd_two_fold"] == pytest.approx(5 * (first + second) / 2 / 127.5**2, rel=1e-4)
    with_itself = fvd_scores(means, real, real, real)
    assert with_itself["fvd"] == pytest.approx(0.0, abs=1e-6) and with_itself["fvd_two_fold"] > 1
    assert fvd_scores(means, real[:3], real[:3], samples[:3])["fvd_two_fold"] is None


def test_gray_clips_are_seen_as_colour_clips_without_colour(means):
    clips = torch.randint(256, (3, 16, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(i3d_logits(means, clips), i3d_logits(means, clips.repeat(1, 1, 1, 1, 3)))
    with pytest.raises(ValueError, match=r"got \(3, 16, 8, 8, 2\)"):
        i3d_logits(means, clips.repeat(1, 1, 1, 1, 2))


def test_arguments_that_change_the_output_are_off(tmp_path):
    network = saved(Switched(), tmp_path / "switches.pt")
    assert i3d_logits(network, flat(255, 0))[:, 0].tolist() == pytest.approx([1.0, -1.0])


def test_logits_per_time_are_averaged(tmp_path):
    clips = flat(0, 0).clone()
    clips[:, 8:] = 255
    logits = i3d_logits(saved(PerTime(), tmp_path / "time.pt"), clips)
    assert logits.shape == (2, 3) and logits.abs().max() < 1e-5


def test_clips_pass_through_in_chunks(tmp_path):
    network = saved(Counting(), tmp_path / "counting.pt")
    assert i3d_logits(network, flat(0, 0, 0), chunk=2)[:, 0].tolist() == [2.0, 2.0, 1.0]
    assert i3d_logits(network, flat(0, 0, 0))[:, 0].tolist() == [3.0] * 3


def test_a_network_that_returns_no_logits_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"logits \(n, E\)"):
        i3d_logits(saved(Wrong(), tmp_path / "wrong.pt"), flat(0, 1))


def test_files_and_clips_of_the_wrong_kind_are_refused(means, tmp_path):
    with pytest.raises(FileNotFoundError, match="no I3D file"):
        load_i3d(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        load_i3d(tmp_path / "text.pt")
    with pytest.raises(ValueError, match=r"\(N, 16, H, W, 3 or 1\) uint8"):
        i3d_logits(means, flat(0)[:, :15])
