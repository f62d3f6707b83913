"""Actions of videos: how they are interpreted, and how rows become steps."""

from pathlib import Path

import numpy as np
import pytest

from worldmodel.data import ActionSpec
from worldmodel.data.user_video.actions import action_spec, rows_per_step, to_steps
from worldmodel.data.user_video.tables import Table, read_table


def make_table(actions, rewards=None, signals=None):
    actions = np.asarray(actions)
    return Table(
        path=Path("a.npy"),
        actions=actions,
        rewards=None if rewards is None else np.array(rewards, float),
        signals=np.zeros((len(actions), 0)) if signals is None else np.array(signals, float)[:, None],
    )


# Action specs


def test_one_column_of_integers_is_discrete_and_everything_else_continuous():
    assert action_spec([make_table([0, 2, 1])], "auto", [2]) == ActionSpec(kind="discrete", n=3)
    assert action_spec([make_table([[0], [1]])], "auto", [2], names=["a", "b", "c"]).n == 3
    assert action_spec([make_table([0, -1])], "auto", [1]).kind == "box"
    assert action_spec([make_table([0, 1])], "box", [1]).kind == "box"
    with pytest.raises(ValueError, match="action 2 has no name: only 2 are named"):
        action_spec([make_table([0, 2])], "auto", [1], names=["a", "b"])
    with pytest.raises(ValueError, match="discrete actions are one column of integers from 0 on"):
        action_spec([make_table([0.5, 1.0])], "discrete", [1])


def test_bounds_hold_all_actions_and_zero():
    spec = action_spec([make_table([[0.5, 0.0], [1.0, 0.0]]), make_table([[0.25, 0.0], [2.0, -0.0]])], "auto", [2, 2])
    assert spec.low == (0, 0) * 2 and spec.high == (2, 1) * 2
    spec = action_spec([make_table([[0.5, -3.0]])], "auto", [1], names=["x", "y"], limit=[1, 4])
    assert (spec.low, spec.high, spec.names) == ((-1, -4), (1, 4), ("x", "y"))
    spec = action_spec([make_table([[0.5, -3.0]])], "auto", [2], names=["x", "y"])
    assert spec.n == 4 and spec.names == ("x_0", "y_0", "x_1", "y_1") and spec.low == (0, -3, 0, -3)


def test_continuous_actions_are_named_after_their_columns(tmp_path):
    (tmp_path / "a.csv").write_text("left,right\n0.5,1.5\n-0.5,0.25\n")
    tables = [read_table(tmp_path / "a.csv", None, ())]
    assert action_spec(tables, "auto", [2]).names == ("left_0", "right_0", "left_1", "right_1")
    assert action_spec(tables, "auto", [1], names=["x", "y"]).names == ("x", "y")
    with pytest.raises(ValueError, match="names must be one for each of the 2 columns of actions, got x"):
        action_spec(tables, "auto", [1], names=["x"])


@pytest.mark.parametrize(
    ("tables", "per_step", "changes", "message"),
    [
        ([[[0.5]], [[0.5, 1.0]]], [1, 1], {}, r"the same number of columns, got \[1, 2\]"),
        ([[[0.5]], [[0.5]]], [1, 2], {}, "some files of actions have a row for each frame, others for each step"),
        ([[[0.5, 1.0]]], [1], {"names": ["x"]}, "one for each of the 2 columns"),
        ([[[0.5, 1.0]]], [1], {"limit": [1, 2, 3]}, r"one for each of the 2 columns; got \[1, 2, 3\]"),
        ([[0, 1]], [1], {"limit": [1]}, "--action-limit is for continuous actions"),
    ],
)
def test_inconsistent_tables_and_options_are_refused(tables, per_step, changes, message):
    with pytest.raises(ValueError, match=message):
        action_spec([make_table(actions) for actions in tables], "auto", per_step, **changes)


@pytest.mark.parametrize("dtype", [float, bool])
def test_integers_written_as_floats_are_discrete(dtype):
    actions = [1.0, 0.0, 1.0]
    assert action_spec([make_table(np.array(actions, dtype).astype(float))], "auto", [2]).n == 2
    assert action_spec([make_table([*actions, np.nan])], "discrete", [2]).n == 2  # the last row may be empty
    assert action_spec([make_table(actions)], "box", [2]).kind == "box"


def test_one_hot_rows_are_discrete():
    table = make_table([[0.0, 1, 0], [1, 0, 0], [0, 1, 0]])._replace(columns=("left", "up", "right"), named=True)
    spec = action_spec([table], "auto", [1])
    assert spec == ActionSpec(kind="discrete", n=3, names=("left", "up", "right"))
    assert to_steps(table, spec, 4, 1).actions.tolist() == [1, 0, 1]
    assert action_spec([table], "box", [1]).n == 3
    assert action_spec([make_table([[0, 1], [1, 1]])], "auto", [1]).kind == "box"


def test_words_are_actions_in_alphabetical_order_over_all_tables():
    tables = [make_table(["up", "left"]), make_table(["right", "up", ""])]
    spec = action_spec(tables, "auto", [1, 1])
    assert spec == ActionSpec(kind="discrete", n=3, names=("left", "right", "up"))
    assert to_steps(tables[0], spec, 3, 1).actions.tolist() == [2, 0]
    assert to_steps(tables[1], spec, 3, 1).actions.tolist() == [1, 2]  # the last row is not used
    with pytest.raises(ValueError, match=r"a\.npy, entry 2 .*: the action is empty"):
        to_steps(tables[1]._replace(columns=("act",)), spec, 4, 1)
    with pytest.raises(ValueError, match=r"'up' is not a name of an action.* Valid: left, right"):
        action_spec(tables, "auto", [1, 1], names=["left", "right"])
    with pytest.raises(ValueError, match="those of other files numbers"):
        action_spec([tables[0], make_table([0, 1])], "auto", [1, 1])
    with pytest.raises(ValueError, match="65 different words, such as a0, a1, a10"):
        action_spec([make_table([f"a{i}" for i in range(65)])._replace(columns=("act",))], "auto", [1])


def test_tables_with_their_columns_in_another_order_are_refused():
    one, two = make_table([[0.5, 1]]), make_table([[1, 0.5]])
    one, two = (t._replace(columns=c, named=True) for t, c in ((one, ("dx", "dy")), (two, ("dy", "dx"))))
    with pytest.raises(
        ValueError, match=r"has the columns dx, dy, a\.npy has dy, dx: give the order with --action-columns"
    ):
        action_spec([one, two], "auto", [1, 1])


def test_large_integers_are_not_taken_for_discrete_actions():
    with pytest.raises(ValueError, match=r"integers up to 1700000000, of which 2 occur.*--action-kind box"):
        action_spec([make_table([5, 1_700_000_000])], "auto", [1])
    assert action_spec([make_table([5, 1_700_000_000])], "box", [1]).kind == "box"


# Steps


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_number_that_is_not_finite_is_named_with_row_and_column(value):
    table = make_table([[1.0, 2.0], [1.0, value], [1.0, 2.0]])._replace(columns=("dx", "dy"), first_row=2)
    with pytest.raises(ValueError, match=r"a\.npy, row 3, column 'dy': the action is "):
        to_steps(table, action_spec([table], "auto", [1]), 3, 1)
    last = table._replace(actions=table.actions[:2])
    to_steps(last, action_spec([last], "auto", [1]), 2, 1)  # the last row is not used


@pytest.mark.parametrize(("rows", "wanted"), [(9, 2), (8, 2), (4, 1), (5, 1)])
def test_a_table_has_a_row_for_each_frame_or_for_each_step(rows, wanted):
    assert rows_per_step(make_table(np.zeros(rows)), num_frames=9, frames_per_step=2) == wanted
    with pytest.raises(ValueError, match=r"has 6 actions, its video 9 frames: expected 9 or 8 .* or 4 or 5"):
        rows_per_step(make_table(np.zeros(6)), num_frames=9, frames_per_step=2)


def test_actions_of_a_step_are_concatenated_and_rewards_summed():
    table = make_table([[1.0], [2.0], [3.0], [4.0]], rewards=[1, 2, 4, 100], signals=[5, 6, 7, 8])
    spec = action_spec([table], "box", [2])
    steps = to_steps(table, spec, num_frames=4, frames_per_step=2)
    assert steps.actions.tolist() == [[1, 2], [3, 0]] and steps.actions.dtype == np.float32
    assert steps.rewards.tolist() == [3, 4]
    assert steps.signals[:, 0].tolist() == [5, 7, 8]


def test_a_table_with_a_row_per_step_is_used_unchanged():
    table = make_table([3, 1, 2], rewards=[1, 2, 4], signals=[5, 6, 7])
    steps = to_steps(table, action_spec([table], "auto", [1]), num_frames=9, frames_per_step=4)
    assert steps.actions.tolist() == [3, 1] and steps.rewards.tolist() == [1, 2]
    assert steps.signals[:, 0].tolist() == [5, 6, 7]


def test_a_discrete_action_is_held_for_its_step():
    spec = ActionSpec(kind="discrete", n=3)
    assert to_steps(make_table([1, 1, 2, 2, 0]), spec, 5, 2).actions.tolist() == [1, 2]
    assert to_steps(make_table([1, 1, 2]), spec, 4, 2).actions.tolist() == [1, 2]
    with pytest.raises(
        ValueError, match=r"from 2 to 0 at entry 3 .*hold each for 2 frames, or use --frames-per-step 1"
    ):
        to_steps(make_table([1, 1, 2, 0, 0]), spec, 5, 2)


def test_signals_need_a_row_for_the_last_frame():
    table = make_table([0, 0, 0, 0], signals=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="has 4 rows; with signals it needs 5"):
        to_steps(table, ActionSpec(kind="discrete", n=1), num_frames=5, frames_per_step=2)


@pytest.mark.parametrize("what", ["rewards", "signals"])
def test_rewards_and_signals_are_finite_where_they_are_read(what):
    spec = ActionSpec(kind="discrete", n=1)
    with pytest.raises(
        ValueError, match=rf"a\.npy, entry 1 \(counted from 0\): the {what[:-1]} is empty, NaN or infinite"
    ):
        to_steps(make_table([0, 0, 0], **{what: [1, np.nan, 1]}), spec, 3, 1)
    to_steps(make_table([0, 0, 0], rewards=[1, 1, np.nan]), spec, 3, 1)  # the last row is not used
