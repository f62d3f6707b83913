"""What the tests of collection share: hashes of stored episodes, and a job of a worker."""

import hashlib
from pathlib import Path

from tests.training.counting_game import GAME_ID
from worldmodel.data import EpisodeStorage
from worldmodel.training.collect.workers import Job


def content(store: Path | EpisodeStorage) -> list[str]:
    """A hash of each stored episode."""
    if isinstance(store, Path):
        store = EpisodeStorage.open(store)
    episodes = [store.episode(i) for i in range(len(store))]
    return [
        hashlib.sha256(
            b"".join(array.tobytes() for array in (e.frames, e.actions, e.rewards, e.signals))
            + repr((e.terminated, e.truncated, e.seed)).encode()
        ).hexdigest()
        for e in episodes
    ]


def job(out: Path = Path("unused"), **changes) -> Job:
    usual = {"env_id": GAME_ID, "env_kwargs": {}, "out": out, "policy": "diverse", "epsilon": 0.0, "seed": 0}
    return Job(**usual | changes)
