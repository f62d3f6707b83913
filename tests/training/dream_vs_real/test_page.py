"""The page of a small report, complete and with parts that could not be measured."""

import json
import math
from dataclasses import asdict

from worldmodel.training.dream_vs_real.compare import NEEDS_DATA, DreamReport, agreement
from worldmodel.training.dream_vs_real.page import write_dream_report

STEPS = 8
RETURNS = 4  # the table of the returns, after those of trust


def side(mean, survival):
    return {
        "mean": mean,
        "half_width": 0.5,
        "reward_per_step": mean / STEPS,
        "mean_steps": 7.5,
        "cut_early": 0,
        "survival": survival,
        "returns": [mean] * 3,
        "steps": [STEPS] * 3,
    }


def policy(name, dream, real, whole, survival=None, **changes):
    survival = survival or [1.0] * (STEPS + 1)
    return {
        "policy": name,
        "sees": "dream",
        "dream": side(dream, survival),
        "real": side(real, survival),
        "difference": {"mean": dream - real, "half_width": 0.7},
        "survival_gap": 0.25,
        "whole": {"mean": whole, "half_width": 30.0, "mean_steps": 90.0, "returns": [whole] * 3},
    } | changes


CURVES = {"dream": [20.0] * 4, "copy": [18.0] * 4, "reconstruction": [25.0] * 4}
PART = {"low": 0.0, "high": 0.5, "count": 40, "predicted": 0.25, "actual": 0.5, "interval": [0.4, 0.6]}


def make_results(policies=None, settings=None, **changes):
    policies = policies or [
        policy("good", 5.0, 6.0, 900.0),
        policy("bad", 1.0, 2.0, 300.0),
        policy("so", 2.0, 4.0, 500.0),
    ]
    from tests.training.dream_vs_real.test_trust_page import make_trust

    return {
        "settings": {
            "env_id": "Game-v0",
            "learned_from": "Game-v0",
            "reward_unit": "health",
            "episodes": 3,
            "horizon": STEPS,
            "seed": 0,
            "data": "play",
        }
        | asdict(DreamReport())
        | (settings or {}),
        "trust": make_trust(),
        "policies": policies,
        "agreement": agreement(policies),
        "reward": {
            "steps": 40,
            "predicted_mean": 0.25,
            "actual_mean": 0.5,
            "mean_absolute_error": 0.3,
            "explained": None,
            "calibration_error": 0.25,
            "bins": [PART, PART | {"low": 2.0, "high": 2.0, "count": 1, "interval": [-math.inf, math.inf]}],
        },
        "termination": {
            "steps": 40,
            "events": 2,
            "actual_share": 0.05,
            "predicted_share": 0.04,
            "brier": 0.04,
            "brier_constant": 0.0475,
            "skill": 0.158,
            "calibration_error": 0.01,
            "auroc": 0.9,
            "threshold": 0.3,
            "announced": 0,
            "precision": None,
            "recall": 0.0,
            "bins": [PART],
        },
        "control": {
            "measure": "accuracy",
            "real": 0.9,
            "reconstruction": 0.88,
            "dream": 0.81,
            "dream_swapped": 0.8,
            "blind": 0.4,
            "transitions": 96,
            "dream_over_real": 0.9,
            "error_over_real": 1.2,
            "reliable": True,
            "by_step": {"real": [0.9] * 4, "dream": [0.81] * 4},
        },
        "drift": {
            "psnr_db": CURVES,
            "ssim": CURVES,
            "usable_horizon_psnr_db": 4,
            "usable_horizon_ssim": 3,
            "dreams": 24,
            "context_steps": 8,
        },
    } | changes


def tables(page):
    """The cells of every table."""
    blocks, rows = [], []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            blocks.append(rows)
            rows = []
    return blocks


def page_of(tmp_path, plots=False, **changes):
    return write_dream_report(tmp_path, make_results(**changes), plots).read_text(encoding="utf-8")


def test_dream_and_real_returns_are_side_by_side(tmp_path):
    page = page_of(tmp_path)
    header, _, *rows = tables(page)[RETURNS]
    assert header[:4] == ["policy", "dream", "real", "dream − real"] and header[-1] == "whole real episode"
    assert rows[0] == ["1. good", "5.0 ± 0.5", "6.0 ± 0.5", "-1.0 ± 0.7", "0.625", "0.750", "900.0 ± 30.0"]
    assert "first 8 rewards" in page and "(health)" in page and "native reward" in page
    assert (
        "**1.00** over 3 policies" in page and "On average the dream pays 1.3 health reward less than the game" in page
    )
    assert "also the best in the game" in page


def test_every_table_is_square(tmp_path):
    blocks = tables(page_of(tmp_path))
    assert len(blocks) == 16
    for rows in blocks:
        assert len({len(row) for row in rows}) == 1, rows[0]


def test_a_wrong_choice_is_named_with_its_cost(tmp_path):
    policies = [policy("a", 5.0, 2.0, 10.0), policy("b", 3.0, 4.5, 20.0)]
    page = page_of(tmp_path, policies=policies)
    assert "The dream finds *a* best, which earns 2.0 in the game; the best there is *b* with 4.5." in page
    assert "absent: a correlation needs at least 3 policies, and there are 2" in page


def test_few_policies_have_a_correlation_without_an_interval_and_the_page_says_why(tmp_path):
    assert "| 1.00 | none | 0.167 | 3 |" in page_of(tmp_path)
    assert "3 policies are too few for an interval" in page_of(tmp_path)
    five = [policy(name, mean, mean, 10 * mean) for mean, name in enumerate("abcde")]
    page = page_of(tmp_path, policies=five)
    assert "| 1.00 | -0.17 to 1.00 | 0.008 | 5 |" in page and "too few" not in page


def test_incomparable_parts_are_explained(tmp_path):
    plain = page_of(tmp_path)
    assert "both begin alike" in plain
    for word in ("recorded play (the", "another game", "clock", "own frames"):
        assert word not in plain
    policies = [policy(name, 1.0, 1.0, 1.0, sees="frames") for name in "ab"]
    for row in policies:
        row["real"]["cut_early"] = 2
    page = page_of(tmp_path, policies=policies, settings={"starts": "recorded", "learned_from": "Other-v0"})
    assert "Dreams begin in the middle of recorded play" in page and "both begin alike" not in page
    assert "learned from another game, Other-v0" in page
    assert "4 real episodes were cut by the game's clock" in page
    assert "trained on the game's own frames" in page


def test_the_verdict_on_the_dream_comes_first_or_the_reason_why_there_is_none(tmp_path, unrendered):
    page = page_of(tmp_path, plots=True)
    assert page.index("**Verdict:** all in **one** line.") < page.index("## Returns side by side")
    page = page_of(tmp_path / "none", plots=True, trust={"absent": "dreams began elsewhere"})
    assert "absent: dreams began elsewhere" in page and not (tmp_path / "none" / "trust.png").exists()


def test_survival_is_reported_at_quarters_of_the_horizon(tmp_path):
    curve = [1.0, 1.0, 0.8, 0.8, 0.6, 0.6, 0.4, 0.4, math.nan]
    rows = tables(page_of(tmp_path, policies=[policy("a", 1.0, 1.0, 1.0, curve), policy("b", 2.0, 1.0, 1.0)]))[
        RETURNS + 3
    ]
    assert rows[0][1:5] == [f"alive after {step} steps" for step in (2, 4, 6, 8)]
    assert rows[2][1:5] == ["80% / 80%", "60% / 60%", "40% / 40%", "unknown / unknown"]


def test_without_recorded_play_four_sections_are_absent(tmp_path, unrendered):
    page = page_of(tmp_path, plots=True, **dict.fromkeys(("reward", "termination", "control", "drift"), NEEDS_DATA))
    assert page.count("absent: no recorded play was given (--data STORE)") == 4
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["returns.png", "survival.png", "trust.png"]


def test_the_page_warns_of_a_network_that_has_learned_nothing(tmp_path, unrendered):
    assert "say nothing" not in page_of(tmp_path)
    control = make_results()["control"] | {"reliable": False, "dream_over_real": None, "error_over_real": None}
    page = page_of(tmp_path, plots=True, control=control)
    assert "these numbers say nothing" in page and "| controllability: dreams / real play | not measured |" in page
    assert not (tmp_path / "control.png").exists()


def test_every_plot_is_drawn_and_shown(tmp_path):
    page = page_of(tmp_path, plots=True)
    for name in ("trust", "returns", "survival", "calibration", "control", "drift"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") and f"({name}.png)" in page
    assert "png" not in page_of(tmp_path / "plain") and not list((tmp_path / "plain").glob("*.png"))


def test_programs_get_all_numbers(tmp_path):
    page_of(tmp_path, run={"command": "videogen-dream evaluate --dream d"})
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["policies"][0]["dream"]["returns"] == [5.0] * 3 and data["machine"]["cores"]
    assert data["reward"]["bins"][1]["interval"] == [None, None]
    assert "videogen-dream evaluate --dream d" in (tmp_path / "report.md").read_text()
