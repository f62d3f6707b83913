"""The players of a table, really trained and evaluated on a tiny game, except for the search of blind policies."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tiny_world
from tests.training.counting_game import LARGER_GAME_ID
from tests.training.pipeline.test_loop import PPO
from tests.training.pipeline.test_loop import SMALL as LOOP
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.blind.search import BlindSearch
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3 import train as sb3_train
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.unfinished import load_unfinished
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.checkpoint import weights_name
from worldmodel.training.pipeline.round import JUDGED_FROM
from worldmodel.training.transfer import players as transfer_players
from worldmodel.training.transfer.table import Transfer, benchmark

CYCLE = "cycle:left*2,noop*1"


def config_of(root):
    return Transfer(
        games=(LARGER_GAME_ID,),
        world=(f"{LARGER_GAME_ID}={root / 'world'}",),
        decisions=30,
        longer=1,
        agent=LOOP.agent,
        free=replace(PPO, steps=100_000),
        seeds=1,
        free_seeds=1,
        episodes=3,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A table whose world was given."""
    root = tmp_path_factory.mktemp("table")
    world = tiny_world()
    world.config = replace(world.config, env_id=LARGER_GAME_ID)
    world.save_pretrained(root / "world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer_players, "search_blind", lambda *_: BlindSearch(CYCLE, (), 60))
        benchmark("transfer", root / "out", config_of(root))
    return root


def cell(done, name):
    return json.loads((done / "out" / "LargerCountingGame-v0" / "cells" / f"{name}.json").read_text())


def test_an_agent_whose_training_was_interrupted_is_the_one_of_an_unbroken_training(done, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer_players, "search_blind", lambda *_: BlindSearch(CYCLE, (), 60))
    monkeypatch.setattr(sb3_train, "_SAVE_EVERY", 1)
    save = sb3_train.save_unfinished

    def save_and_die(model, run_dir, judge):
        save(model, run_dir, judge)
        if run_dir.name == "dream-0":
            raise KeyboardInterrupt

    monkeypatch.setattr(sb3_train, "save_unfinished", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        benchmark("transfer", tmp_path, config_of(done))
    monkeypatch.setattr(sb3_train, "save_unfinished", save)
    begun_at = {}

    def load(model, run_dir, judge):
        unfinished = load_unfinished(model, run_dir, judge)
        begun_at[run_dir.name] = unfinished.steps
        return unfinished

    monkeypatch.setattr(sb3_train, "load_unfinished", load)
    benchmark("transfer", tmp_path, config_of(done))
    assert begun_at == {"dream-0": 16, "free1-0": 0}
    folder = Path("LargerCountingGame-v0") / "dream-0" / "agent" / "model.safetensors"
    ours, unbroken = (load_file(root / folder) for root in (tmp_path, done / "out"))
    assert all(torch.equal(ours[name], unbroken[name]) for name in unbroken)


def test_every_player_is_evaluated_as_by_evaluate(done):
    folder = done / "out" / "LargerCountingGame-v0"
    dreamer = load_agent(folder / "dream-0")
    players = {
        "random": (RandomPolicy, None),
        "blind": (partial(scripted_policy, CYCLE), None),
        "free1-0": (load_agent(folder / "free1-0"), None),
        "dream-0": (dreamer, (done / "world", "features")),
    }
    for name, (policy, view) in players.items():
        played = evaluate(policy, LARGER_GAME_ID, 3, JUDGED_FROM, view=view)
        result = cell(done, name)["result"]
        assert (tuple(result["returns"]), tuple(result["lengths"])) == (played.returns, played.lengths), name
        assert (result["mean"], result["half_width"]) == (played.mean, played.half_width), name
    assert len({tuple(cell(done, name)["result"]["returns"]) for name in players}) > 1


def test_agents_learn_in_the_dream_or_in_the_game_for_the_requested_steps(done):
    folder = done / "out" / "LargerCountingGame-v0"
    free, dreamer = (load_agent(folder / name) for name in ("free1-0", "dream-0"))
    assert (free.meta.view, free.file.training.steps, cell(done, "free1-0")["decisions"]) == ("real", 30, 32)
    assert (dreamer.meta.view, dreamer.meta.world_model) == ("features", str(done / "world"))
    assert cell(done, "dream-0")["world"]["sha256"] == weights_name(done / "world")
