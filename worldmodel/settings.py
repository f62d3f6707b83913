"""Settings: dataclasses whose fields pydantic checks, and readable error messages.

Without the checks a misspelt value would train to the end and yield a checkpoint that cannot be read, and a size of
zero would fail deep inside a network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from functools import wraps
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_origin

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from worldmodel.errors import did_you_mean

PositiveInt = Annotated[int, Field(ge=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]


def check_temperature(temperature: float) -> float:
    """Return a valid temperature; ValueError otherwise."""
    if not (temperature == 0 or 1e-6 <= temperature <= 1e6):  # beyond, logits leave the range of float32
        raise ValueError(f"temperature must be 0, or from 1e-6 to 1e6, got {temperature}")
    return temperature


Temperature = Annotated[float, AfterValidator(check_temperature)]

# For a field that may hold one of several classes of settings, distinguished by their entry `net`, a Literal.
BY_NET = Field(discriminator="net")

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_WORDS = {  # pydantic's wording -> ours
    "Input should": "must",
    "Tuple should": "must",
    " after validation": "",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}
_Kind = TypeVar("_Kind")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def checked_dataclass(kind: type[_Kind]) -> type[_Kind]:
    """A frozen, keyword-only dataclass that checks its fields against their types and bounds when instantiated.

    NumPy scalars become Python numbers and lists become tuples; nothing else is converted. Use `__post_init__` for
    rules between fields.

    Raises (on instantiation):
        TypeError: a field is unknown, missing or of another type.
        ValueError: a field is not finite, out of bounds or not one of its choices, or `__post_init__` refuses it.
    """
    made: Any = pydantic_dataclass(kind, frozen=True, kw_only=True, slots=True, config=_STRICT)
    check = made.__init__

    @wraps(check)
    def init(self: Any, *args: Any, **values: Any) -> None:
        try:
            check(self, *args, **{name: _plain(value) for name, value in values.items()})
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "value_error":  # raised by `__post_init__` or a validator of ours
                raise first["ctx"]["error"] from None
            of_type = first["type"].endswith(("_type", "_argument", "missing"))
            raise (TypeError if of_type else ValueError)(explain(error, made)) from None

    made.__init__ = init
    return made


def from_json(kind: type[_Kind], data: Any) -> _Kind:
    """Settings from JSON data; ValueError if an entry is unknown, missing or wrong."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(data))  # as JSON, where lists may stand for tuples
    except ValidationError as error:
        raise ValueError(explain(error, kind)) from None


def check_used(settings: Any, needs: str, *names: str) -> None:
    """ValueError if one of these settings, which do nothing without what `needs` says, is not at its default."""
    defaults = {entry.name: entry.default for entry in fields(settings)}
    for name in names:
        value, default = getattr(settings, name), defaults[name]
        if value != default:
            raise ValueError(f"{name} {value!r} does nothing without {needs}: set that, or {name} to {default!r}")


def explain(error: ValidationError, kind: Any) -> str:
    """Pydantic's errors in data for `kind` as one message: "loop.steps must be at least 1, got 0; …"."""
    return "; ".join(_sentence(part, kind) for part in error.errors())


def _sentence(part: Mapping[str, Any], kind: Any) -> str:
    name, holder = _locate(part["loc"], kind)
    value, message, details = part["input"], part["msg"], part.get("ctx", {})
    match part["type"]:
        case "literal_error":
            valid = details["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"unknown {name} {value!r}.{did_you_mean(value, valid)}"
        case "unexpected_keyword_argument":
            known = [entry.name for entry in fields(holder)]
            return f"{holder.__name__} has no option {name!r}.{did_you_mean(part['loc'][-1], known)}"
        case "union_tag_invalid":
            valid = details["expected_tags"].replace("'", "").split(", ")
            return f"unknown {f'{name}.net'.lstrip('.')} {details['tag']!r}.{did_you_mean(details['tag'], valid)}"
        case "missing":
            return f"{name} is missing"
        case "value_error":
            return f"{name}: {details['error']}".removeprefix(": ")
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return f"{name} {message}, got {value!r}".lstrip()


def _locate(keys: Sequence[Any], kind: Any) -> tuple[str, Any]:
    """Dotted path of an entry, such as "loop.steps", and the class that has or should have its last key."""
    path, holder = "", kind
    for key in keys:
        if get_origin(kind) is Annotated:  # of several classes, pydantic names the one chosen by `net`
            kind = next(each for each in get_args(get_args(kind)[0]) if each.__dataclass_fields__["net"].default == key)
            holder = kind
            continue
        path += f"[{key}]" if isinstance(key, int) else f".{key}"
        holder = kind
        entry = getattr(kind, "__pydantic_fields__", {}).get(key)
        kind = entry and (Annotated[entry.annotation, BY_NET] if entry.discriminator else entry.annotation)
    return path.lstrip("."), holder


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_plain(entry) for entry in value)
    return value.item() if isinstance(value, np.generic) else value


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first setting, by name, in which two runs differ: "loop.seed is 0 there, 1 here"; mappings may be nested."""
    old, new = flat(there), flat(here)
    for name in sorted(old | new):
        if name not in old or name not in new or old[name] != new[name]:
            return f"{name} is {_shown(old, name)} there, {_shown(new, name)} here"
    return "no setting differs"


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loop": {"seed": 0}} -> {"loop.seed": 0}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "not set"
