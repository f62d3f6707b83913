import difflib

from tests.training.cli.options import AGREED, offered


def test_commands_and_options_are_the_agreed_ones():
    agreed, now = (text.splitlines() for text in (AGREED.read_text(encoding="utf-8"), offered()))
    changes = "\n".join(difflib.unified_diff(agreed, now, "options.txt", "offered now", lineterm="", n=2))
    assert not changes, f"if this is intended, run python -m tests.training.cli.options\n{changes}"
