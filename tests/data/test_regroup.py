from dataclasses import replace

import numpy as np
import pytest

from tests.data.makers import INFO, LABELLED, make_episode, make_store
from tests.training.recorded import recorded_store
from worldmodel.data import ActionSpec, EpisodeStorage, JoinedStorage
from worldmodel.data.regroup import regroup, regroup_episode


@pytest.fixture
def store(tmp_path):
    """Two frames per step; step t is of brightness 2 t, has the action t % 3 and some reward."""
    return recorded_store(tmp_path / "data", lengths=(9, 12, 10, 11))


def test_split_steps_show_each_frame_once_with_the_action_that_was_held(store):
    old, new = store.episode(0), regroup_episode(store.episode(0), 1, store.info.action)
    assert new.frames.shape == (19, 1, 16, 16, 3)
    assert new.frames[:, 0, 0, 0, 0].tolist() == [0, *np.repeat(range(2, 20, 2), 2)]
    assert new.actions.tolist() == np.repeat(old.actions, 2).tolist()
    assert new.rewards[1::2].tolist() == old.rewards.tolist() and not new.rewards[::2].any()
    assert new.signals.shape == (19, 1) and new.signals[2::2].tolist() == old.signals[1:].tolist()


def test_merged_steps_have_the_last_action_and_all_rewards(store):
    old, new = store.episode(1), regroup_episode(store.episode(1), 4, store.info.action)
    assert new.frames[:, :, 0, 0, 0].tolist() == [
        [0] * 4,
        *([2 + 4 * t, 2 + 4 * t, 4 + 4 * t, 4 + 4 * t] for t in range(0, 6)),
    ]
    assert new.actions.tolist() == old.actions[1::2].tolist()
    assert new.rewards.tolist() == (old.rewards[::2] + old.rewards[1::2]).tolist()
    assert new.signals.tolist() == old.signals[::2].tolist()


@pytest.mark.parametrize("steps", [1, 9])
def test_a_merged_step_that_lacks_frames_keeps_the_end_of_the_episode(steps):
    old = make_episode(steps, info=LABELLED)
    new = regroup_episode(old, 8, LABELLED.action)  # four steps become one
    assert new.num_steps == -(-steps // 4) and (new.terminated, new.truncated) == (old.terminated, old.truncated)
    assert new.rewards.sum() == pytest.approx(old.rewards.sum()) and new.rewards[-1] == old.rewards[-1]
    assert new.actions[-1] == old.actions[-1] and (new.signals[-1] == old.signals[-1]).all()
    for name in ("frames", "labels"):
        last, (shown, *still) = getattr(old, name)[-1], getattr(new, name)[-1].reshape(4, *getattr(old, name).shape[1:])
        assert (shown == last).all() and all((part == last[-1]).all() for part in still)


PAIR = ActionSpec(  # an action for each frame
    kind="box", n=4, names=("x_0", "y_0", "x_1", "y_1"), low=(-1.0,) * 4, high=(1.0,) * 4, frames=2
)


def box_store(root, action: ActionSpec, frames_per_step: int = 2) -> EpisodeStorage:
    """One episode of four steps whose actions are numbers in a row, divided by 100."""
    info = replace(INFO, action=action, frames_per_step=frames_per_step)
    episode = make_episode(4, info=info)
    numbers = np.arange(4 * action.n, dtype=np.float32).reshape(4, -1) / 100
    store = EpisodeStorage.create(root, info)
    store.append(replace(episode, actions=numbers))
    store.flush()
    return store


def test_merged_steps_keep_the_actions_of_all_their_frames(tmp_path):
    new = EpisodeStorage.open(regroup(box_store(tmp_path / "old", PAIR), tmp_path / "new", 4))
    assert new.info.action.frames == 4 and new.info.action.held == PAIR.held
    assert new.info.action.names == ("x_0", "y_0", "x_1", "y_1", "x_2", "y_2", "x_3", "y_3")
    np.testing.assert_allclose(new.actions(0), np.arange(16).reshape(2, 8) / 100, atol=1e-6)


def test_the_last_frames_action_fills_a_merged_step(tmp_path):
    new = EpisodeStorage.open(regroup(box_store(tmp_path / "old", PAIR), tmp_path / "new", 12))
    np.testing.assert_allclose(new.actions(0)[0, -12:] * 100, [12, 13, *[14, 15] * 5], atol=1e-4)


def test_split_steps_have_the_actions_of_their_own_frames(tmp_path):
    new = EpisodeStorage.open(regroup(box_store(tmp_path / "old", PAIR), tmp_path / "new", 1))
    assert new.info.action == PAIR.held and new.info.action.names == ("x", "y")
    np.testing.assert_allclose(new.actions(0), np.arange(16).reshape(8, 2) / 100, atol=1e-6)


def test_merged_steps_keep_held_actions_and_split_steps_repeat_them(tmp_path):
    store = box_store(tmp_path / "old", PAIR.held)
    merged = EpisodeStorage.open(regroup(store, tmp_path / "merged", 4))
    assert merged.info.action.frames == 4
    np.testing.assert_allclose(merged.actions(0)[0] * 100, [0, 1, 0, 1, 2, 3, 2, 3], atol=1e-4)
    split = EpisodeStorage.open(regroup(store, tmp_path / "split", 1))
    assert split.info.action == PAIR.held
    np.testing.assert_allclose(split.actions(0)[:3] * 100, [[0, 1], [0, 1], [2, 3]], atol=1e-4)


def test_merging_steps_of_one_frame_and_splitting_them_again_gives_the_same_actions(tmp_path):
    store = box_store(tmp_path / "old", PAIR.held, frames_per_step=1)
    merged = EpisodeStorage.open(regroup(store, tmp_path / "merged", 2))
    assert merged.info.action == PAIR
    again = EpisodeStorage.open(regroup(merged, tmp_path / "again", 1))
    np.testing.assert_array_equal(again.actions(0), store.actions(0))


def test_frame_counts_that_do_not_divide_are_refused(store):
    with pytest.raises(ValueError, match="steps of 2 frames cannot be split into or merged to steps of 3"):
        regroup_episode(store.episode(0), 3, store.info.action)


def test_a_regrouped_store_has_the_first_episodes_with_their_splits(tmp_path, store):
    root = regroup(store, tmp_path / "new", 4, max_steps=20)
    new = EpisodeStorage.open(root)
    assert new.lengths == [5, 6] and new.info.frames_per_step == 4
    assert all(set(new.split(name)) == set(store.split(name)) & {0, 1} for name in ("train", "validation", "test"))


def test_episodes_behind_a_gap_keep_their_ids_and_splits(tmp_path):
    store = EpisodeStorage.create(tmp_path / "old", INFO)
    for episode_id in (*range(3), *range(4, 20)):  # a collection was killed before it had stored episode 3
        store.write_pending(make_episode(2, seed=episode_id), episode_id)
    new = EpisodeStorage.open(regroup(store, tmp_path / "new", 1))
    assert new.ids.tolist() == store.ids.tolist()
    for name in ("train", "validation", "test"):
        assert new.split(name).tolist() == store.split(name).tolist()


def test_joined_stores_are_regrouped_one_by_one(tmp_path, store):
    with pytest.raises(ValueError, match=r"joined stores cannot be regrouped as one: regroup .*, .* one by one"):
        regroup(JoinedStorage([store, store]), tmp_path / "new", 4)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("frames_per_step", [1, 4])
def test_frames_keep_their_speed(tmp_path, frames_per_step):
    info = replace(INFO, steps_per_second=8.75)
    new = EpisodeStorage.open(regroup(make_store(tmp_path / "old", (6,), info), tmp_path / "new", frames_per_step)).info
    assert new.steps_per_second * new.frames_per_step == info.steps_per_second * info.frames_per_step


@pytest.mark.parametrize("frames_per_step", [1, 4])
def test_labels_stay_with_their_frames(tmp_path, frames_per_step):
    store = make_store(tmp_path / "old", lengths=(6,), info=LABELLED)
    old, new = store.episode(0), EpisodeStorage.open(regroup(store, tmp_path / "new", frames_per_step)).episode(0)
    assert new.labels.shape[:4] == new.frames.shape[:4]
    for name in ("frames", "labels"):
        ours, theirs = (getattr(episode, name) for episode in (new, old))
        assert (ours[0] == theirs[0, -1]).all()
        assert np.array_equal(ours[1:].reshape(-1, *ours.shape[2:]), theirs[1:].reshape(-1, *theirs.shape[2:]))


def test_an_existing_store_is_kept_and_a_half_written_one_is_not(tmp_path, store, monkeypatch):
    from worldmodel.data import regroup as module

    whole, calls = module.regroup_episode, []

    def dying(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(module, "regroup_episode", dying)
    with pytest.raises(KeyboardInterrupt):
        regroup(store, tmp_path / "new", 1)
    assert not (tmp_path / "new").exists()
    assert len(EpisodeStorage.open(regroup(store, tmp_path / "new", 1))) == 4
    before = len(calls)
    regroup(store, tmp_path / "new", 1)
    assert len(calls) == before


def test_a_folder_that_holds_another_store_or_something_else_is_refused(store, tmp_path):
    regroup(store, tmp_path / "new", 4)
    with pytest.raises(ValueError, match=r"with 4 frames per step, wanted .* with 1: give another folder"):
        regroup(store, tmp_path / "new", 1)
    (tmp_path / "empty").mkdir()
    assert EpisodeStorage.open(regroup(store, tmp_path / "empty", 1)).info.frames_per_step == 1
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="is not a store"):
        regroup(store, tmp_path / "notes", 1)
