"""The norms of a net told together."""

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


def assert_told_alike(told, norms, condition):
    for together, norm in zip(told, norms, strict=True):
        for one, other in zip(together, norm.tell(condition), strict=True):
            assert one.shape == other.shape == (2, 5, 1, 8) and one.dtype == torch.float32
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradients", [True, False])
def test_norms_are_told_together_what_they_are_told_alone(dtype, gradients):
    norms, condition = make_norms(dtype=dtype, frozen=not gradients), torch.randn(2, 5, 4)
    with torch.set_grad_enabled(gradients):
        assert_told_alike(JoinedNorms(norms).tell(condition), norms, condition)


def test_norms_in_training_are_told_by_their_weights_of_now():
    """Fused optimisers do not count a weight's version up."""
    norms, condition = make_norms(), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    optimizer = torch.optim.AdamW([p for norm in norms for p in norm.parameters()], lr=0.1, fused=True)
    for _ in range(2):
        with torch.no_grad():
            assert_told_alike(joined.tell(condition), norms, condition)
        sum(told.gain.sum() + told.bias.sum() for told in joined.tell(condition)).backward()
        optimizer.step()


def test_norms_that_were_trained_between_two_dreams_are_told_by_their_weights_of_now():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    weights = [p for norm in norms for p in norm.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=0.1, fused=True)
    with torch.no_grad():
        joined.tell(condition)
    weights[-1].requires_grad_(True)  # of a net that is trained in part
    sum(told.gain.sum() + told.bias.sum() for told in joined.tell(condition)).backward()
    optimizer.step()
    weights[-1].requires_grad_(False)
    with torch.no_grad():
        assert_told_alike(joined.tell(condition), norms, condition)


def test_a_norm_without_gradients_is_the_same_and_leaves_its_input():
    norm, x = make_norms(count=1)[0], torch.randn(2, 5, 3, 8)
    told, before = norm.tell(torch.randn(2, 5, 4)), x.clone()
    with torch.no_grad():
        fast = norm(x, told)
    assert torch.equal(fast, norm(x, told)) and torch.equal(x, before)
    plain = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(fast, plain * told.gain + told.bias)


@torch.no_grad()
def test_a_changed_weight_is_told():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    before = joined.tell(condition)
    norms[1].modulation.bias.add_(1.0)
    assert_told_alike(joined.tell(condition), norms, condition)
    assert torch.equal(joined.tell(condition)[0].gain, before[0].gain)
    norms[2].modulation.to(torch.bfloat16)
    norms[0].modulation.to(torch.bfloat16), norms[1].modulation.to(torch.bfloat16)
    assert_told_alike(joined.tell(condition), norms, condition)


def test_training_after_sampling_still_has_gradients():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    with torch.inference_mode():
        joined.tell(condition)
    for norm in norms:
        norm.requires_grad_(True)
    joined.tell(condition)[2].gain.sum().backward()
    assert norms[2].modulation.weight.grad is not None


@torch.no_grad()
def test_a_copy_is_told_by_its_own_weights():
    norms, condition = make_norms(frozen=True), torch.randn(2, 5, 4)
    joined = JoinedNorms(norms)
    joined.tell(condition)
    for other in (copy.deepcopy(joined), pickle.loads(pickle.dumps(joined))):
        other._norms[0].modulation.weight.mul_(2.0)
        assert_told_alike(other.tell(condition), other._norms, condition)
        assert_told_alike(joined.tell(condition), norms, condition)
