"""The command line, `videogen-dream COMMAND`: what all commands share.

The commands themselves are in making_commands.py, data_commands.py, judging_commands.py and table_commands.py.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from worldmodel.errors import did_you_mean
from worldmodel.training.cli.terminal import prepare_terminal, reader_is_gone

# What each command is for; its options are the arguments of the function that `_load` gives.
COMMANDS = {
    "demo": "the whole path on health_gathering: collect, learn the dream, train in it, judge in the real game",
    "loop": "iterated imagination: collect, learn the dream, train in it, collect with that agent, and so on",
    "collect": "record play of a real game into a rollout store",
    "import-bair": "turn the BAIR robot pushing archive into a store",
    "import-video": "turn your own videos and their actions into a store",
    "inspect": "tell what a store holds, or what a world model or an agent is",
    "mirror": "write a store of the same play twice, as it was and as in a mirror",
    "export-bair": "write a store of pushing as BAIR's TFRecord files",
    "train-policy": "train an agent with PPO on the real game, to collect with it",
    "train-tokenizer": "train a VQ-VAE on a store",
    "train-dynamics": "train dynamics and heads on a store's codes; the result is a world model",
    "train-agent": "train an agent with PPO in a world model's dream",
    "publish": "make of a trained world model a folder to share, with a card; upload it",
    "sample": "make videos with a world model: from nothing, first frames, actions or both",
    "evaluate-model": "measure a world model on held-out play: pictures, codes, dreams, control, distances",
    "ablate": "rerun a comparison of the VideoGen papers on a store, beside the paper's figures",
    "benchmark": "fill a table of results: random, blind, model-free and dream-trained players of every game",
    "evaluate": "play a saved agent or the best blind policy; with --dream and --real, report how far to trust a dream",
    "watch": "write a video of an agent, or of scripted play, in a real game or in a dream",
    "play": "play dreams and real games yourself, in a browser",
    "fetch-battle2": "get the battle2 map, which ViZDoom does not ship",
}


def _load(command: str, options: Sequence[str]) -> Callable[..., Any]:
    """The command's function; imports what it needs only now. The options are those that it will be given."""
    from worldmodel.training.cli.benchmark import TABLES
    from worldmodel.training.cli.data import DATA
    from worldmodel.training.cli.evaluate import JUDGING
    from worldmodel.training.cli.train import MAKING

    return (MAKING | DATA | JUDGING | TABLES)[command](options)


def _help() -> str:
    lines = [f"  {name:16} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: videogen-dream COMMAND [OPTIONS]   (COMMAND --help for its options)", "", *lines])


# What to do after Ctrl-C.
_GOES_ON = "run the same command again to go on from the last complete state"
_AFTER_STOP = dict.fromkeys(
    ("train-agent", "train-policy"),
    "this training does not go on: start again with another --out (OUT/agent holds the agent after its last update, if "
    "there was one)",
)
_AFTER_STOP["play"] = "saved clips stay"
_AFTER_STOP |= dict.fromkeys(
    ("evaluate", "evaluate-model", "export-bair", "fetch-battle2", "inspect", "mirror", "sample", "watch"),
    "nothing was written; run the same command again",
)

_READER_GONE = 141  # as of programs that SIGPIPE ends

# What a user's mistake ends in: also a module that is not there, of an env's id such as my_games:MyGame-v0.
_MISTAKES = (ValueError, TypeError, OSError, OverflowError, FloatingPointError, ModuleNotFoundError)

# Options that the configs have and a command would not heed, and what to say.
_WHOLE_RUN = dict.fromkeys(
    ("--tokenizer.loop.seed", "--dynamics.loop.seed", "--agent.agent.seed"), "--seed sets that of every stage"
) | dict.fromkeys(("--tokenizer.model.data-mean", "--tokenizer.model.data-variance"), "it is measured from the data")
_UNHEEDED = {
    "demo": _WHOLE_RUN,
    "loop": _WHOLE_RUN,
    "train-tokenizer": dict.fromkeys(("--model.data-mean", "--model.data-variance"), "it is measured from the data"),
}


def _check_heeded(command: str, options: Sequence[str]) -> None:
    """ValueError for an option that would be silently ignored."""
    for option in options:
        name = option.partition("=")[0].replace("_", "-")
        if reason := _UNHEEDED.get(command, {}).get(name):
            raise ValueError(f"{command} takes no {name}: {reason}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (also of a mistake in what the user gave: 2)."""
    prepare_terminal()
    usual = warnings.formatwarning
    warnings.formatwarning = _in_one_line(usual)
    try:
        return _run(arguments)
    finally:  # now, because at Python's own exit a reader that is gone ends in a traceback
        warnings.formatwarning = usual
        reader_is_gone()


def _in_one_line(usual: Callable[..., str]) -> Callable[..., str]:
    """Warnings about what the user gave, such as a damaged film, without the place in the library that noticed it."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        return f"warning: {message}\n" if category is UserWarning else usual(message, category, *place, **more)

    return show


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if given[0] == "--version":
        from worldmodel import __version__

        print(__version__)
        return 0
    command, options = given[0], given[1:]
    if command not in COMMANDS:
        print(f"error: no command {command!r}.{did_you_mean(command, COMMANDS)}", file=sys.stderr)
        return 2
    import gymnasium
    import tyro

    from worldmodel.errors import OutsideError

    try:
        _check_heeded(command, options)
        tyro.cli(_load(command, options), prog=f"videogen-dream {command}", args=options)
    except (*_MISTAKES, OutsideError, gymnasium.error.Error) as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return _READER_GONE
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {_AFTER_STOP.get(command, _GOES_ON)}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
