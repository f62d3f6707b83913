"""Recordings with an action per frame: an agent chooses one, and its dream holds it for all frames of a step."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.tiny import tiny_config
from worldmodel.agents.planner.config import PlannerConfig
from worldmodel.agents.planner.planner import Planner
from worldmodel.data import ActionSpec
from worldmodel.envs import DreamVectorEnv
from worldmodel.model import Starts, WorldModel

FRAME = ActionSpec(kind="box", n=2, names=("x", "y"), low=(-1.0, 0.0), high=(1.0, 2.0))
WHOLE = ActionSpec(
    kind="box", n=4, names=("x_0", "y_0", "x_1", "y_1"), low=FRAME.low * 2, high=FRAME.high * 2, frames=2
)


def world(action, **dynamics):
    """The same weights for any names of the actions."""
    torch.manual_seed(0)
    config = tiny_config()
    config = dataclasses.replace(config, action=action, dynamics=dataclasses.replace(config.dynamics, **dynamics))
    made = WorldModel(config)
    h, w = made.tokenizer.grid
    made.starts = Starts(torch.randint(16, (4, 3, h, w, 2)), torch.rand(4, 2, 4), torch.rand(4, 3, 1))
    return made.prepare(torch.float32)


def some_actions(*lead, seed=0):
    return np.random.default_rng(seed).uniform(FRAME.low, FRAME.high, (*lead, 2)).astype(np.float32)


def twice(actions):
    return np.concatenate((actions, actions), axis=-1)


def test_an_agent_chooses_the_action_of_one_frame():
    assert WHOLE.held == FRAME and FRAME.held is FRAME
    actions = torch.from_numpy(some_actions(3, 5))
    assert torch.equal(WHOLE.hold(actions), torch.from_numpy(twice(actions.numpy())))
    assert FRAME.hold(actions) is actions
    WHOLE.check(WHOLE.hold(actions[0]).numpy())


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"frames": 3}, {"kind": "discrete", "low": (), "high": (), "frames": 2}]
)
def test_the_dimensions_must_divide_evenly_among_the_frames(wrong):
    with pytest.raises(ValueError, match=r"frames must be (1, or for a box a divisor of its n|at least 1), got"):
        dataclasses.replace(WHOLE, **wrong)


@pytest.mark.parametrize("action", [FRAME, WHOLE], ids=["one frame", "held"])
def test_a_dream_can_begin_with_one_step_made_from_nothing(action):
    made = world(action, learn_start=True)
    codes, actions, signals, _ = made.starts
    made.starts = Starts(codes[:, :1], actions[:, :0, : action.n], signals[:, :1])
    envs = DreamVectorEnv(3, made, "codes", seed_from="prior")
    observations, _ = envs.reset(seed=0)
    assert (envs.step(some_actions(3))[0] != observations).any()


def test_a_dream_holds_the_action_for_the_step():
    held = DreamVectorEnv(3, world(WHOLE), "codes")
    plain = DreamVectorEnv(3, world(dataclasses.replace(WHOLE, frames=1)), "codes")
    assert held.single_action_space == gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 2]))
    assert plain.single_action_space.shape == (4,)
    assert np.array_equal(held.reset(seed=1)[0], plain.reset(seed=1)[0])
    for t in range(4):
        actions = some_actions(3, seed=t)
        futures = some_actions(3, 2, 3, seed=t)
        assert torch.equal(held.imagine(futures).codes, plain.imagine(twice(futures)).codes)
        for one, other in zip(held.step(actions)[:4], plain.step(twice(actions))[:4], strict=True):
            assert np.array_equal(one, other)


def test_a_reward_function_gets_the_agents_action():
    seen = []
    envs = DreamVectorEnv(3, world(WHOLE), "codes", reward_fn=lambda step: seen.append(step.actions) or step.reward)
    envs.reset(seed=1)
    envs.step(some_actions(3))
    assert torch.equal(seen[0], torch.from_numpy(some_actions(3)))


def test_given_frames_take_actions_of_frames_or_of_steps(monkeypatch):
    frames = np.random.default_rng(0).integers(256, size=(3, 2, 16, 16, 3), dtype=np.uint8)
    envs, actions, passed = DreamVectorEnv(2, world(WHOLE), "codes"), some_actions(2), []
    start = envs.model.start_codes
    monkeypatch.setattr(
        envs.model, "start_codes", lambda codes, acts, *rest, **k: passed.append(acts) or start(codes, acts, *rest, **k)
    )
    for given in (actions, twice(actions)):
        envs.reset(seed=1, options={"frames": frames, "actions": given})
    assert torch.equal(passed[0], passed[1]) and torch.equal(passed[0][0], torch.from_numpy(twice(actions)))


def test_dreams_from_nothing_hold_their_actions_too():
    envs = DreamVectorEnv(2, world(WHOLE, learn_start=True, drop_actions=0.1), "codes", seed_from="prior")
    one, other = (envs.reset(seed=1)[0] for _ in range(2))
    assert np.array_equal(one, other)


def test_a_planner_chooses_one_frames_action():
    planner = Planner(world(WHOLE), PlannerConfig(horizon=3, candidates=8, iterations=2, elites=2))
    plain = DreamVectorEnv(2, world(WHOLE), "codes")
    observations, _ = plain.reset(seed=1)
    for _ in range(3):
        actions = planner.act(observations)
        assert actions.shape == (2, 2)
        observations = plain.step(actions)[0]


def test_one_image_is_repeated_as_at_a_reset():
    picture = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    envs = DreamVectorEnv(2, world(WHOLE), "codes")
    one = envs.reset(seed=1, options={"frames": picture})[0]
    each = envs.reset(seed=1, options={"frames": np.stack((picture, picture))})[0]
    whole = envs.reset(seed=1, options={"frames": np.stack((picture, picture))[None]})[0]
    assert np.array_equal(one, whole) and np.array_equal(each, whole)
