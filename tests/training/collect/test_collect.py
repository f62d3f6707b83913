"""Collection: the same episodes with any workers, nothing lost by a stop, nothing mixed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from tests.training.collect.episodes import content, job
from tests.training.counting_game import GAME_ID, TWO_BUTTONS
from tests.training.crew_here import CrewHere
from worldmodel.data import ActionSpec, EpisodeStorage
from worldmodel.errors import OutsideError
from worldmodel.files import write_json
from worldmodel.locks import only_process
from worldmodel.training.collect import collect as module
from worldmodel.training.collect.collect import UNDER_WAY, _Plan, _player, _policy_identity, collect
from worldmodel.training.collect.workers import Played, make_player, play, seeds_of

ROOT = Path(__file__).resolve().parents[3]

# A collection as started from a terminal.
SLOW_COLLECTION = f"""
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
sys.path.insert(0, {str(ROOT)!r})
from worldmodel.training.collect.collect import collect
if __name__ == "__main__":
    collect({GAME_ID!r}, sys.argv[1], episodes=200, workers=2, env_kwargs={{"step_seconds": 0.02}})
"""


# Labels of objects


def test_labels_are_stored_without_changing_the_episodes(ten_episodes, tmp_path):
    collect(GAME_ID, tmp_path, episodes=3, workers=1, labels=True)
    plain, labelled = EpisodeStorage.open(ten_episodes), EpisodeStorage.open(tmp_path)
    assert content(labelled) == content(plain)[:3]
    assert plain.info.label_names == () and labelled.info.label_names == ("thing", "other")
    for episode in range(3):
        bright = (labelled.frames(episode)[..., :2] > 127).all(-1)
        assert (labelled.labels(episode) == bright[..., None]).all() and bright.any()
    with pytest.raises(ValueError, match="was made with env_kwargs="):
        collect(GAME_ID, tmp_path, episodes=4, workers=1)


def test_a_game_without_labels_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="has no option 'labels'"):
        collect("CartPole-v1", tmp_path / "store", episodes=1, labels=True)
    assert not (tmp_path / "store").exists()


# Always the same episodes


def test_the_number_of_workers_and_interruptions_do_not_change_the_episodes(ten_episodes, tmp_path):
    collect(GAME_ID, tmp_path, episodes=3, workers=1)
    collect(GAME_ID, tmp_path, episodes=10, workers=3)
    assert content(tmp_path) == content(ten_episodes)
    assert len(set(content(tmp_path))) == 10


def test_frames_actions_rewards_and_signals_keep_the_time_rule(ten_episodes):
    store = EpisodeStorage.open(ten_episodes)
    assert store.info.reward == "health" and store.info.steps_per_second == 12
    assert store.info.signal_names == ("COUNT",)
    for i in range(10):
        episode = store.episode(i)
        assert episode.frames.shape == (episode.num_steps + 1, 2, 8, 8, 3)
        assert episode.signals[:, 0].tolist() == list(range(episode.num_steps + 1))
        assert episode.rewards.tolist() == [(0.0, 1.0, -1.0)[action] for action in episode.actions]
        assert (episode.terminated, episode.truncated) == (episode.num_steps % 2 == 0, episode.num_steps % 2 == 1)


def test_every_scripted_policy_is_stored_and_resumed_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LocalCrew", CrewHere)
    for policy in ("sticky", "cycle:0*2,2*3"):
        store = tmp_path / policy[:5]
        collect(GAME_ID, store, episodes=2, policy=policy, workers=1)
        with pytest.raises(ValueError, match=r"was made with policy=.*not 'diverse'"):
            collect(GAME_ID, store, episodes=3)
        collect(GAME_ID, store, episodes=3, policy=policy, workers=1)
    actions = EpisodeStorage.open(tmp_path / "cycle").actions(2)
    assert actions.tolist() == np.resize([0, 0, 2, 2, 2], len(actions)).tolist() and len(actions) > 3


def test_a_wrapper_that_replaces_a_games_actions_is_recorded_with_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LocalCrew", CrewHere)
    for policy, epsilon in (("random", 0.0), ("constant:1", 0.5)):
        out = tmp_path / policy.partition(":")[0]
        collect(TWO_BUTTONS, out, episodes=4, policy=policy, epsilon=epsilon, workers=1)
        store = EpisodeStorage.open(out)
        assert store.info.action == ActionSpec(kind="discrete", n=2)
        played = [store.episode(i) for i in range(4)]
        for episode in played:  # the game rewards its action 1, the wrapper's 0, with 1 and its action 2 with -1
            np.testing.assert_array_equal(episode.rewards, 1 - 2 * episode.actions)
        assert {int(action) for episode in played for action in episode.actions} == {0, 1}


def test_a_mistake_in_a_policys_name_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="unknown action 'fire'"):
        collect(GAME_ID, tmp_path / "store", episodes=1, policy="constant:fire")
    assert not (tmp_path / "store").exists()


# When it is enough


def test_a_goal_in_steps_takes_the_first_episodes_that_reach_it(ten_episodes, tmp_path):
    lengths = np.cumsum(EpisodeStorage.open(ten_episodes).lengths)
    stats = collect(GAME_ID, tmp_path, steps=int(lengths[5]), workers=3)
    assert content(tmp_path) == content(ten_episodes)[:6]
    assert (stats.episodes, stats.steps) == (6, lengths[5])
    again = collect(GAME_ID, tmp_path, steps=int(lengths[5]), workers=3)  # nothing to do: no worker starts
    assert again.new_steps == 0
    assert len(content(tmp_path)) == 6


def test_a_plan_assigns_missing_episodes_in_order():
    plan = _Plan({1: 5}, episodes=4, steps=None)
    assert [plan.next_id() for _ in range(5)] == [0, 2, 3, None, None]
    plan.add(Played(3, 5, 0.0))
    plan.add(Played(0, 5, 0.0))
    assert (plan.wanted, plan.done, plan.reached) == (2, 3, False)
    plan.add(Played(2, 5, 0.0))
    assert plan.reached


def test_a_plan_in_steps_counts_only_episodes_without_a_gap():
    plan = _Plan({}, episodes=None, steps=10)
    assert [plan.next_id() for _ in range(2)] == [0, 1]
    plan.add(Played(1, 100, 0.0))
    assert not plan.reached
    plan.add(Played(0, 9, 0.0))
    assert plan.reached
    assert plan.wanted == 2


def test_a_plan_in_steps_assigns_nothing_once_assigned_episodes_reach_the_goal():
    plan = _Plan({1: 4, 100: 10}, episodes=None, steps=10)
    assert [plan.next_id() for _ in range(2)] == [0, 2]
    plan.add(Played(2, 6, 0.0))  # with episode 1 it is enough, however short 0 will be
    assert plan.next_id() is None
    plan.add(Played(0, 1, 0.0))
    assert plan.reached and plan.wanted == 3


# Stops and failures


def start_slow_collection(out: Path) -> subprocess.Popen:
    """Begin, and wait until some episodes are stored."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_COLLECTION, str(out)], stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("data/pending/episode_*"))) < 4:
        assert process.poll() is None, "the collection ended by itself"
        assert time.monotonic() < deadline, "nothing was stored within a minute"
        time.sleep(0.02)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_a_stopped_collection_is_loadable_and_resumes(ten_episodes, tmp_path, stop):
    process = start_slow_collection(tmp_path)
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as a terminal does
    else:
        process.kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert errors.count(b"Traceback") <= 1  # the parent's own KeyboardInterrupt, none from its workers
    stored = EpisodeStorage.open(tmp_path)
    assert 4 <= len(stored) < 200
    expected = content(ten_episodes)
    found = dict(zip(stored.ids.tolist(), content(stored), strict=True))
    assert all(found[i] == expected[i] for i in found.keys() & set(range(10)))
    collect(GAME_ID, tmp_path, episodes=10, workers=2, env_kwargs={"step_seconds": 0.02})
    assert content(tmp_path)[:10] == expected


def test_a_failing_worker_is_quoted_and_stored_episodes_are_kept(tmp_path):
    with pytest.raises(OutsideError, match="ArithmeticError: the game is broken"):
        collect(GAME_ID, tmp_path, episodes=3, workers=1, env_kwargs={"fails": True})
    assert len(EpisodeStorage.open(tmp_path)) == 1


# Policies


def test_an_agent_that_cannot_play_is_refused_before_anything_is_written(fake_agent, tmp_path):
    agent = tmp_path / "agent"
    agent.mkdir()
    fake_agent.action_spec = ActionSpec(kind="discrete", n=7)
    with pytest.raises(ValueError, match="differ in their actions"):
        collect(GAME_ID, tmp_path / "out", episodes=1, policy=agent)
    assert not (tmp_path / "out").exists()


def test_a_run_folder_stands_for_its_agent(tmp_path):
    (tmp_path / "run" / "agent").mkdir(parents=True)
    (tmp_path / "run" / "agent" / "model.safetensors").touch()
    wanted = str(tmp_path / "run" / "agent")
    assert _player(tmp_path / "run") == _player(tmp_path / "run" / "agent") == wanted
    assert _player("sticky") == "sticky"


@pytest.mark.parametrize("same", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_episodes_beyond_a_killed_collections_goal_are_dropped_and_earlier_ones_are_kept(tmp_path, same):
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    collect(GAME_ID, unbroken, steps=20, workers=1)
    collect(GAME_ID, killed, episodes=1, workers=1)
    assert not (killed / UNDER_WAY).exists()
    store = EpisodeStorage.open(killed)
    wanted = len(EpisodeStorage.open(unbroken))
    store.write_pending(store.episode(0), wanted + 1)  # a faster worker was ahead
    store.write_pending(store.episode(0), wanted + 3)  # of a collection before that, towards another goal
    goal = {"episodes": None, "steps": 20 if same else 2000}
    write_json(killed / UNDER_WAY, {"goal": goal, "before": [0, wanted + 3]})
    collect(GAME_ID, killed, steps=20, workers=1)
    beyond = [wanted + 3] if same else [wanted + 1, wanted + 3]
    assert EpisodeStorage.open(killed).ids.tolist() == [*range(wanted), *beyond]
    assert content(killed)[:wanted] == content(unbroken)


def test_one_collection_at_a_time_records_into_a_store(tmp_path):
    """The first one to end would delete the other's note of what is its own, and could discard its episodes."""
    collect(GAME_ID, tmp_path, episodes=1, workers=1)
    held, done = Event(), Event()

    def hold():
        with only_process(tmp_path, "collection"):
            held.set()
            done.wait(60)

    other = Thread(target=hold)
    other.start()
    assert held.wait(60)
    with pytest.raises(ValueError, match="another collection is running in"):
        collect(GAME_ID, tmp_path, episodes=2, workers=1)
    assert not (tmp_path / UNDER_WAY).exists()
    done.set()
    other.join()
    assert collect(GAME_ID, tmp_path, episodes=2, workers=1).episodes == 2


# What is refused


def test_a_store_with_other_settings_is_not_continued(ten_episodes, tmp_path):
    for changes in ({"seed": 1}, {"policy": "random"}, {"epsilon": 0.1}, {"env_kwargs": {"step_seconds": 0.1}}):
        with pytest.raises(ValueError, match=f"was made with {next(iter(changes))}="):
            collect(GAME_ID, ten_episodes, **({"episodes": 20} | changes))
    assert len(content(ten_episodes)) == 10


def test_a_store_of_unknown_origin_is_not_continued(ten_episodes, tmp_path):
    os.symlink(ten_episodes / "data", tmp_path / "data")
    with pytest.raises(ValueError, match="holds a store made by another command"):
        collect(GAME_ID, tmp_path, episodes=20)


def test_a_retrained_agent_is_another_policy(tmp_path):
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "policy.safetensors").write_bytes(b"old")
    before = _policy_identity(str(agent))
    assert before == _policy_identity(f"{agent}/")
    (agent / "policy.safetensors").write_bytes(b"new")
    assert _policy_identity(str(agent)) != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "either episodes or steps, got episodes=None and steps=None"),
        ({"episodes": 1, "steps": 1}, "either episodes or steps"),
        ({"episodes": 0}, "at least 1, got 0"),
        ({"episodes": 1, "workers": 0}, "workers=0"),
        ({"episodes": 1, "episode_seconds": 0.0}, "episode_seconds must be above 0, got 0.0"),
        ({"episodes": 1, "num_workers": 3}, "num_workers=3 needs --launcher ray"),
        ({"episodes": 1, "launcher": "ray", "workers": 3}, "workers=3 are processes of this machine"),
        ({"episodes": 1, "launcher": "ray", "num_workers": 0}, "num_workers must be at least 1, got 0"),
        ({"episodes": 1, "launcher": "rya"}, "launcher must be 'local' or 'ray', got 'rya'"),
        ({"episodes": 1, "epsilon": 2.0}, r"epsilon must be in \[0, 1\], got 2.0"),
        (
            {"episodes": 1, "policy": "stiky"},
            r"scripted \(random, sticky, .*\) or the folder of a trained agent, got 'stiky'",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        collect(GAME_ID, tmp_path / "store", **changes)
    assert not (tmp_path / "store").exists()


def test_an_env_that_reports_no_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match="CartPole-v1 reports no frames"):
        collect("CartPole-v1", tmp_path / "store", episodes=1)
    assert not (tmp_path / "store").exists()


# The real game


@pytest.mark.vizdoom
def test_real_games_are_collected(tmp_path):
    stats = collect("VideoGenReal-DoomDeadlyCorridor", tmp_path, episodes=3, workers=2)
    store = EpisodeStorage.open(tmp_path)
    assert len(store) == stats.episodes == 3
    assert store.info.signal_names == ("HEALTH", "ARMOR", "AMMO2", "KILLCOUNT")
    env, policy = make_player(job(env_id="VideoGenReal-DoomDeadlyCorridor"))
    expected, _ = play(env, policy, *seeds_of(0, 2))
    env.close()
    assert np.array_equal(store.episode(2).frames, expected.frames)
