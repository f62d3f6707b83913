"""Settings as options of the command line: what to type to get them again."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from worldmodel.settings import flat


def command_line(*words: Any) -> str:
    """A videogen-dream command, quoted for a shell."""
    return shlex.join(["videogen-dream", *map(str, words)])


def options_of(settings: Any, defaults: Any, leave_out: Collection[str] = ()) -> list[str]:
    """Options for the settings that differ from the command's defaults.

    Args:
        settings: a config, or a mapping as config.json holds it; what it lacks is at its default.
        defaults: a config of the same class.
        leave_out: full names of settings that are given in another way, such as "loop.seed".
    """
    ours = _flat(settings)
    words: list[str] = []
    for name, value in _flat(defaults).items():
        if name not in leave_out and (found := ours.get(name, value)) != value:
            words += _option(name, found)
    return words


def _flat(settings: Any) -> dict[str, Any]:
    """All settings by their full names, each as config.json holds it: with lists for tuples."""
    named = flat(settings if isinstance(settings, Mapping) else asdict(settings))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


def _option(name: str, value: Any) -> list[str]:
    *parents, last = name.replace("_", "-").split(".")
    option = "--" + ".".join([*parents, f"no-{last}" if value is False else last])
    return [option] if isinstance(value, bool) else [option, *map(str, value if isinstance(value, list) else [value])]


__all__ = ["command_line", "options_of"]
