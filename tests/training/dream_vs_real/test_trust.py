"""The verdict on episodes written out by hand, in both worlds."""

import numpy as np
import pytest

from worldmodel.training.dream_vs_real.paired_play import Match, RealPlay, Trace
from worldmodel.training.dream_vs_real.trust import Side, judge, trust_section, verdict_line

RNG = np.random.default_rng(0)
SPREAD = RNG.uniform(0.8, 1.2, 20)


def side(steps, reward=1.0, ended=True):
    """20 episodes of about this many steps, with this reward per step."""
    steps = np.round(steps * SPREAD)
    return Side(steps, steps * reward, np.full(20, ended))


def judged(dream, real):
    """Policies a, b, c, … of given (steps, reward per step)."""
    return judge("abcdef"[: len(real)], [side(*row) for row in dream], [side(*row) for row in real])


TRUE = [(20, 1.0), (40, 1.0), (80, 1.0), (160, 1.0)]


def test_a_dream_like_the_game_is_trusted():
    found = judged(TRUE, TRUE)
    assert found["verdict"] == "trusted" and found["because"] == []
    for key in ("survival", "return"):
        assert (found[key]["told_apart"], found[key]["in_order"], found[key]["share"]) == (6, 6, 1.0)
        assert found[key]["spearman"]["value"] == pytest.approx(1.0)
    assert [row["ratios"]["steps"]["value"] for row in found["policies"]] == [1.0] * 4
    assert found["policies"][0]["ratios"]["ends_per_step"]["value"] == pytest.approx(1.0)


def test_a_policy_that_survives_too_long_is_named_first():
    found = judged([(66, 1.0), *TRUE[1:]], TRUE)
    assert found["verdict"] == "not trusted"
    assert found["because"][0] == "a lives 3.31 times as long"
    assert found["survival"]["largest"] == {"policy": "a", "ratio": pytest.approx(3.31, abs=0.05)}
    assert found["survival"]["smallest"]["ratio"] == pytest.approx(1.0)


def test_pairs_in_the_wrong_order_are_counted_and_named_by_the_games_better_one():
    found = judged([(66, 1.0), *TRUE[1:]], TRUE)
    assert (found["survival"]["told_apart"], found["survival"]["in_order"]) == (6, 5)
    assert found["survival"]["wrong_pairs"] == [["b", "a"]]
    assert "1 of 6 pairs are in the wrong order by survival" in found["because"]


def test_a_dream_without_significant_differences_orders_nothing():
    assert judged([(50, 1.0)] * 4, TRUE)["survival"]["in_order"] == 0


def test_pairs_without_a_significant_difference_in_the_game_do_not_count():
    found = judged([(40, 1.0), (41, 1.0), (80, 1.0)], [(41, 1.0), (40, 1.0), (80, 1.0)])
    assert (found["survival"]["told_apart"], found["survival"]["in_order"]) == (2, 2)
    assert found["verdict"] == "trusted"
    assert judged([(40, 1.0)] * 2, [(40, 1.0)] * 2)["survival"]["share"] is None


def test_a_step_with_too_little_reward_is_not_trusted():
    real = [(20, -1.0), (40, 0.5)]
    found = judged([(20, -0.1), (40, 0.5)], real)
    assert found["because"] == ["a gets -0.100 a step, in the game -1.000"] and found["verdict"] == "not trusted"
    found = judged([(20, -1.0), (40, 1.0)], real)
    assert found["because"] == ["b gets 1.000 a step, in the game 0.500"]
    found = judged([(20, -1e-5), (40, 0.5)], real)
    assert found["because"] == ["a gets 0.000 a step, in the game -1.000"]
    assert "reward per step 0.00 to 1.00 of" in verdict_line({"first": found})


def test_a_reward_that_the_game_never_gives_has_no_ratio():
    found = judged([(20, 0.5), (40, 1.0)], [(20, 0.0), (40, 1.0)])
    assert "does not differ significantly from 0" in found["policies"][0]["ratios"]["reward_per_step"]["absent"]
    assert found["return"]["smallest"]["policy"] == found["return"]["largest"]["policy"] == "b"
    none = judged([(20, 0.0)], [(20, 0.0)])
    assert none["return"]["smallest"] is None
    assert verdict_line({"first": none}) == (
        "first frames: no pairs to compare by survival and no pairs to compare by return, survival 1.00 to 1.00 of the "
        "game's; **trusted**."
    )


def test_a_dream_that_pays_where_the_game_does_not_is_not_trusted():
    """Such dreams are what an agent exploits in a game whose rewards are rare."""
    found = judged([(20, 0.5), (40, 1.0)], [(20, 0.0), (40, 1.0)])
    assert found["because"] == ["a gets 0.500 a step, in the game 0.000"] and found["verdict"] == "not trusted"
    assert judged([(20, -0.5), (40, 1.0)], [(20, 0.0), (40, 1.0)])["verdict"] == "not trusted"
    for little in (0.2, -0.2):  # below a quarter of what the game pays for other play
        assert judged([(20, little), (40, 1.0)], [(20, 0.0), (40, 1.0)])["verdict"] == "trusted"
    nobody = judged([(20, 0.01), (40, 0.0)], [(20, 0.0), (40, 0.0)])
    assert nobody["because"] == ["a gets 0.010 a step, in the game 0.000"]
    assert judged([(20, 0.0), (40, 0.0)], [(20, 0.0), (40, 0.0)])["verdict"] == "trusted"


def test_a_difference_in_pay_that_may_be_noise_is_no_reason():
    rng = np.random.default_rng(0)
    steps = np.full(12, 30.0)
    real, dream = (Side(steps, rng.normal(0, 30, 12), np.ones(12, bool)) for _ in range(2))
    found = judge("a", [dream], [real])
    assert "absent" in found["policies"][0]["ratios"]["reward_per_step"] and found["verdict"] == "trusted"


def test_a_ratio_that_may_be_within_the_bounds_is_undecided():
    rng = np.random.default_rng(1)
    real, dream = rng.exponential(40, 12) + 1, rng.exponential(60, 12) + 1
    sides = [Side(steps, steps, np.ones(12, bool)) for steps in (dream, real)]
    found = judge("a", [sides[0]], [sides[1]])
    low, high = found["policies"][0]["ratios"]["steps"]["interval"]
    assert found["policies"][0]["ratios"]["steps"]["value"] > 1.33 > low and high > 1.33
    assert found["verdict"] == "undecided" and "lives" in found["because"][0]


def test_survival_has_a_ratio_however_few_the_episodes():
    real = Side(np.array([1.0, 99.0]), np.zeros(2), np.ones(2, bool))
    dream = Side(np.array([100.0, 100.0]), np.zeros(2), np.ones(2, bool))
    ratio = judge("a", [dream], [real])["policies"][0]["ratios"]["steps"]
    assert ratio["value"] == 2.0 and ratio["interval"] == [0.0, np.inf]


def test_a_dream_in_which_nobody_dies_has_a_ratio_of_ends_that_is_not_surely_0():
    dream, real = side(100, ended=False), side(20)
    row = judge("a", [dream], [real])["policies"][0]
    value, (low, high) = row["ratios"]["ends_per_step"].values()
    assert (value, low) == (0.0, 0.0)
    assert high == pytest.approx(3.689 / dream.steps.sum() / (20 / real.steps.sum()), rel=1e-3)
    assert "absent" in judge("a", [side(20)], [side(20, ended=False)])["policies"][0]["ratios"]["ends_per_step"]


def test_both_worlds_are_cut_at_the_same_step():
    trace = Trace(2)
    trace(np.arange(2), np.array([1.0, 1.0]), np.array([False, False]))
    trace(np.arange(2), np.array([2.0, 2.0]), np.array([True, False]))
    trace(np.array([1]), np.array([4.0]), np.array([True]))
    cut = Side.of(trace, np.array([2, 2]))
    assert cut.steps.tolist() == [2, 2] and cut.returns.tolist() == [3.0, 3.0] and cut.ended.tolist() == [True, False]
    assert Side.of(trace, np.array([1, 3])).ended.tolist() == [False, True]


def played(steps):
    trace = Trace(20)
    for step in range(int(np.max(steps))):
        alive = np.flatnonzero(steps > step)
        trace(alive, np.ones(len(alive)), steps[alive] == step + 1)
    return trace


def test_the_line_covers_both_kinds_of_beginnings_with_reasons():
    short, long = np.round(20 * SPREAD), np.round(70 * SPREAD)
    limits = np.full(20, 200)
    good = Match(
        [RealPlay(played(steps), steps) for steps in (short, long)], [played(short), played(long)], limits, None
    )
    bad = good._replace(dream=[played(long), played(long)])
    section = trust_section(["noop", "other"], {"first": bad, "mid": good})
    assert section["verdict"] == "not trusted" and section["mid"]["verdict"] == "trusted"
    ratio = long.mean() / short.mean()
    assert section["line"] == (
        "first frames: 0 of 1 pairs in the right order by survival and 0 of 1 by return, "
        f"survival 1.00 to {ratio:.2f} and reward per step 1.00 to 1.00 of the game's; "
        "mid-play: 1 of 1 pairs in the right order by survival and 1 of 1 by return, "
        "survival 1.00 to 1.00 and reward per step 1.00 to 1.00 of the game's; "
        f"**not trusted**, because noop lives {ratio:.2f} times as long (first frames) and "
        "1 of 1 pairs are in the wrong order by survival (first frames)."
    )
    alone = trust_section(["noop", "other"], {"first": good})
    assert alone["line"].endswith("; **trusted**.") and "mid" not in alone and alone["clock"] is None
    assert trust_section(["noop", "other"], {"first": good._replace(clock=200)})["clock"] == 200
    assert section["thresholds"] == {"in_order": 0.9, "survival": [0.75, 1.33], "reward_per_step": [0.8, 1.25]}
