"""Tests for worldmodel/data/episode.py."""

import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel.data import ActionSpec, Batch, Episode, SegmentId, StoreInfo
from worldmodel.settings import from_json

BOX = ActionSpec(kind="box", n=2, names=("x", "y"), low=(-1.0, 0.0), high=(1.0, 2.0))
TURNS = ActionSpec(kind="discrete", n=3, names=("left", "right", "ahead"))
INFO = StoreInfo(env_id="Toy", frames_per_step=2, height=6, width=8, channels=3, action=BOX, signal_names=("HEALTH",))


def make_episode(**changes) -> Episode:
    parts = {
        "frames": np.zeros((5, 2, 6, 8, 3), np.uint8),
        "actions": np.zeros(4, np.int64),
        "rewards": np.zeros(4, np.float32),
        "terminated": True,
        "truncated": False,
        "signals": np.zeros((5, 1), np.float32),
    }
    return Episode(**parts | changes)


def test_an_episode_of_n_steps_has_one_state_more_than_actions():
    assert make_episode().num_steps == 4
    for name, shape in {"frames": (4, 2, 6, 8, 3), "signals": (4, 1), "rewards": (5,), "actions": (5,)}.items():
        with pytest.raises(ValueError, match=r"N=\d steps must be .* got \(\d"):
            make_episode(**{name: np.zeros(shape, getattr(make_episode(), name).dtype)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", np.zeros((5, 2, 6, 8, 3), np.float32)),
        ("frames", np.zeros((5, 6, 8, 3), np.uint8)),
        ("actions", np.zeros(4, np.int32)),
        ("actions", np.zeros((4, 2), np.int64)),
        ("actions", np.zeros((4, 2, 1), np.float32)),
        ("rewards", np.zeros(4, np.float64)),
        ("rewards", np.zeros((4, 1), np.float32)),
        ("signals", np.zeros(5, np.float32)),
        ("signals", np.zeros((5, 1), np.int64)),
    ],
)
def test_a_wrong_shape_or_type_is_refused_with_what_was_wanted_and_what_came(name, value):
    with pytest.raises(ValueError, match=rf"{name} of an episode .* must be \(N.*got \({len(value)}.*{value.dtype}"):
        make_episode(**{name: value})


def test_an_episode_of_box_actions_holds_float32():
    assert make_episode(actions=np.zeros((4, 2), np.float32)).num_steps == 4


def test_an_episode_needs_a_step():
    with pytest.raises(ValueError, match="at least one step"):
        make_episode(actions=np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="at least one step"):
        make_episode(actions=np.array(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["rewards", "signals", "actions"])
def test_numbers_that_are_not_finite_are_refused_with_their_position(name, bad):
    values = np.zeros((4, 2), np.float32) if name == "actions" else getattr(make_episode(), name).copy()
    values[3] = bad
    with pytest.raises(ValueError, match=rf"{name} .* finite.*\[3"):
        make_episode(**{name: values})


def test_an_episode_ends_in_at_most_one_way():
    with pytest.raises(ValueError, match="both terminated and truncated"):
        make_episode(terminated=True, truncated=True)
    assert not make_episode(terminated=False, truncated=False).terminated
    with pytest.raises(TypeError, match="truncated of an episode must be a bool, got int"):
        make_episode(truncated=1)


def test_lists_and_tensors_are_refused():
    with pytest.raises(TypeError, match=r"rewards .* numpy array, got list"):
        make_episode(rewards=[0.0] * 4)
    with pytest.raises(TypeError, match=r"frames .* numpy array, got Tensor"):
        make_episode(frames=torch.zeros(5, 2, 6, 8, 3, dtype=torch.uint8))


def test_action_specs_become_gymnasium_spaces():
    assert TURNS.to_gym() == spaces.Discrete(3)
    assert BOX.to_gym() == spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32))
    assert (TURNS.num_features, TURNS.shape, TURNS.dtype) == (3, (), np.int64)
    assert (BOX.num_features, BOX.shape, BOX.dtype) == (2, (2,), np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "dict"}, "unknown kind 'dict'"),
        ({"n": 0}, "at least 1, got 0"),
        ({"names": ("left",)}, "3 actions, got"),
        ({"low": (0.0, 0.0, 0.0)}, "0 bounds"),
        ({"kind": "box"}, "3 bounds"),
        ({"kind": "box", "low": (0.0,) * 3, "high": (1.0, 0.0, 1.0)}, "below its high"),
        ({"kind": "box", "low": (0.0,) * 3, "high": (1.0, float("inf"), 1.0)}, "finite"),
    ],
)
def test_an_impossible_action_spec_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TURNS, **changes)


def test_actions_within_the_space_pass_at_its_very_bounds():
    TURNS.check(np.array([0, 2]))
    BOX.check(np.array([[-1, 0], [1, 2]], np.float32))


@pytest.mark.parametrize(
    ("spec", "actions", "message"),
    [
        (TURNS, np.array([0, 3, 1]), "action 3 at step 1"),
        (TURNS, np.array([0, 1, -1]), "action -1 at step 2"),
        (BOX, np.array([[0, 1], [0, -0.5]], np.float32), r"action \[ 0.  -0.5\] at step 1"),
        (BOX, np.array([[0, np.nan]], np.float32), "at step 0 lies outside"),
        (TURNS, np.zeros((3, 2), np.float32), r"must be \(N,\) int64 .* got \(3, 2\) float32"),
        (BOX, np.zeros((3, 3), np.float32), r"must be \(N, 2\) float32 .* got \(3, 3\) float32"),
    ],
)
def test_actions_outside_the_space_are_refused(spec, actions, message):
    with pytest.raises(ValueError, match=message):
        spec.check(actions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 0}, "height must be at least 1, got 0"),
        ({"frames_per_step": -2}, "frames_per_step must be at least 1"),
        ({"signal_names": ("HEALTH", "HEALTH")}, "unique"),
        ({"signal_names": ("a/b",)}, "'/'"),
        ({"signal_names": ("",)}, "not empty"),
        ({"signal_names": (".",)}, "signal names"),
    ],
)
def test_an_impossible_store_info_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(INFO, **changes)


def test_store_info_survives_json_and_unknown_keys_are_refused():
    saved = json.loads(json.dumps(asdict(INFO)))
    assert from_json(StoreInfo, saved) == INFO
    with pytest.raises(ValueError, match="colour"):
        from_json(StoreInfo, saved | {"colour": "red"})
    with pytest.raises(ValueError, match="sticky"):
        from_json(StoreInfo, saved | {"action": saved["action"] | {"sticky": 1}})


def test_a_segment_id_reads_like_a_slice():
    assert SegmentId(3, 4, 9) == (3, 4, 9)
    episode, start, stop = SegmentId(episode=3, start=4, stop=9)
    assert (episode, start, stop) == (3, 4, 9)


def test_a_batch_moves_to_a_device_as_a_whole():
    batch = Batch(**{field.name: torch.zeros(1) for field in fields(Batch)}).to("meta")
    assert {getattr(batch, field.name).device.type for field in fields(batch)} == {"meta"}


def test_an_action_spec_prints_in_words():
    named = ActionSpec(kind="discrete", n=2, names=("left", "right"))
    assert (
        str(named) == "one of 2 actions (left, right)" and str(ActionSpec(kind="discrete", n=3)) == "one of 3 actions"
    )
    box = ActionSpec(kind="box", n=2, low=(-1.0, 0.123456), high=(1.0, 2.0))
    assert str(box) == "2 dimensions from (-1, 0.1235) to (1, 2)"


@pytest.mark.parametrize("name", ["frames_per_step", "height", "width", "channels", "views", "test_episodes"])
def test_sizes_beyond_32_bits_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} must be at most 2147483647, got 18446744073709551616"):
        replace(INFO, **{name: 2**64})
