import json

import pytest

from tests.tiny import tiny_world
from tests.toy_game import ToyGame, registered_game
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.training.cli.main import main
from worldmodel.training.dream_vs_real.compare import DreamReport, dream_report
from worldmodel.training.dream_vs_real.quick_trust import QuickTrust, quick_trust

GAME = "QuickToy-v0"
SMALL = QuickTrust(episodes=3, horizon=6, context_steps=2, lead="random", policies=("constant:left",), seed=20)


class LongToy(ToyGame):
    """Episodes of 12 to 16 steps: longer than the context of dreams."""

    def reset(self, *, seed=None, options=None):
        found = super().reset(seed=seed)
        self.left += 10
        return found


registered = registered_game(GAME, LongToy)


def test_it_is_the_section_of_the_whole_report(world):
    quick = quick_trust(world, GAME, SMALL)
    config = DreamReport(epsilons=(), policies=SMALL.policies, lead="random", context_steps=2)
    whole = dream_report(world, GAME, episodes=3, horizon=6, seed=20, config=config)["trust"]
    about = quick.pop("settings")
    assert json.dumps(quick) == json.dumps(whole)
    assert about["policies"] == len(quick["first"]["policies"]) == 3 and about["env_id"] == GAME


def test_a_model_that_needs_several_first_steps_is_compared_from_mid_episode():
    world = tiny_world(frame_condition=2, frame_encoder=FrameEncoderConfig(width=4, depths=(1,)))
    found = quick_trust(world, GAME, SMALL)
    assert "first" not in found and found["mid"]["policies"] and "mid-play" in found["line"]


@pytest.mark.parametrize("name", ["episodes", "horizon", "lead_steps", "context_steps"])
def test_sizes_that_measure_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        QuickTrust(**{name: 0})


def test_a_dream_is_refused_as_the_real_game(world):
    with pytest.raises(ValueError, match="is a dream; give the real game"):
        quick_trust(world, "VideoGenDream-Doom", SMALL)


def test_a_model_is_measured_with_it_if_the_real_game_is_named(tmp_path, world, store, capsys):
    folder = str(world.save_pretrained(tmp_path / "world"))
    sizes = ["--samples", "4", "--context-steps", "2", "--horizon", "3", "--max-segments", "4"]
    network = ["--inverse-dynamics.steps", "2", "--inverse-dynamics.channels", "4", "--device", "cpu", "--no-plots"]
    given = ["evaluate-model", folder, "--data", str(store.root), *sizes, *network]
    small = ["--trust.episodes", "2", "--trust.horizon", "4", "--trust.policies", "constant:left"]
    assert main([*given, "--out", str(tmp_path / "out"), "--real", GAME, *small]) == 0
    saved = json.loads((tmp_path / "out" / "report.json").read_text())["trust"]
    page = (tmp_path / "out" / "report.md").read_text()
    assert saved["settings"]["episodes"] == 2 and saved["line"] in page
    capsys.readouterr()
    assert main([*given, "--out", str(tmp_path / "none"), *small]) == 2
    assert "give its id, --real ID" in capsys.readouterr().err
