"""Tests for worldmodel/data/layout.py: Minari reads the files, and those of another layout are refused."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.makers import INFO, PUSHES, TURNS, make_episode, make_store
from worldmodel.data import EpisodeStorage


@pytest.mark.filterwarnings("ignore::DeprecationWarning:minari", "ignore::UserWarning:gymnasium.spaces.box")
@pytest.mark.parametrize("action", [TURNS, PUSHES])
def test_minari_reads_the_store_back_bit_exact(tmp_path, monkeypatch, action):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    info = replace(INFO, action=action)
    lengths = (6, 3, 8)
    with EpisodeStorage.create(tmp_path / "toy" / "random-v0", info, "toy/random-v0") as store:
        for seed, length in enumerate(lengths):
            store.append(make_episode(length, seed, info))

    dataset = minari.load_dataset("toy/random-v0")
    assert list(minari.list_local_datasets()) == ["toy/random-v0"]
    assert (dataset.total_episodes, dataset.total_steps) == (3, 17)
    assert dataset.filter_episodes(lambda episode: len(episode) > 3).total_steps == 14
    assert dataset.spec.action_space == action.to_gym()
    assert dataset.spec.observation_space.shape == info.frame_shape
    for seed, (length, theirs) in enumerate(zip(lengths, dataset.iterate_episodes(), strict=True)):
        wanted = make_episode(length, seed, info)
        np.testing.assert_array_equal(theirs.observations, wanted.frames)
        np.testing.assert_array_equal(theirs.actions, wanted.actions)
        np.testing.assert_array_equal(theirs.rewards, wanted.rewards)
        np.testing.assert_array_equal(theirs.terminations, [False] * (length - 1) + [wanted.terminated])
        np.testing.assert_array_equal(theirs.truncations, [False] * (length - 1) + [wanted.truncated])
        for column, name in enumerate(info.signal_names):
            np.testing.assert_array_equal(theirs.infos[name], wanted.signals[:, column])
        assert dataset.observation_space.contains(theirs.observations[0])
        assert dataset.action_space.contains(theirs.actions[0])
    assert [data["seed"] for data in dataset.storage.get_episode_metadata(range(3))] == [0, 1, 2]


def test_a_store_without_a_dataset_id_is_named_after_its_folder(tmp_path):
    for folder, name in {"random-v3": "random-v3", "my data": "my-data-v0"}.items():
        EpisodeStorage.create(tmp_path / folder, INFO)
        assert json.loads((tmp_path / folder / "data" / "metadata.json").read_text())["dataset_id"] == name


@pytest.mark.parametrize("name", ["toy", "toy/random", "/toy-v0", "a b-v0", ""])
def test_a_dataset_id_that_minari_cannot_read_is_refused(tmp_path, name):
    if name:
        with pytest.raises(ValueError, match="dataset_id must look like"):
            EpisodeStorage.create(tmp_path / "store", INFO, name)
    assert not (tmp_path / "store").exists()


# Damaged and foreign files


def change_metadata(root: Path, **changes) -> None:
    path = root / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_without_metadata_is_not_a_store(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metadata\.json is missing.*videogen-dream collect"):
        EpisodeStorage.open(tmp_path / "nothing")
    make_store(tmp_path / "toy")
    (tmp_path / "toy" / "data" / "metadata.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"toy/data/metadata\.json is missing"):
        EpisodeStorage.open(tmp_path / "toy")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("pending", [True, False])
def test_a_truncated_file_is_refused_with_its_name(tmp_path, share, pending):
    store = make_store(tmp_path / "toy")
    name = "main_data.hdf5"
    if pending:
        store.append(make_episode(6, seed=4))
        name = "pending/episode_000004.hdf5"
    path = tmp_path / "toy" / "data" / name
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(ValueError, match=rf"{name} is truncated.*collect") as error:
        EpisodeStorage.open(tmp_path / "toy")
    assert ("that episode again" in str(error.value)) == pending


def test_a_file_shorter_than_its_offsets_say_is_refused(tmp_path, monkeypatch):
    # HDF5 itself notices a file cut at its end; this is the check behind it.
    store = make_store(tmp_path / "toy")
    real = Path.stat

    class Short:
        st_size = real(tmp_path / "toy" / "data" / "main_data.hdf5").st_size - 5000
        st_mode, st_ino, st_mtime_ns = 0o100644, 1, 1

    monkeypatch.setattr(Path, "stat", lambda self, **k: Short() if self.name == "main_data.hdf5" else real(self, **k))
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is truncated: episode_\d/\w+ ends beyond its \d+ bytes"):
        EpisodeStorage.open(store.root)


@pytest.mark.parametrize("content", [b"not HDF5 at all", b""])
def test_a_foreign_file_is_refused_with_its_name(tmp_path, content):
    store = make_store(tmp_path / "toy")
    (store.root / "data" / "main_data.hdf5").write_bytes(content)
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is truncated, damaged or not an HDF5 file.*backup"):
        EpisodeStorage.open(store.root)


def write_main(root: Path, name: str, **datasets) -> None:
    """A main file of one episode in which some datasets are replaced."""
    with h5py.File(root / "data" / "main_data.hdf5", "w") as file:
        group = file.create_group(name)
        episode = make_episode(6)
        parts = {
            "observations": episode.frames,
            "actions": episode.actions,
            "rewards": episode.rewards,
            "terminations": np.zeros(6, bool),
            "truncations": np.zeros(6, bool),
            "infos/HEALTH": episode.signals[:, 0],
            "infos/AMMO": episode.signals[:, 1],
        }
        for key, value in (parts | datasets).items():
            if isinstance(value, dict):
                group.create_dataset(key, **value)
            elif value is not None:
                group[key] = value


@pytest.mark.parametrize(
    ("name", "datasets", "message"),
    [
        ("episode_0", {}, None),
        ("trajectory_0", {}, r"holds 'trajectory_0', wanted groups named episode_<id>"),
        ("episode_0", {"rewards": None}, r"lacks a dataset .*rewards"),
        ("episode_0", {"infos/AMMO": None}, r"lacks a dataset .*AMMO"),
        (
            "episode_0",
            {"observations": np.zeros((7, 2, 8, 8, 3), np.uint8)},
            r"observations \(7, 2, 8, 8, 3\) uint8, wanted \(7, 2, 4, 5, 3\) uint8",
        ),
        ("episode_0", {"observations": np.zeros((1, 2, 4, 5, 3), np.uint8)}, r"observations \(1, 2, 4, 5, 3\)"),
        ("episode_0", {"observations": np.float32(1)}, r"observations \(\) float32"),
        ("episode_0", {"rewards": np.zeros(7, np.float32)}, r"rewards \(7,\) float32, wanted \(6,\) float32"),
        ("episode_0", {"rewards": np.zeros(6)}, r"rewards \(6,\) float64, wanted \(6,\) float32"),
        ("episode_0", {"terminations": np.zeros(6, np.uint8)}, r"terminations \(6,\) uint8, wanted \(6,\) bool"),
        ("episode_0", {"infos/AMMO": np.zeros(6, np.float32)}, r"infos/AMMO \(6,\) float32, wanted \(7,\)"),
        ("episode_0", {"rewards": {"data": np.zeros(6, np.float32), "chunks": (3,)}}, r"rewards in chunks"),
        ("episode_1", {}, r"holds 1 episodes where metadata.json beside it says 1, numbered from 0"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_what_is_wrong(tmp_path, name, datasets, message):
    store = make_store(tmp_path / "toy", (6,))
    write_main(store.root, name, **datasets)
    if message is None:
        assert len(EpisodeStorage.open(store.root)) == 1
    else:
        with pytest.raises(ValueError, match=r"main_data\.hdf5 .*" + message):
            EpisodeStorage.open(store.root)


def test_metadata_of_other_programs_versions_and_kinds_is_refused(tmp_path):
    root = make_store(tmp_path / "toy").root
    good = {"format_version": 1, "info": asdict(INFO)}
    for ours, message in [
        (None, r"metadata\.json has no 'videogen_dream' entry: another program"),
        ("theirs", r"metadata\.json has no 'videogen_dream' entry: another program"),
        (good | {"format_version": 99}, r"format version 99, this program reads 1"),
        ({"format_version": 1}, r"describes no valid store"),
        (good | {"info": asdict(INFO) | {"colour": "red"}}, r"describes no valid store .*colour"),
        (good | {"info": asdict(INFO) | {"height": 0}}, r"describes no valid store .*height must be at least 1"),
    ]:
        change_metadata(root, videogen_dream=ours)
        with pytest.raises(ValueError, match=message):
            EpisodeStorage.open(root)
    change_metadata(root, videogen_dream=good)
    assert len(EpisodeStorage.open(root)) == 4


def test_frames_of_another_size_than_the_metadata_says_are_refused(tmp_path):
    root = make_store(tmp_path / "toy").root
    change_metadata(root, videogen_dream={"format_version": 1, "info": asdict(INFO) | {"height": 8}})
    with pytest.raises(ValueError, match=r"main_data\.hdf5 holds episode_0/observations \(7, 2, 4, 5, 3\).*wanted"):
        EpisodeStorage.open(root)


# Invalid content


def change_main(root: Path, change) -> None:
    with h5py.File(root / "data" / "main_data.hdf5", "r+") as file:
        change(file)


def planted(kind):
    def change(file):
        values = file["episode_1/rewards"][:]
        del file["episode_1/rewards"]
        if kind == "soft":
            file["episode_1/rewards"] = h5py.SoftLink("/episode_0/rewards")
        elif kind == "external":
            file["episode_1/rewards"] = h5py.ExternalLink("other.hdf5", "/rewards")
        elif kind == "objects":
            file["episode_1"].create_dataset("rewards", data=["x"] * len(values), dtype=h5py.string_dtype())
        elif kind == "huge":
            file["episode_1"].create_dataset("rewards", (2**60,), np.float32)
        elif kind == "compressed":
            file["episode_1"].create_dataset("rewards", data=values, compression="gzip")
        elif kind == "nan":
            file["episode_1/rewards"] = np.full_like(values, np.nan)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (planted("soft"), r"a soft link in place of episode_1/rewards"),
        (planted("external"), r"an external link in place of episode_1/rewards"),
        (planted("objects"), r"episode_1/rewards"),
        (planted("huge"), r"episode_1/rewards"),
        (planted("compressed"), r"episode_1/rewards in chunks"),
        (planted("nan"), r"steps of episode_1 that do not match their checksum"),
        (lambda f: f["episode_1"].attrs.update(total_steps=9), r"episode_1 with total_steps 9, wanted 3"),
        (lambda f: f["episode_1"].attrs.update(seed=9), r"steps of episode_1 that do not match their checksum"),
        (lambda f: f["episode_1"].attrs.pop("crc32c"), r"lacks the checksums of episode_1"),
        (lambda f: f["episode_1/actions"].__setitem__(0, 1 - f["episode_1/actions"][0]), r"steps of episode_1"),
        (lambda f: f.move("episode_3", "episode_03"), r"'episode_03', wanted groups named"),
    ],
)
def test_invalid_content_is_refused_with_the_files_name(tmp_path, change, message):
    root = make_store(tmp_path / "toy").root
    change_main(root, change)
    with pytest.raises(ValueError, match=r"main_data\.hdf5 .*" + message) as error:
        EpisodeStorage.open(root).rewards(0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["episode_1/rewards"].__setitem__(0, np.nan), "rewards that are not finite"),
        (lambda f: f["episode_1/infos/AMMO"].__setitem__(0, np.inf), "signals that are not finite"),
        (lambda f: f["episode_1/actions"].__setitem__(1, 7), r"action 7 at step 1 lies outside \[0, 2\]"),
        (lambda f: f["episode_1/terminations"].__setitem__(0, True), "an end within episode_1"),
    ],
)
def test_an_old_store_without_checksums_opens_and_its_numbers_are_checked(tmp_path, change, message):
    root = make_store(tmp_path / "toy").root

    def age(file):
        del file.attrs["all_episodes_have_crc32c"]
        for group in file.values():
            del group.attrs["crc32c"]

    change_main(root, age)
    assert EpisodeStorage.open(root).num_unchecked == 4
    assert len(EpisodeStorage.open(root).episode(1).rewards) == 3
    change_main(root, change)
    with pytest.raises(ValueError, match=r"main_data\.hdf5 .*" + message):
        EpisodeStorage.open(root).rewards(0)


def test_a_changed_frame_is_found_by_reading_everything(tmp_path):
    root = make_store(tmp_path / "toy").root
    assert list(EpisodeStorage.open(root).damage()) == [""] * 4
    change_main(root, lambda f: f["episode_2/observations"].__setitem__(0, 255 - f["episode_2/observations"][0]))
    store = EpisodeStorage.open(root)
    assert [bool(wrong) for wrong in store.damage()] == [False, False, True, False]
    with pytest.raises(ValueError, match="frames of episode_2 that do not match their checksum"):
        store.episode(2)
