import os
from dataclasses import replace

import numpy as np
import pytest

from tests.data.makers import INFO, LABELLED, PUSHES, TURNS, assert_equal, make_store
from tests.kills import kill_everywhere
from worldmodel.data import ActionSpec, EpisodeStorage
from worldmodel.data.joined import JoinedStorage
from worldmodel.data.mirror import mirror
from worldmodel.files import read_json
from worldmodel.training.cli.main import main


def test_each_episode_is_followed_by_its_mirror_image(tmp_path):
    old = make_store(tmp_path / "old")
    new = mirror(old, tmp_path / "new", swap=["left=right"])
    assert new.lengths == [6, 6, 3, 3, 8, 8, 5, 5]
    other = np.array([1, 0, 2])  # left and right exchanged, ahead as it was
    for place in range(len(old)):
        episode = old.episode(place)
        assert_equal(new.episode(2 * place), episode)
        twin = replace(episode, frames=np.flip(episode.frames, axis=3), actions=other[episode.actions])
        assert_equal(new.episode(2 * place + 1), twin)


def test_labels_are_mirrored_with_the_frames(tmp_path):
    old = make_store(tmp_path / "old", info=LABELLED)
    new = mirror(old, tmp_path / "new", swap=["left=right"])
    np.testing.assert_array_equal(new.labels(4), old.labels(2))
    np.testing.assert_array_equal(new.labels(5), np.flip(old.labels(2), axis=3))


def test_both_copies_keep_the_split_of_their_episode(tmp_path):
    old = make_store(tmp_path / "old", lengths=(2,) * 12)
    new = mirror(old, tmp_path / "new", swap=["left=right"])
    for name in ("train", "validation", "test"):
        assert new.split(name).tolist() == [2 * e + twin for e in old.split(name) for twin in (0, 1)]


def test_a_published_test_split_and_views_stay_together(tmp_path):
    info = replace(INFO, test_episodes=2, views=2)
    new = mirror(make_store(tmp_path / "old", lengths=(3,) * 8, info=info), tmp_path / "new", swap=["left=right"])
    assert new.split("test").tolist() == [0, 1, 2, 3] and new.info.views == 4


def test_dimensions_change_sign_and_position(tmp_path):
    action = ActionSpec(kind="box", n=3, names=("x", "near", "far"), low=(-1.0, 0.0, 0.0), high=(1.0, 2.0, 2.0))
    old = make_store(tmp_path / "old", info=replace(INFO, action=action))
    new = mirror(old, tmp_path / "new", swap=["near=far"], negate=["x"])
    x, near, far = old.actions(0).T
    np.testing.assert_array_equal(new.actions(1), np.stack((-x, far, near), axis=1))


def test_named_signals_change_sign(tmp_path):
    old = make_store(tmp_path / "old", info=replace(INFO, signal_names=("X", "HEALTH")))
    new = mirror(old, tmp_path / "new", swap=["right=left"], negate_signals=["X"])
    np.testing.assert_array_equal(new.episode(1).signals, old.episode(0).signals * [-1, 1])
    np.testing.assert_array_equal(new.episode(0).signals, old.episode(0).signals)


@pytest.mark.parametrize(
    ("action", "options", "message"),
    [
        (TURNS, {"swap": ["left=rigt"]}, "Did you mean 'right'"),
        (TURNS, {"swap": ["left=right", "left=ahead"]}, "name each action at most once"),
        (TURNS, {"negate": ["left"]}, "use swap"),
        (TURNS, {}, "exchanges left and right: add swap left=right"),
        (TURNS, {"negate_signals": ["Y"]}, "no signal 'Y'"),
        (PUSHES, {"negate": ["1"]}, "need symmetric bounds"),  # 0 to 2
        (PUSHES, {"swap": ["0=1"]}, "that are swapped need equal bounds"),
    ],
)
def test_a_mirror_that_does_not_suit_the_actions_is_refused_before_anything_is_written(
    tmp_path, action, options, message
):
    old = make_store(tmp_path / "old", info=replace(INFO, action=action))
    with pytest.raises(ValueError, match=message):
        mirror(old, tmp_path / "new", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_existing_store_is_not_overwritten(tmp_path):
    old = make_store(tmp_path / "old")
    with pytest.raises(FileExistsError, match="already exists"):
        mirror(old, old.root)
    assert EpisodeStorage.open(old.root).lengths == [6, 3, 8, 5]


def test_the_command_writes_the_store(tmp_path, capsys):
    make_store(tmp_path / "old")
    given = ["mirror", str(tmp_path / "old"), "--out", str(tmp_path / "new"), "--swap"]
    assert main([*given, "left"]) == 2
    assert "pairs such as turn_left=turn_right, got left" in capsys.readouterr().err
    assert main([*given, "left=right"]) == 0
    assert "8 episodes with 44 steps" in capsys.readouterr().out
    assert EpisodeStorage.open(tmp_path / "new").lengths == [6, 6, 3, 3, 8, 8, 5, 5]


def test_nothing_to_mirror_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no episodes to mirror"):
        mirror(EpisodeStorage.create(tmp_path / "none", INFO), tmp_path / "twins")
    assert not (tmp_path / "twins").exists()


def test_joined_stores_are_refused_as_one(tmp_path):
    stores = [make_store(tmp_path / name, (2,)) for name in "ab"]
    with pytest.raises(ValueError, match=r"cannot be mirrored as one: mirror .*a, .*b one by one"):
        mirror(JoinedStorage(stores), tmp_path / "twins")
    assert not (tmp_path / "twins").exists()


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_mirror_killed_at_any_file_operation_can_be_repeated_and_touches_no_other_folder(
    tmp_path, monkeypatch, every
):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    store = make_store(tmp_path / "toy", (3,))
    (tmp_path / "runs" / "new.unfinished").mkdir(parents=True)
    (tmp_path / "runs" / "new.unfinished" / "thesis.txt").write_text("precious")

    def run(out):
        mirror(store, out, swap=["left=right"])

    for _ in kill_everywhere(tmp_path / "none", tmp_path / "runs" / "new", run, every=every):
        if not (tmp_path / "runs" / "new").exists():
            run(tmp_path / "runs" / "new")
        assert len(EpisodeStorage.open(tmp_path / "runs" / "new")) == 2
    assert (tmp_path / "runs" / "new.unfinished" / "thesis.txt").read_text() == "precious"
    assert read_json(tmp_path / "runs" / "new" / "data" / "metadata.json")["dataset_id"] == "new-v0"
