import pytest
import torch
import torch.nn.functional as F

from worldmodel.layers.cpu import linear as module
from worldmodel.layers.cpu.features import has_onednn_layouts
from worldmodel.layers.precision import Linear

CASES = ((torch.float32, 9), (torch.bfloat16, 512))  # dtype, and rows of a batch


def uneven(*shape: int) -> torch.Tensor:
    """Numbers of very different sizes, whose sums show in which order they were added up."""
    return torch.randn(shape) * torch.exp(2 * torch.randn(shape[-1]))


@pytest.mark.parametrize("inputs", [384, 768, 1100])
@pytest.mark.parametrize("bias", [True, False])
def test_a_long_sum_in_pieces_equals_the_whole_one(inputs, bias, monkeypatch):
    """As on a processor with AMX, and without oneDNN's layouts too."""
    monkeypatch.setattr(module, "longest_stable_sum", lambda dtype: 384)
    torch.manual_seed(0)
    linear = Linear(inputs, 64, bias=bias).bfloat16().requires_grad_(False)
    x = torch.randn(3, 5, inputs).bfloat16()
    with torch.no_grad():
        ours, bent = linear(x), linear.gelu(x)
    if has_onednn_layouts(torch.bfloat16):
        assert len(linear._cached[2]) == -(-inputs // 384)
    exact = F.linear(x.double(), linear.weight.double(), None if linear.bias is None else linear.bias.double())
    torch.testing.assert_close(ours.double(), exact, atol=2e-2, rtol=1e-2)
    torch.testing.assert_close(bent.double(), F.gelu(exact), atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize(("dtype", "rows"), [case for case in CASES if has_onednn_layouts(case[0])])
@pytest.mark.parametrize(("inputs", "outputs"), [(192, 576), (768, 192), (512, 192), (544, 384), (1536, 384)])
def test_a_row_has_the_same_bits_in_any_batch(dtype, rows, inputs, outputs):
    torch.manual_seed(0)
    linear = Linear(inputs, outputs).to(dtype).requires_grad_(False)
    linear.weight.copy_(uneven(outputs, inputs))
    x = uneven(rows, inputs).to(dtype)
    with torch.no_grad():
        assert linear.batch_invariant
        whole = linear(x)
        for count in (1, 2, 3, 5, 8, 16, 24, 33, 48, 96, 160, 320):
            if count < rows:
                assert torch.equal(linear(x[:count]), whole[:count]), count
