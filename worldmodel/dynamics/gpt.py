"""GPT over codes: actions enter through conditional norms; whole steps ("block") or single tokens ("raster") at a time.

Letters: B batch, T steps, S = h*w tokens per step, M slices, E features of a token's code vectors, D width, V codes,
H heads, K features of one head, W window in steps.
Source: VideoGen (arXiv:2104.10157) section 3; order "block" is block teacher forcing (Dedieu et al. 2025): the tokens
of step t predict those of step t+1 at the same place. The code head is the channel predictor of the Latent Video
Transformer (arXiv:2006.10704) section 3.2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.dynamics.conditioning import ActionEmbedding, ConditionalNorm
from worldmodel.dynamics.sampling import Draw, draw
from worldmodel.layers.attention import KVCache, WindowAttention
from worldmodel.layers.position import BroadcastPosition, rotation
from worldmodel.layers.precision import Conv3d, Embedding, Linear


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTConfig:
    """Size and order of the dynamics."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    order: Literal["block", "raster"] = "block"
    layers: int = 4
    width: int = 192  # D
    heads: int = 4
    window: int = 8  # W, steps that a token can see, its own included
    dropout: float = 0.0  # after attention and feed-forward
    context_noise: float = 0.03  # share of the given codes replaced at random in training, against drift
    condition_width: int = 32  # of the vector through which an action reaches the norms
    code_head_width: int = 128  # hidden units of the code head

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(
                f"width / heads must be an even whole number, got width {self.width} and {self.heads} heads"
            )
        if self.window < 2:
            raise ValueError(f"window must be at least 2 steps, got {self.window}")
        for name in ("dropout", "context_noise"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.rise, self.fall = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fall(F.gelu(self.rise(x)))


class Block(nn.Module):
    """Attention, then feed-forward, each on a conditional norm and added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm_attention = ConditionalNorm(config.width, config.condition_width)
        self.norm_forward = ConditionalNorm(config.width, config.condition_width)
        self.attention = WindowAttention(config.width, config.heads)
        self.forward_part = FeedForward(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, condition: Tensor, attend: Callable[[WindowAttention, Tensor], Tensor]) -> Tensor:
        """x (B, T, S, D), condition (B, T, C); `attend` runs the attention on (B, T*S, D)."""
        mixed = attend(self.attention, self.norm_attention(x, condition).flatten(1, 2))
        x = x + self.dropout(mixed).view_as(x)
        return x + self.dropout(self.forward_part(self.norm_forward(x, condition)))


class CodeHead(nn.Module):
    """The M codes of a position one after the other, each given the output and the codes before it."""

    def __init__(self, width: int, hidden: int, num_slices: int, num_codes: int) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.from_output = nn.ModuleList(Linear(width, hidden) for _ in range(num_slices))
        # Slice m > 0 has one table for each slice before it; stored as one, looked up with offsets.
        self.from_codes = nn.ModuleList(Embedding(m * num_codes, hidden) for m in range(1, num_slices))
        self.to_logits = nn.ModuleList(Linear(hidden, num_codes, bias=False) for _ in range(num_slices))
        for table in self.from_codes.parameters():
            nn.init.normal_(table, std=0.02)
        for weight in self.to_logits.parameters():
            nn.init.zeros_(weight)  # the first loss is exactly ln V

    def logits(self, outputs: Tensor, codes: Tensor, index: int) -> Tensor:
        """Logits (..., V) of slice `index`: outputs (..., D), codes (..., M) of which only earlier slices are read."""
        hidden = self.from_output[index](outputs)
        if index:
            offsets = torch.arange(index, device=codes.device) * self.num_codes
            hidden = hidden + self.from_codes[index - 1](codes[..., :index] + offsets).sum(-2)
        return self.to_logits[index](F.gelu(hidden))

    def loss(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over slices: (...) for outputs (..., D) and codes (..., M)."""
        losses = [
            F.cross_entropy(
                self.logits(outputs, codes, m).flatten(0, -2).float(), codes[..., m].flatten(), reduction="none"
            )
            for m in range(codes.shape[-1])
        ]
        return torch.stack(losses).mean(0).view(codes.shape[:-1])

    def sample(self, outputs: Tensor, noise: Tensor, temperature: float) -> Draw:
        """Codes (..., M), with nll and entropy (...) summed over slices; noise (..., M)."""
        codes = torch.zeros(noise.shape, dtype=torch.int64, device=noise.device)
        nll, entropy = torch.zeros_like(noise[..., 0]), torch.zeros_like(noise[..., 0])
        for m in range(noise.shape[-1]):
            drawn = draw(self.logits(outputs, codes, m), noise[..., m], temperature)
            codes[..., m] = drawn.codes
            nll, entropy = nll + drawn.nll, entropy + drawn.entropy
        return Draw(codes, nll, entropy)


class GPT(nn.Module):
    """p(codes of step t+1 | codes and actions up to step t)."""

    def __init__(
        self,
        config: GPTConfig,
        grid: tuple[int, int],
        num_codes: int,
        num_slices: int,
        code_dim: int,
        action: ActionSpec,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokens_per_step = grid[0] * grid[1]
        self.num_slices = num_slices
        self.grid = grid
        self.token_in = Linear(code_dim, config.width, bias=False)
        # Block order knows a step as a whole: each token sees those around it, one of which will come into its place.
        whole = config.order == "block"
        self.neighbours = Conv3d(code_dim, config.width, (1, 3, 3), padding=(0, 1, 1), bias=False) if whole else None
        self.start_token = nn.Parameter(torch.randn(config.width) * 0.02)  # raster: input of the very first position
        self.position = BroadcastPosition(grid, config.width)
        self.action = ActionEmbedding(action, config.condition_width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = ConditionalNorm(config.width, config.condition_width)
        self.code_head = CodeHead(config.width, config.code_head_width, num_slices, num_codes)
        for name, parameter in self.named_parameters():
            if name.endswith(("qkv.weight", "token_in.weight", "rise.weight")):
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            elif name.endswith(("attention.out.weight", "fall.weight")):
                nn.init.normal_(parameter, std=(parameter.shape[1] * config.layers) ** -0.5)
            elif name.endswith(("attention.out.bias", "rise.bias", "fall.bias")):
                nn.init.zeros_(parameter)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weights that lead from hidden layer to hidden layer: those of attention and feed-forward."""
        return [
            parameter
            for name, parameter in self.blocks.named_parameters()
            if parameter.ndim == 2 and "norm" not in name
        ]

    # --- whole sequences: training and burn-in -------------------------------------------------------------------

    def _mask(self, steps: int, device: torch.device) -> Tensor:
        """(L, L) True where a query token may look at a key token."""
        token = torch.arange(steps * self.tokens_per_step, device=device)
        step = token // self.tokens_per_step
        age = step[:, None] - step[None, :]
        causal = age >= 0 if self.config.order == "block" else token[:, None] >= token[None, :]
        return causal & (age < self.config.window)

    def _run(self, tokens: Tensor, condition: Tensor, first: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Inputs (B, T, S, D), conditions (B, T, C) of steps first, … -> outputs (B, T, S, D), keys, values."""
        steps = tokens.shape[1]
        times = torch.arange(first, first + steps, device=tokens.device).repeat_interleave(self.tokens_per_step)
        cos, sin = rotation(times, self.config.width // self.config.heads)
        mask = self._mask(steps, tokens.device)
        keys: list[Tensor] = []
        values: list[Tensor] = []

        def attend(attention: WindowAttention, x: Tensor) -> Tensor:
            out, k, v = attention(x, cos, sin, mask)
            keys.append(k.unflatten(2, (steps, -1)))
            values.append(v.unflatten(2, (steps, -1)))
            return out

        x = tokens
        for block in self.blocks:
            x = block(x, condition, attend)
        return self.norm(x, condition), keys, values

    def _content(self, vectors: Tensor) -> Tensor:
        """Code vectors (B, T, S, E) of tokens, in block order of whole steps -> (B, T, S, D)."""
        content = self.token_in(vectors).float()
        if self.neighbours is not None:
            grid = vectors.movedim(-1, 1).unflatten(-1, self.grid)  # (B, E, T, h, w)
            content = content + self.neighbours(grid).float().flatten(-2).movedim(1, -1)
        return content

    def _inputs(self, vectors: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and conditions of a sequence of code vectors (B, T, S, E) with actions.

        block: actions (B, T), one after each step; position t predicts step t+1.
        raster: actions (B, T-1); tokens shift right by one and position t predicts step t itself.
        """
        content, condition = self._content(vectors), self.action(actions)
        if self.config.order == "raster":
            flat = content.flatten(1, 2)
            start = self.start_token.expand(len(flat), 1, -1)
            content = torch.cat((start, flat[:, :-1]), dim=1).view_as(content)
            condition = torch.cat((self.action.null.expand(len(flat), 1, -1), condition), dim=1)
        return content + self.position().flatten(0, 1), condition

    def forward(self, vectors: Tensor, actions: Tensor) -> Tensor:
        """Outputs that predict steps 1..T: vectors (B, T+1, S, E), actions (B, T, …) -> (B, T, S, D).

        Output t has seen the code vectors of steps <= t (raster: and the earlier tokens of step t+1) and actions <= t.
        """
        if self.config.order == "block":
            return self._run(*self._inputs(vectors[:, :-1], actions), first=0)[0]
        return self._run(*self._inputs(vectors, actions), first=0)[0][:, 1:]

    # --- step by step: dreaming ----------------------------------------------------------------------------------

    def burn_in(self, vectors: Tensor, actions: Tensor, clock: int | None = None) -> KVCache:
        """Fill a cache from given steps, so that `step` can go on from the last of them.

        Args:
            vectors: (B, T, S, E) code vectors of T steps.
            actions: (B, T-1, …) the actions between them.
            clock: time of the next step to be processed; rows of one batch must share it. Default: as if from step 0.
        """
        config = self.config
        if config.order == "block":
            vectors = vectors[:, :-1]  # the last step is fed together with its action
        rows, steps = vectors.shape[:2]
        clock = steps if clock is None else clock
        if steps == 0:
            shape = (rows, config.heads, 0, self.tokens_per_step, config.width // config.heads)
            empty = vectors.new_zeros(shape, dtype=self.token_in.weight.dtype)
            keys, values = [empty] * config.layers, [empty] * config.layers
        else:
            _, keys, values = self._run(*self._inputs(vectors, actions), first=clock - steps)
        kept = min(steps, config.window)
        slots = torch.arange(clock - kept, clock, device=vectors.device) % config.window

        def ring(filled: Tensor) -> Tensor:
            shape = (*filled.shape[:2], config.window, *filled.shape[3:])
            return filled.new_zeros(shape).index_copy_(2, slots, filled[:, :, steps - kept :])

        lengths = torch.full((rows,), kept, dtype=torch.int64, device=vectors.device)
        return KVCache([ring(k) for k in keys], [ring(v) for v in values], lengths, clock, kept)

    def _advance(self, content: Tensor, condition: Tensor, cache: KVCache, tokens: slice) -> Tensor:
        """Some tokens (B, n, D) of the step at the cache's clock -> their outputs (B, n, D)."""
        time = torch.tensor([cache.clock], device=content.device)
        cos, sin = rotation(time, self.config.width // self.config.heads)
        x = (content + self.position().flatten(0, 1)[tokens]).unsqueeze(1)
        condition = condition.unsqueeze(1)
        for layer, block in enumerate(self.blocks):
            x = block(x, condition, lambda a, y, layer=layer: a.step(y, cos, sin, cache, layer, tokens))
        return self.norm(x, condition).squeeze(1)

    def step(
        self,
        codes: Tensor,
        action: Tensor,
        cache: KVCache,
        noise: Tensor,
        lookup: Callable[[Tensor], Tensor],
        temperature: float = 1.0,
    ) -> tuple[Draw, Tensor]:
        """Draw the next step and move the cache on, in place.

        Args:
            codes: (B, S, M) the last step.
            action: (B, …) taken after it.
            noise: (B, S, M) float32 in [0, 1).
            lookup: code vectors (…, E) of codes (…, M).

        Returns the drawn codes (B, S, M) with nll and entropy (B, S), and the outputs (B, S, D) for the heads.
        """
        condition = self.action(action[:, None]).squeeze(1)
        if self.config.order == "block":
            everything = slice(0, self.tokens_per_step)
            content = self._content(lookup(codes)[:, None]).squeeze(1)
            outputs = self._advance(content, condition, cache, everything)
            drawn = self.code_head.sample(outputs, noise, temperature)
        else:
            previous, parts, all_outputs = codes[:, -1:], [], []
            for place in range(self.tokens_per_step):
                content = self._content(lookup(previous)[:, None]).squeeze(1)
                output = self._advance(content, condition, cache, slice(place, place + 1))
                part = self.code_head.sample(output, noise[:, place : place + 1], temperature)
                previous = part.codes
                parts.append(part)
                all_outputs.append(output)
            drawn = Draw(*(torch.cat(field, dim=1) for field in zip(*parts, strict=True)))
            outputs = torch.cat(all_outputs, dim=1)
        cache.advance()
        return drawn, outputs
