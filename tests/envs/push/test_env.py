"""The simulated hand: exact seeds, actions with the stated effects, objects that stay in their bin, goals."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import DependencyNotInstalled, InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from tests.envs.episodes import play, same
from worldmodel.envs import GoalObject, PushEnv
from worldmodel.envs.push.scene import HIGH, LOW, MAX_OBJECTS, REACH, SPEED, PushScene, far_from, floor_at
from worldmodel.media.resize import area_resize

ROOT = Path(__file__).resolve().parents[3]
REST = (0.0, 0.0, 1.0, -1.0)  # hold the open hand above the objects

HASH_OF_AN_EPISODE = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import gymnasium, numpy, worldmodel
env = gymnasium.make("VideoGenReal-Push")
digest = hashlib.sha256(env.reset(seed=5)[1]["frames"])
for action in numpy.random.default_rng(0).uniform(-1, 1, (4, 4)).astype("float32"):
    digest.update(env.step(action)[4]["frames"])
print(digest.hexdigest())
"""


@pytest.fixture
def make() -> Iterator:
    """PushEnv, closed after the test."""
    pytest.importorskip("pybullet")
    envs = []

    def make_env(**kwargs) -> PushEnv:
        envs.append(PushEnv(**kwargs))
        return envs[-1]

    yield make_env
    for env in envs:
        env.close()


def random_actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 4)).astype(np.float32)


def hand(played: dict) -> np.ndarray:
    return played["signals"][:, :3]


def objects(played: dict) -> np.ndarray:
    """(N + 1, slots, 3)."""
    return played["signals"][:, 3:].reshape(len(played["signals"]), MAX_OBJECTS, 3)


def way_to(hand: np.ndarray, place: np.ndarray) -> np.ndarray:
    """dx and dy of a step of two frames that moves the hand towards a position."""
    return np.clip((place - hand[:2]) / (2 * SPEED), -1.0, 1.0)


def push(info: dict) -> np.ndarray:
    """Go over and behind object 0, lower the closed hand, push it to the target."""
    hand, thing = info["signals"][:3], info["signals"][3:5]
    ahead = (info["target"] - thing) / max(info["distance"], 1e-6)
    behind = thing - 0.09 * ahead
    along, aside = ahead @ (hand[:2] - thing), (-ahead[1], ahead[0]) @ (hand[:2] - thing)
    is_behind = along < -0.03 and abs(aside) < 0.02
    if not is_behind:
        return np.array((*way_to(hand, behind), 1.0, 1.0), np.float32)
    if hand[2] > LOW + 0.02:
        return np.array((0.0, 0.0, -1.0, 1.0), np.float32)
    return np.array((*way_to(hand, hand[:2] + min(info["distance"], 0.03) * ahead), -1.0, 1.0), np.float32)


# What an episode looks like


def test_an_episode_follows_the_time_rule(make):
    env = make()
    played = play(env, random_actions(20), seed=0)
    assert played["frames"].shape == (16, 2, 64, 64, 3)  # 15 steps of two frames: the 30 frames of BAIR
    assert played["frames"].dtype == played["observations"].dtype == np.uint8
    assert played["signals"].shape == (16, len(env.signal_names))
    assert played["signals"].dtype == np.float32
    assert (played["frames"][0, 0] == played["frames"][0, 1]).all()
    assert (played["observations"] == played["frames"][:, -1]).all()
    assert (played["frames"][1:, 0] != played["frames"][1:, 1]).any(axis=(1, 2, 3)).all()
    assert played["truncated"].tolist() == [False] * 15 + [True]
    assert not played["terminated"].any()


def test_a_step_is_its_action_held_for_each_of_its_frames(make):
    pairs, singles = make(episode_frames=8), make(episode_frames=8, frames_per_step=1)
    actions = random_actions(4)
    coarse, fine = play(pairs, actions, seed=3), play(singles, actions.repeat(2, axis=0), seed=3)
    assert (coarse["frames"][1:].reshape(-1, 64, 64, 3) == fine["observations"][1:]).all()
    assert (coarse["signals"] == fine["signals"][::2]).all()


def test_info_names_every_signal_and_empty_slots_are_zero(make):
    env = make(num_objects=2)
    _, info = env.reset(seed=0)
    assert env.signal_names[:6] == ("GRIPPER_X", "GRIPPER_Y", "GRIPPER_Z", "OBJECT0_X", "OBJECT0_Y", "OBJECT0_Z")
    assert len(env.signal_names) == 3 + 3 * MAX_OBJECTS
    assert info["signals"].tolist() == [info[name] for name in env.signal_names]
    assert info["OBJECT1_Z"] > 0
    assert not info["signals"][9:].any()


def test_a_scene_holds_three_to_six_objects(make):
    env = make(episode_frames=2)
    counts = [(objects(play(env, [], seed))[0, :, 2] > 0).sum() for seed in range(12)]
    assert set(counts) == {3, 4, 5, 6}


def test_rendering_returns_the_cameras_image(make):
    env = make(render_mode="rgb_array", num_objects=1)
    observation, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (96, 96, 3)
    assert (area_resize(picture[None], 64, 64)[0] == observation).all()
    assert make().render() is None


# What the actions do


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("way", [-1.0, 1.0])
def test_the_hand_moves_as_commanded_within_its_reach(make, axis, way):
    action = np.array(REST)
    action[axis] = way
    played = play(make(num_objects=1, episode_frames=28), repeat(action), seed=1)
    moved = np.diff(hand(played)[:, axis])
    before = REACH[axis] - way * hand(played)[:-1, axis]  # room left to go
    assert moved == pytest.approx(way * np.minimum(2 * SPEED, before), abs=0.004)
    assert hand(played)[-1, axis] == pytest.approx(way * REACH[axis], abs=0.002)
    assert np.ptp(np.delete(hand(played), axis, 1), axis=0).max() < 0.002


def test_the_hand_is_down_up_to_lift_0_and_above_all_objects_at_1(make):
    env = make(num_objects=1, episode_frames=4)
    heights = [hand(play(env, repeat((0, 0, lift, -1)), seed=2))[-1, 2] for lift in (-1.0, 0.0, 0.5, 1.0)]
    assert heights == pytest.approx([LOW, LOW, (LOW + HIGH) / 2, HIGH], abs=0.003)


def test_grip_closes_and_opens_the_fingers(make):
    env = make(num_objects=1, episode_frames=8)
    env.reset(seed=2)
    widths = []
    for grip in (1.0, 1.0, -1.0, -1.0):
        env.step(np.array((0, 0, 1, grip), np.float32))
        widths.append(env._scene._slides()[3:].sum())
    assert widths == pytest.approx([0.018, 0.018, 0.064, 0.064], abs=0.002)


def test_a_hand_that_sweeps_the_floor_takes_an_object_along(make):
    env = make(num_objects=1, episode_frames=60)
    _, info = env.reset(seed=4)
    start = info["signals"][3:5]
    for _ in range(8):  # to its left, then down
        *_, info = env.step(np.array((*way_to(info["signals"], start - (0.09, 0.0)), 1.0, 1.0), np.float32))
    *_, info = env.step(np.array((0, 0, -1, 1), np.float32))
    assert info["signals"][3:5] == pytest.approx(start, abs=0.005)
    for _ in range(3):
        *_, info = env.step(np.array((0.6, 0, -1, 1), np.float32))
    assert info["OBJECT0_X"] > start[0] + 0.03


def test_objects_stay_in_the_bin_and_random_play_moves_them(make):
    env = make(episode_frames=40)
    travelled = []
    for seed in range(2):
        played = play(env, np.sign(random_actions(10, seed)).repeat(2, axis=0), seed)
        places = objects(played)[:, objects(played)[0, :, 2] > 0]
        assert (abs(places[..., 0]) < 0.30).all()
        assert (abs(places[..., 1]) < 0.23).all()
        assert (places[..., 2] > 0).all()
        assert (places[..., 2] < 0.25).all()
        travelled.append(np.linalg.norm(places[-1] - places[0], axis=-1).max())
    assert min(travelled) > 0.02


# Seeds


def test_a_seed_repeats_an_episode_bit_for_bit(make):
    env, fresh = make(episode_frames=12), make(episode_frames=12)
    actions = random_actions(6)
    first = play(env, actions, seed=7)
    play(env, random_actions(4, seed=1), seed=8)
    assert same(first, play(env, actions, seed=7))
    assert same(first, play(fresh, actions, seed=7))
    assert not same(first, play(fresh, actions, seed=9))


def test_a_seed_gives_the_same_frames_in_another_process(make):
    played = play(make(), random_actions(4), seed=5)
    digest = hashlib.sha256(b"".join(frames.tobytes() for frames in played["frames"])).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", HASH_OF_AN_EPISODE, str(ROOT)], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout.strip(), done.stderr) == (digest, "")


def test_a_scene_that_pybullet_spoils_is_built_again(make, monkeypatch):
    wanted = make().reset(seed=3)[1]
    env, lost = make(), []
    put = PushScene._add_object

    def spoil(scene, rng, place):
        body = put(scene, rng, place)
        if not lost:
            lost.append(body)
            scene._call("resetBasePositionAndOrientation", body, (float("nan"),) * 3, (0.0, 0.0, 0.0, 1.0))
        return body

    monkeypatch.setattr(PushScene, "_add_object", spoil)
    came = env.reset(seed=3)[1]
    assert lost and (came["signals"] == wanted["signals"]).all() and (came["frames"] == wanted["frames"]).all()


def test_unseeded_resets_continue_from_the_seed(make):
    series = [[play(env, [REST], seed) for seed in (11, None, None)] for env in (make(), make())]
    assert all(same(a, b) for a, b in zip(*series, strict=True))
    first, second, third = series[0]
    assert not same(first, second)
    assert not same(second, third)


# Goals


def test_a_goal_changes_nothing_about_the_scene(make):
    actions = random_actions(4)
    plain, with_goal = (play(make(goal=goal), actions, seed=6) for goal in (False, True))
    assert (plain["frames"] == with_goal["frames"]).all()
    assert (plain["signals"] == with_goal["signals"]).all()


def test_the_goal_image_shows_object_0_at_its_target(make):
    env = make(goal=True)
    for seed in range(4):
        observation, info = env.reset(seed=seed)
        image = info["goal_image"]
        assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
        assert 0.001 < (image != observation).any(-1).mean() < 0.1  # one object's old and new place
        assert info["distance"] == pytest.approx(np.linalg.norm(info["signals"][3:5] - info["target"]))
        env._scene.put(0, info["target"])
        carried, _, _, _, later = env.step(np.array(REST, np.float32))
        assert later["distance"] < 0.04
        assert abs(carried.astype(int) - image).mean() < abs(observation.astype(int) - image).mean()


def test_targets_are_within_reach_and_a_push_away(make):
    env = make(goal=True)
    for seed in range(12):
        _, info = env.reset(seed=seed)
        assert (abs(info["target"]) <= REACH + 1e-6).all()
        assert 0.06 < info["distance"] < 0.21
        assert not info["is_success"]


def test_a_scripted_push_reaches_the_target_and_is_rewarded(make):
    env = make(goal=True, reward="sparse", num_objects=1, episode_frames=80)
    reached = 0
    for seed in range(3):
        _, info = env.reset(seed=seed)
        start, paid, truncated = info["distance"], 0.0, False
        while not truncated and not info["is_success"]:
            _, reward, _, truncated, info = env.step(push(info))
            assert reward == float(info["distance"] < 0.04) == float(info["is_success"])
            paid += info["native_reward"]
        assert paid == pytest.approx((start - info["distance"]) / 0.1)
        reached += info["is_success"]
    assert reached >= 2


def test_without_a_goal_the_reward_is_how_far_objects_were_pushed(make):
    env = make()
    played = play(env, random_actions(20), seed=0)
    objects = played["signals"].reshape(16, -1, 3)[:, 1:, :2]
    metres = np.linalg.norm(np.diff(objects, axis=0), axis=-1).sum(-1)
    assert env.reward_kind == "motion"
    assert metres.sum() > 0.02
    assert played["rewards"][0] == 0.0 and played["rewards"][1:] == pytest.approx(metres / 0.1, rel=1e-5, abs=1e-5)
    assert (played["rewards"] == played["native_rewards"]).all()
    assert not play(make(reward="none"), random_actions(4), seed=0)["rewards"].any()


def test_dense_reward_is_the_default_with_a_goal(make):
    env = make(goal=True, episode_frames=12)
    played = play(env, random_actions(6, seed=2), seed=3)
    assert env.reward_kind == "dense"
    assert (played["rewards"] == played["native_rewards"]).all()
    unpaid = play(make(goal=True, reward="none", episode_frames=12), random_actions(6, seed=2), seed=3)
    assert not unpaid["rewards"].any()
    assert (unpaid["native_rewards"] == played["native_rewards"]).all()


def test_without_enough_room_the_position_with_most_room_is_chosen():
    drawn = iter([np.array((x, 0.0)) for x in (0.1, 0.3, 0.2)] + [np.zeros(2)] * 10)
    found = far_from([np.zeros(2)], lambda: next(drawn), 1.0, tries=5)
    assert found.tolist() == [0.3, 0.0]


# Gymnasium's contract


@pytest.mark.parametrize("name", ["VideoGenReal-Push", "VideoGenReal-PushGoal"])
def test_gymnasiums_and_sb3s_checkers_pass(make, name):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = gym.make(name, render_mode="rgb_array", episode_frames=4, num_objects=1).unwrapped
    check_env(env)
    sb3_check_env(env)
    env.close()


def test_gymnasium_makes_a_vector_env_of_it(make):
    envs = gym.make_vec("VideoGenReal/Push-v0", num_envs=2, vectorization_mode="sync")
    envs.reset(seed=4)
    actions = random_actions(2)
    observations, *_ = envs.step(actions)
    envs.close()
    for row, action in enumerate(actions):
        assert (observations[row] == play(make(), [action], seed=4 + row)["observations"][1]).all()


def test_sac_and_ppo_train_on_it_for_some_steps(make):
    from stable_baselines3 import PPO, SAC

    env = make(goal=True, episode_frames=8, num_objects=1)
    SAC("CnnPolicy", env, buffer_size=50, learning_starts=4, batch_size=4, seed=0).learn(6)
    PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0).learn(8)


def test_a_step_needs_a_running_episode(make):
    env = make(episode_frames=2, num_objects=1)
    with pytest.raises(ResetNeeded, match="Call reset"):
        env.step(np.zeros(4, np.float32))
    env.reset()
    env.step(np.zeros(4, np.float32))
    with pytest.raises(ResetNeeded, match="Call reset"):
        env.step(np.zeros(4, np.float32))


@pytest.mark.parametrize("action", [0, None, "left", [0.0] * 3, [2.0, 0.0, 0.0, 0.0], [float("nan"), 0.0, 0.0, 0.0]])
def test_an_action_outside_the_space_is_refused(make, action):
    env = make(num_objects=1)
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"4 numbers \(dx, dy, lift, grip\), shape \(4,\), in \[-1, 1\]; got"):
        env.step(action)


def test_an_env_can_be_closed_twice_and_started_again(make):
    env = make(num_objects=1)
    first = play(env, [REST], seed=0)
    env.close()
    env.close()
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(4, np.float32))
    assert same(first, play(env, [REST], seed=0))


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"goal": True, "reward": "dens"},
            "unknown reward 'dens'. Did you mean 'dense'? Valid: dense, motion, none, sparse",
        ),
        ({"reward": "sparse"}, "reward='sparse' needs a target to push to; set goal=True"),
        ({"episode_frames": 29}, "multiple of frames_per_step, both at least 1, got episode_frames=29"),
        ({"episode_frames": 0}, "got episode_frames=0 and frames_per_step=2"),
        ({"frames_per_step": 0}, "got episode_frames=30 and frames_per_step=0"),
        ({"num_objects": 7}, "num_objects must be 1 to 6, or None, got 7"),
        ({"render_mode": "human"}, "unknown render_mode 'human'. Valid: rgb_array"),
    ],
)
def test_a_wrong_value_is_refused_with_the_valid_ones(options, message):
    with pytest.raises(ValueError) as refusal:
        PushEnv(**options)
    assert message in str(refusal.value)


def test_an_unknown_option_is_refused_with_the_nearest_one():
    message = r"unexpected keyword argument 'goals'. Did you mean 'goal'\? Valid: episode_frames"
    with pytest.raises(TypeError, match=message):
        PushEnv(goals=True)


def test_without_pybullet_the_env_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(DependencyNotInstalled, match=r"pip install 'videogen-dream\[push\]'.*Python 3.11"):
        gym.make("VideoGenReal-Push")


def test_the_camera_looks_at_the_middle_of_the_bin():
    assert floor_at(31.5, 31.5, 64, height=0.0) == pytest.approx((0.0, -0.02), abs=1e-6)
    assert floor_at(31.5, 40, 64)[0] > 0.05 and floor_at(20, 31.5, 64)[1] > 0.05  # right, and away from the camera


def test_a_pixel_is_mapped_to_its_position_on_the_floor(make):
    """Where the goal picture shows the object, and where the simulation has placed it."""
    env, errors = make(goal=True), []
    for seed in range(8):
        frame, info = env.reset(seed=seed)
        goal = GoalObject(torch.from_numpy(info["goal_image"]), torch.from_numpy(frame))
        errors.append(np.linalg.norm(floor_at(*goal.goal_place.tolist(), len(frame)) - info["target"]))
    assert np.median(errors) < 0.012 and max(errors) < 0.04
