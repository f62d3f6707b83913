"""Tests for training/pipeline/loop.py: whole loops on a tiny game, and each rule of the loop on its own."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.tiny import tiny_config
from tests.training.counting_game import LARGER_GAME_ID
from tests.training.crew_here import CrewHere
from tests.training.recorded import recorded_store
from worldmodel.agents.blind.known import BEST_BLIND
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.evaluate import Evaluation, evaluate
from worldmodel.agents.sb3 import train as sb3
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.data import EpisodeStorage
from worldmodel.training import fit as fitting
from worldmodel.training.code_segments import CodeStore
from worldmodel.training.collect import collect as collecting
from worldmodel.training.collect.workers import Job, make_player, play, seeds_of
from worldmodel.training.fit import LoopConfig
from worldmodel.training.pipeline import loop as module
from worldmodel.training.pipeline import loop_report as iterate_report
from worldmodel.training.pipeline import round as round_module
from worldmodel.training.pipeline.config import DemoConfig, Iteration
from worldmodel.training.pipeline.demo import demo
from worldmodel.training.pipeline.loop import iterate, kept_episodes, play_of
from worldmodel.training.train_agent import DreamTraining
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

BLIND_1 = "round-1/blind"
LOOP = LoopConfig(steps=4, batch_size=4, evaluate_every=2, save_every=2)
PPO = AgentConfig(
    steps=32, num_envs=4, n_steps=4, batch_size=8, n_epochs=1, features_dim=16, channels=4, learning_rate=0.03
)
SMALL = Iteration(
    env_id=LARGER_GAME_ID,
    rounds=2,
    first_steps=90,
    collect_steps=100,
    epsilon=0.25,
    fade=0.5,
    workers=1,
    tokenizer=TokenizerTraining(model=tiny_config().tokenizer, loop=LOOP, validation_steps=16),
    dynamics=DynamicsTraining(
        model=tiny_config().dynamics,
        heads=tiny_config().heads,
        loop=LOOP,
        segment=4,
        num_starts=8,
        start_steps=3,
        validation_segments=8,
    ),
    agent=DreamTraining(agent=PPO, horizon=4),
    episodes=3,
)


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "LocalCrew", CrewHere)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory, in_this_process) -> Path:
    """An undisturbed loop of two rounds."""
    out = tmp_path_factory.mktemp("done") / "loop"
    iterate(out, SMALL)
    return out


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


def weights_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("model.safetensors")}


# Whole loops


def test_every_round_says_what_was_used_learned_and_reached(done):
    rows = rows_of(done)
    first, agent, blind = (EpisodeStorage.open(done / place) for place in ("round-0/blind", "round-1/data", BLIND_1))
    assert [row["round"] for row in rows] == [0, 1]
    decisions = [first.num_steps, agent.num_steps + blind.num_steps]
    assert [row["decisions_so_far"] for row in rows] == [decisions[0], sum(decisions)]
    assert 90 <= first.num_steps < 102 and min(agent.num_steps, blind.num_steps) >= 50
    train = [sum(store.lengths[e] for e in store.split("train")) for store in (first, agent, blind)]
    assert [row["trained_on"] for row in rows] == [[train[0]], [train[0], train[1] + train[2]]]
    assert rows[0]["real"] != rows[1]["real"]
    assert all(len(row["real"]["returns"]) == 3 and set(row["minutes"]) == set(round_module.STAGES) for row in rows)
    report = (done / "report.md").read_text()
    random = json.loads((done / "random.json").read_text())
    for result in (random, rows[0]["real"], rows[1]["real"]):
        assert f"{result['mean']:,.1f} ± {result['half_width']:,.1f}" in report
    assert f"| 1 | {train[0]:,} | {train[1] + train[2]:,} | {sum(train):,} |" in report
    players = "agent of round 0 with 25% random actions; 50% diverse blind play"
    assert f"| 0 | diverse blind play | {decisions[0]:,} |" in report
    assert f"| 1 | {players} | {sum(decisions):,} |" in report


def test_round_0_plays_blindly_and_round_1_half_with_the_agent_of_round_0(done):
    agent, (zero, one) = str(done / "round-0" / "agent" / "agent"), (SMALL.of_round(k).seed for k in (0, 1))
    other = [int(np.random.SeedSequence((seed, 1)).generate_state(1)[0]) >> 1 for seed in (zero, one)]
    for place, policy, epsilon, seed in (
        ("round-0/blind", "diverse", 0.0, other[0]),
        ("round-1/data", agent, 0.25, one),
        (BLIND_1, "diverse", 0.0, other[1]),
    ):
        store = EpisodeStorage.open(done / place)
        env, player = make_player(Job(LARGER_GAME_ID, {}, store.root, policy, epsilon, seed))
        for episode in range(5):
            expected, _ = play(env, player, *seeds_of(seed, episode))
            assert np.array_equal(store.actions(episode), expected.actions), (place, episode)


def breaks_off(monkeypatch, place, name: str, key):
    """Interrupts the loop the first time that `place.name` has finished something new."""
    whole, seen = getattr(place, name), set()

    def call(*args, **options):
        result = whole(*args, **options)
        if key(*args) not in seen:
            seen.add(key(*args))
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(place, name, call)


def test_a_loop_broken_off_in_every_stage_and_then_made_longer_ends_as_an_unbroken_one(done, tmp_path, monkeypatch):
    breaks_off(monkeypatch, EpisodeStorage, "write_pending", lambda store, _, number: (store.root, number == 2))
    breaks_off(monkeypatch, fitting, "save_state", lambda folder, *_: folder)  # tokenizer and dynamics, half-way
    breaks_off(monkeypatch, sb3, "save_agent", lambda _, folder, *__: folder)  # after an update
    breaks_off(monkeypatch, module, "facts_of", lambda _, play: len(play.parts))
    breaks = 0
    for rounds in (1, 2):
        while True:
            try:
                iterate(tmp_path / "loop", replace(SMALL, rounds=rounds))
                break
            except KeyboardInterrupt:
                breaks += 1
    # Twice in each of three collections, once in each of the four other stages of both rounds.
    assert breaks == 3 * 2 + 2 * 4
    assert weights_of(tmp_path / "loop") == weights_of(done)
    without_minutes = [[row | {"minutes": None} for row in rows_of(out)] for out in (tmp_path / "loop", done)]
    assert without_minutes[0] == without_minutes[1]


def test_a_finished_loop_does_nothing_again(done, monkeypatch):
    def never(*_, **__):
        raise AssertionError("this was done already")

    monkeypatch.setattr(module, "evaluate", never)
    for stage in ("collect", "train_tokenizer", "train_dynamics", "train_agent"):
        monkeypatch.setattr(round_module, stage, never)
    before = (done / "rounds.jsonl").read_text()
    assert iterate(done, SMALL) == done / "report.md"
    assert iterate(done, replace(SMALL, rounds=1)) == done / "report.md"
    assert (done / "rounds.jsonl").read_text() == before


def test_the_report_shows_the_best_blind_policy_or_says_how_to_find_it(done, tmp_path, monkeypatch):
    command = f"`videogen-dream evaluate blind --env {LARGER_GAME_ID}`"
    assert command in (done / "report.md").read_text()
    out, policy = shutil.copytree(done, tmp_path / "loop"), "cycle:left*2,right*3"
    monkeypatch.setitem(BEST_BLIND, LARGER_GAME_ID.rpartition(":")[2], policy)
    report = iterate(out, SMALL).read_text()
    played = evaluate(partial(scripted_policy, policy), LARGER_GAME_ID, SMALL.episodes, 10_000)
    assert (
        f"| – | nobody | 0 | {played.mean:,.1f} ± {played.half_width:,.1f} (best blind policy, `{policy}`) |" in report
    )
    assert command not in report
    assert rows_of(out) == rows_of(done)


# What a round begins with


@pytest.fixture
def stages(monkeypatch):
    """Stand-ins for the stages: they record their arguments and write what the next one opens."""
    seen = {}

    def note(name, args, options):
        seen.setdefault(name, []).append((args, options))

    def collect(env_id, out, **options):
        recorded_store(out)
        note("collect", (env_id, out), options)

    monkeypatch.setattr(round_module, "collect", collect)
    for name in ("train_tokenizer", "train_dynamics", "train_agent"):
        monkeypatch.setattr(round_module, name, lambda *args, name=name, **options: note(name, args, options))
    monkeypatch.setattr(module, "load_agent", lambda folder: SimpleNamespace(view=lambda: None))
    played = Evaluation(env_id="Toy", seed=0, returns=(1.0, 2.0), env_returns=(1.0, 2.0), lengths=(1, 1))
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: played)
    return seen


@pytest.mark.parametrize("warm_model", [True, False])
@pytest.mark.parametrize("warm_agent", [True, False])
def test_a_round_continues_from_the_one_before_or_starts_from_scratch(tmp_path, stages, warm_model, warm_agent):
    iterate(tmp_path, replace(SMALL, warm_model=warm_model, warm_agent=warm_agent))
    starts = {name: [options["start_from"] for _, options in stages[name]] for name in stages if name != "collect"}
    before = tmp_path / "round-0"
    assert starts["train_tokenizer"] == [None, before / "tokenizer" / "best" if warm_model else None]
    assert starts["train_dynamics"] == [None, before / "dynamics" / "best" if warm_model else None]
    assert starts["train_agent"] == [None, before / "agent" / "agent" if warm_agent else None]
    assert [options["policy"] for _, options in stages["collect"]] == ["diverse", before / "agent" / "agent", "diverse"]


@pytest.mark.parametrize(
    ("share", "asked"),
    [
        (0.0, [("blind", "diverse", 90), ("data", "agent", 100)]),
        (0.3, [("blind", "diverse", 90), ("data", "agent", 70), ("blind", "diverse", 30)]),
        (1.0, [("blind", "diverse", 90), ("blind", "diverse", 100)]),
    ],
)
def test_blind_play_has_its_share_of_later_rounds(tmp_path, stages, share, asked):
    report = iterate(tmp_path, replace(SMALL, blind_share=share)).read_text()
    seen = [(args[1].name, Path(options["policy"]).name, options["steps"]) for args, options in stages["collect"]]
    assert seen == asked
    for _, options in stages["collect"]:
        assert options.get("epsilon", 0.0) == (0.25 if options["policy"] != "diverse" else 0.0)
    assert ("agent of round 0" in report) == (share < 1) and ("; 30% diverse" in report) == (share == 0.3)


@pytest.mark.parametrize(("trained", "used"), [(None, [0, 1, 2]), (2, [0, 1, 1]), (1, [0, 0, 0])])
def test_a_tokenizer_is_trained_in_the_first_rounds_and_then_kept(tmp_path, stages, trained, used):
    iterate(tmp_path, replace(SMALL, rounds=3, tokenizer_rounds=trained))
    assert [args[1] for args, _ in stages["train_dynamics"]] == [
        tmp_path / f"round-{number}" / "tokenizer" / "best" for number in used
    ]
    assert [args[1] for args, _ in stages["train_tokenizer"]] == [
        tmp_path / f"round-{number}" / "tokenizer" for number in sorted(set(used))
    ]


def test_every_round_has_its_own_seed_in_all_stages_and_later_ones_fewer_steps(tmp_path, stages):
    iterate(tmp_path, replace(SMALL, later_steps=0.25))
    tokenizer, dynamics, agent = (
        [args[-1] for args, _ in stages[name]] for name in ("train_tokenizer", "train_dynamics", "train_agent")
    )
    for number in range(2):
        seeds = {tokenizer[number].loop.seed, dynamics[number].loop.seed, agent[number].agent.seed}
        assert seeds == {SMALL.of_round(number).seed}
    collected = [options["seed"] for _, options in stages["collect"]]
    assert collected[1] == SMALL.of_round(1).seed and len(set(collected)) == 3
    assert tokenizer[0].loop.seed != tokenizer[1].loop.seed
    assert SMALL.of_round(1).seed != replace(SMALL, seed=1).of_round(1).seed
    assert [config.loop.steps for config in tokenizer] == [4, 1] == [config.loop.steps for config in dynamics]
    assert [config.agent.steps for config in agent] == [32, 8]


# Ageing


@pytest.mark.parametrize(
    ("episodes", "fade", "kept"),
    [
        ([[10]], 0.5, [[10]]),
        ([[7], [10, 6], [10], [10, 9]], 0.5, [[7], [3, 2], [5], [10, 9]]),  # a quarter of ten, rounded up
        ([[8], [20], [30]], 1.0, [[8], [20], [30]]),
        ([[8], [20], [30]], 0.0, [[8], [0], [30]]),
        ([[8], [30], [7]], 0.1, [[8], [3], [7]]),
    ],
)
def test_later_play_that_is_a_rounds_old_counts_fade_to_the_power_of_a_and_round_0_never_fades(episodes, fade, kept):
    assert kept_episodes(episodes, fade) == kept


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    """Round 0 of 20 episodes, rounds 1 and 2 of 10 of an agent and 10 blind ones."""
    out = tmp_path_factory.mktemp("played")
    recorded_store(out / "round-0" / "blind", lengths=(6,) * 20)
    for number, name in ((1, "data"), (1, "blind"), (2, "data"), (2, "blind")):
        recorded_store(out / f"round-{number}" / name, lengths=(6,) * 10)
    return out


def drawn_from(out: Path, number: int, fade: float) -> Counter:
    """How many of 4,000 training segments come from each (store, episode)."""
    data = play_of(out, number, fade)
    places = [(part, e) for part, (_, count) in enumerate(data.parts) for e in range(count)]
    marks = [torch.full((n + 1, 1, 1, 1), place, dtype=torch.int16) for place, n in enumerate(data.lengths)]
    batch = CodeStore(data, marks, "train").batch(4000, 3, np.random.default_rng(0))
    return Counter(places[mark] for mark in batch.codes[:, 0, 0, 0, 0].tolist())


@pytest.mark.parametrize(
    ("fade", "kept"), [(1.0, (20, 10, 10, 10, 10)), (0.5, (20, 5, 5, 10, 10)), (0.0, (20, 0, 0, 10, 10))]
)
def test_fading_decides_which_episodes_are_drawn_and_how_often(played, fade, kept):
    drawn = drawn_from(played, 2, fade)
    own = EpisodeStorage.open(played / "round-0" / "blind").split("train").tolist()
    expected = [(number, e) for number, count in enumerate(kept) for e in own if e < count]
    assert sorted(drawn) == expected
    for count in drawn.values():  # all that is kept is drawn alike
        assert count == pytest.approx(4000 / len(expected), rel=0.4)


def test_held_out_episodes_are_never_trained_on(played):
    trained, held_out = set(), set()
    for number in range(3):
        data = play_of(played, number, 0.5)
        places = [(part, e) for part, (_, count) in enumerate(data.parts) for e in range(count)]
        trained |= {places[place] for place in data.split("train")}
        held_out |= {places[place] for name in ("validation", "test") for place in data.split(name)}
    # Places count stores from round 0 on, so they are the same in every round.
    assert len(trained) == 48 and len(held_out) == 12 and not trained & held_out


# Refusals


@pytest.mark.parametrize("change", [{"fade": 0.4}, {"seed": 1}, {"first_steps": 91}, {"warm_agent": False}])
def test_a_loop_with_other_settings_is_not_continued(done, change):
    before = (done / "config.json").read_text()
    with pytest.raises(ValueError, match=r"other settings \(.* there, .* here\); use another --out, or --fresh"):
        iterate(done, replace(SMALL, **change))
    assert (done / "config.json").read_text() == before


def test_a_loop_of_an_earlier_release_is_refused_by_the_setting_that_it_lacks(done, tmp_path):
    config = json.loads((done / "config.json").read_text())
    del config["first_steps"], config["blind_share"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "stages.json").write_text((done / "stages.json").read_text())
    with pytest.raises(ValueError, match=r"other settings \(blind_share is not set there, 0\.5 here\); .* --fresh"):
        iterate(tmp_path, SMALL)


@pytest.mark.parametrize("run", [iterate, demo])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"env_id": "NoSuchGame-v0"}, gym.error.NameNotFound, "NoSuchGame"),
        ({"env_id": "VideoGenDream-Doom"}, ValueError, "needs a real game, .*VideoGenDream-Doom is a dream"),
        ({"workers": 0}, ValueError, "workers must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path, run, change, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path / "run", replace(SMALL if run is iterate else DemoConfig(), **change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fresh", [True, False])
def test_a_folder_that_holds_something_else_is_not_changed(tmp_path, fresh):
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="something other than a loop's run"):
        iterate(tmp_path, SMALL, fresh=fresh)
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.txt", "config.json"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"collect_steps": 0}, "collect_steps must be at least 1, got 0"),
        ({"first_steps": 0}, "first_steps must be at least 1, got 0"),
        ({"blind_share": 1.1}, "blind_share must be at most 1, got 1.1"),
        ({"episodes": 1}, "episodes must be at least 2"),
        ({"tokenizer_rounds": 0}, "tokenizer_rounds must be at least 1"),
        ({"epsilon": 1.5}, "epsilon must be at most 1, got 1.5"),
        ({"fade": -0.1}, "fade must be at least 0, got -0.1"),
        ({"later_steps": 0.0}, "later_steps must be above 0"),
        ({"later_steps": 1e-3, "agent": replace(SMALL.agent, tries=2)}, "try_steps must be below agent.steps"),
    ],
)
def test_invalid_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_tries_of_later_rounds_are_as_much_shorter_as_the_rest():
    agent = replace(SMALL.agent, agent=replace(SMALL.agent.agent, steps=150_000), tries=3, try_steps=100_000)
    later = replace(SMALL, later_steps=0.5, agent=agent).of_round(1).agent
    assert (later.tries, later.try_steps, later.agent.steps) == (3, 50_000, 75_000)


def test_the_return_of_one_episode_has_no_interval():
    assert iterate_report._interval({"returns": [12.5]}) == "12.5 (one episode)"
