"""Which names mean an env, and how an unknown id is refused."""

import gymnasium as gym
import pytest

from worldmodel.agents.sb3.train import train_policy
from worldmodel.envs.ids import env_spec, is_env_id
from worldmodel.training.show.scenes import open_scene


def test_ids_mean_envs_even_unknown_ones_and_everything_else_worlds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = ("CartPole-v1", "PixelCartPole-v0", "my_games:PixelCartPole-v0", "VideoGenReal-Dom")
    assert all(map(is_env_id, ids))
    assert not any(map(is_env_id, ("doom-hg", "runs/pole-v0", "owner/pole-v0", "owner/pole@v1")))
    (tmp_path / "PixelCartPole-v0").mkdir()  # a world's folder, whatever its name
    assert not is_env_id("PixelCartPole-v0")


@pytest.mark.parametrize("opens", [env_spec, open_scene, lambda name: train_policy(name, "unused")])
def test_an_unknown_id_without_a_module_is_refused_with_the_way_to_name_ones_own_game(opens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(gym.error.NameNotFound, match="the module that registers it, as in my_games:PixelCartPole-v0"):
        opens("PixelCartPole-v0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["VideoGenReal-Dom", "gymnasium:NoSuchGame-v0"])
def test_other_unknown_ids_are_refused_in_gymnasiums_words_alone(name):
    with pytest.raises(gym.error.NameNotFound) as refused:
        env_spec(name)
    assert "my_games" not in str(refused.value)
