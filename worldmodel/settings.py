"""Checks of settings: a dataclass holds what its fields' types say, within the ranges that its class names.

A misspelt word would else train to the end as something that no release can read, and a size of zero fail far inside.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from worldmodel.errors import did_you_mean


def check_settings(
    settings: Any,
    *,
    least: Mapping[str, float] | None = None,
    above: Mapping[str, float] | None = None,
    share: Collection[str] = (),
    at_most_one: Collection[str] = (),
) -> None:
    """Check a dataclass in its `__post_init__`; numbers of numpy and lists become plain numbers and tuples.

    Args:
        least: fields, and what they are at least; for a tuple each of its entries. None in a field passes.
        above: fields, and what they are above.
        share: fields in [0, 1).
        at_most_one: fields in [0, 1].

    Raises:
        TypeError: a field holds another type, or a number that is not finite.
        ValueError: a field is not one of the words it takes, or out of its range.
    """
    for name, hint in _hints(type(settings)).items():
        given = getattr(settings, name)
        plain = _plain(name, given, hint)
        if plain is not given:
            object.__setattr__(settings, name, plain)  # such classes are frozen
    for name, bound in (least or {}).items():
        for value in _numbers(settings, name):
            if value < bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(settings, name)}")
    for name, bound in (above or {}).items():
        for value in _numbers(settings, name):
            if value <= bound:
                raise ValueError(f"{name} must be above {bound}, got {getattr(settings, name)}")
    for name in share:
        if not 0.0 <= getattr(settings, name) < 1.0:
            raise ValueError(f"{name} must be in [0, 1), got {getattr(settings, name)}")
    for name in at_most_one:
        if not 0.0 <= getattr(settings, name) <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {getattr(settings, name)}")


def check_temperature(temperature: float) -> None:
    """Raise ValueError if nothing can be drawn at it."""
    if not (temperature == 0 or 1e-6 <= temperature <= 1e6):  # beyond, logits leave the range of float32
        raise ValueError(f"temperature must be 0, or from 1e-6 to 1e6, got {temperature}")


def _hints(kind: type) -> dict[str, Any]:
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return {name: hint for name, hint in get_type_hints(kind).items() if name in fields}


def _numbers(settings: Any, name: str) -> Iterable[float]:
    value = getattr(settings, name)
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _plain(name: str, value: Any, hint: Any) -> Any:
    """The value as its field's type; what is neither a number, a word, nor a tuple of these passes as it is."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in args:
            return None
        kinds = [kind for kind in args if kind is not NoneType]
        return _plain(name, value, kinds[0]) if len(kinds) == 1 else value
    if origin is Literal:
        if value not in args:
            raise ValueError(f"unknown {name} {value!r}.{did_you_mean(value, map(str, args))}")
        return value
    if origin is tuple and args:
        if not isinstance(value, tuple | list):
            raise TypeError(f"{name} must be a tuple, got {value!r}")
        kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise ValueError(f"{name} must have {len(kinds)} entries, got {value!r}")
        made = tuple(_plain(name, entry, kind) for entry, kind in zip(value, kinds, strict=True))
        unchanged = isinstance(value, tuple) and all(a is b for a, b in zip(made, value, strict=True))
        return value if unchanged else made
    if hint is bool and not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    if hint in (int, float):
        return _number(name, value, hint)
    return value


def _number(name: str, value: Any, kind: type) -> Any:
    whole = kind is int
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise TypeError(f"{name} must be a {'whole ' if whole else ''}number, got {value!r}")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        finite = False
    if not finite:
        raise TypeError(f"{name} must be a finite number, got {value!r}")
    return value if isinstance(value, int | float) else kind(value)


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first setting, by name, in which two runs differ: "loop.seed is 0 there, 1 here"; mappings may be nested."""
    old, new = flat(there), flat(here)
    for name in sorted(old | new):
        if name not in old or name not in new or old[name] != new[name]:
            return f"{name} is {_told(old, name)} there, {_told(new, name)} here"
    return "none has another value"


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loop": {"seed": 0}} -> {"loop.seed": 0}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _told(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "not set"
