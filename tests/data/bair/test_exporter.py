"""Writing a store as BAIR's records: what is read back is what was stored."""

import os
from dataclasses import replace

import numpy as np
import pytest

from tests.bair_records import write_archive
from tests.data.makers import assert_equal, files_of
from tests.kills import kill_everywhere, litter
from worldmodel.data import ActionSpec, Episode, EpisodeStorage
from worldmodel.data.bair import exporter as module
from worldmodel.data.bair.exporter import export_bair
from worldmodel.data.bair.importer import import_bair
from worldmodel.data.bair.records import read_trajectories, store_info
from worldmodel.replacing import finish_replacing
from worldmodel.training.cli.main import main


def make_push(root, steps=15, num_episodes=3, frames_per_step=2, seed=0, **changes):
    """A store like one from a simulator."""
    info = replace(store_info(frames_per_step), **{"env_id": "Push", "signal_names": ("OBJECT_X", *"XYZ")} | changes)
    rng = np.random.default_rng(seed)
    with EpisodeStorage.create(root, info) as store:
        for _ in range(num_episodes):
            frames = rng.integers(256, size=(steps + 1, *info.frame_shape), dtype=np.uint8)
            frames[0] = frames[0, :1]
            store.append(
                Episode(
                    frames=frames,
                    actions=rng.uniform(-0.5, 0.5, (steps, info.action.n)).astype(np.float32),
                    rewards=np.ones(steps, np.float32),
                    terminated=False,
                    truncated=True,
                    signals=rng.random((steps + 1, len(info.signal_names))).astype(np.float32),
                )
            )
    return store


def read(path, camera="aux1"):
    return [trajectory for _, trajectory in read_trajectories(path, camera)]


@pytest.mark.parametrize("camera", ["aux1", "main", "both"])
@pytest.mark.parametrize("frames_per_step", [1, 2, 4])
def test_an_exported_import_is_imported_again_unchanged(tmp_path, monkeypatch, camera, frames_per_step):
    monkeypatch.setattr(module, "PER_FILE", 2)
    settings = {"camera": camera, "frames_per_step": frames_per_step}
    import_bair(write_archive(tmp_path / "raw", train=(4,)), tmp_path / "first", **settings)
    stats = export_bair(tmp_path / "first", tmp_path / "out")
    import_bair(tmp_path / "out", tmp_path / "second", **settings)
    first, second = (EpisodeStorage.open(tmp_path / name) for name in ("first", "second"))
    assert second.info == first.info and len(second) == len(first) and stats.cut == 0
    for episode in range(len(first)):
        assert_equal(second.episode(episode), first.episode(episode))
    assert [path.name for path in stats.files] == [
        *("traj_0_to_1.tfrecords", "traj_2_to_3.tfrecords"),  # train
        *("traj_0_to_1.tfrecords", "traj_2_to_2.tfrecords"),
    ]


def test_a_simulators_frames_and_actions_come_back(tmp_path):
    store = make_push(tmp_path / "push", signal_names=("GRIPPER_Z", "OBJECT_X", "GRIPPER_X", "GRIPPER_Y"))
    export_bair(store, tmp_path / "out")
    import_bair(tmp_path / "out", tmp_path / "back")
    back = EpisodeStorage.open(tmp_path / "back")
    order = [*store.split("test").tolist(), *sorted({0, 1, 2} - set(store.split("test").tolist()))]
    for place, episode in enumerate(order):
        theirs, ours = store.episode(episode), back.episode(place)
        np.testing.assert_array_equal(ours.frames[:-1], theirs.frames[:-1])
        np.testing.assert_array_equal(ours.frames[-1, 0], theirs.frames[-1, 0])  # the thirtieth frame
        np.testing.assert_array_equal(ours.actions[:-1], theirs.actions[:-1])
        np.testing.assert_array_equal(ours.signals, theirs.signals[:, [2, 3, 0]])
    assert len(back.split("test")) == len(store.split("test")) == 1


def test_an_action_held_for_a_step_is_that_of_each_of_its_frames(tmp_path):
    one = ActionSpec(kind="box", n=4, low=(-1.0,) * 4, high=(1.0,) * 4)
    store = make_push(tmp_path / "push", action=one)
    [test] = store.split("test").tolist()
    export_bair(store, tmp_path / "out")
    [trajectory] = read(tmp_path / "out" / "softmotion30_44k" / "test" / "traj_0_to_0.tfrecords")
    np.testing.assert_array_equal(trajectory.actions, store.actions(test).repeat(2, axis=0))
    assert (trajectory.positions == 0).all()  # no such signals


def test_one_view_is_written_as_both_cameras(tmp_path):
    store = make_push(tmp_path / "push")
    path = export_bair(store, tmp_path / "out").files[-1]
    for ours, theirs in zip(read(path, "aux1"), read(path, "main"), strict=True):
        np.testing.assert_array_equal(ours.frames, theirs.frames)


@pytest.mark.parametrize(("steps", "cut"), [(15, 0), (16, 3)])
def test_longer_episodes_are_cut_and_counted(tmp_path, steps, cut):
    store = make_push(tmp_path / "push", steps=steps)
    stats = export_bair(store, tmp_path / "out")
    assert stats.cut == cut
    assert ("of longer episodes" in str(stats)) == bool(cut)
    assert stats.trajectories == {"train": 2, "test": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 14}, "episode 0 has 29 frames; BAIR's records have 30"),
        ({"height": 32}, r"frames of \(64, 64, 3\).* the store has \(32, 64, 3\)"),
        ({"action": ActionSpec(kind="box", n=3, low=(-1.0,) * 3, high=(1.0,) * 3)}, "or 4 that are held.* has 3"),
        ({"num_episodes": 0}, "holds 0 episodes"),
    ],
)
def test_a_store_of_another_kind_is_refused(tmp_path, changes, message):
    store = make_push(tmp_path / "push", **changes)
    with pytest.raises(ValueError, match=message):
        export_bair(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_existing_files_are_not_mixed_with_others(tmp_path):
    store = make_push(tmp_path / "push")
    export_bair(store, tmp_path / "out")
    with pytest.raises(FileExistsError, match="already exists: delete it and its neighbours"):
        export_bair(store, tmp_path / "out")


def test_the_command_exports(tmp_path, capsys):
    before = files_of(make_push(tmp_path / "push").root)
    assert main(["export-bair", str(tmp_path / "push"), "--out", str(tmp_path / "out")]) == 0
    assert "2 train, 1 test trajectories in 2 files" in capsys.readouterr().out
    assert files_of(tmp_path / "push") == before


def test_an_export_killed_at_any_file_operation_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(module, "PER_FILE", 2)
    store = make_push(tmp_path / "push")
    wanted = {path.name: path.read_bytes() for path in export_bair(store, tmp_path / "unbroken").files}
    out = tmp_path / "runs" / "raw"
    for _ in kill_everywhere(tmp_path / "none", out, lambda out: export_bair(store, out)):
        finish_replacing(out / "softmotion30_44k")
        if not (out / "softmotion30_44k").exists():
            export_bair(store, out)
        assert {path.name: path.read_bytes() for path in out.rglob("*.tfrecords")} == wanted
        assert litter(tmp_path) == []
