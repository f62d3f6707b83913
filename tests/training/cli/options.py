"""The command line as text: every command with its options, their types and defaults.

options.txt is this text as agreed on. After an intended change of the interface write it again and look at the diff:

    python -m tests.training.cli.options
"""

import argparse
import re
import warnings
from pathlib import Path

import tyro

from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.parsing import as_options

AGREED = Path(__file__).with_name("options.txt")


def parser_of(command: str) -> argparse.ArgumentParser:
    """The command's parser, without parsing anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro has no other public way to list options
        return tyro.extras.get_parser(as_options(COMMANDS[command].load(), COMMANDS[command].names))


def offered() -> str:
    """All commands with all their options."""
    parts = []
    for command in COMMANDS:
        actions = [action for action in parser_of(command)._actions if action.dest != "help"]
        parts.append("\n".join([command, *(f"  {_line(action)}" for action in actions)]))
    return "\n\n".join(parts) + "\n"


def _line(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or action.dest
    default = re.search(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)$", action.help or "")
    assert default is not None, f"tyro no longer says what {name} is without being given: {action.help!r}"
    return " ".join(filter(None, (name, str(action.metavar or ""), f"({default[1]})")))


if __name__ == "__main__":
    AGREED.write_text(offered(), encoding="utf-8")
    print(f"wrote {AGREED}")
