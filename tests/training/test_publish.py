import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import pytest
import torch
import tyro

from tests.pixelcnn_world import pixelcnn_config, pixelcnn_world
from tests.tiny import tiny_config, tiny_world
from tests.training.dream_vs_real.test_quick_trust import SMALL, LongToy
from tests.training.recorded import game, recorded_store
from worldmodel.checkpoint import weights_name
from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.data.regroup import regroup
from worldmodel.evaluation.evaluate_model import summarize_model
from worldmodel.files import write_json
from worldmodel.model import WorldModel
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training import publish as module
from worldmodel.training.cli.commands import COMMANDS
from worldmodel.training.cli.main import main
from worldmodel.training.cli.parsing import parse
from worldmodel.training.dream_vs_real.quick_trust import quick_trust
from worldmodel.training.fit import LoopConfig
from worldmodel.training.publish import Play, _collect_command, _score_rows, publish
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

FEW = {"num_starts": 4, "validation_segments": 8}


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(module, "summarize_model", partial(summarize_model, samples=2, max_segments=16))


def test_a_published_world_is_smaller_loads_and_says_how_to_reproduce_it(tmp_path):
    data = tmp_path / "data"
    recorded_store(data, lengths=(40,) * 20)
    made = {"policy": "random", "epsilon": 0.25, "seed": 7, "env_kwargs": {"frame_skip": 8}}
    write_json(data / "collect.json", made)
    loop = LoopConfig(steps=3, batch_size=4, evaluate_every=3, save_every=3, seed=5)
    config = tiny_config()
    train_tokenizer(
        data, tmp_path / "tokenizer", TokenizerTraining(model=config.tokenizer, loop=loop, validation_steps=16)
    )
    parts = {"model": config.dynamics, "heads": config.heads, "loop": loop, "validation_segments": 8}
    train_dynamics(
        data, tmp_path / "tokenizer" / "best", tmp_path / "run", DynamicsTraining(num_starts=4, muon=False, **parts)
    )
    folder = publish(tmp_path / "run" / "best", data, tmp_path / "toy", notes="A toy.")
    sizes = [(f / "model.safetensors").stat().st_size for f in (folder, tmp_path / "run" / "best")]
    assert sizes[0] < 0.75 * sizes[1]
    starts = WorldModel.from_pretrained(folder).starts
    assert len(starts.codes) == len(starts.first.codes) == 2
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: videogen-dream\n") and "\n---\n\n# toy\n" in card and "A toy." in card
    assert "open-loop PSNR after 16 steps" in card and "NMSE" in card
    assert "from random play with 25% random actions." in card and "sticky" not in card
    collecting, tokenizer, dynamics, publishing = [
        line for line in card.splitlines() if line.startswith("videogen-dream")
    ]
    assert publishing == "videogen-dream publish runs/dynamics/best runs/data toy"
    assert "--episodes 20 --policy random --epsilon 0.25 --seed 7 --env-kwargs frame_skip=8" in collecting
    trained = TokenizerTraining(model=config.tokenizer, loop=loop, validation_steps=16)
    assert read_back(tokenizer, TokenizerTraining()) == trained
    assert read_back(dynamics, DynamicsTraining()) == DynamicsTraining(num_starts=4, muon=False, segment=16, **parts)


def test_a_card_of_a_single_held_out_segment_has_no_loss_of_shuffled_actions(tmp_path):
    model = tiny_world()
    report = summarize_model(model, recorded_store(tmp_path, lengths=(12,) * 10), samples=2)
    assert dict(_score_rows(model, report, "play"))["loss with shuffled actions over true"] == "not measured"


def read_back(line: str, default):
    """The config that a command of the card gives."""
    words = shlex.split(line)
    first = next(i for i, word in enumerate(words) if word.startswith(("--model", "--loop", "--muon")))
    return tyro.cli(tyro.conf.AvoidSubcommands[type(default)], default=default, args=words[first:])


def test_a_card_lists_all_stores_that_a_world_was_trained_on(tmp_path):
    """The tokenizer saw only the first."""
    stores = [tmp_path / name for name in ("first", "second")]
    for store, episodes, policy in zip(stores, (20, 10), ("random", "agent 0a1b"), strict=True):
        recorded_store(store, lengths=(40,) * episodes)
        write_json(store / "collect.json", {"policy": policy, "epsilon": 0.0, "seed": 0, "env_kwargs": {}})
    config, loop = tiny_config(), LoopConfig(steps=2, batch_size=4, evaluate_every=2, save_every=2)
    coder = TokenizerTraining(model=config.tokenizer, loop=loop, validation_steps=16)
    train_tokenizer(stores[0], tmp_path / "tokenizer", coder)
    parts = DynamicsTraining(model=config.dynamics, heads=config.heads, loop=loop, **FEW)
    train_dynamics(open_stores(stores), tmp_path / "tokenizer" / "best", tmp_path / "run", parts)
    folder = publish(tmp_path / "run" / "last", stores[0], tmp_path / "toy", also=(stores[1],))
    card = (folder / "README.md").read_text()
    assert "from random play and play of a trained agent 0a1b." in card and "1,200 decisions in 30 episodes" in card
    commands = [line for line in card.splitlines() if line.startswith("videogen-dream")]
    wanted = (
        "--out runs/data --episodes 20 --policy random",
        "--out runs/data2 --episodes 10 --policy AGENT",
        "train-tokenizer --data runs/data --",
        "train-dynamics --data runs/data runs/data2 --tokenizer",
        "runs/dynamics/last runs/data toy --also runs/data2",
    )
    for command, words in zip(commands, wanted, strict=True):
        assert words in command, (words, command)


def test_a_card_describes_episodes_of_a_trained_agent_and_of_unknown_origin():
    assert _collect_command("Game", Play("data", 3, None), "data").startswith("#")
    made = {"policy": "agent 0a1b", "epsilon": 0.0, "seed": 0, "env_kwargs": {}}
    assert "--policy AGENT" in _collect_command("Game", Play("data", 3, made), "data")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("sticky", "sticky random play"),
        ("diverse", "diverse blind play"),
        ("cycle:left*3,right*3", "blind play `cycle:left*3,right*3`"),
        ("agent 0a1b", "play of a trained agent 0a1b"),
    ],
)
def test_a_card_names_every_policy_and_says_how_to_repeat_blind_ones(policy, words):
    play = Play("data", 3, {"policy": policy, "epsilon": 0.1, "seed": 0, "env_kwargs": {}})
    assert str(play) == f"{words} with 10% random actions"
    arguments = shlex.split(_collect_command("Game", play, "data"))
    assert arguments[arguments.index("--policy") + 1] == ("AGENT" if policy.startswith("agent ") else policy)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A store, and the run folder of dynamics on a whole world's tokenizer."""
    folder = tmp_path_factory.mktemp("run")
    recorded_store(folder / "data", lengths=(40,) * 20)
    config, loop = tiny_config(), LoopConfig(steps=2, batch_size=4, evaluate_every=2, save_every=2)
    tiny_world().save_pretrained(folder / "first")
    parts = DynamicsTraining(model=config.dynamics, heads=config.heads, loop=loop, **FEW)
    train_dynamics(folder / "data", folder / "first", folder / "run", parts)
    return folder


def test_a_run_folder_stands_for_its_best_and_its_tokenizer_may_be_a_worlds(run, tmp_path):
    folder = publish(run / "run", run / "data", tmp_path / "toy")
    card = (folder / "README.md").read_text()
    assert "publish runs/dynamics/best runs/data toy" in card and "train-tokenizer" not in card
    assert "train-dynamics --data runs/data --tokenizer EARLIER" in card


def test_what_is_measured_has_the_weights_of_the_file(run, tmp_path, monkeypatch):
    measured = []

    def measure(model, *stores):
        measured.append({name: tensor.float().clone() for name, tensor in model.state_dict().items()})
        return summarize_model(model, *stores, samples=2, max_segments=16)

    monkeypatch.setattr(module, "summarize_model", measure)
    published = WorldModel.from_pretrained(publish(run / "run", run / "data", tmp_path / "toy")).state_dict()
    assert all(torch.equal(measured[0][name], tensor.float()) for name, tensor in published.items())


LVT = {"net": "subscale", "frames_alone": True, "training_slices": 2}
SPATIAL = LVT | {"subscale": (1, 2, 2), "clip_frames": 8, "kernel": (1, 3, 3)}


@pytest.mark.parametrize("kind", ["single frames", "clips", "two levels"])
def test_worlds_of_the_other_two_papers_are_published_where_episodes_are_long(run, tmp_path, kind):
    data, scored = run / "data", {"single frames": 16, "clips": 3, "two levels": 16}[kind]
    if kind == "two levels":
        data = regroup(EpisodeStorage.open(data), tmp_path / "fours", 4)
        config, world = pixelcnn_config(), pixelcnn_world()
    else:
        options = LVT if kind == "single frames" else SPATIAL
        config, world = tiny_config(**options), tiny_world(**options)
    loop = LoopConfig(steps=2, batch_size=4, evaluate_every=2, save_every=2)
    parts = DynamicsTraining(model=config.dynamics, heads=config.heads, loop=loop, segment=None, **FEW)
    save_tokenizer(tmp_path / "tokenizer", world.tokenizer)
    train_dynamics(data, tmp_path / "tokenizer", tmp_path / "run", parts)
    folder = publish(tmp_path / "run", data, tmp_path / "toy")
    dynamics = (folder / "README.md").read_text().split("videogen-dream train-dynamics ")[1].partition("\n")[0]
    call = parse("train-dynamics", COMMANDS["train-dynamics"], shlex.split(dynamics))
    again = call.keywords["config"]
    assert replace(again, segment=None) == parts  # also what only this network has
    shown = re.findall(r"open-loop PSNR after (\d+) steps", (folder / "README.md").read_text())
    assert shown == [str(n) for n in (1, 4, 8, 16) if n <= scored]
    assert WorldModel.from_pretrained(folder).config == WorldModel.from_pretrained(tmp_path / "run" / "best").config


def test_publish_uploads_a_world_that_loads_from_the_hub_with_its_licence(run, tmp_path, hub, monkeypatch, capsys):
    from huggingface_hub import ModelCard

    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    words = [str(run / "run"), str(run / "data"), str(tmp_path / "toy"), "--push", "me/toy", "--private"]
    assert main(["publish", *words, "--license", "mit", "--datasets", "me/play"]) == 0
    assert capsys.readouterr().out.split()[-1].startswith(f"{hub.url}/me/toy/commit/")
    assert hub.repositories["me/toy"].private
    loaded = WorldModel.from_pretrained("me/toy")
    assert loaded.config == WorldModel.from_pretrained(tmp_path / "toy").config
    about = ModelCard(hub.files("me/toy")["README.md"].decode()).data
    assert (about.license, about.datasets) == ("mit", ["me/play"])
    assert "publish runs/dynamics/best runs/data toy --license mit --datasets me/play" in str(
        ModelCard.load(tmp_path / "toy" / "README.md")
    )


@pytest.mark.parametrize("token", ["hf_wrong", "hf_reader"])
def test_a_token_that_cannot_write_is_refused_before_anything_is_measured(run, tmp_path, hub, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(module, "summarize_model", None)
    with pytest.raises(PermissionError, match="log in with `hf auth login`"):
        publish(run / "run", run / "data", tmp_path / "toy", push="me/toy")
    assert not (tmp_path / "toy").exists()


def test_private_without_a_repository_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="private is for push"):
        publish(run / "run", run / "data", tmp_path / "toy", private=True)
    assert not (tmp_path / "toy").exists()


def test_a_world_is_not_published_with_play_of_another_game(run, tmp_path):
    with EpisodeStorage.create(tmp_path / "other", replace(game(), env_id="VideoGenReal-DoomTakeCover")) as other:
        other.append(EpisodeStorage.open(run / "data").episode(0))
    with pytest.raises(ValueError, match="its env_id is VideoGenReal-DoomTakeCover, the model's VideoGenReal-DoomHea"):
        publish(run / "run", tmp_path / "other", tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_a_card_has_the_verdict_on_the_world_if_the_real_game_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodel.training.publish.quick_trust", lambda wm, env: quick_trust(wm, env, SMALL))
    gym.register("CardToy-v0", entry_point=LongToy)
    try:
        words = [str(run / "run"), str(run / "data"), str(tmp_path / "toy"), "--real", "CardToy-v0"]
        assert main(["publish", *words]) == 0
    finally:
        del gym.registry["CardToy-v0"]
    card = (tmp_path / "toy" / "README.md").read_text()
    assert "Is the dream true where policies go? 3 blind policies played in it and in `CardToy-v0`" in card
    assert "first frames: " in card and "mid-play: " in card
    assert "publish runs/dynamics/best runs/data toy --real CardToy-v0\n" in card


def test_a_card_does_not_confuse_a_worlds_training_with_its_tokenizers(run, tmp_path):
    loop = LoopConfig(steps=1, batch_size=4, evaluate_every=1, save_every=1)
    parts = DynamicsTraining(model=tiny_config().dynamics, heads=tiny_config().heads, loop=loop, **FEW)
    train_dynamics(run / "data", run / "run", tmp_path / "second", parts)  # on the tokenizer of a trained world
    card = (publish(tmp_path / "second", run / "data", tmp_path / "toy") / "README.md").read_text()
    assert "train-tokenizer" not in card and "--tokenizer EARLIER" in card


def test_a_card_names_the_world_from_which_a_training_started(run, tmp_path):
    parts = DynamicsTraining(
        model=tiny_config().dynamics,
        heads=tiny_config().heads,
        loop=LoopConfig(steps=1, batch_size=4, evaluate_every=1, save_every=1),
        **FEW,
    )
    train_dynamics(run / "data", run / "first", tmp_path / "further", parts, start_from=run / "run")
    card = (publish(tmp_path / "further", run / "data", tmp_path / "toy") / "README.md").read_text()
    weights = weights_name(run / "run" / "best")[:16]
    assert " --start-from EARLIER " in card and f"# EARLIER has the weights {weights}… (SHA-256)" in card


@pytest.mark.parametrize("other", [".git", "LICENSE", "notes.txt"])
def test_nothing_but_an_earlier_world_is_replaced_and_that_is_known_before_measuring(run, tmp_path, monkeypatch, other):
    tiny_world().save_pretrained(tmp_path / "toy")
    (tmp_path / "toy" / other).write_text("mine")
    monkeypatch.setattr(module, "summarize_model", None)
    with pytest.raises(FileExistsError, match=f"{other}|a repository of git"):
        publish(run / "run", run / "data", tmp_path / "toy")
    assert (tmp_path / "toy" / other).read_text() == "mine"
    (tmp_path / "play").mkdir()
    (tmp_path / "play" / "film.mp4").touch()
    with pytest.raises(FileExistsError, match="something other than a world model"):
        publish(run / "run", run / "data", tmp_path / "play")


def test_the_working_folder_may_be_the_world_and_the_target(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run / "run" / "best")
    publish(".", run / "data", tmp_path / "toy")
    monkeypatch.chdir(tmp_path / "toy")
    publish(run / "run", run / "data", ".")
    assert "\n# toy\n" in Path("README.md").read_text()


@pytest.mark.parametrize("world", ["doom-hg", "first"])
def test_a_world_without_its_training_is_not_published(run, tmp_path, world):
    with pytest.raises(ValueError, match=f"{world} is not the best or last checkpoint in a folder of train-dynamics"):
        publish(run / world if world == "first" else world, run / "data", tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
