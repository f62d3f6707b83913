"""Collections whose workers die, stop or hang: the episodes are those of an undisturbed collection."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.collect.episodes import content
from tests.training.counting_game import GAME_ID
from tests.training.mortal_game import MORTAL_ID
from worldmodel.data import EpisodeStorage
from worldmodel.errors import OutsideError
from worldmodel.training.collect.collect import collect
from worldmodel.training.collect.stats import RETURNS, read_returns
from worldmodel.training.collect.workers import seeds_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def options(marks: Path, episode: int = 1, **changes) -> dict:
    marks.mkdir(exist_ok=True)
    return {"marks": str(marks), "seed": seeds_of(0, episode)[0], **changes}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[str]:
    out = tmp_path_factory.mktemp("undisturbed") / "store"
    collect(GAME_ID, out, episodes=6, workers=1)
    return content(out)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z" if sys.platform == "linux" else True


def engines_left(marks: Path) -> list[int]:
    """Engines that still run a second later."""
    engines = [int(path.name.partition("-")[2]) for path in marks.glob("engine-*")]
    assert engines
    deadline = time.monotonic() + 1
    while (left := [engine for engine in engines if is_running(engine)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    for engine in left:
        os.kill(engine, signal.SIGKILL)
    return left


def test_a_killed_worker_is_replaced_and_its_engine_killed(undisturbed, tmp_path, capsys):
    kwargs = options(tmp_path / "marks", engine=True)
    collect(MORTAL_ID, tmp_path / "store", episodes=6, workers=1, env_kwargs=kwargs)
    assert content(tmp_path / "store") == undisturbed
    assert len(list((tmp_path / "marks").glob("end-*"))) == 1
    assert len(read_returns(tmp_path / "store" / RETURNS)) == 6
    assert "killed by SIGKILL (out of memory?); playing episode 1 again" in capsys.readouterr().err
    assert engines_left(tmp_path / "marks") == []


@pytest.mark.parametrize("how", ["stop", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_worker_that_takes_too_long_is_replaced(undisturbed, tmp_path, capsys, how):
    kwargs = options(tmp_path / "marks", engine=True, how=how)
    collect(MORTAL_ID, tmp_path / "store", episodes=6, workers=1, env_kwargs=kwargs, episode_seconds=4)
    assert content(tmp_path / "store") == undisturbed
    assert "not finished within 4 s; playing episode 1 again" in capsys.readouterr().err
    assert engines_left(tmp_path / "marks") == []


def test_a_goal_in_steps_is_not_overshot_while_a_worker_hangs(undisturbed, tmp_path):
    stats = collect(GAME_ID, tmp_path / "usual", steps=20, workers=1)
    kwargs = options(tmp_path / "marks", how="stop")
    written = []
    write = EpisodeStorage.discard

    def discard(store, episode_ids):
        written.append(len(store))
        return write(store, episode_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpisodeStorage, "discard", discard)
        collect(MORTAL_ID, tmp_path / "store", steps=20, workers=2, env_kwargs=kwargs, episode_seconds=4)
    assert content(tmp_path / "store") == content(tmp_path / "usual")
    assert max(written) <= stats.episodes + 2


def test_an_episode_that_always_kills_its_worker_ends_in_one_error_and_the_others_stay(undisturbed, tmp_path):
    kwargs = options(tmp_path / "marks", episode=2, times=100)
    message = r"episode 2 was started 3 times, .* killed by SIGKILL \(out of memory\?\)\. Stored episodes are kept"
    with pytest.raises(OutsideError, match=message):
        collect(MORTAL_ID, tmp_path / "store", episodes=6, workers=1, env_kwargs=kwargs)
    assert content(tmp_path / "store") == undisturbed[:2]
    for i in range(100):
        (tmp_path / "marks" / f"end-later-{i}").touch()  # the cause is gone
    collect(MORTAL_ID, tmp_path / "store", episodes=6, workers=1, env_kwargs=kwargs)
    assert content(tmp_path / "store") == undisturbed


def test_workers_that_cannot_start_end_in_one_error(tmp_path, monkeypatch):
    from worldmodel.training.collect import workers as collect_workers

    monkeypatch.setattr(collect_workers, "_work", os._exit)  # by the wrong kind of argument, with exit code 1
    with pytest.raises(OutsideError, match=r"3 workers were lost without playing; .* exit code 1"):
        collect(GAME_ID, tmp_path / "store", episodes=1, workers=1)
    assert not (tmp_path / "store").exists()


@pytest.mark.vizdoom
@pytest.mark.skipif(sys.platform != "linux", reason="children are read from /proc")
@pytest.mark.parametrize("victim", ["worker", pytest.param("engine", marks=pytest.mark.slow)])
def test_a_real_game_survives_the_death_of_a_worker_or_of_its_engine(tmp_path, victim):
    usual, store = tmp_path / "usual", tmp_path / "store"
    game = "VideoGenReal-DoomBasic"
    collect(game, usual, episodes=8, workers=2)
    run = f"collect({game!r}, {str(store)!r}, episodes=8)"
    code = f"from worldmodel.training.collect.collect import collect\nif __name__ == '__main__':\n    {run}"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    try:
        deadline = time.monotonic() + 60
        while not list(store.glob("data/pending/episode_*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(descendants(process.pid)[victim], signal.SIGKILL)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert content(store) == content(usual)


def descendants(parent: int) -> dict[str, int]:
    """A worker of a collection and its engine."""

    def children(process: int) -> list[int]:
        threads = Path(f"/proc/{process}/task").glob("*/children")
        return [int(child) for thread in threads for child in thread.read_text().split()]

    for worker in children(parent):
        for engine in children(worker):
            return {"worker": worker, "engine": engine}
    raise AssertionError("no worker has an engine")
