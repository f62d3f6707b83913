"""The command line, `videogen-dream COMMAND`: help, errors, completion and stops of all commands (commands.py)."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from worldmodel.errors import did_you_mean
from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.terminal import prepare_terminal, reader_is_gone

_READER_GONE = 141  # as of programs that SIGPIPE ends

# Errors that a user's mistake raises, such as a missing module in an env's id (my_games:MyGame-v0).
_MISTAKES = (ValueError, TypeError, OSError, OverflowError, FloatingPointError, ModuleNotFoundError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (2 after a mistake in what the user gave)."""
    prepare_terminal()
    default = warnings.formatwarning
    warnings.formatwarning = _in_one_line(default)
    try:
        return _run(arguments)
    finally:  # now, because at Python's own exit a reader that is gone ends in a traceback
        warnings.formatwarning = default
        reader_is_gone()


def _in_one_line(default: Callable[..., str]) -> Callable[..., str]:
    """Warnings about what the user gave, such as a damaged film, without the place in the library that noticed it."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        return f"warning: {message}\n" if category is UserWarning else default(message, category, *place, **more)

    return show


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["help"] and given[1:]:
        given = [*given[1:], "--help"]
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if given[0] == "--version":
        from worldmodel import __version__

        print(__version__)
        return 0
    if given[0].partition("=")[0] in ("--completion", "--install-completion"):
        option, *shells = " ".join(given).replace("=", " ").split()
        return _complete(shells) if option == "--completion" else _install_completion(shells)
    name, words = given[0], given[1:]
    if name not in COMMANDS:
        print(f"error: no command {name!r}.{did_you_mean(name, COMMANDS)}", file=sys.stderr)
        return 2
    import gymnasium

    from worldmodel.errors import OutsideError

    try:
        _call(name, words)
    except (*_MISTAKES, OutsideError, gymnasium.error.Error) as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return _READER_GONE
        print(f"error: {error}{_how_modules_are_found(error, words)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {COMMANDS[name].after_stop}", file=sys.stderr)
        return 130
    return 0


def _how_modules_are_found(error: BaseException, words: Sequence[str]) -> str:
    """End of the message if a module that the words name, as in my_games:MyGame-v0, was not found."""
    missing = getattr(error, "name", None) or getattr(error.__cause__, "name", None)  # Gymnasium raises it again
    if not isinstance(error, ModuleNotFoundError) or missing is None:
        return ""
    if not any(word.rpartition("=")[2].startswith((f"{missing}:", f"{missing}.")) for word in words):
        return ""
    stop = "" if str(error).endswith(".") else "."
    return f"{stop} It must be importable: run `export PYTHONPATH=.` in its folder first"


def _call(name: str, words: Sequence[str]) -> None:
    """Parse the words, call the command's function and show what it returns."""
    from worldmodel.training.cli.parsing import parse

    command = COMMANDS[name]
    for word in words:
        option = word.partition("=")[0].replace("_", "-")
        if reason := command.refused.get(option):
            raise ValueError(f"{name} takes no {option}: {reason}")
    result = parse(name, command, words)()
    if command.show is not None:
        command.show(result)


def _complete(shells: Sequence[str]) -> int:
    """Print a script that completes commands and options."""
    from worldmodel.training.cli.install_completion import SHELLS

    if len(shells) != 1 or shells[0] not in SHELLS:
        print(f"error: --completion takes one of {', '.join(SHELLS)}, got {' '.join(shells)!r}", file=sys.stderr)
        return 2
    from worldmodel.training.cli.parsing import completion

    print(completion(COMMANDS, shells[0]))
    return 0


def _install_completion(shells: Sequence[str]) -> int:
    """Write the script of `_complete` where the user's shell, or the one named, finds it."""
    from worldmodel.training.cli.install_completion import SHELLS, install, shell_of
    from worldmodel.training.cli.parsing import completion

    try:
        if len(shells) > 1 or not set(shells) <= set(SHELLS):
            raise ValueError(f"--install-completion takes one of {', '.join(SHELLS)}, got {' '.join(shells)!r}")
        shell = shells[0] if shells else shell_of(os.environ)
        print("\n".join(install(shell, lambda: completion(COMMANDS, shell))))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _help() -> str:
    lines = [f"  {name:16} {command.what}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: videogen-dream COMMAND [OPTIONS]   (COMMAND --help for its options and an example)",
            "",
            *lines,
            "",
            "videogen-dream --version prints the version; --install-completion makes your shell (bash, zsh or fish)",
            "complete commands and options; --completion bash|zsh|fish prints the script for it.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
