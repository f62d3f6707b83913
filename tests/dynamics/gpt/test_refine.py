"""Letters: B batch, T steps, S tokens per step, M slices."""

import math
from dataclasses import replace

import pytest
import torch

from tests.dynamics.test_every_kind import B, T, make_sequence
from tests.dynamics.worlds import make_frames, make_world, train_on
from worldmodel.dynamics import GPTConfig
from worldmodel.dynamics.gpt.contexts import codes_before
from worldmodel.dynamics.gpt.refine import draw_groups, known_in_last_pass, known_in_passes
from worldmodel.dynamics.sampling import Sampling, uniforms
from worldmodel.model import CodeBatch

S, M = 4, 2


def test_groups_are_random_and_of_equal_size():
    groups = draw_groups(torch.rand(500, 16, generator=torch.Generator().manual_seed(0)), 4)
    assert (torch.stack([(groups == g).sum(-1) for g in range(4)]) == 4).all()
    assert (groups.float().mean(0) - 1.5).abs().max() < 0.3


def test_training_covers_every_share_of_known_tokens_below_all():
    torch.manual_seed(0)
    [known] = known_in_passes((200, 3, 4), passes=4, training=True, device=torch.device("cpu"))
    assert set(known.sum(-1).flatten().tolist()) == {0, 1, 2, 3}


def test_evaluation_uses_all_passes_and_always_the_same_groups():
    torch.manual_seed(0)
    first, second = (known_in_passes((5, 3, 4), 2, False, torch.device("cpu")) for _ in range(2))
    assert [known.sum(-1).unique().tolist() for known in first] == [[0], [2]]
    assert torch.equal(first[1], second[1]) and len(first[1].flatten(0, 1).unique(dim=0)) > 1
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0))  # the global generator is unused


@torch.inference_mode()
def test_outputs_depend_on_the_known_tokens_and_no_others():
    world = make_world("block", refine=3)
    codes, actions = make_sequence()
    known = torch.zeros(B, T + 1, S, dtype=torch.bool)
    known[:, 5, 1] = True

    def outputs(codes):
        return world.dynamics(world.tokenizer.lookup(codes), actions, first=True, known=known)

    for place, visible in ((1, True), (2, False)):
        changed = codes.clone()
        changed[:, 5, place] = (changed[:, 5, place] + 1) % 16
        moved = (outputs(changed) - outputs(codes)).abs().amax((0, 3))  # (T + 1, S)
        assert not moved[:5].any() and moved[5].all() == visible and moved[5].any() == visible and moved[6].any()


@torch.inference_mode()
@pytest.mark.parametrize("position", ["rotary-time", "learned"])
def test_refined_videos_equal_the_uncached_model(position):
    world = make_world("block", position, "frames-and-step", refine=2)
    gpt, lookup = world.dynamics, world.tokenizer.lookup
    frames, actions = make_frames(B), make_sequence()[1][:, :8]
    video = world.sample(B, 9, frames, actions).codes.flatten(2, 3)
    codes, known = video[:, :2], known_in_last_pass(S, 3, video.device).expand(B, 2, -1)
    for step in range(2, 9):
        noise = uniforms(torch.arange(B), torch.full((B,), step - 2), gpt.noise_per_step)
        groups = draw_groups(noise[:, S * M :], 3)
        codes = torch.cat((codes, torch.zeros(B, 1, S, M, dtype=torch.int64)), dim=1)
        for now in range(3):
            now_known = torch.cat((known, (groups < now)[:, None]), dim=1)
            out = gpt(lookup(codes), actions[:, :step], frames, first=True, known=now_known)[:, -1]
            new = gpt.code_head.sample(out, noise[:, : S * M].unflatten(1, (S, M)), Sampling()).codes
            codes[:, -1] = torch.where((groups == now)[..., None], new, codes[:, -1])
        known = now_known
    assert torch.equal(video, codes)
    assert torch.equal(video[:, 2:], world.imagine(frames, actions[:, 1:], actions[:, :1]).codes.flatten(2, 3))
    world.sample(B, 4, actions=actions[:, :3], guidance=2.0)


@torch.inference_mode()
@pytest.mark.parametrize("lead", [False, True])
def test_given_steps_leave_what_the_last_pass_of_a_step_does(lead):
    """So that features after the beginning of a dream mean what they mean later in it."""
    world = make_world("block", refine=3, learn_start=lead)
    codes, actions = make_sequence()
    known = known_in_last_pass(S, 4, codes.device)
    assert known.sum() == 3  # all but the token that is drawn last
    grids = codes.unflatten(2, (2, 2))
    outputs = world.start_codes(grids, actions).outputs
    whole = world.dynamics(world.tokenizer.lookup(codes), actions, known=known.expand(B, T + lead, -1))[:, -1]
    torch.testing.assert_close(outputs, whole)
    for place in range(S):  # the outputs of the other tokens depend on the known ones of the step they predict
        changed = grids.clone()
        changed[:, -1, place // 2, place % 2] = (changed[:, -1, place // 2, place % 2] + 1) % 16
        moved = world.start_codes(changed, actions).outputs - outputs
        assert bool(moved.abs().sum()) == bool(known[place])


def test_correlated_tokens_are_drawn_together():
    """All codes of a step are one of two values: one pass draws tokens independently and rarely gets that right."""
    shares, losses = [], []
    for refine in (0, 3):
        world = make_world("block", layers=1, refine=refine, condition="none").train().requires_grad_(True)
        losses.append(train_on(world, lambda: torch.randint(3, 5, (32, 3, 1, 1, 1)).expand(-1, -1, 2, 2, 2)))
        codes = world.sample(64, 3).codes.flatten(2)
        shares.append((codes == codes[..., :1]).all(-1).float().mean())
    assert shares[0] < 0.4 and shares[1] > 0.75
    assert losses[0] == pytest.approx(math.log(2) / 2, rel=0.1)  # the second slice is conditioned on the first
    assert losses[1] < losses[0] / 2  # evaluation uses all passes, like drawing


@torch.inference_mode()
def test_the_loss_counts_each_token_in_the_pass_that_draws_it():
    world = make_world("block", refine=3)
    gpt, lookup, lead = world.dynamics, world.tokenizer.lookup, world.config.dynamics.lead
    codes, actions = make_sequence()
    before = codes_before(gpt.config, codes)
    known = known_in_passes((B, T + lead, S), 4, False, codes.device)
    after = [*known[1:], torch.ones_like(known[0])]
    expected = torch.zeros(B, T + lead, S)
    for now, then in zip(known, after, strict=True):
        outputs = gpt(lookup(codes), actions, first=True, known=now)
        drawn_now = now.logical_not() & then
        expected[drawn_now] = gpt.code_head.loss(outputs, codes[:, 1 - lead :], before)[drawn_now]
    nats, last = gpt.code_loss(codes, actions, None, lookup)
    torch.testing.assert_close(nats, expected.mean(-1))
    assert torch.equal(last, outputs)


@torch.inference_mode()
def test_rewards_are_predicted_from_the_outputs_of_the_last_pass():
    world = make_world("block", refine=3)
    codes, actions = make_sequence()
    world.heads.squeeze.weight[:, -world.tokenizer.code_dim :] = 0  # ignore the step's own codes
    unread = torch.zeros(B, T), torch.zeros(B, T, dtype=torch.bool), torch.zeros(B, T + 1, 1)
    batch = CodeBatch(codes.unflatten(2, (2, 2)), actions, *unread, torch.ones(B, T, dtype=torch.bool))
    before = world.predict(batch)[0]
    known = known_in_passes((B, T + 1, S), 4, False, codes.device)[-1]
    step, place = 3, int(known[0, 4].nonzero()[0])
    changed = batch.codes.clone()
    changed[0, 4, place // 2, place % 2] = (changed[0, 4, place // 2, place % 2] + 1) % 16
    assert world.predict(replace(batch, codes=changed))[0][0, step] != before[0, step]


@pytest.mark.parametrize("bad", [{"refine": -1}, {"refine": 1, "order": "raster"}])
def test_impossible_refinement_is_refused(bad):
    with pytest.raises(ValueError, match="refine"):
        GPTConfig(**bad)


def test_more_passes_than_tokens_are_refused():
    with pytest.raises(ValueError, match="refine must be below the 4 tokens"):
        make_world("block", refine=4)
