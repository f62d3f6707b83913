"""Letters: n videos, T context steps, S tokens per step, M slices."""

from itertools import product

import pytest
import torch

from tests.dynamics.worlds import ORDERS, make_frames, make_world
from worldmodel.dynamics.sampling import Sampling, uniforms
from worldmodel.model import CodeBatch, WorldModel

N, STEPS = 2, 9


def make_actions(seed: int = 0) -> torch.Tensor:
    return torch.randint(3, (N, STEPS - 1), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def uncached(world: WorldModel, frames: torch.Tensor | None, actions: torch.Tensor | None) -> torch.Tensor:
    """Codes (N, STEPS, h, w, M) drawn with a whole forward pass for every step (block) or token (raster)."""
    gpt, lookup, config = world.dynamics, world.tokenizer.lookup, world.config.dynamics
    codes = (
        torch.zeros(N, 0, 4, 2, dtype=torch.int64) if frames is None else world.tokenizer.encode(frames).flatten(2, 3)
    )
    given, begin = codes.shape[1], 0
    for now in range(given, STEPS):
        if config.limited and now - begin == config.max_steps:
            begin = now - config.max_steps // 2
            if frames is not None:
                frames = world.tokenizer.decode(codes[:, begin:].unflatten(2, (2, 2)))
        end = begin + config.max_steps - 1 if config.action_condition == "clip" else now
        known = None if actions is None else actions[:, begin:end]
        noise = uniforms(torch.arange(N), torch.full((N,), now - given), 8).view(N, 4, 2)
        codes = torch.cat((codes, torch.zeros(N, 1, 4, 2, dtype=torch.int64)), dim=1)
        for places in [slice(0, 4)] if config.order == "block" else [slice(s, s + 1) for s in range(4)]:
            out = gpt(lookup(codes[:, begin:]), known, frames, first=True)[:, -1, places]
            codes[:, -1, places] = gpt.code_head.sample(out, noise[:, places], Sampling()).codes
    return codes.unflatten(2, (2, 2))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"condition": "frames-and-step"},
        {"position": "learned", "condition": "frames-and-step", "max_steps": 6},
        {"position": "learned", "condition": "clip", "max_steps": 4},
        {"position": "sine", "condition": "none", "max_steps": 5},
        {"position": "none", "condition": "frames", "attention": "axial", "layers": 3},
    ],
    ids=str,
)
def test_videos_equal_the_uncached_model_beyond_any_limit(order, kind):
    world = make_world(order, **kind)
    actions = None if world.config.dynamics.action_condition == "none" else make_actions()
    for given, acted in product((None, make_frames(N)), {None, actions}):
        video = world.sample(N, STEPS, given, acted)
        assert torch.equal(video.codes, uncached(world, given, acted))
        assert video.frames.shape == (N, STEPS, 2, 16, 16, 3) and video.frames.dtype == torch.uint8
        assert torch.equal(video.frames, world.tokenizer.decode(video.codes))


@pytest.mark.parametrize("order", ORDERS)
def test_conditions_and_seeds_change_the_video_and_nothing_else_does(order):
    world = make_world(order, condition="frames-and-step")
    frames, actions = make_frames(N), make_actions()
    made = [
        world.sample(N, STEPS, *given, seeds=seeds).codes
        for given, seeds in [
            ((None, None), [0, 1]),
            ((None, None), [5, 6]),
            ((frames, None), [0, 1]),
            ((None, actions), [0, 1]),
            ((frames, actions), [0, 1]),
        ]
    ]
    for i, one in enumerate(made):
        assert not any(torch.equal(one, other) for other in made[:i])
    assert torch.equal(world.sample(1, STEPS, frames[1:], actions[1:], seeds=[1]).codes, made[-1][1:])


@pytest.mark.parametrize(
    "kind", [{}, {"position": "learned", "max_steps": 4}, {"condition": "frames-and-step"}], ids=str
)
@pytest.mark.parametrize("order", ORDERS)
def test_a_video_from_frames_and_actions_equals_the_imagined_one(order, kind):
    world = make_world(order, **kind)
    frames, actions = make_frames(N), make_actions()
    rollout = world.imagine(frames, actions[:, 1:], context_actions=actions[:, :1])
    assert torch.equal(world.sample(N, STEPS, frames, actions).codes[:, 2:], rollout.codes)


@pytest.mark.parametrize("order", ORDERS)
def test_guidance_moves_from_the_unconditional_video_to_the_conditional_one(order):
    world = make_world(order, condition="frames-and-step", drop_frames=0.0)
    frames, actions = make_frames(N), make_actions()
    plain = world.sample(N, STEPS, frames, actions).codes
    free = world.sample(N, STEPS, frames).codes
    assert torch.equal(world.sample(N, STEPS, frames, actions, guidance=1.0).codes, plain)
    assert torch.equal(world.sample(N, STEPS, frames, actions, guidance=1.0 + 1e-6).codes, plain)
    assert torch.equal(world.sample(N, STEPS, frames, actions, guidance=0.0).codes, free)
    assert not torch.equal(world.sample(N, STEPS, frames, actions, guidance=4.0).codes, plain)


def test_top_k_one_equals_temperature_zero():
    world = make_world("raster")
    greedy = world.sample(N, STEPS, temperature=0).codes
    assert torch.equal(world.sample(N, STEPS, top_k=1).codes, greedy)
    assert torch.equal(world.sample(N, STEPS, top_p=1e-6).codes, greedy)
    assert not torch.equal(world.sample(N, STEPS).codes, greedy)


@pytest.mark.parametrize(
    ("kind", "asked", "remedy"),
    [
        ({"learn_start": False}, {}, "learn_start=True"),
        ({"condition": "frames", "drop_frames": 0.0}, {}, "drop_frames > 0"),
        ({"condition": "none"}, {"actions": make_actions()}, "action_condition"),
        ({"drop_actions": 0.0}, {}, "drop_actions > 0"),
        ({"condition": "none"}, {"guidance": 2.0}, "drop_actions > 0"),
        ({}, {"first_frames": make_frames(3)}, "first_frames must be"),
        ({}, {"first_frames": make_frames(N, steps=STEPS + 1)}, "first_frames must be"),
        ({}, {"actions": make_actions()[:, :2]}, "actions must be"),
        ({}, {"seeds": [1]}, "seeds"),
        ({}, {"top_k": 0}, "top_k"),
        ({}, {"top_p": 0.0}, "top_p"),
    ],
    ids=str,
)
def test_what_a_model_was_not_trained_for_is_refused_with_the_remedy(kind, asked, remedy):
    with pytest.raises(ValueError, match=remedy):
        make_world("block", **kind).sample(N, STEPS, **asked)


def test_a_model_of_whole_clips_does_not_dream_step_by_step():
    world = make_world("raster", condition="clip")
    with pytest.raises(ValueError, match="sample"):
        world.start(make_frames(N), make_actions()[:, :1])


@pytest.mark.parametrize("order", ORDERS)
def test_one_model_learns_to_start_to_follow_actions_and_to_omit_them(order):
    """Step 0 is all code 3; step t+1 is all code 3 + actions[t]. Half of the rows are trained without their actions."""
    world = make_world(order, layers=1).train().requires_grad_(True)
    world.tokenizer.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in world.dynamics.parameters()], lr=2e-2)
    torch.manual_seed(0)
    for _ in range(80):
        actions = torch.randint(3, (16, 4))
        codes = (3 + torch.cat((torch.zeros(16, 1, dtype=torch.int64), actions), dim=1)).view(16, 5, 1, 1, 1)
        unread = torch.zeros(16, 4), torch.zeros(16, 4, dtype=torch.bool), torch.zeros(16, 5, 1)
        batch = CodeBatch(codes.expand(-1, -1, 2, 2, 2), actions, *unread, torch.ones(16, 4, dtype=torch.bool))
        optimizer.zero_grad()
        world.loss(batch).codes.backward()
        optimizer.step()
    world.prepare(torch.float32)
    actions = torch.randint(3, (32, 4))
    acted, free = world.sample(32, 5, actions=actions).codes, world.sample(32, 5).codes
    for codes in (acted, free):
        assert (codes[:, 0] == 3).float().mean() > 0.95
    assert (acted[:, 1:] == 3 + actions[:, :, None, None, None]).float().mean() > 0.95
    shares = torch.bincount(free[:, 1:].flatten(), minlength=16)[3:6] / free[:, 1:].numel()
    assert shares.sum() > 0.95 and shares.min() > 0.15
