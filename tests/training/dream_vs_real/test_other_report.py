"""World models of other projects in the trust report: the real game is trusted, random weights are not."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_examples import load_example
from tests.toy_game import FRAMES, registered_game
from tests.training.counting_game import TWO_BUTTONS
from tests.training.dream_vs_real.replayed_game import ReplayedGame, TimedToy
from worldmodel.data import ActionSpec
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig
from worldmodel.training.cli.main import main
from worldmodel.training.dream_vs_real.compare import DreamReport
from worldmodel.training.dream_vs_real.game_starts import Contexts
from worldmodel.training.dream_vs_real.other_report import other_report
from worldmodel.training.dream_vs_real.other_world import OtherRows, find_other

GAME = "OtherToy-v0"
SMALL = DreamReport(epsilons=(0.5,), policies=("constant:0", "cycle:1*1,2*1"), lead="random")
SIZES = {"episodes": 10, "horizon": 20, "seed": 20, "config": SMALL}
REPLAYED = "tests.training.dream_vs_real.replayed_game:ReplayedGame"


registered = registered_game(GAME, TimedToy, scope="module")


@pytest.fixture(scope="module")
def replayed():
    """The game itself as a world, and what the report finds."""
    world = ReplayedGame()
    return world, other_report(world, GAME, **SIZES)


def test_the_real_game_as_a_world_is_trusted_with_ratios_of_one(replayed):
    results = replayed[1]
    for kind in ("first", "mid"):
        for row in results["trust"][kind]["policies"]:
            assert row["ratios"]["steps"]["value"] == 1.0
            assert row["ratios"]["reward_per_step"].get("value", 1.0) == 1.0
    assert results["trust"]["verdict"] == "trusted" and results["trust"]["clock"] == 9
    for row in results["policies"]:
        assert row["dream"]["returns"] == row["real"]["returns"] and row["dream"]["steps"] == row["real"]["steps"]
    assert sum(sum(row["dream"]["returns"]) for row in results["policies"]) > 0


def test_a_wrapper_that_replaces_a_games_actions_is_judged_with_its_own():
    class Still:
        context_steps = 1

        def reset(self, frames, actions, seeds):
            self.rows = len(frames)

        def step(self, actions):
            assert actions.max() < 2
            return np.zeros(self.rows), np.zeros(self.rows, bool)

    sizes = {"episodes": 2, "horizon": 3, "config": replace(SMALL, mid_play=False, policies=("constant:1",))}
    results = other_report(Still(), TWO_BUTTONS, **sizes)
    assert [row["policy"] for row in results["policies"]] == ["sticky", "sticky, 50% random", "random", "constant:1"]
    with pytest.raises(ValueError, match="unknown action '2'"):
        other_report(Still(), TWO_BUTTONS, **sizes | {"config": replace(SMALL, policies=("constant:2",))})


def test_random_weights_of_diamonds_interface_are_not_trusted():
    world = load_example("diamond").random_world()
    results = other_report(world, GAME, **SIZES | {"config": replace(SMALL, mid_play=False)})  # episodes are too short
    assert results["trust"]["verdict"] == "not trusted"


def test_the_adapter_for_diamond_fills_its_buffers_with_real_steps_and_pushes_dreamt_ones_in():
    world = load_example("diamond").random_world()
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, *FRAMES), np.uint8)
    world.reset(frames, np.array([[1, 2, 0], [0, 1, 2]]), np.array([7, 8]))
    shown = (world.env.obs_buffer.permute(0, 1, 3, 4, 2) + 1) * 127.5
    np.testing.assert_allclose(shown, frames[:, :, -1], atol=1e-3)
    assert world.env.act_buffer[:, :3].tolist() == [[1, 2, 0], [0, 1, 2]]
    before = world.env.obs_buffer
    rewards, ends = world.step(np.array([2, 1]))
    assert set(rewards) <= {-1.0, 0.0, 1.0} and ends.dtype == bool
    assert torch.equal(world.env.obs_buffer[:, :3], before[:, 1:])
    assert world.env.act_buffer[:, :3].tolist() == [[2, 0, 2], [1, 2, 1]]


def test_dreams_get_the_frames_and_actions_of_the_game(replayed):
    world = replayed[0]
    firsts = [given for given in world.given if given[0].shape[1] == 1]
    mids = [given for given in world.given if given[0].shape[1] == 2]
    assert len(firsts) == len(mids) == 1  # 5 policies of 10 episodes fit into one batch
    (frames, actions, seeds), (later, between, _) = firsts[0], mids[0]
    assert frames.shape == (50, 1, *FRAMES) and frames.dtype == np.uint8 and actions.shape == (50, 0)
    assert later.shape == (50, 2, *FRAMES) and between.shape == (50, 1) and between.dtype == actions.dtype == np.int64
    assert seeds.dtype == np.int64 and seeds.tolist() == [*range(20, 30)] * 5
    for row, seed in enumerate(range(20, 30)):
        np.testing.assert_array_equal(frames[row, 0], TimedToy().reset(seed=seed)[1]["frames"])


def test_many_policies_are_played_in_batches_with_the_same_result(replayed, monkeypatch):
    monkeypatch.setattr("worldmodel.training.dream_vs_real.paired_play._DREAMS", 7)
    assert json.dumps(other_report(ReplayedGame(), GAME, **SIZES)) == json.dumps(replayed[1])


class Stub:
    """Returns in every step what a test says."""

    context_steps = 1

    def __init__(self, found):
        self.found = found

    def reset(self, frames, actions, seeds):
        pass

    def step(self, actions):
        return self.found


def rows_of(found) -> OtherRows:
    """Three dreams, of which the second ends in the first step."""
    contexts = Contexts(
        np.zeros((2, 1, *FRAMES), np.uint8), np.zeros((2, 0), np.int64), ActionSpec(kind="discrete", n=3)
    )
    rows = OtherRows(Stub(found), contexts, [0, 1, 1], np.array([9, 9, 2]), seed=5)
    rows.reset()
    return rows


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.zeros(3), r"got ndarray: leave out the rest"),
        ((np.zeros(3), np.zeros(3, bool), np.zeros(3, bool)), r"got a tuple of 3: leave out the rest"),
        ((np.zeros(3), np.zeros(3)), r"terminations are \(3,\) float64: convert them, with > 0"),
        ((np.zeros((3, 1)), np.zeros(3, bool)), r"rewards are \(3, 1\) float64: one number for each dream"),
        ((np.zeros(3), np.zeros(4, bool)), r"terminations are \(4,\) bool"),
        ((torch.full((3,), torch.nan), torch.zeros(3).bool()), r"the reward of dream 0 in step 1 is nan"),
    ],
)
def test_steps_that_return_something_else_are_refused(found, message):
    with pytest.raises(ValueError, match=r"Stub\.step must return \(rewards, terminations\).*" + message):
        rows_of(found).step(np.zeros(3))


def test_dreams_rest_after_their_end_and_are_cut_at_their_limits():
    rows = rows_of((torch.ones(3), torch.tensor([False, True, False])))
    _, rewards, ended, cut, _ = rows.step(np.zeros(3))
    assert rewards.tolist() == [1, 1, 1] and ended.tolist() == [False, True, False] and not cut.any()
    _, rewards, ended, cut, _ = rows.step(np.zeros(3))
    assert rewards.tolist() == [1, 0, 1] and not ended.any() and cut.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"reset": None}, TypeError, "needs a method reset, which World lacks: write one as in docs/dream-vs-real.md"),
        ({"step": None}, TypeError, "needs a method step, which World lacks"),
        ({"context_steps": 0}, ValueError, r"World\.context_steps must be an integer of at least 1, .* got 0: set it"),
        ({"context_steps": None}, ValueError, "got None"),
    ],
)
def test_a_world_without_its_parts_is_refused(changes, error, message):
    parts = {"context_steps": 1, "reset": lambda *_: None, "step": lambda *_: None} | changes
    with pytest.raises(error, match=message):
        other_report(type("World", (), parts)(), GAME, **SIZES)


def test_settings_and_games_that_do_not_apply_are_refused():
    with pytest.raises(ValueError, match="temperature would have no effect on a world model of another project"):
        other_report(ReplayedGame(), GAME, config=DreamReport(temperature=0.5))
    network = DreamReport(inverse_dynamics=InverseDynamicsConfig(steps=1))
    with pytest.raises(ValueError, match="inverse_dynamics would have no effect on a world model of another project"):
        other_report(ReplayedGame(), GAME, config=network)
    with pytest.raises(ValueError, match="VideoGenDream-Doom is a dream; give the real game"):
        other_report(ReplayedGame(), "VideoGenDream-Doom")
    with pytest.raises(ValueError, match=r"CartPole-v1 does not say what its actions are.*PixelGame"):
        other_report(ReplayedGame(), "CartPole-v1")


def test_worlds_are_named_by_module_and_maker(tmp_path):
    assert isinstance(find_other(REPLAYED), ReplayedGame)
    for name in ("doom-hgs", "me/world", "tests.training.counting_game:CountingGame-v0", str(tmp_path)):
        assert find_other(name) is None
    with pytest.raises(ValueError, match=r"has no class or function 'ReplaydGame'.*ReplayedGame"):
        find_other(REPLAYED.replace("Replayed", "Replayd"))


def test_the_command_compares_the_example_and_writes_the_report(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "examples"))
    command = ["evaluate", "--dream", "diamond:random_world", "--real", GAME, "--seed", "20", "--horizon", "5"]
    small = ["--episodes", "4", "--policies", "constant:0", "--lead", "random", "--no-mid-play", "--no-plots"]
    assert main([*command, *small, "--out", str(tmp_path)]) == 0
    sys.modules.pop("diamond")
    results = json.loads((tmp_path / "report.json").read_text())
    assert results["run"]["world"] == "diamond:random_world" and "absent" in results["control"]
    assert "Is the dream true where policies go?" in capsys.readouterr().out
    assert main([*command, "--data", "runs/data", "--out", str(tmp_path / "other")]) == 2
    assert "is judged with blind policies alone: leave out agents, --data and --device" in capsys.readouterr().err
