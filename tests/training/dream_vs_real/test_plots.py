import math
import sys

import pytest
from gymnasium.error import DependencyNotInstalled

from tests.training.dream_vs_real.test_page import PART, policy
from tests.training.dream_vs_real.test_trust_page import make_trust
from worldmodel.training.dream_vs_real.plots import plot_calibration, plot_returns, plot_survival, plot_trust


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_more_policies_than_fit_in_a_row_have_their_own_panels(tmp_path):
    policies = [policy(f"runs/some/where/far/away/agent-number-{i}", i, i + 0.5, 10 * i) for i in range(5)]
    assert is_png(plot_survival(policies, tmp_path / "survival.png"))


def test_a_mean_without_an_interval_has_no_error_bar(tmp_path):
    single = policy("a", 1.0, 1.0, 1.0)
    single["dream"]["half_width"] = math.inf
    assert is_png(plot_returns([single], "health", 8, tmp_path / "returns.png"))


def test_bins_of_one_step_and_heads_that_never_end_anything_are_drawn(tmp_path):
    lonely = PART | {"count": 1, "interval": [-math.inf, math.inf]}
    never = {"bins": [PART | {"actual": 0.0, "interval": [0.0, 0.1]}], "threshold": 0.5}
    assert is_png(plot_calibration({"bins": [lonely]}, never, "native", tmp_path / "calibration.png"))


def test_ratios_are_drawn_even_if_some_are_absent_or_without_bounds(tmp_path):
    both, alone = make_trust(), make_trust()
    del alone["first"]
    assert is_png(plot_trust(both, tmp_path / "both.png")) and is_png(plot_trust(alone, tmp_path / "alone.png"))


def test_without_matplotlib_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyNotInstalled, match=r"videogen-dream\[plots\]"):
        plot_returns([policy("a", 1.0, 1.0, 1.0)], "health", 8, tmp_path / "returns.png")
    assert not list(tmp_path.iterdir())
