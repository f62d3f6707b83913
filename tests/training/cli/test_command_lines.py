import shlex
from dataclasses import replace

import pytest

from tests.tiny import tiny_config
from worldmodel.agents.sb3.config import REAL_GAME
from worldmodel.training.cli.command_lines import command_line, options_of
from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.parsing import parse
from worldmodel.training.pipeline.config import Iteration
from worldmodel.training.train_agent import DreamTraining
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

TOKENIZER = replace(TokenizerTraining(), model=tiny_config().tokenizer, muon=False, rarity=0.5)
DYNAMICS = replace(DynamicsTraining(), model=tiny_config().dynamics, heads=tiny_config().heads, segment=4)
AGENT = replace(DreamTraining(), horizon=None, obs="latent", starts="first")
CASES = {
    "train-tokenizer": (TOKENIZER, TokenizerTraining()),
    "train-dynamics": (DYNAMICS, DynamicsTraining()),
    "train-agent": (AGENT, DreamTraining()),
    "train-policy": (replace(REAL_GAME, steps=90, seed=4), REAL_GAME),
    "loop": (
        replace(Iteration(), tokenizer=TOKENIZER, dynamics=DYNAMICS, agent=AGENT, warm_agent=False, tokenizer_rounds=2),
        Iteration(),
    ),
}
NEEDED = {
    "train-tokenizer": ["--data", "x"],
    "train-dynamics": ["--data", "x", "--tokenizer", "y"],
    "train-agent": ["--world", "doom-hg"],
    "train-policy": ["--env", "Toy", "--out", "x"],
    "loop": [],
}


@pytest.mark.parametrize("command", CASES)
def test_a_written_command_gives_the_same_settings(command):
    config, default = CASES[command]
    line = command_line(command, *NEEDED[command], *options_of(config, default))
    call = parse(command, COMMANDS[command], shlex.split(line)[2:])
    assert call.keywords["config"] == config


def test_only_settings_that_differ_become_options():
    assert options_of(REAL_GAME, REAL_GAME) == []
    assert options_of(replace(REAL_GAME, seed=3, steps=9), REAL_GAME, leave_out=("steps",)) == ["--seed", "3"]


def test_words_are_quoted_for_a_shell():
    assert command_line("evaluate", "cycle:0*2") == "videogen-dream evaluate 'cycle:0*2'"
