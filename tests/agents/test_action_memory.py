import numpy as np
import pytest

from tests.agents.trained import small
from worldmodel.agents.action_memory import ActionMemory, choices_of, planes_of
from worldmodel.data import ActionSpec

THREE = ActionSpec(kind="discrete", n=3)
PAIR = ActionSpec(kind="box", n=2, low=(-2.0, 0.0), high=(2.0, 1.0))
SEEN = np.zeros((2, 1, 2, 1), np.float32)  # of two envs: one row of two places, one channel


def planes(memory, dtype=np.float32):
    """What is shown after the channel, (n, P); the same at every position."""
    shown = memory.show(SEEN.astype(dtype))
    assert shown.dtype == dtype and (shown[..., 0] == 0).all() and (shown[:, 0, 0] == shown[:, 0, 1]).all()
    return shown[:, 0, 0, 1:].tolist()


def test_the_last_action_is_shown_from_the_second_step_of_an_episode_on():
    memory = ActionMemory(THREE, small(previous_action=True), 2)
    assert planes(memory) == [[0, 0, 0], [0, 0, 0]]
    assert memory.take(np.array([2, 0])).tolist() == [2, 0]
    assert planes(memory) == [[0, 0, 1], [1, 0, 0]]
    assert planes(memory, np.uint8) == [[0, 0, 255], [255, 0, 0]]
    memory.forget(np.array([0]))
    assert planes(memory) == [[0, 0, 0], [1, 0, 0]]
    memory.take(np.array([1, 1]))
    assert planes(memory) == [[0, 1, 0], [0, 1, 0]]


def test_continuous_actions_are_scaled_by_their_bounds():
    memory = ActionMemory(PAIR, small(previous_action=True), 2)
    assert planes(memory) == planes(memory, np.uint8) == [[0, 0], [0, 0]]
    actions = np.array([[-2, 1], [0, 0.25]], np.float32)
    np.testing.assert_array_equal(memory.take(actions), actions)
    assert planes(memory) == [[-1, 1], [0, -0.5]]
    assert planes(memory, np.uint8) == [[1, 255], [128, 64]]


def test_an_action_is_repeated_for_its_duration_whatever_is_chosen_meanwhile():
    config = small(durations=(1, 3))
    memory = ActionMemory(THREE, config, 2)
    assert memory.choices == choices_of(THREE, config) == ActionSpec(kind="discrete", n=6)
    assert planes_of(THREE, config) == 4
    done, left = [], []
    for choices in ([5, 0], [0, 2], [0, 3], [2, 4], [0, 1]):  # 5: action 2 for 3 steps; even numbers: for one
        done.append(memory.take(np.array(choices)).tolist())
        left.append([round(3 * shown[-1]) for shown in planes(memory)])
    assert done == [[2, 0], [2, 1], [2, 1], [1, 1], [0, 1]]
    assert left == [[2, 0], [1, 0], [0, 2], [0, 1], [0, 0]]


def test_a_hold_ends_with_the_episode():
    memory = ActionMemory(THREE, small(durations=(4,)), 2)
    memory.take(np.array([0, 1]))
    memory.forget(np.array([0]))
    assert planes(memory) == [[0, 0, 0, 0], [0, 1, 0, 0.75]]
    assert memory.take(np.array([2, 2])).tolist() == [2, 1]


def test_an_action_executed_instead_is_remembered_and_ends_a_hold():
    memory = ActionMemory(THREE, small(durations=(4,)), 2)
    memory.take(np.array([0, 1]))
    memory.acted(np.array([0, 2]))
    assert planes(memory) == [[1, 0, 0, 0.75], [0, 0, 1, 0]]
    assert memory.take(np.array([1, 0])).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"actions of all envs, \(2,\), got \(1,\)"):
        memory.acted(np.array([0]))


def test_the_shortest_remaining_duration_is_not_rounded_to_zero_in_frames():
    memory = ActionMemory(THREE, small(durations=(2, 255)), 2)
    memory.take(np.array([0, 1]))
    assert [shown[-1] for shown in planes(memory, np.uint8)] == [1, 254]


def test_continuous_actions_have_no_durations():
    with pytest.raises(ValueError, match=r"durations=\(2,\) need discrete actions"):
        ActionMemory(PAIR, small(durations=(2,)), 2)


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        ((0, 1), r"durations\[0\] must be at least 1, got 0"),
        ((2, 2), r"durations must differ, got \(2, 2\)"),
        ((256,), r"durations\[0\] must be at most 255, got 256"),
    ],
)
def test_durations_must_be_different_numbers_from_1_to_255(durations, message):
    with pytest.raises(ValueError, match=message):
        small(durations=durations)
