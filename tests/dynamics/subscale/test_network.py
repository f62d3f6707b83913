"""The subscale network on whole videos: its probabilities, and what it sees against what it may see."""

from itertools import product

import pytest
import torch

from tests.dynamics.subscale.nets import (
    KINDS,
    LOOKUP,
    every_attention,
    every_kind,
    logits_of,
    make_actions,
    make_codes,
    make_net,
    place_order,
    slice_of,
)
from worldmodel.dynamics.subscale import network
from worldmodel.dynamics.subscale.context_encoder import NO_CODE
from worldmodel.dynamics.subscale.order import DECODER_TAPS


def _all_videos(free: int, steps: int, tokens: int, slices: int) -> torch.Tensor:
    """Every video of 2 codes whose last `free` codes vary, (2^free, steps, tokens, slices); the others are zeros."""
    bits = torch.arange(2**free)[:, None] >> torch.arange(free) & 1
    fixed = steps * tokens * slices - free
    return torch.nn.functional.pad(bits, (fixed, 0)).view(-1, steps, tokens, slices)


@every_kind
@every_attention
@pytest.mark.parametrize(("books", "learn_start"), [(1, False), (1, True), (2, False)])
def test_probabilities_of_all_videos_sum_to_one(kind, attention, books, learn_start):
    net = make_net(kind, books=books, attention=attention, learn_start=learn_start)
    videos = _all_videos(4 * books * (2 if learn_start else 1), 2, 4, books)
    actions = make_actions(1, 2).expand(len(videos), -1)
    nats, _ = net.code_loss(videos, actions, None, LOOKUP)
    total = (-nats.double() * 4 * books).sum(1).exp().sum()
    assert abs(total - 1) < 1e-4


def test_probabilities_of_steps_of_two_frames_sum_to_one():
    net = make_net(num_slices=2, learn_start=False)
    videos = _all_videos(8, 2, 4, 2)
    nats, _ = net.code_loss(videos, make_actions(1, 2).expand(len(videos), -1), None, LOOKUP)
    assert abs((-nats.double() * 8).sum(1).exp().sum() - 1) < 1e-4


@every_kind
@every_attention
@pytest.mark.parametrize("books", [1, 2])
def test_codes_of_the_current_and_later_slices_do_not_reach_its_context(kind, attention, books):
    net = make_net(kind, (4, 4), 4, books, num_codes=5, attention=attention)
    codes, other = make_codes(net, 1, 4), make_codes(net, 1, 4, seed=1)
    number = slice_of(net, 4).view(4, -1)
    for current in range(int(number.max()) + 1):
        changed = torch.where((number >= current)[None, :, :, None], other, codes)
        assert torch.equal(_context(net, changed, current), _context(net, codes, current))


def _context(net, codes, current):
    conditions = net.condition(1, 4, make_actions(1, 4)).steps
    if net.config.single_frame:
        rows = net._frame_rows(codes, torch.tensor([[current]]), conditions[:, current : current + 1])
    else:
        rows = net._slice_rows(codes, torch.tensor([[current]]), conditions)
    return net.encoder(rows.context, rows.seen, rows.entries, net._modulate(rows.condition)[0])


@every_kind
@every_attention
@pytest.mark.parametrize("books", [1, 2])
def test_a_changed_code_leaves_all_logits_up_to_its_own_unchanged(kind, attention, books):
    net = make_net(kind, (4, 4), 4, books, num_codes=5, attention=attention, learn_start=True)
    codes, actions = make_codes(net, 1, 4), make_actions(1, 4)
    before = logits_of(net, codes, actions)[0].flatten(0, 1)  # (places, n, V)
    order = place_order(net, 4)
    for place, book in product(range(0, 64, 5), range(books)):
        changed = codes.clone()
        changed.view(64, books)[place, book] += 1
        changed %= 5
        after = logits_of(net, changed, actions)[0].flatten(0, 1)
        moved = (after != before).any(-1)  # (places, n)
        assert not moved[order < order[place]].any()
        assert not moved[place, : book + 1].any()
        assert moved[place, book + 1 :].all()


def _sees(net, frames: int) -> torch.Tensor:
    """(positions, positions) bool: which ones may change the logits of another, by the drawn receptive field."""
    height, width = net.grid
    places = list(product(range(frames), range(height), range(width)))
    s = net.config.subscale or (frames, 1, 1)
    reach = [size // 2 for size in net.config.kernel]
    number = dict(zip(places, slice_of(net, frames).tolist(), strict=True))
    rank = dict(zip(places, place_order(net, frames).tolist(), strict=True))
    sees = torch.zeros(len(places), len(places), dtype=torch.bool)
    for current in range(max(number.values()) + 1):
        mine = sorted((place for place in places if number[place] == current), key=rank.__getitem__)
        context = {
            other
            for place in mine
            for other in places
            if number[other] < current and all(abs(o - p) <= r for o, p, r in zip(other, place, reach, strict=True))
        }
        content: set = set()
        for place in mine:
            for tap in DECODER_TAPS:
                other = tuple(p + d * step for p, d, step in zip(place, tap, s, strict=True))
                if other in rank and number[other] == current and rank[other] < rank[place]:
                    content.add(other)
            for other in context | content:
                sees[places.index(place), places.index(other)] = True
    return sees


@every_kind
def test_every_position_inside_the_receptive_field_moves_a_logit(kind):
    net = make_net(kind, (4, 4), 6 if kind == "frame" else 4, num_codes=5, learn_start=True)
    frames = 6 if kind == "frame" else 4
    codes, actions = make_codes(net, 1, frames), make_actions(1, frames)
    sees = _sees(net, frames)
    before = logits_of(net, codes, actions)
    changed = codes.repeat(len(sees), 1, 1, 1)
    index = torch.arange(len(sees))
    changed.flatten(1)[index, index] = (codes.flatten() + 1) % 5
    after = logits_of(net, changed, actions.expand(len(sees), -1))
    moved = ((after - before).abs() > 1e-6).any(-1).any(-1).flatten(1).T  # (places, changed places)
    assert torch.equal(moved, sees)


def test_a_single_frame_sees_three_past_frames():
    sees = _sees(make_net("frame", (2, 2)), 6).view(6, 4, 6, 4).any(3).any(1)
    assert sees[5].tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize("dead_taps", [False, True])
@every_kind
def test_the_encoders_lookup_equals_a_convolution_over_one_hot_codes(kind, dead_taps):
    net = make_net(kind, (4, 4), 4, 2, num_codes=5, dead_taps=dead_taps)
    codes = make_codes(net, 2, 4)
    number = slice_of(net, 4).view(4, 4, 4)
    kernel, s = net.config.kernel, net.config.subscale or (4, 1, 1)
    table = net.encoder.table.weight[:-1].view(-1, 2 * 5, 6)  # (taps, n*V, E)
    if not dead_taps:
        full = torch.zeros(kernel[0] * kernel[1] * kernel[2], 2 * 5, 6)
        full[_live(net)] = table
        table = full
    weight = table.permute(2, 1, 0).reshape(6, 10, *kernel)
    reach = [size // 2 for size in kernel]
    for current in range(int(number.max()) + 1):
        hot = torch.nn.functional.one_hot(codes, 5).float().flatten(3).unflatten(2, (4, 4))  # (B, t, h, w, n*V)
        hot = hot * (number < current)[None, ..., None]
        whole = torch.nn.functional.conv3d(hot.movedim(-1, 1), weight, padding=reach)
        first = (number == current).nonzero()[0].tolist()
        mine = whole[:, :, first[0] :: s[0], first[1] :: s[1], first[2] :: s[2]].flatten(2).transpose(1, 2)
        conditions = net.condition(2, 4).steps
        which = torch.full((2, 1), current)
        of_net = net._frame_rows if net.config.single_frame else net._slice_rows
        rows = of_net(codes, which, conditions if not net.config.single_frame else conditions[:, :1])
        volume = torch.nn.functional.pad(rows.context, (0, 0, 0, 1), value=NO_CODE)
        seen = rows.seen.expand(2, *rows.seen.shape[-2:])
        met = volume.gather(1, seen.flatten(1)[..., None].expand(-1, -1, 2)).view(*seen.shape, 2)
        torch.testing.assert_close(net.encoder.table.of_taps(met, net.encoder.taps), mine, atol=1e-5, rtol=0)


def _live(net) -> list[int]:
    """Indices of the kernel entries that see a code anywhere, by the definition."""
    reach = [size // 2 for size in net.config.kernel]
    offsets = list(product(*(range(-r, r + 1) for r in reach)))
    if net.config.single_frame:
        return [index for index, offset in enumerate(offsets) if offset[0] < 0]
    number = slice_of(net, 4).view(4, 4, 4)
    places = list(product(range(4), repeat=3))

    def meets(offset):
        for place in places:
            other = tuple(p + d for p, d in zip(place, offset, strict=True))
            if all(0 <= o < 4 for o in other) and number[other] < number[place]:
                return True
        return False

    return [index for index, offset in enumerate(offsets) if meets(offset)]


@every_kind
def test_dead_taps_change_no_output(kind):
    lean, whole = (make_net(kind, (4, 4), 4, dead_taps=dead) for dead in (False, True))
    whole_table, lean_table = whole.encoder.table.weight, lean.encoder.table.weight
    lean_table[:-1] = whole_table[:-1].unflatten(0, (-1, 2))[_live(lean)].flatten(0, 1)
    lean.decoder.conv.weight.copy_(whole.decoder._kernel())
    other = {
        name: tensor
        for name, tensor in whole.state_dict().items()
        if name not in ("encoder.table.weight", "decoder.conv.weight")
    }
    lean.load_state_dict(other, strict=False)
    codes, actions = make_codes(lean, 2, 4), make_actions(2, 4)
    torch.testing.assert_close(logits_of(lean, codes, actions), logits_of(whole, codes, actions))


@pytest.mark.parametrize("kind", ["frame", "spatial"])
def test_a_few_random_slices_estimate_the_loss_of_all(kind):
    few, whole = (make_net(kind, (4, 4), 4, training_slices=slices, action_condition="none") for slices in (1, None))
    codes, actions = make_codes(few, 1, 4), make_actions(1, 4)
    exact, outputs = whole.train().code_loss(codes, actions, None, LOOKUP)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        estimates, some = few.train().code_loss(codes.expand(4000, -1, -1, -1), actions.expand(4000, -1), None, LOOKUP)
    torch.testing.assert_close(estimates.mean(0), exact[0], rtol=0.1, atol=0)
    drawn = some.flatten(2).any(-1)  # which steps of each row were predicted
    if kind == "frame":
        assert (drawn.sum(1) == 1).all()
        torch.testing.assert_close(some[drawn], outputs.expand_as(some)[drawn])


@every_kind
def test_scores_without_gradients_are_taken_in_parts(kind, monkeypatch):
    net = make_net(kind, (4, 4), 4, num_codes=5)
    codes, actions = make_codes(net, 3, 4), make_actions(3, 4)
    whole = net.code_loss(codes, actions, None, LOOKUP)
    monkeypatch.setattr(
        network, "_MOST_SCORES", 2 * net.config.heads * (net.shape[0] * net.shape[1] * net.shape[2]) ** 2
    )
    with torch.no_grad():
        parts = net.code_loss(codes, actions, None, LOOKUP)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_checkpointing_does_not_change_gradients():
    gradients = []
    for checkpointing in (False, True):
        net = make_net("frame", (4, 4), num_codes=5, learn_start=True, checkpointing=checkpointing)
        net.train().requires_grad_(True)
        nats, outputs = net.code_loss(make_codes(net, 2, 3), make_actions(2, 3), None, LOOKUP)
        (nats.sum() + outputs.square().sum()).backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.any(), name
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["frame", "spatial"])
def test_dropped_actions_equal_missing_ones(kind):
    net = make_net(kind, (4, 4), 4, drop_actions=0.999999)
    codes, actions = make_codes(net, 2, 4), make_actions(2, 4)
    nothing = net.code_loss(codes, None, None, LOOKUP)[0]
    assert not torch.allclose(net.code_loss(codes, actions, None, LOOKUP)[0], nothing)
    torch.testing.assert_close(net.train().code_loss(codes, actions, None, LOOKUP)[0], nothing)


def test_context_noise_changes_what_the_encoder_reads_and_no_target():
    net = make_net(context_noise=0.5, num_codes=7)
    codes, actions = make_codes(net, 3, 4), make_actions(3, 4)
    steps = torch.arange(1, 4).expand(3, -1)
    clean = net._frame_rows(codes, steps, net.condition(3, 3, actions).steps)
    noisy = net.train()._frame_rows(codes, steps, net.condition(3, 3, actions).steps)
    changed = (clean.context != noisy.context).float().mean()
    assert 0.1 < changed < 0.5
    assert torch.equal(clean.context == NO_CODE, noisy.context == NO_CODE)
    assert torch.equal(clean.codes, noisy.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_moves_its_step_and_later_ones_only(kind):
    net = make_net(kind, (4, 4), 4, num_codes=5)
    codes, actions = make_codes(net, 1, 4), make_actions(1, 4)
    other = actions.clone()
    other[0, 1] = (other[0, 1] + 1) % 3  # led to step 2
    moved = (logits_of(net, codes, actions) != logits_of(net, codes, other)).flatten(2).any(-1)[0]
    if kind == "frame":
        assert moved.tolist() == [False, True, False]
    else:
        assert moved[1]
