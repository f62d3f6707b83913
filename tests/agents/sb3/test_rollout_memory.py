import json
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import VecMonitor

from tests.agents.sb3.test_agent import Pointing
from tests.agents.trained import dreams, small
from tests.toy_game import ToyGame, registered_game, seeing_world, toys
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3.agent import Agent, load_agent
from worldmodel.agents.sb3.any_model import SB3Policy
from worldmodel.agents.sb3.config import AgentMeta
from worldmodel.agents.sb3.eval_callback import RealEvalCallback, real_games
from worldmodel.agents.sb3.rollout_memory import ActionPlanes, as_agents_see
from worldmodel.agents.sb3.train import is_trained, load_ppo, train_ppo
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.wrappers import DreamViewVector, ThreadVectorEnv

GAME = "MemoryToy-v0"
REMEMBERING: tuple[dict, ...] = ({"previous_action": True}, {"durations": (1, 3)})


registered = registered_game(GAME, ToyGame)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return seeing_world().save_pretrained(tmp_path_factory.mktemp("memory") / "world")


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A function that gives the folder of an agent, trained for 16 steps in the dream."""

    @cache
    def train(obs, **changes):
        folder = tmp_path_factory.mktemp("memory")
        meta = AgentMeta(view=obs, world_model=str(world))
        train_ppo(DreamVectorEnv(4, world, obs=obs, horizon=3), small(frame_stack=2, **changes), folder, meta)
        return folder

    return train


def watched(agent):
    """Everything that the policy is shown from now on, (n, H, W, 2 * (C + P)) each, and its choices."""
    shown, chosen = [], []
    look, choose = agent.policy.get_distribution, agent._choose

    def get_distribution(seen):
        shown.append(np.moveaxis(seen.numpy(), 1, -1).copy() if agent.file.pixels else seen.numpy().copy())
        return look(seen)

    agent.policy.get_distribution = get_distribution
    agent._choose = lambda likeliest: chosen.append(choose(likeliest)) or chosen[-1]
    return shown, chosen


def play(agent, envs, steps):
    """Yields (observations, actions, ended, final observations) of each step."""
    observations = envs.reset(seed=3)[0]
    for _ in range(steps):
        actions = agent.act(observations)
        after, _, terminations, truncations, infos = envs.step(actions)
        ended = terminations | truncations
        agent.reset(np.flatnonzero(ended))
        yield observations, actions, ended, [infos["final_obs"][row] for row in np.flatnonzero(ended)]
        observations = after
    envs.close()


@pytest.mark.parametrize("place", ["game", "dream"])
@pytest.mark.parametrize(
    ("obs", "changes"), [("latent", REMEMBERING[0]), ("features", REMEMBERING[1]), ("rgb", REMEMBERING[1])]
)
def test_an_agents_stack_equals_one_made_by_hand(world, trained, obs, changes, place):
    """In the game and in the dream alike, across the ends of episodes."""
    dream = place == "dream"
    envs = DreamVectorEnv(4, world, obs=obs, horizon=3) if dream else DreamViewVector(toys(), world, obs)
    agent = load_agent(trained(obs, **changes))
    shown, _ = watched(agent)
    last, before, ends = np.zeros((4, 3)), None, 0
    for observations, actions, ended, _ in play(agent, envs, 9):
        planes = np.broadcast_to(last[:, None, None], (*observations.shape[:3], 3)) * (255 if obs == "rgb" else 1)
        now = np.concatenate([observations, planes], -1)
        halves = np.split(shown.pop(), 2, -1)
        older, newer = (half[..., : now.shape[-1]] for half in halves)  # without the plane of what is left of a hold
        np.testing.assert_array_equal(newer, now)
        np.testing.assert_array_equal(older, np.zeros_like(now) if before is None else before)
        go_on = ~ended[:, None]
        last, before, ends = np.eye(3)[actions] * go_on, now * go_on[..., None, None], ends + ended.sum()
    assert ends > 4


@pytest.mark.parametrize("changes", REMEMBERING)
def test_training_and_play_have_the_same_observations(world, trained, changes):
    agent = load_agent(trained("features", **changes))
    shown, chosen = watched(agent)
    lasts = [final for *_, final in play(agent, DreamViewVector(toys(), world, "features"), 9)]
    training = as_agents_see(SB3VecEnv(DreamViewVector(toys(), world, "features")), agent.file.training)
    training.seed(3)
    observations = training.reset()
    assert training.observation_space.contains(observations[0])
    depth = observations.shape[-1] // 2
    width = 3 + ("durations" in changes)
    for seen, choices, finals in zip(shown, chosen, lasts, strict=True):
        np.testing.assert_array_equal(observations, seen)
        observations, _, dones, infos = training.step(choices)
        ended = [infos[row]["terminal_observation"] for row in np.flatnonzero(dones)]
        for given, last in zip(ended, finals, strict=True):  # an episode's last step, with the action that led there
            np.testing.assert_array_equal(given[..., depth:-width], last)
            assert (given[..., -width:][..., :3].sum(-1) == 1).all()


def test_there_is_no_choice_while_an_action_is_repeated(world, tmp_path):
    config = small(frame_stack=1, steps=64, durations=(1, 3))
    model = train_ppo(DreamVectorEnv(4, world, obs="latent", horizon=8), config, tmp_path)
    buffer = model.rollout_buffer
    observations = torch.from_numpy(buffer.observations)  # (n, h, w, C + P)
    actions = torch.from_numpy(buffer.actions).flatten().long()
    going_on = observations[:, 0, 0, -1] > 0
    assert going_on.any() and not going_on.all()
    held = observations[:, 0, 0, -4:-1].argmax(-1)
    assert torch.equal(actions[going_on], held[going_on] * 2)
    model.policy.zero_grad()
    _, log_odds, entropy = model.policy.evaluate_actions(observations, actions)
    assert (log_odds[going_on] == 0).all() and (entropy[going_on] == 0).all()
    assert (log_odds[~going_on] < 0).all() and (entropy[~going_on] > 0).all()
    (log_odds[going_on].sum() + entropy[going_on].sum()).backward()
    assert all(not parameter.grad.any() for parameter in model.policy.action_net.parameters())


class Told(gym.Env):
    """Shows, at first only, for how many of its 4 steps (1 or 3) action 1 is rewarded; after that action 0 is."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(-1, 1, (1, 1, 1), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.pays = 0, int(self.np_random.choice([1, 3]))
        return np.full((1, 1, 1), self.pays - 2, np.float32), {}

    def step(self, action):
        reward = float(action == (self.steps < self.pays))
        self.steps += 1
        return np.zeros((1, 1, 1), np.float32), reward, self.steps == 4, False, {}


def test_ppo_learns_how_long_to_repeat_an_action(tmp_path):
    """An agent that chooses in every step and knows only its last action is wrong in at least one of eight steps."""
    sizes = {"num_envs": 32, "n_steps": 8, "batch_size": 128, "n_epochs": 4, "frame_stack": 1}
    config = small(steps=4000, learning_rate=1e-2, gamma=0.9, durations=(1, 3), **sizes)
    envs = SyncVectorEnv([Told] * 32, autoreset_mode=AutoresetMode.SAME_STEP)
    agent = Agent.of(train_ppo(envs, config, tmp_path), config)
    observations, earned = envs.reset(seed=0)[0], []
    for _ in range(4):
        observations, rewards, *_ = envs.step(agent.act(observations, deterministic=True))
        earned.append(rewards)
    assert np.mean(earned) == 1


@pytest.mark.parametrize("changes", REMEMBERING)
def test_the_callback_and_evaluate_give_the_same_returns(world, tmp_path, changes):
    """The callback's games, seen by the policy, and `evaluate`, where the agent remembers: the same episodes."""
    config = small(frame_stack=2, **changes)
    games = real_games(GAME, 5, view=(world, "latent"), training=config)
    judge = RealEvalCallback(games, 1000, 5, seed=7, deterministic=True)
    train_ppo(DreamVectorEnv(4, world, obs="latent", horizon=3), config, tmp_path, callback=judge)
    agent = load_agent(tmp_path / "agent")
    found = evaluate(agent, GAME, 5, seed=7, view=(world, "latent"), deterministic=True)
    assert judge.best_mean_reward == pytest.approx(found.mean)
    assert found.lengths == evaluate(RandomPolicy, GAME, 5, seed=7).lengths  # steps of the game, not choices
    games.close()


def test_an_agent_remembers_actions_executed_instead_of_its_own(trained):
    agent, observations = load_agent(trained("latent", previous_action=True)), dreams("latent").reset(seed=0)[0]
    other = (agent.act(observations) + 1) % 3
    agent.acted(other)
    agent.act(observations)
    np.testing.assert_array_equal(agent._stack[:, 0, 0, -3:], np.eye(3)[other])


@pytest.mark.parametrize("changes", REMEMBERING)
def test_an_agent_with_memory_is_trained_further_only_with_memory(trained, changes):
    folder = trained("latent", **changes)
    further = load_ppo(folder, dreams("latent"))
    assert further.action_space.n == (6 if "durations" in changes else 3)
    with pytest.raises(ValueError, match=r"was trained with (previous_action|durations)=.*, but the config has"):
        load_ppo(folder, dreams("latent"), small(frame_stack=2))
    with pytest.raises(ValueError, match="needs its last action, which only an agent of train_ppo keeps"):
        SB3Policy(further)


def test_an_agent_of_an_earlier_release_has_no_memory(tmp_path):
    train_ppo(dreams("latent"), small(), tmp_path)
    for file in (tmp_path / "config.json", tmp_path / "agent" / "config.json"):
        config = json.loads(file.read_text())
        for name in ("previous_action", "durations"):
            del config.get("training", config)[name]
        file.write_text(json.dumps(config))
    (tmp_path / "agent" / "SHA256SUMS").unlink()
    agent = load_agent(tmp_path / "agent")
    assert not agent.file.training.previous_action and agent.file.training.durations == ()
    assert is_trained(tmp_path, small(), AgentMeta())


def test_without_a_memory_envs_are_only_stacked():
    envs = SB3VecEnv(dreams("latent"))
    assert as_agents_see(envs, small()).venv is envs
    monitored = VecMonitor(envs)
    assert isinstance(as_agents_see(monitored, small(previous_action=True)).venv, ActionPlanes)


def test_continuous_actions_are_remembered_too(tmp_path):
    config = small(previous_action=True, frame_stack=2)
    train_ppo(ThreadVectorEnv(Pointing, 4), config, tmp_path)
    agent, envs = load_agent(tmp_path / "agent"), ThreadVectorEnv(Pointing, 4)
    actions = agent.act(envs.reset(seed=0)[0])
    assert actions.shape == (4, 2)
    agent.act(envs.step(actions)[0])
    np.testing.assert_allclose(agent._stack[:, 0, 0, -2:], 128 + np.round(127 * (actions - [0, 1])))
    with pytest.raises(ValueError, match="need discrete actions"):
        train_ppo(envs, small(durations=(2,)), tmp_path / "held")
    assert not (tmp_path / "held").exists()
