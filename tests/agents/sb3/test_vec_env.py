import re
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize, VecVideoRecorder

from tests.agents.worlds import pushing_world
from tests.processes import FORKS, START
from tests.tiny import tiny_world
from tests.toy_game import BoundGame, ToyGame, toys
from worldmodel.agents.sb3.generators import restored_generators
from worldmodel.agents.sb3.networks import GridFeatures
from worldmodel.agents.sb3.vec_env import SB3VecEnv, _rows
from worldmodel.envs.dream.mixed import MixedDreams
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.wrappers import DreamViewVector, ThreadVectorEnv


def assert_same_infos(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_the_adapter_returns_what_stable_baselines3s_vec_env_returns():
    ours, theirs = SB3VecEnv(toys(3)), DummyVecEnv([ToyGame] * 3)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    ours.seed(5), theirs.seed(5)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ends = 0
    for step in range(12):
        mine, others = (env.step(np.array([0, 1, step % 3])) for env in (ours, theirs))
        for one, other in zip(mine[:3], others[:3], strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(mine[3], others[3], strict=True):
            # Stable-Baselines3's env says it at every step, ours at the end, where it is read.
            assert one.pop("TimeLimit.truncated", False) == other.pop("TimeLimit.truncated")
            assert_same_infos(one, other)
        for one, other in zip(ours.reset_infos, theirs.reset_infos, strict=True):
            assert_same_infos(one, other)
        ends += mine[2].sum()
    assert ends > 4


def mixed_dreams():
    return MixedDreams([DreamVectorEnv(1, tiny_world(), obs="latent", horizon=4) for _ in range(2)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: gym.make_vec("VideoGenDream-DoomTakeCover", num_envs=2, model=tiny_world(), obs="latent", horizon=4),
        mixed_dreams,
        lambda: ThreadVectorEnv(ToyGame, 2),
    ],
)
def test_the_error_in_stable_baselines3_explains_how_to_pass_a_batch(make):
    envs = make()
    with pytest.raises(ValueError, match="not a Gymnasium") as caught:  # their error
        PPO("MlpPolicy", envs)
    line = re.search("takes as (.*), after `(.*)`", str(caught.value))
    assert line is not None, caught.value
    namespace = {"envs": envs}
    exec(line[2], namespace)
    model = PPO("MlpPolicy", eval(line[1], namespace), n_steps=4, batch_size=4, n_epochs=1, device="cpu").learn(8)
    assert model.num_timesteps == 8
    assert "Stable" not in repr(type(envs))  # only there
    envs.close()


def test_a_dream_reports_its_last_observation_and_truncation():
    envs = SB3VecEnv(DreamVectorEnv(3, tiny_world(), horizon=2))
    envs.seed(0)
    envs.reset()
    envs.step(np.zeros(3, np.int64))
    observations, rewards, dones, infos = envs.step(np.zeros(3, np.int64))
    assert dones.tolist() == [True] * 3 and rewards.dtype == np.float32
    for row in range(3):
        assert infos[row]["TimeLimit.truncated"] is True
        assert infos[row].keys() >= {"nll", "entropy", "HEALTH"}
        assert not np.array_equal(infos[row]["terminal_observation"], observations[row])


def test_frames_can_be_shown():
    envs = SB3VecEnv(DreamVectorEnv(4, tiny_world(), render_mode="rgb_array"))
    observations = envs.reset()
    np.testing.assert_array_equal(envs.get_images(), observations)
    assert envs.render().shape == (32, 32, 3)  # tiled


def test_reset_options_reach_the_env():
    envs = SB3VecEnv(DreamVectorEnv(2, tiny_world()))
    envs.set_options({"nonsense": 1})
    with pytest.raises(ValueError, match="unknown reset option 'nonsense'"):
        envs.reset()


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_other_autoreset_modes_are_refused(mode):
    with pytest.raises(ValueError, match="needs autoreset_mode='same_step'"):
        SB3VecEnv(DreamVectorEnv(2, tiny_world(), autoreset_mode=mode))


def test_groups_of_infos_are_split_by_row():
    """As Gymnasium's episode statistics do, with a mask for the group alone or for each entry too."""
    masks = {"_r": np.array([True, False]), "_l": np.array([True, False])}
    for inner in ({}, masks):
        statistics = {"r": np.array([2.5, 0.0]), "l": np.array([7, 0])} | inner
        rows = _rows({"episode": statistics, "_episode": np.array([True, False])}, 2)
        assert rows == [{"episode": {"r": 2.5, "l": 7}}, {}]


# --- attributes and methods ------------------------------------------------------------------------------------------


class Named(ToyGame):
    """Returns the allowed actions, and a name that can be set."""

    name = "toy"

    def action_masks(self):
        return np.array([True, self.left > 2, False])

    def call_it(self, name, *, loudly=False):
        self.name = name.upper() if loudly else name
        return len(name)


def named_games(kind):
    if kind == "theirs":
        return DummyVecEnv([lambda: Monitor(Named())] * 3)
    if kind == "threads":
        return SB3VecEnv(ThreadVectorEnv(lambda: Monitor(Named()), 3))
    return SB3VecEnv(SyncVectorEnv([lambda: Monitor(Named())] * 3, autoreset_mode=AutoresetMode.SAME_STEP))


@pytest.mark.parametrize("kind", ["theirs", "threads", "sync"])
def test_rows_with_their_own_envs_are_accessed_as_in_stable_baselines3(kind):
    envs = named_games(kind)
    envs.seed(0), envs.reset()
    assert envs.get_attr("name") == ["toy"] * 3 and envs.get_attr("left", 1) == [envs.get_attr("left")[1]]
    assert not envs.has_attr("nonsense") and envs.has_attr("action_masks")
    envs.set_attr("dies", "never", indices=[0, 2])
    assert [dies == "never" for dies in envs.get_attr("dies")] == [True, False, True]
    assert envs.env_method("call_it", "doom", loudly=True, indices=[1]) == [4]
    assert envs.get_attr("name") == ["toy", "DOOM", "toy"]
    assert np.stack(envs.env_method("action_masks")).shape == (3, 3)
    assert envs.env_is_wrapped(Monitor) == [True] * 3 and envs.env_is_wrapped(gym.wrappers.TimeLimit, 0) == [False]


@FORKS
def test_rows_in_separate_processes_can_be_accessed():
    games = [lambda: Monitor(Named())] * 2
    envs = SB3VecEnv(AsyncVectorEnv(games, context=START, autoreset_mode=AutoresetMode.SAME_STEP))
    envs.seed(0), envs.reset()
    assert envs.get_attr("name") == ["toy"] * 2 and envs.get_attr("name", 1) == ["toy"]
    envs.set_attr("name", "doom", indices=[1])
    assert envs.get_attr("name") == ["toy", "doom"]
    envs.set_attr("name", "hex")
    assert envs.get_attr("name") == ["hex"] * 2 and envs.env_method("call_it", "doom", loudly=True) == [4, 4]
    with pytest.raises(ValueError, match="omit indices"):
        envs.env_method("call_it", "doom", indices=[0])
    assert not envs.has_attr("nonsense") and envs.has_attr("name")
    for ask in (lambda: envs.set_attr("nonsense", 1), lambda: envs.env_method("nonsense")):
        with pytest.raises(AttributeError, match="rows have no attribute 'nonsense'"):
            ask()
    assert len(envs.step(np.zeros(2, np.int64))[1]) == 2  # none of them has ended over it
    envs.close()


def test_attributes_that_a_batch_does_not_have_cannot_be_set():
    envs = SB3VecEnv(DreamVectorEnv(2, tiny_world()))
    for name in ("rulez", "temperature"):
        with pytest.raises(AttributeError, match=rf"no attribute '{name}' to set; .*set_attr\('rules'"):
            envs.set_attr(name, 0.5)
    assert not envs.has_attr("rulez")


def test_infos_may_have_any_names():
    class Scored(ToyGame):
        def step(self, action):
            *step, info = super().step(action)
            return *step, info | {"final_score": 3.0, "semi_final_": 1.0}

    envs = SB3VecEnv(SyncVectorEnv([Scored] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    envs.reset()
    dones = np.zeros(2, bool)
    while not dones.any():
        _, _, dones, infos = envs.step(np.zeros(2, np.int64))
        for info in infos:
            assert info["final_score"] == 3.0 and info["semi_final_"] == 1.0 and "final_obs" not in info


def test_the_rows_of_a_batch_share_their_attributes_and_methods():
    dreams = DreamVectorEnv(3, tiny_world(), horizon=4)
    envs = VecMonitor(SB3VecEnv(dreams))
    rules = dreams.rules
    assert rules.horizon == 4
    assert envs.get_attr("rules") == [rules] * 3 and envs.get_attr("rules", [0, 2]) == [rules] * 2
    cooler = replace(rules, temperature=0.5)
    envs.set_attr("rules", cooler)
    assert dreams.rules == cooler
    with pytest.raises(ValueError, match=r"3 rows .* share attributes and methods, got indices=1"):
        envs.set_attr("rules", rules, 1)
    assert dreams.rules == cooler
    with pytest.raises(ValueError, match="share"):
        envs.env_method("render", indices=[0, 1])
    assert envs.env_is_wrapped(Monitor) == [False] * 3
    assert not envs.has_attr("nonsense")
    envs.reset()
    dreams.action_masks = lambda: np.eye(3, dtype=bool)
    np.testing.assert_array_equal(envs.env_method("action_masks"), np.eye(3))
    dreams.tell = lambda: None
    assert envs.env_method("tell") == [None] * 3


def test_a_view_is_looked_through():
    """Attributes of the games below a vector wrapper are found too."""
    envs = SB3VecEnv(DreamViewVector(ThreadVectorEnv(Named, 2), tiny_world(), "latent"))
    assert envs.get_attr("name") == ["toy"] * 2 and envs.observation_space.shape == (2, 2, 8)


# --- Stable-Baselines3's wrappers ------------------------------------------------------------------------------------


def test_its_wrappers_run_on_dreams():
    dreams = DreamVectorEnv(4, tiny_world(), obs="latent", horizon=3)
    envs = VecNormalize(VecFrameStack(VecMonitor(SB3VecEnv(dreams)), 2))
    envs.seed(0)
    observations = envs.reset()
    assert observations.shape == (4, 2, 2, 16) and not observations[..., :8].any()
    returns = np.zeros(4)
    for step in range(6):
        observations, _, dones, infos = envs.step(np.zeros(4, np.int64))
        returns += envs.get_original_reward()
        assert dones.all() == (step % 3 == 2)
        if dones.all():
            np.testing.assert_allclose([info["episode"]["r"] for info in infos], returns, rtol=1e-5)
            assert [info["episode"]["l"] for info in infos] == [3] * 4
            assert infos[0]["terminal_observation"].shape == (2, 2, 16)
            returns[:] = 0
    assert np.abs(observations).max() <= 10 and envs.obs_rms.count > 20


def test_videos_are_recorded_at_the_dreams_pace(tmp_path):
    dreams = DreamVectorEnv(2, tiny_world(), horizon=3, render_mode="rgb_array")
    envs = VecVideoRecorder(SB3VecEnv(dreams), tmp_path, lambda step: step == 0, video_length=4)
    assert envs.frames_per_sec == dreams.metadata["render_fps"]
    envs.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moviepy's
        for _ in range(5):
            envs.step(np.zeros(2, np.int64))
    (video,) = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 500


def test_episodes_are_counted_once_by_evaluate_policy():
    envs = VecMonitor(SB3VecEnv(DreamVectorEnv(3, tiny_world(), obs="latent", horizon=4)))
    with restored_generators(0):
        returns, lengths = evaluate_policy(A2C("MlpPolicy", envs), envs, 7, return_episode_rewards=True)
    assert lengths == [4] * 7 and len(set(returns)) == 7


# --- its algorithms --------------------------------------------------------------------------------------------------


def grid():
    """A new one each time: Stable-Baselines3 writes into it."""
    return {"features_extractor_class": GridFeatures, "features_extractor_kwargs": {"channels": 8}, "net_arch": [32]}


def weights(model):
    return [parameter.detach().clone() for parameter in model.policy.parameters()]


def train(make, envs, steps, seed=0):
    """The trained model; its weights must have moved."""
    with restored_generators(seed):
        model = make(VecMonitor(SB3VecEnv(envs)))
        before = weights(model)
        model.learn(steps)
    assert any(not torch.equal(one, other) for one, other in zip(before, weights(model), strict=True))
    return model


def mean_reward(envs, act, steps=32):
    observations, earned = envs.reset(seed=100)[0], []
    for _ in range(steps):
        observations, rewards, *_ = envs.step(act(observations))
        earned.append(rewards)
    return np.mean(earned)


def random_play(envs, seed=0):
    rng, space = np.random.default_rng(seed), envs.single_action_space
    if isinstance(space, gym.spaces.Discrete):
        return lambda _: rng.integers(space.n, size=envs.num_envs)
    return lambda _: rng.uniform(space.low, space.high, (envs.num_envs, *space.shape)).astype(np.float32)


LEARNERS = {
    "A2C": lambda envs: A2C("MlpPolicy", envs, 2e-3, gamma=0.5, n_steps=8, policy_kwargs=grid(), seed=0),
    "DQN": lambda envs: DQN(
        "MlpPolicy", envs, 2e-3, gamma=0.5, learning_starts=256, batch_size=128, train_freq=1, gradient_steps=2,
        target_update_interval=640, exploration_fraction=0.3, policy_kwargs=grid(), buffer_size=5000, seed=0,
    ),
    "SAC": lambda envs: SAC(
        "MlpPolicy", envs, 2e-3, gamma=0.5, learning_starts=256, batch_size=128, train_freq=1, gradient_steps=2,
        policy_kwargs=grid(), buffer_size=5000, seed=0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["A2C", pytest.param("DQN", marks=pytest.mark.slow), pytest.param("SAC", marks=pytest.mark.slow)]
)
def test_its_algorithms_improve_in_a_tiny_dream(name):
    """The rewards of random weights depend on the action: 0.1 is a fifth of their standard deviation."""
    world = pushing_world() if name == "SAC" else tiny_world(2)
    envs = DreamVectorEnv(32, world, obs="latent", horizon=8)
    model = train(LEARNERS[name], envs, steps=2048 if name == "SAC" else 4096)
    learned = mean_reward(envs, lambda observations: model.predict(observations, deterministic=True)[0])
    assert learned > mean_reward(envs, random_play(envs)) + 0.1


def test_actions_that_exceed_a_bound_by_rounding_are_clipped():
    """As Stable-Baselines3's scaling does for these bounds, which a dream would refuse."""

    class Strict(ToyGame):
        def __init__(self):
            super().__init__()
            self.action_space = gym.spaces.Box(np.float32([-0.2509097]), np.float32([-0.028303837]))

        def step(self, action):
            assert self.action_space.contains(action)
            return super().step(action)

    with restored_generators():
        envs = SB3VecEnv(ThreadVectorEnv(Strict, 2))
        model = SAC("MlpPolicy", envs, policy_kwargs={"net_arch": [4]}, buffer_size=10)
    envs.reset()
    actions = model.policy.unscale_action(np.float32([[1.0], [-1.0]]))
    assert not envs.action_space.contains(actions[0])
    envs.step(actions)


def test_sb3_contribs_algorithms_run():
    """Memory (RecurrentPPO), masks of actions (MaskablePPO) and quantiles (QRDQN)."""
    contrib = pytest.importorskip("sb3_contrib")
    with warnings.catch_warnings(), restored_generators():
        warnings.simplefilter("ignore")  # theirs
        dreams = DreamVectorEnv(2, tiny_world(), obs="latent", horizon=4)
        dreams.action_masks = lambda: np.array([[True, False, True]] * 2)
        envs = VecMonitor(SB3VecEnv(dreams))
        contrib.RecurrentPPO("MlpLstmPolicy", envs, n_steps=4, batch_size=4, n_epochs=1).learn(8)
        contrib.QRDQN("MlpPolicy", envs, learning_starts=4, buffer_size=20, target_update_interval=8).learn(12)
        masked = contrib.MaskablePPO("MlpPolicy", envs, n_steps=8, batch_size=4, n_epochs=1)
        seen = []
        step_async, envs.step_async = envs.step_async, lambda actions: (seen.append(actions), step_async(actions))
        masked.learn(16)
    assert len(seen) == 8 and not (np.array(seen) == 1).any()


def test_methods_of_a_game_are_called_in_its_own_thread():
    envs = SB3VecEnv(ThreadVectorEnv(BoundGame, 2))
    assert envs.env_method("check_thread") == envs.get_attr("thread")
    envs.close()
