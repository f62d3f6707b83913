"""Settings as options of the command line: what somebody would type to do the same again."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from worldmodel.settings import flat


def command_line(*words: Any) -> str:
    """A command of videogen-dream; what a shell would read otherwise is quoted."""
    return shlex.join(["videogen-dream", *map(str, words)])


def options_of(settings: Any, usual: Any, leave_out: Sequence[str] = ()) -> list[str]:
    """Options for the fields of a dataclass, nested ones too, that differ from those of `usual`, the command's own.

    Args:
        leave_out: whole names of fields that are given in another way, such as "loop.seed".
    """
    ours, theirs = flat(asdict(settings)), flat(asdict(usual))
    words: list[str] = []
    for name, value in ours.items():
        if value != theirs[name] and name not in leave_out:
            words += _option(name, value)
    return words


def _option(name: str, value: Any) -> list[str]:
    *parents, last = name.replace("_", "-").split(".")
    if value is False:
        last = f"no-{last}"
    option = "--" + ".".join([*parents, last])
    return [option] if isinstance(value, bool) else [option, *_values(value)]


def _values(value: Any) -> list[str]:
    return [word for entry in value for word in _values(entry)] if isinstance(value, tuple | list) else [str(value)]


__all__ = ["command_line", "options_of"]
