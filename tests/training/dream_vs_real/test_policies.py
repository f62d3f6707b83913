import shutil

import gymnasium as gym
import numpy as np
import pytest

from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame
from worldmodel.agents.blind.family import blind_family
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.training.dream_vs_real.game_starts import mid_play, open_game
from worldmodel.training.dream_vs_real.paired_play import play_both
from worldmodel.training.dream_vs_real.policies import make_players
from worldmodel.training.train_agent import DreamTraining, train_agent

DREAM = "VideoGenDream-Doom"
ACTION = tiny_config().action


@pytest.fixture(scope="module")
def agent(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    config = AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8, features_dim=8, channels=4)
    training = DreamTraining(agent=config, obs="rgb")
    return train_agent(world.save_pretrained(folder / "world"), folder / "run", training, device="cpu")


def test_agents_and_the_sticky_policy_get_every_noise_and_the_random_policy_none(world, agent):
    players = make_players(world, [agent], (0.25, 0.5), ["constant:noop"])
    assert [player.name for player in players] == [
        str(agent),
        f"{agent}, 25% random",
        f"{agent}, 50% random",
        "sticky",
        "sticky, 25% random",
        "sticky, 50% random",
        "random",
        "constant:noop",
    ]
    assert {(player.obs, player.sees) for player in players[:3]} == {("rgb", "dream")}
    assert {(player.obs, player.sees) for player in players[3:]} == {("codes", "nothing")}
    assert players[0].view(world) == (world, "rgb") and players[-1].view(world) is None


def test_no_players_episodes_depend_on_how_many_are_played_at_once(world, agent):
    for player in make_players(world, [agent], (0.5,), ["hold:0.5", "diverse"]):
        few, many = (
            evaluate(player.policy, DREAM, 5, seed=3, num_envs=n, model=world, obs=player.obs, horizon=6)
            for n in (2, 5)
        )
        np.testing.assert_allclose(few.returns, many.returns, rtol=1e-4, err_msg=player.name)


def test_noise_makes_a_difference(world, agent):
    players = make_players(world, [agent], (0.5,))
    options = {"episodes": 4, "model": world, "horizon": 8}
    plain, noisy = (evaluate(p.policy, DREAM, obs=p.obs, **options).returns for p in players[2:4])
    assert players[3].name == "sticky, 50% random" and plain != noisy
    assert isinstance(players[4].policy, RandomPolicy)


def test_named_policies_replace_the_family_and_sticky_and_random_appear_once(world):
    assert [player.name for player in make_players(world)] == ["sticky", "random", *blind_family(ACTION)]
    named = make_players(world, policies=["random", "constant:left", "sticky"])
    assert [player.name for player in named] == ["sticky", "random", "constant:left"]
    assert named[2].policy.act(np.zeros(2)).tolist() == [1, 1]  # by the model's names of its actions


def test_policies_that_are_unknown_or_named_twice_are_refused(world):
    with pytest.raises(ValueError, match="unknown action 'jump'"):
        make_players(world, [], (), ["constant:jump"])
    with pytest.raises(ValueError, match="policies are given twice: random, random"):
        make_players(world, [], (), ["random", "random"])


def test_noise_of_almost_the_same_size_has_names_of_its_own(world):
    names = [player.name for player in make_players(world, [], (0.5, 0.504, 0.001, 0.002))]
    assert {"sticky, 50% random", "sticky, 50.4% random", "sticky, 0.1% random", "sticky, 0.2% random"} < set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("epsilons", [(0.0,), (1.0,), (-0.1,), (0.5, 0.5)])
def test_noise_of_zero_or_one_or_given_twice_is_refused(world, epsilons):
    with pytest.raises(ValueError, match=r"epsilons must be between 0 and 1|epsilons are given twice"):
        make_players(world, [], epsilons)


def test_an_agent_given_twice_is_refused(world, agent):
    with pytest.raises(ValueError, match="agents are given twice"):
        make_players(world, [agent, agent], ())


def test_an_agent_of_another_game_is_refused_before_anything_is_played(agent):
    from dataclasses import replace

    from worldmodel.data import ActionSpec
    from worldmodel.model import WorldModel

    other = WorldModel(replace(tiny_config(), action=ActionSpec(kind="discrete", n=4))).prepare()
    with pytest.raises(ValueError, match=r"differ in their actions: one of 3 actions.*, one of 4 actions"):
        make_players(other, [agent], ())
    larger = replace(tiny_config(), tokenizer=replace(tiny_config().tokenizer, height=32))
    with pytest.raises(ValueError, match=r"needs rgb of shape \(16, 16, 3\), but the dream has \(32, 16, 3\)"):
        make_players(WorldModel(larger).prepare(), [agent], ())


def latent_agent(folder, world, obs="latent"):
    """An agent that claims to read the code vectors of `world`."""
    from worldmodel.agents.sb3.config import AgentMeta
    from worldmodel.agents.sb3.train import train_ppo
    from worldmodel.envs.dream.vector_env import DreamVectorEnv

    home = world.save_pretrained(folder / "world")
    config = AgentConfig(steps=8, num_envs=2, n_steps=4, batch_size=8, features_dim=8)
    envs = DreamVectorEnv(2, world, obs=obs, horizon=4)
    train_ppo(envs, config, folder / "run", AgentMeta(view=obs, world_model=str(home)))
    return folder / "run" / "agent"


def test_an_agent_trained_on_features_of_other_dynamics_is_refused(tmp_path, world):
    other = tiny_world(seed=1)
    other.tokenizer.load_state_dict(world.tokenizer.state_dict())
    reads = {obs: latent_agent(tmp_path / obs, world, obs) for obs in ("latent", "features")}
    assert [player.obs for player in make_players(world, reads.values(), ())[:2]] == ["latent", "features"]
    assert make_players(other, [reads["latent"]], ())[0].obs == "latent"
    with pytest.raises(ValueError, match="features of other dynamics"):
        make_players(other, [reads["features"]], ())
    shutil.rmtree(tmp_path / "features" / "world")
    assert make_players(other, [reads["features"]], ())[0].obs == "features"  # its origin is unknown


def test_an_agent_trained_on_codes_of_another_tokenizer_is_refused(tmp_path, world):
    folder = latent_agent(tmp_path, tiny_world(seed=1))
    with pytest.raises(ValueError, match="codes of another tokenizer"):
        make_players(world, [folder], ())
    assert make_players(tiny_world(seed=1), [folder], ())[0].obs == "latent"


def test_an_agent_trained_on_the_games_own_frames_gets_these(tmp_path, world):
    from worldmodel.agents.sb3.train import train_ppo
    from worldmodel.envs.wrappers import ThreadVectorEnv

    config = AgentConfig(steps=8, num_envs=2, n_steps=4, batch_size=8, features_dim=8, channels=4)
    train_ppo(ThreadVectorEnv(ToyGame, 2), config, tmp_path)
    assert load_agent(tmp_path / "agent").meta.view == "real"
    player = make_players(world, [tmp_path / "agent"], ())[0]
    assert (player.obs, player.sees, player.view(world)) == ("rgb", "frames", None)


def test_agents_continue_from_mid_episode_in_both_worlds_reproducibly(world, agent):
    gym.register("PlayersToy-v0", entry_point=ToyGame)
    try:
        players = make_players(world, [agent], (0.5,), ["constant:left"])
        with open_game(world, "PlayersToy-v0") as env:
            openings = {"mid": mid_play(world, env, 3, seed=20, given=2, lead="random")}
        one, two = (play_both(world, "PlayersToy-v0", players, openings, horizon=5, seed=0)["mid"] for _ in range(2))
    finally:
        del gym.registry["PlayersToy-v0"]
    assert len(one.real) == len(one.dream) == 6
    for first, second in zip(one.real, two.real, strict=True):
        assert first.trace.rewards == second.trace.rewards
    for first, second in zip(one.dream, two.dream, strict=True):
        assert first.rewards == second.rewards and first.lengths.max() <= 5
    assert one.real[0].trace.rewards != one.real[1].trace.rewards  # noise makes a difference
