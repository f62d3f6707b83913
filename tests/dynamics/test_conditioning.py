"""Joined conditional norms equal the separate ones."""

import copy
import pickle

import pytest
import torch

from worldmodel.dynamics.conditioning import ConditionalNorm, JoinedNorms


def make_norms(count=3, dtype=torch.float32, frozen=False):
    torch.manual_seed(0)
    norms = [ConditionalNorm(8, 4).to(dtype) for _ in range(count)]
    for norm in norms:
        torch.nn.init.normal_(norm.modulation.weight)
        torch.nn.init.normal_(norm.modulation.bias)
        norm.requires_grad_(not frozen)
    return norms


def assert_equal_modulations(modulation, norms, condition):
    for together, norm in zip(modulation, norms, strict=True):
        for one, other in zip(together, norm.modulate(condition), strict=True):
            assert one.shape == other.shape == (2, 5, 1, 8) and one.dtype == torch.float32
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradients", [True, False])
def test_joined_norms_equal_separate_norms(dtype, gradients):
    norms, condition = make_norms(dtype=dtype, frozen=not gradients), torch.randn(2, 5, 4)
    with torch.set_grad_enabled(gradients):
        assert_equal_modulations(JoinedNorms(norms).modulate(condition), norms, condition)


def test_norms_in_training_use_their_current_weights():
    """Fused optimisers do not raise a weight's version."""
    norms, condition = make_norms(), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    optimizer = torch.optim.AdamW([p for norm in norms for p in norm.parameters()], lr=0.1, fused=True)
    for _ in range(2):
        with torch.no_grad():
            assert_equal_modulations(joined.modulate(condition), norms, condition)
        sum(modulation.gain.sum() + modulation.bias.sum() for modulation in joined.modulate(condition)).backward()
        optimizer.step()


def test_norms_trained_between_two_dreams_use_their_current_weights():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    weights = [p for norm in norms for p in norm.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=0.1, fused=True)
    with torch.no_grad():
        joined.modulate(condition)
    weights[-1].requires_grad_(True)  # a partly trained network
    sum(modulation.gain.sum() + modulation.bias.sum() for modulation in joined.modulate(condition)).backward()
    optimizer.step()
    weights[-1].requires_grad_(False)
    with torch.no_grad():
        assert_equal_modulations(joined.modulate(condition), norms, condition)


def test_a_norm_without_gradients_is_the_same_and_keeps_its_input():
    norm, x = make_norms(count=1)[0], torch.randn(2, 5, 3, 8)
    modulation, before = norm.modulate(torch.randn(2, 5, 4)), x.clone()
    with torch.no_grad():
        fast = norm(x, modulation)
    assert torch.equal(fast, norm(x, modulation)) and torch.equal(x, before)
    plain = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(fast, plain * modulation.gain + modulation.bias)


@torch.no_grad()
def test_a_changed_weight_is_used():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    before = joined.modulate(condition)
    norms[1].modulation.bias.add_(1.0)
    assert_equal_modulations(joined.modulate(condition), norms, condition)
    assert torch.equal(joined.modulate(condition)[0].gain, before[0].gain)
    norms[2].modulation.to(torch.bfloat16)
    norms[0].modulation.to(torch.bfloat16), norms[1].modulation.to(torch.bfloat16)
    assert_equal_modulations(joined.modulate(condition), norms, condition)


def test_training_after_sampling_still_has_gradients():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    with torch.inference_mode():
        joined.modulate(condition)
    for norm in norms:
        norm.requires_grad_(True)
    joined.modulate(condition)[2].gain.sum().backward()
    assert norms[2].modulation.weight.grad is not None


@torch.no_grad()
def test_a_copy_uses_its_own_weights():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    joined.modulate(condition)
    for other in (copy.deepcopy(joined), pickle.loads(pickle.dumps(joined))):
        other._norms[0].modulation.weight.mul_(2.0)
        assert_equal_modulations(other.modulate(condition), other._norms, condition)
        assert_equal_modulations(joined.modulate(condition), norms, condition)
