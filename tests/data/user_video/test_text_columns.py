"""Text tables: separators, encodings, headers, and how cells are parsed."""

import numpy as np
import pytest

from worldmodel.data.user_video.tables import read_table

NUMBERS = [[0.5, 1.25], [-0.1, 2.0]]


def read(tmp_path, content, **options):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, options.pop("reward", None), options.pop("signals", ()), **options)


@pytest.mark.parametrize(
    "content",
    [
        "dx,dy\n0.5,1.25\n-.1,2\n",
        "dx;dy\r\n0,5;1,25\r\n-0,1;2\r\n",  # a German spreadsheet
        "0,5;1,25\n-0,1;2\n",
        "dx\tdy\n0,5\t1,25\n-0,1\t2\n",
        "dx|dy\n0.5|1.25\n-0.1|2\n",
        "0.5 1.25\n-0.1   2\n\n\n",
        "0,5 1,25\n-0,1 2\n",
        "# dx dy\n5e-1 1.25e+00\n-1.0e-01 2\n",  # numpy's savetxt
        "sep=;\r\ndx;dy\r\n0.5;1.25\r\n-0.1;2\r\n",
        "sep=:\r\ndx:dy\r\n0.5:1.25\r\n-0.1:2\r\n",
        '"dx","dy"\n"0,5","1,25"\n"-0,1","2"\n',
        "dx,dy,,\n0.5,1.25,,\n-0.1,2,,\n,,,\n,,,\n",  # a spreadsheet's empty cells around the table
        "\n\ndx,dy\n0.5,1.25,\n-0.1,2,\n",
        "\ufeffdx,dy\n0.5,1.25\n-0.1,2\n",
        "dx;dy\r\n0,5;1,25\r\n-0,1;2\r\n".encode("utf-16"),
        "dx,dy\r0.5,1.25\r-0.1,2\r",
    ],
)
def test_one_table_is_read_however_it_is_written(tmp_path, content):
    assert read(tmp_path, content).actions.tolist() == NUMBERS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('x,y\n"1,234.5",2\n', "'1,234.5' has thousands separators"),
        ("x;y\n1.234,5;2\n", r"'1\.234,5' has thousands separators"),
        ("x;y\n1,234;2\n", r"'1,234' could mean 1234 or 1\.234"),
        ("x;y\n1.234;2\n987;3\n", r"column 'x': '1\.234' beside integers below 1000 could have a thousands separator"),
        ("x;y\n1,5;2.5\n", r"'2\.5' has a decimal point, '1,5' a decimal comma"),
        ("dx\n0,5\n1,5\n", "row 1: 1 cells, expected 2 .*separate them by semicolons"),
        ("1,1\n0,05\n", "1,1 in its first row could be two numbers, or one with a decimal comma"),
        ("-0,1\n2,5\n", "-0,1 in its first row could be two numbers"),
        ("1\n1_000\n", "row 2, column '0': '1_000' is not a number"),
        ("1_000\n1\n", "row 1, column '0': '1_000' is not a number"),  # and not the name of a column
        ("dx,dy\n1,2\n\n3,4\n", "row 3 is empty"),
        ("dx,dy\r\n1,2\r\n".encode("utf-16-le"), "zero bytes, probably UTF-16 without a byte order mark"),
        ('[{"dx": 1}]', "JSON, HTML or XML"),
        (b"PK\x03\x04 zip", r"a spreadsheet \(\.xlsx"),
        (b"PAR1 and more", "a Parquet file"),
        ("0,1\n0.5,0.1\n0.2,0.3\n", "first row, 0, 1, column numbers written by pandas"),
        ("left\nright\nup\n", "does its first row, left, name the columns"),
        ("when,act\n10:30,left\n10:31,right\n", "row 2, column 'when': '10:30' .* --action-columns act"),
        ("act\n1\nx\n", "row 3, column 'act': 'x' is not a number"),
    ],
)
def test_ambiguous_content_is_refused_with_its_position(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"a\.csv.*{message}"):
        read(tmp_path, content)


def test_rows_are_counted_as_in_a_spreadsheet(tmp_path):
    for text, row in (("dx\n1\nx\n", 3), ("1\nx\n", 2), ("sep=;\ndx;dy\n1;2\n1;x\n", 3), ("\n\ndx\n1\nx\n", 5)):
        with pytest.raises(ValueError, match=f"row {row}, column .*'x' is not a number"):
            read(tmp_path, text)
    assert read(tmp_path, "dx\n1\n2\n").row(1) == "row 3"


@pytest.mark.parametrize(
    ("content", "names", "actions"),
    [
        ("act\n1.0\n0.0\n2.\n", (), [[1], [0], [2]]),  # integers, as pandas writes them beside an empty cell
        ("jump\nTrue\nFalse\nTrue\n", (), [[1], [0], [1]]),
        ("WAHR\nFALSCH\nFALSCH\n", (), [[1], [0], [0]]),
        ("yes\nno\nyes\n", ("yes", "no"), [[0], [1], [0]]),
        ("action\nleft\nnone\nleft\n", (), ["left", "none", "left"]),
        ("left\nright\nleft\n", (), ["left", "right", "left"]),
        ("what\nturn left\nturn right\n", ("turn right", "turn left"), [[1], [0]]),
    ],
)
def test_integers_and_words_are_actions(tmp_path, content, names, actions):
    table = read(tmp_path, content, action_names=names)
    assert table.actions.tolist() == actions and table.actions.dtype.kind in "iU"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_single_column_may_end_in_separators(tmp_path, separator):
    for header in ("", "dx"):
        text = "".join(f"{cell}{separator}\n" for cell in (header, "0.5", "2") if cell)
        assert read(tmp_path, text).actions.tolist() == [[0.5], [2]]


def test_empty_cells_are_nan(tmp_path):
    table = read(tmp_path, "dx,dy\n1,\nNaN,inf\n#N/A,4\n")
    np.testing.assert_array_equal(table.actions, [[1, np.nan], [np.nan, np.nan], [np.nan, 4]])


def test_columns_without_names_are_called_by_their_index(tmp_path):
    table = read(tmp_path, "1,2,7,9\n3,4,8,5\n", reward="3", signals=["2"], action_columns=["1", "0"])
    assert table.actions.tolist() == [[2, 1], [4, 3]]
    assert table.rewards.tolist() == [9, 5] and table.signals.tolist() == [[7], [8]]
    with pytest.raises(ValueError, match=r"has no column '4'\. .*Valid: 0, 1, 2, 3\."):
        read(tmp_path, "1,2,7,9\n3,4,8,5\n", reward="4")


def test_the_separator_and_what_cells_mean_are_noted(tmp_path):
    assert read(tmp_path, "dx;dy\n0,5;1\n1;0,2\n").notes == ("separated by semicolons", "decimal commas")
    assert read(tmp_path, "jump\ntrue\nfalse\n").notes == ("true/false as 1/0",)
    assert read(tmp_path, "dx,dy\n1,2\n").notes == ()
    assert read(tmp_path, "1,25\n2,5\n").notes == ("two columns separated by commas, not as one with decimal commas",)
