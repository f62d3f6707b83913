"""Letters: B batch, D width, t slices, h w rows and columns, S = h*w."""

import pytest
import torch

from worldmodel.dynamics.pixelcnn.attention import VoxelAttention


@pytest.mark.parametrize("past_full", [True, False])
@torch.inference_mode()
def test_position_after_position_equals_all_at_once(past_full):
    torch.manual_seed(0)
    attention = VoxelAttention(12, 2, (3, 3, 4), past_full)
    h = torch.randn(2, 12, 3, 3, 4)
    whole = attention(h).flatten(3)
    keys, values = torch.zeros(2, 2, 2, 3, 12, 6)
    for time in range(3):
        for place in range(12):
            one = attention.of_one(h.flatten(3)[:, :, time, place], time, place, keys, values)
            assert torch.allclose(one, whole[:, :, time, place], atol=1e-5)


@torch.inference_mode()
def test_positions_are_distinguished():
    attention = VoxelAttention(12, 2, (2, 2, 2), True)
    out = attention(torch.ones(1, 12, 2, 2, 2)).flatten(2)
    assert torch.unique(out.round(decimals=5), dim=2).shape[2] == 8
