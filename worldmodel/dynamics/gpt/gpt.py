"""GPT over codes, step by step: fill a cache from context steps, then draw one step after the other.

A pass predicts a whole step ("block") or a single token ("raster").

Letters: B batch, T steps, S = h*w tokens per step, M slices, E features of a token's code vectors, D width, W window in
steps.
Source: VideoGen (arXiv:2104.10157) section 3; order "block" is block teacher forcing (Dedieu et al. 2025): the tokens
of step t predict those of step t+1 at the same position.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.dynamics.base import VideoRequest
from worldmodel.dynamics.conditioning import Condition, Modulation
from worldmodel.dynamics.generation import generate_steps
from worldmodel.dynamics.gpt.axial_decoder import AxialPass
from worldmodel.dynamics.gpt.blocks import BlockCondition, attention_parts
from worldmodel.dynamics.gpt.contexts import EncodedSteps, codes_before, given_codes
from worldmodel.dynamics.gpt.raster.drafts import DraftMemory
from worldmodel.dynamics.gpt.raster.multi_token_pass import MultiTokenPass, TokenSpans
from worldmodel.dynamics.gpt.raster.speculative import Forward, SpeculativeStep
from worldmodel.dynamics.gpt.raster.token_pass import TokenPass
from worldmodel.dynamics.gpt.refine import draw_groups, known_in_last_pass, known_in_passes
from worldmodel.dynamics.gpt.transformer import CodeTransformer
from worldmodel.dynamics.sampling import Draw, Sampling
from worldmodel.layers.attention import KVCache, WindowAttention
from worldmodel.layers.position import Rotation
from worldmodel.layers.precision import Linear
from worldmodel.tokenizer import CodeLookup, Tokenizer

_FEW_THREADS = 2  # with more of them, torch's attention of one query beats NumPy's, which uses one


class _StepInputs(NamedTuple):
    """Inputs shared by all tokens of one step."""

    conditions: list[BlockCondition]  # per block
    last: Modulation  # of the final norm
    position: Tensor | None  # (B or 1, S, D)
    angles: Rotation | None


class _Drawing(NamedTuple):
    """What the codes of one step are drawn with."""

    before: Tensor  # (B, S, M) codes of the step before, -1 where there is none; 2B rows with guidance
    fresh: Tensor | None  # (B, 1, 1) bool, rows without a step before; None: there are no such rows
    noise: Tensor  # (B, noise_per_step)
    lookup: CodeLookup
    options: Sampling
    given: Tensor | None  # (B, S, M) codes to score instead of drawing


class GPT(CodeTransformer):
    """The dynamics: `forward` for whole sequences, `burn_in` and `step` for dreams."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.drafts = DraftMemory()  # in raster order

    @property
    def cache_shape(self) -> tuple[int, tuple[int, int, int, int]]:
        """Number of key tensors in a cache, one per layer (axial: one per layer and axis), and the shape of one row."""
        config = self.config
        shape = (config.heads, config.window, self.tokens_per_step, config.width // config.heads)
        return len(self.blocks) * attention_parts(config), shape

    def token_pass(
        self, step: _StepInputs, cache: KVCache, whole: Callable[[], Tensor] | None = None
    ) -> Callable[[Tensor, int], Tensor]:
        """A function for the step's tokens in sequence: (input (B, 1, D), position in the step) -> output (B, 1, D).

        With axial attention `whole` gives the content of the step before, (B, S, D).
        """
        if self.decoder is not None:
            assert whole is not None
            known = self._read(whole(), step, cache, slice(0, self.tokens_per_step))
            rest = step.conditions[len(self.blocks) :]
            return AxialPass(self.decoder, known.squeeze(1), rest, self.norm, step.last)
        layers = TokenPass(self.each_block, self.norm, step.conditions, step.last, step.angles, cache)

        def advance(content: Tensor, position: int) -> Tensor:
            x = content if step.position is None else content + step.position[:, position : position + 1]
            return layers(x.squeeze(1), position).unsqueeze(1)

        return advance

    def _speculates(self) -> bool:
        """True where a pass of several tokens per row is exact, bit for bit, and attention by NumPy pays."""
        weight, head = self.token_in.weight, self.code_head
        if self.config.attention != "full" or not weight.is_cpu or weight.dtype != torch.float32:
            return False
        layers = [*head.from_output, *head.to_logits, *([] if head.stay is None else [head.stay])]
        for block in self.each_block:
            if isinstance(block.attention, WindowAttention):
                layers += block.attention.qkv, block.attention.out, block.forward_part.rise, block.forward_part.fall
        exact = all(isinstance(layer, Linear) and layer.batch_invariant for layer in layers)
        return exact and torch.get_num_threads() <= _FEW_THREADS

    def _forward_tokens(self, step: _StepInputs, cache: KVCache, fresh: Tensor | None, lookup: CodeLookup) -> Forward:
        """Forward pass of some tokens of the step; rows that are `fresh` (B, 1, 1) begin with the learned start."""
        layers = MultiTokenPass(self.each_block, self.norm, step.conditions, step.last, step.angles, cache)

        def forward(previous: Tensor, tokens: TokenSpans) -> Tensor:
            x = self._content_of_codes(previous[None, None], lookup)[0, 0]
            if fresh is not None:
                starts = fresh[tokens.rows, 0] & torch.from_numpy(tokens.positions == 0)[:, None]
                x = torch.where(starts, self.start_token, x)
            if step.position is not None:
                x = x + step.position[tokens.rows if len(step.position) > 1 else 0, tokens.positions]
            return layers(x, tokens)

        return forward

    def step(
        self,
        codes: Tensor,
        condition: Condition,
        cache: KVCache,
        noise: Tensor,
        lookup: CodeLookup,
        options: Sampling | None = None,
        given: Tensor | None = None,
    ) -> tuple[Draw, Tensor]:
        """Draw the next step and advance the cache in place.

        Args:
            codes: (B, S, M) the last step; ignored in rows with an empty cache, which begin with the learned start.
            condition: condition of the one input.
            noise: (B, noise_per_step) float32 in [0, 1).
            lookup: the codebook's lookup of code vectors.
            options: with guidance, codes, condition and cache have 2B rows; the second half is without conditions.
            given: (B, S, M) an observed step to score instead of drawing one; the draw then has its likelihood.

        Returns the drawn codes (B, S, M) with nll and entropy (B, S), and the outputs (B, S, D) for the heads.
        """
        options = options or Sampling()
        shared = self._begin(condition, cache)
        fresh = (cache.lengths == 0)[:, None, None] if self.config.lead and cache.shortest <= 0 else None
        before = codes if fresh is None else torch.where(fresh, -1, codes)
        drawing = _Drawing(before, fresh, noise, lookup, options, given)
        if self.hints is not None:
            drawn, outputs = self._draw_in_groups(codes, shared, cache, drawing)
        elif self.config.order == "block":
            content = self._content_after(codes, fresh, lookup)
            outputs = self._advance(content, shared, cache, slice(0, self.tokens_per_step))
            noise = noise.unflatten(1, (self.tokens_per_step, -1))
            drawn = self.code_head.sample(outputs, noise, options, given, before)
        elif self._speculates():
            noise = noise.unflatten(1, (self.tokens_per_step, -1))
            context, width = codes[: len(noise)], self.config.width
            decoding = SpeculativeStep(context, noise, width, self.code_head, before, options, given, self.drafts)
            drawn, outputs = decoding.run(self._forward_tokens(shared, cache, fresh, lookup))
        else:
            drawn, outputs = self._draw_in_sequence(codes, shared, cache, drawing)
        cache.advance()
        return drawn, outputs

    def _content_after(self, codes: Tensor, fresh: Tensor | None, lookup: CodeLookup) -> Tensor:
        """Content of codes (B, n, M) as an input, (B, n, D); rows that are `fresh` (B, 1, 1) begin with the start."""
        content = self._content_of_codes(codes[:, None], lookup).squeeze(1)
        return content if fresh is None else torch.where(fresh, self.start_token, content)

    def _begin(self, condition: Condition, cache: KVCache) -> _StepInputs:
        """Inputs shared by all tokens of the step at the cache's clock."""
        position: Tensor | None = None
        if self.config.timed:
            position = self._positions()[cache.lengths]
        elif self.position is not None:
            position = self._positions()
        conditions, last = self._modulate(condition)
        angles = self._angles(cache.now)
        return _StepInputs(conditions, last, position, angles)

    def _advance(self, content: Tensor, step: _StepInputs, cache: KVCache, tokens: slice) -> Tensor:
        """Run some tokens (B, n, D) of the step at the cache's clock -> their outputs (B, n, D)."""
        return self.norm(self._read(content, step, cache, tokens), step.last).squeeze(1)

    def _read(self, content: Tensor, step: _StepInputs, cache: KVCache, tokens: slice) -> Tensor:
        """The blocks on some tokens (B, n, D) of the step at the cache's clock -> (B, 1, n, D)."""
        x = content if step.position is None else content + step.position[:, tokens]
        x = x.unsqueeze(1)
        for layer, (block, condition) in enumerate(zip(self.blocks, step.conditions, strict=False)):

            def attend(attention, y: Tensor, layer: int = layer) -> Tensor:
                return attention.step(y, step.angles, cache, layer, tokens)

            x = block(x, condition, attend)
        return x

    def _draw_in_sequence(
        self, codes: Tensor, shared: _StepInputs, cache: KVCache, drawing: _Drawing
    ) -> tuple[Draw, Tensor]:
        """Draw the step after `codes` token by token, each one an input for the next (raster order)."""
        before, fresh, noise, lookup, options, given = drawing
        noise = noise.unflatten(1, (self.tokens_per_step, -1))
        advance = self.token_pass(shared, cache, lambda: self._content_after(codes, fresh, lookup))
        drawn, outputs = [], []
        previous = codes[:, -1:]
        for position in range(self.tokens_per_step):
            one = slice(position, position + 1)
            outputs.append(advance(self._content_after(previous, None if position else fresh, lookup), position))
            observed = None if given is None else given[:, one]
            drawn.append(self.code_head.sample(outputs[-1], noise[:, one], options, observed, before[:, one]))
            previous = drawn[-1].codes.repeat(2 if options.guided else 1, 1, 1)
        return Draw(*(torch.cat(field, dim=1) for field in zip(*drawn, strict=True))), torch.cat(outputs, dim=1)

    def _draw_in_groups(
        self, codes: Tensor, shared: _StepInputs, cache: KVCache, drawing: _Drawing
    ) -> tuple[Draw, Tensor]:
        """Draw the step after `codes`, one group of tokens after the other (module refine)."""
        assert self.hints is not None
        before, fresh, noise, lookup, options, given = drawing
        content = self._content_after(codes, fresh, lookup)
        all_tokens = slice(0, self.tokens_per_step)
        count = self.tokens_per_step * self.num_slices
        of_codes, of_groups = noise[:, :count].unflatten(1, (self.tokens_per_step, -1)), noise[:, count:]
        groups = draw_groups(of_groups, self.config.refine + 1)
        times = 2 if options.guided else 1
        drawn = Draw(torch.zeros_like(of_codes, dtype=torch.int64), *torch.zeros_like(of_groups).expand(2, -1, -1))
        for now in range(self.config.refine + 1):
            hints = self.hints(lookup(drawn.codes), groups < now).repeat(times, 1, 1)
            outputs = self._advance(content + hints, shared, cache, all_tokens)
            new = self.code_head.sample(outputs, of_codes, options, given, before)
            mine = groups == now
            drawn = Draw(
                torch.where(mine[..., None], new.codes, drawn.codes),
                torch.where(mine, new.nll, drawn.nll),
                torch.where(mine, new.entropy, drawn.entropy),
            )
        return drawn, outputs

    def burn_in(self, codes: Tensor, condition: Condition, lookup: CodeLookup) -> tuple[KVCache, Tensor]:
        """Fill a cache from context steps, so that `step` can continue after the last of them.

        With `refine` the keys, values and outputs are those of the last pass, as after a step.

        Args:
            codes: (B, T, S, M); T may be 0 with a learned start.
            condition: conditions of the T-1+lead inputs that these steps form.
            lookup: the codebook's lookup of code vectors.

        Returns the cache, and the outputs (B, S, D) that predict the last context step: zeros without inputs.
        """
        config = self.config
        rows, weight = len(codes), self.token_in.weight
        steps = codes.shape[1] - 1 + config.lead  # inputs
        if steps < 0:
            raise ValueError("a model without a learned start needs a context step; train it with learn_start=True")
        if not steps:
            count, (heads, _, tokens, features) = self.cache_shape
            empty = weight.new_zeros(rows, heads, 0, tokens, features)
            pairs = [(empty, empty)] * count
            last = weight.new_zeros(rows, self.tokens_per_step, config.width, dtype=torch.float32)
        else:
            own = None if self.decoder is None else self._content_of_codes(codes[:, -1:], lookup)
            known, vectors = None, None
            if self.hints is not None:
                known = known_in_last_pass(self.tokens_per_step, config.refine + 1, codes.device)
                known, vectors = known.expand(rows, steps, -1), lookup(codes[:, 1 - config.lead :])
            inputs = self._inputs(codes, lambda part: self._content_of_codes(part, lookup), known, vectors)
            outputs, pairs = self._run(inputs, condition, own, keep=True)
            last = outputs[:, -1]
        kept = min(steps, config.window)
        slot = (steps - kept) % config.window
        ahead = min(kept, config.window - slot)  # steps before the ring wraps

        def ring(filled: Tensor) -> Tensor:
            out = filled.new_zeros(*filled.shape[:2], config.window, *filled.shape[3:])
            out[:, :, slot : slot + ahead], out[:, :, : kept - ahead] = filled[:, :, steps - kept :].tensor_split(
                (ahead,), dim=2
            )
            return out

        lengths = torch.full((rows,), kept, dtype=torch.int64, device=codes.device)
        filled_cache = KVCache([ring(k) for k, _ in pairs], [ring(v) for _, v in pairs], lengths, steps, kept)
        return filled_cache, last.to(self.start_token.dtype)

    def generate(self, tokenizer: Tokenizer, codes: Tensor, request: VideoRequest) -> Tensor:
        return generate_steps(self, tokenizer, codes, request)

    def move(self, cache: KVCache, clock: int) -> KVCache:
        """Shift a cache in time, so that its rows can join those of a cache with this clock."""
        turns = self._angles(torch.full((1,), clock - cache.clock, device=cache.lengths.device))
        return cache.at(clock, turns)

    # --- training ------------------------------------------------------------------------------------------------

    def code_loss(
        self, codes: Tensor, actions: Tensor, frames: Tensor | None, lookup: CodeLookup
    ) -> tuple[Tensor, Tensor]:
        """Nats per code of each predicted step (B, T+lead), and the outputs that predict them (B, T+lead, S, D).

        With `refine` a step is drawn in several passes. In training mode the loss is that of one random pass per step,
        in evaluation mode that of all passes, as in a dream; the outputs are those of the last pass.

        Args:
            codes: (B, T+1, S, M) of real steps. In training mode some of the inputs are replaced (module contexts).
            actions: (B, T, …), one after each step but the last.
            frames: first steps (B, at least frame_condition, F, H, W, C) uint8; None without frame_condition.
        """
        real = EncodedSteps(codes, actions, frames, lookup)
        targets = codes[:, 1 - self.config.lead :]
        known_by_pass = self._known(codes)
        nats = predicted = torch.zeros((), device=codes.device)
        for known, then in zip(known_by_pass, (*known_by_pass[1:], torch.ones_like(known_by_pass[0])), strict=True):
            outputs, before = self._teacher_forced(real, known)
            new = then & ~known  # in training mode, with a single pass, all unknown tokens
            nats = nats + (self.code_head.loss(outputs, targets, before) * new).sum(-1)
            predicted = predicted + new.sum(-1)
        return nats / predicted, outputs

    def outputs(self, codes: Tensor, actions: Tensor, frames: Tensor | None, lookup: CodeLookup) -> Tensor:
        """Only the outputs of `code_loss`."""
        return self._teacher_forced(EncodedSteps(codes, actions, frames, lookup), self._known(codes)[-1])[0]

    def _known(self, codes: Tensor) -> list[Tensor]:
        """Tokens of the predicted steps that are inputs in each pass, (B, T+lead, S) bool."""
        shape = len(codes), codes.shape[1] - 1 + self.config.lead, self.tokens_per_step
        return known_in_passes(shape, self.config.refine + 1, self.training, codes.device)

    def _teacher_forced(self, real: EncodedSteps, known: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of a pass (B, T+lead, S, D), and the input codes of the step before each; -1 before step 0."""
        given, hinted = given_codes(self, real)
        vectors, hints = (None if codes is None else real.lookup(codes) for codes in (given, hinted))
        outputs = self(vectors, real.actions, real.frames, first=True, known=known, hint_vectors=hints)
        return outputs, codes_before(self.config, given)
