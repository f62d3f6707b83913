"""`videogen-dream evaluate`: one player in a game or a dream, and the report on a dream."""

import io
import json
import shlex
import sys
from dataclasses import replace

import gymnasium as gym
import pytest

from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame
from tests.training.counting_game import LARGER_GAME_ID
from tests.training.recorded import recorded_store
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.model import WorldModel
from worldmodel.training.cli.main import main
from worldmodel.training.train_agent import DreamTraining, train_agent


def test_an_agent_is_not_evaluated_with_codes_of_another_tokenizer(tmp_path, capsys):
    own, other = (tiny_world(seed=seed).save_pretrained(tmp_path / f"world{seed}") for seed in (0, 1))
    config = AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8)
    folder = train_agent(own, tmp_path / "agent", DreamTraining(agent=config), device="cpu")
    dream = ["evaluate", str(folder), "--env", "VideoGenDream-Doom", "--horizon", "5", "--episodes", "2"]
    real = ["evaluate", str(folder), "--env", LARGER_GAME_ID, "--episodes", "2"]
    for command in ([*dream, "--world", str(other)], [*real, "--world", str(other)]):
        assert main(command) == 2
        assert f"another tokenizer, that of {own}" in capsys.readouterr().err
    assert main([*dream, "--world", str(own)]) == main(real) == main([*real, "--world", str(own)]) == 0


def test_an_agent_is_evaluated_in_a_dream_of_any_world(tmp_path, capsys):
    world = tiny_world().save_pretrained(tmp_path / "world")
    config = AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8)
    folder = train_agent(world, tmp_path / "agent", DreamTraining(agent=config), device="cpu")
    usual = ["evaluate", str(folder), "--env", "VideoGenDream-Doom", "--episodes", "3"]
    assert main(usual) == 2
    assert "give --horizon" in capsys.readouterr().err
    out = tmp_path / "scores.json"
    assert main([*usual, "--horizon", "5", "--world", str(world), "--out", str(out)]) == 0
    assert max(json.loads(out.read_text())["agent"]["lengths"]) <= 5
    assert main(["evaluate", str(folder), "--env", "VideoGenReal-Doom", "--horizon", "5"]) == 2
    assert "--horizon is for dreams" in capsys.readouterr().err
    for place in ("doom-hg", str(world)):
        assert main(["evaluate", str(folder), "--env", place]) == 2
        assert f"--env VideoGenDream-… --world {place}" in capsys.readouterr().err


@pytest.mark.parametrize("player", ["sticky", "random"])
def test_scripted_policies_are_evaluated_like_agents(player, tmp_path, capsys):
    world = str(tiny_world().save_pretrained(tmp_path / "world"))
    out = tmp_path / "scores.json"
    usual = ["evaluate", player, "--episodes", "2", "--out", str(out)]
    dream = ["--env", "VideoGenDream-Doom", "--horizon", "5"]
    assert main([*usual, "--env", LARGER_GAME_ID]) == 0
    assert set(json.loads(out.read_text())) == {player, "random"}
    assert main([*usual, *dream, "--world", world]) == 0
    printed = capsys.readouterr().out
    assert f"world:  {world}\n{player}:" in printed and ("gain:" in printed) == (player == "sticky")
    assert main([*usual, *dream, "--deterministic"]) == 2
    assert "--deterministic is for agents" in capsys.readouterr().err
    assert main([*usual, "--env", LARGER_GAME_ID, "--world", world]) == 2
    assert "leave out --world" in capsys.readouterr().err


def test_the_best_blind_policy_is_searched_and_evaluated_on_different_episodes(tmp_path, capsys):
    out = tmp_path / "scores.json"
    usual = ["evaluate", "blind", "--env", LARGER_GAME_ID, "--search-episodes", "8"]
    assert main([*usual, "--episodes", "3", "--out", str(out)]) == 0
    printed, found = capsys.readouterr().out, json.loads(out.read_text())
    assert found["policy"] == found["search"]["best"] == "constant:left"  # the rewarded action
    assert f"policy: constant:left, the best of {len(found['search']['tried'])} in " in printed
    assert "\nblind:  " in printed and "\nrandom: " in printed and "\ngain:   " in printed
    assert found["blind"]["seed"] == found["random"]["seed"] == 10_000 and len(found["blind"]["returns"]) == 3
    assert main([*usual, "--seed", "509990", "--episodes", "11"]) == 2
    assert "evaluated on others: give another --seed, got 509990" in capsys.readouterr().err
    assert main([*usual, "--deterministic"]) == 2
    assert "blind play samples its actions" in capsys.readouterr().err
    assert main(["evaluate", "sticky", *usual[2:]]) == 2
    assert "--search-episodes is for evaluate blind" in capsys.readouterr().err


def test_a_cycle_of_named_actions_plays_a_dream(tmp_path, capsys):
    world = str(tiny_world().save_pretrained(tmp_path / "world"))
    usual = ["--env", "VideoGenDream-Doom", "--world", world, "--episodes", "2", "--horizon", "5"]
    assert main(["evaluate", "cycle:left*2,right*2", *usual]) == 0
    assert "\ncycle:left*2,right*2: " in capsys.readouterr().out
    assert main(["evaluate", "cycle:attack*2,right*2", *usual]) == 2
    assert "unknown action 'attack'" in capsys.readouterr().err


def test_scores_are_written_before_they_are_printed(tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdout", Closed())
    out = tmp_path / "scores.json"
    assert main(["evaluate", "random", "--env", LARGER_GAME_ID, "--episodes", "2", "--out", str(out)]) == 2
    assert set(json.loads(out.read_text())) == {"random"}


@pytest.mark.parametrize("out", ["folder", "file/scores.json"])
def test_scores_that_could_not_be_written_are_not_played_for(tmp_path, monkeypatch, capsys, out):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr("worldmodel.training.cli.play_one.search_blind", None)
    assert main(["evaluate", "blind", "--env", LARGER_GAME_ID, "--out", str(tmp_path / out)]) == 2
    assert str(tmp_path / out) in capsys.readouterr().err


def test_one_episode_has_no_interval(capsys):
    assert main(["evaluate", "sticky", "--env", LARGER_GAME_ID, "--episodes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "1 episode of" in printed and "inf" not in printed and "±" not in printed


def test_a_report_on_a_dream_is_written_from_options(tmp_path, capsys):
    gym.register("CliToy-v0", entry_point=ToyGame)
    try:
        world = str(tiny_world().save_pretrained(tmp_path / "world"))
        data = str(recorded_store(tmp_path / "data", lengths=(20,) * 10).root)
        usual = ["evaluate", "--dream", world, "--real", "CliToy-v0", "--episodes", "2", "--horizon", "3"]
        usual += ["--policies", "constant:left", "cycle:left*2,right*2", "--lead", "random"]
        small = ["--epsilons", "0.25", "0.5", "--samples", "2", "--context-steps", "2", "--drift-steps", "3"]
        network = ["--inverse-dynamics.steps", "1", "--inverse-dynamics.channels", "4", "--no-plots", "--device", "cpu"]
        command = [*usual, *small, *network, "--data", data, "--out", str(tmp_path / "out")]
        assert main(command) == 0
    finally:
        del gym.registry["CliToy-v0"]
    assert "## Returns side by side" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["run"]["command"] == shlex.join(["videogen-dream", *command])
    noisy, named = ["sticky, 25% random", "sticky, 50% random"], ["constant:left", "cycle:left*2,right*2"]
    assert [row["policy"] for row in report["policies"]] == ["sticky", *noisy, "random", *named]
    assert {"first", "mid"} < set(report["trust"]) and report["settings"]["lead"] == "random"
    assert report["settings"]["horizon"] == 3 and report["settings"]["data"] == [data]


REPORT = ["--dream", "doom-hg", "--real", "VideoGenReal-Doom", "--out", "x"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "give --env ID to play one agent, or --dream WORLD and --real ID"),
        (["agent"], "give --env ID to play one agent"),
        (["--dream", "doom-hg", "--out", "x"], "--dream WORLD and --real ID"),
        (["--dream", "doom-hg", "--real", "VideoGenReal-Doom"], "give --out"),
        (["--dream", "doom-hg", "--real", "VideoGenReal-Doom", "--out", "x", "--world", "w"], "--world is for --env"),
        (["--dream", "VideoGenReal-Doom", "--real", "VideoGenReal-Doom", "--out", "x"], "is a real game"),
        (["agent", "--env", "VideoGenReal-Doom", "--dream", "doom-hg"], "leave out --dream"),
        (["agent", "--env", "VideoGenReal-Doom", "--data", "play"], "leave out --data"),
        (["agent", "--env", "VideoGenReal-Doom", "--epsilons", "0.5"], "with --env only --episodes"),
        (["agent", "--env", "VideoGenReal-Doom", "--no-plots"], "with --env only --episodes"),
        (
            ["--dream", "doom-hg", "--real", "VideoGenReal-Doom", "--out", "x", "--deterministic"],
            "is for --env; in a rep",
        ),
        (["sticky", "--dream", "doom-hg", "--real", "VideoGenReal-Doom", "--out", "x"], "leave out sticky"),
        (["blind", "--dream", "doom-hg", "--real", "VideoGenReal-Doom", "--out", "x"], "leave out blind"),
        (
            ["--dream", "doom-hg", "--real", "VideoGenReal-Doom", "--out", "x", "--search-episodes", "9"],
            "evaluate blind",
        ),
        (
            [*REPORT, "--samples", "9", "--drift-steps", "9"],
            "--samples, --drift-steps would have no effect on this report: give --data STORE, or",
        ),
        ([*REPORT, "--inverse-dynamics.steps", "9"], "--inverse-dynamics would have no effect on this report"),
        (
            [*REPORT, "--no-mid-play", "--lead-steps", "9"],
            "--lead-steps would have no effect on this report: leave --no-mid-play out",
        ),
        (
            [*REPORT, "--no-mid-play", "--context-steps", "9"],
            "effect on this report: give --data STORE, or leave --no-mid",
        ),
        (["a", "b", "--env", "VideoGenReal-Doom"], "--env plays one agent, got 2"),
        (["--env", "VideoGenReal-Doom"], "--env plays one agent, got 0"),
    ],
)
def test_the_two_ways_of_evaluating_do_not_mix(words, reason, capsys):
    assert main(["evaluate", *words]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.vizdoom
def test_an_agent_that_saw_a_dream_of_another_size_is_refused(tmp_path, capsys):
    """The tiny world dreams 16 x 16 pixels; the real game, of the same actions, shows 64 x 64."""
    action = WorldModel.from_pretrained("doom-hg", device="cpu").config.action
    tiny = WorldModel(replace(tiny_config(), action=action))
    tiny.starts = tiny_world().starts
    world = tiny.save_pretrained(tmp_path / "world")
    agent = AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8)
    folder = train_agent(world, tmp_path / "agent", DreamTraining(agent=agent), device="cpu")
    assert main(["evaluate", str(folder), "--env", "VideoGenReal-DoomHealthGathering", "--episodes", "1"]) == 2
    assert "64" in capsys.readouterr().err


def test_a_world_is_not_measured_on_a_store_of_another_game(tmp_path, capsys):
    config = replace(tiny_config(), env_id="VideoGenReal-DoomTakeCover")
    world = WorldModel(config).save_pretrained(tmp_path / "world")
    store = recorded_store(tmp_path / "store")
    assert (
        main(["evaluate-model", str(world), "--data", str(store.root), "--no-plots", "--out", f"{tmp_path}/out"]) == 2
    )
    refusal = capsys.readouterr().err
    assert f"its env_id is {store.info.env_id}, the model's VideoGenReal-DoomTakeCover; give a store" in refusal
    assert not (tmp_path / "out").exists()
