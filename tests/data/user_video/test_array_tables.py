"""Numpy files as tables: number types, structured arrays, words, and what is refused."""

import numpy as np
import pytest

from worldmodel.data.user_video.tables import read_table


@pytest.mark.parametrize(
    ("array", "actions", "dtype"),
    [
        (np.array([[0.5], [1]], np.float16), [[0.5], [1.0]], "float64"),
        (np.array([1, 2], ">i4"), [[1], [2]], "int64"),
        (np.array([0.5, 2], ">f8"), [[0.5], [2.0]], "float64"),
        (np.array([0, 255], np.uint8), [[0], [255]], "int64"),
        (np.array([2**63, 1], np.uint64), [[2.0**63], [1.0]], "float64"),
        (np.array([True, False]), [[1], [0]], "int64"),
        (np.array(["left", "up"]), ["left", "up"], "<U4"),
        (np.array([b"left", b"up"]), ["left", "up"], "<U4"),
    ],
)
def test_every_number_type_gives_the_same_actions(tmp_path, array, actions, dtype):
    np.save(tmp_path / "a.npy", array)
    table = read_table(tmp_path / "a.npy", None, ())
    assert table.actions.tolist() == actions and table.actions.dtype == dtype


def test_fields_of_a_structured_array_are_columns(tmp_path):
    np.save(tmp_path / "a.npy", np.array([(1, 0.5, 9), (2, 3, 8)], [("dx", "i4"), ("dy", "f4"), ("reward", "f8")]))
    table = read_table(tmp_path / "a.npy", "reward", (), action_columns=("dy", "dx"))
    assert table.actions.tolist() == [[0.5, 1], [3, 2]] and table.rewards.tolist() == [9, 8]
    with pytest.raises(ValueError, match=r"is the column 'reward' \(a reward by its name\)"):
        read_table(tmp_path / "a.npy", None, ())


def test_arrays_of_an_npz_can_be_the_columns(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([1, 2, 5]), y=np.array([0.5, 0, 1]), hp=np.array([9, 8, 7]))
    table = read_table(tmp_path / "a.npz", None, ["hp"], action_columns=("y", "x"))
    assert table.actions.tolist() == [[0.5, 1], [0, 2], [1, 5]] and table.signals[:, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1j, 0]), "complex128"),
        (np.array(["2020-01-01"], "M8[s]"), "datetime64"),
        (np.array(3), r"int64 \(\)"),
        (np.zeros((0, 2)), r"float64 \(0, 2\)"),
        (np.zeros((5, 2, 2)), r"float64 \(5, 2, 2\)"),
        (np.zeros(3, [("a", "f4", (2,))]), r"shape \(K,\) or \(K, A\)"),
        (np.array([["left", "up"]]), "one number for each"),
        (np.array([2**31 - 1], "u4").view("U1"), "characters that do not exist"),
        (np.array([b"\xff"]), "words that are not UTF-8"),
        (np.array([1, None], object), r"np\.save\(path, np\.array\(actions, float\)\)"),
    ],
)
def test_other_arrays_are_refused_by_name(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"a\.npy.*{message}"):
        read_table(tmp_path / "a.npy", None, ())
