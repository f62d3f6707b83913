"""How the rows of an env begin their next dreams: several at a time, also of rows whose dreams have not ended yet.

Where a row's next dream begins and what it draws is known beforehand (`start_states`). A burn-in of 32 rows takes half
of the time of 16 burn-ins of two, and in a large batch one or two rows end in most steps.

Letters: B rows of the env, n some of them.
"""

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.envs.start_states import Source
from worldmodel.model import WorldModel

_AT_ONCE = 32  # rows that one burn-in fills up to
_MOST_ROWS = 128  # of an env that makes beginnings ahead; of more rows enough end together, and memory grows with them


class Beginnings:
    """The next dreams of B rows, made when one of them is needed and not there yet.

    A row begins the same whenever and beside whichever others it was made: dreams do not depend on what lies here.
    """

    def __init__(self, model: WorldModel, source: Source, num_envs: int) -> None:
        self._model, self._source = model, source
        self._made: DreamState | None = None  # B rows, of which those in `_ready` hold
        self._ready = np.zeros(num_envs, bool)

    def take(self, rows: np.ndarray, keys: np.ndarray, numbers: np.ndarray) -> DreamState:
        """The next dreams of `rows` (n,), given the keys and numbers of those of all rows (B,)."""
        missing = rows[~self._ready[rows]]
        wanted = self._fill_up(missing)
        if len(missing) == len(rows) == len(wanted):  # none of them lies here, and no others are made with them
            return self._begin(rows, keys, numbers)
        if len(missing):
            self._keep(wanted, self._begin(wanted, keys, numbers))
        assert self._made is not None
        self._ready[rows] = False
        return self._made.select(torch.from_numpy(rows))

    def forget(self, rows: np.ndarray | slice | int) -> None:
        """Of these rows other dreams come next."""
        self._ready[rows] = False

    def _fill_up(self, rows: np.ndarray) -> np.ndarray:
        """Rows, and others whose next dream is not there, in order."""
        if not len(rows) or len(self._ready) > _MOST_ROWS:
            return rows
        others = np.setdiff1d(np.flatnonzero(~self._ready), rows)
        return np.union1d(rows, others[: max(_AT_ONCE - len(rows), 0)])

    def _begin(self, rows: np.ndarray, keys: np.ndarray, numbers: np.ndarray) -> DreamState:
        chosen: Tensor = torch.from_numpy(np.stack((keys[rows], numbers[rows]))).to(self._model.device)
        return self._model.start_codes(*self._source.draw(*chosen))

    def _keep(self, rows: np.ndarray, made: DreamState) -> None:
        if self._made is None:  # rows not made yet hold a copy of the first one until they are
            self._made = made.select(torch.zeros(len(self._ready), dtype=torch.int64))
        self._made.put(torch.from_numpy(rows), made)
        self._ready[rows] = True
