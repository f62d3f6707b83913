"""From words to a call of a library function: its signature and docstring become options and their help."""

import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import fields, is_dataclass
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from worldmodel.training.cli.commands import Command

Call = Callable[[], Any]

_ARGS = re.compile(r"^Args:", re.MULTILINE)
_OTHER_SECTIONS = re.compile(r"^(Returns|Raises|Source):", re.MULTILINE)


def parse(name: str, command: Command, words: Sequence[str]) -> Call:
    """The call that the words ask for. SystemExit after --help and for a wrong option.

    Raises: ValueError if an option that takes several values is given twice.
    """
    function, prog, words = command.load(), f"videogen-dream {name}", [_at_home(word) for word in words]
    options = as_options(function, command.names, words)
    _check_lists(options, command.names or {}, words)
    about = _ARGS.split(_documented(function))[0].strip()
    call: Callable[..., Any] = tyro.cli(
        options,
        prog=prog,
        description=f"{about}\n\nExample: {prog} {command.example}",
        args=words,
    )
    takes_line = "command" in inspect.signature(function).parameters
    return partial(call, command=shlex.join([*prog.split(), *words])) if takes_line else call


def as_options(
    function: Callable[..., Any], names: Mapping[str, str] | None = None, words: Sequence[str] = ()
) -> Callable[..., Call]:
    """A function whose arguments are the options for tyro; from their values it makes the call.

    Args:
        function: positional-only arguments have no option's name; the fields of `config` are options by their own
            names, below a --preset if its class has presets; `command` is not an option.
        names: options that have another name than their argument.
        words: a preset among them decides the defaults.
    """
    parameters, config = [], []
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint, kind = _option_type(hints[name]), parameter.kind
        if name == "config":
            config = _config_options(hint, parameter.default, words)
        elif name != "command" and kind is not inspect.Parameter.VAR_KEYWORD:
            if names and name in names:
                hint = Annotated[hint, tyro.conf.arg(name=names[name])]
            if kind is not inspect.Parameter.POSITIONAL_ONLY:
                kind = inspect.Parameter.KEYWORD_ONLY
            default = Path(parameter.default) if (hint, type(parameter.default)) == (Path, str) else parameter.default
            parameters.append(parameter.replace(kind=kind, default=default, annotation=hint))
    parameters += config

    def call(*arguments: Any, **options: Any) -> Call:
        for parameter in config[:-1]:  # the preset is in the config already
            del options[parameter.name]
        return partial(function, *arguments, **options)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = _documented(function)
    return call


def _at_home(word: str) -> str:
    """`--out=~/runs`, in which shells leave the ~ as it is, with the folder that it stands for."""
    option, equals, value = word.partition("=")
    return option + equals + str(Path(value).expanduser()) if value == "~" or value.startswith("~/") else word


def _check_lists(options: Callable[..., Call], names: Mapping[str, str], words: Sequence[str]) -> None:
    """Refuse `--data a --data b`, of which tyro would silently take the last alone."""
    given = [word.partition("=")[0].replace("_", "-") for word in words]
    for name, parameter in inspect.signature(options).parameters.items():
        for option in _lists(names.get(name, name), parameter.annotation):
            if given.count(option) > 1:
                raise ValueError(f"{option} is given {given.count(option)} times: give it once, as {option} A B")


def _lists(name: str, hint: Any) -> Iterator[str]:
    """The options among an argument or a field, and all fields below it, that take several values at once."""
    kinds = get_args(hint)
    if get_origin(hint) is tuple:
        yield f"--{name}".replace("_", "-")
    elif get_origin(hint) is Annotated:
        if tyro.conf.UseAppendAction not in kinds:
            yield from _lists(name, kinds[0])
    elif isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        for part in fields(hint):
            yield from _lists(part.name if name == "config" else f"{name}.{part.name}", hints[part.name])
    else:
        for kind in kinds:
            yield from _lists(name, kind)


def completion(commands: Mapping[str, Command], shell: str) -> str:
    """A script that completes commands and options; it starts neither torch nor this package."""
    functions = {name: as_options(command.load(), command.names) for name, command in commands.items()}
    script = StringIO()
    with redirect_stdout(script), suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            functions, prog="videogen-dream", args=["--tyro-write-completion", shell, "-"]
        )
    return script.getvalue()


def _documented(function: Callable[..., Any]) -> str:
    """The docstring without the sections that matter only in Python, each argument in one line."""
    return re.sub(r"\n {8,}", " ", _OTHER_SECTIONS.split(inspect.getdoc(function) or "")[0])


def _config_options(hint: Any, default: Any, words: Sequence[str]) -> list[inspect.Parameter]:
    """[--preset, if the config's class has presets, and] the config."""
    kind = next(each for each in (*get_args(hint), hint) if each is not NoneType)
    default = kind() if default is None else default
    if not hasattr(kind, "of_preset"):
        return [_keyword("config", default, _config_type(kind))]
    if (asked := _asked_preset(words)) is not None:
        default = kind.of_preset(asked)
    about = tyro.conf.arg(
        metavar="|".join(kind.PRESETS), help="named model that sets the defaults of the options below"
    )
    return [
        _keyword("preset", None, Annotated[Literal[*kind.PRESETS] | None, about]),
        _keyword("config", default, _config_type(kind)),
    ]


def _config_type(kind: Any) -> Any:
    """A config's class for tyro: where a field can be of several classes, its default decides the options."""
    _hide_net(kind)
    return Annotated[kind, tyro.conf.AvoidSubcommands, tyro.conf.arg(name="")]


def _hide_net(kind: Any) -> None:
    """Take `net`, which names the class of a model and has one value, out of the options of settings of this kind."""
    for part in get_args(kind):
        _hide_net(part)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        if get_origin(net := hints.get("net")) is Literal:
            kind.__annotations__["net"] = Annotated[net, tyro.conf.Suppress]
        for hint in hints.values():
            _hide_net(hint)


def _keyword(name: str, default: Any, hint: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _asked_preset(words: Sequence[str]) -> str | None:
    """The NAME of `--preset NAME` or `--preset=NAME`: it decides the defaults, so it is read before the others."""
    asked = [following for word, following in pairwise(words) if word == "--preset"]
    asked += [word.partition("=")[2] for word in words if word.startswith("--preset=")]
    return asked[-1] if asked else None


def _option_type(hint: Any) -> Any:
    """Of all types that an argument accepts, the one that words can give: a sequence, a path, a string or a number."""
    origin, kinds = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kind = _option_type(min((kind for kind in kinds if kind is not NoneType), key=_rank))
        return kind | None if NoneType in kinds else kind
    return tuple[_option_type(kinds[0]), ...] if origin is Sequence else hint  # type: ignore[misc]


def _rank(kind: Any) -> int:
    wanted, kind = (Sequence, Path, str), get_origin(kind) or kind
    return wanted.index(kind) if kind in wanted else len(wanted)
