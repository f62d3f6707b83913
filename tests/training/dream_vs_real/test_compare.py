"""The report on a tiny dream of a toy game, and its parts on episodes written out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from tests.toy_game import ToyGame, registered_game
from tests.training.telling_store import telling_store
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.envs.dream.env import world_of
from worldmodel.envs.vectors import key_of
from worldmodel.evaluation.held_out import encode_segments
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig
from worldmodel.evaluation.scores import predictions
from worldmodel.model import WorldModel
from worldmodel.training.dream_vs_real.compare import DreamReport, agreement, compare, dream_report
from worldmodel.training.dream_vs_real.game_starts import first_steps, open_game, recorded_starts
from worldmodel.training.dream_vs_real.paired_play import RealPlay, Trace

GAME = "ReportToy-v0"
SMALL = DreamReport(
    epsilons=(0.5,),
    policies=("constant:noop", "cycle:left*1,right*1"),
    lead="random",
    samples=4,
    context_steps=2,
    drift_steps=4,
    max_segments=6,
    inverse_dynamics=InverseDynamicsConfig(steps=2, channels=4),
)
SIZES = {"episodes": 4, "horizon": 4, "seed": 20, "config": SMALL}


registered = registered_game(GAME, ToyGame, scope="module")


@pytest.fixture(scope="module")
def results(world, store):
    return dream_report(world, GAME, store=store, **SIZES)


# --- parts whose numbers are known


def trace(rewards, terminated):
    """Episodes of given rewards, played side by side."""
    seen = Trace(len(rewards))
    for step in range(max(map(len, rewards))):
        playing = np.array([i for i, episode in enumerate(rewards) if len(episode) > step])
        last = np.array([len(rewards[i]) == step + 1 for i in playing])
        now = np.array([rewards[i][step] for i in playing], np.float32)
        seen(playing, now, last & np.array(terminated)[playing])
    return seen


NATIVE = np.array([100.0, 300.0])


def test_a_trace_keeps_every_episodes_rewards_and_its_end():
    seen = trace([[1.0], [2.0, 3.0, 4.0]], [True, False])
    assert seen.rewards == [[1.0], [2.0, 3.0, 4.0]] and seen.terminated.tolist() == [True, False]


def test_both_worlds_are_summed_up_over_the_same_steps():
    dream = trace([[1.0, 1.0], [0.0, 3.0]], [True, False])
    real = trace([[2.0], [1.0, 1.0, 50.0, 50.0]], [True, True])
    row = compare(dream, RealPlay(real, NATIVE), horizon=2)
    assert row["dream"]["returns"] == [2.0, 3.0] and row["real"]["returns"] == [2.0, 2.0]  # nothing after step 2
    assert row["difference"]["mean"] == pytest.approx(0.5)
    assert row["dream"]["reward_per_step"] == 5 / 4 and row["real"]["reward_per_step"] == pytest.approx(4 / 3)
    assert row["whole"]["mean"] == 200.0 and row["whole"]["mean_steps"] == 2.5
    # In the dream one of two dies at step 2; in the game one at step 1, and the other lives beyond step 2.
    assert row["dream"]["survival"] == [1.0, 1.0, 0.5] and row["real"]["survival"] == [1.0, 0.5, 0.5]
    assert row["survival_gap"] == 0.5 and row["real"]["cut_early"] == 0


def test_episodes_cut_by_the_time_limit_are_counted_but_not_as_deaths():
    real = RealPlay(trace([[1.0], [1.0] * 4], [False, False]), NATIVE)
    row = compare(trace([[1.0] * 4] * 2, [False] * 2), real, horizon=4)
    assert row["real"]["cut_early"] == 1 and row["dream"]["cut_early"] == 0
    assert row["real"]["survival"] == [1.0] * 5


def rows(**returns):
    """Policies with given (dream, real, whole) returns; those with more live longer."""
    policies = []
    for name, means in returns.items():
        sides = zip(("dream", "real", "whole"), means, strict=True)
        policies.append({"policy": name} | {world: {"mean": mean, "mean_steps": 9 * mean} for world, mean in sides})
    return policies


def test_agreement_reports_the_cost_of_believing_the_dream():
    found = agreement(rows(a=(1.0, 10.0, 5.0), b=(2.0, 30.0, 6.0), c=(3.0, 20.0, 7.0)))
    assert found["real"]["spearman"]["value"] == pytest.approx(0.5)
    assert found["whole"]["spearman"]["value"] == found["whole"]["pearson"]["value"] == pytest.approx(1.0)
    assert found["steps"]["spearman"]["value"] == found["real"]["spearman"]["value"]
    assert found["mean_gap"] == pytest.approx(-18.0)
    assert (found["picked"], found["picked_real"], found["best"], found["best_real"]) == ("c", 20.0, "b", 30.0)
    assert found["rank_violation"] == pytest.approx(20 / 3)


def test_two_policies_are_too_few_for_a_correlation():
    assert "at least 3 policies" in agreement(rows(a=(1, 1, 1), b=(2, 2, 2)))["real"]["pearson"]["absent"]


# --- the whole


def test_a_report_has_every_section(results):
    assert [*results] == ["settings", "trust", "policies", "agreement", "reward", "termination", "control", "drift"]
    names = ["sticky", "sticky, 50% random", "random", "constant:noop", "cycle:left*1,right*1"]
    assert [row["policy"] for row in results["policies"]] == names
    for kind in ("first", "mid"):
        assert [row["policy"] for row in results["trust"][kind]["policies"]] == names
    assert results["agreement"]["real"]["spearman"]["policies"] == 5
    assert len(results["drift"]["psnr_db"]["dream"]) == len(results["drift"]["psnr_db"]["copy"]) == 4
    assert {"real", "reconstruction", "dream", "dream_swapped"} <= set(results["control"])
    control = results["control"]
    assert control["reliable"] is (control["real"] >= control["blind"] + 0.05)
    assert results["settings"]["reward_unit"] == "health" and results["settings"]["learned_from"]


def dreamt_return(world, starts, i, horizon=4):
    """Returns of random play seeded with 20 + i, dreamt step by step from start i."""
    part = starts.codes[i : i + 1], starts.actions[i : i + 1], starts.signals[i : i + 1, -1]
    state = world.start_codes(*part, [key_of(20 + i)])
    policy, total = RandomPolicy(world.config.action, seed=20 + i), 0.0
    for _ in range(horizon):
        state, out = world.step(state, policy.act(np.zeros(1)))
        total += float(out.reward)
        if out.terminated:
            break
    return total


def test_returns_are_of_the_game_and_of_dreams_with_the_same_beginnings(results, world):
    random = results["policies"][2]
    played = evaluate(RandomPolicy, GAME, 4, seed=20)
    assert random["whole"]["returns"] == list(played.returns)
    assert random["real"]["steps"] == [min(length, 4) for length in played.lengths]
    with open_game(world, GAME) as env:
        starts = first_steps(world, env, 4, seed=20).starts
    wanted = [dreamt_return(world, starts, i) for i in range(4)]
    np.testing.assert_allclose(random["dream"]["returns"], wanted, rtol=1e-4)


@pytest.mark.parametrize("first", [False, True])
def test_dreams_can_begin_in_the_middle_of_recorded_play(results, world, first, monkeypatch):
    middle = world.starts._replace(first=None)
    if first:
        monkeypatch.setattr(world, "starts", middle._replace(first=tiny_world(first=4).starts.first))
    config = replace(SMALL, starts="recorded", epsilons=())
    found = dream_report(world, GAME, **SIZES | {"config": config})
    random, before = found["policies"][1], results["policies"][2]
    assert random["policy"] == before["policy"] == "random"
    starts = recorded_starts(world, 4, seed=20).starts
    assert starts.first is None and all(any(torch.equal(c, each) for each in middle.codes) for c in starts.codes)
    wanted = [dreamt_return(world, starts, i) for i in range(4)]
    np.testing.assert_allclose(random["dream"]["returns"], wanted, rtol=1e-4)
    assert random["dream"]["returns"] != before["dream"]["returns"]
    assert random["real"]["returns"] == before["real"]["returns"]
    assert "first" not in found["trust"] and found["trust"]["mid"]["policies"]


def test_a_report_without_mid_episode_starts_has_no_reference_for_recorded_starts(world):
    alone = dream_report(world, GAME, **SIZES | {"config": replace(SMALL, mid_play=False)})
    assert "mid" not in alone["trust"] and alone["trust"]["first"]["policies"]
    config = replace(SMALL, mid_play=False, starts="recorded")
    assert "middle of recorded play" in dream_report(world, GAME, **SIZES | {"config": config})["trust"]["absent"]


def test_blind_policies_are_chosen_for_the_game_by_default(world):
    found = dream_report(world, GAME, **SIZES | {"config": replace(SMALL, policies=(), mid_play=False)})
    names = [row["policy"] for row in found["policies"]]
    assert {"random", "sticky", "constant:noop", "cycle:left*32,right*32", "hold:0.95", "diverse"} < set(names)
    assert sum(name.startswith(("constant", "cycle", "hold", "odds", "diverse")) for name in names) >= 9


def test_calibration_is_that_of_the_heads_on_held_out_play(results, world, store):
    predicted, came, probability, ended = predictions(world, encode_segments(world, store, "test", 6, seed=20))
    assert results["reward"]["steps"] == results["termination"]["steps"] == len(predicted)
    assert results["reward"]["predicted_mean"] == pytest.approx(float(predicted.mean()), rel=1e-5)
    assert results["reward"]["actual_mean"] == pytest.approx(float(came.mean()), rel=1e-5)
    brier = float((probability.double() - ended.double()).square().mean())
    assert results["termination"]["brier"] == pytest.approx(brier, rel=1e-5)


def test_the_same_seed_gives_the_same_report(results, world, store):
    again = dream_report(world, GAME, store=store, **SIZES)
    assert json.dumps(again) == json.dumps(results)


def test_without_recorded_play_the_parts_that_need_it_are_absent(world):
    found = dream_report(world, GAME, **SIZES)
    for name in ("reward", "termination", "control", "drift"):
        assert found[name] == {"absent": "no recorded play was given (--data STORE)"}


def test_a_model_without_action_conditioning_has_no_control(store):
    found = dream_report(tiny_world(action_condition="none"), GAME, store=store, **SIZES)
    assert found["control"]["absent"] == "the model has no action conditioning"
    assert "psnr_db" in found["drift"]


def test_controllability_is_reported_only_if_the_network_recognises_real_actions(world, tmp_path):
    store = telling_store(tmp_path)
    networks = [InverseDynamicsConfig(steps=n, channels=8, features=16, learning_rate=5e-3) for n in (1, 80)]
    configs = [replace(SMALL, inverse_dynamics=network) for network in networks]
    untaught, taught = (dream_report(world, GAME, store=store, **SIZES | {"config": c})["control"] for c in configs)
    assert not untaught["reliable"] and untaught["dream_over_real"] is None
    assert taught["reliable"] and taught["real"] > 0.8
    assert taught["dream_over_real"] == taught["dream"] / taught["real"]


# --- refusals


def test_a_dream_is_refused_as_the_real_game(world):
    with pytest.raises(ValueError, match="is a dream; give the real game"):
        dream_report(world, "VideoGenDream-Doom")


@pytest.mark.parametrize("sizes", [{"episodes": 1}, {"horizon": 0}])
def test_sizes_that_measure_nothing_are_refused(world, sizes):
    with pytest.raises(ValueError, match="at least 2 episodes and a horizon of 1 step"):
        dream_report(world, GAME, **sizes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": "gaem"}, "Did you mean 'game'"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"lead_steps": 0}, "lead_steps must be at least 1"),
    ],
)
def test_invalid_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DreamReport(**changes)


def test_a_tokenizer_that_cannot_dream_is_refused():
    from tests.clips import clip_world

    with pytest.raises(ValueError, match="cannot dream"):
        dream_report(clip_world(), GAME)


def test_episodes_too_short_for_the_drift_are_refused_before_anything_is_played(world, store, monkeypatch):
    for plays in ("open_game", "play_both"):
        monkeypatch.setattr(f"worldmodel.training.dream_vs_real.compare.{plays}", pytest.fail)
    wanted = r"2 context and 100 dreamt .* lower context_steps \(--context-steps\) or drift_steps \(--drift-steps\)"
    with pytest.raises(ValueError, match=wanted):
        dream_report(world, GAME, store=store, config=DreamReport(context_steps=2, drift_steps=100))


def test_a_dreams_id_stands_for_its_world_and_a_games_id_for_none(tmp_path, world):
    assert world_of("VideoGenDream-DoomHealthGathering") == "doom-hg" == world_of("doom-hg")
    world.save_pretrained(tmp_path / "run" / "best")
    WorldModel.from_pretrained(world_of(str(tmp_path / "run")))
    with pytest.raises(ValueError, match="VideoGenReal-Doom is a real game"):
        world_of("VideoGenReal-Doom")
