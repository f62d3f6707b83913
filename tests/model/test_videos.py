"""Whole videos with clip and causal tokenizers. tests/dynamics/test_generation.py has those of single steps."""

import pytest
import torch

from tests.clips import CLIP, clip_world
from tests.dynamics.worlds import ORDERS, make_frames

N = 2
ACTIONS = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0, 2, 1, 0]])


def codes_of(world, steps, frames=None, actions=None, **options):
    return world.sample(N, steps, frames, actions, **options).codes


@pytest.mark.parametrize("order", ORDERS)
def test_a_clip_sees_the_first_given_frames_and_none_after_them(order):
    world = clip_world(order=order, frame_condition=1)
    given = make_frames(N, 3)
    changed = given.clone()
    changed[:, 1:] = 255 - changed[:, 1:]  # the future of the first step
    assert torch.equal(codes_of(world, 6, given), codes_of(world, 6, changed))
    changed[:, 0] = 255 - changed[:, 0]
    assert not torch.equal(codes_of(world, 6, given), codes_of(world, 6, changed))


def test_given_frames_of_a_clip_are_never_encoded(monkeypatch):
    world = clip_world(frame_condition=1)
    monkeypatch.setattr(world.tokenizer, "encode", None)
    assert codes_of(world, CLIP, make_frames(N, 1)).shape == (N, CLIP, 2, 2, 2)


def test_a_short_video_is_the_beginning_of_a_clip():
    world = clip_world()
    clip = world.sample(N, CLIP)
    assert torch.equal(clip.frames, world.tokenizer.decode(clip.codes))
    for steps in range(1, CLIP):
        short = world.sample(N, steps)
        assert torch.equal(short.frames, clip.frames[:, :steps]) and torch.equal(short.codes, clip.codes[:, :steps])


def test_what_is_cut_off_follows_from_the_last_action_repeated():
    world = clip_world()
    first = ACTIONS[:, 1:2]
    whole = codes_of(world, CLIP, actions=first.expand(-1, CLIP - 1))
    assert torch.equal(codes_of(world, 2, actions=first), whole[:, :2])
    assert torch.equal(world.sample(N, 2, actions=first).frames, world.tokenizer.decode(whole)[:, :2])
    assert codes_of(world, 1, actions=first[:, :0]).shape[1] == 1


@pytest.mark.parametrize("given", [1, 2])
@pytest.mark.parametrize("kind", ["step", "clip"])
def test_clips_are_chained_by_the_last_frames_and_their_own_actions(given, kind):
    world = clip_world(frame_condition=given, action_condition=kind)
    shift = CLIP - given
    video = world.sample(N, CLIP + shift + 1, actions=ACTIONS[:, : CLIP + shift])
    assert video.frames.shape == (N, CLIP + shift + 1, 2, 16, 16, 3)
    first = world.sample(N, CLIP, actions=ACTIONS[:, : CLIP - 1])
    assert torch.equal(video.codes[:, :CLIP], first.codes) and torch.equal(video.frames[:, :CLIP], first.frames)
    # All inputs of the second clip stay the same, and so does the clip; its last frames and actions count.
    again = world.sample(N, CLIP + shift, actions=ACTIONS[:, : CLIP + shift - 1])
    assert torch.equal(again.codes, video.codes[:, : CLIP + shift])
    other = ACTIONS.clone()
    other[:, shift : CLIP + shift] = (other[:, shift : CLIP + shift] + 1) % 3
    moved = world.sample(N, CLIP + shift, actions=other[:, : CLIP + shift - 1])
    assert not torch.equal(moved.codes[:, CLIP:], again.codes[:, CLIP:])


def test_each_clip_of_a_chain_draws_its_own_numbers(monkeypatch):
    world = clip_world(frame_condition=1)
    monkeypatch.setattr(world.dynamics, "frame_vector", lambda frames, rows: torch.zeros(rows, 8))
    codes = codes_of(world, 2 * CLIP - 1)  # both clips have the same inputs
    assert not torch.equal(codes[:, 1:CLIP], codes[:, CLIP:])


@pytest.mark.parametrize("temporal", ["clip", "causal"])
def test_a_row_is_decided_by_its_seed(temporal):
    world = clip_world(temporal, frame_condition=1)
    given = make_frames(N, 1)
    one = codes_of(world, 6, given, seeds=[3, 4])
    assert torch.equal(one, codes_of(world, 6, given, seeds=[3, 4]))
    assert torch.equal(one[1:], world.sample(1, 6, given[1:], seeds=[4]).codes)
    assert not torch.equal(one, codes_of(world, 6, given, seeds=[5, 6]))


@pytest.mark.parametrize("frame_condition", [0, 1])
def test_a_causal_video_continues_from_codes_of_given_frames_beyond_its_context(frame_condition):
    world = clip_world("causal", frame_condition=frame_condition)
    given = make_frames(N, 3)
    video = world.sample(N, 9, given, ACTIONS[:, :8])
    assert torch.equal(video.codes[:, :3], world.tokenizer.encode(given))
    assert torch.equal(video.frames, world.tokenizer.decode(video.codes))
    assert video.frames.shape == (N, 9, 2, 16, 16, 3)


@pytest.fixture
def record_frames(monkeypatch):
    """A function that makes a world's frame encoder record its inputs, in the list that it returns."""

    def record(world):
        vector, encoded = world.dynamics.frame_vector, []

        def encode(frames, rows):
            encoded.append(frames)
            return vector(frames, rows)

        monkeypatch.setattr(world.dynamics, "frame_vector", encode)
        return encoded

    return record


def test_a_causal_video_that_begins_again_encodes_the_frames_that_it_shows(record_frames):
    world = clip_world("causal", frame_condition=1)
    encoded = record_frames(world)
    video = world.sample(N, 7, make_frames(N, 1))
    # The context holds 4 steps: at step 4 it begins again from step 2, at step 6 from step 4.
    assert [frames.shape[1] for frames in encoded] == [1, 1, 1]
    assert torch.equal(encoded[1], video.frames[:, 2:3]) and torch.equal(encoded[2], video.frames[:, 4:5])


def test_a_further_clip_encodes_the_last_frames_of_the_one_before(record_frames):
    world = clip_world(frame_condition=2, drop_actions=0.5)
    encoded = record_frames(world)
    video = world.sample(N, 8, make_frames(N, 3))  # clips of steps 0 to 3, 2 to 5 and 4 to 7
    encoded = [frames for frames in encoded if frames is not None]
    assert len(encoded) == 3 and torch.equal(encoded[0][:, :2], make_frames(N, 3)[:, :2])
    assert torch.equal(encoded[1], video.frames[:, 2:4]) and torch.equal(encoded[2], video.frames[:, 4:6])


@pytest.mark.parametrize(
    ("changes", "steps", "given", "message"),
    [
        ({}, 5, 0, "clips of 4 steps, got steps 5.*frame_condition"),
        ({}, 4, 1, "look at later frames.*frame_condition"),
        ({"learn_start": False}, 4, 0, "how a clip begins.*learn_start"),
        ({"frame_condition": 1, "drop_frames": 0.0}, 4, 0, "pass them"),
        ({"frame_condition": 2}, 4, 1, "T from 2 to steps = 4"),
        ({}, 0, 0, "steps must be at least 1"),
    ],
)
def test_what_a_model_of_clips_cannot_make_is_refused_with_the_reason(changes, steps, given, message):
    with pytest.raises(ValueError, match=message):
        clip_world(**changes).sample(N, steps, make_frames(N, given) if given else None)


@pytest.mark.parametrize("seeds", [[0.5, 1.5], torch.tensor([0.0, 1.0]), [True, False]])
def test_seeds_that_are_no_whole_numbers_are_refused(seeds):
    with pytest.raises(ValueError, match=r"seeds must be one integer .* got torch"):
        clip_world().sample(N, 4, seeds=seeds)


@pytest.mark.parametrize("shape", [(), (N,), (N, 2, 16, 16, 3)])
def test_first_frames_without_their_axes_are_refused(shape):
    with pytest.raises(ValueError, match=r"first_frames must be \(2, T, F, H, W, C\)"):
        clip_world(frame_condition=1).sample(N, 4, torch.zeros(shape, dtype=torch.uint8))
