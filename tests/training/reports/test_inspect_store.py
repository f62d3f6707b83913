"""What `inspect` reports of a store: checked by hand, and of stores with gaps, without episodes, and damaged."""

import json
from dataclasses import replace

import pytest

from tests.clips import clip_world
from tests.data.makers import INFO, PUSHES, make_episode, make_store
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.data import EpisodeStorage
from worldmodel.data.facts import dataset_facts, store_facts
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training.cli.main import main
from worldmodel.training.reports.inspect_model import model_facts
from worldmodel.training.reports.inspect_store import facts_page, inspect_store
from worldmodel.training.train_agent import DreamTraining, train_agent


def test_the_facts_are_those_of_the_report_and_more(tmp_path):
    store = recorded_store(tmp_path, lengths=(10, 14, 30))
    facts = store_facts(store)
    assert dataset_facts(store).items() <= facts.items()
    assert {name: part["episodes"] for name, part in facts["splits"].items()} == dict.fromkeys(facts["splits"], 1)
    assert sum(part["steps"] for part in facts["splits"].values()) == 54
    assert facts["lengths"] == {"least": 10.0, "mean": 18.0, "greatest": 30.0}
    assert facts["returns"]["least"] == 2.0 and facts["returns"]["greatest"] == 8.0  # of 14 and of 30 steps
    assert facts["signals"] == {"HEALTH": {"least": 0.0, "mean": pytest.approx(50.0), "greatest": 100.0}}
    assert (facts["missing_ids"], facts["pending"], facts["stopped"]) == ([], 0, 0)
    page = facts_page(facts)
    for words in ("VideoGenReal-DoomHealthGathering", "action left", "10 to 30, mean 18", "0 to 100, mean 50"):
        assert words in page
    assert "missing" not in page and "packed" not in page


def test_continuous_actions_have_ranges(tmp_path):
    store = make_store(tmp_path / "toy", (5,), replace(INFO, action=PUSHES))
    actions = store.actions(0)
    found = store_facts(store)["numbers"]
    assert [*found] == ["dimension 0", "dimension 1"]
    assert found["dimension 1"]["least"] == actions[:, 1].min()
    assert found["dimension 0"]["greatest"] == actions[:, 0].max()
    assert "action dimension 1" in facts_page(store_facts(store))


def test_gaps_pending_episodes_and_a_published_test_are_reported(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", replace(INFO, test_episodes=2, views=2))
    for episode_id in (1, 14, 15):
        store.write_pending(make_episode(3, seed=2), episode_id)
    facts = inspect_store(store.root)
    assert facts["missing_ids"] == [0, *range(2, 14)] and facts["pending"] == 3 and facts["stopped"] == 3
    page = facts_page(facts)
    assert "13: 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, …;" in page and "1 episode, 3 steps, as published" in page
    assert "3 (read like the others)" in page and "show the same play" in page


def test_a_store_without_episodes_is_reported_as_empty(tmp_path):
    facts = store_facts(EpisodeStorage.create(tmp_path / "toy", INFO))
    assert facts["episodes"] == 0 and "none yet" in facts_page(facts)


def test_every_damaged_file_is_named_at_once(tmp_path):
    store = make_store(tmp_path / "toy", (4, 4))
    pending = store.root / "data" / "pending"
    for episode_id in (2, 3, 4):
        store.append(make_episode(4, seed=episode_id))
    for number in (2, 4):
        path = pending / f"episode_{number:06d}.hdf5"
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="2 damaged files") as refused:
        inspect_store(store.root)
    assert [f"{number:06d}.hdf5" in str(refused.value) for number in (2, 3, 4)] == [True, False, True]


def test_the_command_prints_a_page_or_json(tmp_path, capsys):
    root = str(recorded_store(tmp_path / "data", lengths=(10,)).root)
    assert main(["inspect", root]) == 0
    assert "split train" in capsys.readouterr().out
    assert main(["inspect", root, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["episodes"] == 1 and facts["return_half_width"] is None  # not known from one episode
    assert main(["inspect", str(tmp_path)]) == 2
    assert "is neither a store of recorded play" in capsys.readouterr().err


# Models


def test_a_world_is_described_with_its_abilities(tmp_path, capsys):
    tiny_world().save_pretrained(tmp_path / "run" / "best")
    assert main(["inspect", str(tmp_path / "run"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["game"] == "VideoGenReal-DoomHealthGathering, 8.75 steps per second, as far as is known"
    assert facts["actions"] == "one of 3 actions (noop, left, right)" and facts["signals"] == "HEALTH"
    assert facts["codes of a step"] == "2 x 2 tokens of 2 codes, each one of 16"
    assert facts["makes video from"] == "first frames and actions" and facts["dreams step by step"] == "yes"
    assert facts["recorded starts"] == "5 of 3 steps"


def test_a_worlds_starts_are_described(tmp_path, capsys):
    tiny_world(first=4).save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recorded starts"] == "5 of 3 steps, and of 4 episodes the beginning"


@pytest.mark.parametrize(
    ("changes", "makes", "dreams"),
    [
        ({"learn_start": True, "drop_actions": 0.1}, "nothing, first frames, actions, first frames and actions", "yes"),
        ({"learn_start": True, "action_condition": "none"}, "nothing, first frames", "yes"),
        ({"action_condition": "clip", "max_steps": 4}, "first frames and actions", "no, it needs all actions at once"),
    ],
)
def test_a_worlds_abilities_follow_from_its_training(tmp_path, changes, makes, dreams):
    tiny_world(**changes).save_pretrained(tmp_path)
    facts = dict(model_facts(str(tmp_path)))
    assert (facts["makes video from"], facts["dreams step by step"]) == (makes, dreams)


def test_a_world_of_whole_clips_says_why_it_cannot_dream_and_claims_no_first_frames(tmp_path):
    of_slices = {"net": "subscale", "subscale": (1, 2, 2), "clip_frames": 8, "kernel": (1, 3, 3)}
    for number, (world, makes, dreams) in enumerate(
        [
            (clip_world(), "nothing, actions", "no, its tokenizer does not code single steps"),
            (
                clip_world(frame_condition=1),
                "nothing, first frames, actions, first frames and actions",
                "no, its tokenizer does not code single steps",
            ),
            (tiny_world(**of_slices), "first frames and actions", "no, its dynamics draw whole clips"),
        ]
    ):
        world.save_pretrained(tmp_path / str(number))
        facts = dict(model_facts(str(tmp_path / str(number))))
        assert (facts["makes video from"], facts["dreams step by step"]) == (makes, dreams)


def test_a_tokenizer_alone_and_a_shipped_world_are_described(tmp_path, capsys):
    save_tokenizer(tmp_path, tiny_world().tokenizer)
    assert dict(model_facts(str(tmp_path)))["step"] == "2 frames of 16 x 16 x 3"
    assert main(["inspect", "doom-hg"]) == 0
    assert "block order, 4 layers of 192, window 16\n" in capsys.readouterr().out


def test_an_agent_is_described_with_its_observations_also_by_its_run_folder(tmp_path, capsys):
    world = tiny_world().save_pretrained(tmp_path / "world")
    config = DreamTraining(
        agent=AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8, frame_stack=2), obs="latent"
    )
    folder = train_agent(world, tmp_path / "run", config, device="cpu")
    facts = dict(model_facts(str(folder)))
    assert facts["agent"] == str(folder) and facts["world"] == str(world)
    assert facts["sees"] == "the game as its world shows it, latent: 2 x 2 x 8 float32, the last 2 of them"
    assert (
        facts["acts by"] == "one of 3 actions (noop, left, right)" and facts["rewarded for"] == "what its env rewards"
    )
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == facts


def test_an_agent_that_holds_its_actions_says_so(tmp_path):
    world = tiny_world().save_pretrained(tmp_path / "world")
    sizes = AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8, frame_stack=2, durations=(1, 4))
    folder = train_agent(world, tmp_path / "run", DreamTraining(agent=sizes, reward="survival"), device="cpu")
    facts = dict(model_facts(str(folder)))
    assert facts["sees"].endswith(", the last 2 of them, and its actions")
    assert facts["acts by"].endswith(", held for one of 1, 4 steps")
    assert facts["rewarded for"] == "each step that it survives"


def test_folders_that_are_neither_store_nor_model_are_refused(tmp_path, capsys):
    assert main(["inspect", "doom-gh"]) == 2 and "Did you mean 'doom-hg'" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path)]) == 2 and "neither a store of recorded play" in capsys.readouterr().err
