import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack

from tests.tiny import tiny_world
from tests.toy_game import ToyGame
from worldmodel.agents.sb3.batched import batched


def single(num_envs: int, **options):
    """Single dreams, made as RL Zoo makes them."""
    spec, kwargs = gym.spec("VideoGenDream-Doom"), {"model": tiny_world(), "obs": "latent", "horizon": 3} | options
    return make_vec_env(lambda **more: spec.make(**more), num_envs, seed=3, env_kwargs=kwargs)


def test_a_batch_dreams_what_single_dreams_of_its_options_and_seed_do():
    ones, batch = single(2), batched(single(1), num_envs=2)
    assert batch.num_envs == 2 and batch.observation_space == ones.observation_space
    np.testing.assert_allclose(batch.reset(), ones.reset(), atol=1e-5)
    for step in range(3):
        mine, theirs = (envs.step(np.array([1, 2])) for envs in (batch, ones))
        np.testing.assert_allclose(mine[1], theirs[1], atol=1e-5)
        np.testing.assert_array_equal(mine[2], theirs[2])
        assert mine[2].all() == (step == 2)  # the horizon
    assert [info["episode"]["l"] for info in mine[3]] == [3, 3]
    batch.close(), ones.close()


def test_an_algorithm_learns_on_it():
    model = PPO("MlpPolicy", batched(single(1), 4), n_steps=4, batch_size=8, n_epochs=1, device="cpu").learn(32)
    assert model.num_timesteps == 32


@pytest.mark.parametrize("envs", [lambda: make_vec_env(ToyGame, 1), lambda: VecFrameStack(single(1), 2)])
def test_anything_but_an_unbatched_dream_is_refused(envs):
    with pytest.raises(ValueError, match=r"needs a DummyVecEnv of dreams made by gym\.make"):
        batched(envs())


def test_wrappers_that_a_batch_would_lack_are_refused():
    with pytest.raises(ValueError, match=r"wrapped in TimeLimit, .*horizon instead of max_episode_steps"):
        batched(single(1, horizon=None, max_episode_steps=5))
    spec = gym.spec("VideoGenDream-Doom")
    rewarded = make_vec_env(
        lambda **options: gym.wrappers.TransformReward(spec.make(**options), lambda reward: 2 * reward),
        1,
        env_kwargs={"model": tiny_world(), "obs": "latent", "horizon": 3},
    )
    with pytest.raises(ValueError, match=r"wrapped in TransformReward, .*reward_fn"):
        batched(rewarded)
