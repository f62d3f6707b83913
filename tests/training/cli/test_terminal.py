"""Tests for training/cli/terminal.py, in processes whose stdout is what a user's may be."""

import os
import subprocess
import sys

import pytest

from worldmodel.training.cli.terminal import spell

PROGRAM = """
import sys
from worldmodel.training.cli import main as cli
cli._call = lambda name, words: [print("3 ± 1 → 2 × 4 …", "\\udcff.mp4") for _ in range(int(sys.argv[1]))]
sys.exit(cli.main(["fetch-battle2"]))
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = os.environ | environment
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("encoding", "wanted"),
    [
        ("ascii", "3 +/- 1 -> 2 x 4 ... \\udcff.mp4"),
        ("latin-1", "3 ± 1 -> 2 × 4 ... \\udcff.mp4"),
        ("utf-8", "3 ± 1 → 2 × 4 … \\udcff.mp4"),
    ],
)
def test_characters_that_a_terminal_cannot_show_are_spelled_out(encoding, wanted):
    done = run("-c", PROGRAM, "1", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).splitlines() == [wanted]


def test_spelling_keeps_letters_and_shows_what_has_no_ascii_form():
    assert spell("Grösse – ┌─┐ 5 ≥ 4 ²") == "Grosse - +-+ 5 >= 4 2"
    assert spell("日") == r"\u65e5"


@pytest.mark.parametrize("lines", ["1", "100000"])
@pytest.mark.parametrize("together", ["", "2>&1"])
def test_a_closed_pipe_ends_a_command_quietly(tmp_path, lines, together):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    line = f"{sys.executable} {program} {lines} {together} | true; echo ${{PIPESTATUS[0]}} >&2"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False)
    assert done.stderr.decode().strip() in ("0", "141")
