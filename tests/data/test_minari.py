"""Tests for worldmodel/data/minari.py: Minari finds stores in its own folder and makes their env again."""

import json

import gymnasium as gym
import numpy as np
import pytest

from tests.data.makers import INFO, make_episode, make_store
from tests.training.counting_game import GAME_ID, CountingGame
from worldmodel.data import EpisodeStorage
from worldmodel.data.minari import default_dataset_id, env_spec_of, recoverable
from worldmodel.data.mirror import mirror
from worldmodel.training.collect.collect import collect

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:minari", "ignore::UserWarning:gymnasium.spaces.box")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Minari's folder of data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def test_what_collect_puts_into_minaris_folder_is_a_data_set_of_minari(folder):
    minari = pytest.importorskip("minari")
    collect(GAME_ID, folder / "counting" / "diverse-v2", episodes=4, workers=1, env_kwargs={"labels": True})
    store = EpisodeStorage.open(folder / "counting" / "diverse-v2")

    assert list(minari.list_local_datasets()) == ["counting/diverse-v2"]
    dataset = minari.load_dataset("counting/diverse-v2")
    assert (dataset.spec.namespace, dataset.spec.dataset_name, dataset.spec.version) == ("counting", "diverse", 2)
    for index, theirs in enumerate(dataset.iterate_episodes()):
        np.testing.assert_array_equal(theirs.observations, store.frames(index))
        np.testing.assert_array_equal(theirs.actions, store.actions(index))
        np.testing.assert_array_equal(theirs.rewards, store.rewards(index))
        np.testing.assert_array_equal(theirs.infos["COUNT"], store.signals(index)[:, 0])
        assert (theirs.terminations[-1], theirs.truncations[-1]) == store.ended(index)
    dataset.set_seed(0)
    assert sorted(episode.id for episode in dataset.sample_episodes(4)) == [0, 1, 2, 3]

    env = dataset.recover_environment()
    assert env.unwrapped.label_names == ("thing", "other")  # the options of the collection
    assert env.action_space == dataset.action_space
    seed = next(dataset.storage.get_episode_metadata([2]))["seed"]
    observation, _ = env.reset(seed=int(seed))
    for t, action in enumerate(store.actions(2)):
        np.testing.assert_array_equal(observation, store.frames(2)[t, -1])
        observation = env.step(action)[0]


def test_minari_finds_a_store_through_a_link_of_its_name(folder, tmp_path):
    minari = pytest.importorskip("minari")
    make_store(tmp_path / "runs" / "toy")
    folder.mkdir()
    (folder / "toy-v0").symlink_to(tmp_path / "runs" / "toy")
    assert list(minari.list_local_datasets()) == ["toy-v0"]
    assert minari.load_dataset("toy-v0").total_episodes == 4


def test_a_store_in_minaris_folder_is_named_by_its_path_there(folder, tmp_path):
    assert default_dataset_id(folder / "doom" / "take-cover" / "random-v3") == "doom/take-cover/random-v3"
    assert default_dataset_id(folder.parent / "random") == "random-v0"


@pytest.mark.parametrize("name", ["toy", "doom/toy", "a b-v0"])
def test_a_name_that_breaks_minaris_list_is_refused_before_anything_is_written(folder, name):
    with pytest.raises(
        ValueError, match=r"names of data sets to end in a version.*Choose another folder, such as .*-v0"
    ):
        collect(GAME_ID, folder / name, episodes=1, workers=1)
    assert not folder.exists()


def test_copies_of_a_store_name_the_env_of_the_original(folder, tmp_path):
    spec = recoverable(gym.make(GAME_ID).unwrapped.spec)
    with EpisodeStorage.create(tmp_path / "store", INFO, env_spec=spec) as store:
        store.append(make_episode())
    assert env_spec_of(mirror(store, tmp_path / "mirrored", swap=["left=right"]).root) == spec


def test_the_env_is_left_out_where_a_new_process_could_not_make_it(tmp_path):
    gym.register("NoName-v0", entry_point=lambda **_: CountingGame())
    try:
        assert recoverable(gym.make("NoName-v0").unwrapped.spec) is None
    finally:
        del gym.registry["NoName-v0"]
    spec = gym.make(GAME_ID).unwrapped.spec
    assert json.loads(recoverable(spec))["entry_point"] == "tests.training.counting_game:CountingGame"
    spec.kwargs = {"step_seconds": np.float32(1)}
    assert recoverable(spec) is None
    assert env_spec_of(make_store(tmp_path / "old").root) is None
