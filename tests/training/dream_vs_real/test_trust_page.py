import math

from tests.training.dream_vs_real.test_page import tables
from worldmodel.training.dream_vs_real.trust_page import trust_text


def ratio(value, low, high):
    return {"value": value, "interval": [low, high]}


def row(policy, **ratios):
    world = {"steps": {"mean": 40.0, "half_width": 5.0}, "reward_per_step": -0.25, "ends_per_step": 0.025}
    usual = {name: ratio(1.0, 0.9, 1.1) for name in ("steps", "reward_per_step", "ends_per_step")}
    return {"policy": policy, "dream": world, "real": world, "ratios": usual | ratios}


def order(**changes):
    usual = {"told_apart": 4, "in_order": 3, "share": 0.75, "wrong_pairs": [["a", "b"]], "spearman": {"value": 0.5}}
    ends = {"smallest": {"policy": "a", "ratio": 0.5}, "largest": {"policy": "b", "ratio": 3.3}}
    return usual | ends | changes


def make_trust(**changes):
    """A section as `trust_section` gives it."""
    kind = {
        "policies": [row("a"), row("b", reward_per_step={"absent": "why"}, steps=ratio(3.3, 0.0, math.inf))],
        "survival": order(),
        "return": order(told_apart=0, in_order=0, share=None, smallest=None, largest=None, spearman={"absent": "few"}),
        "verdict": "not trusted",
        "because": ["b lives 3.30 times as long"],
    }
    bars = {"in_order": 0.9, "survival": [0.75, 1.33], "reward_per_step": [0.8, 1.25]}
    section = {
        "thresholds": bars,
        "clock": None,
        "first": kind,
        "mid": kind,
        "verdict": "not trusted",
        "line": "all in **one** line.",
    }
    return section | changes


def test_the_verdict_comes_first_and_then_its_criteria():
    text = trust_text(make_trust())
    assert text.startswith("**Verdict:** all in **one** line.\n")
    assert "at least 90% of the pairs" in text and "survival is 0.75 to 1.33" in text and "0.8 to 1.25" in text


def test_every_kind_of_beginning_has_its_tables():
    found = tables(trust_text(make_trust()))
    assert len(found) == 4
    _, _, first, second = found[0]
    assert first == [
        "a",
        "40.0 ± 5.0 / 40.0 ± 5.0",
        "1.00 (0.90 to 1.10)",
        "-0.250 / -0.250",
        "1.00 (0.90 to 1.10)",
        "2.50 / 2.50",
        "1.00 (0.90 to 1.10)",
    ]
    assert second[2] == "3.30" and second[4] == "absent"
    assert found[1][2] == ["survival", "3 of 4 (75%)", "0.50 (a)", "3.30 (b)", "0.50"]
    assert found[1][3] == ["return", "0 of 0", "none", "none", "absent: few"]
    one = make_trust()
    del one["mid"]
    assert len(tables(trust_text(one))) == 2 and "middle of play" not in trust_text(one)


def test_the_games_time_limit_is_reported():
    assert "time is up after 525 steps" in trust_text(make_trust(clock=525))
    assert "time is up" not in trust_text(make_trust())


def test_a_section_that_is_absent_says_why():
    assert trust_text({"absent": "no real game"}) == "absent: no real game"
