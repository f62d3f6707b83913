"""`videogen-dream --install-completion`: the script of completion in a file, and a line that loads it."""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from worldmodel.files import atomic_write, write_text

SHELLS = ("bash", "zsh", "fish")
_MARK = "# completion of videogen-dream"


class Place(NamedTuple):
    """Where a shell finds the script."""

    script: Path
    start_up: Path | None = None  # file that the shell reads at its start; None if it looks for scripts itself
    line: str = ""  # of that file


def shell_of(environment: Mapping[str, str]) -> str:
    """The user's shell, by the variable SHELL."""
    name = Path(environment.get("SHELL", "")).name
    if name not in SHELLS:
        raise ValueError(
            f"the shell {environment.get('SHELL', '')!r} (the variable SHELL) has no completion; name one: "
            f"--install-completion {'|'.join(SHELLS)}"
        )
    return name


def place_for(shell: str, environment: Mapping[str, str]) -> Place:
    """The files for a shell, by the variables HOME, XDG_DATA_HOME, XDG_CONFIG_HOME and ZDOTDIR."""
    home = Path(environment["HOME"]) if "HOME" in environment else Path.home()
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share") / "videogen-dream"
    if shell == "fish":
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        return Place(config / "fish" / "completions" / "videogen-dream.fish")
    if shell == "bash":
        script = data / "completion.bash"
        quoted = shlex.quote(str(script))
        return Place(script, home / ".bashrc", f"[ -f {quoted} ] && . {quoted}")
    script = data / "zsh" / "_videogen-dream"  # zsh loads a function from the file of its name
    line = (
        f"fpath=({shlex.quote(str(script.parent))} $fpath); (( $+functions[compdef] )) || "
        "{ autoload -Uz compinit && compinit; }; autoload -Uz _videogen-dream && compdef _videogen-dream videogen-dream"
    )
    return Place(script, Path(environment.get("ZDOTDIR") or home) / ".zshrc", line)


def install(shell: str, script: Callable[[], str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Write the script where the shell finds it, and the line that loads it; returns a sentence for each file.

    A second time the script is written again, and the line is not.
    """
    place = place_for(shell, environment)
    write_text(place.script, script())
    said = [f"wrote {place.script}"]
    if place.start_up is not None:
        said.append(_add_line(place.start_up, f"{place.line}  {_MARK}"))
    return [*said, f"start {shell} again, and Tab completes the commands and options of videogen-dream"]


def _add_line(path: Path, line: str) -> str:
    """Make `line` the only one of ours in a start-up file; whatever else is in it stays."""
    before = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    lines = before.splitlines(keepends=True)
    if f"{line}\n" in lines:
        return f"{path} loads it already"
    kept = "".join(other for other in lines if not other.rstrip("\n").endswith(_MARK))
    if kept and not kept.endswith("\n"):
        kept += "\n"
    with atomic_write(path) as temporary:
        temporary.write_bytes(f"{kept}{line}\n".encode("utf-8", "surrogateescape"))
    return f"added to {path}: {line}"
