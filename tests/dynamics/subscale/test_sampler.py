"""Sampling with cached keys and values gives the same codes as with the whole network, for every kind and condition."""

import pytest
import torch

from tests.dynamics.subscale.nets import (
    LOOKUP,
    every_attention,
    every_kind,
    logits_of,
    make_actions,
    make_codes,
    make_net,
    place_order,
)
from worldmodel.dynamics.sampling import Sampling, draw, uniforms

CONDITIONS = ("step", "none", "guided")
every_condition = pytest.mark.parametrize("condition", CONDITIONS)


def _net(kind, attention, condition, frames=4, **changes):
    options = {"action_condition": "none" if condition == "none" else "step", "learn_start": True}
    return make_net(kind, (2, 2), frames, 2, num_codes=6, attention=attention, **options | changes)


def _options(condition) -> Sampling:
    return Sampling(guidance=1.7) if condition == "guided" else Sampling()


def _logits(net, codes, actions, options):
    logits = logits_of(net, codes, actions)
    if not options.guided:
        return logits
    free = logits_of(net, codes, None)
    return free + options.guidance * (logits - free)


def _naive(net, given, noise, actions, options):
    """Codes drawn one at a time, each by the whole network: given (B, T', S, M), noise (B, positions, n)."""
    frames = actions.shape[1] + 1
    codes = torch.zeros(len(given), frames, net.tokens_per_step, net.books, dtype=torch.int64)
    codes[:, : given.shape[1]] = given
    fixed = given.shape[1] * net.tokens_per_step
    for place in place_order(net, frames).argsort().tolist():
        for book in range(net.books):
            if place >= fixed:
                logits = _logits(net, codes, actions, options).flatten(1, 2)[:, place, book]
                codes.flatten(1, 2)[:, place, book] = draw(logits, noise[:, place, book]).codes
    return codes


def _assert_the_same_codes(net, condition, frames):
    options, actions, seeds = _options(condition), make_actions(2, frames), torch.tensor([3, 4])
    given = make_codes(net, 2, 1)
    if net.config.single_frame:
        drawn, noise = _dream(net, given, actions, seeds, options)
    else:
        drawn = net.draw_clip(given, seeds, actions, options)
        noise = torch.zeros(2, frames * net.tokens_per_step, net.books)
        for index, places in enumerate(net.positions):
            noise[:, places] = uniforms(seeds, torch.full_like(seeds, index), len(places) * 2).unflatten(1, (-1, 2))
    assert torch.equal(drawn, _naive(net, given, noise, actions, options))
    assert len(drawn[:, 1:].unique()) > 1


@every_kind
@every_attention
@every_condition
def test_the_cached_sampler_draws_what_the_whole_network_draws(kind, attention, condition):
    frames = 4 if (attention, condition) == ("query-key", "step") else 2
    _assert_the_same_codes(_net(kind, attention, condition, frames), condition, frames)


@every_kind
@every_attention
def test_a_model_of_blocks_draws_what_the_whole_network_draws(kind, attention):
    _assert_the_same_codes(_net(kind, attention, "step", 2, block=(1, 1, 2)), "step", 2)


def _dream(net, given, actions, seeds, options):
    """Steps after the given ones: all codes, and the noise of every position."""
    times = 2 if options.guided else 1

    def condition(inputs, known):
        own = net.condition(2, inputs, known)
        return own.join(net.condition(2, inputs)) if options.guided else own

    codes, noises = given, [torch.zeros(2, net.tokens_per_step, net.books)] * given.shape[1]
    cache, _ = net.burn_in(
        given.repeat(times, 1, 1, 1), condition(given.shape[1], actions[:, : given.shape[1] - 1]), LOOKUP
    )
    for now in range(given.shape[1], actions.shape[1] + 1):
        noise = uniforms(seeds, torch.full_like(seeds, now), net.noise_per_step)
        last = codes[:, -1].repeat(times, 1, 1)
        drawn, _ = net.step(last, condition(1, actions[:, now - 1 : now]), cache, noise, LOOKUP, options)
        codes = torch.cat((codes, drawn.codes[:, None]), dim=1)
        noises.append(noise.unflatten(1, (-1, net.books)))
    return codes, torch.cat(noises, dim=1)


@every_kind
def test_weights_in_training_and_prepared_ones_draw_the_same(kind):
    net = _net(kind, "query-key", "step")
    given, seeds, actions = make_codes(net, 2, 1), torch.tensor([1, 2]), make_actions(2, 4)

    def drawn():
        if kind == "frame":
            return _dream(net, given, actions, seeds, Sampling())[0]
        return net.draw_clip(given, seeds, actions, Sampling())

    prepared = drawn()
    with torch.no_grad():
        net.requires_grad_(True)
        assert torch.equal(drawn(), prepared)


@every_kind
@every_attention
def test_a_row_of_a_batch_is_drawn_like_the_row_alone(kind, attention):
    net = _net(kind, attention, "step")
    given, seeds, actions = make_codes(net, 2, 1), torch.tensor([5, 6]), make_actions(2, 4)
    if kind == "frame":
        whole = _dream(net, given, actions, seeds, Sampling())[0]
        swapped = _dream(net, given.flip(0), actions.flip(0), seeds.flip(0), Sampling())[0]
        assert torch.equal(swapped.flip(0), whole)
        return
    whole = net.draw_clip(given, seeds, actions, Sampling())
    alone = net.draw_clip(given[1:], seeds[1:], actions[1:], Sampling())
    assert torch.equal(alone[0], whole[1])


def test_given_positions_of_later_slices_are_not_seen():
    net = make_net("spatiotemporal", (2, 2), 4, num_codes=6)
    given, seeds = make_codes(net, 1, 2), torch.tensor([0])
    changed = given.clone()
    changed[:, 1] = (changed[:, 1] + 1) % 6  # frame 1 lies in slices after those of frames 0 and 2
    drawn, other = (net.draw_clip(part, seeds, None, Sampling()) for part in (given, changed))
    assert torch.equal(drawn[:, 2], other[:, 2])
    assert not torch.equal(drawn[:, 1], other[:, 1])


def test_given_frames_stay_as_they_are():
    for kind in ("spatial", "spatiotemporal"):
        net = make_net(kind, (2, 2), 4, num_codes=6)
        given = make_codes(net, 2, 3)
        drawn = net.draw_clip(given, torch.tensor([0, 1]), None, Sampling())
        assert torch.equal(drawn[:, :3], given)
