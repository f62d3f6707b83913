"""Tables of actions: supported files, and refusals."""

import numpy as np
import pytest

from worldmodel.data.user_video.tables import read_table


def write(path, text):
    path.write_text(text)
    return path


def test_a_csv_may_name_its_columns_or_not(tmp_path):
    bare = read_table(write(tmp_path / "a.csv", "1, 0.5\n2, -3\n\n"), None, ())
    assert bare.actions.tolist() == [[1, 0.5], [2, -3]] and bare.rewards is None and bare.signals.shape == (2, 0)
    named = read_table(write(tmp_path / "b.csv", "dx,win,dy,hp\n1,0,2,9\n3,1,4,8\n"), "win", ["hp"])
    assert named.actions.tolist() == [[1, 2], [3, 4]] and named.actions.dtype == np.int64
    assert named.rewards.tolist() == [0, 1] and named.signals.tolist() == [[9], [8]]


def test_words_are_looked_up_in_the_names(tmp_path):
    path = write(tmp_path / "a.csv", "act\nleft\nright\nleft\n")
    assert read_table(path, None, (), ("right", "left")).actions.tolist() == [[1], [0], [1]]
    with pytest.raises(
        ValueError, match=r"a\.csv, row 3, column 'act': 'right' is not a number\. Did you mean 'bright'"
    ):
        read_table(path, None, (), ("bright", "left"))
    assert read_table(path, None, ()).actions.tolist() == ["left", "right", "left"]


@pytest.mark.parametrize(
    ("text", "names", "actions"),
    [
        ("left\nleft\nright\n", ("right", "left"), [1, 1, 0]),  # a name of an action is not a header,
        ("left,0.5\nright,1\n", ("right", "left"), [1, 0]),
        ("left\n0\n1\n", ("right", "left"), [0, 1]),  # but of a column of numbers
        ("left,right\n0,1\n", ("left", "right"), [[0, 1]]),  # or of several columns
    ],
)
def test_a_first_row_of_actions_is_not_a_header(tmp_path, text, names, actions):
    signals = ["1"] if "0.5" in text else []
    table = read_table(write(tmp_path / "a.csv", text), None, signals, names)
    assert table.actions.squeeze(1 if table.actions.shape[1] == 1 else ()).tolist() == actions


def test_an_npz_holds_actions_and_columns_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", actions=np.zeros((3, 2)), prize=np.arange(3), hp=np.ones(3), other=np.ones(99))
    table = read_table(tmp_path / "a.npz", "prize", ["hp"])
    assert table.rewards.tolist() == [0, 1, 2] and table.signals.tolist() == [[1]] * 3
    np.savez(tmp_path / "one.npz", np.arange(4))
    assert read_table(tmp_path / "one.npz", None, ()).actions.tolist() == [[0], [1], [2], [3]]
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(ValueError, match=r"holds no actions: it has a, b\. .* or call the array 'actions'"):
        read_table(tmp_path / "two.npz", None, ())
    with pytest.raises(ValueError, match=r"'other' must have one number for each of the 3 actions, got .*\(99,\)"):
        read_table(tmp_path / "a.npz", None, ["other"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3\n", r"row 2: 1 cells, expected 2"),
        ("", "is empty"),
        ("dx,dy\n", "holds no actions"),
        ("1,2\n3,x\n", "row 2, column '1': 'x' is not a number"),
    ],
)
def test_a_damaged_csv_is_named_by_its_row(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / "a.csv", text), None, ())


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ending \.csv, \.tsv, \.npy, \.npz; got .*a\.doc"):
        read_table(write(tmp_path / "a.doc", "1"), None, ())
    with pytest.raises(FileNotFoundError, match=r"b\.csv is missing"):
        read_table(tmp_path / "b.csv", None, ())


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet", "xlsx"])
def test_a_file_of_another_kind_is_refused_with_the_way_to_convert_it(tmp_path, ending):
    with pytest.raises(
        ValueError, match=rf"with pandas: pandas\.read_.*a\.{ending}'.*\.to_csv\('.*a\.csv', index=False\)"
    ):
        read_table(write(tmp_path / f"a.{ending}", "[]"), None, ())


def test_other_columns_may_stand_beside_the_actions(tmp_path):
    path = write(tmp_path / "a.csv", "time,frame,dx,win,dy\n0.5,a,1,0,2\n0.7,b,3,1,4\n")
    table = read_table(path, "win", (), action_columns=("dy", "dx"))
    assert table.actions.tolist() == [[2, 1], [4, 3]] and table.rewards.tolist() == [0, 1]
    words = write(tmp_path / "b.csv", "frame,act\n0,left\n1,right\n")
    assert read_table(words, None, (), ("right", "left"), ("act",)).actions.tolist() == [[1], [0]]
    with pytest.raises(ValueError, match=r"a\.csv has no column 'dz'\. Did you mean 'dy'"):
        read_table(path, "win", (), action_columns=("dz",))
    with pytest.raises(ValueError, match="'win' cannot be both an action and a reward or signal"):
        read_table(path, "win", (), action_columns=("win",))


def test_column_names_must_be_unique(tmp_path):
    with pytest.raises(ValueError, match=r"a\.csv: column names must be unique"):
        read_table(write(tmp_path / "a.csv", "dx,dx\n0,1\n1,1\n"), None, ())


def test_whole_numbers_beyond_64_bits_are_numbers(tmp_path):
    assert read_table(write(tmp_path / "a.csv", f"{10**19}\n1\n"), None, ()).actions.tolist() == [[1e19], [1]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.npz", b"PK\x03\x04 no archive"),
        ("text.npz", b"left\nright\n"),
        ("text.npy", b"left\nright\n"),
        ("empty.npy", b""),
        ("latin.csv", "gr\xf6\xdfe\n1\n".encode("latin-1")),
        ("quote.csv", b'"dx\n1\n2\n'),
        ("wide.csv", b"1" * 200_000),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as raised:
        read_table(tmp_path / name, None, ())
    assert "pickle" not in str(raised.value)  # numpy's advice to load it unsafely


def test_endings_may_be_uppercase_and_a_single_array_may_have_any_name(tmp_path):
    assert read_table(write(tmp_path / "A.CSV", "1\n0\n"), None, ()).actions.tolist() == [[1], [0]]
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "a.npy").rename(tmp_path / "renamed.npz")
    assert read_table(tmp_path / "renamed.npz", None, ()).actions.tolist() == [[0], [1], [2]]
    with pytest.raises(ValueError, match=r"renamed\.npz has no column 'dx'\. Valid: actions\."):
        read_table(tmp_path / "renamed.npz", None, (), action_columns=("dx",))


def test_rewards_of_an_npz_are_real_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", actions=np.zeros(2), prize=np.array([1j, 0]))
    with pytest.raises(ValueError, match=r"'prize' must have one number for each .*, got complex128"):
        read_table(tmp_path / "a.npz", "prize", ())


def test_a_missing_column_error_names_the_available_columns(tmp_path):
    path = write(tmp_path / "a.csv", "dx,score\n1,2\n3,4\n")
    for reward, signals in (("scoer", ()), (None, ("scoer",))):
        with pytest.raises(
            ValueError, match=r"a\.csv has no column 'scoer'\. Did you mean 'score'\? Valid: dx, score\."
        ):
            read_table(path, reward, signals)
