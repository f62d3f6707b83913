"""The players of a table, really trained and evaluated on a tiny game, except for the search of blind policies."""

import json
from dataclasses import replace
from functools import partial

import pytest

from tests.tiny import tiny_world
from tests.training.counting_game import LARGER_GAME_ID
from tests.training.pipeline.test_loop import PPO
from tests.training.pipeline.test_loop import SMALL as LOOP
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.blind.search import BlindSearch
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.checkpoint import weights_name
from worldmodel.training.pipeline.round import JUDGED_FROM
from worldmodel.training.transfer import players as transfer_players
from worldmodel.training.transfer.table import Transfer, benchmark

CYCLE = "cycle:left*2,noop*1"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A table whose world was given."""
    root = tmp_path_factory.mktemp("table")
    world = tiny_world()
    world.config = replace(world.config, env_id=LARGER_GAME_ID)
    world.save_pretrained(root / "world")
    config = Transfer(
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer_players, "search_blind", lambda *_: BlindSearch(CYCLE, (), 60))
        benchmark("transfer", root / "out", config)
    return root


def cell(done, name):
    return json.loads((done / "out" / "LargerCountingGame-v0" / "cells" / f"{name}.json").read_text())


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
