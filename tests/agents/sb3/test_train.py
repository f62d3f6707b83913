import json
import random
import threading

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize

from tests.agents.trained import META, dreams, small
from tests.tiny import tiny_world
from tests.toy_game import BoundGame, ToyGame, seeing_world, toys
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3 import networks as sb3_policy
from worldmodel.agents.sb3.agent import Agent, load_agent
from worldmodel.agents.sb3.config import REAL_GAME, AgentMeta
from worldmodel.agents.sb3.networks import GridFeatures, policy_for
from worldmodel.agents.sb3.train import is_trained, train_policy, train_ppo
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.data import ActionSpec
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.files import write_json
from worldmodel.locks import only_process

# --- training --------------------------------------------------------------------------------------------------------


def test_ppo_learns_to_earn_reward(tmp_path):
    """A colour shows the right action."""
    sizes = {"num_envs": 16, "n_steps": 16, "batch_size": 64, "n_epochs": 4, "features_dim": 64, "channels": 16}
    config = small(steps=3000, learning_rate=2e-3, gamma=0.0, frame_stack=1, **sizes)
    model = train_ppo(toys(16), config, tmp_path)
    envs, agent = SB3VecEnv(toys(16)), Agent.of(model, config)
    envs.seed(100)
    observations, earned = envs.reset(), []
    for _ in range(40):
        observations, rewards, dones, _ = envs.step(agent.act(observations))
        agent.reset(np.flatnonzero(dones))
        earned.append(rewards)
    assert np.mean(earned) > 5.5  # random: 3.3; always right: 10


@pytest.mark.parametrize("obs", ["rgb", "latent", "features"])
def test_an_agent_trains_in_a_dream(tmp_path, obs):
    config, meta = small(frame_stack=2), AgentMeta(view=obs, world_model="doom-hg")
    model = train_ppo(dreams(obs), config, tmp_path, meta)
    agent, saved = load_agent(tmp_path / "agent"), Agent.of(model, config, meta)
    assert agent.obs == obs and agent.file.pixels == (obs == "rgb")
    envs = dreams(obs)
    observations = envs.reset(seed=0)[0]
    for _ in range(3):
        actions = agent.act(observations)
        np.testing.assert_array_equal(actions, saved.act(observations))
        observations = envs.step(actions)[0]


@pytest.mark.parametrize("obs", ["features", pytest.param("latent", marks=pytest.mark.slow)])
def test_ppo_improves_in_a_tiny_dream(tmp_path, obs):
    """The rewards of random weights depend on the action and the observation: no single action is as good."""
    sizes = {"num_envs": 64, "n_steps": 8, "batch_size": 128, "n_epochs": 4, "features_dim": 64, "channels": 16}
    config = small(steps=4096, learning_rate=2e-3, gamma=0.5, **sizes)
    train_ppo(dreams(obs, 64, horizon=8), config, tmp_path)

    def mean_reward(act):
        envs = dreams(obs, 64, horizon=8)
        observations, earned = envs.reset(seed=100)[0], []
        for _ in range(24):
            observations, rewards, *_ = envs.step(act(observations))
            earned.append(rewards)
        return np.mean(earned)

    agent, rng = load_agent(tmp_path / "agent"), np.random.default_rng(0)
    learned = mean_reward(lambda observations: agent.act(observations, deterministic=True))
    assert learned > mean_reward(lambda _: rng.integers(3, size=64)) + 0.15
    assert learned > max(mean_reward(lambda _, held=action: np.full(64, held)) for action in range(3))


def test_large_grids_get_a_layer_per_cell():
    for depth, extractor in ((256, FlattenExtractor), (257, GridFeatures)):
        space = gym.spaces.Box(-np.inf, np.inf, (4, 4, depth), np.float32)
        policy, options = policy_for(space, small())
        built = policy(space, gym.spaces.Discrete(3), lambda _: 1e-3, **options)
        assert type(built.features_extractor) is extractor


def test_the_size_that_counts_is_that_of_the_stack_in_training_and_in_loading(tmp_path, monkeypatch):
    space = dreams("latent").single_observation_space
    monkeypatch.setattr(sb3_policy, "PLAIN_LIMIT", int(np.prod(space.shape)))  # one step is within it, two are not
    model = train_ppo(dreams("latent"), small(frame_stack=2), tmp_path, AgentMeta(view="latent", world_model="doom-hg"))
    assert type(model.policy.features_extractor) is GridFeatures
    assert type(load_agent(tmp_path / "agent").policy.features_extractor) is GridFeatures


def test_a_grid_policy_shares_its_first_layer_between_cells():
    space = gym.spaces.Box(-np.inf, np.inf, (2, 3, 5), np.float32)
    extractor = GridFeatures(space, channels=4)
    vectors = torch.randn(7, 2, 3, 5)
    seen = extractor(vectors).unflatten(-1, (2, 3, 4))
    torch.testing.assert_close(extractor(vectors.roll(1, 2)).unflatten(-1, (2, 3, 4)), seen.roll(1, 2))
    assert extractor.features_dim == 24 and sum(p.numel() for p in extractor.parameters()) == 5 * 4 + 4


def test_codes_are_refused_as_input(tmp_path):
    with pytest.raises(ValueError, match="Codes are labels"):
        train_ppo(DreamVectorEnv(4, tiny_world(), obs="codes"), small(), tmp_path)


def test_the_config_and_the_env_must_agree_on_the_number_of_rows(tmp_path):
    with pytest.raises(ValueError, match="num_envs=4, the env has 2"):
        train_ppo(toys(2), small(), tmp_path)


def test_the_same_seed_trains_the_same_agent_and_leaves_the_global_generators_alone(tmp_path):
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    weights = []
    for run, seed in enumerate((3, 3, 4)):
        train_ppo(toys(), small(seed=seed, steps=32), tmp_path / str(run))
        weights.append(load_file(tmp_path / str(run) / "agent" / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    after = random.getstate(), np.random.get_state()[1], torch.get_rng_state()
    assert before[0] == after[0] and np.array_equal(before[1], after[1]) and torch.equal(before[2], after[2])


def test_every_update_leaves_a_loadable_agent_and_may_be_the_last(tmp_path):
    seen = []

    def on_rollout(model):
        seen.append(model.num_timesteps)
        load_agent(tmp_path / "agent")
        return len(seen) < 2

    model = train_ppo(toys(), small(steps=160), tmp_path, on_rollout=on_rollout)
    assert seen == [16, 32] and model.num_timesteps < 48


def test_a_stopped_training_does_not_count_as_finished(tmp_path):
    train_ppo(toys(), small(steps=160), tmp_path / "stopped", META, on_rollout=lambda _: False)
    assert not is_trained(tmp_path / "stopped", small(steps=160), META)
    assert json.loads((tmp_path / "stopped" / "config.json").read_text())["stopped_after"] == 16
    train_ppo(toys(), small(steps=16), tmp_path / "whole", META, on_rollout=lambda _: False)  # nothing was left to stop
    assert is_trained(tmp_path / "whole", small(steps=16), META)


def test_a_refused_training_leaves_no_run_behind(tmp_path, trained):
    wrong = [
        (dreams("codes"), small(), None),
        (toys(2), small(), None),
        (dreams("latent"), small(), trained[2]),
        (toys(), small(frame_stack=3, features_dim=8), trained[2]),
    ]
    for envs, config, start in wrong:
        with pytest.raises(
            ValueError, match=r"Codes are labels|num_envs=4|the agent in .* (needs uint8|features_dim=16)"
        ):
            train_ppo(envs, config, tmp_path / "new", META, start_from=start)
    assert not (tmp_path / "new").exists()
    train_ppo(toys(), small(), tmp_path / "new", META)


@pytest.mark.parametrize(
    "wrap",
    [VecNormalize, lambda envs: VecFrameStack(envs, 2), lambda envs: VecMonitor(VecFrameStack(envs, 2))],
)
def test_wrappers_that_a_saved_agent_would_lack_are_refused(tmp_path, wrap):
    with pytest.raises(ValueError, match=r"changes observations.*config's frame_stack"):
        train_ppo(wrap(SB3VecEnv(dreams("latent"))), small(), tmp_path)
    train_ppo(VecNormalize(VecMonitor(SB3VecEnv(dreams("latent"))), norm_obs=False), small(), tmp_path)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_folder_is_never_trained_into_twice(tmp_path):
    train_ppo(toys(), small(), tmp_path, META)
    before = content(tmp_path)
    assert is_trained(tmp_path, small(), META) and not is_trained(tmp_path / "new", small(), META)
    with pytest.raises(ValueError, match="already holds this agent, finished"):
        train_ppo(toys(), small(), tmp_path, META)
    others = (small(seed=1), None, "seed is 0 there, 1 here"), (small(), {"horizon": 7}, "horizon is not set there, 7")
    for config, about, differs in others:
        with pytest.raises(ValueError, match=rf"an agent with other settings \({differs}.*\); use another --out"):
            train_ppo(toys(), config, tmp_path, META, about=about)
    assert content(tmp_path) == before


def test_an_interrupted_training_does_not_count_as_finished(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ppo(toys(), small(steps=32), tmp_path, META, on_rollout=stop)
    load_agent(tmp_path / "agent")
    assert not is_trained(tmp_path, small(steps=32), META)


def test_a_finished_policy_is_kept(tmp_path, monkeypatch, capsys):
    gym.register("Toy-kept", entry_point=ToyGame)
    folder = train_policy("Toy-kept", tmp_path, small(steps=16))
    before = content(tmp_path)
    assert train_policy("Toy-kept", tmp_path, small(steps=16)) == folder
    assert "has its 16 steps already" in capsys.readouterr().out and content(tmp_path) == before
    with pytest.raises(ValueError, match="other settings"):
        train_policy("Toy-kept", tmp_path, small(steps=32))
    del gym.registry["Toy-kept"]


def test_an_agent_names_the_world_of_its_view(tmp_path):
    world = tiny_world().save_pretrained(tmp_path / "world")
    for view, meta in (("raw", AgentMeta()), ("dream", AgentMeta(view="rgb", world_model=str(world)))):
        train_ppo(toys(), small(), tmp_path / view, meta)
    raw, dream = (load_agent(tmp_path / view / "agent") for view in ("raw", "dream"))
    assert raw.view() is None and dream.view() == (world, "rgb")
    with pytest.raises(ValueError, match="omit world"):
        raw.view(world)
    moved = world.rename(tmp_path / "moved")
    assert dream.view(moved) == (moved, "rgb")
    with pytest.raises(FileNotFoundError, match=r"pass --world"):
        dream.view()


def test_a_run_folder_holds_config_and_metrics(tmp_path):
    train_ppo(toys(), small(steps=48), tmp_path, META)
    assert json.loads((tmp_path / "config.json").read_text())["meta"]["world_model"] == "doom-hg"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and lines[-1]["time/total_timesteps"] == 48 and "rollout/ep_rew_mean" in lines[-1]
    assert list(tmp_path.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("game", [ToyGame, BoundGame])
def test_train_policy_plays_the_real_game(game, tmp_path):
    gym.register("SB3Toy-v0", entry_point=game)
    try:
        folder = train_policy("SB3Toy-v0", tmp_path, small(steps=16, frame_stack=4))
    finally:
        del gym.registry["SB3Toy-v0"]
    agent = load_agent(folder)
    assert agent.meta == AgentMeta(env_id="SB3Toy-v0", view="real")
    assert agent.file.training.steps == 16 and agent.file.training.frame_stack == 4


@pytest.mark.parametrize("obs", ["latent", "features"])
def test_train_policy_sees_the_real_game_through_a_world(tmp_path, obs):
    world = seeing_world()
    folder = world.save_pretrained(tmp_path / "world")
    gym.register("SB3Toy-v0", entry_point=ToyGame)
    try:
        agent = load_agent(train_policy("SB3Toy-v0", tmp_path / "run", small(steps=16), world=folder, obs=obs))
        result = evaluate(agent, "SB3Toy-v0", episodes=2, view=(world, obs))
        with pytest.raises(ValueError, match=r"world_sha256|view"):
            train_policy("SB3Toy-v0", tmp_path / "run", small(steps=16))
    finally:
        del gym.registry["SB3Toy-v0"]
    assert agent.meta == AgentMeta(env_id="SB3Toy-v0", view=obs, world_model=str(folder))
    assert agent.file.observation_shape == DreamVectorEnv(1, world, obs=obs).single_observation_space.shape
    assert len(result.lengths) == 2 and agent.view() == (folder, obs)


def test_train_policy_refuses_obs_without_a_world(tmp_path):
    with pytest.raises(ValueError, match="got 'latent' without one; give world, or no obs"):
        train_policy("SB3Toy-v0", tmp_path / "run", small(steps=16), obs="latent")
    assert not (tmp_path / "run").exists()


class FourActions(ToyGame):
    def __init__(self):
        super().__init__()
        self.action_space, self.action_spec = gym.spaces.Discrete(4), ActionSpec(kind="discrete", n=4)


def test_train_policy_refuses_a_world_with_other_actions(tmp_path):
    folder = seeing_world().save_pretrained(tmp_path / "world")
    gym.register("SB3Toy-v0", entry_point=FourActions)
    try:
        with pytest.raises(ValueError, match=r"SB3Toy-v0 and the world .* differ in their actions"):
            train_policy("SB3Toy-v0", tmp_path / "run", small(steps=16), world=folder)
    finally:
        del gym.registry["SB3Toy-v0"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, "batch_size must divide a rollout"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"gamma": 1.1}, "gamma must be at most 1, got 1.1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_the_recipe_for_real_games_is_valid():
    assert REAL_GAME.rollout == 1024


@pytest.mark.parametrize("name", ["data/metadata.json", "thesis.txt"])
def test_a_folder_that_holds_something_else_is_refused_and_not_changed(tmp_path, name):
    write_json(tmp_path / name, "precious")
    with pytest.raises(ValueError, match="something else; use another --out"):
        train_ppo(toys(), small(), tmp_path, META)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_folder_in_which_another_agent_is_trained_is_refused(tmp_path):
    def train_another(_):
        thread = threading.Thread(target=try_to_train)
        thread.start()
        thread.join()

    def try_to_train():
        try:
            with only_process(tmp_path, "training"):
                found.append("free")
        except ValueError as error:
            found.append(str(error))

    found: list[str] = []
    train_ppo(toys(), small(steps=16), tmp_path, META, on_rollout=train_another)
    assert found and all("another training is running" in each for each in found)
