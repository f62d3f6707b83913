"""Tests for worldmodel/shapes.py."""

import numpy as np
import pytest
import torch

from worldmodel.shapes import check_frames, frames_from_model, frames_to_model


def every_byte() -> torch.Tensor:
    """(2, 3, 4, 8, 5): all 256 values, so a swap of axes shows."""
    return torch.arange(2 * 3 * 4 * 8 * 5).remainder(256).byte().reshape(2, 3, 4, 8, 5)


def test_model_pixels_are_bytes_over_255_less_one_half_with_channels_second():
    frames = every_byte()
    pixels = frames_to_model(frames)
    assert pixels.shape == (2, 5, 3, 4, 8) and pixels.dtype == torch.float32
    assert pixels.min() == -0.5 and pixels.max() == 0.5
    wanted = frames.numpy().astype(np.float64).transpose(0, 4, 1, 2, 3) / 255 - 0.5
    np.testing.assert_allclose(pixels.numpy(), wanted, atol=1e-7)


@pytest.mark.parametrize("memory_format", [torch.channels_last_3d, torch.contiguous_format])
def test_every_byte_survives_the_way_to_the_model_and_back(memory_format):
    frames = every_byte()
    back = frames_from_model(frames_to_model(frames).contiguous(memory_format=memory_format))
    assert torch.equal(back, frames) and back.is_contiguous() and back.dtype == torch.uint8


def test_model_pixels_are_rounded_to_the_nearest_byte_and_clamped():
    levels = torch.tensor([-9.0, -0.51, 0.4, 0.6, 100.4, 100.6, 254.4, 254.6, 9e9])
    pixels = (levels / 255 - 0.5).reshape(1, 1, 1, 1, 9)
    assert frames_from_model(pixels).flatten().tolist() == [0, 0, 0, 1, 100, 101, 254, 255, 255]


def test_half_precision_pixels_come_back_within_one_byte():
    frames = every_byte()
    back = frames_from_model(frames_to_model(frames).bfloat16())
    assert (back.int() - frames.int()).abs().max() <= 1


def test_conversions_leave_their_input_alone():
    frames = every_byte()
    pixels = frames_to_model(frames)
    before = pixels.clone()
    frames_from_model(pixels)
    assert torch.equal(pixels, before) and torch.equal(frames, every_byte())


def test_conversions_refuse_the_other_ones_input():
    with pytest.raises(ValueError, match=r"uint8, got \(2, 3, 4, 8, 5\) float32"):
        frames_to_model(every_byte().float())
    with pytest.raises(ValueError, match=r"\(B, T, H, W, C\) uint8, got \(3, 4, 8, 5\) uint8"):
        frames_to_model(every_byte()[0])
    with pytest.raises(ValueError, match=r"float, got \(2, 3, 4, 8, 5\) uint8"):
        frames_from_model(every_byte())
    with pytest.raises(ValueError, match=r"\(B, C, T, H, W\) float, got \(8, 4\) float32"):
        frames_from_model(torch.zeros(8, 4))


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_frames_of_the_right_size_pass_the_check_whatever_stands_before_them(make):
    for lead in [(), (5,), (2, 5)]:
        frames = make((*lead, 2, 6, 8, 3))
        frames = frames.astype(np.uint8) if isinstance(frames, np.ndarray) else frames.byte()
        check_frames(frames, height=6, width=8, channels=3, frames_per_step=2)


@pytest.mark.parametrize("shape", [(5, 2, 8, 6, 3), (5, 1, 6, 8, 3), (5, 2, 6, 8, 1), (6, 8, 3)])
def test_frames_of_another_size_are_refused_with_both_sizes(shape):
    with pytest.raises(ValueError, match=r"= \(\.\.\., 2, 6, 8, 3\) uint8, got .*" + f"{shape[-1]}.* uint8"):
        check_frames(np.zeros(shape, np.uint8), height=6, width=8, channels=3, frames_per_step=2)


def test_frames_that_are_not_bytes_are_refused():
    with pytest.raises(ValueError, match="float32"):
        check_frames(torch.zeros(5, 2, 6, 8, 3), height=6, width=8, channels=3, frames_per_step=2)
