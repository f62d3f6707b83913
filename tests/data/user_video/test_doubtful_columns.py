"""Columns that the user is asked about because they are probably not actions."""

import numpy as np
import pytest

from worldmodel.data.user_video.tables import read_table


def table(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("frame", ["--action-columns act.", "--action-columns frame act"]),
        ("Time", ["--action-columns act.", "--action-columns Time act"]),
        ("timestamp", ["--action-columns act."]),
        ("reward", ["use --reward reward, or", "--action-columns act."]),
        ("done", ["--action-columns act."]),
        ("", ["'column 0' (it has no name)", "--action-columns act."]),  # pandas writes its row numbers so
        ("Unnamed: 0", ["--action-columns 'Unnamed: 0' act"]),
    ],
)
def test_a_column_is_asked_about_by_its_name(tmp_path, header, options):
    path = table(tmp_path, f"{header},act\n5,1\n2,0\n")
    with pytest.raises(ValueError, match=r"a\.csv: is the column .* part of the action\? If not") as raised:
        read_table(path, None, ())
    assert all(option in str(raised.value) for option in options)
    assert read_table(path, None, (), action_columns=("act",)).actions.tolist() == [[1], [0]]
    name = header or "column 0"
    assert read_table(path, None, (), action_columns=(name, "act")).actions.tolist() == [[5, 1], [2, 0]]
    assert read_table(path, name, ()).rewards.tolist() == [5, 2]


@pytest.mark.parametrize("first", ["0 1 2 3 4 5", "1 2 3 4 5 6", "0.033 0.067 0.1 0.133 0.167 0.2"])
def test_a_counting_column_is_asked_about(tmp_path, first):
    path = table(tmp_path, "\n".join(f"{t},{i % 2}" for i, t in enumerate(first.split())))
    with pytest.raises(ValueError, match=r"column '0' \(it counts evenly, .*--action-columns 1\. If it is: .* 0 1"):
        read_table(path, None, ())
    assert len(read_table(path, None, (), action_columns=("1",)).actions) == 6
    np.save(tmp_path / "a.npy", np.stack([np.array(first.split(), float), np.ones(6)], 1))
    with pytest.raises(ValueError, match=r"a\.npy: is the column '0'"):
        read_table(tmp_path / "a.npy", None, ())
    assert read_table(tmp_path / "a.npy", None, (), action_columns=("1",)).actions.tolist() == [[1]] * 6


def test_a_clock_with_uneven_times_is_asked_about(tmp_path):
    times = np.cumsum(np.random.default_rng(0).uniform(1, 9, 30))
    path = table(tmp_path, "x,act\n" + "\n".join(f"{t},0" for t in times))
    with pytest.raises(ValueError, match=r"'x' \(it rises from row to row\)"):
        read_table(path, None, ())


def test_all_doubtful_columns_are_named_at_once(tmp_path):
    path = table(tmp_path, "frame,dx,when,reward\n0,1,10:30,0\n1,2,10:3x,1\n")
    with pytest.raises(ValueError, match=r"are the columns 'frame' .* and 'reward' .*--action-columns dx when\."):
        read_table(path, None, ())


def test_a_column_of_words_is_offered_as_the_action(tmp_path):
    rows = "\n".join(f"{t / 10};{('left', 'none')[t % 2]};{t % 3}".replace(".", ",") for t in range(6))
    with pytest.raises(ValueError, match=r"'Zeit' \(it counts evenly.*that are: --action-columns key\. If it is"):
        read_table(table(tmp_path, f"Zeit;key;hp\n{rows}\n"), None, ())
    with pytest.raises(
        ValueError, match=r"row 2, column 'my key'.* the action, use --action-columns 'my key'\. If it is not"
    ):
        read_table(table(tmp_path, "my key,hp\nleft,7\nup,7\n"), None, ())


def test_actions_that_look_like_actions_are_not_asked_about(tmp_path):
    for values in ([0, 1, 2, 3], [0, 1, 1, 2, 3, 4], [3, 2, 1, 0, -1, -2], [2] * 9):
        path = table(tmp_path, "\n".join(f"{value},1" for value in values))
        assert read_table(path, None, ()).actions[:, 0].tolist() == values
