import pytest
import torch
import torch.nn.functional as F

from worldmodel.layers.conv import AttentionResidualBlock, BatchNorm, GridConv, SameConv3d, SameConvTranspose3d

SHAPES = [((4, 4, 4), (2, 2, 2)), ((4, 4, 4), (1, 2, 1)), ((3, 3, 3), (1, 1, 1)), ((2, 4, 4), (2, 2, 2))]


def make_input(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def paper_pads(kernel, stride) -> list[int]:
    """k - s zeros on each axis, the larger half in front, in the order of F.pad."""
    totals = [k - s for k, s in zip(kernel, stride, strict=True)]
    return [side for total in reversed(totals) for side in (total // 2 + total % 2, total // 2)]


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
def test_convolution_pads_as_the_paper_does(kernel, stride):
    torch.manual_seed(0)
    conv, x = SameConv3d(3, 5, kernel, stride), make_input()
    expected = F.conv3d(F.pad(x, paper_pads(kernel, stride)), conv.weight, conv.bias, stride)
    assert expected.shape[2:] == tuple(size // s for size, s in zip(x.shape[2:], stride, strict=True))
    assert torch.allclose(conv(x), expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), SHAPES[:2])
def test_transposed_convolution_pads_as_the_paper_does(kernel, stride):
    torch.manual_seed(0)
    conv, x = SameConvTranspose3d(3, 5, kernel, stride), make_input()
    cut = tuple(k - 1 for k in kernel)
    expected = F.conv_transpose3d(F.pad(x, paper_pads(kernel, stride)), conv.weight, conv.bias, stride, padding=cut)
    assert expected.shape[2:] == tuple(size * s for size, s in zip(x.shape[2:], stride, strict=True))
    assert torch.allclose(conv(x), expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
@pytest.mark.parametrize("kind", [SameConv3d, SameConvTranspose3d])
def test_causal_outputs_depend_on_no_later_input(kind, kernel, stride):
    torch.manual_seed(0)
    conv, x = kind(3, 5, kernel, stride, causal=True), make_input()
    changed = x.clone()
    changed[:, :, 2:] = make_input(1)[:, :, 2:]
    before, after = conv(x), conv(changed)
    half = before.shape[2] // 2  # outputs of the first two of four inputs
    assert torch.allclose(before[:, :, :half], after[:, :, :half], atol=1e-6)
    assert not torch.isclose(before[:, :, half], after[:, :, half], atol=1e-3).all()


def test_batch_norm_uses_the_dtype_of_its_weight():
    norm = BatchNorm(3)
    assert norm(make_input().to(torch.bfloat16)).dtype == torch.float32


def test_without_axes_a_block_is_two_convolutions():
    torch.manual_seed(0)
    block, x = AttentionResidualBlock(3, 4, 1, axes=()), make_input()
    y = block.conv3(F.relu(block.norm_in(x)))
    assert torch.equal(block(x, None), x + block.conv1(F.relu(block.norm_mid(y))))
    assert not any("attention" in name for name, _ in block.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_convolution_of_a_grid_does_not_depend_on_the_others(dtype):
    torch.manual_seed(0)
    conv = GridConv(64, 192).to(dtype)
    for _ in range(20):
        grids = torch.randn(16, 4, 4, 64)
        together = conv(grids)
        for rows in (1, 3, 8):
            tolerance = 0.0 if dtype == torch.bfloat16 else 1e-5  # float32 uses another kernel for one grid
            torch.testing.assert_close(conv(grids[:rows]), together[:rows], atol=tolerance, rtol=0.0)
    alike = conv.weight.float()
    expected = F.conv3d(grids.to(dtype).float().movedim(-1, 1).unsqueeze(2), alike, padding=(0, 1, 1))
    torch.testing.assert_close(together.float(), expected.squeeze(2).movedim(1, -1), atol=2e-2, rtol=2e-2)
