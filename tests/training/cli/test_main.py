import asyncio
import io
import json
import shlex
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace

import gymnasium as gym
import pytest

from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame
from tests.training.counting_game import GAME_ID, LARGER_GAME_ID
from tests.training.recorded import recorded_store
from worldmodel import dynamics, tokenizer
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.model import WorldModel
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training.cli import main as cli
from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.main import main
from worldmodel.training.train_agent import DreamTraining, train_agent
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"Example: videogen-dream {command} {COMMANDS[command].example}\n" in capsys.readouterr().out


def test_an_unknown_command_gives_the_nearest(capsys):
    assert main(["colect"]) == 2
    assert "Did you mean 'collect'?" in capsys.readouterr().err


def test_a_mistake_is_told_in_one_line(tmp_path, capsys):
    assert main(["train-tokenizer", "--data", str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "nothing" in error and "Traceback" not in error


def test_a_warning_about_what_was_given_is_told_in_one_line(monkeypatch):
    shown = []

    def run(arguments):
        for category in (UserWarning, DeprecationWarning):
            shown.append(warnings.formatwarning(category("a film is damaged"), category, "films.py", 7))
        return 0

    usual = warnings.formatwarning
    monkeypatch.setattr(cli, "_run", run)
    assert cli.main([]) == 0 and warnings.formatwarning is usual
    assert shown[0] == "warning: a film is damaged\n" and "films.py:7" in shown[1]


def test_an_unknown_env_gives_the_nearest(tmp_path, capsys):
    assert main(["collect", "--env", "VideoGenReal-Dom", "--out", str(tmp_path / "data"), "--steps", "10"]) == 2
    assert "VideoGenReal-Doom" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_collect_hands_options_to_the_env(tmp_path, capsys):
    usual = ["collect", "--env", GAME_ID, "--out", str(tmp_path / "data"), "--episodes", "2", "--workers", "1"]
    assert main([*usual, "--env-kwargs", "fails=false", "step_second=0.001"]) == 2
    assert "Did you mean 'step_seconds'?" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert main([*usual, "--env-kwargs", "fails=false", "step_seconds=0.001"]) == 0
    settings = json.loads((tmp_path / "data" / "collect.json").read_text())
    assert settings["env_kwargs"] == {"fails": False, "step_seconds": 0.001}


@pytest.mark.parametrize(
    ("command", "option", "reason"),
    [
        (["train-policy", "--env", "Toy", "--out", "x"], "--ppo.steps", "ppo.steps"),
        (["demo"], "--dynamics.loop.seed", "--seed sets that of every stage"),
        (["demo"], "--tokenizer.loop.seed=3", "--seed sets that of every stage"),
        (["demo"], "--agent.agent.seed", "--seed sets that of every stage"),
        (["demo"], "--tokenizer.model.data_variance", "measured from the data"),
        (["loop"], "--agent.agent.seed", "--seed sets that of every stage"),
        (["loop"], "--tokenizer.model.data-mean", "measured from the data"),
        (["train-tokenizer", "--data", "x"], "--model.data-mean", "measured from the data"),
        (["train-tokenizer", "--data", "x"], "--model.data-variance", "measured from the data"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(command, option, reason, capsys):
    try:
        code = main([*command, option, "3"])
    except SystemExit as stop:  # tyro knows no such option
        code = stop.code
    assert code == 2 and reason in capsys.readouterr().err


def test_a_failure_outside_is_told_as_an_error(tmp_path, capsys):
    usual = ["collect", "--env", GAME_ID, "--out", str(tmp_path / "data"), "--episodes", "3", "--workers", "1"]
    assert main([*usual, "--env-kwargs", "fails=true"]) == 2
    assert "\nerror: a collection worker failed; what is stored stays" in capsys.readouterr().err


def test_a_device_that_is_not_here_is_told(tmp_path, capsys):
    world = tiny_world().save_pretrained(tmp_path / "world")
    assert main(["train-agent", "--world", str(world), "--out", str(tmp_path / "agent"), "--device", "gpu"]) == 2
    assert "no device 'gpu' here" in capsys.readouterr().err and not (tmp_path / "agent").exists()


@pytest.mark.parametrize(
    "command", ["train-tokenizer", "train-dynamics", "sample", "show-codes", "evaluate-model", "watch"]
)
def test_every_command_tells_a_device_that_is_not_here(command, tmp_path, capsys):
    world = str(tiny_world().save_pretrained(tmp_path / "world"))
    data = ["--data", str(recorded_store(tmp_path / "data").root), "--out", str(tmp_path / "out.gif")]
    given = {
        "train-tokenizer": [*data, "--model.height", "16", "--model.width", "16"],
        "train-dynamics": [*data, "--tokenizer", str(tmp_path / "tokenizer")],
        "sample": [world, *data],
        "show-codes": [str(tmp_path / "tokenizer"), *data[:2], "--out", str(tmp_path / "out.png")],
        "evaluate-model": [world, *data],
        "watch": ["sticky", "--env", world, "--out", str(tmp_path / "out.gif")],
    }
    save_tokenizer(tmp_path / "tokenizer", tiny_world().tokenizer)
    assert main([command, *given[command], "--device", "gpu"]) == 2
    assert "no device 'gpu' here" in capsys.readouterr().err


def test_a_module_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["collect", "--env", "no_such:Game-v0", "--out", str(tmp_path / "data"), "--steps", "9"]) == 2
    assert "error: " in (told := capsys.readouterr().err) and "no_such" in told


def test_an_agent_is_not_judged_through_codes_that_it_does_not_know(tmp_path, capsys):
    own, other = (tiny_world(seed=seed).save_pretrained(tmp_path / f"world{seed}") for seed in (0, 1))
    config = AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8)
    folder = train_agent(own, tmp_path / "agent", DreamTraining(agent=config), device="cpu")
    dream = ["evaluate", str(folder), "--env", "VideoGenDream-Doom", "--horizon", "5", "--episodes", "2"]
    real = ["evaluate", str(folder), "--env", LARGER_GAME_ID, "--episodes", "2"]
    for command in ([*dream, "--world", str(other)], [*real, "--world", str(other)]):
        assert main(command) == 2
        assert f"another tokenizer, that of {own}" in capsys.readouterr().err
    assert main([*dream, "--world", str(own)]) == main(real) == main([*real, "--world", str(own)]) == 0


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("train-agent", "a new --out (OUT/agent holds the agent after its last update, if there was one)"),
        ("collect", "to resume"),
        ("evaluate-model", "nothing was written; run the same command again"),
    ],
)
def test_ctrl_c_tells_what_to_do_next(command, advice, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_call", stop)
    assert main([command]) == 130
    assert advice in capsys.readouterr().err


def test_an_agent_is_judged_in_a_dream_of_any_world(tmp_path, capsys):
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
def test_scripted_play_is_judged_as_an_agent_is(player, tmp_path, capsys):
    world = str(tiny_world().save_pretrained(tmp_path / "world"))
    out = tmp_path / "scores.json"
    usual = ["evaluate", player, "--episodes", "2", "--out", str(out)]
    dream = ["--env", "VideoGenDream-Doom", "--horizon", "5"]
    assert main([*usual, "--env", LARGER_GAME_ID]) == 0
    assert set(json.loads(out.read_text())) == {player, "random"}
    assert main([*usual, *dream, "--world", world]) == 0
    told = capsys.readouterr().out
    assert f"world:  {world}\n{player}:" in told and ("gain:" in told) == (player == "sticky")
    assert main([*usual, *dream, "--deterministic"]) == 2
    assert "--deterministic is for agents" in capsys.readouterr().err
    assert main([*usual, "--env", LARGER_GAME_ID, "--world", world]) == 2
    assert "leave out --world" in capsys.readouterr().err


def test_the_best_blind_policy_is_searched_on_some_episodes_and_judged_on_others(tmp_path, capsys):
    out = tmp_path / "scores.json"
    usual = ["evaluate", "blind", "--env", LARGER_GAME_ID, "--search-episodes", "8"]
    assert main([*usual, "--episodes", "3", "--out", str(out)]) == 0
    told, found = capsys.readouterr().out, json.loads(out.read_text())
    assert found["policy"] == found["search"]["best"] == "constant:left"  # the action that pays
    assert f"policy: constant:left, the best of {len(found['search']['tried'])} in " in told
    assert "\nblind:  " in told and "\nrandom: " in told and "\ngain:   " in told
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
    assert "unknown action 'attack', here are noop, left, right" in capsys.readouterr().err


def test_scores_are_written_before_they_are_printed(tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdout", Closed())
    out = tmp_path / "scores.json"
    assert main(["evaluate", "random", "--env", LARGER_GAME_ID, "--episodes", "2", "--out", str(out)]) == 2
    assert set(json.loads(out.read_text())) == {"random"}


def test_one_episode_has_no_interval(capsys):
    assert main(["evaluate", "sticky", "--env", LARGER_GAME_ID, "--episodes", "1"]) == 0
    told = capsys.readouterr().out
    assert "1 episode of" in told and "inf" not in told and "±" not in told


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
        (["a", "b", "--env", "VideoGenReal-Doom"], "--env plays one agent, got 2"),
        (["--env", "VideoGenReal-Doom"], "--env plays one agent, got 0"),
    ],
)
def test_the_two_ways_of_evaluating_do_not_mix(words, reason, capsys):
    assert main(["evaluate", *words]) == 2
    assert reason in capsys.readouterr().err


def test_training_commands_run_from_options_to_a_saved_agent(tmp_path, capsys):
    for name in ("data", "more"):
        recorded_store(tmp_path / name, lengths=(40,) * 20)
    small = ["--model.height", "16", "--model.width", "16", "--model.stage-widths", "8", "16"]
    loop = ["--loop.steps", "4", "--loop.batch-size", "4", "--loop.evaluate-every", "2"]
    data = ["--data", str(tmp_path / "data")]
    assert main(["train-tokenizer", *data, "--out", str(tmp_path / "tok"), *small, *loop]) == 0
    assert json.loads((tmp_path / "tok" / "config.json").read_text())["loop"]["steps"] == 4
    assert "psnr" in capsys.readouterr().out
    tokenizer = ["--tokenizer", str(tmp_path / "tok" / "best")]
    gpt = ["--model.layers", "1", "--model.width", "16", "--model.heads", "2"]
    both = [*data, str(tmp_path / "more")]
    assert main(["train-dynamics", *both, *tokenizer, "--out", str(tmp_path / "dyn"), *gpt, *loop]) == 0
    assert "in 40 episodes" in (tmp_path / "dyn" / "last" / "README.md").read_text()
    assert "bits_per_code" in capsys.readouterr().out
    ppo = ["--agent.steps", "16", "--agent.num-envs", "4", "--agent.n-steps", "4", "--agent.batch-size", "8"]
    world = ["--world", str(tmp_path / "dyn" / "best")]
    assert main(["train-agent", *world, "--out", str(tmp_path / "agent"), "--device", "cpu", *ppo]) == 0
    assert (tmp_path / "agent" / "agent" / "model.safetensors").exists()


def configs_of(monkeypatch):
    """Collects what the training commands would train with, instead of training."""
    seen = []

    def launch(train, *_):
        seen.append(next(part for part in train.args if isinstance(part, TokenizerTraining | DynamicsTraining)))
        return {}

    for module in ("train_tokenizer", "train_dynamics"):
        monkeypatch.setattr(f"worldmodel.training.{module}.launch", launch)
    return seen


def test_a_preset_is_the_default_that_single_options_change(monkeypatch):
    seen = configs_of(monkeypatch)
    assert main(["train-tokenizer", "--data", "x", "--preset", "doom-small", "--model.residual-layers", "3"]) == 0
    assert main(["train-tokenizer", "--data", "x"]) == 0
    small = tokenizer.preset("doom-small")
    assert seen == [TokenizerTraining(model=replace(small, residual_layers=3)), TokenizerTraining()]
    usual = ["train-dynamics", "--data", "x", "--tokenizer", "y"]
    assert main([*usual, "--preset=doom-small", "--model.layers", "3", "--loop.steps", "7"]) == 0
    assert main(usual) == 0
    assert seen[2].model == replace(dynamics.preset("doom-small").model, layers=3) and seen[2].loop.steps == 7
    assert seen[3] == DynamicsTraining()


def test_what_goes_on_from_a_world_has_its_sizes(tmp_path, monkeypatch):
    seen = configs_of(monkeypatch)
    world = tiny_world()
    start = ["--data", "x", "--start-from", str(world.save_pretrained(tmp_path / "world"))]
    assert main(["train-tokenizer", *start]) == main(["train-tokenizer", *start, "--model.heads", "1"]) == 0
    assert seen[0].model == world.config.tokenizer and seen[1].model == TokenizerTraining().model.__class__(heads=1)
    assert main(["train-dynamics", *start, "--tokenizer", "y"]) == 0
    assert main(["train-dynamics", *start, "--tokenizer", "y", "--heads.dropout", "0.5"]) == 0
    assert seen[2].model == seen[3].model == world.config.dynamics and seen[2].heads == world.config.heads
    assert seen[3].heads == replace(DynamicsTraining().heads, dropout=0.5)


def test_pushing_has_shorter_episodes_and_smaller_rewards_than_games(monkeypatch):
    seen = configs_of(monkeypatch)
    usual = ["train-dynamics", "--data", "x", "--tokenizer", "y", "--preset", "push-small"]
    assert main(usual) == main([*usual, "--segment", "6", "--heads.limit", "9"]) == 0
    assert seen[0].segment + 1 <= 15 and seen[0].start_steps < 15 and seen[0].heads.limit == 2.0
    assert (seen[1].segment, seen[1].heads) == (6, replace(seen[0].heads, limit=9.0))


@pytest.mark.parametrize("name", dynamics.PRESETS)
def test_every_preset_of_the_dynamics_can_be_trained(name, monkeypatch):
    seen = configs_of(monkeypatch)
    assert main(["train-dynamics", "--data", "x", "--tokenizer", "y", "--preset", name]) == 0
    assert seen[0].model == dynamics.preset(name).model


@pytest.mark.parametrize(
    ("command", "wrong", "right"),
    [("train-tokenizer", "videogen-2x4x5", "videogen-2x4x4"), ("train-dynamics", "dom-small", "doom-small")],
)
def test_an_unknown_preset_gives_the_nearest_and_help_lists_them(command, wrong, right, capsys):
    assert main([command, "--data", "x", "--preset", wrong]) == 2
    assert f"Did you mean {right!r}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert right in capsys.readouterr().out


def test_sample_makes_videos_from_options(tmp_path, capsys):
    encoder = FrameEncoderConfig(width=4, depths=(1,))
    options = {"learn_start": True, "drop_actions": 0.1, "drop_frames": 0.1, "frame_condition": 1}
    world = str(tiny_world(frame_encoder=encoder, **options).save_pretrained(tmp_path / "world"))
    data = str(recorded_store(tmp_path / "data", lengths=(20,) * 20).root)
    out = ["--out", str(tmp_path / "a.gif"), "--n", "2", "--device", "cpu"]
    given = {
        "none": ["--steps", "3"],
        "frames": ["--condition", "frames", "--steps", "3", "--data", data],
        "actions": ["--actions", "left*2", "0"],
        "both": ["--data", data, "--actions", "left*2 right", "1", "--split", "train", "--top-k", "3"],
    }
    for condition, words in given.items():
        command = ["sample", world, *out, *words]
        assert main(command) == 0
        assert f"condition: {condition}" in capsys.readouterr().out
        about = json.loads((tmp_path / "a.json").read_text())
        assert about["condition"] == condition and about["command"] == shlex.join(["videogen-dream", *command])
    assert about["actions"] == [[1, 1, 2, 1]] * 2 and about["options"]["top_k"] == 3


def test_a_real_game_has_no_temperature(tmp_path, capsys):
    words = ["watch", "random", "--env", LARGER_GAME_ID, "--out", str(tmp_path / "x.gif"), "--temperature", "0.3"]
    assert main(words) == 2
    assert "--temperature is for dreams" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_watch_writes_a_video_and_tells_the_returns(tmp_path, capsys):
    world = tiny_world().save_pretrained(tmp_path / "world")
    video = tmp_path / "play.gif"
    usual = ["watch", "sticky", "--env", str(world), "--out", str(video), "--device", "cpu"]
    assert main([*usual, "--episodes", "2", "--steps", "3", "--seed", "5"]) == 0
    assert video.stat().st_size and "episode of seed 6: return" in capsys.readouterr().out
    assert main([*usual, "--episodes", "0"]) == 2
    assert "episodes must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("envs", "words"),
    [(["VideoGenReal-Dom"], "VideoGenReal-Doom"), (["no/world"], "no/world"), (["a", "a"], "counts once")],
)
def test_play_refuses_what_it_cannot_open_before_it_serves(envs, words, capsys):
    assert main(["play", *envs]) == 2
    assert words in capsys.readouterr().err


def test_play_serves_until_it_is_stopped(tmp_path, capsys, monkeypatch):
    def answered(serving):
        """Run the server until it tells its address."""

        async def until_ready():
            task = asyncio.get_running_loop().create_task(serving)
            while "Open http://" not in (told := capsys.readouterr().out):
                await asyncio.sleep(0.01)
                assert not task.done()
            told_addresses.append(told)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        with asyncio.Runner() as runner:
            runner.run(until_ready())
        raise KeyboardInterrupt

    told_addresses: list[str] = []
    world = tiny_world().save_pretrained(tmp_path / "world")
    monkeypatch.setattr("asyncio.run", answered)
    assert main(["play", str(world), "--port", "0"]) == 130
    assert "http://127.0.0.1:" in told_addresses[0] and "Traceback" not in capsys.readouterr().err


def test_sample_tells_what_the_model_was_not_trained_for(tmp_path, capsys):
    world = str(tiny_world().save_pretrained(tmp_path / "world"))
    assert main(["sample", world, "--out", str(tmp_path / "a.gif"), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "learn_start=True" in error and "--data STORE" in error and not (tmp_path / "a.gif").exists()


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


@pytest.mark.parametrize("module", ["worldmodel.training.collect.collect", "worldmodel.training.collect.workers"])
def test_commands_that_need_no_torch_do_not_start_it(module):
    code = f"import sys, {module}; from worldmodel.training.cli.commands import COMMANDS; COMMANDS['collect'].load(); "
    done = subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=False)
    assert done.returncode == 0
