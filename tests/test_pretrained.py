"""What ships inside the package works right after installation, with no further arguments."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import worldmodel
from worldmodel import WorldModel, checkpoint, tokenizer
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

DREAMS = {
    "VideoGenDream-Doom": "doom-hgs",
    "VideoGenDream-DoomHealthGathering": "doom-hg",
    "VideoGenDream-DoomDefendTheCenter": "doom-defend-the-center",
    "VideoGenDream-DoomTakeCover": "doom-take-cover",
    "VideoGenDream-BAIR": "push",
}
GAMES = {env_id: env_id.replace("VideoGenDream", "VideoGenReal") for env_id in DREAMS} | {
    "VideoGenDream-BAIR": "VideoGenReal-Push"
}


def test_the_shipped_worlds_are_listed():
    assert checkpoint.shipped() == sorted(DREAMS.values())


@pytest.mark.parametrize("name", DREAMS.values())
def test_a_shipped_world_is_small_and_has_a_card(name):
    folder = checkpoint.resolve(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 19e6
    card = (folder / "README.md").read_text()
    assert "videogen-dream train-dynamics" in card and "bits per code" in card


@pytest.mark.parametrize("name", ["doom-hg", "doom-take-cover"])
def test_a_preset_has_the_form_and_the_training_of_two_worlds(name):
    config, training = WorldModel.from_pretrained(name).config, DynamicsTraining.of_preset("doom-wide")
    coder, further = tokenizer.preset("doom-wide"), name == "doom-take-cover"  # which was trained further, with options
    measured = {"data_mean": config.tokenizer.data_mean, "data_variance": config.tokenizer.data_variance}
    codebook = replace(coder.codebook, rate_weight=0.1 if further else 0.0)
    assert replace(coder, codebook=codebook, **measured) == config.tokenizer
    later = {"own_draws": 0.5, "own_draws_passes": 2, "checkerboard": further, "layers": 6 if further else 4}
    assert replace(training.model, **later) == config.dynamics
    assert training.heads == config.heads


def test_a_card_has_the_options_of_the_preset_with_which_its_world_was_trained():
    coder, training = TokenizerTraining.of_preset("doom-wide"), DynamicsTraining.of_preset("doom-wide")
    tokenized, learned = (checkpoint.resolve("doom-hg") / "README.md").read_text().split("videogen-dream train-")[-2:]
    assert f"--rarity {coder.rarity}" in tokenized and f"--loop.batch-size {coder.loop.batch_size}" in tokenized
    assert f"--segment {training.segment}" in learned and f"--loop.batch-size {training.loop.batch_size}" in learned


@pytest.mark.parametrize("env_id", DREAMS)
def test_a_dream_is_made_without_arguments_and_moves(env_id):
    env = gym.make(env_id)
    first, _ = env.reset(seed=0)
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert first.std() > 5  # neither black nor flat
    names = env.unwrapped.model.config.action.names
    left = [i for i, name in enumerate(names) if name.endswith("_left")]
    action = left[0] if left else np.float32([-1, 0, 1, 0])  # the hand goes left
    seen = [env.step(action)[0] for _ in range(5)]
    changes = [np.abs(b.astype(float) - a).mean() for a, b in zip([first, *seen], seen, strict=False)]
    assert max(changes) > 1  # turning or stepping aside moves the picture
    env.close()


@pytest.mark.parametrize("env_id", DREAMS)
def test_a_vector_of_dreams_gives_different_dreams(env_id):
    envs = gym.make_vec(env_id, num_envs=4, obs="latent", horizon=4)
    observations, _ = envs.reset(seed=0)  # episodes of a game may all begin with the same picture
    assert observations.shape[0] == 4 and not all(np.array_equal(observations[0], other) for other in observations[1:])
    for step in range(1, 5):
        *_, truncations, infos = envs.step(np.ones_like(envs.action_space.sample()))
        assert truncations.all() == (step == 4)
    assert "final_obs" in infos
    envs.close()


@pytest.mark.vizdoom
@pytest.mark.parametrize("env_id", DREAMS)
def test_a_dream_and_its_game_have_equal_spaces_and_reward_unit(env_id):
    if env_id == "VideoGenDream-BAIR":
        pytest.importorskip("pybullet")
    dream, real = gym.make(env_id), gym.make(GAMES[env_id])
    assert dream.action_space == real.action_space
    assert dream.observation_space == real.observation_space
    config = WorldModel.from_pretrained(DREAMS[env_id]).config
    assert config.reward == real.unwrapped.reward_kind
    assert config.action == real.unwrapped.action_spec
    assert config.env_id == real.spec.id
    dream.close()
    real.close()


def test_the_public_names_are_there():
    assert all(hasattr(worldmodel, name) for name in worldmodel.__all__)
