"""A function's signature and docstring as options, for the test's own functions and for all commands."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest

from worldmodel.settings import BY_NET
from worldmodel.training.cli.commands import COMMANDS, Command
from worldmodel.training.cli.main import main
from worldmodel.training.cli.parsing import _at_home, parse


@dataclass(frozen=True)
class Size:
    PRESETS: ClassVar[tuple[str, ...]] = ("large",)

    width: int = 8  # pixels from left to right
    depth: int = 2

    @classmethod
    def of_preset(cls, name: str) -> "Size":
        return {"large": cls(width=64)}[name]


def paint(
    place: str | Path,
    /,
    env_id: str,
    config: Size | None = None,
    *,
    data: str | Path | Sequence[str | Path] | Size,
    model: Size | str | os.PathLike = "doom",
    extra: Mapping[str, int] | Sequence[str] = (),
    out: str | Path = "runs/paint",
    scale: int | None = None,
    command: str = "",
    **more: int,
) -> Path:
    """Paint a picture.

    In colours.

    Args:
        place: where it hangs, or
            where it lies.
        env_id: what it shows.

    Returns: its path.
    """


class Paint(Command):
    def load(self):
        return paint


@dataclass(frozen=True)
class Convolutions:
    net: Literal["convolutions"] = "convolutions"
    kernel: int = 3


@dataclass(frozen=True)
class Transformer:
    net: Literal["transformer"] = "transformer"
    layers: int = 4


@dataclass(frozen=True)
class Training:
    PRESETS: ClassVar[tuple[str, ...]] = ("small", "large")

    model: Annotated[Convolutions | Transformer, BY_NET] = field(default_factory=Convolutions)

    @classmethod
    def of_preset(cls, name: str) -> "Training":
        return cls(model=Transformer() if name == "large" else Convolutions())


class Train(Command):
    def load(self):
        return train


def train(config: Training | None = None) -> Convolutions | Transformer:
    """Train."""
    return config.model


TRAIN = Train("", "train a model", "--preset large")


PAINT = Paint("", "", "wall --env Doom --data a b", names={"env_id": "env"})


def painted(*words):
    call = parse("paint", PAINT, ["wall", "--env", "Doom", "--data", "a", "b", *words])
    return call.args, call.keywords


def test_arguments_get_types_that_can_be_parsed():
    arguments, options = painted("--model", "push", "--extra", "a", "b", "--scale", "3")
    assert arguments == (Path("wall"),) and options.pop("command").startswith("videogen-dream paint wall --env Doom")
    assert options == {
        "env_id": "Doom",
        "data": (Path("a"), Path("b")),
        "model": "push",
        "extra": ("a", "b"),
        "out": Path("runs/paint"),
        "scale": 3,
        "config": Size(),
    }


@pytest.mark.parametrize(
    "words", [["--data", "c"], ["--data=c"], ["--extra", "a", "--extra", "b"], ["--extra=a", "--extra=b"]]
)
def test_several_values_belong_to_one_option(words):
    option = words[0].partition("=")[0]
    with pytest.raises(ValueError, match=f"{option} is given 2 times: give it once, as {option} A B"):
        painted(*words)


@pytest.mark.parametrize(
    ("command", "option"),
    [("evaluate", "--policies"), ("demo", "--tokenizer.model.stage-widths"), ("benchmark", "--games")],
)
def test_several_values_belong_to_one_option_of_settings_too(command, option):
    with pytest.raises(ValueError, match=f"{option} is given 2 times: give it once, as {option} A B"):
        parse(command, COMMANDS[command], [option, "1", option.replace("-w", "_w"), "2"])


def test_an_option_that_collects_its_values_may_be_given_again():
    words = ["transfer", "--world", "a=b", "--world", "c=d"]
    assert parse("benchmark", COMMANDS["benchmark"], words).keywords["config"].world == ("a=b", "c=d")


@pytest.mark.parametrize("word", ["--model=~/push", "--model=~"])
def test_the_home_folder_is_found_behind_an_equals_sign_too(word, monkeypatch):
    monkeypatch.setenv("HOME", "/anna")
    assert painted(word)[1]["model"] == word.replace("--model=~", "/anna")


@pytest.mark.parametrize("word", ["~anna", "a~/b", "x=a~", "--model"])
def test_other_words_stay_as_they_are(word):
    assert _at_home(word) == word


def test_of_an_option_with_one_value_the_last_counts():
    assert painted("--scale", "3", "--scale", "4")[1]["scale"] == 4


@pytest.mark.parametrize("words", [["--preset", "large"], ["--preset=large"]])
def test_a_preset_decides_the_defaults_beside_it(words):
    assert painted(*words)[1]["config"] == Size(width=64)
    assert painted("--depth", "5", *words)[1]["config"] == Size(width=64, depth=5)
    assert "preset" not in painted(*words)[1]


def test_help_is_the_docstring_and_an_example(capsys):
    with pytest.raises(SystemExit):
        parse("paint", PAINT, ["--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Paint a picture. In colours. Example: videogen-dream paint wall --env Doom --data a b" in words
    assert "where it hangs, or where it lies." in words and "what it shows." in words and "its path" not in words
    assert "pixels from left to right (default: 8)" in words and "--more" not in words and "--command" not in words


def test_the_preset_decides_which_class_of_model_gives_the_options(capsys):
    for preset, own, other in (("small", "kernel", "layers"), ("large", "layers", "kernel")):
        with pytest.raises(SystemExit):
            parse("train", TRAIN, ["--preset", preset, "--help"])
        words = capsys.readouterr().out
        assert f"--model.{own}" in words and f"--model.{other}" not in words and "--model.net" not in words
    assert parse("train", TRAIN, ["--preset", "large", "--model.layers", "2"])() == Transformer(layers=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_every_command_can_be_typed(command):
    parse(command, COMMANDS[command], shlex.split(COMMANDS[command].example))


def test_a_missing_option_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["train-tokenizer"])
    assert "--data" in capsys.readouterr().err


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("completion") / "script.sh"
    with open(file, "w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        assert main(["--completion", "bash"]) == 0
    return file


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["co"], ["collect", "compare"]),
        (["collect", "--ep"], ["--episodes", "--epsilon", "--episode-seconds"]),
        (["collect", "--launcher", ""], ["local", "ray"]),
        (["train-tokenizer", "--preset", "doom"], ["doom-small", "doom-tiny", "doom-wide"]),
    ],
)
def test_a_shell_completes_commands_options_and_choices(script, words, wanted):
    line = shlex.join(["videogen-dream", *words])
    program = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _tyro_videogen_dream videogen-dream"
    done = subprocess.run(["bash", "-c", f'{program}; echo "${{COMPREPLY[@]}}"'], capture_output=True, check=True)
    assert sorted(done.stdout.decode().split()) == sorted(wanted)


def test_completion_imports_nothing_of_this_package(script):
    assert "worldmodel" not in script.read_text()


@pytest.mark.parametrize("words", [["--completion"], ["--completion=powershell"], ["--completion", "bash", "zsh"]])
def test_a_shell_without_completion_is_refused(words, capsys):
    assert main(words) == 2
    assert "one of bash, zsh, fish" in capsys.readouterr().err
