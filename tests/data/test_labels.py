"""Object labels in a store: stored with the episodes, checked like them, and never used for training."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from tests.data.makers import INFO, LABELLED, assert_equal, assert_holds, make_episode, make_store
from worldmodel.data import EpisodeStorage, JoinedStorage, SegmentId


def change_labels(root, change) -> None:
    """Change the labels of episode 1 behind the store's back."""
    with h5py.File(root / "data" / "main_data.hdf5", "r+") as file:
        change(file["episode_1"])


def without_checksums(root) -> None:
    with h5py.File(root / "data" / "main_data.hdf5", "r+") as file:
        del file.attrs["all_episodes_have_crc32c"]
        for group in file.values():
            del group.attrs["crc32c"]


def put(labels):
    def change(group):
        del group["labels"]
        group["labels"] = labels

    return change


def test_labels_come_back_as_they_were_stored(tmp_path):
    store = make_store(tmp_path, info=LABELLED)
    store.append(make_episode(4, 4, LABELLED))  # not packed
    lengths = (6, 3, 8, 5, 4)
    for again in (store, EpisodeStorage.open(tmp_path)):
        assert again.info == LABELLED
        assert_holds(again, lengths)
    for place, length in enumerate(lengths):
        labels = store.labels(place)
        assert labels.shape == (length + 1, 2, 4, 5, 2) and labels.any()
        np.testing.assert_array_equal(labels, make_episode(length, place, LABELLED).labels)


def test_labels_do_not_change_the_training_data(tmp_path):
    plain, labelled = make_store(tmp_path / "plain"), make_store(tmp_path / "labelled", info=LABELLED)
    assert labelled.fingerprint() == plain.fingerprint()
    cuts = [store.segment(SegmentId(2, 1, 6)) for store in (plain, labelled)]
    for name in ("frames", "actions", "rewards", "terminated", "truncated", "signals", "padding_mask"):
        np.testing.assert_array_equal(getattr(cuts[0], name), getattr(cuts[1], name))


def test_a_store_without_labels_keeps_the_format_from_before_labels(tmp_path):
    store = make_store(tmp_path)
    metadata = json.loads((tmp_path / "data" / "metadata.json").read_text())
    assert "label_names" not in metadata["videogen_dream"]["info"]
    with h5py.File(tmp_path / "data" / "main_data.hdf5") as file:
        assert "labels" not in file["episode_0"] and file["episode_0"].attrs["crc32c"].shape == (2,)
    assert store.episode(0).labels is None
    with pytest.raises(ValueError, match=r"has no labels of objects; collect episodes with labels=True \(--labels\)"):
        store.labels(0)


@pytest.mark.parametrize(("kept", "given"), [(LABELLED, INFO), (INFO, LABELLED)])
def test_all_episodes_of_a_store_have_labels_or_none_has(tmp_path, kept, given):
    store = EpisodeStorage.create(tmp_path, kept)
    with pytest.raises(ValueError, match=r"labels of a step must be (None|\(2, 4, 5, 2\)) in this store"):
        store.append(make_episode(3, 0, given))
    assert len(store) == 0


def test_labels_of_another_shape_or_kind_are_refused():
    labels = make_episode(3, 0, LABELLED).labels
    for wrong in (labels[:-1], labels[..., 0], labels.astype(np.int64)):
        with pytest.raises(ValueError, match=r"labels of an episode of N=3 steps must be \(N\+1, F, H, W, 2\) uint8"):
            make_episode(3, 0, LABELLED, labels=wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda group: group.pop("labels"), r"lacks a dataset \(episode_1/labels\)"),
        (put(np.zeros((4, 2, 4, 5), np.uint8)), r"episode_1/labels \(4, 2, 4, 5\) uint8, wanted \(4, 2, 4, 5, 2\)"),
        (put(np.zeros((3, 2, 4, 5, 2), np.uint8)), r"episode_1/labels \(3, 2, 4, 5, 2\) uint8, wanted \(4, 2,"),
        (put(np.zeros((4, 2, 4, 5, 2), np.int16)), r"episode_1/labels .*int16, wanted .*uint8"),
        (put(h5py.SoftLink("/episode_0/labels")), "a soft link in place of episode_1/labels"),
        (lambda group: group.attrs.update(crc32c=np.zeros(2, np.uint32)), "crc32c that is not three checksums"),
    ],
)
def test_a_file_whose_labels_do_not_fit_is_refused(tmp_path, change, message):
    make_store(tmp_path, info=LABELLED)
    change_labels(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        EpisodeStorage.open(tmp_path)


def test_a_changed_label_is_found_where_it_is_read(tmp_path):
    make_store(tmp_path, info=LABELLED)
    change_labels(tmp_path, lambda group: group["labels"].__setitem__((0, 0, 0, 0), (1, 99)))
    store = EpisodeStorage.open(tmp_path)
    assert len(store.rewards(1)) == 3 and store.labels(0).any()
    assert [bool(wrong) for wrong in store.damage()] == [False, True, False, False]
    for read in (store.labels, store.episode):
        with pytest.raises(ValueError, match="labels of episode_1 that do not match their checksum"):
            read(1)


@pytest.mark.parametrize(
    ("pixel", "message"),
    [((4, 1), "labels of class 4 in episode_1, but metadata.json names 3"), ((0, 1), "an object without a class")],
)
def test_invalid_labels_are_refused_without_checksums_too(tmp_path, pixel, message):
    make_store(tmp_path, info=LABELLED)
    without_checksums(tmp_path)
    assert EpisodeStorage.open(tmp_path).labels(1).any()
    change_labels(tmp_path, lambda group: group["labels"].__setitem__((0, 0, 0, 0), pixel))
    store = EpisodeStorage.open(tmp_path)
    with pytest.raises(ValueError, match=message):
        store.labels(1)
    assert any(message in wrong for wrong in store.damage())


def test_damaged_labels_are_not_packed(tmp_path):
    store = EpisodeStorage.create(tmp_path, LABELLED)
    store.append(make_episode(3, 0, LABELLED))
    with h5py.File(next((tmp_path / "data" / "pending").glob("*.hdf5")), "r+") as file:
        file["episode_0/labels"][0, 0, 0, 0] = (1, 99)
    with pytest.raises(ValueError, match="labels of episode_0 that do not match"):
        store.flush()


def test_joined_stores_show_labels_that_all_of_them_have(tmp_path):
    first, second = (make_store(tmp_path / name, info=LABELLED) for name in "ab")
    joined = JoinedStorage([first, second])
    assert joined.info.label_names == LABELLED.label_names
    assert_equal(joined.episode(5), second.episode(1))
    others = make_store(tmp_path / "c"), make_store(tmp_path / "d", info=replace(LABELLED, label_names=("ball",)))
    for other in others:
        joined = JoinedStorage([first, other])
        assert joined.info.label_names == () and joined.episode(0).labels is None
        np.testing.assert_array_equal(joined.signals(0), first.signals(0))
        assert list(joined.damage()) == [""] * 8


@pytest.mark.parametrize("names", [("ball", "ball"), tuple(map(str, range(256)))])
def test_indistinguishable_classes_are_refused(names):
    with pytest.raises(ValueError, match="label_names must be unique and at most 255"):
        replace(INFO, label_names=names)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:minari", "ignore::UserWarning:gymnasium.spaces.box")
def test_minari_reads_a_store_with_labels(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    make_store(tmp_path / "toy-v0", info=LABELLED)
    episode = next(minari.load_dataset("toy-v0").iterate_episodes())
    np.testing.assert_array_equal(episode.observations, make_episode(6, 0).frames)
    assert json.loads((tmp_path / "toy-v0" / "data" / "metadata.json").read_text())["total_episodes"] == 4
