"""Speculative decoding of a step in raster order: passes over draft tokens, of which the right ones are kept.

Codes are drawn by inverting the distribution with noise that is fixed for each position, so a step has one outcome,
and a drawn token equal to its draft proves the inputs of the next one right. The outcome is, bit for bit, that of
drawing one token per pass.

Letters: B rows, S tokens per step, M slices, n tokens of a pass, D width.
Source: speculative decoding, arXiv:2211.17192; draws of earlier passes as drafts, arXiv:2305.10427.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from worldmodel.dynamics.code_head import CodeHead
from worldmodel.dynamics.gpt.raster.drafts import DraftMemory, RowDrafts
from worldmodel.dynamics.gpt.raster.multi_token_pass import Span, TokenSpans
from worldmodel.dynamics.sampling import Draw, Sampling

_LARGEST = 512  # tokens of a pass when the step is given

Forward = Callable[[Tensor, TokenSpans], Tensor]  # previous tokens' codes (n, M) -> outputs (n, D)


class SpeculativeStep:
    """One step of all rows. With guidance, `forward` takes 2B rows: those without conditions come second."""

    def __init__(
        self,
        codes: Tensor,
        noise: Tensor,
        width: int,
        head: CodeHead,
        before: Tensor,
        options: Sampling,
        given: Tensor | None,
        memory: DraftMemory,
    ) -> None:
        """
        Args:
            codes: (B, S, M) of the previous step: its last token is the first input.
            noise: (B, S, M).
            before: (B or 2B, S, M) codes of the previous step for the code head.
            given: (B, S, M) the step's codes, if nothing is to be drawn.
        """
        self._rows, self._size, slices = codes.shape
        self._times = 2 if options.guided else 1
        self._head, self._options, self._given, self._memory = head, options, given, memory

        def draw(outputs: Tensor) -> Tensor:
            return head.sample(outputs, noise, options, None, before).codes

        drafts = memory.drafts(codes, self._times * self._rows, draw) if given is None else given
        # Flat over rows and positions. Input of token p of a row: `_codes` at row * (S + 1) + p.
        self._codes = torch.cat((codes[:, -1:], drafts), dim=1).flatten(0, 1)
        self._noise, self._before = noise.flatten(0, 1), None if head.stay is None else before.flatten(0, 1)
        tokens = len(self._noise)
        self._outputs = torch.empty(self._times * tokens, width)
        self._drawn = Draw(torch.zeros(tokens, slices, dtype=torch.int64), *torch.zeros(2, tokens))

    def run(self, forward: Forward) -> tuple[Draw, Tensor]:
        """Codes (B, S, M), nll and entropy (B, S), and outputs (B or 2B, S, D)."""
        if self._given is None:
            self._draw(forward)
        else:
            length = max(1, _LARGEST // (self._rows * self._times))
            for first in range(0, self._size, length):
                stop = min(first + length, self._size)
                self._pass(forward, [Span(row, first, stop) for row in range(self._rows)])
        drawn = Draw(*(part.unflatten(0, (self._rows, self._size)) for part in self._drawn))
        outputs = self._outputs.unflatten(0, (-1, self._size))
        self._memory.keep(drawn.codes, outputs)
        return drawn, outputs

    def _draw(self, forward: Forward) -> None:
        drafts = [RowDrafts(self._size) for _ in range(self._rows)]
        while unfinished := [row for row, draft in enumerate(drafts) if draft.final < self._size]:
            length = self._memory.pass_length(len(unfinished) * self._times)
            begins = [(row, drafts[row].final) for row in unfinished]
            spans = [Span(row, first, min(first + length, self._size)) for row, first in begins]
            matches, begin = self._pass(forward, spans), 0
            for row, first, stop in spans:
                end = begin + stop - first
                drafts[row].verify(matches[begin:end], self._memory)
                begin = end

    def _pass(self, forward: Forward, spans: list[Span]) -> list[bool]:
        """Draw the tokens of these spans, which replace their drafts; returns which equal them."""
        tokens = TokenSpans(spans)
        at, token_before = (
            torch.from_numpy(tokens.rows * size + tokens.positions) for size in (self._size, self._size + 1)
        )
        inputs, everywhere, token = self._codes[token_before], at, token_before + 1
        if self._times == 2:
            tokens = TokenSpans([*spans, *(span._replace(row=span.row + self._rows) for span in spans)])
            inputs, everywhere = inputs.repeat(2, 1), torch.cat((at, at + len(self._noise)))
        outputs = forward(inputs, tokens)
        drafts = self._codes[token]
        given = None if self._given is None else drafts
        before = None if self._before is None else self._before[everywhere]
        drawn = self._head.sample(outputs, self._noise[at], self._options, given, before)
        self._codes[token] = drawn.codes
        self._outputs[everywhere] = outputs
        for whole, part in zip(self._drawn, drawn, strict=True):
            whole[at] = part
        return (drawn.codes == drafts).all(-1).tolist()
