import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import worldmodel  # noqa: F401 (registers the ids)
from tests.tiny import tiny_config, tiny_world
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.model import Starts, WorldModel


def world_with_frames_of(size):
    config = tiny_config()
    config = dataclasses.replace(config, tokenizer=dataclasses.replace(config.tokenizer, height=size, width=size))
    torch.manual_seed(0)
    world = WorldModel(config)
    h, w = world.tokenizer.grid
    world.starts = Starts(torch.randint(16, (4, 3, h, w, 2)), torch.randint(3, (4, 2)), torch.rand(4, 3, 1))
    return world.prepare(torch.float32)


@pytest.mark.parametrize("obs", ["rgb", "latent", "codes", "features"])
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is:UserWarning")  # a latent has no bounds
def test_gymnasiums_checker_passes(obs):
    env = gym.make("VideoGenDream-Doom", model=tiny_world(), obs=obs, horizon=3, render_mode="rgb_array")
    check_env(env.unwrapped)


def test_stable_baselines3s_checker_passes_without_a_warning():
    sb3_check_env(DreamEnv(world_with_frames_of(48), horizon=3))


@pytest.mark.parametrize("obs", ["latent", "codes", "features"])
def test_stable_baselines3s_checker_passes_for_observations_that_are_not_images(obs):
    sb3_check_env(DreamEnv(tiny_world(), obs=obs), warn=False)  # its warnings take every 3-D observation for an image


@pytest.mark.parametrize("env_id", ["VideoGenDream-Doom", "VideoGenDream/Doom-v0", "worldmodel:VideoGenDream-Doom"])
def test_gym_make_builds_it(env_id):
    world = tiny_world()
    env = gym.make(env_id, model=world, obs="latent")
    assert env.unwrapped.model is world
    assert env.reset(seed=0)[0].shape == (2, 2, 8)


def rollout(env, seed, steps=5):
    observations, infos = zip(*[env.reset(seed=seed), *(env.step(1)[::4] for _ in range(steps))], strict=True)
    return np.stack(observations), infos


def test_the_same_seed_gives_the_same_dream_in_another_env():
    env = DreamEnv(tiny_world())
    first, infos = rollout(env, 3)
    for again, infos_again in (rollout(env, 3), rollout(DreamEnv(tiny_world()), 3)):
        np.testing.assert_array_equal(again, first)
        assert infos_again == infos
    assert not np.array_equal(rollout(env, 4)[0], first)


def test_horizon_truncates_and_the_end_needs_a_reset():
    env = DreamEnv(tiny_world(), horizon=3)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
        with pytest.raises(ResetNeeded, match="have ended"):
            env.step(0)


def test_info_holds_plain_numbers():
    env = DreamEnv(tiny_world())
    _, info = env.reset(seed=0)
    assert info.keys() == {"HEALTH"}
    _, reward, _, _, info = env.step(0)
    assert info.keys() == {"nll", "entropy", "HEALTH"}
    assert {type(value) for value in (reward, *info.values())} == {float}


@pytest.mark.parametrize("action", [3, -1, 1.0, [1], None])
def test_an_action_outside_the_space_is_refused(action):
    env = DreamEnv(tiny_world())
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"actions must be integers in \[0, 3\)"):
        env.step(action)


def test_step_before_reset_is_refused():
    with pytest.raises(ResetNeeded):
        DreamEnv(tiny_world()).step(0)


def test_observations_are_copies():
    env = DreamEnv(tiny_world())
    env.reset(seed=0)
    first = env.step(0)[0]
    kept = first.copy()
    env.step(1)
    np.testing.assert_array_equal(first, kept)


def test_render_shows_the_last_frame():
    env = DreamEnv(tiny_world(), render_mode="rgb_array")
    env.reset(seed=0)
    np.testing.assert_array_equal(env.step(2)[0], env.render())
    assert DreamEnv(tiny_world()).render() is None
