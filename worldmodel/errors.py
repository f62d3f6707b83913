"""Shared errors and hints: failures outside this program, and suggestions for unknown names."""

import inspect
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import Any


class OutsideError(RuntimeError):
    """Something outside this program failed (a download, a game's process); the message says what to do."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """End of an error message: the closest valid name, if any is close, and all valid names.

    Starts with a space, so that it can follow a sentence: ``f"unknown model {name!r}.{did_you_mean(name, models)}"``.
    """
    names = sorted(valid)
    close = get_close_matches(str(name).lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    hint = next((f" Did you mean {n!r}?" for n in names if close and n.lower() == close[0]), "")
    return f"{hint} Valid: {', '.join(names) or 'none'}."


def first_line(error: Exception) -> str:
    """The first line of an error's message, for a message of ours; libraries' own can be pages long."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def check_known(what: str, name: object, valid: Collection[str]) -> None:
    """ValueError with the nearest valid name if `name` is not one, such as "unknown reward 'denes'. Did you mean …"."""
    if name not in valid:
        raise ValueError(f"unknown {what} {name!r}.{did_you_mean(str(name), valid)}")


def refuse_unknown(unknown: Iterable[str], taker: Callable[..., Any], **elsewhere: str) -> None:
    """Raise TypeError with the nearest valid name if the last parameter of `taker`, ``**unknown``, caught anything.

    `elsewhere` maps names that mean the same elsewhere to ours.
    """
    for name in unknown:
        options = [parameter for parameter in inspect.signature(taker).parameters if parameter != "unknown"]
        # Python's own wording, by which TorchRL and others recognise arguments that an environment does not accept.
        found = f"{taker.__name__}() got an unexpected keyword argument {name!r}."
        if name in elsewhere:
            raise TypeError(f"{found} It is called {elsewhere[name]!r} here.")
        raise TypeError(found + did_you_mean(name, options))
