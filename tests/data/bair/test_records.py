"""BAIR trajectories: records in the published format, the time rule, and errors of broken records."""

import os

import numpy as np
import pytest

from tests.bair_records import REAL_CLIP, make_trajectory, write_file
from worldmodel.data.bair.records import read_trajectories, store_info, to_episode, to_features
from worldmodel.data.bair.tfrecord import BrokenRecordError, make_example, write_records


def write(path, count=3, **changes):
    return write_file(path, range(count), **changes)


@pytest.mark.parametrize("camera", ["aux1", "main"])
def test_trajectories_are_read_as_they_were_recorded(tmp_path, camera):
    path = write(tmp_path / "traj_0_to_2.tfrecords")
    for index, (place, trajectory) in enumerate(read_trajectories(path, camera)):
        cameras, actions, positions = make_trajectory(index)
        assert place[:2] == (path, index)
        np.testing.assert_array_equal(trajectory.frames, cameras[camera])
        np.testing.assert_array_equal(trajectory.actions, actions)
        np.testing.assert_array_equal(trajectory.positions, positions)
    assert index == 2


def test_records_may_have_their_keys_in_any_order(tmp_path):
    def shuffled(features, index):
        keys = np.random.default_rng(index).permutation(sorted(features))
        return {key: features[key] for key in keys.tolist()}

    path = write(tmp_path / "traj_0_to_2.tfrecords", change=shuffled)
    for index, (_, trajectory) in enumerate(read_trajectories(path, "aux1")):
        cameras, actions, _ = make_trajectory(index)
        np.testing.assert_array_equal(trajectory.frames, cameras["aux1"])
        np.testing.assert_array_equal(trajectory.actions, actions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {k: v for k, v in f.items() if k != "7/action"}, "the key '7/action' is missing"),
        (lambda f: f | {"3/image_aux1/encoded": b"\xff\xd8"}, "'3/image_aux1/encoded' must have 12288 bytes, got 2"),
        (lambda f: f | {"0/action": np.zeros(5, np.float32)}, "'0/action' must have 16 bytes, got 20"),
        (lambda f: f | {"0/action": np.zeros(16, np.int64)}, "'0/action' must hold float32 numbers, got integers"),
        (lambda f: f | {"0/action": bytes(16)}, "'0/action' must hold float32 numbers, got a byte string"),
        (
            lambda f: f | {"3/image_aux1/encoded": np.zeros(3072, np.float32)},
            "'3/image_aux1/encoded' must hold a byte string, got float32 numbers",
        ),
    ],
)
def test_a_record_with_invalid_content_is_named_and_the_others_are_read(tmp_path, change, message):
    path = write(tmp_path / "traj_0_to_2.tfrecords", change=lambda f, index: change(f) if index == 1 else f)
    found = [trajectory for _, trajectory in read_trajectories(path, "aux1")]
    assert isinstance(found[1], BrokenRecordError)
    assert message in str(found[1]) and "traj_0_to_2.tfrecords, record 1" in str(found[1])
    assert not isinstance(found[0], Exception) and not isinstance(found[2], Exception)


def test_a_file_cut_between_two_records_is_not_taken_for_complete(tmp_path):
    path = write(tmp_path / "traj_0_to_2.tfrecords")
    os.truncate(path, path.stat().st_size // 3 * 2)
    *found, last = [trajectory for _, trajectory in read_trajectories(path, "aux1")]
    assert len(found) == 2 and not any(isinstance(each, Exception) for each in found)
    assert "record 2: the file ends here, after 2 of 3 trajectories" in str(last)


@pytest.mark.parametrize(("frames_per_step", "steps"), [(1, 29), (2, 15), (4, 8)])
def test_an_episode_follows_the_time_rule(tmp_path, frames_per_step, steps):
    path = write(tmp_path / "traj_0_to_0.tfrecords", count=1)
    _, trajectory = next(read_trajectories(path, "aux1"))
    episode = to_episode(trajectory, frames_per_step)
    assert episode.frames.shape == (steps + 1, frames_per_step, 64, 64, 3)
    assert (episode.frames[0] == trajectory.frames[0]).all()
    for step in range(steps):
        for f in range(frames_per_step):
            frame = 1 + step * frames_per_step + f
            np.testing.assert_array_equal(episode.frames[step + 1, f], trajectory.frames[min(frame, 29)])
            action = episode.actions[step, 4 * f : 4 * f + 4]
            np.testing.assert_array_equal(action, trajectory.actions[frame - 1] if frame < 30 else np.zeros(4))
        last = min((step + 1) * frames_per_step, 29)
        np.testing.assert_array_equal(episode.signals[step + 1], trajectory.positions[last])
    store_info(frames_per_step).action.check(episode.actions)
    assert episode.truncated and not episode.terminated


@pytest.mark.parametrize("frames_per_step", [1, 2, 5])
def test_a_store_plays_ten_frames_a_second(frames_per_step):
    info = store_info(frames_per_step)
    assert info.steps_per_second * info.frames_per_step == 10


def test_the_real_clip_survives_a_record(tmp_path):
    clip = np.load(REAL_CLIP)
    features = to_features({"aux1": clip["aux1"], "main": clip["main"]}, clip["actions"], np.zeros((30, 3)))
    write_records(tmp_path / "traj_0_to_0.tfrecords", [make_example(features)])
    for camera in ("aux1", "main"):
        _, trajectory = next(read_trajectories(tmp_path / "traj_0_to_0.tfrecords", camera))
        np.testing.assert_array_equal(trajectory.frames, clip[camera])
        np.testing.assert_array_equal(trajectory.actions, clip["actions"])
        episode = to_episode(trajectory)
        store_info().action.check(episode.actions)
    # The robot holds each action for two frames, and a step is two frames: its two actions are one.
    np.testing.assert_array_equal(episode.actions[:-1, :4], episode.actions[:-1, 4:])
