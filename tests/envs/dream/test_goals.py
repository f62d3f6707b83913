"""Distances to a goal picture: what they see, what they do not see, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.envs.dream.test_transition import make_step
from tests.tiny import tiny_world
from worldmodel.envs import DreamEnv, GoalLatents, GoalObject, GoalPixels, GoalSignals

FLOOR, THING, HAND = (200, 170, 120), (40, 90, 200), (20, 20, 20)


def picture(thing, hand=(2, 2), size=48):
    """A floor with a hand, and an object of two shades with its centre at `thing`."""
    image = torch.empty(size, size, 3, dtype=torch.uint8)
    image[:] = torch.tensor(FLOOR, dtype=torch.uint8)
    down, along = thing
    image[down - 2 : down + 3, along - 2 : along + 3] = torch.tensor(THING, dtype=torch.uint8)
    image[down - 2 : down, along - 2 : along + 3] += 30
    image[hand[0] : hand[0] + 12, hand[1] : hand[1] + 8] = torch.tensor(HAND, dtype=torch.uint8)
    return image


START, GOAL = picture((30, 12)), picture((30, 34))


def test_the_distance_is_that_of_the_object_from_its_position_in_the_goal():
    goal = GoalObject(GOAL, START)
    pictures = torch.stack([picture((30, along)) for along in (12, 20, 30, 34)] + [picture((20, 34))])
    assert goal.distance(pictures) == pytest.approx([22, 14, 4, 0, 10], abs=0.2)


def test_an_object_that_is_not_found_is_as_far_away_as_at_the_start():
    goal = GoalObject(GOAL, START)
    empty = START.clone()
    empty[28:33, 10:15] = torch.tensor(FLOOR, dtype=torch.uint8)
    covered = START.clone()
    covered[28:33, 10:15] = torch.tensor(HAND, dtype=torch.uint8)
    assert goal.distance(torch.stack((START, empty, covered))) == pytest.approx([22] * 3, abs=0.3)


def test_a_hidden_object_counts_at_its_last_known_position():
    goal = GoalObject(GOAL, START)
    hidden = picture((30, 26))
    hidden[24:36, 20:32] = torch.tensor(HAND, dtype=torch.uint8)
    assert goal.distance(hidden[None]).item() == pytest.approx(22, abs=0.3)
    assert goal.follow(picture((30, 26))) and goal.place.tolist() == pytest.approx([30, 26], abs=0.2)
    assert not goal.follow(hidden) and goal.place.tolist() == pytest.approx([30, 26], abs=0.2)
    assert goal.distance(hidden[None]).item() == pytest.approx(8, abs=0.3)


def with_twin(thing, twin):
    """A second object of the same kind."""
    image, other = picture(thing), picture(twin)
    down, along = twin
    around = slice(down - 2, down + 3), slice(along - 2, along + 3)
    image[around] = other[around]
    return image


def test_a_similar_object_elsewhere_is_not_mistaken_for_it():
    twin = (40, 34)
    goal = GoalObject(with_twin((30, 34), twin), with_twin((30, 12), twin))
    hidden = with_twin((30, 12), twin)
    hidden[26:35, 8:17] = torch.tensor(HAND, dtype=torch.uint8)
    pictures = torch.stack((with_twin((30, 12), twin), with_twin((30, 20), twin), hidden))
    assert goal.distance(pictures) == pytest.approx([22, 14, 22], abs=0.3)
    assert not goal.follow(hidden)


def test_an_object_is_searched_for_within_a_radius_of_its_last_position():
    goal, far = GoalObject(GOAL, START, within=10.0), picture((30, 30))
    assert goal.distance(torch.stack((picture((30, 20)), far))) == pytest.approx([14, 22], abs=0.3)
    assert goal.follow(picture((30, 21))) and goal.distance(far[None]).item() == pytest.approx(4, abs=0.3)
    with pytest.raises(ValueError, match="within must be above 0"):
        GoalObject(GOAL, START, within=0.0)


def test_an_object_missing_in_the_start_is_far_away_until_it_is_seen():
    empty = picture((30, 12))
    empty[28:33, 10:15] = torch.tensor(FLOOR, dtype=torch.uint8)
    goal = GoalObject(GOAL, empty, within=4.0)
    assert not goal.seen and goal.place.isnan().all() and not goal.follow(empty)
    far, near = goal.distance(torch.stack((empty, START)))
    assert far == pytest.approx(45.3, abs=0.3) and near == pytest.approx(22, abs=0.3)  # the corner farthest from it
    assert goal.follow(START) and goal.seen and goal.place.tolist() == pytest.approx([30, 12], abs=0.2)
    assert goal.distance(empty[None]).item() == pytest.approx(22, abs=0.3)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"picture must be as large as the goal, \(48, 48, 3\), got \(20, 48, 3\)"):
        GoalObject(GOAL, START).follow(START[:20])


def test_signals_are_measured_by_their_distance_from_the_target_values():
    signals = {"X": torch.arange(5.0), "Y": torch.full((5,), 4.0), "HEALTH": torch.full((5,), 70.0)}
    step = replace(make_step(tiny_world()), signals=signals)
    assert GoalSignals({"HEALTH": 100.0})(step).tolist() == [-30.0] * 5
    assert GoalSignals({"X": 0.0, "Y": 0.0})(step) == pytest.approx([-4, -(17**0.5), -(20**0.5), -5, -(32**0.5)])
    with pytest.raises(ValueError, match=r"no signal 'HEALHT'.*HEALTH"):
        GoalSignals({"HEALHT": 30.0})(step)
    with pytest.raises(ValueError, match="at least one signal"):
        GoalSignals({})


def test_the_position_of_the_hand_does_not_affect_an_objects_distance():
    goal = GoalObject(GOAL, START)
    pictures = torch.stack([picture((30, 20), hand) for hand in ((2, 2), (5, 36), (34, 30), (2, 20))])
    assert goal.distance(pictures) == pytest.approx([14] * 4, abs=0.2)


def test_pixels_that_start_and_goal_share_do_not_count():
    pictures = torch.stack([START, picture((30, 12), (5, 36)), GOAL])
    whole, changed = (GoalPixels(GOAL, start).distance(pictures) for start in (None, START))
    assert changed[0] == changed[1] > 0.1 and changed[2] == whole[2] == 0
    assert whole[1] > 2 * whole[0]  # the hand moves farther than the object
    expected = ((START.float() - GOAL.float()) / 255).square().mean()
    assert whole[0] == pytest.approx(expected.item(), rel=1e-5)


def test_rewards_are_minus_the_distances_of_the_last_frames():
    world = tiny_world()
    step = make_step(world)
    last = step.frames()[:, -1]
    start, goal = torch.zeros_like(last[0]), torch.full_like(last[0], 90)
    goal[4:7, 4:7] = 250
    for reward in (GoalPixels(goal), GoalPixels(goal, start), GoalObject(goal, start)):
        assert torch.equal(reward(step), -reward.distance(last)) and reward(step).shape == (5,)


def test_latents_are_compared_where_start_and_goal_differ(monkeypatch):
    world, step = tiny_world(), make_step(tiny_world())
    pictures = torch.randint(256, (3, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(world.tokenizer, "decode", None)  # nothing is decoded
    codes = world.tokenizer.encode(pictures[:, None, None].expand(-1, -1, 2, -1, -1, -1))[:, 0]
    vectors = world.tokenizer.lookup(codes)
    goal = GoalLatents(world, pictures[0])
    assert goal.distance(pictures)[0] == 0
    assert goal.distance(pictures[1:])[0] == pytest.approx((vectors[1] - vectors[0]).square().mean().item(), rel=1e-5)
    far = (step.latents() - vectors[0]).square().mean((1, 2, 3))
    assert goal(step).numpy() == pytest.approx(-far.numpy(), rel=1e-5)

    differs = (vectors[0] != vectors[2]).any(-1)
    assert differs.any()
    masked = GoalLatents(world, pictures[0], pictures[2])
    error = (vectors[1] - vectors[0]).square().mean(-1)
    assert masked.distance(pictures[1:2])[0] == pytest.approx(error[differs].mean().item(), rel=1e-5)


def test_a_goal_that_is_the_start_is_refused():
    same = torch.full((16, 16, 3), 90, dtype=torch.uint8)
    for make in (GoalPixels, lambda goal, start: GoalLatents(tiny_world(), goal, start)):
        with pytest.raises(ValueError, match="start and goal must differ"):
            make(same, same.clone())


@pytest.mark.parametrize("shape", [(16, 16, 1), (32, 16, 3), (1, 1, 3)])
def test_a_goal_of_another_size_than_the_frames_is_refused(shape):
    """Gray goals, and those of one pixel, would match every colour and position."""
    world, goal = tiny_world(), torch.full(shape, 90, dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"the goal is an image \({shape[0]}, .*the frames are \(16, 16, 3\)"):
        GoalPixels(goal)(make_step(world))
    with pytest.raises(ValueError, match=r"as large as the world's frames, \(16, 16, 3\), got"):
        GoalLatents(world, goal)


def test_an_object_is_not_searched_for_in_images_of_another_size():
    with pytest.raises(ValueError, match=r"the goal is an image \(48, 48, 3\), the frames are \(16, 16, 3\)"):
        GoalObject(GOAL, START)(make_step(tiny_world()))


def test_a_goal_can_be_a_dreams_reward():
    world = tiny_world()
    goal = torch.full((16, 16, 3), 128, dtype=torch.uint8)
    env = DreamEnv(world, reward_fn=GoalPixels(goal))
    env.reset(seed=0)
    frame, reward, *_ = env.step(1)
    assert reward == pytest.approx(-np.square(frame / 255 - 128 / 255).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("goal", "start", "message"),
    [
        (GOAL.float(), START, "goal must be one image .* got .48, 48, 3. float32"),
        (GOAL[None], START, "goal must be one image"),
        (GOAL, START[:20], r"start must be as large as the goal, \(48, 48, 3\), got \(20, 48, 3\)"),
        (GOAL, GOAL, "must differ by an object of at least 3 pixels that moved, got 0"),
    ],
)
def test_images_that_show_no_goal_are_refused(goal, start, message):
    with pytest.raises(ValueError, match=message):
        GoalObject(goal, start)
