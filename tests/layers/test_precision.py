import torch
from torch import nn

from worldmodel.layers.precision import Conv3d, Linear, autocast, cast_products, fast_dtype


def test_cast_products_leaves_norms_in_float32():
    net = nn.Sequential(Linear(4, 4), nn.LayerNorm(4), Linear(4, 2))
    cast_products(net, torch.bfloat16)
    assert [layer.weight.dtype for layer in net] == [torch.bfloat16, torch.float32, torch.bfloat16]


def test_cast_products_equal_autocast():
    torch.manual_seed(0)
    net = nn.Sequential(Linear(16, 16), nn.LayerNorm(16), Linear(16, 8))
    x = torch.randn(5, 16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        slow = net(x)
    cast_products(net, torch.bfloat16)
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
