"""Collections on Ray's workers; most of the tests with a stand-in for Ray, one with a real cluster."""

import os
import sys
import threading
import time

import pytest

from tests.training.collect.episodes import content
from tests.training.collect.test_deaths import is_running, options
from tests.training.counting_game import GAME_ID
from tests.training.mortal_game import MORTAL_ID
from worldmodel.data import EpisodeStorage
from worldmodel.errors import OutsideError
from worldmodel.training.collect.collect import collect
from worldmodel.training.collect.stats import RETURNS, read_returns

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ray's process groups are of POSIX")


class FakeRay:
    """Plays in this process; an answer is an object that holds what comes back, or the loss of it.

    Args:
        losses: calls of `play`, counted from 0, whose worker is lost.
    """

    def __init__(self, losses=()) -> None:
        self.losses, self.plays, self.calls, self.options = set(losses), 0, [], {}

    def is_initialized(self):
        return "init" in self.calls and "shutdown" not in self.calls

    def init(self, **options):
        self.calls.append("init")

    def shutdown(self):
        self.calls.append("shutdown")

    def remote(self, **options):
        self.options |= options
        return lambda made: FakeActorClass(self, made)

    def get_runtime_context(self):
        return self

    def get_node_id(self):
        return None

    def wait(self, answers, num_returns=1, timeout=None):
        return list(answers), []

    def get(self, answer):
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    def kill(self, actor, no_restart):
        assert no_restart
        self.calls.append("kill")


class FakeActorClass:
    def __init__(self, ray, made) -> None:
        self.ray, self.made = ray, made

    def remote(self, *arguments):
        actor = self.made(*arguments)
        return FakeActor(self.ray, actor)


class FakeActor:
    def __init__(self, ray, actor) -> None:
        self.ray, self.actor = ray, actor

    def __getattr__(self, name):
        from ray.exceptions import ActorDiedError

        def call(*arguments):
            lost = name == "play" and self.ray.plays in self.ray.losses
            self.ray.plays += name == "play"
            answer = ActorDiedError() if lost else getattr(self.actor, name)(*arguments)
            return Answer((answer,))

        return type("Method", (), {"remote": staticmethod(call)})


class Answer(tuple):
    """Hashable with any content."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.fixture
def ray_of(monkeypatch):
    from worldmodel.training.collect import ray_workers as collect_ray

    def use(ray: FakeRay) -> FakeRay:
        monkeypatch.setattr(collect_ray, "ray", ray)
        monkeypatch.setattr(collect_ray.os, "getpgid", lambda _: os.getpid())
        monkeypatch.setattr(collect_ray.RayCrew, "_kill_game", lambda self, worker: ray.calls.append("kill game"))
        return ray

    return use


@pytest.mark.rllib
@pytest.mark.parametrize("losses", [(), (1, 3)], ids=["undisturbed", "two lost workers"])
def test_episodes_of_ray_are_those_of_local_workers(tmp_path, ray_of, losses):
    ray = ray_of(FakeRay(losses))
    collect(GAME_ID, tmp_path / "local", steps=30, workers=1)
    stats = collect(GAME_ID, tmp_path / "ray", steps=30, launcher="ray", num_workers=2)
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert set(read_returns(tmp_path / "ray" / RETURNS)) >= set(range(stats.episodes))
    assert ray.options == {"num_cpus": 1, "max_restarts": 0}
    assert ray.calls.count("kill") == 2 + len(losses)
    assert ray.calls[0] == "init" and ray.calls[-1] == "shutdown"


@pytest.mark.rllib
def test_an_error_of_the_game_is_quoted_from_ray_too(tmp_path, ray_of):
    ray_of(FakeRay())
    with pytest.raises(OutsideError, match="ArithmeticError: the game is broken"):
        collect(GAME_ID, tmp_path, episodes=3, launcher="ray", env_kwargs={"fails": True})
    assert len(EpisodeStorage.open(tmp_path)) == 1


@pytest.mark.rllib
def test_an_episode_that_loses_every_worker_of_ray_ends_in_one_error(tmp_path, ray_of):
    ray_of(FakeRay(range(1, 10)))
    with pytest.raises(OutsideError, match=r"episode 1 was started 3 times, .* the last one: ActorDiedError: "):
        collect(GAME_ID, tmp_path, episodes=3, launcher="ray")
    assert len(EpisodeStorage.open(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.rllib
@pytest.mark.filterwarnings("ignore")  # Ray warns of itself
def test_a_collection_survives_the_loss_of_a_ray_node_and_a_worker_that_stops(tmp_path, capsys):
    import ray
    from ray.cluster_utils import Cluster

    game = {"step_seconds": 0.02}
    collect(GAME_ID, tmp_path / "local", episodes=60, workers=2, env_kwargs=game)
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        ray.init(address=cluster.address, log_to_driver=False)
        stored = tmp_path / "ray" / "data" / "pending"

        def lose_a_node() -> None:
            while len(list(stored.glob("episode_*"))) < 10:
                time.sleep(0.02)
            cluster.remove_node(node, allow_graceful=False)

        thread = threading.Thread(target=lose_a_node)
        thread.start()
        collect(GAME_ID, tmp_path / "ray", episodes=60, env_kwargs=game, launcher="ray", num_workers=2)
        thread.join()
        assert content(tmp_path / "ray") == content(tmp_path / "local")
        assert "a collection worker was lost: Actor" in capsys.readouterr().err

        marks = tmp_path / "marks"
        usual = options(marks, engine=True, how="stop")
        collect(
            MORTAL_ID,
            tmp_path / "stops",
            episodes=4,
            env_kwargs=usual,
            launcher="ray",
            num_workers=1,
            episode_seconds=8,
        )
        assert "not finished within 8 s; playing episode 1 again" in capsys.readouterr().err
        assert content(tmp_path / "stops") == content(tmp_path / "local")[:4]
        processes = [int(path.name.split("-")[-1]) for path in marks.glob("*-*")]
        deadline = time.monotonic() + 10
        while any(map(is_running, processes)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(is_running, processes))
    finally:
        ray.shutdown()
        cluster.shutdown()
