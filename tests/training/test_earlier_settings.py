"""Runs of earlier releases lack newer settings, which counts as what they meant then."""

import pytest

from worldmodel.training.earlier_settings import known_before


def test_a_setting_at_its_earlier_meaning_is_as_if_there_were_none():
    old = {"loop": {"steps": 3}, "tokenizer": {"muon": True}}
    new = {"loop": {"steps": 3, "clip": None}, "tokenizer": {"muon": True, "rarity": 0.0, "rarity_limit": 31.0}}
    assert known_before(new) == known_before(old) == {"loop.steps": 3, "tokenizer.muon": True}


@pytest.mark.parametrize("changes", [{"rarity": 0.5}, {"muon": False}])
def test_any_other_value_is_a_setting(changes):
    old = {"tokenizer": {"muon": True}}
    assert known_before({"tokenizer": {"muon": True, "rarity": 0.0} | changes}) != known_before(old)
