"""Saved agents: files, what they hold, and how they play."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecTransposeImage

from tests.agents.trained import META, dreams, small
from tests.tiny import tiny_world
from tests.toy_game import ToyGame, toys
from worldmodel.agents.sb3.agent import Agent, load_agent, save_agent
from worldmodel.agents.sb3.train import load_ppo, train_ppo
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.envs.wrappers import ThreadVectorEnv

# --- files -----------------------------------------------------------------------------------------------------------


def test_a_loaded_agent_acts_as_the_one_that_was_saved(trained):
    model, config, folder = trained
    saved, loaded = Agent.of(model, config, META), load_agent(folder)
    assert loaded.meta == META and loaded.file.training == config
    envs = toys()
    observations = envs.reset(seed=0)[0]
    for _ in range(5):
        actions = saved.act(observations)
        np.testing.assert_array_equal(loaded.act(observations), actions)
        observations = envs.step(actions)[0]


def test_training_continues_from_a_saved_agent(trained):
    model, _, folder = trained
    again = load_ppo(folder, toys())
    for one, other in zip(again.policy.parameters(), model.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    again.learn(16)
    assert any(
        not torch.equal(one, other)
        for one, other in zip(again.policy.parameters(), model.policy.parameters(), strict=True)
    )


def test_an_agent_to_start_from_must_fit_the_envs_and_the_config(trained):
    run = trained[2].parent
    assert load_ppo(run, toys()).num_timesteps == 0
    for envs, config, message in (
        (
            dreams("latent"),
            None,
            r"needs uint8 of shape \(16, 16, 3\), but these envs have float32 of shape \(2, 2, 8\)",
        ),
        (ThreadVectorEnv(Pointing, 4), None, "these envs differ in their actions: one of .*, 2 dimensions"),
        (toys(), small(frame_stack=1), "was trained with frame_stack=3, but the config has 1"),
        (toys(), small(frame_stack=3, channels=8), "was trained with channels=4, but the config has 8"),
    ):
        with pytest.raises(ValueError, match=message):
            load_ppo(run, envs, config)


@pytest.mark.parametrize("steps", [-1, 10_000_000, 1])  # the last without an agent that was trained for it
def test_earlier_steps_that_leave_nothing_or_belong_to_no_agent_are_refused(tmp_path, trained, steps):
    start = None if steps == 1 else trained[2].parent
    with pytest.raises(ValueError, match=r"earlier_steps must be 0, or with start_from below the \d+ steps"):
        train_ppo(toys(), small(frame_stack=3), tmp_path / "other", META, start_from=start, earlier_steps=steps)
    assert not (tmp_path / "other").exists()


def test_an_agent_keeps_the_names_of_its_actions(tmp_path, trained):
    train_ppo(dreams("latent"), small(), tmp_path / "dream")
    assert load_agent(tmp_path / "dream").action_spec == tiny_world().config.action
    assert load_agent(trained[2]).action_spec.names == ()  # the toy game has none


def test_a_saved_agent_holds_no_pickle(trained):
    names = {"config.json", "model.safetensors", "README.md", "SHA256SUMS"}
    assert {path.name for path in trained[2].iterdir()} == names


def edit_json(change):
    def edit(folder):
        data = json.loads((folder / "config.json").read_text())
        change(data)
        (folder / "config.json").write_text(json.dumps(data))

    return edit


def edit_tensors(change):
    def edit(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_json(lambda data: data.update(format_version=99)), "format version 99"),
        (edit_json(lambda data: data.update(kind="world_model")), "holds a world model, wanted an agent"),
        (edit_json(lambda data: data.update(colour="red")), "colour"),
        (edit_json(lambda data: data["training"].update(gamma=2)), "training.gamma must be at most 1, got 2"),
        (edit_json(lambda data: data["training"].update(frame_stack=2)), "features.convs.0.weight has shape"),
        (edit_tensors(lambda tensors: tensors.pop("action.weight")), "missing action.weight"),
        (edit_tensors(lambda tensors: tensors.update(extra=torch.zeros(1))), "unknown extra"),
        (edit_tensors(lambda tensors: tensors.update({"value.bias": torch.zeros(2)})), "value.bias has shape"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(trained, edit, message):
    edit(trained[2])
    with pytest.raises(ValueError, match=message):
        load_agent(trained[2])


def test_a_folder_without_an_agent_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a checkpoint folder"):
        load_agent(tmp_path)


# --- play ------------------------------------------------------------------------------------------------------------


def test_the_agent_stacks_frames_as_stable_baselines3_does(trained):
    """Through episode ends: its likeliest actions are those of PPO on a VecFrameStack."""
    model, _, folder = trained
    agent = load_agent(folder)
    stacked = VecTransposeImage(VecFrameStack(VecMonitor(SB3VecEnv(toys(3))), 3))
    plain = SB3VecEnv(toys(3))
    stacked.seed(0), plain.seed(0)
    seen, observations = stacked.reset(), plain.reset()
    for _ in range(12):
        actions = agent.act(observations, deterministic=True)
        np.testing.assert_array_equal(np.moveaxis(agent._stack, -1, 1), seen)
        np.testing.assert_array_equal(actions, model.predict(seen, deterministic=True)[0])
        seen, observations, dones = stacked.step(actions)[0], *plain.step(actions)[::2]
        agent.reset(np.flatnonzero(dones))


def test_an_agents_draws_are_decided_by_its_rows_seed(trained):
    observations = toys(3).reset(seed=0)[0]
    draws = []
    for rows in ([0, 1, 2], [2, 0, 1]):
        agent = load_agent(trained[2], seed=9)
        agent.seed_rows(np.array(rows), [10 + row for row in rows])
        draws.append([agent.act(observations) for _ in range(5)])
    np.testing.assert_array_equal(*draws)
    other = load_agent(trained[2], seed=10)
    assert not np.array_equal([other.act(observations) for _ in range(5)], draws[0])


def test_draws_follow_the_policys_odds(trained):
    agent = load_agent(trained[2])
    with torch.no_grad():
        agent.policy.action_net.weight.zero_()
        agent.policy.action_net.bias.copy_(torch.tensor([0.7, 0.2, 0.1]).log())
    observations = np.zeros((2000, 16, 16, 3), np.uint8)
    counts = np.bincount(agent.act(observations), minlength=3)
    np.testing.assert_allclose(counts / 2000, [0.7, 0.2, 0.1], atol=0.04)
    agent.reset()
    assert agent.act(observations[:5], deterministic=True).tolist() == [0] * 5


def test_observations_of_the_wrong_kind_are_refused(trained):
    agent = load_agent(trained[2])
    with pytest.raises(ValueError, match=r"needs uint8 of shape \(n, 16, 16, 3\), got float32"):
        agent.act(np.zeros((2, 16, 16, 3), np.float32))
    agent.act(np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"plays 2 envs, got 3 observations; call reset\(\) first"):
        agent.act(np.zeros((3, 16, 16, 3), np.uint8))
    agent.reset()
    assert len(agent.act(np.zeros((3, 16, 16, 3), np.uint8))) == 3


class Pointing(ToyGame):
    """An action of two dimensions."""

    def __init__(self):
        super().__init__()
        self.action_space = gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 2]))


def test_continuous_actions_stay_within_their_bounds_and_are_saved(tmp_path):
    config = small()
    model = train_ppo(ThreadVectorEnv(Pointing, 4), config, tmp_path)
    agent, saved = load_agent(tmp_path / "agent"), Agent.of(model, config)
    with torch.no_grad():
        for policy in (agent.policy, saved.policy):
            policy.log_std.fill_(1.0)
    observations = Pointing().reset(seed=0)[0][None].repeat(50, axis=0)
    actions = agent.act(observations)
    assert actions.dtype == np.float32 and actions.shape == (50, 2)
    assert (actions.min(0) == [-1, 0]).all() and (actions.max(0) == [1, 2]).all() and len(np.unique(actions)) > 20
    np.testing.assert_array_equal(saved.act(observations), actions)
    save_agent(model, tmp_path / "again", config, META)
    assert load_file(tmp_path / "again" / "model.safetensors")["scale.log_std"].tolist() == [1.0, 1.0]
