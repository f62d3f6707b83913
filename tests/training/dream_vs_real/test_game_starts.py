from copy import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame, registered_game
from worldmodel.data import ActionSpec
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_starts
from worldmodel.training.dream_vs_real.game_starts import first_steps, mid_play, open_game, recorded_starts

GAME = "StartsToy-v0"


registered = registered_game(GAME, ToyGame)


def first_frames(seed):
    return torch.from_numpy(ToyGame().reset(seed=seed)[1]["frames"])[None, None]


def test_start_i_is_the_first_step_of_the_episode_with_seed_plus_i(world):
    with open_game(world, GAME) as env:
        starts = first_steps(world, env, count=4, seed=30).starts
    for i in range(4):
        assert torch.equal(starts.codes[i], world.tokenizer.encode(first_frames(30 + i))[0])
        game = ToyGame()
        assert starts.signals[i, 0, 0] == game.reset(seed=30 + i)[1]["HEALTH"]
    assert starts.actions.shape == (4, 0)
    check_starts(world, starts)


def test_a_dream_begins_with_what_the_game_shows_first(world):
    with open_game(world, GAME) as env:
        dreaming = copy(world)
        dreaming.starts = first_steps(world, env, count=1, seed=7).starts
    dream = DreamEnv(dreaming, horizon=3)
    observation, info = dream.reset(seed=0)
    seen = world.tokenizer.decode(world.tokenizer.encode(first_frames(7)))[0, 0, -1]
    np.testing.assert_array_equal(observation, seen.numpy())
    game = ToyGame()
    assert info["HEALTH"] == game.reset(seed=7)[1]["HEALTH"]
    assert dream.step(1)[0].shape == (16, 16, 3)


def test_games_that_are_not_the_dreams_are_refused():
    other = WorldModel(replace(tiny_config(), action=ActionSpec(kind="discrete", n=4)))
    with (
        pytest.raises(ValueError, match=r"Discrete\(4\), those of StartsToy-v0 are Discrete\(3\)"),
        open_game(other, GAME),
    ):
        pass


def test_a_game_with_steps_of_another_length_comes_with_a_warning():
    world = tiny_world()
    world.config = replace(world.config, steps_per_second=8.75)
    with open_game(world, GAME):  # a game that does not state its speed
        pass

    class Slow(ToyGame):
        def __init__(self):
            super().__init__()
            self.metadata = self.metadata | {"render_fps": 4.375}

    gym.registry[GAME].entry_point = Slow
    with pytest.warns(UserWarning, match=r"4\.375 steps per second, .* had 8\.75"), open_game(world, GAME):
        pass


def test_another_unit_of_reward_is_refused_and_the_game_closed(world):
    closed = []

    class Native(ToyGame):
        reward_kind = "native"

        def close(self):
            closed.append(self)

    gym.registry[GAME].entry_point = Native
    wanted = "of the kind 'health', those of StartsToy-v0 are 'native'.* VideoGenReal-DoomHealthGathering"
    with pytest.raises(ValueError, match=wanted), open_game(world, GAME):
        pass
    assert len(closed) == 1
    Native.reward_kind = "health"
    with open_game(world, GAME) as env:
        assert env.unwrapped.reward_kind == "health"


def test_a_game_whose_info_lacks_something_is_refused(world):
    class Silent(ToyGame):
        missing = "frames"

        def reset(self, *, seed=None, options=None):
            observation, info = super().reset(seed=seed)
            del info[self.missing]
            return observation, info

    gym.registry[GAME].entry_point = Silent
    for Silent.missing in ("frames", "HEALTH"):
        with open_game(world, GAME) as env, pytest.raises(ValueError, match=rf"needs info\['{Silent.missing}'\]"):
            first_steps(world, env, 2, seed=0)


def test_a_game_of_another_size_is_refused():
    config = tiny_config()
    world = WorldModel(replace(config, tokenizer=replace(config.tokenizer, width=32))).prepare()
    with open_game(world, GAME) as env, pytest.raises(ValueError, match=r"\(2, 16, 32, 3\).*shows \(2, 16, 16, 3\)"):
        first_steps(world, env, 2, seed=0)


def test_a_model_that_needs_more_first_steps_than_the_game_has_is_refused():
    world = tiny_world(frame_condition=2, frame_encoder=FrameEncoderConfig(width=4, depths=(1,)))
    with open_game(world, GAME) as env, pytest.raises(ValueError, match="--starts recorded"):
        first_steps(world, env, 2, seed=0)


# --- the middle of play


class LongGame(ToyGame):
    """Episodes of 12 steps, and of 3 for one seed in three."""

    def reset(self, *, seed=None, options=None):
        found = super().reset(seed=seed)
        self.left = 3 if seed % 3 == 0 else 12
        return found


@pytest.fixture
def middle(world):
    gym.registry[GAME].entry_point = LongGame
    with open_game(world, GAME) as env:
        return mid_play(world, env, 30, seed=40, given=3, lead="random", most_steps=9)


def test_a_state_in_the_middle_is_where_its_seed_and_its_actions_lead(middle, world):
    assert middle.seeds == list(range(40, 70)) and middle.elapsed.tolist() == [len(lead) for lead in middle.leads]
    for i in (0, 1, 2, 29):
        game, lead = LongGame(), middle.leads[i]
        infos = [game.reset(seed=40 + i)[1], *(game.step(action)[4] for action in lead)]
        frames = torch.from_numpy(np.stack([info["frames"] for info in infos[-3:]]))[None]
        assert torch.equal(middle.starts.codes[i], world.tokenizer.encode(frames)[0])
        assert middle.starts.signals[i, :, 0].tolist() == [info["HEALTH"] for info in infos[-3:]]
        assert middle.starts.actions[i].tolist() == lead[-2:].tolist()
        assert game.left > 0  # it continues from there
    check_starts(world, middle.starts)


def test_every_possible_step_of_an_episode_is_eventually_a_state(middle):
    short, long = middle.elapsed[2::3], np.delete(middle.elapsed, slice(2, None, 3))
    assert set(short.tolist()) == {2}  # of 3 steps the last one ends the episode, and 3 steps are given
    assert set(long.tolist()) == set(range(2, 10))  # up to most_steps
    assert 4.5 < long.mean() < 6.5


def test_the_same_seed_gives_the_same_states_and_another_seed_different_ones(middle, world):
    with open_game(world, GAME) as env:
        again, other = (mid_play(world, env, 4, seed, 3, "random", 9) for seed in (40, 44))
    assert [lead.tolist() for lead in again.leads] == [lead.tolist() for lead in middle.leads[:4]]
    assert torch.equal(again.starts.codes, middle.starts.codes[:4])
    assert [lead.tolist() for lead in other.leads] == [lead.tolist() for lead in middle.leads[4:8]]


def test_the_leading_policy_is_named(world):
    gym.registry[GAME].entry_point = LongGame
    with open_game(world, GAME) as env:
        found = mid_play(world, env, 5, seed=1, given=2, lead="constant:right", most_steps=9)
    assert {int(action) for lead in found.leads for action in lead} == {2}


def test_episodes_too_short_for_a_dreams_context_are_refused(world):
    with open_game(world, GAME) as env, pytest.raises(ValueError, match=r"no episode of random play .* the 9 steps"):
        mid_play(world, env, 2, seed=0, given=9, lead="random")


def test_a_game_that_is_not_reproducible_is_refused(world):
    class Moody(ToyGame):
        resets = 0

        def reset(self, *, seed=None, options=None):
            Moody.resets += 1
            return super().reset(seed=seed + 1000 * Moody.resets)

    gym.registry[GAME].entry_point = Moody
    with open_game(world, GAME) as env, pytest.raises(ValueError, match="same actions the game shows something else"):
        mid_play(world, env, 1, seed=0, given=1, lead="random")


def test_first_steps_have_no_past_and_recorded_starts_are_those_of_the_checkpoint(world):
    with open_game(world, GAME) as env:
        first = first_steps(world, env, 3, seed=5)
    assert first.seeds == [5, 6, 7] and first.elapsed.tolist() == [0, 0, 0]
    recorded = recorded_starts(world, 20, seed=5)
    picks = [next(k for k in range(5) if torch.equal(world.starts.codes[k], codes)) for codes in recorded.starts.codes]
    assert len(set(picks)) > 2
    assert all(torch.equal(recorded.starts.signals[i], world.starts.signals[k]) for i, k in enumerate(picks))
    bare = tiny_world()
    bare.starts = None
    with pytest.raises(ValueError, match="no recorded starts"):
        recorded_starts(bare, 2, 0)
