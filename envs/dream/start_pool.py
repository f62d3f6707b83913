"""Prepares the next dreams of an env's rows in batches, even before the current ones have ended.

Where a row's next dream begins and what it samples is known in advance (`start_states`). A burn-in of 32 rows takes
half the time of 16 burn-ins of two, and of 64 rows with a horizon of 32, two or three end in most steps.

Letters: B rows of the env, n some of them.
"""

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.start_states import BothStarts, Source
from worldmodel.layers.weight_cache import version_of
from worldmodel.model import WorldModel

_AT_ONCE = 32  # a burn-in is filled up to this many rows
_MOST_ROWS = 128  # larger envs prepare nothing ahead: enough of their rows end together, and memory grows with them


def begin(model: WorldModel, source: Source | BothStarts, keys: np.ndarray, numbers: np.ndarray) -> DreamState:
    """Begin dream number `numbers` (n,) of rows with these `keys` (n,), in one burn-in per context length."""
    if isinstance(source, BothStarts):
        return _begin_both(model, source, keys, numbers)
    chosen: Tensor = torch.from_numpy(np.stack((keys, numbers))).to(model.device)
    return model.start_codes(*source.draw(*chosen))


def _begin_both(model: WorldModel, both: BothStarts, keys: np.ndarray, numbers: np.ndarray) -> DreamState:
    made = []
    for source, rows in both.parts(keys, numbers):
        state = begin(model, source, keys[rows], numbers[rows])
        made.append((rows, state if state.clock == both.clock else model.at_clock(state, both.clock)))
    (rows, whole), *others = made
    if others:
        indices = np.zeros(len(keys), np.int64)  # the other rows are overwritten below
        indices[rows] = np.arange(len(rows))
        whole = whole.select(torch.from_numpy(indices))
    for rows, state in others:
        whole.put(torch.from_numpy(rows), state)
    return whole


class Beginnings:
    """The next dreams of B rows, prepared in a batch as soon as one is needed that is not ready.

    A row begins the same whenever and with whichever others it is prepared, except for the last bit of float32 sums,
    whose rounding depends on the number of rows in narrow models. Changed weights discard everything prepared.
    """

    def __init__(self, model: WorldModel, source: Source | BothStarts, num_envs: int) -> None:
        self._model, self._source = model, source
        self._made: DreamState | None = None  # B rows, of which those in `_ready` are valid
        self._ready = np.zeros(num_envs, bool)
        self._weights = [*model.parameters(), *model.buffers()]
        self._made_with: tuple | None = None  # version of the weights

    def take(self, rows: np.ndarray, keys: np.ndarray, numbers: np.ndarray) -> DreamState:
        """The next dreams of `rows` (n,), given the keys and the next dreams' numbers of all rows (B,)."""
        weights = version_of(self._weights)
        if weights != self._made_with:
            self._made_with, self._made = weights, None
            self._ready[:] = False
        missing = rows[~self._ready[rows]]
        wanted = self._fill_up(missing)
        if len(missing) == len(rows) == len(wanted):  # none is ready, and no others are prepared with them
            return self._begin(rows, keys, numbers)
        if len(missing):
            self._keep(wanted, self._begin(wanted, keys, numbers))
        assert self._made is not None
        self._ready[rows] = False
        return self._made.select(torch.from_numpy(rows))

    def forget(self, rows: np.ndarray | slice | int) -> None:
        """Discard the prepared dreams of these rows."""
        self._ready[rows] = False

    def _fill_up(self, rows: np.ndarray) -> np.ndarray:
        """These rows, filled up with others whose next dream is not ready, in order."""
        if not len(rows) or len(self._ready) > _MOST_ROWS:
            return rows
        others = np.setdiff1d(np.flatnonzero(~self._ready), rows)
        return np.union1d(rows, others[: max(_AT_ONCE - len(rows), 0)])

    def _begin(self, rows: np.ndarray, keys: np.ndarray, numbers: np.ndarray) -> DreamState:
        return begin(self._model, self._source, keys[rows], numbers[rows])

    def _keep(self, rows: np.ndarray, made: DreamState) -> None:
        if self._made is None:  # rows that are not ready hold a copy of the first one
            self._made = made.select(torch.zeros(len(self._ready), dtype=torch.int64))
        self._made.put(torch.from_numpy(rows), made)
        self._ready[rows] = True
