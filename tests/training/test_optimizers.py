"""Muon gets the hidden weights, kernels as matrices, and AdamW all others."""

import copy

import pytest
import torch
from torch import nn

from worldmodel.training.optimizers import make_optimizers

RATES = {"learning_rate": 0.05, "weight_decay": 0.1, "beta2": 0.98}


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5), nn.LayerNorm(5))


def train_a_step(net: nn.Sequential, optimizers: list[torch.optim.Optimizer], seed: int = 0) -> None:
    net.zero_grad()
    x = torch.randn(6, 3, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    net(x).square().mul(torch.arange(5.0)).sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def test_muon_trains_the_hidden_weights_and_adamw_each_other_one():
    net = make_net()
    hidden = [net[0].weight, net[3].weight]
    adamw, muon = make_optimizers(net, hidden=hidden, **RATES)
    assert [p.data_ptr() for p in muon.param_groups[0]["params"]] == [p.data_ptr() for p in hidden]
    held = [p for group in adamw.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in net.parameters()} - {id(p) for p in hidden}
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.1, 0.0]


def test_a_kernel_is_trained_as_the_matrix_of_its_outputs():
    net = make_net()
    matrix = nn.Parameter(net[0].weight.detach().flatten(1).clone())
    (*_, muon) = make_optimizers(net, hidden=[net[0].weight], **RATES)
    reference = type(muon)([matrix], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        train_a_step(net, [muon], seed)
        matrix.grad = net[0].weight.grad.flatten(1)
        reference.step()
    torch.testing.assert_close(net[0].weight.flatten(1), matrix)


def test_kernels_in_channels_last_memory_learn_the_same():
    plain = make_net()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last_3d)
    assert not last[0].weight.is_contiguous()
    for net in (plain, last):
        optimizers = make_optimizers(net, hidden=[net[0].weight], **RATES)
        for seed in range(3):
            train_a_step(net, optimizers, seed)
    torch.testing.assert_close(last[0].weight, plain[0].weight, atol=2e-3, rtol=1e-2)  # Muon rounds to bfloat16
    assert not torch.allclose(plain[0].weight, make_net()[0].weight, atol=1e-2)


def test_a_weight_that_is_not_a_matrix_in_memory_is_refused():
    net = nn.Sequential(nn.Conv3d(4, 4, 3))
    net[0].weight.data = net[0].weight.data.permute(0, 2, 1, 3, 4).contiguous().permute(0, 2, 1, 3, 4)
    with pytest.raises(ValueError, match="no view of a weight"):
        make_optimizers(net, hidden=[net[0].weight], **RATES)


def test_a_torch_without_muon_is_named(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    net = make_net()
    with pytest.raises(ValueError, match=r"torch>=2\.9.*--no-muon"):
        make_optimizers(net, hidden=[net[0].weight], **RATES)
