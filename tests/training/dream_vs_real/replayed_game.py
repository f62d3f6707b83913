"""A real game disguised as another project's world model: its dreams are the game itself."""

import numpy as np

from tests.toy_game import ToyGame

SEEDS = range(20, 60)  # of the episodes that reports begin with


class TimedToy(ToyGame):
    """Terminates after 2 to 6 steps if the seed is even; otherwise truncated after 9."""

    def reset(self, *, seed=None, options=None):
        found = super().reset(seed=seed)
        self.left, self.dies = (self.left, True) if seed % 2 == 0 else (9, False)
        return found


class ReplayedGame:
    """Finds the state that it is given by playing the episodes of SEEDS until one shows it."""

    context_steps = 2

    def __init__(self) -> None:
        self.given = []

    def reset(self, frames, actions, seeds):
        self.given.append((frames, actions, seeds))
        self.games = [self._find(context[-1]) for context in frames]

    def step(self, actions):
        rewards = np.full(len(self.games), np.nan)  # what dreams return that have ended is ignored
        ended = np.zeros(len(self.games), bool)
        for row, (game, action) in enumerate(zip(self.games, actions, strict=True)):
            if game.left:
                _, rewards[row], ended[row], _, _ = game.step(action)
        return rewards, ended

    def _find(self, shown):
        for seed in SEEDS:
            game = TimedToy()
            _, info = game.reset(seed=seed)
            while True:
                if np.array_equal(info["frames"], shown):
                    return game
                if game.left == 0:
                    break
                *_, info = game.step(0)
        raise AssertionError("no episode shows this")
