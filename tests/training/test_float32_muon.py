"""Float32Muon does what torch's Muon does, and multiplies only in float32."""

import pytest
import torch
from torch import nn

from worldmodel.layers import precision
from worldmodel.training.float32_muon import Float32Muon, orthogonalized
from worldmodel.training.optimizers import make_optimizers

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # torch's


def gradients(shape: tuple[int, int], count: int) -> list[torch.Tensor]:
    """With a few large directions and many small ones, like gradients of networks."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(count, shape[0], shape[0], generator=generator)
    v = torch.randn(count, shape[0], shape[1], generator=generator)
    falling = torch.logspace(0, -4, shape[0])
    return list((torch.linalg.qr(u)[0] * falling) @ v)


def trained(kind: type[torch.optim.Muon], shape: tuple[int, int], steps: list[torch.Tensor], **options) -> torch.Tensor:
    weight = nn.Parameter(torch.zeros(shape))
    optimizer = kind([weight], lr=0.02, adjust_lr_fn="match_rms_adamw", **options)
    for gradient in steps:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
@pytest.mark.parametrize("options", [{}, {"nesterov": False, "weight_decay": 0.0}])
def test_ten_steps_end_where_those_of_torch_end(shape, options):
    steps = gradients(shape, 10)
    ours, torchs = (trained(kind, shape, steps, **options) for kind in (Float32Muon, torch.optim.Muon))
    assert (ours - torchs).norm() < 0.05 * torchs.norm()  # torch's rounds to 8 bits in every product


@pytest.mark.parametrize("rows", [12, 40])
def test_the_shortened_iteration_equals_the_plain_one_in_float64(rows):
    matrices = torch.stack(gradients((rows, 24), 3))
    x = (matrices.mT if rows > 24 else matrices).double()
    x = x / x.flatten(1).norm(dim=1)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + b * gram @ x + c * gram @ gram @ x
    exact = x.mT if rows > 24 else x
    ours = orthogonalized(matrices, COEFFICIENTS, 5, 1e-7)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, atol=1e-3, rtol=0)


def test_weights_of_one_shape_are_trained_as_if_alone():
    steps = gradients((6, 9), 2)
    weights = [nn.Parameter(torch.zeros(6, 9)) for _ in steps]
    optimizer = Float32Muon(weights, lr=0.02, adjust_lr_fn="match_rms_adamw")
    for weight, gradient in zip(weights, steps, strict=True):
        weight.grad = gradient.clone()
    optimizer.step()
    for weight, gradient in zip(weights, steps, strict=True):
        torch.testing.assert_close(weight.detach(), trained(Float32Muon, (6, 9), [gradient]))


def test_a_zero_gradient_keeps_the_weight_finite_and_a_missing_one_does_not_change_it():
    zero, missing = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))
    zero.grad = torch.zeros(3, 4)
    Float32Muon([zero, missing], lr=0.1, weight_decay=0.0).step()
    assert torch.equal(zero.detach(), torch.ones(3, 4)) and torch.equal(missing.detach(), torch.ones(3, 4))


@pytest.mark.parametrize("kinds", [(True, False), (False, True)])
def test_a_run_resumes_on_a_processor_of_the_other_kind(kinds, monkeypatch):
    def run(fast_at: tuple[bool, bool]) -> torch.Tensor:
        net, state = nn.Linear(6, 4), None
        nn.init.zeros_(net.weight)
        for fast, steps in zip(fast_at, (gradients((4, 6), 4)[:2], gradients((4, 6), 4)[2:]), strict=True):
            monkeypatch.setattr(precision, "multiplies_bf16", lambda fast=fast: fast)
            muon = make_optimizers(net, 0.02, 0.0, 0.98, [net.weight])[1]
            assert isinstance(muon, Float32Muon) != fast
            if state is not None:
                muon.load_state_dict(state)
            for gradient in steps:
                net.weight.grad = gradient.clone()
                muon.step()
            state = muon.state_dict()
        return net.weight.detach()

    moved, stayed = run(kinds), run((kinds[0], kinds[0]))
    assert (moved - stayed).norm() < 0.05 * stayed.norm()
