"""An agent's exported policy sees and prefers what the agent does."""

import numpy as np
import onnxruntime
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel import checkpoint
from worldmodel.agents.sb3.agent import Agent, _fresh_policy
from worldmodel.agents.sb3.config import AgentConfig, AgentFile, AgentMeta
from worldmodel.agents.sb3.networks import policy_parts
from worldmodel.data import ActionSpec
from worldmodel.envs import DreamEnv
from worldmodel.envs.spaces import observation_space
from worldmodel.layers import precision
from worldmodel.model import WorldModel
from worldmodel.training.show.web.agent import Acting, agent_graph, open_agent


def save_fresh(world: WorldModel, folder, obs: str, action: ActionSpec | None = None, **training) -> None:
    """An agent that has learned nothing yet, for the dreams of a world."""
    space = observation_space(world, obs)
    config = AgentConfig(features_dim=16, channels=4, **training)
    meta = AgentMeta(view=obs, world_model="gone")
    file = AgentFile(
        observation_shape=space.shape,
        pixels=space.dtype == np.uint8,
        action=action or world.config.action,
        training=config,
        meta=meta,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        policy = _fresh_policy(file)
        for parameter in policy.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    checkpoint.save(folder, "agent", file, policy_parts(policy), card="")


@pytest.fixture(scope="module")
def world():
    return tiny_world()


def odds_of(agent: Agent) -> np.ndarray:
    """Of the observations on its stack."""
    seen = np.moveaxis(agent._stack, -1, 1) if agent.file.pixels else agent._stack
    with torch.inference_mode():
        return agent.policy.get_distribution(torch.from_numpy(np.ascontiguousarray(seen))).distribution.probs[0].numpy()


@pytest.mark.parametrize(
    ("obs", "training"),
    [
        ("features", {}),
        ("latent", {"frame_stack": 3}),
        ("latent", {"frame_stack": 2, "previous_action": True}),
        ("rgb", {"frame_stack": 2, "previous_action": True}),
    ],
)
@torch.inference_mode()
def test_its_odds_are_the_agents_at_every_step_of_a_dream(world, tmp_path, monkeypatch, obs, training):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: False)  # the page computes in float32
    save_fresh(world, tmp_path, obs, **training)
    agent = open_agent(tmp_path, world)
    acting, env = Acting(agent, world), DreamEnv(world, obs)
    observation, _ = env.reset(seed=0)
    stack, last, saw = agent.file.training.frame_stack, torch.zeros(3), []
    for step in range(5):
        action = agent.act(observation[None])[0]
        state = env.state
        frames = world.tokenizer.decode(state.codes[:, None])[0, 0]
        codes = state.codes[0].flatten(0, 1).int()
        shape = (*observation.shape[:2], observation.shape[2] + 3 * agent.file.training.previous_action)
        past = torch.stack([torch.zeros(shape)] * stack + saw)[len(saw) + 1 :]
        odds, seen = acting(codes, state.outputs[0], frames, last, torch.tensor(float(step > 0)), past)
        np.testing.assert_allclose(odds, odds_of(agent), rtol=1e-4, atol=1e-6)
        saw.append(seen)
        observation = env.step(action)[0]
        last = torch.eye(3)[action]


def test_the_graph_computes_the_function_with_weights_of_half_size(world, tmp_path):
    save_fresh(world, tmp_path, "features", frame_stack=2)
    agent = open_agent(tmp_path, world)
    session = onnxruntime.InferenceSession(agent_graph(agent, world))
    generator = np.random.default_rng(0)
    inputs = {
        "codes": generator.integers(16, size=(world.dynamics.tokens_per_step, 2)).astype(np.int32),
        "outputs": generator.normal(size=(world.dynamics.tokens_per_step, 16)).astype(np.float32),
        "frames": np.zeros((2, 16, 16, 3), np.uint8),
        "last": np.zeros(3, np.float32),
        "begun": np.float32(1),
        "past": generator.normal(size=(1, *agent.file.observation_shape)).astype(np.float32),
    }
    with torch.inference_mode():
        wanted = Acting(agent, world)(*(torch.as_tensor(value) for value in inputs.values()))
    found = session.run(None, {i.name: np.asarray(inputs[i.name]) for i in session.get_inputs()})
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_agents_that_hold_actions_or_are_of_other_games_are_refused(world, tmp_path):
    save_fresh(world, tmp_path / "holding", "features", durations=(1, 2))
    with pytest.raises(ValueError, match="chooses for how long it holds an action"):
        open_agent(tmp_path / "holding", world)
    save_fresh(world, tmp_path / "other", "features", ActionSpec(kind="discrete", n=5))
    with pytest.raises(ValueError, match=r"one of 5 actions, .*one of 3 actions"):
        open_agent(tmp_path / "other", world)
