"""CodeHead: predicts the codes of a position from the GPT's output, one slice after the other.

Letters: D width, V codes, M slices, B rows.
Source: the channel predictor of the Latent Video Transformer (arXiv:2006.10704) section 3.2; hidden width 0 is the
single linear layer of VideoGen (arXiv:2104.10157).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.checkerboard import Checkerboard
from worldmodel.dynamics.sampling import Draw, Sampling, draw
from worldmodel.layers.cpu.cross_entropy import cross_entropy
from worldmodel.layers.precision import EmbeddingSum, Linear


class CodeHead(nn.Module):
    """The M codes of a position in sequence, each conditioned on the output and the codes before it."""

    def __init__(
        self,
        width: int,
        hidden: int,
        num_slices: int,
        num_codes: int,
        echo: bool = False,
        checkerboard: tuple[int, int] | None = None,
    ) -> None:
        """With `echo`, each output adds a learned logit to every slice's code of the previous step.

        With `checkerboard`, the grid (h, w) of a step, positions are whole steps and are drawn in two halves.
        """
        super().__init__()
        if not hidden and num_slices > 1:
            raise ValueError(f"code_head_width 0 supports one slice only, got {num_slices} slices; set it above 0")
        self.num_codes = num_codes
        self.linear = not hidden
        self.from_output = nn.ModuleList(Linear(width, hidden) for _ in range(num_slices) if hidden)
        # Slice m > 0 has one table per earlier slice, stored as a single table and looked up with offsets.
        self.from_codes = nn.ModuleList(EmbeddingSum(m * num_codes, hidden) for m in range(1, num_slices))
        self.stay = Linear(width, num_slices) if echo else None
        self.checkerboard = Checkerboard(checkerboard, num_slices, num_codes, hidden) if checkerboard else None
        self.to_logits = nn.ModuleList(Linear(hidden or width, num_codes, bias=False) for _ in range(num_slices))
        for table in self.from_codes.parameters():
            nn.init.normal_(table, std=0.02)
        for part in (self.to_logits, self.stay):
            for weight in () if part is None else part.parameters():
                nn.init.zeros_(weight)  # the first loss is exactly ln V

    def sample(
        self,
        outputs: Tensor,
        noise: Tensor,
        options: Sampling,
        given: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Draw:
        """Draw codes (B, ..., M), with nll and entropy (B, ...) summed over slices; noise (B, ..., M).

        With guidance the outputs and `before` have 2B rows; the second half is without conditions. If `given` codes are
        passed, they are scored and nothing is drawn.
        """
        board = self.checkerboard
        if board is None:
            return self._sample(outputs, noise, options, given, before, None)
        codes = torch.zeros_like(noise, dtype=torch.int64)
        nll, entropy = torch.zeros_like(noise[..., 0]), torch.zeros_like(noise[..., 0])
        for second, tokens in enumerate((board.black, board.white)):
            of_outputs, of_noise = outputs.index_select(-2, tokens), noise.index_select(-2, tokens)
            of_given, of_before = (None if x is None else x.index_select(-2, tokens) for x in (given, before))
            hints = board(codes) if second else None
            half = self._sample(of_outputs, of_noise, options, of_given, of_before, hints)
            codes = codes.index_copy(-2, tokens, half.codes)
            nll, entropy = nll.index_copy(-1, tokens, half.nll), entropy.index_copy(-1, tokens, half.entropy)
        return Draw(codes, nll, entropy)

    def _sample(
        self,
        outputs: Tensor,
        noise: Tensor,
        options: Sampling,
        given: Tensor | None,
        before: Tensor | None,
        hints: Tensor | None,
    ) -> Draw:
        """`sample` of positions whose codes do not depend on each other, given the hints."""
        codes = torch.zeros(noise.shape, dtype=torch.int64, device=noise.device)
        nll, entropy = torch.zeros_like(noise[..., 0]), torch.zeros_like(noise[..., 0])
        stays = self._stays(outputs, before)
        if hints is not None and options.guided:
            hints = torch.cat((hints, hints))
        for m in range(noise.shape[-1]):
            if options.guided:
                conditional, free = (
                    self.logits(outputs, torch.cat((codes, codes)), m, before, stays, hints).float().chunk(2)
                )
                logits = free + options.guidance * (conditional - free)
            else:
                logits = self.logits(outputs, codes, m, before, stays, hints)
            observed = None if given is None else given[..., m]
            drawn = draw(logits, noise[..., m], options.temperature, options.top_k, options.top_p, observed)
            codes[..., m] = drawn.codes
            nll, entropy = nll + drawn.nll, entropy + drawn.entropy
        return Draw(codes, nll, entropy)

    def loss(self, outputs: Tensor, codes: Tensor, before: Tensor | None = None) -> Tensor:
        """Cross-entropy in nats, mean over slices: (...) for outputs (..., D) and codes (..., M).

        `before` (..., M) are the codes of the previous step in the model's context; -1 where there was none.
        """
        stays, hints = self._stays(outputs, before), None
        if self.checkerboard is not None:
            of_white = self.checkerboard(codes)
            hints = of_white.new_zeros(*codes.shape[:-1], of_white.shape[-1])
            hints = hints.index_copy(-2, self.checkerboard.white, of_white)
        losses = [
            cross_entropy(self.logits(outputs, codes, m, before, stays, hints).flatten(0, -2), codes[..., m].flatten())
            for m in range(codes.shape[-1])
        ]
        return torch.stack(losses).mean(0).view(codes.shape[:-1])

    def logits(
        self,
        outputs: Tensor,
        codes: Tensor,
        index: int,
        before: Tensor | None = None,
        stays: Tensor | None = None,
        hints: Tensor | None = None,
    ) -> Tensor:
        """Logits (..., V) of slice `index`: outputs (..., D), codes (..., M) of which only earlier slices are used.

        `before` and `stays` (..., M) are the codes of the previous step and the logits added to them, `hints` (..., U)
        what a checkerboard adds to the hidden units.
        """
        logits = self._base_logits(outputs, codes, index, hints)
        if before is None or stays is None:
            return logits
        one = slice(index, index + 1)
        return logits.float().scatter_add(-1, before[..., one].clamp_min(0), stays[..., one])

    def _base_logits(self, outputs: Tensor, codes: Tensor, index: int, hints: Tensor | None) -> Tensor:
        if self.linear:
            return self.to_logits[index](outputs)
        hidden = self.from_output[index](outputs)
        if hints is not None:
            hidden = hidden + hints
        if index:
            offsets = torch.arange(index, device=codes.device) * self.num_codes
            hidden = hidden + self.from_codes[index - 1](codes[..., :index] + offsets)
        return self.to_logits[index](F.gelu(hidden))

    def _stays(self, outputs: Tensor, before: Tensor | None) -> Tensor | None:
        """Logits added to the previous step's codes, (..., M); zero where there was no previous step."""
        if self.stay is None or before is None:
            return None
        return self.stay(outputs).float() * (before >= 0)
