"""The network of the GPT, for whole sequences: training, and filling a cache.

Letters: B batch, T steps, S = h*w tokens per step, M slices, E features of a token's code vectors, D width, V codes,
H heads, K features of one head, W window in steps, C width of the condition, R features of the frame vector.
Time: input j of a sequence predicts step j (with a learned start, `config.lead` = 1) or step j+1 (without). It holds
the step before (block, axial), or the tokens shifted by one (raster), and the action that led to the predicted step.
Source: VideoGen (arXiv:2104.10157) section 3; order "block" is block teacher forcing (Dedieu et al. 2025): the tokens
of step t predict those of step t+1 at the same position.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldmodel.data import ActionSpec
from worldmodel.dynamics.base import Dynamics
from worldmodel.dynamics.code_head import CodeHead
from worldmodel.dynamics.conditioning import (
    ActionEmbedding,
    Condition,
    ConditionalNorm,
    JoinedNorms,
    Modulation,
    hide_rows,
)
from worldmodel.dynamics.gpt.axial_decoder import AxialDecoder
from worldmodel.dynamics.gpt.blocks import Block, BlockCondition, make_attention
from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.dynamics.gpt.content import ContentTable
from worldmodel.dynamics.gpt.frame_encoder import FrameEncoder
from worldmodel.dynamics.gpt.refine import Hints
from worldmodel.layers.conv import GridConv
from worldmodel.layers.cpu.attention import causal_mask
from worldmodel.layers.position import BroadcastPosition, Rotation, SinePosition, rotation
from worldmodel.layers.precision import Linear
from worldmodel.layers.weight_cache import WeightCache
from worldmodel.tokenizer import CodeLookup


def _position(config: GPTConfig, grid: tuple[int, int]) -> BroadcastPosition | SinePosition | None:
    """Position table added to the inputs, (max_steps or 1, h, w, D)."""
    if config.position == "none":
        return None
    shape = (config.max_steps if config.timed else 1, *grid)
    if config.position == "sine":
        return SinePosition(shape, config.width)
    return BroadcastPosition(shape, config.width, axes=(0,) if config.position == "time" else None)


class CodeTransformer(Dynamics):
    """p(codes of a step | previous codes, actions and first frames)."""

    config: GPTConfig

    def __init__(
        self,
        config: GPTConfig,
        grid: tuple[int, int],
        num_codes: int,
        num_slices: int,
        code_dim: int,
        action: ActionSpec,
        step_frames: tuple[int, int] = (2, 3),
    ) -> None:
        """`step_frames`: F and C, number and channels of the frames of a step; used only with `frame_condition`."""
        super().__init__()
        self.config = config
        self.tokens_per_step = grid[0] * grid[1]
        self.num_slices = num_slices
        self.grid = grid
        self.token_in = Linear(code_dim, config.width, bias=False)
        # Block order knows a whole step: each token sees its neighbours, one of which may move to its position.
        whole = config.order == "block"
        self.neighbours = GridConv(code_dim, config.width) if whole else None
        self._contents = ContentTable(self.token_in, self.neighbours, grid)
        # Input for the very first token (raster), or for every token of the very first step (block with learn_start).
        self.start_token = nn.Parameter(torch.randn(config.width).mul_(0.02))
        self.position = _position(config, grid)
        self.action = ActionEmbedding(action, config.condition_width, config.action_condition, config.clip_actions)
        split = config.order == "raster" and config.attention == "axial"
        self.decoder = AxialDecoder(config, grid, self.action.width) if split else None
        count = config.axial_layers[0] if split else config.layers
        make = partial(make_attention, config, grid)
        self.blocks = nn.ModuleList(Block(config, make, self.action.width) for _ in range(count))
        self.norm = ConditionalNorm(config.width, self.action.width)
        inner = [norm for block in self.each_block for norm in (block.norm_attention, block.norm_forward)]
        self._norms = JoinedNorms([*inner, self.norm])
        board = grid if config.checkerboard else None
        self.code_head = CodeHead(config.width, config.code_head_width, num_slices, num_codes, config.echo, board)
        self.frame_encoder = None
        if config.frame_condition:
            count, channels = config.frame_condition * step_frames[0], step_frames[1]
            if config.frame_condition_frames > count:
                raise ValueError(
                    f"frame_condition_frames must be at most the {count} frames of {config.frame_condition} first "
                    f"steps, got {config.frame_condition_frames}"
                )
            self.frame_encoder = FrameEncoder(
                config.frame_encoder, config.frame_condition_frames or count, channels, count
            )
        if config.refine >= self.tokens_per_step:
            raise ValueError(f"refine must be below the {self.tokens_per_step} tokens of a step, got {config.refine}")
        self.hints = Hints(code_dim, config.width) if config.refine else None
        for name, parameter in self.named_parameters():
            if name.startswith("frame_encoder."):
                continue
            if name.endswith(("qkv.weight", "token_in.weight", "rise.weight", "frame.weight", "told.weight")):
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            elif name.endswith((".out.weight", "fall.weight")):
                nn.init.normal_(parameter, std=(parameter.shape[1] * config.layers) ** -0.5)
            elif name.endswith((".out.bias", "rise.bias", "fall.bias")):
                nn.init.zeros_(parameter)

    @property
    def each_block(self) -> list[Block]:
        """The blocks that read earlier steps, then those of an axial decoder."""
        decoder = () if self.decoder is None else (*self.decoder.above, *self.decoder.left)
        return [block for block in (*self.blocks, *decoder) if isinstance(block, Block)]

    @property
    def noise_per_step(self) -> int:
        """Number of random numbers per step: one per code, and one per token if tokens are drawn in groups."""
        return self.tokens_per_step * (self.num_slices + bool(self.config.refine))

    @property
    def matmul_dtype(self) -> torch.dtype:
        """Dtype of the matmuls, and so of a cache's keys and values."""
        return self.token_in.weight.dtype

    @property
    def derived(self) -> list[WeightCache]:
        """Caches of values computed from weights outside training."""
        return [self._contents.cached, self._norms.joint]

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Weights between hidden layers: those of attention and feed-forward."""
        named = chain.from_iterable(block.named_parameters() for block in self.each_block)
        return [parameter for name, parameter in named if parameter.ndim == 2 and "norm" not in name]

    @torch.no_grad()
    def skip_blocks(self, first: int) -> None:
        """Let the blocks from the `first` on return their input, until training gives them something to add."""
        for block in self.blocks[first:]:
            for name, parameter in block.named_parameters():
                if ".out." in name or ".fall." in name:
                    parameter.zero_()

    # --- conditions ----------------------------------------------------------------------------------------------

    def frame_vector(self, frames: Tensor | None, rows: int) -> Tensor | None:
        """First frames (B, T, F, H, W, C) uint8 -> (B, R); None: no frames. Returns None without frame_condition."""
        if self.frame_encoder is None:
            return None
        if frames is None:
            return self.frame_encoder.null.float().expand(rows, -1)
        return self.frame_encoder(frames[:, : self.config.frame_condition])

    def condition(
        self, rows: int, inputs: int, actions: Tensor | None = None, frame_vector: Tensor | None = None
    ) -> Condition:
        """Conditions of `inputs` consecutive inputs.

        Args:
            actions: actions that led to the predicted steps, (B, inputs, …), one fewer with a learned start; with clip
                actions (B, any number, …), all actions of the clip. None: unknown.
            frame_vector: (B, R) from `frame_vector`; None: no first frames.
        """
        if frame_vector is None:
            frame_vector = self.frame_vector(None, rows)
        return Condition(self.action.inputs(actions, rows, inputs), frame_vector)

    def _hide(self, condition: Condition) -> Condition:
        """Replace the conditions of some rows by the learned nulls, for training."""
        steps, frames = condition
        if self.config.drop_actions:
            steps = hide_rows(steps, self.action.null, self.config.drop_actions)
        if self.frame_encoder is not None and frames is not None and self.config.drop_frames:
            frames = hide_rows(frames, self.frame_encoder.null, self.config.drop_frames)
        return Condition(steps, frames)

    # --- whole sequences: training and burn-in -------------------------------------------------------------------

    def _modulate(self, condition: Condition) -> tuple[list[BlockCondition], Modulation]:
        """The condition of each block, and the modulation of the final norm."""
        *inner, last = self._norms.modulate(condition.steps)
        frames = [block.forward_part.frame_bias(condition.frames) for block in self.each_block]
        return [BlockCondition(*parts) for parts in zip(inner[::2], inner[1::2], frames, strict=True)], last

    def _angles(self, times: Tensor) -> Rotation | None:
        """The rotation for times (T,); None if positions in time are not rotary."""
        if self.config.position != "rotary-time":
            return None
        # Matmuls pay off on a CPU without gradients; other devices rotate elementwise in one kernel anyway.
        weight = self.token_in.weight
        fast = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and not torch.is_grad_enabled()
        return rotation(times, self.config.width // self.config.heads, products=weight.dtype if fast else None)

    def _positions(self) -> Tensor:
        """The table added to the inputs, (max_steps or 1, S, D)."""
        if self.position is None:
            return torch.zeros((1, 1, 1), device=self.start_token.device)
        return self.position().flatten(1, 2)

    def _run(
        self, tokens: Tensor, condition: Condition, own: Tensor | None = None, keep: bool = False
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Inputs (B, T, S, D) at times 0, 1, … -> outputs (B, T, S, D).

        With `keep`, to continue from the last step: only its outputs (B, 1, S, D), and keys and values of every layer.
        An axial decoder also reads `own`, the content of the predicted steps, (B, T, S, D).
        """
        steps = tokens.shape[1]
        angles = self._angles(torch.arange(steps, device=tokens.device))
        mask = causal_mask(steps, self.tokens_per_step, self.config.window, self.config.whole_steps, tokens.device)
        pairs: list[tuple[Tensor, Tensor]] = []

        def attend(attention, x: Tensor, last: int | None = None) -> Tensor:
            out, new = attention(x, angles, mask, last)
            if keep:
                pairs.extend((k.unflatten(2, (steps, -1)), v.unflatten(2, (steps, -1))) for k, v in new)
            return out

        def attend_last(attention, x: Tensor) -> Tensor:
            return attend(attention, x, self.tokens_per_step)

        x = tokens
        again = self.config.checkpointing and self.training and torch.is_grad_enabled()
        conditions, last = self._modulate(condition)
        for layer, (block, block_condition) in enumerate(zip(self.blocks, conditions, strict=False), start=1):
            if keep and layer == len(self.blocks):
                x, last = block(x, block_condition, attend_last), last.of_last()
            elif again:
                x = checkpoint(block, x, block_condition, attend, use_reentrant=False)
            else:
                x = block(x, block_condition, attend)
        if self.decoder is not None:
            assert own is not None
            rest = conditions[len(self.blocks) :]
            own, rest = own[:, -x.shape[1] :], [part.of_last() for part in rest] if keep else rest
            x = checkpoint(self.decoder, x, own, rest, use_reentrant=False) if again else self.decoder(x, own, rest)
        return self.norm(x, last), pairs

    def _content(self, vectors: Tensor) -> Tensor:
        """Content of tokens from code vectors (B, T, S, E), in block order of whole steps -> (B, T, S, D)."""
        if torch.is_grad_enabled():  # training may follow, which the cached table would miss
            self._contents.cached.forget()
        content = self.token_in(vectors).float()
        if self.neighbours is not None:
            around = self.neighbours(vectors.flatten(0, 1).unflatten(1, self.grid))  # (B*T, h, w, D)
            content = content + around.float().reshape(content.shape)
        return content

    def _content_of_codes(self, codes: Tensor, lookup: CodeLookup) -> Tensor:
        """Content of tokens from codes (B, T, S, M) -> (B, T, S, D)."""
        looked_up = self._contents(codes, lookup)
        return self._content(lookup(codes)) if looked_up is None else looked_up.float()

    def _inputs(
        self,
        steps: Tensor,
        read: Callable[[Tensor], Tensor],
        known: Tensor | None = None,
        hint_vectors: Tensor | None = None,
    ) -> Tensor:
        """T steps (B, T, S, …) -> the inputs (B, T-1+lead, S, D) that predict them; `read` maps steps to content.

        The steps are code vectors, or with `hint_vectors` (as in `forward`) codes.
        """
        if not self.config.whole_steps:
            content = read(steps)
            flat = content.flatten(1, 2)
            start = self.start_token.expand(len(flat), 1, -1)
            content = torch.cat((start, flat[:, :-1]), dim=1).view_as(content)
        else:
            start = self.start_token.expand(len(steps), self.config.lead, self.tokens_per_step, -1)
            content = torch.cat((start, read(steps[:, :-1])), dim=1) if steps.shape[1] > 1 else start
        if self.hints is not None:
            content = content + self.hints(
                steps[:, 1 - self.config.lead :] if hint_vectors is None else hint_vectors, known
            )
        table = self._positions()
        if self.config.timed:
            count = content.shape[1]
            if count > len(table):
                raise ValueError(
                    f"position {self.config.position!r} has {len(table)} steps, the sequence has {count}; raise "
                    "max_steps, or train on shorter segments"
                )
            table = table[:count]
        return content + table

    def forward(
        self,
        vectors: Tensor,
        actions: Tensor | None = None,
        frames: Tensor | None = None,
        first: bool = False,
        known: Tensor | None = None,
        hint_vectors: Tensor | None = None,
    ) -> Tensor:
        """Outputs (B, T, S, D) that predict steps 1..T of code vectors (B, T+1, S, E).

        Output t depends on the code vectors of steps <= t (raster: and the earlier tokens of step t+1) and actions
        <= t; with clip actions on all actions.

        Args:
            actions: (B, T, …), one after each step but the last; None: unknown.
            frames: first steps (B, at least frame_condition, F, H, W, C) uint8; None: no first frames.
            first: with a learned start, also return the output that predicts step 0: (B, T+1, S, D).
            known: with refine, which tokens of the predicted steps are known (B, T+lead, S) bool.
            hint_vectors: code vectors of the predicted steps (B, T+lead, S, E); None: from `vectors`.
        """
        rows, lead = len(vectors), self.config.lead
        inputs = self._inputs(vectors, self._content, known, hint_vectors)
        condition = self.condition(rows, inputs.shape[1], actions, self.frame_vector(frames, rows))
        if self.training:
            condition = self._hide(condition)
        own = None if self.decoder is None else self._content(vectors)
        outputs, _ = self._run(inputs, condition, own)
        return outputs if first else outputs[:, lead:]
