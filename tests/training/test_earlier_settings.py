"""Runs of earlier releases lack newer settings, which are completed by what they meant then."""

import json
from dataclasses import asdict

from worldmodel.dynamics import GPTConfig
from worldmodel.training.earlier_settings import completed, known, may_lack
from worldmodel.training.train_agent import DreamTraining

OLD = {"loop": {"steps": 3}, "tokenizer": {"muon": True}}
NEW = {"loop": {"steps": 3, "clip": None}, "tokenizer": {"muon": True, "rarity": 0.0}, "policy": "sticky"}


def test_what_only_the_new_run_has_was_its_earlier_meaning():
    assert completed(OLD, NEW) == known(NEW)
    assert completed(OLD, NEW | {"policy": "diverse"})["policy"] == "sticky"


def test_what_an_earlier_run_says_itself_stays():
    assert completed(NEW | {"policy": "random"}, NEW)["policy"] == "random"
    assert completed({"loop": {"steps": 4}}, NEW)["loop.steps"] == 4


def test_models_were_of_the_first_classes_before_a_setting_named_them():
    assert completed({}, {"tokenizer": {"net": "vqvae"}, "dynamics": {"net": "gpt"}}) == {
        "tokenizer.net": "vqvae",
        "dynamics.net": "gpt",
    }
    assert "model.net" not in completed({}, {"model": {"net": "another"}})


def test_settings_that_always_were_are_not_made_up():
    assert "tokenizer.muon" not in completed({"loop": {"steps": 3}}, NEW)


def test_only_newer_settings_may_be_lacking():
    assert may_lack({"seed", "policy", "rounds", "blind_share"}) == {"policy", "blind_share"}


def test_what_had_no_counterpart_before_is_named_as_lacking():
    assert "blind_share" not in completed({"rounds": 3}, {"rounds": 3, "blind_share": 0.5})


def test_the_usual_dynamics_are_trained_as_they_were_before():
    newer = {"token_noise", "own_draws", "own_draws_passes"}
    usual, other = asdict(GPTConfig()), asdict(GPTConfig(token_noise=0.1, own_draws=0.5, own_draws_passes=2))
    old = {name: usual[name] for name in usual.keys() - newer - {"net", "frame_condition_frames"}}
    assert completed(old, usual) == known(usual)
    assert all(completed(old, other)[name] != other[name] for name in newer)


def test_the_usual_agents_are_trained_as_they_were_before():
    newer = {"starts", "reward", "eval_seed"}, {"previous_action", "durations"}
    usual = json.loads(json.dumps(asdict(DreamTraining())))  # as files give it back
    old = {name: value for name, value in usual.items() if name not in newer[0]}
    old["agent"] = {name: value for name, value in usual["agent"].items() if name not in newer[1]}
    assert completed(old, usual) == known(usual)
