"""The summary of a collection: that of the stored episodes, and of every whole line of returns."""

import numpy as np
import pytest

from tests.training.counting_game import GAME_ID
from worldmodel.data import EpisodeStorage
from worldmodel.training.collect.collect import collect
from worldmodel.training.collect.stats import read_returns


def test_statistics_are_those_of_the_stored_episodes(ten_episodes, capsys):
    stats = collect(GAME_ID, ten_episodes, episodes=10)
    store = EpisodeStorage.open(ten_episodes)
    episodes = [store.episode(i) for i in range(10)]
    assert (stats.episodes, stats.steps, stats.new_steps) == (10, store.num_steps, 0)
    assert stats.terminated == sum(e.terminated for e in episodes)
    assert stats.truncated == 10 - stats.terminated
    assert stats.returns.tolist() == [e.rewards.sum() for e in episodes]
    assert stats.native_returns.tolist() == (10 * stats.returns).tolist()
    actions = np.concatenate([e.actions for e in episodes])
    assert stats.action_counts == {name: (actions == i).sum() for i, name in enumerate(("noop", "left", "right"))}
    assert stats.reward_signs == (stats.action_counts["left"], stats.action_counts["right"])
    assert stats.signal_changes == {"COUNT": (stats.steps, 0)}
    printed = capsys.readouterr().out
    assert f"10 episodes, {stats.steps} steps" in printed
    assert "return (native): mean" in printed
    assert "COUNT per 1,000 steps: rises 1000.0, falls 0.0" in printed
    assert "this run" not in printed


def test_a_line_of_returns_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "returns.jsonl"
    path.write_text('{"episode_id": 0, "num_steps": 5, "native_return": 2.5}\n{"episode_id": 1, "num_st')
    assert read_returns(path) == {0: 2.5}


def test_returns_after_a_line_cut_short_are_kept(tmp_path):
    collect(GAME_ID, tmp_path, episodes=1, workers=1)
    path = tmp_path / "returns.jsonl"
    path.write_text(path.read_text()[:-10])
    stats = collect(GAME_ID, tmp_path, episodes=2, workers=1)
    assert np.isnan(stats.native_returns).tolist() == [True, False]


@pytest.mark.parametrize(
    "odd",
    [
        b"5",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"episode_id": 1, "num_steps": 5, "native_return": 2.5, "more": 1}',
        b'{"episode_id": 1, "num_steps": 5, "native_return": "much"}',
        b'{"episode_id": [1], "num_steps": 5, "native_return": 2.5}',
    ],
)
def test_a_damaged_line_of_returns_is_left_out(tmp_path, odd):
    path = tmp_path / "returns.jsonl"
    path.write_bytes(b'{"episode_id": 0, "num_steps": 5, "native_return": NaN}\n' + odd + b"\n")
    path.write_bytes(path.read_bytes() + b'{"episode_id": 2, "num_steps": 5, "native_return": 3}\n')
    returns = read_returns(path)
    assert list(returns) == [0, 2] and np.isnan(returns[0]) and returns[2] == 3
