"""Env options from the command line, NAME=VALUE, checked before anything starts."""

import inspect
import json
from collections.abc import Iterable
from typing import Any

from gymnasium.envs.registration import load_env_creator

from worldmodel.envs.ids import env_spec
from worldmodel.errors import did_you_mean

_WORDS = {"none": None, "true": True, "false": False}


def parse_options(texts: Iterable[str]) -> dict[str, Any]:
    """("reward=health", "frame_skip=4") -> {"reward": "health", "frame_skip": 4}.

    A value is parsed as JSON if possible (numbers, true, null, lists, quoted strings); none, True, False and None are
    accepted too. Everything else is a string.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"an env option must be NAME=VALUE, such as frame_skip=4, got {text!r}")
        if name in options:
            raise ValueError(f"the env option {name!r} is given twice")
        try:
            options[name] = _value(value)
        except (ValueError, RecursionError) as error:  # nested too deeply, or a number of thousands of digits
            raise ValueError(
                f"the env option {name!r} cannot be read ({error}); for a text, put it in double quotes"
            ) from error
    return options


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def check_options(env_id: str, options: Iterable[str]) -> None:
    """Raise TypeError with the nearest valid name if the env lacks one of these options."""
    entry_point = env_spec(env_id).entry_point  # refuses an unknown id, with options or without
    if not (names := list(options)):
        return
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    parameters = inspect.signature(creator).parameters.values()
    valid = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in names:
        if name not in valid:
            raise TypeError(f"{env_id} has no option {name!r}.{did_you_mean(name, valid)}")
