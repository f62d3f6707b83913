"""Runs of earlier releases lack newer settings, which counts as what they meant then."""

from dataclasses import asdict

import pytest

from worldmodel.dynamics import GPTConfig
from worldmodel.settings import flat
from worldmodel.training.earlier_settings import known_before


def test_a_setting_at_its_earlier_meaning_is_as_if_there_were_none():
    old = {"loop": {"steps": 3}, "tokenizer": {"muon": True}}
    new = {"loop": {"steps": 3, "clip": None}, "tokenizer": {"muon": True, "rarity": 0.0, "rarity_limit": 31.0}}
    assert known_before(new) == known_before(old) == {"loop.steps": 3, "tokenizer.muon": True}


@pytest.mark.parametrize("changes", [{"rarity": 0.5}, {"muon": False}])
def test_any_other_value_is_a_setting(changes):
    old = {"tokenizer": {"muon": True}}
    assert known_before({"tokenizer": {"muon": True, "rarity": 0.0} | changes}) != known_before(old)


def test_the_usual_dynamics_are_trained_as_they_were_before():
    newer = {"token_noise", "own_draws", "own_draws_passes"}
    usual, other = asdict(GPTConfig()), asdict(GPTConfig(token_noise=0.1, own_draws=0.5, own_draws_passes=2))
    assert flat(usual).keys() - known_before(usual).keys() == newer
    assert newer <= known_before(other).keys()
