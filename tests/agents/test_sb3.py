import json
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize, VecTransposeImage

from tests.tiny import tiny_world
from tests.toy_game import ToyGame, toys
from worldmodel.agents import sb3_policy
from worldmodel.agents.sb3 import is_trained, load_ppo, train_policy, train_ppo
from worldmodel.agents.sb3_agent import Agent, load_agent, save_agent
from worldmodel.agents.sb3_config import REAL_GAME, AgentConfig, AgentMeta
from worldmodel.agents.sb3_env import SB3VecEnv
from worldmodel.agents.sb3_policy import GridFeatures, policy_for
from worldmodel.envs.dream_vector_env import DreamVectorEnv
from worldmodel.envs.wrappers import ThreadVectorEnv

META = AgentMeta(env_id="Toy", view="rgb", world_model="doom-hg")


def small(**changes):
    sizes = {
        "steps": 16,
        "num_envs": 4,
        "n_steps": 4,
        "batch_size": 8,
        "n_epochs": 1,
        "features_dim": 16,
        "channels": 4,
    }
    return AgentConfig(**sizes | changes)


@pytest.fixture
def trained(tmp_path):
    """A model, its config, and the folder it was saved to."""
    config = small(frame_stack=3)
    return train_ppo(toys(), config, tmp_path / "run", META), config, tmp_path / "run" / "agent"


# --- training --------------------------------------------------------------------------------------------------------


def test_ppo_learns_what_earns_reward(tmp_path):
    """A colour tells the right action."""
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


def dreams(obs, num_envs=4, horizon=3):
    return DreamVectorEnv(num_envs, tiny_world(2), obs=obs, horizon=horizon)


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


@pytest.mark.parametrize("obs", ["latent", "features"])
def test_ppo_improves_in_a_tiny_dream(tmp_path, obs):
    """Random weights dream rewards that depend on the action and on what is seen: no one action is as good."""
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


def test_large_grids_are_seen_place_by_place():
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


def test_a_grids_policy_gives_every_place_the_same_first_layer():
    space = gym.spaces.Box(-np.inf, np.inf, (2, 3, 5), np.float32)
    extractor = GridFeatures(space, channels=4)
    vectors = torch.randn(7, 2, 3, 5)
    seen = extractor(vectors).unflatten(-1, (2, 3, 4))
    torch.testing.assert_close(extractor(vectors.roll(1, 2)).unflatten(-1, (2, 3, 4)), seen.roll(1, 2))
    assert extractor.features_dim == 24 and sum(p.numel() for p in extractor.parameters()) == 5 * 4 + 4


def test_codes_are_refused_as_input(tmp_path):
    with pytest.raises(ValueError, match="Codes are names"):
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


def test_a_training_that_was_stopped_is_not_taken_for_a_finished_one(tmp_path):
    train_ppo(toys(), small(steps=160), tmp_path / "stopped", META, on_rollout=lambda _: False)
    with pytest.raises(ValueError, match="training was stopped after 16 steps"):
        is_trained(tmp_path / "stopped", small(steps=160), META)
    train_ppo(toys(), small(steps=16), tmp_path / "whole", META, on_rollout=lambda _: False)  # nothing was left to stop
    assert is_trained(tmp_path / "whole", small(steps=16), META)


def test_what_cannot_be_trained_leaves_no_run_behind(tmp_path, trained):
    wrong = [
        (dreams("codes"), small(), None),
        (toys(2), small(), None),
        (dreams("latent"), small(), trained[2]),
        (toys(), small(frame_stack=3, features_dim=8), trained[2]),
    ]
    for envs, config, start in wrong:
        with pytest.raises(
            ValueError, match=r"Codes are names|num_envs=4|the agent in .* (sees uint8|features_dim=16)"
        ):
            train_ppo(envs, config, tmp_path / "new", META, start_from=start)
    assert not (tmp_path / "new").exists()
    train_ppo(toys(), small(), tmp_path / "new", META)


@pytest.mark.parametrize(
    "wrap",
    [VecNormalize, lambda envs: VecFrameStack(envs, 2), lambda envs: VecMonitor(VecFrameStack(envs, 2))],
)
def test_wrappers_that_a_saved_agent_would_not_know_of_are_refused(tmp_path, wrap):
    with pytest.raises(ValueError, match=r"changes what the agent sees.*config's frame_stack"):
        train_ppo(wrap(SB3VecEnv(dreams("latent"))), small(), tmp_path)
    train_ppo(VecNormalize(VecMonitor(SB3VecEnv(dreams("latent"))), norm_obs=False), small(), tmp_path)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_folder_is_never_trained_into_twice(tmp_path):
    train_ppo(toys(), small(), tmp_path, META)
    before = content(tmp_path)
    assert is_trained(tmp_path, small(), META) and not is_trained(tmp_path / "new", small(), META)
    with pytest.raises(ValueError, match="holds this agent already, finished"):
        train_ppo(toys(), small(), tmp_path, META)
    others = (small(seed=1), None, "seed is 0 there, 1 here"), (small(), {"horizon": 7}, "horizon is not set there, 7")
    for config, about, differs in others:
        with pytest.raises(ValueError, match=rf"an agent of other settings \({differs}.*\); use another --out"):
            train_ppo(toys(), config, tmp_path, META, about=about)
    assert content(tmp_path) == before


def test_an_interrupted_training_is_not_taken_for_a_finished_one(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ppo(toys(), small(steps=32), tmp_path, META, on_rollout=stop)
    load_agent(tmp_path / "agent")
    before = content(tmp_path)
    with pytest.raises(ValueError, match=r"an unfinished training \(PPO is not resumed\)"):
        train_ppo(toys(), small(steps=32), tmp_path, META)
    assert content(tmp_path) == before


def test_a_finished_policy_is_kept(tmp_path, monkeypatch, capsys):
    gym.register("Toy-kept", entry_point=ToyGame)
    folder = train_policy("Toy-kept", 16, tmp_path, config=small())
    before = content(tmp_path)
    assert train_policy("Toy-kept", 16, tmp_path, config=small()) == folder
    assert "has its 16 steps already" in capsys.readouterr().out and content(tmp_path) == before
    with pytest.raises(ValueError, match="other settings"):
        train_policy("Toy-kept", 32, tmp_path, config=small())
    del gym.registry["Toy-kept"]


def test_an_agent_tells_through_which_world_it_sees(tmp_path):
    world = tiny_world().save_pretrained(tmp_path / "world")
    for view, meta in (("raw", AgentMeta()), ("dream", AgentMeta(view="rgb", world_model=str(world)))):
        train_ppo(toys(), small(), tmp_path / view, meta)
    raw, dream = (load_agent(tmp_path / view / "agent") for view in ("raw", "dream"))
    assert raw.view() is None and dream.view() == (world, "rgb")
    with pytest.raises(ValueError, match="needs no world"):
        raw.view(world)
    moved = world.rename(tmp_path / "moved")
    assert dream.view(moved) == (moved, "rgb")
    with pytest.raises(FileNotFoundError, match=r"world any more: .* pass --world"):
        dream.view()


def test_a_run_folder_holds_config_and_metrics(tmp_path):
    train_ppo(toys(), small(steps=48), tmp_path, META)
    assert json.loads((tmp_path / "config.json").read_text())["meta"]["world_model"] == "doom-hg"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and lines[-1]["time/total_timesteps"] == 48 and "rollout/ep_rew_mean" in lines[-1]
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_train_policy_plays_the_real_game(tmp_path):
    gym.register("SB3Toy-v0", entry_point=ToyGame)
    try:
        folder = train_policy("SB3Toy-v0", 16, tmp_path, config=small(frame_stack=4))
    finally:
        del gym.registry["SB3Toy-v0"]
    agent = load_agent(folder)
    assert agent.meta == AgentMeta(env_id="SB3Toy-v0", view="real")
    assert agent.file.training.steps == 16 and agent.file.training.frame_stack == 4


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


def test_training_goes_on_from_a_saved_agent(trained):
    model, _, folder = trained
    again = load_ppo(folder, toys())
    for one, other in zip(again.policy.parameters(), model.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    again.learn(16)
    assert any(
        not torch.equal(one, other)
        for one, other in zip(again.policy.parameters(), model.policy.parameters(), strict=True)
    )


def test_an_agent_to_go_on_from_must_fit_the_envs_and_the_config(trained):
    run = trained[2].parent
    assert load_ppo(run, toys()).num_timesteps == 0
    for envs, config, message in (
        (dreams("latent"), None, r"sees uint8 of shape \(16, 16, 3\), these envs show float32 of shape \(2, 2, 8\)"),
        (ThreadVectorEnv(Pointing, 4), None, "acts by one of .* actions, these envs by 2 numbers"),
        (toys(), small(frame_stack=1), "was trained with frame_stack=3, the config says 1"),
        (toys(), small(frame_stack=3, channels=8), "was trained with channels=4, the config says 8"),
    ):
        with pytest.raises(ValueError, match=message):
            load_ppo(run, envs, config)


def test_an_agent_keeps_the_names_of_its_actions(tmp_path, trained):
    train_ppo(dreams("latent"), small(), tmp_path / "dream")
    assert load_agent(tmp_path / "dream").action_spec == tiny_world().config.action
    assert load_agent(trained[2]).action_spec.names == ()  # the toy game tells none


def test_a_saved_agent_holds_no_pickle(trained):
    assert {path.name for path in trained[2].iterdir()} == {"config.json", "model.safetensors", "README.md"}


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
        (edit_json(lambda data: data["training"].update(gamma=2)), "gamma must be in"),
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
    with pytest.raises(FileNotFoundError, match="no checkpoint folder"):
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


def test_what_an_agent_draws_is_decided_by_its_rows_seed(trained):
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


def test_observations_of_another_kind_are_refused(trained):
    agent = load_agent(trained[2])
    with pytest.raises(ValueError, match=r"sees uint8 of shape \(n, 16, 16, 3\), got float32"):
        agent.act(np.zeros((2, 16, 16, 3), np.float32))
    agent.act(np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"plays 2 envs, got 3 observations; reset\(\) it first"):
        agent.act(np.zeros((3, 16, 16, 3), np.uint8))
    agent.reset()
    assert len(agent.act(np.zeros((3, 16, 16, 3), np.uint8))) == 3


class Pointing(ToyGame):
    """Two numbers as the action."""

    def __init__(self):
        super().__init__()
        self.action_space = gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 2]))


def test_numbers_as_actions_stay_within_their_bounds_and_are_saved(tmp_path):
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, "batch_size must divide a rollout"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"gamma": 1.1}, "gamma must be in"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_the_recipe_for_real_games_is_valid():
    assert REAL_GAME.rollout == 1024
