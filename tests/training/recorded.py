"""A small store of recorded play in which all content is different."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo

ACTIONS = ActionSpec(kind="discrete", n=3, names=("noop", "left", "right"))


def game(action: ActionSpec = ACTIONS, channels: int = 3) -> StoreInfo:
    """Two frames of 16 x 16 pixels per step, and the signal HEALTH."""
    return StoreInfo(
        env_id="VideoGenReal-DoomHealthGathering",
        frames_per_step=2,
        height=16,
        width=16,
        channels=channels,
        action=action,
        signal_names=("HEALTH",),
        reward="health",
    )


def recorded_store(
    root: Path, lengths: tuple[int, ...] = (40,) * 10, pace: int = 2, channels: int = 3, terminated: bool = True
) -> EpisodeStorage:
    """One episode per length: step t is a flat image of brightness `pace` * t and the action t % 3.

    Every fifth step is rewarded with 2, every seventh with -1; each episode ends with a death,
    or is cut by a clock.
    """
    shutil.copytree(_written(tuple(lengths), pace, channels, terminated), root, dirs_exist_ok=True)
    return EpisodeStorage.open(root)


@cache
def _written(lengths: tuple[int, ...], pace: int, channels: int, terminated: bool) -> Path:
    """A folder with that store, which is copied for every test, since writing the episodes takes longer."""
    root = Path(tempfile.mkdtemp(prefix="recorded-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    store = EpisodeStorage.create(root, game(channels=channels))
    for steps in lengths:
        brightness = np.arange(steps + 1, dtype=np.uint8) * pace
        frames = np.broadcast_to(brightness[:, None, None, None, None], (steps + 1, 2, 16, 16, channels)).copy()
        times = np.arange(steps)
        rewards = np.where(times % 5 == 4, 2.0, np.where(times % 7 == 6, -1.0, 0.0)).astype(np.float32)
        store.append(
            Episode(
                frames=frames,
                actions=times % 3,
                rewards=rewards,
                terminated=terminated,
                truncated=not terminated,
                signals=np.linspace(100, 0, steps + 1, dtype=np.float32)[:, None],
            )
        )
    store.flush()
    return root
