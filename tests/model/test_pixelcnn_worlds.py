"""A world model of PixelCNN priors over two levels of codes: video that continues a given step, clip by clip.

Letters: n videos, T steps, F = 4 frames of a step, H W C pixels, h w grid of tokens.
"""

from dataclasses import replace

import pytest
import torch

from tests.pixelcnn_world import pixelcnn_world
from worldmodel.dynamics.base import VideoRequest
from worldmodel.model import CodeBatch, WorldModel


def make_frames(rows: int = 2, steps: int = 1) -> torch.Tensor:
    """(n, T, 4, 16, 16, 3) uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (rows, steps, 4, 16, 16, 3), generator=generator, dtype=torch.uint8)


def make_actions(rows: int = 2, steps: int = 8) -> torch.Tensor:
    return torch.randint(3, (rows, steps - 1), generator=torch.Generator().manual_seed(1))


def test_a_video_continues_the_given_step_coded_alone():
    world, frames = pixelcnn_world(), make_frames()
    video = world.sample(2, 3, frames, make_actions(steps=3))
    assert video.frames.shape == (2, 3, 4, 16, 16, 3) and video.codes.shape == (2, 3, 2, 2, 9)
    assert torch.equal(video.codes[:, :1], world.tokenizer.encode(frames))
    assert torch.equal(video.frames, world.tokenizer.decode(video.codes))
    later = torch.cat((frames, make_frames(steps=2)), dim=1)  # more given steps are not read
    assert torch.equal(world.sample(2, 3, later, make_actions(steps=3)).codes, video.codes)


def test_a_longer_video_continues_from_the_last_four_decoded_frames():
    world, frames, actions = pixelcnn_world(), make_frames(), make_actions()
    video = world.sample(2, 7, frames, actions[:, :6])
    codes, seeds = world.tokenizer.encode(frames), torch.arange(2)
    first = world.dynamics.generate(world.tokenizer, codes, VideoRequest(3, seeds, actions=actions[:, :2]))
    seen = world.tokenizer.decode(first)
    given = world.tokenizer.encode(seen[:, -1:])
    second = world.dynamics.generate(world.tokenizer, given, VideoRequest(3, seeds, actions=actions[:, 2:4], counter=3))
    assert torch.equal(video.codes[:, :5], torch.cat((first, second[:, 1:]), dim=1))
    assert torch.equal(video.frames[:, :5], torch.cat((seen, world.tokenizer.decode(second)[:, 1:]), dim=1))
    assert video.frames.shape[1] == 7


def test_a_row_of_a_batch_equals_the_row_alone():
    world, frames, actions = pixelcnn_world(), make_frames(3), make_actions(3, 4)
    together = world.sample(3, 4, frames, actions, seeds=[4, 5, 6]).codes
    assert torch.equal(world.sample(1, 4, frames[1:2], actions[1:2], seeds=[5]).codes, together[1:2])


def test_a_saved_world_makes_the_same_video(tmp_path):
    world = pixelcnn_world()
    loaded = WorldModel.from_pretrained(world.save_pretrained(tmp_path / "world"), dtype=torch.float32)
    assert loaded.config == world.config
    made = [each.sample(2, 3, make_frames(), make_actions(steps=3)) for each in (world, loaded)]
    assert torch.equal(made[0].codes, made[1].codes) and torch.equal(made[0].frames, made[1].frames)


def test_the_loss_trains_both_priors_and_the_heads():
    world = pixelcnn_world().train().requires_grad_(True)
    codes = torch.randint(16, (2, 3, 2, 2, 9), generator=torch.Generator().manual_seed(0))
    rest = torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool), torch.zeros(2, 3, 1)
    batch = CodeBatch(codes, make_actions(steps=3), *rest, torch.ones(2, 2, dtype=torch.bool))
    world.loss(batch).total.backward()
    for part in (world.dynamics.top, world.dynamics.bottom, world.heads):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0
    assert all(p.grad is not None for p in world.dynamics.parameters() if p is not world.dynamics.action.null)
    assert world.eval().predict(batch)[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "continues video and does not begin one: pass first_frames"),
        (
            {"first_frames": make_frames(steps=4), "steps": 8, "actions": make_actions()},
            "at most the 3 steps of a clip",
        ),
        ({"first_frames": make_frames(steps=2), "steps": 1}, "T from 1 to steps = 1"),
        ({"first_frames": make_frames()}, "needs actions"),
        ({"first_frames": make_frames(), "actions": make_actions(steps=2)}, "actions must be"),
    ],
    ids=["no first frames", "more than a clip", "more than the video", "no actions", "too few actions"],
)
def test_what_it_cannot_make_is_refused_with_the_reason(asked, message):
    world = pixelcnn_world()
    with pytest.raises(ValueError, match=message):
        world.sample(2, **{"steps": 3} | asked)


def test_it_refuses_to_dream_with_the_reason():
    world = pixelcnn_world()
    with pytest.raises(ValueError, match="no step can be decoded before the clip is complete"):
        world.start(make_frames(), make_actions()[:, :0])
    assert "before its clip is complete" in world.dynamics.cannot_dream


def test_settings_of_another_net_are_refused():
    world = pixelcnn_world()
    with pytest.raises((TypeError, ValueError), match="dynamics"):
        replace(world.config, dynamics=world.config.tokenizer)
