"""Adaptive input and output of codes compared with torch's own, and outputs tied to inputs."""

import pytest
import torch

from tests.dynamics.subscale.nets import LOOKUP, every_attention, every_kind, make_actions, make_codes, make_net
from worldmodel.dynamics import SubscaleTransformer
from worldmodel.dynamics.subscale.adaptive import AdaptiveOutput, CodeOrder, cutoffs_of

COUNTS = torch.tensor([3, 50, 0, 7, 90, 1, 20, 9, 2, 30])
FORMS = {
    "tied": {"code_output": "tied"},
    "input": {"code_input": "adaptive", "cutoffs": (1,)},
    "output": {"code_output": "adaptive", "cutoffs": (1,)},
    "both": {"code_input": "adaptive", "code_output": "adaptive", "cutoffs": (1,)},
    "tied embeddings": {"code_input": "adaptive", "code_output": "adaptive-tied", "cutoffs": (1,)},
    "tied projections": {"code_input": "adaptive", "code_output": "adaptive-tied-projection", "cutoffs": (1,)},
}
every_form = pytest.mark.parametrize("form", FORMS)


def test_log_probabilities_equal_torchs_adaptive_softmax():
    torch.manual_seed(0)
    order = CodeOrder(10, (3, 6))
    order.by_use(COUNTS)
    ours = AdaptiveOutput(16, order).requires_grad_(False)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 10, [3, 6], div_value=4.0)
    ours.head.weight.copy_(theirs.head.weight)
    for tail, (squeeze, out) in zip(ours.tails, theirs.tail, strict=True):
        tail.squeeze.weight.copy_(squeeze.weight)
        tail.out.weight.copy_(out.weight)
    x, codes = torch.randn(20, 16), torch.randint(10, (20,))
    torch.testing.assert_close(ours(x)[torch.arange(20), codes], theirs(x, order.rank[codes]).output)
    assert order.code.tolist() == [4, 1, 9, 6, 7, 3, 0, 8, 5, 2]  # by falling counts


def test_cutoffs_lie_at_eighty_and_ninety_five_percent_of_the_mass():
    assert cutoffs_of(COUNTS) == (3, 6)  # 170 and 206 of 212
    assert cutoffs_of(torch.tensor([99, 1, 0, 0])) == (1, 2)
    assert cutoffs_of(torch.tensor([0, 0, 0])) == (1, 2)
    assert cutoffs_of(torch.ones(100)) == (80, 95)


@every_form
@every_kind
@every_attention
def test_probabilities_of_all_videos_sum_to_one(form, kind, attention):
    net = make_net(kind, learn_start=True, attention=attention, **FORMS[form])
    assert abs(total(net, torch.arange(256)) - 1) < 1e-4


@every_form
@every_kind
def test_probabilities_of_all_videos_with_one_first_frame_sum_to_one(form, kind):
    net = make_net(kind, **FORMS[form])
    assert abs(total(net, 0b0110 + 16 * torch.arange(16)) - 1) < 1e-4


def total(net: SubscaleTransformer, numbers: torch.Tensor) -> float:
    """The probability of these of the 256 videos of two frames of 2x2 positions with one of two codes."""
    videos = numbers[:, None] >> torch.arange(8) & 1
    nats, _ = net.code_loss(videos.view(-1, 2, 4, 1), make_actions(1, 2).expand(len(videos), -1), None, LOOKUP)
    return float((-nats.double() * 4).sum(1).exp().sum())


@every_form
def test_the_cached_sampler_reads_the_same_input_as_the_whole_decoder(form):
    cutoffs = {"cutoffs": (2, 4)} if "cutoffs" in FORMS[form] else {}
    net = make_net(grid=(3, 3), num_codes=7, **FORMS[form] | cutoffs)
    if net.order is not None:
        net.order_codes(torch.tensor([1, 5, 2, 9, 0, 3, 4]))
    codes = make_codes(net, 2, 1)
    whole = net.decoder.content(codes.view(2, 1, 3, 3, 1)).flatten(1, 3) - net.decoder.conv.bias
    padded = torch.nn.functional.pad(codes[:, 0], (0, 0, 0, 1), value=-1)
    for table in (net.decoder.table(), None):
        each = [net.decoder.content_at(padded[:, around], table) for around in net.decoder.around]
        torch.testing.assert_close(torch.stack(each, dim=1), whole, atol=1e-5, rtol=1e-5)


def test_tied_outputs_hold_fewer_weights_than_free_ones():
    def weights(**form):
        net = make_net(num_codes=60, **form)
        return sum(parameter.numel() for parameter in net.parameters())

    adaptive = {"code_input": "adaptive", "cutoffs": (10, 30)}
    free, embeddings, both = (
        weights(code_output=output, **adaptive) for output in ("adaptive", "adaptive-tied", "adaptive-tied-projection")
    )
    assert free > embeddings > both
    assert weights() > weights(code_output="tied")


def test_renumbering_codes_renames_the_distribution():
    net = make_net(num_codes=7, code_input="adaptive", code_output="adaptive-tied", cutoffs=(2, 4))
    hidden = torch.randn(5, 8)
    plain = net.code_head.to_logits[0](hidden)
    net.order_codes(torch.tensor([1, 5, 2, 9, 0, 3, 4]))  # code 3 is the most frequent one
    torch.testing.assert_close(net.code_head.to_logits[0](hidden)[:, [3, 1, 6, 5, 2, 0, 4]], plain)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"code_output": "adaptive-tied"}, "shares the weights of code_input 'adaptive', got 'embedding'"),
        ({"code_output": "tied", "code_input": "adaptive"}, "shares the weights of code_input 'embedding'"),
        ({"code_output": "adaptive", "books": 2, "cutoffs": (1,)}, "is for one book, got 2"),
        ({"code_output": "tied", "books": 2}, "is for one book, got 2"),
        ({"code_output": "adaptive"}, "cutoffs must be rising numbers of codes between 0 and 2"),
        ({"code_output": "adaptive", "cutoffs": (2,)}, "cutoffs must be rising numbers of codes between 0 and 2"),
        ({"code_input": "adaptive", "cutoffs": (0,)}, r"cutoffs\[0\] must be at least 1, got 0"),
    ],
)
def test_forms_that_do_not_go_together_are_refused(form, message):
    with pytest.raises(ValueError, match=message):
        make_net(**form)
