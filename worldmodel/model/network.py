"""The network of a world model: tokenizer, dynamics and heads, and the loss that trains the last two.

Letters: B rows, T steps, h w latent grid, S = h*w tokens per step, M slices, E code features, G signals, D width.
Time: `actions[:, t]` is taken after step t; frames, reward and end of step t+1 follow from it.
"""

import hashlib
import math
from dataclasses import field
from typing import Self

import torch
from torch import Tensor, distributed, nn

from worldmodel.data import ActionSpec
from worldmodel.dynamics import DynamicsConfig, GPTConfig, Heads, HeadsConfig
from worldmodel.dynamics import build as build_dynamics
from worldmodel.dynamics.heads import HeadsOut
from worldmodel.layers.cpu.memory import keep_freed_memory
from worldmodel.layers.defaults import own_defaults, own_dtype
from worldmodel.layers.precision import cast_matmuls, fast_dtype, uncast_tensors, warn_if_slow
from worldmodel.model.batches import CodeBatch, DynamicsLoss, Starts
from worldmodel.settings import NonNegativeFloat, checked_dataclass
from worldmodel.tokenizer import CodeLookup, TokenizerConfig, VQVAEConfig
from worldmodel.tokenizer import build as build_tokenizer

_LARGEST_CACHE = 2**36  # bytes of one dream's keys and values in float32


@checked_dataclass
class WorldModelConfig:
    """Sizes and options of all parts of a world model, and the game it learned from."""

    action: ActionSpec
    tokenizer: TokenizerConfig = field(default_factory=VQVAEConfig)
    dynamics: DynamicsConfig = field(default_factory=GPTConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    signal_names: tuple[str, ...] = ()
    env_id: str = ""  # of the real game
    reward: str = "native"  # unit of the rewards
    steps_per_second: NonNegativeFloat = 0.0  # speed of the game in real time; 0: unknown

    def __post_init__(self) -> None:
        if len(set(self.signal_names)) < len(self.signal_names):
            raise ValueError(f"signal_names must differ, got {', '.join(self.signal_names)}")
        check_ends(self.heads, self.dynamics)


def check_ends(heads: HeadsConfig, dynamics: DynamicsConfig) -> None:
    """ValueError if ends are to be drawn and the dynamics draw a step before they have predicted all of it."""
    if heads.ends == "drawn" and not (isinstance(dynamics, GPTConfig) and dynamics.predicts_at_once):
        raise ValueError(
            'heads.ends "drawn" needs dynamics that predict a whole step before they draw any of it: a gpt in block '
            "order, with full attention and without refine"
        )


class Network(nn.Module):
    """Tokenizer, dynamics and heads as one module."""

    @own_dtype
    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer = build_tokenizer(config.tokenizer)
        self.dynamics = build_dynamics(config.dynamics, tokenizer, config.action)
        tokens = tokenizer.grid[0] * tokenizer.grid[1]
        count, shape = self.dynamics.cache_shape
        if (held := 8 * count * math.prod(shape)) > _LARGEST_CACHE:
            raise ValueError(f"one dream's cache would take {held / 2**30:,.0f} GiB; give a smaller window or width")
        # The heads read both the prediction of a step and the step itself (`head_inputs`).
        features = config.dynamics.width + tokenizer.code_dim
        self.heads = Heads(
            config.heads,
            tokens,
            features,
            len(config.signal_names),
            config.action.num_features,
            predicted=config.dynamics.width,
        )
        self.starts: Starts | None = None

    @property
    def draws_ends(self) -> bool:
        """True if ends of dreams are drawn with their probability (`HeadsConfig.ends`)."""
        return self.config.heads.ends == "drawn"

    @property
    def frames_per_step(self) -> int:
        return self.config.tokenizer.frames_per_step

    @property
    def height(self) -> int:
        return self.config.tokenizer.height

    @property
    def width(self) -> int:
        return self.config.tokenizer.width

    @property
    def device(self) -> torch.device:
        return self.tokenizer.device

    @property
    @own_defaults
    def usual_signals(self) -> Tensor:
        """(G,) float32: median of each game variable over the start segments; zeros if the model has no starts.

        Used when the caller gives no signals. Zeros can mean the end: with health 0 a dream of Doom is over.
        """
        if self.starts is None or not len(self.starts.signals):
            return torch.zeros(len(self.config.signal_names), device=self.device)
        return self.starts.signals[:, -1].float().median(0).values.to(self.device)

    def prepare(self, dtype: torch.dtype | str = "auto") -> Self:
        """Switch to evaluation mode with matmuls in `dtype`, ready for dreaming; returns self.

        Warns once where the device multiplies matrices of that dtype much more slowly than float32.

        Weights changed through `.data` take effect from here on: everything cached of them is dropped. On a CPU it
        also lets the process keep freed memory (`worldmodel.layers.cpu.memory`).
        """
        if isinstance(dtype, str):
            if dtype != "auto":
                raise ValueError(f"dtype must be 'auto' or a torch.dtype, got {dtype!r}")
            dtype = fast_dtype(self.device)
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be 'auto', torch.float32, torch.bfloat16 or torch.float16, got {dtype}")
        warn_if_slow(self.device, dtype)
        if self.device.type == "cpu":
            keep_freed_memory()
        cast_matmuls(self, dtype)
        self.dynamics.forget_derived()
        return self.eval().requires_grad_(False)

    def fingerprint(self) -> str:
        """SHA-256 of the weights a dream's state depends on: codebooks and dynamics, without the weights of matmuls.

        The same for every dtype of the matmuls. Saved with dream states, so that another world refuses them.
        """
        found = hashlib.sha256()
        for name, tensor in (*self.tokenizer.code_vectors.items(), *uncast_tensors(self.dynamics)):
            found.update(name.encode())
            found.update(tensor.detach().float().cpu().contiguous().numpy().data)
        return found.hexdigest()

    def head_inputs(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Inputs of the heads: outputs (..., S, D) that predict a step, and its codes (..., h, w, M) -> (..., S, D+E).

        Heads read the sampled step as well as the prediction; otherwise they reward picking up an item that the sample
        leaves in place.
        """
        vectors = self.tokenizer.lookup(codes.flatten(-3, -2))
        return torch.cat((outputs, vectors.to(outputs.dtype)), dim=-1)

    def head_action(self, actions: Tensor) -> Tensor | None:
        """Actions (...) or (..., A) as inputs of the heads; None if these read no actions."""
        return self.dynamics.action.features(actions) if self.heads.law_out is not None else None

    @own_defaults
    def loss(self, batch: CodeBatch) -> DynamicsLoss:
        """Loss of dynamics and heads on encoded segments; the tokenizer gets no gradient."""
        lead = self.config.dynamics.lead
        nats, outputs = self.dynamics.code_loss(*self._steps(batch))
        mask = batch.padding_mask
        outputs = outputs[:, lead:]
        out = self._read_heads(outputs, batch)
        losses = self.heads.loss(out, batch.rewards, batch.terminated, batch.signals.diff(dim=1))
        read = mask
        if self.training:  # training may predict some steps only; in a dream heads never read zeros in place of a step
            read = mask & outputs.detach().flatten(2).any(-1)
        counted = torch.cat((mask[:, :lead], mask), dim=1)  # the first step counts where the one after it does
        if self.draws_ends:  # then the codes of a dream are those of play that continues
            counted = counted & ~torch.cat((torch.zeros_like(mask[:, :lead]), batch.terminated), dim=1)
        steps = self._count(read)
        reward, termination, signals = ((part * read).sum() / steps for part in losses)
        codes = (nats * counted).sum() / self._count(counted)
        total = codes + 0.5 * reward + 0.5 * termination + 0.1 * signals
        return DynamicsLoss(total, codes, reward, termination, signals)

    def _count(self, mask: Tensor) -> Tensor:
        """Number of steps that count, at least 1.

        If several processes train together, the mean of their numbers: then the mean of their losses is the loss of
        the whole batch, however the steps are shared among them.
        """
        count = mask.sum()
        if self.training and distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(count)
            count = count / distributed.get_world_size()
        return count.clamp_min(1)

    @own_defaults
    @torch.inference_mode()
    def predict(self, batch: CodeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Heads on real steps: rewards (B, T), termination probabilities (B, T), changes of the signals (B, T, G)."""
        outputs = self.dynamics.outputs(*self._steps(batch))
        out = self._read_heads(outputs[:, self.config.dynamics.lead :], batch)
        probability = self.heads.termination_probability(out)
        return self.heads.reward_mean(out, probability), probability, self.heads.changes_mean(out, probability)

    def _steps(self, batch: CodeBatch) -> tuple[Tensor, Tensor, Tensor | None, CodeLookup]:
        """The arguments of the dynamics' `code_loss`."""
        if self.config.dynamics.frame_condition and batch.frames is None:
            raise ValueError("this model reads the first frames of a segment: batch.frames must not be None")
        return batch.codes.flatten(2, 3), batch.actions, batch.frames, self.tokenizer.lookup

    def _read_heads(self, outputs: Tensor, batch: CodeBatch) -> HeadsOut:
        """Heads on the steps after the first, given the outputs (B, T, S, D) that predict them."""
        tokens = self.head_inputs(outputs, batch.codes[:, 1:])
        return self.heads(tokens, batch.signals[:, :-1], self.head_action(batch.actions))


def default_segment_steps(model: DynamicsConfig, tokenizer: TokenizerConfig) -> int:
    """Default length of a training segment: a clip's steps after its first, or the dynamics' own default."""
    if tokenizer.temporal != "step":
        return tokenizer.clip_steps - 1
    return model.segment_steps(tokenizer.num_slices)
