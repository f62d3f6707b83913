"""Draft tokens for speculative decoding: how often they are accepted, and how many are worth a pass.

A draft is drawn with the token's noise from its distribution in the previous step, or is that step's code if the
distribution is not known, or is what an earlier pass drew there from drafts. Drafts and their acceptance rates decide
how much is computed, never what is drawn.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Cost of a pass in units of one more token in it, on one core with AVX2 (docs/performance.md).
_PASS = 20.0  # reading the weights
_ROW = 0.4  # reading the cache of one row
_GAIN = 1.15  # what a longer pass must promise: rows at different positions cost a pass more
_LENGTHS = (2, 3, 4, 6, 8, 12, 16)
_PASSES = 4  # that follow each other, of which the last one's final tokens are counted
_FARTHEST = 6  # drafts drawn at least this many positions behind a wrong one count as one kind
_MEMORY = 1 / 256  # weight of the newest draft in a rate
_KEPT = 128  # drafts for which the best length is kept


class DraftMemory:
    """Outputs of the previous step, and the share of accepted drafts by kind.

    Kinds: 0 from the previous step, d > 0 drawn d behind a wrong draft.
    """

    def __init__(self) -> None:
        self.rates = [0.3, 0.4, *[0.6] * (_FARTHEST - 1)]
        self._step: tuple[Tensor, Tensor] | None = None
        self._weights = [0.5] * (_FARTHEST + 1)  # of the next draft: a mean at first, then a moving average
        self._best: dict[int, int] = {}  # pass length by number of rows
        self._age = 0  # drafts since it was last found

    def keep(self, codes: Tensor, outputs: Tensor) -> None:
        """Remember a step: codes (B, S, M), outputs (B or 2B, S, D)."""
        self._step = codes, outputs

    def drafts(self, codes: Tensor, rows: int, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """Drafts (B, S, M) of the step after these codes; `draw` gives codes for `rows` rows of outputs."""
        step = self._step  # another thread may replace it
        if step is None or step[0].shape != codes.shape or len(step[1]) != rows:
            return codes
        known = (step[0] == codes).flatten(1).all(1)[:, None, None]
        return torch.where(known, draw(step[1]), codes) if known.any() else codes

    def update(self, kind: int, accepted: bool) -> None:
        """Count one verified draft."""
        weight = self._weights[kind]
        self.rates[kind] += weight * (accepted - self.rates[kind])
        self._weights[kind] = max(weight / (1 + weight), _MEMORY)
        self._age += 1

    def pass_length(self, rows: int) -> int:
        """How many tokens of each row to compute in a pass of `rows` rows: most final tokens per cost."""
        if self._age >= _KEPT:
            self._best, self._age = {}, 0
        best = self._best.get(rows)  # another thread may empty the table
        if best is None:
            best = self._best[rows] = self._best_length(_PASS / rows + _ROW)
        return best

    def _best_length(self, fixed: float) -> int:
        best, most = 1, _GAIN / (fixed + 1)
        for length in _LENGTHS:
            if (value := self.final_tokens(length) / (fixed + length)) > most:
                best, most = length, value
        return best

    def final_tokens(self, length: int) -> float:
        """Tokens of a row that become final in a pass of this length, on average over passes that follow each other.

        Behind the first wrong draft of a pass, its draws are drafts of kinds 1, 2, … for the next pass.
        """
        share, final = [1.0, *[0.0] * (length - 1)], 0.0  # of passes that begin with 0, 1, … drafts of these kinds
        for _ in range(_PASSES):
            after, final = [0.0] * length, 0.0
            for drawn, likely in enumerate(share):
                for position in range(1, length):
                    kind = min(position, _FARTHEST) if position <= drawn else 0
                    final += likely
                    after[length - position] += likely * (1 - self.rates[kind])
                    likely *= self.rates[kind]
                final, after[0] = final + likely, after[0] + likely
            share = after
        return final


class RowDrafts:
    """Progress of one row: how many of its tokens are final, and the kinds of the other tokens' drafts."""

    def __init__(self, tokens: int) -> None:
        self.final = 0
        self.kinds = [0] * tokens

    def verify(self, matches: Sequence[bool], memory: DraftMemory) -> None:
        """Take in a pass from the first token that was not final: which drawn tokens equal their drafts.

        The first drawn token that does not is final too: all its inputs were right.
        """
        end = self.final + len(matches)
        for matched in matches:
            memory.update(self.kinds[self.final], matched)
            self.final += 1
            if not matched:
                break
        for position in range(self.final, end):
            self.kinds[position] = min(position - self.final + 1, _FARTHEST)
