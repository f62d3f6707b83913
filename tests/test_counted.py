"""Numbers with their nouns."""

from worldmodel.counted import counted


def test_one_is_singular_and_everything_else_plural():
    assert [counted(number, "step") for number in (0, 1, 2, 1200)] == ["0 steps", "1 step", "2 steps", "1,200 steps"]
