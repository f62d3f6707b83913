import shlex
from dataclasses import replace

import pytest

from tests.tiny import tiny_config
from worldmodel.agents.sb3.config import REAL_GAME
from worldmodel.training.cli import train as making_commands
from worldmodel.training.cli.command_lines import command_line, options_of
from worldmodel.training.cli.main import main
from worldmodel.training.pipeline.config import Iteration
from worldmodel.training.train_agent import DreamTraining
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

TOKENIZER = replace(TokenizerTraining(), model=tiny_config().tokenizer, muon=False, rarity=0.5)
DYNAMICS = replace(DynamicsTraining(), model=tiny_config().dynamics, heads=tiny_config().heads, segment=4)
AGENT = replace(DreamTraining(), horizon=None, obs="latent", starts="first")
CASES = {
    "train-tokenizer": ("worldmodel.training.train_tokenizer.train_tokenizer", TOKENIZER, TokenizerTraining()),
    "train-dynamics": ("worldmodel.training.train_dynamics.train_dynamics", DYNAMICS, DynamicsTraining()),
    "train-agent": ("worldmodel.training.train_agent.train_agent", AGENT, DreamTraining()),
    "train-policy": ("worldmodel.agents.sb3.train.train_policy", replace(REAL_GAME, steps=90, seed=4), REAL_GAME),
    "loop": (
        "worldmodel.training.pipeline.loop.iterate",
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
def test_a_command_that_is_told_gives_the_same_settings(command, monkeypatch):
    place, config, usual = CASES[command]
    seen = []

    def note(*args, **options):
        seen.extend(each for each in (*args, *options.values()) if type(each) is type(config))
        return {}

    monkeypatch.setattr(place, note)
    monkeypatch.setattr(making_commands, "_print_scores", lambda scores: None)
    line = command_line(command, *NEEDED[command], *options_of(config, usual))
    assert main(shlex.split(line)[1:]) == 0
    assert seen == [config]


def test_only_what_differs_is_told():
    assert options_of(REAL_GAME, REAL_GAME) == []
    assert options_of(replace(REAL_GAME, seed=3, steps=9), REAL_GAME, leave_out=("steps",)) == ["--seed", "3"]


def test_what_a_shell_would_read_otherwise_is_quoted():
    assert command_line("evaluate", "cycle:0*2") == "videogen-dream evaluate 'cycle:0*2'"
