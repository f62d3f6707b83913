from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame
from worldmodel.data import ActionSpec
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.envs.dream_env import DreamEnv
from worldmodel.model import WorldModel
from worldmodel.training.game_starts import begin_in_game, open_game

GAME = "StartsToy-v0"


@pytest.fixture(autouse=True)
def registered():
    gym.register(GAME, entry_point=ToyGame)
    yield
    del gym.registry[GAME]


def first_frames(seed):
    return torch.from_numpy(ToyGame().reset(seed=seed)[1]["frames"])[None, None]


def test_start_i_is_the_first_step_of_the_episode_with_seed_plus_i(world):
    before = world.starts
    with open_game(world, GAME) as env:
        dream = begin_in_game(world, env, count=4, seed=30)
    for i in range(4):
        assert torch.equal(dream.starts.codes[i], world.tokenizer.encode(first_frames(30 + i))[0])
        game = ToyGame()
        assert dream.starts.signals[i, 0, 0] == game.reset(seed=30 + i)[1]["HEALTH"]
    assert dream.starts.actions.shape == (4, 0)
    dream.starts.check(dream)
    assert world.starts is before and dream.tokenizer is world.tokenizer  # the weights are shared, the starts are not


def test_a_dream_begins_with_what_the_game_shows_first(world):
    with open_game(world, GAME) as env:
        dream = DreamEnv(begin_in_game(world, env, count=1, seed=7), horizon=3)
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


def test_a_game_that_tells_too_little_is_refused(world):
    class Silent(ToyGame):
        missing = "frames"

        def reset(self, *, seed=None, options=None):
            observation, info = super().reset(seed=seed)
            del info[self.missing]
            return observation, info

    gym.registry[GAME].entry_point = Silent
    for Silent.missing in ("frames", "HEALTH"):
        with open_game(world, GAME) as env, pytest.raises(ValueError, match=rf"needs info\['{Silent.missing}'\]"):
            begin_in_game(world, env, 2, seed=0)


def test_a_game_of_another_size_is_refused():
    config = tiny_config()
    world = WorldModel(replace(config, tokenizer=replace(config.tokenizer, width=32))).prepare()
    with open_game(world, GAME) as env, pytest.raises(ValueError, match=r"\(2, 16, 32, 3\).*shows \(2, 16, 16, 3\)"):
        begin_in_game(world, env, 2, seed=0)


def test_a_model_that_wants_more_first_steps_than_the_game_shows_is_refused():
    world = tiny_world(frame_condition=2, frame_encoder=FrameEncoderConfig(width=4, depths=(1,)))
    with open_game(world, GAME) as env, pytest.raises(ValueError, match="--starts recorded"):
        begin_in_game(world, env, 2, seed=0)
