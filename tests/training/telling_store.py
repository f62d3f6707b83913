"""A store of episodes whose frames show the action: the picture moves by it."""

from pathlib import Path

import numpy as np

from tests.training.recorded import ACTIONS, game
from worldmodel.data import ActionSpec, Episode, EpisodeStorage

PUSHES = ActionSpec(kind="box", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))


def telling_store(root: Path, action: ActionSpec = ACTIONS, episodes: int = 20, steps: int = 24) -> EpisodeStorage:
    """A noise picture of 16 x 16 pixels, shifted in every step by -4, 0 or 4 columns, or by 4 times both dimensions."""
    rng = np.random.default_rng(0)
    store = EpisodeStorage.create(root, game(action))
    picture = rng.integers(256, size=(8, 8, 3), dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    for _ in range(episodes):
        if action.kind == "discrete":
            actions = rng.integers(3, size=steps)
            moves = np.stack([np.zeros(steps, np.int64), np.array([0, -4, 4])[actions]], axis=1)
        else:
            moves = rng.integers(-4, 5, size=(steps, 2))
            actions = (moves / 4).astype(np.float32)
        places = np.concatenate([rng.integers(16, size=(1, 2)), moves]).cumsum(0)
        frames = np.stack([np.roll(picture, tuple(place), axis=(0, 1)) for place in places])
        store.append(
            Episode(
                frames=np.repeat(frames[:, None], 2, axis=1),
                actions=actions,
                rewards=rng.integers(-1, 2, size=steps).astype(np.float32),
                terminated=True,
                truncated=False,
                signals=np.linspace(100, 0, steps + 1, dtype=np.float32)[:, None],
            )
        )
    store.flush()
    return store
