"""The installed completion, tried in the shells themselves, in a terminal where Tab is pressed."""

import os
import pty
import select
import shutil
import signal
import time

import pytest

from worldmodel.training.cli import main as command_line
from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.install_completion import place_for, shell_of
from worldmodel.training.cli.main import main

SOME = {name: COMMANDS[name] for name in ("inspect", "worlds", "mirror", "show-codes")}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, and a command line of four commands, for which the script is quick to make."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(command_line, "COMMANDS", SOME)
    return tmp_path


def completed(shell: str, home, typed: str, wanted: str) -> bool:
    """Whether a fresh interactive shell turns `typed` and Tab into `wanted`."""
    child, terminal = pty.fork()
    if child == 0:
        path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
        os.execvpe(shell, [shell, "-i"], {"PATH": path, "HOME": str(home), "TERM": "xterm"})
    shown, sent, deadline = b"", False, time.monotonic() + 60
    try:
        while time.monotonic() < deadline and wanted.encode() not in shown:
            if select.select([terminal], [], [], 1.0)[0]:
                shown += os.read(terminal, 4096)
            elif shown and not sent:
                os.write(terminal, typed.encode())
                sent = True
            elif sent:
                os.write(terminal, b"\t")
        return wanted.encode() in shown
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


@pytest.mark.parametrize("shell", ["bash", *(pytest.param(shell, marks=pytest.mark.slow) for shell in ("zsh", "fish"))])
def test_tab_completes_a_command_once_it_is_installed(shell, home, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    if shell == "zsh":
        (home / ".zshrc").write_text("# mine\n")  # without one, zsh asks its first-time questions
    assert main(["--install-completion", shell]) == 0
    said = capsys.readouterr().out
    place = place_for(shell, os.environ)
    assert f"wrote {place.script}" in said and place.script.is_relative_to(home)
    assert place.start_up is None or f"added to {place.start_up}" in said
    (home / "bin").mkdir()
    program = home / "bin" / "videogen-dream"  # fish completes only what exists
    program.touch(0o755)
    assert completed(shell, home, "videogen-dream show-c", "show-codes")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_second_installation_adds_nothing_and_an_old_line_is_replaced(shell, home, capsys):
    place = place_for(shell, os.environ)
    place.start_up.write_text("alias ll='ls -l'")  # no newline at its end
    place.start_up.chmod(0o600)
    assert main(["--install-completion", shell]) == 0
    once = place.start_up.read_text()
    assert once.startswith("alias ll='ls -l'\n") and once.count("# completion of videogen-dream\n") == 1
    assert main(["--install-completion", shell]) == 0
    assert place.start_up.read_text() == once and "loads it already" in capsys.readouterr().out
    place.start_up.write_text(once.replace("videogen-dream/", "elsewhere/") + "export A=1\n")
    assert main(["--install-completion", shell]) == 0
    assert sorted(place.start_up.read_text().splitlines()) == sorted([*once.splitlines(), "export A=1"])
    assert place.start_up.stat().st_mode & 0o777 == 0o600


def test_a_linked_start_up_file_stays_a_link(home):
    (home / "dotfiles").mkdir()
    (home / "dotfiles" / "bashrc").write_text("# mine\n")
    (home / ".bashrc").symlink_to(home / "dotfiles" / "bashrc")
    assert main(["--install-completion", "bash"]) == 0
    assert (home / ".bashrc").is_symlink() and "videogen-dream" in (home / "dotfiles" / "bashrc").read_text()


def test_the_users_own_shell_is_the_default(home, monkeypatch, capsys):
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main(["--install-completion"]) == 0
    assert (home / ".config" / "fish" / "completions" / "videogen-dream.fish").is_file()
    assert shell_of({"SHELL": "/bin/bash"}) == "bash"
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert main(["--install-completion"]) == 2
    assert "'/bin/tcsh' (the variable SHELL) has no completion; name one" in capsys.readouterr().err


def test_the_users_chosen_folders_are_used(tmp_path):
    chosen = {"HOME": "/h", "XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "/config", "ZDOTDIR": "/z"}
    assert str(place_for("bash", chosen).script) == "/data/videogen-dream/completion.bash"
    assert str(place_for("zsh", chosen).start_up) == "/z/.zshrc"
    assert str(place_for("fish", chosen).script) == "/config/fish/completions/videogen-dream.fish"


@pytest.mark.parametrize("words", [["powershell"], ["bash", "zsh"]])
def test_a_shell_without_completion_is_refused(words, home, capsys):
    assert main(["--install-completion", *words]) == 2
    assert "one of bash, zsh, fish" in capsys.readouterr().err
    assert list(home.iterdir()) == []
