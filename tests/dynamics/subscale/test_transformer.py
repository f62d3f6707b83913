"""Dreams in single-frame order: step, burn-in and the cache."""

import pytest
import torch

from tests.dynamics.subscale.nets import LOOKUP, make_actions, make_codes, make_net
from worldmodel.dynamics.sampling import uniforms

every_start = pytest.mark.parametrize("learn_start", [False, True])


def _net(learn_start=False, **changes):
    """Steps of two latent frames with two books each."""
    return make_net("frame", (2, 3), books=2, num_codes=6, num_slices=4, learn_start=learn_start, **changes)


def _burn_in(net, codes, actions):
    return net.burn_in(codes, net.condition(len(codes), codes.shape[1] - 1 + net.config.lead, actions), LOOKUP)


def _step(net, cache, last, action, counter=0, given=None):
    noise = uniforms(torch.arange(len(last)), torch.full((len(last),), counter), net.noise_per_step)
    return net.step(last, net.condition(len(last), 1, action[:, None]), cache, noise, LOOKUP, given=given)


@every_start
@pytest.mark.parametrize("clip_frames", [None, 8])
def test_steps_score_what_the_whole_sequence_scores(learn_start, clip_frames):
    net = _net(learn_start, clip_frames=clip_frames)
    codes, actions = make_codes(net, 2, 7), make_actions(2, 7)
    nats, outputs = net.code_loss(codes, actions, None, LOOKUP)
    cache, burnt = _burn_in(net, codes[:, :2], actions[:, :1])
    torch.testing.assert_close(burnt, outputs[:, net.config.lead], atol=1e-5, rtol=1e-5)
    for now in range(2, 7):
        drawn, out = _step(net, cache, codes[:, now - 1], actions[:, now - 1], given=codes[:, now])
        place = now - 1 + net.config.lead
        torch.testing.assert_close(out, outputs[:, place], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(drawn.nll.mean(1) / net.num_slices, nats[:, place], atol=1e-5, rtol=1e-5)


@every_start
def test_a_drawn_step_has_the_likelihood_that_it_is_scored_with(learn_start):
    net = _net(learn_start)
    codes, actions = make_codes(net, 2, 3), make_actions(2, 4)
    drawn, out = _step(net, _burn_in(net, codes, actions[:, :2])[0], codes[:, -1], actions[:, 2])
    scored, again = _step(net, _burn_in(net, codes, actions[:, :2])[0], codes[:, -1], actions[:, 2], given=drawn.codes)
    assert torch.equal(scored.codes, drawn.codes)
    for mine, theirs in ((drawn.nll, scored.nll), (drawn.entropy, scored.entropy), (out, again)):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@every_start
@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_burn_in_equals_steps_that_were_taken(learn_start, steps):
    net = _net(learn_start)
    codes, actions = make_codes(net, 2, 8), make_actions(2, 8)
    cache, _ = _burn_in(net, codes[:, :1], actions[:, :0])
    for now in range(1, steps):
        _step(net, cache, codes[:, now - 1], actions[:, now - 1], given=codes[:, now])
    at_once, _ = _burn_in(net, codes[:, :steps], actions[:, : steps - 1])
    assert (cache.clock, cache.lengths.tolist()) == (at_once.clock, at_once.lengths.tolist())
    one, other = (_step(net, each, codes[:, steps - 1], actions[:, steps - 1])[0] for each in (cache, at_once))
    assert torch.equal(one.codes, other.codes)


def test_a_start_from_nothing_ignores_the_last_codes():
    net = _net(learn_start=True)
    codes, action = make_codes(net, 2, 0), torch.zeros(2, dtype=torch.int64)
    first, other = (
        _step(net, _burn_in(net, codes, None)[0], last, action)[0].codes
        for last in (torch.zeros(2, 6, 4, dtype=torch.int64), torch.full((2, 6, 4), 5))
    )
    assert torch.equal(first, other)


def test_a_model_without_a_learned_start_needs_a_context_step():
    net = _net()
    with pytest.raises(ValueError, match="train it with learn_start=True"):
        net.burn_in(make_codes(net, 1, 0), net.condition(1, 0), LOOKUP)


@every_start
def test_rows_of_other_lengths_dream_as_they_would_alone(learn_start):
    net = _net(learn_start)
    codes, actions = make_codes(net, 2, 8), make_actions(2, 8)
    old, _ = _burn_in(net, codes[:1, :6], actions[:1, :5])
    new, _ = _burn_in(net, codes[1:, :1], actions[1:, :0])
    moved = net.move(new, old.clock)
    for here, there in ((old.keys[0], moved.keys[0]), (old.lengths, moved.lengths)):
        assert here.shape[1:] == there.shape[1:]
    both = old.map(lambda t: t.clone())
    both.keys[0] = torch.cat((old.keys[0], moved.keys[0]))
    both.values[0] = torch.cat((old.values[0], moved.values[0]))
    both.lengths, both.shortest = torch.cat((old.lengths, moved.lengths)), min(old.shortest, moved.shortest)
    last = torch.stack((codes[0, 5], codes[1, 0]))
    alone, _ = _burn_in(net, codes[1:, :1], actions[1:, :0])
    for now in range(5):
        action = torch.tensor([now % 3, (now + 1) % 3])
        noise = uniforms(torch.tensor([0, 1]), torch.full((2,), now), net.noise_per_step)
        drawn, _ = net.step(last, net.condition(2, 1, action[:, None]), both, noise, LOOKUP)
        mine, _ = net.step(last[1:], net.condition(1, 1, action[1:, None]), alone, noise[1:], LOOKUP)
        assert torch.equal(drawn.codes[1], mine.codes[0])
        last = drawn.codes


def test_a_dream_of_absolute_times_continues_past_the_clip():
    net = _net(clip_frames=6)
    codes = make_codes(net, 1, 12)
    long, short = ({"codes": codes, "steps": n} for n in (12, 9))
    outs = []
    for case in (long, short):  # both end beyond the clip, with the same past frames
        used = case["codes"][:, 12 - case["steps"] :]
        cache, _ = _burn_in(net, used, torch.zeros(1, case["steps"] - 1, dtype=torch.int64))
        outs.append(_step(net, cache, used[:, -1], torch.zeros(1, dtype=torch.int64))[0].codes)
    assert torch.equal(*outs)


def test_the_cache_holds_codes_and_moves_without_changing_them():
    net = _net()
    codes = make_codes(net, 2, 4)
    cache, _ = _burn_in(net, codes, make_actions(2, 4))
    count, shape = net.cache_shape
    assert len(cache.keys) == len(cache.values) == count
    assert cache.keys[0].shape[1:] == shape
    assert not cache.keys[0].is_floating_point()
    assert cache.values[0].numel() == 0
    slots = [(cache.clock - age) % cache.window for age in (2, 1)]
    assert torch.equal(cache.keys[0][:, 0, slots], codes[:, 1:3])


def test_the_books_of_a_frame_must_divide_the_codes_of_a_token():
    with pytest.raises(ValueError, match="books must divide the 4 codes of a token, got 3"):
        make_net(books=3, num_slices=4)
