"""Whole tables with stand-ins for training and playing: what is done, in which order, and what is repeated."""

import json
import os
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.data.makers import INFO, make_episode
from tests.kills import kill_everywhere, litter
from tests.tiny import tiny_world
from tests.training.counting_game import GAME_ID, LARGER_GAME_ID
from tests.training.recorded import recorded_store
from worldmodel.agents.blind.search import BlindSearch, Tried
from worldmodel.agents.evaluate import Evaluation
from worldmodel.agents.sb3.config import REAL_GAME, AgentConfig
from worldmodel.data import EpisodeStorage
from worldmodel.data.mirror import mirror
from worldmodel.files import write_json
from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.main import main
from worldmodel.training.cli.parsing import parse
from worldmodel.training.pipeline import round as round_module
from worldmodel.training.pipeline.round import JUDGED_FROM
from worldmodel.training.train_agent import DreamTraining
from worldmodel.training.train_tokenizer import TokenizerTraining
from worldmodel.training.transfer import players as transfer_players
from worldmodel.training.transfer.table import Transfer, benchmark
from worldmodel.training.transfer.world import _decisions_of

SMALL = Transfer(games=(LARGER_GAME_ID,), decisions=1_500, longer=3, workers=1, seeds=2, free_seeds=1, episodes=3)
CELLS = ["random", "blind", "dream-0", "dream-1", "free1-0", "free3-0"]


class Work:
    """Stand-ins that write what the next one opens, and count their calls."""

    def __init__(self) -> None:
        self.done: list[tuple] = []

    def collect(self, env_id, out, **options):
        self.done.append(("collect", env_id, options["steps"], options["policy"]))
        there = (out / "data" / "metadata.json").exists()
        with EpisodeStorage.open(out) if there else EpisodeStorage.create(out, INFO) as store:
            for number in store.missing_ids(2):
                store.write_pending(make_episode(3, number), number)

    def train_tokenizer(self, data, out, config, start_from):
        self.done.append(("tokenizer", config.loop.seed))
        write_json(out / "best" / "config.json", 1)

    def train_dynamics(self, data, tokenizer, out, config, start_from):
        self.done.append(("dynamics", config.loop.seed))
        write_json(out / "best" / "model.safetensors", f"weights of {data.parent.name}")

    def train_agent(self, world, out, config):
        """Accepts the partial agent of a killed attempt, as the real one does."""
        self.done.append(("agent", config.agent.seed, str(world)))
        write_json(out / "metrics.jsonl", 1)
        write_json(out / "agent" / "config.json", {"level": 100 + 10 * config.agent.seed})

    def train_policy(self, env_id, out, config):
        self.done.append(("policy", config.steps, config.seed))
        write_json(out / "metrics.jsonl", 1)
        write_json(out / "agent" / "config.json", {"level": config.steps / 100})

    def iterate(self, out, config):
        self.done.append(("loop", config.rounds, config.first_steps, config.collect_steps, config.seed))
        (out / "round-0").mkdir(parents=True)
        (out / "rounds.jsonl").write_text('{"decisions_so_far": 6}\n{"decisions_so_far": 12}\n')
        for number in range(config.rounds):
            write_json(out / f"round-{number}" / "dynamics" / "best" / "model.safetensors", number)
            write_json(out / f"round-{number}" / "agent" / "agent" / "config.json", {"level": 7 * number})

    def search_blind(self, env_id, episodes):
        self.done.append(("search", env_id, episodes))
        return BlindSearch("constant:left", (Tried("constant:left", (4.0, 6.0)), Tried("sticky", (1.0, 2.0))), 60)

    def load_agent(self, folder):
        level = json.loads((folder / "agent" / "config.json").read_text())["level"]
        return SimpleNamespace(level=level, view=lambda world: (world, "features"))

    def evaluate(self, policy, env_id, episodes, seed, view=None):
        self.done.append(("judge", env_id, episodes, seed))
        level = getattr(policy, "level", 50.0)
        returns = tuple(level + k for k in range(episodes))
        return Evaluation(env_id=env_id, seed=seed, returns=returns, env_returns=returns, lengths=(9,) * episodes)


@pytest.fixture
def work(monkeypatch):
    work = Work()
    for name in ("collect", "train_tokenizer", "train_dynamics"):
        monkeypatch.setattr(round_module, name, getattr(work, name))
    for name in ("train_agent", "train_policy", "iterate", "search_blind", "load_agent", "evaluate"):
        monkeypatch.setattr(transfer_players, name, getattr(work, name))
    return work


def cells_of(out, game="LargerCountingGame-v0"):
    return {file.stem: json.loads(file.read_text()) for file in (out / game / "cells").iterdir()}


def test_every_cell_has_a_file_with_all_its_settings(tmp_path, work):
    page = benchmark("transfer", tmp_path, SMALL, command="videogen-dream benchmark transfer").read_text()
    cells = cells_of(tmp_path)
    assert sorted(cells) == sorted(CELLS)
    assert {name: cell["decisions"] for name, cell in cells.items()} == {
        "random": 0,
        "blind": 60,
        "dream-0": 6,  # two episodes of three steps
        "dream-1": 6,
        "free1-0": 2_048,  # whole rollouts of 1,024
        "free3-0": 5_120,
    }
    assert all(cell["result"]["first_seed"] == JUDGED_FROM == 10_000 for cell in cells.values())
    assert cells["dream-1"]["result"]["returns"] == [110.0, 111.0, 112.0] and cells["dream-1"]["seed"] == 1
    assert cells["dream-1"]["settings"]["agent"]["agent"]["seed"] == 1
    assert cells["free3-0"]["settings"]["steps"] == 4_500
    for name in ("dream-0", "dream-1"):
        assert cells[name]["world"]["given"] is False and len(cells[name]["world"]["sha256"]) == 64
    assert all({"cpu", "torch", "date", "videogen_dream"} <= set(cell["machine"]) for cell in cells.values())
    counts = Counter(what for what, *_ in work.done)
    assert counts == {"judge": 6, "search": 1, "collect": 1, "tokenizer": 1, "dynamics": 1, "agent": 2, "policy": 2}
    assert "Trained in the dream (6 real decisions) is above the best blind policy: 106.0" in page
    assert "best blind policy of 2 tried, `constant:left` |" in page
    assert f"evaluate constant:left --env {LARGER_GAME_ID} --episodes 3 --seed 10000" in page


def test_a_finished_table_repeats_nothing_but_deleted_cells(tmp_path, work):
    benchmark("transfer", tmp_path, SMALL)
    before = cells_of(tmp_path)
    work.done.clear()
    benchmark("transfer", tmp_path, SMALL)
    assert work.done == []
    (tmp_path / "LargerCountingGame-v0" / "cells" / "dream-1.json").unlink()
    benchmark("transfer", tmp_path, SMALL)
    assert [what for what, *_ in work.done] == ["judge"]
    assert {name: cell["result"] for name, cell in cells_of(tmp_path).items()} == {
        name: cell["result"] for name, cell in before.items()
    }


def test_games_seeds_and_the_loop_are_added_to_an_existing_table(tmp_path, work):
    benchmark("transfer", tmp_path, SMALL)
    work.done.clear()
    more = replace(SMALL, games=(GAME_ID,), loop_rounds=2)
    benchmark("transfer", tmp_path, more)
    benchmark("transfer", tmp_path, replace(SMALL, seeds=3))
    assert ("loop", 2, 750, 750, 0) in work.done
    assert [entry[:2] for entry in work.done if entry[0] == "agent"] == [("agent", 0), ("agent", 1), ("agent", 2)]
    loop = cells_of(tmp_path, "CountingGame-v0")["loop2"]
    assert (
        loop["settings"]["first_steps"] == 750 and loop["decisions"] == 12 and loop["result"]["returns"][0] == 7.0
    )  # the agent of the last round
    data = json.loads((tmp_path / "transfer.json").read_text())
    assert list(data["games"]) == [LARGER_GAME_ID, GAME_ID] and len(data["cells"]) == 7 + 7


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"decisions": 1_600}, "decisions is 1500 there, 1600 here"),
        ({"episodes": 4}, "episodes is 3 there, 4 here"),
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"agent": DreamTraining(agent=AgentConfig(steps=99))}, "agent.agent.steps is 250000 there, 99 here"),
    ],
)
def test_other_settings_are_refused_unless_the_table_starts_over(tmp_path, work, changes, difference):
    benchmark("transfer", tmp_path, SMALL)
    before = (tmp_path / "transfer.json").read_text()
    with pytest.raises(ValueError, match=f"other settings \\({difference}\\).*--fresh"):
        benchmark("transfer", tmp_path, replace(SMALL, **changes))
    assert (tmp_path / "transfer.json").read_text() == before
    work.done.clear()
    benchmark("transfer", tmp_path, replace(SMALL, **changes), fresh=True)
    assert len(work.done) == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"games": ()}, "at least one game, and each once"),
        ({"games": (GAME_ID, GAME_ID)}, "at least one game, and each once"),
        ({"longer": 0}, "longer must be at least 1"),
        ({"seed": 10_002}, "evaluated on those of 10,000 to 10,002: give another seed"),
        ({"seed": 10_000 - SMALL.free_seeds - SMALL.free.num_envs + 2}, r"to 10,000, .* give another seed \(--seed\)"),
        ({"search_episodes": 7}, "search_episodes must be at least 8"),
        ({"free": replace(REAL_GAME, steps=9)}, "leave out free.steps: --decisions and --longer set them"),
        ({"free": replace(REAL_GAME, seed=1)}, "leave out free.seed: --seed sets that of every stage"),
        ({"agent": DreamTraining(agent=AgentConfig(seed=1))}, "leave out agent.agent.seed"),
        ({"agent": DreamTraining(eval_every=5)}, "leave out agent.eval-every: .* must not see the game"),
        ({"tokenizer": TokenizerTraining(loop=replace(TokenizerTraining().loop, seed=1))}, "tokenizer.loop.seed"),
    ],
)
def test_invalid_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_seeds_just_outside_the_episodes_of_the_evaluation_are_taken():
    for seed in (10_000 + SMALL.episodes, 10_000 - SMALL.free_seeds - SMALL.free.num_envs + 1):
        assert replace(SMALL, seed=seed).seed == seed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "runs/agent"}, "policy must be a scripted one"),
        ({"games": ("VideoGenDream-Doom",)}, "VideoGenDream-Doom is a dream"),
        ({"world": (LARGER_GAME_ID,)}, "--world takes GAME=WORLD"),
        ({"world": (f"{GAME_ID}=doom-hg",)}, "at most once for each of the games"),
        ({"world": (f"{LARGER_GAME_ID}=a", f"{LARGER_GAME_ID}=b")}, "at most once for each of the games"),
        ({"world": (f"{LARGER_GAME_ID}=doom-hg",)}, "doom-hg is a world of VideoGenReal-DoomHealthGathering, but was"),
        ({"games": (GAME_ID, GAME_ID.partition(":")[2])}, "two of the games share a name"),
    ],
)
def test_players_that_cannot_play_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        benchmark("transfer", tmp_path / "out", replace(SMALL, **changes))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_not_changed(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="something other than a table's run; use another --out"):
        benchmark("transfer", tmp_path, SMALL, fresh=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


# Given worlds


@pytest.fixture
def worlds(tmp_path):
    """Two worlds of the tiny game with different weights."""
    places = []
    for seed in (0, 1):
        world = tiny_world(seed=seed)
        world.config = replace(world.config, env_id=LARGER_GAME_ID)
        places.append(world.save_pretrained(tmp_path / f"world{seed}"))
    return places


def given(world):
    return replace(SMALL, world=(f"{LARGER_GAME_ID}={world}",))


def test_agents_of_a_given_world_learn_there_and_nothing_is_collected(tmp_path, work, worlds):
    page = benchmark("transfer", tmp_path / "out", given(worlds[0])).read_text()
    counts = Counter(what for what, *_ in work.done)
    assert counts == {"judge": 6, "search": 1, "agent": 2, "policy": 2}
    assert {entry[2] for entry in work.done if entry[0] == "agent"} == {str(worlds[0])}
    cell = cells_of(tmp_path / "out")["dream-0"]
    assert cell["decisions"] is None and cell["world"]["given"] and cell["world"]["name"] == str(worlds[0])
    assert "Trained in the dream (unknown real decisions)" in page and "without its world's" in page


def test_the_command_takes_a_world_for_each_game():
    words = ["transfer", "--games", "Chess", "Go", "Nim", "--world", "Chess=doom-hg", "--world", "Nim=runs/a=b"]
    call = parse("benchmark", COMMANDS["benchmark"], words)
    assert call.keywords["config"].worlds() == {"Chess": "doom-hg", "Nim": "runs/a=b"}


def test_another_world_for_existing_agents_is_refused(tmp_path, work, worlds):
    benchmark("transfer", tmp_path / "out", given(worlds[0]))
    benchmark("transfer", tmp_path / "out", given(worlds[0]))
    work.done.clear()
    with pytest.raises(
        ValueError, match=f"were trained in another world: .* those of {worlds[1]} .* use another --out"
    ):
        benchmark("transfer", tmp_path / "out", given(worlds[1]))
    with pytest.raises(ValueError, match=f"repeat --world {LARGER_GAME_ID}={worlds[0]}"):
        benchmark("transfer", tmp_path / "out", SMALL)
    assert work.done == []
    benchmark("transfer", tmp_path / "out", given(worlds[1]), fresh=True)
    benchmark("transfer", tmp_path / "own", SMALL)
    with pytest.raises(ValueError, match="were trained in another world"):
        benchmark("transfer", tmp_path / "own", given(worlds[0]))


def test_a_world_trained_here_reports_its_decisions(tmp_path, work, worlds):
    run = tmp_path / "run"
    work.collect(LARGER_GAME_ID, tmp_path / "play", steps=6, policy="diverse")
    worlds[0].rename((run / "best").parent.mkdir() or run / "best")
    for stores, decisions in (([str(tmp_path / "play")] * 2, 12), ([str(tmp_path / "gone")], None), ("play", None)):
        write_json(run / "config.json", {"data": stores})
        benchmark("transfer", tmp_path / "out", given(run), fresh=True)
        assert cells_of(tmp_path / "out")["dream-0"]["decisions"] == decisions
    write_json(run / "config.json", {"data": [str(tmp_path / "play")], "start_from": "5ac2" * 16})
    assert _decisions_of(run / "best") is None  # an earlier world learned from other play


def test_mirrored_copies_are_no_further_decisions(tmp_path):
    store = recorded_store(tmp_path / "data", lengths=(10, 14, 21))
    mirror(store, tmp_path / "twice", swap=["left=right"])
    write_json(tmp_path / "run" / "config.json", {"data": [str(tmp_path / "twice")]})
    assert _decisions_of(tmp_path / "run" / "best") == 45


# Interruptions


def results(folder):
    """Everything in a table except times."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.suffix == ".hdf5" or file.name in ("stages.json", "transfer.md", "transfer.json"):
            continue
        data = file.read_bytes()
        if file.parent.name == "cells":
            cell = json.loads(data)
            data = {name: value for name, value in cell.items() if name != "hours"}
        found[str(file.relative_to(folder))] = data
    return found


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 29])
def test_a_table_killed_at_any_file_operation_ends_by_the_same_command(tmp_path, monkeypatch, work, every):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    config = replace(SMALL, seeds=1)
    out, kills = tmp_path / "runs" / "transfer", 0
    benchmark("transfer", out, config)
    wanted = results(out)
    for _ in kill_everywhere(tmp_path / "nothing", out, lambda out: benchmark("transfer", out, config), every=every):
        kills += 1
        benchmark("transfer", out, config)
        assert results(out) == wanted and litter(tmp_path) == []
        assert len(cells_of(out)) == 5 and (out / "transfer.md").exists()
    assert kills * every > 100


def test_the_hours_of_a_killed_training_are_a_lower_bound(tmp_path, monkeypatch, work):
    class KilledError(BaseException):
        pass

    def dies(*_, **__):
        monkeypatch.setattr("worldmodel.training.pipeline.stages.write_json", lambda *_: None)  # no more
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(transfer_players, "train_policy", dies)
        benchmark("transfer", tmp_path, SMALL)
    monkeypatch.setattr("worldmodel.training.pipeline.stages.write_json", write_json)
    page = benchmark("transfer", tmp_path, SMALL).read_text()
    whole = {name: cell["hours"]["of_all_attempts"] for name, cell in cells_of(tmp_path).items()}
    assert whole == dict.fromkeys(CELLS, True) | {"free1-0": False}
    assert page.count("≥ 0.0 |") == 1


# The command


def test_the_command_names_its_table_and_records_the_command_line(tmp_path, work, capsys):
    words = ["--games", LARGER_GAME_ID, "--out", str(tmp_path), "--seeds", "1", "--free-seeds", "1", "--episodes", "3"]
    assert main(["benchmark", "transfer", *words]) == 0
    printed = capsys.readouterr().out
    assert f"Made by `videogen-dream benchmark transfer --games {LARGER_GAME_ID} --out" in printed
    assert main(["benchmark", "transfer", *words, "--decisions", "7"]) == 2
    assert "decisions is 100000 there, 7 here" in capsys.readouterr().err
    assert main(["benchmark", "transfer", *words, "--agent.agent.seed", "7"]) == 2
    assert "--seed sets that of every stage" in capsys.readouterr().err
