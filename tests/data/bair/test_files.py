"""Finding BAIR's record files, and which split they belong to."""

import json

import pytest

from worldmodel.data.bair.files import find_files, find_record_files, label, num_named


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def shards(split, of, *indices, kind="tfrecord"):
    return [f"bair_robot_pushing_small-{split}.{kind}-{i:05}-of-{of:05}" for i in indices]


@pytest.mark.parametrize("other", ["traj_0_to_99", "traj_255_to_510", "traj_10_to_20"])
def test_two_files_of_the_same_trajectories_are_refused_by_name(tmp_path, other):
    folder = tmp_path / "train"
    folder.mkdir()
    for name in ("traj_0_to_255", "traj_600_to_700", other):
        (folder / f"{name}.tfrecords").touch()
    with pytest.raises(ValueError, match="hold some of the same trajectories") as raised:
        find_files(tmp_path, "train")
    assert "traj_0_to_255.tfrecords" in str(raised.value) and f"{other}.tfrecords" in str(raised.value)
    assert "traj_600" not in str(raised.value)


def test_files_come_in_numeric_order(tmp_path):
    folder = tmp_path / "softmotion30_44k" / "train"
    folder.mkdir(parents=True)
    for name in ("traj_1024_to_1279", "traj_256_to_511", "traj_0_to_255"):
        (folder / f"{name}.tfrecords").touch()
    (folder / "notes.tfrecords").touch()
    names = [path.name for path in find_files(tmp_path, "train")]
    assert names == ["traj_0_to_255.tfrecords", "traj_256_to_511.tfrecords", "traj_1024_to_1279.tfrecords"]
    assert [path.name for path in find_files(folder.parent, "train")] == names
    with pytest.raises(FileNotFoundError, match="softmotion30_44k/test"):
        find_files(tmp_path, "test")


def test_the_published_test_file_is_recognised_alone(tmp_path):
    in_test = touch(tmp_path / "test", "traj_0_to_255.tfrecords")
    loose = touch(tmp_path / "loose", "traj_0_to_255.tfrecords")
    renamed = touch(tmp_path / "hub", "bair_test_traj_0_to_255.tfrecords")
    for source in (tmp_path, in_test, in_test / "traj_0_to_255.tfrecords"):
        found = find_record_files(source)
        assert (found.test, found.train, found.notes) == ([in_test / "traj_0_to_255.tfrecords"], [], [])
    for folder in (loose, renamed):
        [path] = folder.iterdir()
        for source in (folder, path):
            found = find_record_files(source)
            assert (found.test, found.train) == ([path], [])
            assert "is read as the published test file by its name" in found.notes[0]
        assert label(path, "test") == "test/traj_0_to_255.tfrecords"


def test_other_single_files_get_the_split_of_their_folder_or_train(tmp_path):
    path = touch(tmp_path / "train", "traj_0_to_255.tfrecords") / "traj_0_to_255.tfrecords"
    assert find_record_files(path).train == [path]
    loose = touch(tmp_path / "some", "traj_512_to_767.tfrecords", "traj_256_to_511.tfrecords")
    found = find_record_files(loose)
    assert [path.name for path in found.train] == ["traj_256_to_511.tfrecords", "traj_512_to_767.tfrecords"]
    assert not found.test and "a published training file" in found.notes[0]
    for name, message in (("x.tfrecords", "not say which split it"), ("bair.tar", "is an archive: unpack it")):
        with pytest.raises(ValueError, match=message):
            find_record_files(touch(tmp_path / "else", name) / name)


def test_files_of_tfds_are_found_from_every_folder_above_them(tmp_path):
    names = [*shards("train", 2, 1, 0), *shards("test", 1, 0)]
    hidden = [f"._{name}" for name in names]  # of a Mac
    folder = touch(tmp_path / "bair_robot_pushing_small" / "2.0.0", *names, *hidden, "features.json")
    for source in (folder, folder.parent, tmp_path):
        found = find_record_files(source)
        assert [path.name for path in found.train] == shards("train", 2, 0, 1)
        assert [path.name for path in found.test] == shards("test", 1, 0) and not found.notes
    assert find_record_files(found.test[0]).train == []
    found.train[1].unlink()
    assert find_record_files(tmp_path).notes == ["found 1 of the 2 files of TFDS's split train"]


def test_tfds_states_how_many_records_a_file_holds(tmp_path):
    [path] = touch(tmp_path, *shards("train", 2, 1)).iterdir()
    assert num_named(path) == 0
    for splits, count in (([{"name": "train", "shardLengths": ["3", "4"]}], 4), ([], 0), ([{"name": "train"}], 0)):
        (tmp_path / "dataset_info.json").write_text(json.dumps({"splits": splits}))
        assert num_named(path) == count
    (tmp_path / "dataset_info.json").write_text("[" * 9)
    assert num_named(path) == 0


def test_several_sets_of_files_are_refused(tmp_path):
    touch(tmp_path / "a" / "2.0.0", *shards("test", 1, 0))
    touch(tmp_path / "a" / "1.0.0", *shards("test", 1, 0))
    with pytest.raises(ValueError, match=r"TFDS in .*1\.0\.0 and TFDS in .*2\.0\.0: give the path of one"):
        find_record_files(tmp_path / "a")
    touch(tmp_path / "b" / "train", "traj_0_to_255.tfrecords")
    touch(tmp_path / "b" / "2.0.0", *shards("test", 1, 0))
    with pytest.raises(ValueError, match="holds the files of the published archive and TFDS in"):
        find_record_files(tmp_path / "b")
    with pytest.raises(ValueError, match="belongs to another set of files"):
        find_record_files(touch(tmp_path / "c", *shards("test", 1, 0), *shards("test", 2, 1)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (*shards("test", 1, 0, kind="array_record"), "file format array_record, only tfrecord is supported"),
        (*shards("validation", 1, 0), "of the split 'validation'; BAIR has test and train"),
    ],
)
def test_unsupported_files_of_tfds_are_named(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        find_record_files(touch(tmp_path, name))
