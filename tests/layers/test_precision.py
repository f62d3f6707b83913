import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from worldmodel.layers.conv import SameConv3d, SameConvTranspose3d
from worldmodel.layers.cpu.features import has_onednn_layouts
from worldmodel.layers.precision import Conv3d, Linear, autocast, cast_matmuls, fast_dtype


def test_cast_products_leaves_norms_in_float32():
    net = nn.Sequential(Linear(4, 4), nn.LayerNorm(4), Linear(4, 2))
    cast_matmuls(net, torch.bfloat16)
    assert [layer.weight.dtype for layer in net] == [torch.bfloat16, torch.float32, torch.bfloat16]


def test_cast_products_equal_autocast():
    torch.manual_seed(0)
    net = nn.Sequential(Linear(16, 16), nn.LayerNorm(16), Linear(16, 8))
    x = torch.randn(5, 16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        slow = net(x)
    cast_matmuls(net, torch.bfloat16)
    with torch.inference_mode():
        hidden = net[1](net[0](x).float())
        fast = net[2](hidden)
    assert torch.equal(slow, fast)


def test_convolution_follows_its_weight():
    conv = Conv3d(1, 1, 1).to(torch.bfloat16)
    assert conv(torch.zeros(1, 1, 1, 2, 2)).dtype == torch.bfloat16


def test_autocast_to_float32_changes_nothing():
    linear = nn.Linear(4, 4)
    with autocast("cpu", torch.float32):
        assert linear(torch.zeros(1, 4)).dtype == torch.float32
    assert fast_dtype("cpu") in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_weights_in_the_processors_layout_give_the_same_matmul(dtype, shape, bias):
    torch.manual_seed(0)
    linear = Linear(192, 256, bias=bias).to(dtype).requires_grad_(False)
    x = torch.randn(*shape, 192)
    with torch.no_grad():
        ours = linear(x)
    assert (linear._cached is not None) == has_onednn_layouts(dtype)
    torch.testing.assert_close(ours, F.linear(x.to(dtype), linear.weight, linear.bias), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("width", [8, 256])  # plain, and in the processor's layout
def test_fused_gelu_equals_gelu_of_the_output(dtype, tolerance, width):
    torch.manual_seed(0)
    linear = Linear(192, width).to(dtype).requires_grad_(False)
    x = torch.randn(3, 192)
    with torch.no_grad():
        ours = linear.gelu(x)
    exact = F.gelu(F.linear(x.to(dtype), linear.weight, linear.bias).float())
    assert ours.dtype == dtype and (ours < 0).any()
    torch.testing.assert_close(ours.float(), exact, atol=tolerance, rtol=tolerance)
    linear.requires_grad_(True).gelu(x).sum().backward()
    assert linear.weight.grad is not None


@pytest.mark.parametrize("change", ["in place", "as data", "loaded"])
def test_a_changed_weight_changes_the_matmul(change):
    torch.manual_seed(0)
    linear, x = Linear(192, 256).requires_grad_(False), torch.randn(3, 192)
    with torch.no_grad():
        linear(x)
        if change == "in place":
            linear.weight.mul_(2)
        elif change == "as data":
            linear.weight.data = torch.randn(256, 192)
        else:
            linear.load_state_dict(Linear(192, 256).state_dict())
        torch.testing.assert_close(linear(x), F.linear(x, linear.weight, linear.bias), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fused", [True, False])
def test_a_layer_in_training_uses_its_current_weight(fused):
    """Fused optimisers do not raise a weight's version."""
    torch.manual_seed(0)
    linear, x = Linear(192, 256), torch.randn(3, 192)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=0.1, fused=fused)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(linear(x), F.linear(x, linear.weight, linear.bias), atol=1e-4, rtol=1e-4)
        linear(x).square().sum().backward()
        optimizer.step()


def test_a_layer_trained_between_two_dreams_uses_its_current_weight():
    torch.manual_seed(0)
    linear, x = Linear(192, 256).requires_grad_(False), torch.randn(3, 192)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=0.1, fused=True)
    with torch.no_grad():
        linear(x)
    linear.requires_grad_(True)(x).square().sum().backward()
    optimizer.step()
    linear.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(linear(x), F.linear(x, linear.weight, linear.bias), atol=1e-4, rtol=1e-4)


def test_training_after_sampling_still_has_gradients():
    linear, x = Linear(192, 256).requires_grad_(False), torch.ones(2, 192)
    with torch.inference_mode():
        linear(x)
    linear.requires_grad_(True)(x).sum().backward()
    assert linear.weight.grad.abs().sum() > 0


def test_a_used_layer_can_be_copied_and_saved():
    linear, x = Linear(192, 256).requires_grad_(False), torch.ones(1, 192)
    with torch.no_grad():
        linear(x)
        assert torch.equal(copy.deepcopy(linear)(x), linear(x))
    torch.save(linear, io.BytesIO())
    assert set(linear.state_dict()) == {"weight", "bias"}


def test_a_layer_without_outputs_does_not_warn(recwarn):
    assert Linear(4, 0)(torch.zeros(2, 4)).shape == (2, 0) and not recwarn.list


def gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Of the layer's kernel, in float32 and in bfloat16."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        layer.zero_grad()
        with autocast("cpu", dtype):
            y = layer(x).float()
        y.backward(torch.linspace(-1, 2, y.numel()).view_as(y))
        found.append(layer.weight.grad)
    return found


# torch itself fills these gradients with uninitialised memory where bfloat16 is fast.
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("kind", [SameConv3d, SameConvTranspose3d])
def test_kernels_longer_than_their_input_have_the_gradients_of_float32(kind, kernel, depth):
    torch.manual_seed(0)
    layer = kind(8, 8, (kernel, 3, 3), (1, 1, 1)).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 8, depth, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    wanted, found = gradients(layer, x)
    assert (found - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("height", [1, 3])
def test_kernels_that_stride_along_one_column_have_the_gradients_of_float32(kernel, height):
    torch.manual_seed(0)
    half = kernel // 2
    layer = Conv3d(64, 8, (1, kernel, kernel), stride=(1, 2, 2), padding=(0, half, half))
    x = torch.randn(4, 64, 1, height, 1).contiguous(memory_format=torch.channels_last_3d)
    wanted, found = gradients(layer.to(memory_format=torch.channels_last_3d), x)
    assert (found - wanted).norm() < 0.02 * wanted.norm()
