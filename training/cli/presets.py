"""Training configs whose model is a preset: what `--preset NAME` makes the defaults of the other options."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from worldmodel import dynamics, tokenizer
from worldmodel.dynamics import HeadsConfig
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

# What else suits the play that a preset is for. Pushing: episodes of 15 steps; metres and decimetres, not points; and
# dreams from a picture, of which nobody knows the signals; where they are known, hand and objects act on each other.
_SUITED: dict[str, dict[str, Any]] = {
    "push-small": {
        "segment": 12,
        "start_steps": 4,
        "heads": HeadsConfig(limit=2.0, bins=41, dropout=0.5, read_signals=False, signal_layers=2),
    },
}


def asked_preset(options: Sequence[str]) -> str | None:
    """The NAME of `--preset NAME` or `--preset=NAME`, which decides the defaults of the options beside it."""
    name = None
    for option, following in zip(options, [*options[1:], ""], strict=True):
        if option == "--preset" or option.startswith("--preset="):
            name = following if option == "--preset" else option.removeprefix("--preset=")
    return name


def tokenizer_training(preset: str | None = None) -> TokenizerTraining:
    """The usual training of that tokenizer; ValueError with the nearest name if there is none."""
    usual = TokenizerTraining()
    return usual if preset is None else replace(usual, model=tokenizer.preset(preset))


def dynamics_training(preset: str | None = None) -> DynamicsTraining:
    """The usual training of those dynamics."""
    usual = DynamicsTraining()
    if preset is None:
        return usual
    return replace(usual, model=dynamics.preset(preset).model, **_SUITED.get(preset, {}))
