"""The network of the Latent Video Transformer, for whole slices: training, scores and the given part of a video.

Letters: B batch, T steps, F latent frames of a step, S = h*w tokens per step, n books, M = F*n codes of a token (frame
after frame), V codes, D width, C width of the condition; R rows, each a slice of N positions (t, h', w'); P positions
of the volume of codes that an encoder sees.
Time: step 0 is predicted only with a learned start (`config.lead` = 1). The action that led to a step conditions all
its frames.
Source: Latent Video Transformer (arXiv:2006.10704) section 3.2.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.dynamics.base import Dynamics
from worldmodel.dynamics.code_head import CodeHead
from worldmodel.dynamics.conditioning import ActionEmbedding, ConditionalNorm, JoinedNorms, Modulation, hide_rows
from worldmodel.dynamics.subscale.adaptive import (
    AdaptiveEmbedding,
    AdaptiveOutput,
    CodeOrder,
    TiedAdaptiveOutput,
    TiedOutput,
)
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.dynamics.subscale.context_encoder import NO_CODE, ContextEncoder
from worldmodel.dynamics.subscale.order import Slices, live_taps, make_slices
from worldmodel.dynamics.subscale.slice_decoder import SliceDecoder
from worldmodel.layers.weight_cache import WeightCache
from worldmodel.tokenizer import CodeLookup

_MOST_SCORES = 2**26  # attention weights of a block that are held at once outside training


class Rows(NamedTuple):
    """R slices to predict."""

    context: Tensor  # (R, P, n) int64 codes of a volume, NO_CODE where there is none
    seen: Tensor  # (N, k) or (R, N, k) place in the volume that each tap of the encoder meets
    entries: Tensor  # (R,) entry of the slice embedding
    codes: Tensor  # (R, t, h', w', n) int64 of the slices themselves
    condition: Tensor  # (R, t, C)

    def split(self, count: int) -> list["Rows"]:
        """The same slices, at most `count` at once."""
        pieces = {
            name: (part,) * -(-len(self.entries) // count) if name == "seen" and part.ndim == 2 else part.split(count)
            for name, part in self._asdict().items()
        }
        return [Rows(*fields) for fields in zip(*pieces.values(), strict=True)]


class SubscaleNetwork(Dynamics):
    """p(codes of a slice | codes of earlier slices and earlier positions, actions)."""

    config: SubscaleConfig
    seen: Tensor  # (N, k) of the one slice of a single frame, or (Q, N, k) of the slices of a clip
    positions: Tensor  # (Q, N) places of a clip's slices in its volume

    def __init__(
        self,
        config: SubscaleConfig,
        grid: tuple[int, int],
        num_codes: int,
        num_slices: int,
        code_dim: int,
        action: ActionSpec,
        step_frames: tuple[int, int] = (2, 3),
    ) -> None:
        """Takes what every dynamics takes; `code_dim` and `step_frames` are not used: codes have own embeddings here.

        Raises: ValueError if `subscale` does not divide the grid, or `books` the codes of a token.
        """
        super().__init__()
        self.config, self.grid, self.num_slices = config, grid, num_slices
        self.tokens_per_step = grid[0] * grid[1]
        self.latent_frames = config.frames_per_step(num_slices)
        self.books = num_slices // self.latent_frames
        slices = self._slices()
        here = torch.empty(0).device  # the default device
        self.register_buffer("positions", slices.positions.to(here), persistent=False)
        nowhere = slices.positions.numel()
        live = live_taps(slices.seen, nowhere)
        taps = slices.seen.shape[-1] if config.dead_taps else len(live)
        self.register_buffer("seen", slices.seen[..., live].to(here), persistent=False)
        self.shape = slices.shape
        self.encoder = ContextEncoder(config, slices.shape, live, taps, self.books, num_codes)
        self.order = self._order(num_codes)
        self.decoder = SliceDecoder(config, slices.shape, self.books, num_codes, self.order)
        self.norm = ConditionalNorm(config.width, config.norm_inputs)
        self._norms = JoinedNorms([*self.encoder.stack.norms, *self.decoder.stack.norms, self.norm])
        self.code_head = CodeHead(config.width, config.code_head_width, self.books, num_codes)
        if (output := self._output()) is not None:
            self.code_head.to_logits[0] = output
        self.action = ActionEmbedding(action, config.norm_inputs, config.action_condition)
        _initialise(self)

    def _order(self, num_codes: int) -> CodeOrder | None:
        """The codes by frequency, with adaptive input or output."""
        return CodeOrder(num_codes, self.config.cutoffs) if self.config.adaptive else None

    def _output(self) -> nn.Module | None:
        """What takes the place of the code head's last matmul; None: nothing."""
        config, embedding = self.config, self.decoder.embedding
        hidden, kind = config.code_head_width, config.code_output
        if kind == "tied":
            return TiedOutput(hidden, config.code_width, embedding)
        if kind == "adaptive":
            assert self.order is not None
            return AdaptiveOutput(hidden, self.order)
        if isinstance(embedding, AdaptiveEmbedding) and kind != "softmax":
            return TiedAdaptiveOutput(hidden, config.code_width, embedding, kind == "adaptive-tied-projection")
        return None

    def order_codes(self, counts: Tensor) -> None:
        """Adaptive input or output: take the codes' frequencies (V,), before training."""
        assert self.order is not None
        self.order.by_use(counts.to(self.order.rank.device))
        self.forget_derived()

    def _slices(self) -> Slices:
        """The slices of a clip; in single-frame order one frame, as the last of the frames that its encoder sees."""
        config = self.config
        if config.subscale is None:
            frames = config.context_frames + 1
            slices = make_slices((frames, *self.grid), (frames, 1, 1), config.kernel)
            past = config.context_frames * self.tokens_per_step  # the volume that is given: without the frame itself
            return slices._replace(positions=slices.positions[:-1], seen=slices.seen[-1].clamp_max(past))
        for name, size, stride in zip(("s_h", "s_w"), self.grid, config.subscale[1:], strict=True):
            if size % stride:
                raise ValueError(
                    f"the code grid {self.grid} must be divisible by {name} = {stride} of subscale {config.subscale}"
                )
        config.segment_steps(self.num_slices)  # refuses a clip that is not made of whole steps
        assert config.clip_frames is not None
        return make_slices((config.clip_frames, *self.grid), config.subscale, config.kernel)

    # --- what every dynamics offers ------------------------------------------------------------------------------

    @property
    def matmul_dtype(self) -> torch.dtype:
        """Dtype of the matmuls."""
        return self.decoder.conv.weight.dtype

    @property
    def derived(self) -> list[WeightCache]:
        """Caches of values computed from weights outside training."""
        return [self._norms.joint, self.encoder.stack.cached, self.decoder.stack.cached, self.decoder.cached]

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Weights between hidden layers: those of attention and feed-forward."""
        return [
            parameter
            for stack in (self.encoder.stack, self.decoder.stack)
            for name, parameter in stack.named_parameters()
            if name.endswith(".weight") and "norm" not in name
        ]

    # --- whole slices --------------------------------------------------------------------------------------------

    def _modulate(self, condition: Tensor) -> tuple[list[Modulation], list[Modulation], Modulation]:
        """Modulations of the norms of the encoder, of the decoder, and of the last norm; condition (R, t, C)."""
        condition = condition[..., : self.config.norm_inputs]  # nothing, if actions are not read
        *inner, last = self._norms.modulate(condition)
        count = len(self.encoder.stack.norms)
        return inner[:count], inner[count:], last

    def _predict(self, rows: Rows) -> Tensor:
        """Outputs (R, N, D) that predict the codes of whole slices."""
        encoder, decoder, last = self._modulate(rows.condition)
        context = self.encoder(rows.context, rows.seen, rows.entries, encoder)
        x = self.decoder(rows.codes, context, decoder).flatten(2, 3)
        return self.norm(x, last).flatten(1, 2)

    def _score(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Nats per code (R, N) of whole slices, and the outputs (R, N, D) that predict them."""
        if torch.is_grad_enabled():
            outputs = self._predict(rows)
            return self.code_head.loss(outputs, rows.codes.flatten(1, 3)), outputs
        positions = self.shape[0] * self.shape[1] * self.shape[2]
        count = max(1, _MOST_SCORES // (self.config.heads * positions**2))
        scored = []
        for part in rows.split(count):
            outputs = self._predict(part)
            scored.append((self.code_head.loss(outputs, part.codes.flatten(1, 3)), outputs))
        nats, all_outputs = zip(*scored, strict=True)
        return torch.cat(nats), torch.cat(all_outputs)

    def _volume(self, codes: Tensor) -> Tensor:
        """Codes of steps (B, T, S, M) -> of latent frames (B, T*F, S, n)."""
        return codes.unflatten(-1, (-1, self.books)).transpose(2, 3).flatten(1, 2)

    def _noisy(self, codes: Tensor) -> Tensor:
        """Codes for the encoder; in training mode some are replaced by random ones."""
        if not (self.training and self.config.context_noise):
            return codes
        wrong = torch.rand(codes.shape, device=codes.device) < self.config.context_noise
        return torch.where(wrong, torch.randint_like(codes, self.code_head.num_codes), codes)

    def _frame_rows(self, codes: Tensor, steps: Tensor, condition: Tensor) -> Rows:
        """The latent frames of some steps as R = B*m*F rows: codes (B, T, S, M), steps (B, m), condition (B, m, C)."""
        video, seen = self._volume(codes), self.config.context_frames
        row = torch.arange(len(codes), device=codes.device)[:, None]
        frames = (
            steps[..., None] * self.latent_frames + torch.arange(self.latent_frames, device=codes.device)
        ).flatten(1)
        past = F.pad(self._noisy(video), (0, 0, 0, 0, seen, 0), value=NO_CODE)
        window = frames[..., None] + torch.arange(seen, device=codes.device)  # (B, m*F, seen), in the padded video
        return Rows(
            past[row[..., None], window].flatten(2, 3).flatten(0, 1),
            self.seen,
            frames.flatten().clamp_max(self.config.slice_entries - 1),
            video[row, frames].flatten(0, 1).unflatten(1, self.shape),
            condition.repeat_interleave(self.latent_frames, dim=1).flatten(0, 1).unsqueeze(1),
        )

    def _slice_rows(self, codes: Tensor, slices: Tensor, condition: Tensor) -> Rows:
        """Some slices of each clip as R = B*q rows: codes (B, T, S, M), slices (B, q), condition (B, T, C)."""
        video = self._volume(codes).flatten(1, 2)  # (B, P, n)
        row = torch.arange(len(codes), device=codes.device).repeat_interleave(slices.shape[1])
        which = slices.flatten()
        return Rows(
            self._noisy(video)[row],
            self.seen[which],
            which,
            video[row[:, None], self.positions[which]].unflatten(1, self.shape),
            condition[row[:, None], self._steps_of(which)],
        )

    def _steps_of(self, slices: Tensor) -> Tensor:
        """The step of each frame of some slices (q,) of a clip, (q, t)."""
        first = self.positions[slices].unflatten(1, self.shape)[:, :, 0, 0]
        return first // (self.tokens_per_step * self.latent_frames)

    # --- training ------------------------------------------------------------------------------------------------

    def code_loss(
        self, codes: Tensor, actions: Tensor, frames: Tensor | None, lookup: CodeLookup
    ) -> tuple[Tensor, Tensor]:
        """Nats per code of each predicted step (B, T+lead), and outputs that predict them (B, T+lead, S, D).

        The outputs of a step are those of its last frame. With `training_slices`, in training mode, the nats estimate
        those of all slices from a few random ones, and the outputs of steps that were not predicted are zeros.

        Args:
            codes: (B, T+1, S, M) of real steps; with `subscale` a whole clip.
            actions: (B, T, …), one after each step but the last.
            frames, lookup: not used.
        """
        rows, steps = codes.shape[:2]
        conditions = self.condition(rows, steps, actions).steps
        if self.training and self.config.drop_actions:
            conditions = hide_rows(conditions, self.action.null, self.config.drop_actions)
        if self.config.subscale is None:
            return self._frame_losses(codes, conditions)
        if steps * self.latent_frames != self.config.clip_frames:
            raise ValueError(
                f"this model learns whole clips of {self.config.clip_frames} latent frames, got "
                f"{steps * self.latent_frames}; train on segments of that length"
            )
        return self._clip_losses(codes, conditions)

    def _picked(self, rows: int, total: int, device: torch.device) -> Tensor:
        """Which of `total` slices each row predicts, (B, m): all, or in training mode some random ones."""
        count = self.config.training_slices
        if not self.training or count is None or count >= total:
            return torch.arange(total, device=device).expand(rows, -1)
        return torch.rand(rows, total, device=device).argsort(1)[:, :count]

    def _frame_losses(self, codes: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        first = 1 - self.config.lead
        total = codes.shape[1] - first
        picked = self._picked(len(codes), total, codes.device)
        row = torch.arange(len(codes), device=codes.device)[:, None]
        rows = self._frame_rows(codes, picked + first, conditions[row, picked + first])
        nats, outputs = self._score(rows)
        nats = nats.view(*picked.shape, -1).mean(-1)
        outputs = outputs.view(*picked.shape, self.latent_frames, *outputs.shape[1:])[:, :, -1]
        if picked.shape[1] == total:
            return nats, outputs
        nats = nats.new_zeros(len(codes), total).scatter(1, picked, nats * (total / picked.shape[1]))
        each = outputs.new_zeros(len(codes), total, *outputs.shape[2:])
        return nats, each.index_put((row, picked), outputs)

    def _clip_losses(self, codes: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        total = len(self.positions)
        picked = self._picked(len(codes), total, codes.device)
        rows = self._slice_rows(codes, picked, conditions)
        nats, outputs = self._score(rows)
        nats = nats * (total / picked.shape[1])
        places = self.positions[picked].flatten(1)  # (B, q*N)
        row = torch.arange(len(codes), device=codes.device)[:, None]
        volume = (len(codes), self.positions.numel())
        steps = (codes.shape[1], self.latent_frames, self.tokens_per_step)
        nats = nats.new_zeros(volume).index_put((row, places), nats.view(places.shape)).unflatten(1, steps)
        spread = outputs.new_zeros(*volume, outputs.shape[-1]).index_put((row, places), outputs.view(*places.shape, -1))
        first = 1 - self.config.lead
        return nats.flatten(2).mean(2)[:, first:], spread.unflatten(1, steps)[:, first:, -1]


def _initialise(network: SubscaleNetwork) -> None:
    """Matmuls keep the variance of their inputs; those that end in a residual sum share it among all blocks."""
    layers = network.config.layers
    for name, parameter in network.named_parameters():
        if name.startswith(("code_head.", "action.")) or "norm" in name or not parameter.numel():
            continue
        if name.endswith((".out.weight", ".fall.weight")):
            nn.init.normal_(parameter, std=(parameter.shape[1] * layers) ** -0.5)
        elif name.endswith("conv.weight"):
            live = len(network.decoder.live) * network.config.code_width
            nn.init.normal_(parameter, std=max(live, 1) ** -0.5)
        elif name.endswith((".qkv.weight", ".key.weight", ".value.weight", ".rise.weight", ".from_context.weight")):
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif name.endswith((".rise.bias", ".fall.bias", "conv.bias")):
            nn.init.zeros_(parameter)
