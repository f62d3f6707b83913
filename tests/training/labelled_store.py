"""A store of episodes with labels: balls of known sizes before a gray wall, at random positions."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.training.recorded import ACTIONS, game
from worldmodel.data import Episode, EpisodeStorage

NAMES = ("ball", "block", "other")
COLOURS = {1: (255, 120, 0), 2: (0, 60, 200)}  # of the classes
WALL = 90
SIDES = {1: (1, 2, 4), 2: (3,)}  # of the objects that every frame shows, by class


def labelled_store(root: Path, episodes: int = 20, steps: int = 6, size: int = 16) -> EpisodeStorage:
    """Every frame shows a ball in each quarter but the last, of 1, 4 and 16 pixels, and there a block of 9."""
    rng = np.random.default_rng(0)
    info = replace(game(ACTIONS), label_names=NAMES)
    objects = [(kind, side) for kind, sides in SIDES.items() for side in sides]
    with EpisodeStorage.create(root, info) as store:
        for _ in range(episodes):
            frames = np.full((steps + 1, 2, size, size, 3), WALL, np.uint8)
            labels = np.zeros((steps + 1, 2, size, size, 2), np.uint8)
            for step in range(steps + 1):
                for number, (kind, side) in enumerate(objects):
                    row, column = rng.integers(1, size // 2 - side, size=2) + np.array(divmod(number, 2)) * size // 2
                    place = (step, slice(None), slice(row, row + side), slice(column, column + side))
                    frames[place], labels[place] = COLOURS[kind], (kind, number + 1)
            store.append(
                Episode(
                    frames=frames,
                    actions=rng.integers(3, size=steps),
                    rewards=np.zeros(steps, np.float32),
                    terminated=True,
                    truncated=False,
                    signals=np.linspace(100, 0, steps + 1, dtype=np.float32)[:, None],
                    labels=labels,
                )
            )
    return store
