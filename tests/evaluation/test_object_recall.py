"""Recall of objects, on pictures with known content."""

import numpy as np
import pytest
import torch

from tests.clips import CLIP, clip_world
from tests.training.labelled_store import COLOURS, WALL, labelled_store
from worldmodel.evaluation import object_recall as recall
from worldmodel.evaluation.dreamt_objects import dreamt_objects
from worldmodel.evaluation.object_recall import draw_pieces, find_objects, object_recall, size_names


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return labelled_store(tmp_path_factory.mktemp("labelled"))


def judge(monkeypatch, world, store, decode, **options):
    """The recall of a tokenizer that returns decode(frames)."""
    monkeypatch.setattr(recall, "encode_decode", lambda tokenizer, frames, device: (None, decode(frames.clone())))
    return object_recall(world.tokenizer, store, "all", **options)


def without_balls(frames):
    frames[(frames == torch.tensor(COLOURS[1])).all(-1)] = WALL
    return frames


def shares(scores, name="recall"):
    return {kind: {size: part[name] for size, part in by.items() if name in part} for kind, by in scores.items()}


def test_unchanged_objects_are_recalled(monkeypatch, world, store):
    scores = judge(monkeypatch, world, store, lambda frames: frames)
    assert scores["steps"] == 20 * 6 and scores["frames"] == 240 and scores["nmse"] == 0
    assert scores["psnr_db"] > 50
    wanted = {"ball": {"1-3": 1.0, "4-8": 1.0, "9-19": 1.0, "all": 1.0}, "block": {"9-19": 1.0, "all": 1.0}}
    assert shares(scores["classes"]) == wanted | {"all": wanted["ball"]}
    assert shares(scores["classes"], "objects")["all"]["all"] == 4 * 240
    assert scores["classes"]["ball"]["20-59"] == {"objects": 0, "invisible": 0}


def test_the_error_is_over_the_variance_of_the_frames_themselves(monkeypatch, world, store):
    mean = np.concatenate([store.frames(episode)[1:] for episode in range(20)]).mean()
    scores = judge(monkeypatch, world, store, lambda frames: torch.full_like(frames, round(float(mean))))
    assert scores["nmse"] == pytest.approx(1.0, rel=1e-2)


def test_missing_objects_are_not_recalled(monkeypatch, world, store):
    scores = judge(monkeypatch, world, store, without_balls)["classes"]
    assert shares(scores)["ball"] == {"1-3": 0.0, "4-8": 0.0, "9-19": 0.0, "all": 0.0}
    assert shares(scores, "gain")["ball"]["all"] == pytest.approx(0.0, abs=1e-6)
    assert shares(scores)["block"]["all"] == 1.0
    assert shares(scores)["all"]["all"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(("kept", "recalled"), [(0.45, 0.0), (0.55, 1.0)])
def test_half_of_the_contrast_is_enough(monkeypatch, world, store, kept, recalled):
    scores = judge(monkeypatch, world, store, lambda frames: (WALL + kept * (frames.float() - WALL)).round().byte())
    assert shares(scores["classes"])["all"]["all"] == recalled
    assert scores["classes"]["all"]["all"]["gain"] == pytest.approx(kept, abs=0.02)


def test_baselines_without_the_frame_recall_static_objects(monkeypatch, world, store):
    scores = judge(monkeypatch, world, store, lambda frames: frames)["classes"]["all"]["all"]
    assert scores["background"] < 0.2 and scores["other"] < 0.25
    still = draw_pieces(store, 1, 100, "all")
    frames = still.frames[:1].expand_as(still.frames)
    found = find_objects(still._replace(frames=frames, labels=still.labels[:1].repeat(100, 0)), frames)
    np.testing.assert_allclose(found.gains, 1.0, atol=1e-5)


def test_hardly_visible_objects_are_counted_separately(monkeypatch, world, store):
    monkeypatch.setattr(recall, "gains", lambda contrasts: (contrasts[:, 1:, 0], contrasts[:, 0, 0] > 0))  # no blocks
    scores = judge(monkeypatch, world, store, lambda frames: frames)["classes"]
    assert scores["block"]["all"] == {"objects": 0, "invisible": 240}
    assert scores["all"]["all"]["objects"] == 3 * 240 and scores["all"]["all"]["invisible"] == 240


def test_objects_that_touch_no_other_have_their_own_recall():
    def scores(alone):
        gains = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32)
        ones, visible = np.ones(4, np.int64), np.array([True, True, True, False])
        return recall._scores(recall.FoundObjects(ones, ones, ones, alone, gains, visible), ones > 0)

    some = scores(np.array([True, False, False, True]))
    assert (some["objects"], some["recall"], some["alone"], some["recall_alone"]) == (3, 2 / 3, 1, 1.0)
    assert scores(np.zeros(4, bool))["recall_alone"] is None


def test_sizes_are_grouped_by_pixels():
    assert size_names() == ["1-3", "4-8", "9-19", "20-59", "60+"]
    found = recall.FoundObjects(
        plays=np.arange(9),
        classes=np.ones(9, np.uint8),
        sizes=np.array([1, 3, 4, 8, 9, 19, 20, 59, 60]),
        alone=np.ones(9, bool),
        gains=np.ones((9, 3), np.float32),
        visible=np.ones(9, bool),
    )
    counts = [part["objects"] for part in recall._by_size(found, found.visible).values()]
    assert counts == [2, 2, 2, 2, 1, 9]


def test_the_interval_counts_episodes_and_not_objects(monkeypatch, world, store):
    first = draw_pieces(store, 1, 2048, "all").plays == 0

    def one_play_is_empty(frames):
        frames[torch.from_numpy(first)] = without_balls(frames[torch.from_numpy(first)])
        return frames

    scores = judge(monkeypatch, world, store, one_play_is_empty)["classes"]["ball"]["1-3"]
    assert scores["recall"] == pytest.approx(19 / 20)
    assert scores["half_width"] == pytest.approx(2.093 / 20, rel=1e-3)  # one of 20 episodes recalls nothing


def test_pieces_share_no_step_and_skip_the_first(store):
    pieces = draw_pieces(store, 2, 1000, "all", seed=1)
    assert pieces.frames.shape[:3] == (60, 2, 2) and pieces.labels.shape == (60, 2, 2, 16, 16, 2)
    drawn = sorted(frame.tobytes() for frame in pieces.frames.flatten(0, 1)[:, 0].numpy())
    whole = sorted(store.frames(episode)[step, 0].tobytes() for episode in range(20) for step in range(1, 7))
    assert drawn == whole
    lit = pieces.labels[..., 0] == 1
    assert (pieces.frames.numpy()[lit] == COLOURS[1]).all() and lit.any()
    assert len(draw_pieces(store, 2, 11, "all").frames) == 5


def test_a_real_tokenizer_is_measured_in_steps_and_in_clips(world, store):
    for model in (world, clip_world()):
        scores = object_recall(model.tokenizer, store, "train", 24)
        assert scores["steps"] == 24 // model.tokenizer.config.piece_steps * model.tokenizer.config.piece_steps
        assert 0.0 <= scores["classes"]["all"]["all"]["recall"] <= 1.0 and scores["nmse"] > 0
    assert CLIP > 1


def test_objects_are_absent_from_a_report_where_a_split_has_a_single_clip(tmp_path):
    store, world = labelled_store(tmp_path, episodes=10, steps=CLIP), clip_world(frame_condition=1)
    wanted = {
        "absent": f"split 'test' of {store.root} has fewer than two pieces of {CLIP} steps; collect more, or use "
    }
    for found in (object_recall(world.tokenizer, store), dreamt_objects(world, store, num_dreams=2)):
        assert found.keys() == wanted.keys() and found["absent"].startswith(wanted["absent"])


def test_a_split_without_enough_steps_is_refused(store):
    with pytest.raises(ValueError, match="fewer than two pieces of 9 steps"):
        draw_pieces(store, 9, 100, "all")
