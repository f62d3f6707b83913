import asyncio
import json
import shlex
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.tiny import tiny_world
from tests.training.counting_game import GAME_ID, LARGER_GAME_ID
from tests.training.recorded import recorded_store
from worldmodel import dynamics, tokenizer
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training.cli import main as cli
from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.main import main
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


def test_help_with_a_command_prints_its_help(capsys):
    printed = []
    for words in (["help", "mirror"], ["mirror", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and "usage: videogen-dream mirror" in printed[0]
    assert main(["help", "mirro"]) == 2
    assert "no command 'mirro'" in (said := capsys.readouterr().err) and "mirror" in said
    assert main(["help"]) == 0 and "train-agent" in capsys.readouterr().out


def test_an_unknown_command_gives_the_nearest(capsys):
    assert main(["colect"]) == 2
    assert "Did you mean 'collect'?" in capsys.readouterr().err


def test_a_mistake_is_reported_in_one_line(tmp_path, capsys):
    assert main(["train-tokenizer", "--data", str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "nothing" in error and "Traceback" not in error


@pytest.mark.parametrize("words", [["watch", "random"], ["collect", "--steps", "9"]], ids=lambda words: words[0])
def test_a_module_of_an_id_that_is_not_found_comes_with_what_finds_it(words, tmp_path, capsys):
    assert main([*words, "--env", "no_such_games:Game-v0", "--out", str(tmp_path / "out.mp4")]) == 2
    error = capsys.readouterr().err
    assert "No module named 'no_such_games'." in error and ".." not in error
    assert "run `export PYTHONPATH=.` in its folder" in error


def test_a_missing_module_that_the_user_did_not_name_comes_without_that_hint():
    error = ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
    assert cli._how_modules_are_found(error, ["--env", "my_games:Game-v0"]) == ""


def test_a_warning_about_an_argument_is_reported_in_one_line(monkeypatch):
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


def test_collect_passes_options_to_the_env(tmp_path, capsys):
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


def test_a_failure_outside_is_reported_as_an_error(tmp_path, capsys):
    usual = ["collect", "--env", GAME_ID, "--out", str(tmp_path / "data"), "--episodes", "3", "--workers", "1"]
    assert main([*usual, "--env-kwargs", "fails=true"]) == 2
    assert "\nerror: a collection worker failed; stored episodes are kept" in capsys.readouterr().err


def test_a_missing_device_is_reported(tmp_path, capsys):
    world = tiny_world().save_pretrained(tmp_path / "world")
    assert main(["train-agent", "--world", str(world), "--out", str(tmp_path / "agent"), "--device", "gpu"]) == 2
    assert "no device 'gpu' here" in capsys.readouterr().err and not (tmp_path / "agent").exists()


@pytest.mark.parametrize(
    "command", ["train-tokenizer", "train-dynamics", "sample", "show-codes", "evaluate-model", "watch"]
)
def test_every_command_reports_a_missing_device(command, tmp_path, capsys):
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


def test_a_missing_module_is_reported(tmp_path, capsys):
    assert main(["collect", "--env", "no_such:Game-v0", "--out", str(tmp_path / "data"), "--steps", "9"]) == 2
    assert "error: " in (printed := capsys.readouterr().err) and "no_such" in printed


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("train-agent", "to resume"),
        ("collect", "to resume"),
        ("evaluate-model", "nothing was written; run the same command again"),
    ],
)
def test_ctrl_c_says_what_to_do_next(command, advice, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_call", stop)
    assert main([command]) == 130
    assert advice in capsys.readouterr().err


def test_training_commands_run_from_options_to_a_saved_agent(tmp_path, capsys):
    for name in ("data", "more"):
        recorded_store(tmp_path / name, lengths=(40,) * 20)
    small = ["--model.height", "16", "--model.width", "16", "--model.stage-widths", "8", "16"]
    loop = ["--loop.steps", "4", "--loop.batch-size", "4", "--loop.evaluate-every", "2"]
    data = ["--data", str(tmp_path / "data")]
    few = ["--validation-steps", "16"]
    assert main(["train-tokenizer", *data, "--out", str(tmp_path / "tok"), *small, *loop, *few]) == 0
    assert json.loads((tmp_path / "tok" / "config.json").read_text())["loop"]["steps"] == 4
    assert "psnr" in capsys.readouterr().out
    tokenizer = ["--tokenizer", str(tmp_path / "tok" / "best")]
    gpt = ["--model.layers", "1", "--model.width", "16", "--model.heads", "2", "--validation-segments", "8"]
    both = [*data, str(tmp_path / "more")]
    assert main(["train-dynamics", *both, *tokenizer, "--out", str(tmp_path / "dyn"), *gpt, *loop]) == 0
    assert "in 32 episodes" in (tmp_path / "dyn" / "last" / "README.md").read_text()
    assert "bits_per_code" in capsys.readouterr().out
    ppo = ["--agent.steps", "16", "--agent.num-envs", "4", "--agent.n-steps", "4", "--agent.batch-size", "8"]
    world = ["--world", str(tmp_path / "dyn" / "best")]
    assert main(["train-agent", *world, "--out", str(tmp_path / "agent"), "--device", "cpu", *ppo]) == 0
    assert (tmp_path / "agent" / "agent" / "model.safetensors").exists()


def configs_of(monkeypatch):
    """Records the settings of the training commands instead of training."""
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


def test_training_from_an_earlier_world_takes_its_sizes(tmp_path, monkeypatch):
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


def test_watch_writes_a_video_and_prints_the_returns(tmp_path, capsys):
    world = tiny_world().save_pretrained(tmp_path / "world")
    video = tmp_path / "play.gif"
    usual = ["watch", "sticky", "--env", str(world), "--out", str(video), "--device", "cpu"]
    assert main([*usual, "--episodes", "2", "--steps", "3", "--seed", "5"]) == 0
    assert video.stat().st_size and "episode of seed 6: return" in capsys.readouterr().out
    assert main([*usual, "--episodes", "0"]) == 2
    assert "episodes must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("envs", "words"),
    [(["VideoGenReal-Dom"], "VideoGenReal-Doom"), (["no/world"], "no/world"), (["a", "a"], "must be different")],
)
def test_play_refuses_what_it_cannot_open_before_it_serves(envs, words, capsys):
    assert main(["play", *envs]) == 2
    assert words in capsys.readouterr().err


def test_play_serves_until_it_is_stopped(tmp_path, capsys, monkeypatch):
    def answered(serving):
        """Run the server until it prints its address."""

        async def until_ready():
            task = asyncio.get_running_loop().create_task(serving)
            while "Open http://" not in (printed := capsys.readouterr().out):
                await asyncio.sleep(0.01)
                assert not task.done()
            addresses.append(printed)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        with asyncio.Runner() as runner:
            runner.run(until_ready())
        raise KeyboardInterrupt

    addresses: list[str] = []
    world = tiny_world().save_pretrained(tmp_path / "world")
    monkeypatch.setattr("asyncio.run", answered)
    assert main(["play", str(world), "--port", "0"]) == 130
    assert "http://127.0.0.1:" in addresses[0] and "Traceback" not in capsys.readouterr().err


def test_sample_reports_what_the_model_was_not_trained_for(tmp_path, capsys):
    world = str(tiny_world().save_pretrained(tmp_path / "world"))
    assert main(["sample", world, "--out", str(tmp_path / "a.gif"), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "learn_start=True" in error and "--data STORE" in error and not (tmp_path / "a.gif").exists()


@pytest.mark.parametrize("module", ["worldmodel.training.collect.collect", "worldmodel.training.collect.workers"])
def test_commands_that_need_no_torch_do_not_start_it(module):
    code = f"import sys, {module}; from worldmodel.training.cli.commands import COMMANDS; COMMANDS['collect'].load(); "
    done = subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=False)
    assert done.returncode == 0
