"""Claims about every order, position and condition. Letters: B batch, T steps, S tokens per step, M slices, D width."""

from functools import cache

import pytest
import torch

from tests.dynamics.worlds import LIMIT, every_kind, make_frames, make_world
from worldmodel.model import WorldModel

B, T = 2, LIMIT - 1
world_of = cache(make_world)  # for the claims about every kind, which change no world


def make_sequence(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (B, T+1, S, M) and actions (B, T)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, (B, T + 1, 4, 2), generator=generator), torch.randint(3, (B, T), generator=generator)


@torch.inference_mode()
def outputs(world: WorldModel, codes, actions, frames=None) -> torch.Tensor:
    """Outputs for all predicted steps, the last of them step T."""
    return world.dynamics(world.tokenizer.lookup(codes), actions, frames, first=True)


@every_kind
@torch.inference_mode()
def test_cached_steps_equal_the_uncached_forward(kind):
    world = world_of(**kind)
    codes, actions = make_sequence()
    frames = make_frames(B)
    expected = outputs(world, codes, actions, frames)
    gpt, lookup = world.dynamics, world.tokenizer.lookup
    lead, vector = gpt.config.lead, gpt.frame_vector(frames, B)
    clip = gpt.config.action_condition == "clip"
    for given in (0, 5) if lead else (1, 5):
        known = actions if clip else actions[:, : max(given - 1, 0)]
        cache, _ = gpt.burn_in(codes[:, :given], gpt.condition(B, given - 1 + lead, known, vector), lookup)
        for step in range(given, T + 1):
            led = actions if clip else actions[:, max(step - 1, 0) : step]
            condition = gpt.condition(B, 1, led, vector)
            start = gpt.start_token.expand(B, 1, -1)
            if gpt.config.order == "block":
                content = gpt._content(lookup(codes[:, step - 1 : step]))[:, 0] if step else start.expand(-1, 4, -1)
                got = gpt._advance(content, gpt._begin(condition, cache), cache, slice(0, 4))
            else:
                before = codes.flatten(1, 2)[:, max(step * 4 - 1, 0) : step * 4 + 3]  # each token's predecessor
                content = gpt._content(lookup(before[:, None]))[:, 0]
                content = content if step else torch.cat((start, content), dim=1)
                shared = gpt._begin(condition, cache)
                last = gpt._content(lookup(codes[:, step - 1 : step]))[:, 0] if step else start.expand(-1, 4, -1)
                advance = gpt.token_pass(shared, cache, lambda last=last: last)
                parts = [advance(content[:, s : s + 1], s) for s in range(4)]
                got = torch.cat(parts, dim=1)
            cache.advance()
            assert torch.allclose(got, expected[:, step - 1 + lead], atol=1e-4)


@every_kind
@torch.inference_mode()
def test_a_burn_in_ends_with_the_outputs_of_the_whole_sequence(kind):
    """The last layer is computed only for these."""
    world = world_of(**kind)
    gpt, (codes, actions), frames = world.dynamics, make_sequence(), make_frames(B)
    steps, lead = T - 1, gpt.config.lead
    known = actions if gpt.config.action_condition == "clip" else actions[:, : steps - 1]
    condition = gpt.condition(B, steps - 1 + lead, known, gpt.frame_vector(frames, B))
    _, last = gpt.burn_in(codes[:, :steps], condition, world.tokenizer.lookup)
    expected = outputs(world, codes, actions, frames)[:, steps - 2 + lead]
    torch.testing.assert_close(last, expected, atol=1e-4, rtol=1e-4)


@every_kind
def test_no_output_depends_on_what_it_predicts_or_on_later_steps(kind):
    world = world_of(**kind)
    lead = world.config.dynamics.lead
    codes, actions = make_sequence()
    codes, actions = codes[:1], actions[:1]
    versions = codes.repeat(T + 2, 1, 1, 1)  # version j differs in step j, the last version nowhere
    versions[range(T + 1), range(T + 1)] += 1
    out = outputs(world, versions % 16, actions.repeat(T + 2, 1), make_frames(1).repeat(T + 2, 1, 1, 1, 1, 1))
    moved = (out[:-1] - out[-1]).abs().amax(-1)  # (version, T + lead, S)
    for step in range(T + 1):
        own = step - 1 + lead  # the output that predicts the changed step
        assert not moved[step, : max(own, 0)].any()
        if own < 0:
            continue
        if world.config.dynamics.order == "block":
            assert not moved[step, own].any()
        else:
            assert not moved[step, own, 0] and moved[step, own, 1:].any()
        if step < T:
            assert moved[step, own + 1].any()


@every_kind
def test_actions_affect_the_steps_after_them_and_clip_actions_all_steps(kind):
    world = world_of(**kind)
    config = world.config.dynamics
    codes, actions = make_sequence()
    versions = actions[:1].repeat(T + 1, 1)
    versions[range(T), range(T)] += 1
    out = outputs(world, codes[:1].repeat(T + 1, 1, 1, 1), versions % 3)
    moved = (out[:-1] - out[-1]).abs().amax((2, 3))  # (version, T + lead)
    for step in range(T):
        if config.action_condition == "none":
            assert not moved.any()
        elif config.action_condition == "clip":
            assert moved[step].all()
        else:
            after = step + config.lead  # the output that predicts the step after this action
            assert not moved[step, :after].any() and moved[step, after] > 0


@every_kind
def test_first_frames_affect_every_output(kind):
    world = world_of(**kind)
    codes, actions = make_sequence()
    moved = outputs(world, codes, actions, make_frames(B)) - outputs(world, codes, actions, make_frames(B, seed=1))
    assert (moved.abs().amax((2, 3)) > 0).all() == bool(world.config.dynamics.frame_condition)


@pytest.mark.parametrize("order", ["block", "raster"])
def test_hidden_conditions_equal_missing_conditions(order):
    world = make_world(order, condition="frames-and-step", drop_actions=0.999999, drop_frames=0.999999)
    codes, actions = make_sequence()
    nothing = outputs(world, codes, None)
    world.train()
    assert torch.allclose(outputs(world, codes, actions, make_frames(B)), nothing, atol=1e-5)


@pytest.mark.parametrize("order", ["block", "raster"])
def test_checkpointing_does_not_change_gradients(order):
    codes, actions = make_sequence()
    gradients = []
    for checkpointing in (False, True):
        world = make_world(order, checkpointing=checkpointing, drop_actions=0.0).train().requires_grad_(True)
        world.dynamics(world.tokenizer.lookup(codes), actions).square().sum().backward()
        gradients.append([p.grad for p in world.dynamics.blocks.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert torch.allclose(plain, again, atol=1e-4)


def test_a_sequence_longer_than_its_positions_is_refused():
    world = make_world("block", "learned", max_steps=6)
    with pytest.raises(ValueError, match="has 6 steps, the sequence has 12"):
        outputs(world, *make_sequence())


def test_a_clip_with_too_many_actions_is_refused():
    world = make_world("raster", condition="clip", max_steps=6)
    with pytest.raises(ValueError, match="at most 5 actions, got 11"):
        outputs(world, *make_sequence())
