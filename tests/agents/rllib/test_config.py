import copy
import os
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.core.columns import Columns

from tests.test_examples import load_example, save_doom_sized_world
from tests.tiny import tiny_world
from tests.toy_game import ToyGame, registered_game
from worldmodel.agents.evaluate import compare_with_random, evaluate
from worldmodel.agents.rllib.config import DreamPPO, DreamPPOConfig, dream_ppo
from worldmodel.agents.rllib.env_runner import DreamEnvRunner, check_next_step, dreams, real_games
from worldmodel.agents.rllib.module import PixelPPOModule, VectorPPOModule
from worldmodel.agents.rllib.policy import RLlibPolicy, load_policy
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.wrappers import DreamView
from worldmodel.training.train_agent import DreamTraining

DREAM = "worldmodel:VideoGenDream-Doom"
GAME = "RLlibToy-v0"
FRAMES = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
VECTORS = gym.spaces.Box(-np.inf, np.inf, (2, 2, 4), np.float32)
SIZES = {"features_dim": 32, "channels": 8}


class CountedGame(ToyGame):
    """A real game that counts how often it is played."""

    episodes = 0
    steps = 0

    def reset(self, **kwargs):
        CountedGame.episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        CountedGame.steps += 1
        return super().step(action)


registered = registered_game(GAME, CountedGame, scope="module")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder of a world that rewards its first action most."""
    return str(tiny_world().save_pretrained(tmp_path_factory.mktemp("world") / "tiny"))


def tiny_ppo(world, env_config=None, **changes) -> DreamPPOConfig:
    env_config = {"model": world, "obs": "rgb", "horizon": 4, "device": "cpu"} | (env_config or {})
    config = dream_ppo(DREAM, env_config=env_config, **{"real_env_id": GAME, "num_envs": 8} | SIZES | changes)
    return config.training(train_batch_size_per_learner=256, minibatch_size=64, lr=3e-3, gamma=0.0)


def test_the_defaults_equal_those_of_stable_baselines3_agents(world):
    config, agent = dream_ppo(env_config={"model": world}, real_env_id=GAME), AgentConfig()
    assert (config.lr, config.gamma, config.lambda_) == (agent.learning_rate, agent.gamma, agent.gae_lambda)
    assert (config.clip_param, config.entropy_coeff) == (agent.clip_range, agent.ent_coef)
    assert (config.minibatch_size, config.num_epochs) == (agent.batch_size, agent.n_epochs)
    assert config.train_batch_size_per_learner == agent.rollout
    training = DreamTraining()
    assert (config.env_config["obs"], config.env_config["horizon"]) == (training.obs, training.horizon)
    assert config.view == training.obs and config.rl_module_spec.module_class is VectorPPOModule


def test_a_rollout_that_takes_minutes_is_waited_for(world):
    """RLlib drops a rollout that takes longer than this, 60 s by default, and trains on nothing in that iteration."""
    assert dream_ppo(env_config={"model": world}, real_env_id=GAME).sample_timeout_s >= 600


def evaluating(config: DreamPPOConfig) -> DreamPPOConfig:
    return config.get_evaluation_config_object()


# --- the networks ----------------------------------------------------------------------------------------------------


def module_for(space, actions=None, **config):
    torch.manual_seed(0)
    kind = PixelPPOModule if space.dtype == np.uint8 else VectorPPOModule
    return kind(observation_space=space, action_space=actions or gym.spaces.Discrete(3), model_config=SIZES | config)


def observations_of(space, count=5):
    space.seed(0)
    return torch.from_numpy(np.stack([space.sample() for _ in range(count)]))


def test_frames_are_scaled_inside_the_module():
    module = module_for(FRAMES)
    frames = observations_of(FRAMES)
    assert frames.dtype == torch.uint8
    seen = []
    module.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert module.forward_inference({Columns.OBS: frames})[Columns.ACTION_DIST_INPUTS].shape == (5, 3)
    torch.testing.assert_close(seen[0].float(), frames.movedim(-1, 1) / 255, atol=0.01, rtol=0)
    with pytest.raises(ValueError, match="must be uint8"):
        module.forward_inference({Columns.OBS: frames.float()})


@pytest.mark.parametrize("space", [FRAMES, VECTORS], ids=["rgb", "latent"])
@pytest.mark.parametrize(("actions", "outputs"), [(gym.spaces.Discrete(3), 3), (gym.spaces.Box(-1, 1, (2,)), 4)])
def test_the_value_is_the_same_with_and_without_the_features_of_the_policy(space, actions, outputs):
    module = module_for(space, actions)
    batch = {Columns.OBS: observations_of(space)}
    out = module.forward_train(batch)
    assert out[Columns.ACTION_DIST_INPUTS].shape == (5, outputs)
    values = module.compute_values(batch)
    assert values.shape == (5,) and len(values.unique()) == 5
    torch.testing.assert_close(module.compute_values(batch, out[Columns.EMBEDDINGS]), values)


@pytest.mark.parametrize(
    ("kind", "space", "message"),
    [
        (PixelPPOModule, gym.spaces.Box(0, 1, (16, 16, 3), np.float32), "PixelPPOModule needs uint8 observations"),
        (VectorPPOModule, FRAMES, "VectorPPOModule needs float32 observations"),
        (PixelPPOModule, gym.spaces.Box(0, 255, (24, 32, 3), np.uint8), "divisible by 16, got 24 x 32"),
    ],
)
def test_a_module_refuses_observations_of_the_wrong_kind(kind, space, message):
    with pytest.raises(ValueError, match=message):
        kind(observation_space=space, action_space=gym.spaces.Discrete(3), model_config=SIZES)


# --- the config ------------------------------------------------------------------------------------------------------


def test_the_real_game_is_the_one_the_world_was_learned_from(world):
    config = tiny_ppo(world, real_env_id=None)
    assert evaluating(config).env == "VideoGenReal-DoomHealthGathering"
    assert evaluating(tiny_ppo(world)).env == GAME


def test_a_worlds_folder_is_named_in_full(world, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near").symlink_to(world)
    assert tiny_ppo("near").env_config["model"] == world
    shipped = dream_ppo("VideoGenDream-DoomHealthGathering")
    assert shipped.env_config["model"] == "doom-hg" and shipped.env == "VideoGenDream-DoomHealthGathering"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_config": {"obs": "codes"}}, "Codes are labels"),
        ({"env_config": {"obs": "latents"}}, "Did you mean 'latent'"),
        ({"view": "latent"}, "view must be the obs of the dream, 'rgb', or \"real\""),
        ({"view": "real", "env_config": {"obs": "latent"}}, "view must be the obs of the dream"),
        ({"real_env_id": "VideoGenDream-Doom"}, "'VideoGenDream-Doom' is a dream"),
    ],
)
def test_dreams_and_games_that_cannot_be_used_are_refused(world, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_ppo(world, **changes)


def test_a_dream_is_given_by_its_id_and_its_worlds_name():
    with pytest.raises(ValueError, match=f"'{GAME}' is not one"):
        dream_ppo(GAME)
    with pytest.raises(TypeError, match="pass a name or folder, got a WorldModel"):
        dream_ppo(DREAM, env_config={"model": tiny_world()})
    with pytest.raises(TypeError, match="by its Gymnasium id"):
        dream_ppo(DreamVectorEnv)


@pytest.mark.parametrize("mode", ["same_step", "disabled"])
def test_other_autoreset_modes_are_refused(world, mode):
    with pytest.raises(ValueError, match=r"needs env_config={'autoreset_mode': 'next_step'}"):
        tiny_ppo(world, {"autoreset_mode": mode}).validate()
    with pytest.raises(ValueError, match="needs autoreset_mode='next_step'"):
        check_next_step(DreamVectorEnv(2, tiny_world(), autoreset_mode=mode))


def test_a_config_that_would_evaluate_in_the_dream_is_refused(world):
    tiny_ppo(world).validate()
    with pytest.raises(ValueError, match=r"evaluate\(\) would play the dream"):
        tiny_ppo(world).evaluation(evaluation_interval=None).validate()
    tiny_ppo(world).evaluation(evaluation_interval=None, evaluation_num_env_runners=1).validate()
    for changed in (
        tiny_ppo(world).evaluation(evaluation_config={"env": DREAM}),
        tiny_ppo(world).evaluation(evaluation_config=None),
    ):
        with pytest.raises(ValueError, match="evaluation needs the real game, but"):
            evaluating(changed).validate()
    with pytest.raises(ValueError, match="training needs a dream"):
        tiny_ppo(world).environment(GAME).validate()
    with pytest.raises(ValueError, match="env_runner_cls must be DreamEnvRunner"):
        tiny_ppo(world).env_runners(env_runner_cls=object).validate()


def test_bad_configs_are_refused_under_ray_tune_too(world):
    """Tune hands an algorithm its config as a dict."""
    wrong = tiny_ppo(world, {"autoreset_mode": "same_step"})
    assert wrong.algo_class is DreamPPO
    again = DreamPPO.get_default_config().update_from_dict(wrong.to_dict())
    with pytest.raises(ValueError, match=r"needs env_config={'autoreset_mode': 'next_step'}"):
        again.validate()
    with pytest.raises(TypeError, match=r"needs a DreamPPOConfig.* got a PPOConfig; .* Tuner\(DreamPPO"):
        DreamEnvRunner(config=PPO.get_default_config().update_from_dict(wrong.to_dict()), worker_index=0)


def test_a_policy_reports_its_games_full_id(world):
    spec = tiny_ppo(world, real_env_id=f"tests.toy_game:{GAME}").rl_module_spec
    assert spec.model_config["meta"]["env_id"] == f"tests.toy_game:{GAME}"


def test_users_own_evaluation_settings_leave_the_real_game_in_place(world):
    config = evaluating(tiny_ppo(world).evaluation(evaluation_config={"explore": False}))
    config.validate()
    assert config.env == GAME and config.explore is False and config.num_envs_per_env_runner == 1


# --- the envs --------------------------------------------------------------------------------------------------------


def test_every_step_of_a_dream_is_in_an_episode(world):
    runner = DreamEnvRunner(config=tiny_ppo(world), worker_index=0)
    episodes = [episode for episode in runner.sample(num_timesteps=200) if episode.is_done]
    assert len(episodes) >= 40 and {len(episode) for episode in episodes} == {4}
    # Replayed in a plain dream with the same seeds, the same actions earn the same.
    plain = DreamVectorEnv(8, world, horizon=4)
    frames = [plain.reset(seed=runner._seed)[0]]
    first = episodes[:8]
    for step in range(4):
        actions = np.array([episode.get_actions(step) for episode in first])
        observations, rewards, _, _, infos = plain.step(actions)
        np.testing.assert_array_equal(rewards, np.float32([episode.get_rewards(step) for episode in first]))
        frames.append(np.stack(infos["final_obs"]) if step == 3 else observations)
    seen = np.stack([episode.get_observations() for episode in first], axis=1)
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen, frames)


def test_no_two_rows_of_two_runners_share_a_seed(world):
    draws = []
    for worker in (1, 2):
        runner = DreamEnvRunner(config=tiny_ppo(world, num_env_runners=2), worker_index=worker, num_workers=2)
        runner.sample(num_timesteps=1)
        draws += runner.env.unwrapped.state.extras["env.key"].tolist()
    assert len(set(draws)) == 16


def test_a_seed_is_used_once(world):
    """Whole episodes begin with a reset of all rows, in every rollout."""

    def begun():
        config = tiny_ppo(world).env_runners(batch_mode="complete_episodes")
        runner = DreamEnvRunner(config=config, worker_index=0)
        return [np.stack([episode.get_observations(0) for episode in runner.sample()]) for _ in range(2)]

    first, second = begun()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(begun(), [first, second])


def test_the_real_game_is_shown_as_the_dream_would_show_it(world):
    for view, obs in (("rgb", "rgb"), ("latent", "latent"), ("features", "features"), ("real", "rgb")):
        config = evaluating(tiny_ppo(world, {"obs": obs}, view=view))
        envs = real_games(config)
        assert isinstance(envs.envs[0].unwrapped, CountedGame) and envs.num_envs == 1
        assert envs.single_observation_space == dreams(tiny_ppo(world, {"obs": obs})).single_observation_space
        game = ToyGame()
        if view != "real":
            game = DreamView(game, world, view)
        np.testing.assert_array_equal(envs.reset(seed=3)[0][0], game.reset(seed=3)[0])
        observations, _, _, _, infos = envs.step(np.array([1]))
        np.testing.assert_array_equal(observations[0], game.step(1)[0])
        assert set(infos) == {"HEALTH", "_HEALTH", "native_reward", "_native_reward"}


def test_an_evaluation_runner_plays_only_the_real_game(world):
    runner = DreamEnvRunner(config=evaluating(tiny_ppo(world)), worker_index=0)
    before = CountedGame.steps
    episodes = runner.sample(num_episodes=3)
    assert CountedGame.steps - before == sum(map(len, episodes)) > 0
    again = runner.sample(num_episodes=3)  # the next evaluation plays the same games
    for one, same in zip(episodes, again, strict=True):
        np.testing.assert_array_equal(one.get_observations(0), same.get_observations(0))


# --- play ------------------------------------------------------------------------------------------------------------


def test_a_policys_draws_are_decided_by_its_rows_seed():
    policy = RLlibPolicy(module_for(FRAMES))
    frames = observations_of(FRAMES).numpy()
    draws = []
    for rows in (range(5), (4, 2, 0, 1, 3)):
        policy.seed_rows(rows, [10 + row for row in rows])
        draws.append([policy.act(frames) for _ in range(5)])
    np.testing.assert_array_equal(*draws)
    assert draws[0][0].shape == (5,) and draws[0][0].dtype == np.int64
    policy.seed_rows(range(5), range(20, 25))
    assert not np.array_equal([policy.act(frames) for _ in range(5)], draws[0])


def test_draws_follow_the_policys_odds():
    module = module_for(FRAMES)
    with torch.no_grad():
        module.policy_head.weight.zero_()
        module.policy_head.bias.copy_(torch.tensor([0.7, 0.2, 0.1]).log())
    policy = RLlibPolicy(module)
    frames = np.zeros((2000, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(np.bincount(policy.act(frames)) / 2000, [0.7, 0.2, 0.1], atol=0.04)
    assert policy.act(frames[:5], deterministic=True).tolist() == [0] * 5


def test_continuous_actions_stay_within_their_bounds():
    module = module_for(FRAMES, gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 2])))
    with torch.no_grad():
        module.log_std.fill_(1.0)
    actions = RLlibPolicy(module).act(observations_of(FRAMES, 50).numpy())
    assert actions.dtype == np.float32 and actions.shape == (50, 2) and len(np.unique(actions)) > 20
    assert (actions.min(0) == [-1, 0]).all() and (actions.max(0) == [1, 2]).all()


def test_observations_that_the_policy_does_not_support_are_refused():
    with pytest.raises(ValueError, match=r"needs uint8 of shape \(n, 16, 16, 3\), got float32 \(1, 16, 16, 3\)"):
        RLlibPolicy(module_for(FRAMES)).act(np.zeros((1, 16, 16, 3), np.float32))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a checkpoint of an RLlib algorithm"):
        load_policy(tmp_path)


# --- with Ray --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started():
    import ray

    # Ray's workers stand back behind all other programs (niceness 15): on a busy machine they would never start.
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _system_config={"worker_niceness": 0})
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def trained(started, world):
    """An algorithm after its training, and its results."""
    algo = tiny_ppo(world, num_envs=16, evaluation_interval=10**9, evaluation_episodes=4).build_algo()
    before = CountedGame.steps
    results = [algo.train() for _ in range(8)]
    assert CountedGame.steps == before, "training played the real game"
    yield algo, results
    algo.stop()


@pytest.mark.rllib
def test_ppo_learns_what_the_dream_rewards(trained):
    first, *_, last = (result["env_runners"]["episode_return_mean"] for result in trained[1])
    assert last > first + 0.8  # measured: from -0.9 to 0.5
    assert {result["env_runners"]["episode_len_mean"] for result in trained[1]} == {4.0}


@pytest.mark.rllib
def test_evaluation_plays_the_real_game(trained):
    algo, _ = trained
    before = CountedGame.steps
    result = algo.evaluate()["env_runners"]
    assert CountedGame.steps - before == result["num_env_steps_sampled"] > 0
    assert result["num_episodes"] == 4 and result["episode_return_mean"] % 2.5 == 0  # 10 per right action


@pytest.mark.rllib
def test_a_loaded_policy_acts_as_the_one_that_was_saved(trained, tmp_path, world):
    algo, _ = trained
    algo.save_to_path(str(tmp_path))
    saved, loaded = RLlibPolicy(copy.deepcopy(algo.get_module())), load_policy(tmp_path)
    frames = DreamVectorEnv(64, world).reset(seed=0)[0]
    np.testing.assert_array_equal(loaded.act(frames), saved.act(frames))
    assert loaded.meta.env_id == GAME and str(loaded.view()[0]) == world
    before = CountedGame.steps
    evaluation = evaluate(loaded, GAME, 5, view=loaded.view())
    assert sum(evaluation.lengths) == CountedGame.steps - before


@pytest.mark.rllib
def test_an_algorithm_resumes_from_its_checkpoint(trained, tmp_path):
    algo, _ = trained
    algo.save_to_path(str(tmp_path))
    again = type(algo).from_checkpoint(str(tmp_path))
    for name, weights in algo.get_module().get_state().items():
        np.testing.assert_array_equal(again.get_module().get_state()[name], weights)
    assert again.config.view == "rgb" and again.evaluation_config.env == GAME
    again.train()
    assert again.iteration == algo.iteration + 1
    again.stop()


@pytest.mark.rllib
@pytest.mark.vizdoom
def test_the_example_trains_in_the_dream_and_plays_the_real_game(started, tmp_path, capsys, monkeypatch):
    save_doom_sized_world(tmp_path / "model")
    sizes = {"iterations": 1, "episodes": 2, "num_envs": 2, "evaluation_interval": 1, "evaluation_episodes": 1} | SIZES
    sizes["real_env_config"] = {"episode_timeout": 40}
    example, brief = load_example("dream_rllib"), {"train_batch_size_per_learner": 130, "num_epochs": 1}
    monkeypatch.setattr(example, "dream_ppo", lambda *words, **named: dream_ppo(*words, **named).training(**brief))
    monkeypatch.setattr(example, "compare_with_random", partial(compare_with_random, episode_timeout=40))
    result = example.main(str(tmp_path / "model"), out=str(tmp_path / "run"), **sizes)
    assert len(result.agent.returns) == len(result.random.returns) == 2
    out = capsys.readouterr().out
    assert " in the game" in out and out.count("2 episodes of VideoGenReal-DoomHealthGathering") == 2


@pytest.mark.rllib
@pytest.mark.slow
@pytest.mark.vizdoom
@pytest.mark.timeout(900)
def test_every_remote_runner_holds_its_own_envs(started, tmp_path):
    save_doom_sized_world(tmp_path)
    config = tiny_ppo(str(tmp_path), num_env_runners=2, real_env_id=None)
    config.evaluation(evaluation_num_env_runners=1, evaluation_interval=1, evaluation_duration=1)
    algo = config.build_algo()
    result = algo.train()

    def held(group):
        return group.foreach_env_runner(
            lambda runner: (
                os.getpid(),
                type(getattr(runner.env.unwrapped, "envs", [runner.env])[0].unwrapped).__name__,
                getattr(runner.env.unwrapped, "_keys", np.zeros(0)).tolist(),  # what decides a row's dreams
            ),
            local_env_runner=False,
        )

    training, evaluation = held(algo.env_runner_group), held(algo.eval_env_runner_group)
    algo.stop()
    assert [kind for _, kind, _ in training + evaluation] == ["DreamVectorEnv", "DreamVectorEnv", "VizdoomEnv"]
    assert len({process for process, _, _ in training + evaluation} | {os.getpid()}) == 4
    assert len({seed for _, _, seeds in training for seed in seeds}) == 16
    assert result["evaluation"]["env_runners"]["num_episodes"] == 1
