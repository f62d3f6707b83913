"""Workers: an episode is what its seed and its policy make it."""

import json
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from tests.training.collect.episodes import job
from tests.training.counting_game import CountingGame
from worldmodel.agents.scripted import EpsilonPolicy, StickyPolicy
from worldmodel.data import ActionSpec, EpisodeStorage
from worldmodel.training.collect.workers import make_player, play, seeds_of


def test_an_episode_is_determined_by_its_seed_and_its_policy(ten_episodes):
    env, policy = make_player(job())
    env_seed, policy_seed = seeds_of(0, 4)
    expected, native_return = play(env, policy, env_seed, policy_seed)
    stored = EpisodeStorage.open(ten_episodes).episode(4)
    assert stored.seed == env_seed
    for name in ("frames", "actions", "rewards", "signals"):
        assert np.array_equal(getattr(stored, name), getattr(expected, name))
    assert native_return == 10 * expected.rewards.sum()


def test_an_end_in_the_last_step_of_a_time_limit_is_the_games_own():
    game = CountingGame()
    ends = {}  # of the first seed for each parity of the length
    for seed in range(20):
        game.reset(seed=seed)
        ends.setdefault(game.length % 2, (seed, game.length))
    for odd, (seed, length) in ends.items():  # games of an even length terminate
        limited = gym.wrappers.TimeLimit(CountingGame(), length)
        episode, _ = play(limited, StickyPolicy(game.action_spec), seed, 0)
        assert episode.num_steps == length and (episode.terminated, episode.truncated) == (not odd, bool(odd))


class Reusing(gym.Wrapper):
    """The same game, which fills the same arrays at every step and counts in float32."""

    def reset(self, **options):
        observation, info = self.env.reset(**options)
        self.mine = {name: info[name].copy() for name in ("frames", "signals")}
        return observation, info | self.mine

    def step(self, action):
        *result, info = self.env.step(action)
        for name, array in self.mine.items():
            array[:] = info[name]
        return *result, info | self.mine | {"native_reward": np.float32(info["native_reward"])}


def test_a_game_may_fill_the_same_arrays_at_every_step(ten_episodes):
    env, policy = make_player(job())
    episode, native_return = play(Reusing(env), policy, *seeds_of(0, 4))
    stored = EpisodeStorage.open(ten_episodes).episode(4)
    assert np.array_equal(episode.frames, stored.frames) and np.array_equal(episode.signals, stored.signals)
    assert json.loads(json.dumps(native_return)) == native_return


def test_episodes_and_collections_have_different_seeds():
    seeds = [seeds_of(seed, episode) for seed in range(5) for episode in range(50)]
    assert len(set(np.ravel(seeds).tolist())) == 500


def test_an_agent_is_reset_and_seeded_for_each_episode(fake_agent):
    env, policy = make_player(job(policy="folder"))
    for seed in (5, 6):
        episode, _ = play(env, policy, 0, seed)
        assert (episode.actions == 1).all()
    assert fake_agent.calls == ["reset", ("seed", [0], [5]), "reset", ("seed", [0], [6])]


def test_epsilon_adds_noise_to_an_agent(fake_agent):
    env, policy = make_player(job(policy="folder", epsilon=0.5))
    actions = np.concatenate([play(env, policy, i, i)[0].actions for i in range(60)])
    assert (actions == 1).mean() == pytest.approx(0.5 + 0.5 / 3, abs=0.08)


def test_noise_is_independent_of_a_policy_with_the_same_seed():
    action = ActionSpec(kind="box", n=1, low=(0.0,), high=(1.0,))
    looks = np.zeros((1, 1))
    pairs = []
    for seed in range(50):
        noisy = EpsilonPolicy(StickyPolicy(action, seed=seed), 1.0, action, seed=seed)
        pairs.append((noisy.act(looks)[0, 0], StickyPolicy(action, seed=seed).act(looks)[0, 0]))
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.4


def test_an_agent_from_a_dream_sees_the_game_as_its_dream_shows_it(fake_agent, monkeypatch):
    shown = []

    def dream_view(env, model, obs):
        shown.append((model, obs))
        return env

    monkeypatch.setitem(sys.modules, "worldmodel.envs.wrappers", SimpleNamespace(DreamView=dream_view))
    make_player(job(policy="folder"))
    assert shown == []
    fake_agent.meta.view = "rgb"
    make_player(job(policy="folder"))
    assert shown == [("a-model", "rgb")]
