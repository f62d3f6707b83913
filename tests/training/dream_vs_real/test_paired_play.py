import gymnasium as gym
import numpy as np
import pytest

from tests.tiny import tiny_world
from tests.toy_game import ToyGame, registered_game
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.policy import Policy
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.training.dream_vs_real.game_starts import first_steps, mid_play, open_game
from worldmodel.training.dream_vs_real.paired_play import Trace, play_both, play_dream, play_real
from worldmodel.training.dream_vs_real.policies import Player, make_players

GAME = "PairedToy-v0"


class TimedGame(ToyGame):
    """Truncated after 9 steps, or terminated earlier if the seed is even."""

    def reset(self, *, seed=None, options=None):
        found = super().reset(seed=seed)
        self.left, self.dies = (5, True) if seed % 2 == 0 else (9, False)
        return found


registered = registered_game(GAME, TimedGame)


@pytest.fixture(scope="module")
def endless():
    """A world whose dreams never end by themselves."""
    world = tiny_world()
    world.heads.threshold.fill_(2.0)
    return world


@pytest.fixture
def openings(endless):
    with open_game(endless, GAME) as env:
        return {
            "first": first_steps(endless, env, 4, seed=30),
            "mid": mid_play(endless, env, 4, seed=30, given=2, lead="random", most_steps=4),
        }


def names(players):
    return [player.name for player in players]


def test_each_policy_plays_the_games_own_episodes(endless, openings):
    players = make_players(endless, policies=["constant:left"])
    plays = play_real(endless, GAME, players, openings["first"])
    assert names(players) == ["sticky", "random", "constant:left"]
    played = evaluate(RandomPolicy, GAME, 4, seed=30)
    assert plays[1].returns.tolist() == list(played.returns)
    assert [sum(rewards) for rewards in plays[1].trace.rewards] == list(played.env_returns)
    assert plays[2].trace.lengths.tolist() == [5, 9, 5, 9] and plays[2].trace.terminated.tolist() == [1, 0, 1, 0]


def test_from_mid_episode_the_rest_of_the_episode_is_played(endless, openings):
    (play,) = play_real(endless, GAME, make_players(endless)[:1], openings["mid"])
    wanted = np.array([5, 9, 5, 9]) - openings["mid"].elapsed
    assert play.trace.lengths.tolist() == wanted.tolist() and (openings["mid"].elapsed > 0).all()


def test_both_worlds_are_cut_when_the_games_time_is_up(endless, openings):
    players = make_players(endless, policies=["constant:left"])
    matches = play_both(endless, GAME, players, openings, horizon=50, seed=0, whole=["first"])
    assert matches["first"].clock == matches["mid"].clock == 9
    assert matches["first"].limits.tolist() == [9] * 4
    assert matches["mid"].limits.tolist() == (9 - openings["mid"].elapsed).tolist()
    for match in matches.values():
        for trace in match.dream:
            assert trace.lengths.tolist() == match.limits.tolist() and not trace.terminated.any()


def test_a_horizon_before_that_cuts_both(endless, openings):
    players = make_players(endless, policies=["constant:left"])[2:]
    matches = play_both(endless, GAME, players, openings, horizon=3, seed=0, whole=["first"])
    assert matches["first"].real[0].trace.lengths.tolist() == [5, 9, 5, 9]  # whole
    assert matches["mid"].real[0].trace.lengths.max() == 3
    assert matches["first"].dream[0].lengths.tolist() == [3] * 4


def test_the_horizon_does_not_count_as_the_games_time_limit(endless, openings):
    match = play_both(endless, GAME, make_players(endless)[:1], {"first": openings["first"]}, horizon=3, seed=0)
    assert match["first"].clock is None and match["first"].real[0].trace.lengths.tolist() == [3] * 4


def test_a_game_whose_episodes_are_cut_at_different_times_has_no_time_limit(endless, openings):
    class Moody(TimedGame):
        def reset(self, *, seed=None, options=None):
            found = super().reset(seed=seed)
            self.left, self.dies = 5 + seed % 3, False
            return found

    gym.registry[GAME].entry_point = Moody
    matches = play_both(
        endless, GAME, make_players(endless)[:1], {"first": openings["first"]}, horizon=50, seed=0, whole=["first"]
    )
    assert matches["first"].clock is None and matches["first"].limits.tolist() == [50] * 4


def test_a_dream_begins_with_its_opening_for_every_player(endless, openings):
    """Two names of one policy dream the same; from other openings they dream something else."""
    players = [
        player._replace(name=name) for name in "ab" for player in make_players(endless, policies=["constant:left"])[2:]
    ]
    one, two = play_dream(endless, players, openings["mid"], np.full(4, 6), seed=0)
    np.testing.assert_allclose(one.rewards, two.rewards, rtol=1e-4, atol=1e-5)
    (other,) = play_dream(endless, players[:1], openings["first"], np.full(4, 6), seed=0)
    assert not np.allclose(one.rewards, other.rewards)


def test_players_with_observations_see_the_game_as_the_dream_shows_it(endless, openings):
    seen = []

    class Looks(Policy):
        def act(self, observations):
            seen.append(observations)
            return np.zeros(len(observations), np.int64)

    player = Player("looks", Looks(), "latent", "dream")
    (play,) = play_real(endless, GAME, [player], openings["mid"])
    shown = endless.tokenizer.lookup(openings["mid"].starts.codes[:, -1]).numpy()
    first = int(openings["mid"].elapsed[0])
    np.testing.assert_allclose(seen[first][0], shown[0], rtol=1e-5)  # after its lead it sees the state
    seen.clear()
    (dream,) = play_dream(endless, [player], openings["mid"], np.full(4, 2), seed=0)
    np.testing.assert_allclose(seen[0], shown, rtol=1e-5)
    assert play.trace.lengths.tolist() == (np.array([5, 9, 5, 9]) - openings["mid"].elapsed).tolist()
    assert dream.lengths.tolist() == [2] * 4


def test_a_trace_is_split_into_those_of_its_episodes():
    trace = Trace(3)
    trace(np.arange(3), np.array([1.0, 2.0, 3.0]), np.array([False, True, False]))
    trace(np.array([0, 2]), np.array([4.0, 5.0]), np.array([True, False]))
    first, second, third = trace.split(1)
    assert (first.rewards, second.rewards, third.rewards) == ([[1.0, 4.0]], [[2.0]], [[3.0, 5.0]])
    assert second.terminated.tolist() == [True] and not third.terminated.any()
    assert trace.lengths.tolist() == [2, 1, 2]
