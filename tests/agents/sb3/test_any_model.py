import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize

from tests.agents.worlds import pushing_world
from tests.toy_game import ToyGame, registered_game, seeing_world
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3.any_model import SB3Policy
from worldmodel.agents.sb3.generators import restored_generators
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv

GAME, DREAM = "SB3ModelToy-v0", "VideoGenDream-Doom"


registered = registered_game(GAME, ToyGame)


def dreams(obs="latent", world=None):
    return SB3VecEnv(DreamVectorEnv(2, world or seeing_world(), obs=obs, horizon=5))


def model_of(kind, envs, policy="MlpPolicy", **options):
    with restored_generators(0):
        return kind(policy, envs, policy_kwargs={"net_arch": [8]}, **options)


@pytest.mark.parametrize("kind", [PPO, A2C, DQN])
def test_episodes_do_not_depend_on_how_many_are_played_at_once(kind):
    world = seeing_world()
    policy = SB3Policy(model_of(kind, dreams(world=world)))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    played = [evaluate(policy, GAME, 5, seed=3, num_envs=n, view=(world, "latent")) for n in (1, 5)]
    assert played[0] == played[1]
    assert evaluate(policy, GAME, 5, seed=30, view=(world, "latent")) != played[0]
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
    likeliest = evaluate(policy, GAME, 5, seed=3, view=(world, "latent"), deterministic=True)
    assert likeliest == evaluate(policy, GAME, 5, seed=3, view=(world, "latent"), deterministic=True, num_envs=2)


def test_continuous_actions_are_played_too():
    world = pushing_world()
    policy = SB3Policy(model_of(SAC, dreams(world=world), buffer_size=10))
    assert policy.action_spec.kind == "box"
    played = evaluate(policy, DREAM, 2, model=world, obs="latent", horizon=3)
    assert played.lengths == (3, 3)


@pytest.mark.parametrize("order", ["stack", "norm", "norm, stack", "stack, norm"])
def test_a_model_gets_the_observations_of_its_training(order):
    """Two steps after an episode began, the same as through its own envs, which stack and normalise."""
    wrap = {"stack": lambda envs: VecFrameStack(envs, 3), "norm": lambda envs: VecNormalize(envs)}
    envs = VecMonitor(dreams())
    for name in order.split(", "):
        envs = wrap[name](envs)
    model = model_of(A2C, envs)
    model.learn(20)
    if (norm := model.get_vec_normalize_env()) is not None:
        norm.training = False
    policy, plain = SB3Policy(model), DreamVectorEnv(2, seeing_world(), obs="latent", horizon=5)
    shown, predict = [], model.predict
    envs.seed(4)
    seen, raw = envs.reset(), plain.reset(seed=4)[0]
    for _ in range(3):
        wanted = model.predict(seen, deterministic=True)[0]
        model.predict = lambda seen, *args, **kwargs: shown.append(seen) or predict(seen, *args, **kwargs)
        np.testing.assert_array_equal(policy.act(raw, deterministic=True), wanted)
        np.testing.assert_allclose(np.concatenate(shown[-2:]), seen, rtol=1e-5)
        model.predict = predict
        seen, raw = envs.step(wanted)[0], plain.step(wanted)[0]


def test_frames_are_stacked_and_forgotten():
    envs = VecFrameStack(dreams("rgb"), 2)
    policy = SB3Policy(
        PPO("CnnPolicy", envs, policy_kwargs={"features_extractor_class": Mean}, n_steps=2, batch_size=2)
    )
    frames = np.random.default_rng(0).integers(256, size=(2, 16, 16, 3), dtype=np.uint8)
    policy.act(frames), policy.act(frames)
    policy.reset(np.array([1]))
    policy.act(frames)
    assert [policy._stacks[row][..., :3].any() for row in range(2)] == [True, False]


class Mean(torch.nn.Module):
    """Features of a frame of any size."""

    def __init__(self, observation_space):
        super().__init__()
        self.features_dim = 1

    def forward(self, frames):
        assert frames.shape[1:] == (6, 16, 16)  # channels first, two frames
        return frames.mean((1, 2, 3))[:, None]


class Remembering:
    """A model that counts an episode's steps, as RecurrentPPO remembers."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(100)

    def get_vec_normalize_env(self):
        return None

    def predict(self, observation, state, episode_start, deterministic):
        assert (state is None) == bool(episode_start[0])
        steps = 0 if state is None else state + 1
        return np.array([steps]), steps


def test_each_row_has_its_own_memory():
    policy, seen = SB3Policy(Remembering()), np.zeros((2, 1), np.float32)
    assert [policy.act(seen).tolist() for _ in range(2)] == [[0, 0], [1, 1]]
    policy.reset(np.array([1]))
    assert policy.act(seen).tolist() == [2, 0]
    policy.reset()
    assert policy.act(seen).tolist() == [0, 0]


def test_observations_of_the_wrong_kind_are_refused():
    policy = SB3Policy(model_of(A2C, dreams()))
    with pytest.raises(ValueError, match=r"needs observations of shape \(2, 2, 8\), got \(16, 16, 3\)"):
        policy.act(np.zeros((1, 16, 16, 3), np.uint8))


def test_a_model_of_another_game_is_refused():
    world = pushing_world()
    with pytest.raises(ValueError, match=r"SB3ModelToy-v0 differ in their actions: 2 dimensions .*, one of 3 actions"):
        evaluate(SB3Policy(model_of(A2C, dreams(world=world))), GAME, 1)


def test_a_path_is_refused_with_how_to_load_it():
    with pytest.raises(TypeError, match=r"got a str; load a saved one with its algorithm first, .*PPO\.load"):
        SB3Policy("model.zip")
