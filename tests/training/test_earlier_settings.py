"""Runs of earlier releases lack newer settings, which get the values that they had then."""

import json
from dataclasses import asdict

from worldmodel.dynamics import GPTConfig
from worldmodel.training.earlier_settings import completed, known, may_lack
from worldmodel.training.train_agent import DreamTraining

OLD = {"loop": {"steps": 3}, "tokenizer": {"muon": True}}
NEW = {"loop": {"steps": 3, "clip": None}, "tokenizer": {"muon": True, "rarity": 0.0}, "policy": "sticky"}


def test_settings_that_only_the_new_run_has_get_their_earlier_meaning():
    assert completed(OLD, NEW) == known(NEW)
    assert completed(OLD, NEW | {"policy": "diverse"})["policy"] == "sticky"


def test_settings_stated_by_an_earlier_run_are_kept():
    assert completed(NEW | {"policy": "random"}, NEW)["policy"] == "random"
    assert completed({"loop": {"steps": 4}}, NEW)["loop.steps"] == 4


def test_models_are_of_the_first_classes_if_no_setting_names_them():
    assert completed({}, {"tokenizer": {"net": "vqvae"}, "dynamics": {"net": "gpt"}}) == {
        "tokenizer.net": "vqvae",
        "dynamics.net": "gpt",
    }
    assert "model.net" not in completed({}, {"model": {"net": "another"}})


def test_settings_that_always_existed_are_not_invented():
    assert "tokenizer.muon" not in completed({"loop": {"steps": 3}}, NEW)


def test_only_newer_settings_may_be_missing():
    assert may_lack({"seed", "policy", "rounds", "blind_share"}) == {"policy", "blind_share"}


def test_settings_without_an_earlier_counterpart_are_reported_as_missing():
    assert "blind_share" not in completed({"rounds": 3}, {"rounds": 3, "blind_share": 0.5})


def test_the_default_dynamics_are_trained_as_before():
    newer = {"token_noise", "own_draws", "own_draws_passes"}
    usual, other = asdict(GPTConfig()), asdict(GPTConfig(token_noise=0.1, own_draws=0.5, own_draws_passes=2))
    old = {name: usual[name] for name in usual.keys() - newer - {"net", "frame_condition_frames"}}
    assert completed(old, usual) == known(usual)
    assert all(completed(old, other)[name] != other[name] for name in newer)


def test_the_default_agents_are_trained_as_before():
    newer = {"starts", "reward", "eval_seed"}, {"previous_action", "durations"}
    usual = json.loads(json.dumps(asdict(DreamTraining())))  # as files give it back
    old = {name: value for name, value in usual.items() if name not in newer[0]}
    old["agent"] = {name: value for name, value in usual["agent"].items() if name not in newer[1]}
    assert completed(old, usual) == known(usual)
