"""Dynamics: the interface of every model of codes, whatever its network.

Letters: B batch, T steps, F frames of a step, H W C pixels, h w latent grid, S = h*w tokens per step, M slices,
D width, R features of the frame vector.
Time: `actions[:, t]` is taken after step t; step t+1 follows from it.
"""

from abc import ABC, abstractmethod
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.dynamics.conditioning import ActionEmbedding, Condition
from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.sampling import Draw, Sampling
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.layers.attention import KVCache
from worldmodel.layers.weight_cache import WeightCache
from worldmodel.settings import BY_NET
from worldmodel.tokenizer import CodeLookup, Tokenizer

# The configs of all dynamics, distinguished by their entry `net`; module build has the dynamics of each.
DynamicsConfig = Annotated[GPTConfig | PixelCNNConfig | SubscaleConfig, BY_NET]


class VideoRequest(NamedTuple):
    """What n videos are drawn with."""

    steps: int  # of each, the given ones included
    seeds: Tensor  # (n,) int64
    first_frames: Tensor | None = None  # (n, at least frame_condition, F, H, W, C) uint8, with frame_condition
    actions: Tensor | None = None  # (n, steps - 1, …); None: unknown
    options: Sampling = Sampling()
    counter: int = 0  # the first drawn step has this counter, later steps the following ones


class Dynamics(nn.Module, ABC):
    """p(codes of a step | codes of other steps, actions, first frames)."""

    config: DynamicsConfig
    tokens_per_step: int  # S
    num_slices: int  # M
    action: ActionEmbedding

    @property
    def cannot_dream(self) -> str:
        """Why these dynamics cannot draw one step after the other; empty if they can, with `burn_in` and `step`."""
        return ""

    @property
    def cannot_record(self) -> str:
        """Why the steps of a dream cannot be recorded as CUDA graphs; empty if they can."""
        return ""

    @property
    def given_steps(self) -> int:
        """Steps that every clip must be given as codes of these steps alone; 0: the model learned how a clip begins."""
        return 0

    @property
    def longest_clip(self) -> int | None:
        """Steps of the longest video that these dynamics draw at once, the given ones included; None: no limit."""
        return None

    # --- training ------------------------------------------------------------------------------------------------

    @abstractmethod
    def code_loss(
        self, codes: Tensor, actions: Tensor, frames: Tensor | None, lookup: CodeLookup
    ) -> tuple[Tensor, Tensor]:
        """Nats per code of each predicted step (B, T+lead), and the outputs that predict them (B, T+lead, S, D).

        Args:
            codes: (B, T+1, S, M) of real steps.
            actions: (B, T, …), one after each step but the last.
            frames: first steps (B, at least frame_condition, F, H, W, C) uint8; None without frame_condition.
            lookup: the tokenizer's code vectors.
        """

    def outputs(self, codes: Tensor, actions: Tensor, frames: Tensor | None, lookup: CodeLookup) -> Tensor:
        """Only the outputs of `code_loss`."""
        return self.code_loss(codes, actions, frames, lookup)[1]

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Weights between hidden layers, which Muon may train; none by default."""
        return []

    # --- video ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def generate(self, tokenizer: Tokenizer, codes: Tensor, request: VideoRequest) -> Tensor:
        """Continue codes (n, T, h, w, M), T >= 0, to the requested steps: (n, steps, h, w, M).

        Raises: ValueError if the model was not trained for these conditions.
        """

    # --- conditions ----------------------------------------------------------------------------------------------

    def frame_vector(self, frames: Tensor | None, rows: int) -> Tensor | None:
        """First frames (B, T, F, H, W, C) uint8 -> (B, R); None without frame_condition."""
        return None

    def condition(
        self, rows: int, inputs: int, actions: Tensor | None = None, frame_vector: Tensor | None = None
    ) -> Condition:
        """Conditions of inputs, from the actions (B, inputs, …) that led to the predicted steps; None: unknown."""
        return Condition(self.action.inputs(actions, rows, inputs), frame_vector)

    # --- dreams: only where `cannot_dream` is empty --------------------------------------------------------------

    @property
    def noise_per_step(self) -> int:
        """Number of random numbers per step."""
        return self.tokens_per_step * self.num_slices

    @property
    def cache_shape(self) -> tuple[int, tuple[int, int, int, int]]:
        """Number of key tensors in a cache, and the shape of one row of them; (0, …) without a cache."""
        return 0, (0, 0, 0, 0)

    def burn_in(self, codes: Tensor, condition: Condition, lookup: CodeLookup) -> tuple[KVCache, Tensor]:
        """Fill a cache from context steps (B, T, S, M), so that `step` can continue after the last of them.

        Also returns the outputs (B, S, D) that predict the last context step: zeros without inputs.
        """
        raise ValueError(self.cannot_dream)

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
        """Draw the step after `codes` (B, S, M) and advance the cache in place -> draw, outputs (B, S, D)."""
        raise ValueError(self.cannot_dream)

    def move(self, cache: KVCache, clock: int) -> KVCache:
        """Shift a cache in time, so that its rows can join those of a cache with this clock."""
        raise ValueError(self.cannot_dream)

    # --- weights -------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def matmul_dtype(self) -> torch.dtype:
        """Dtype of the matmuls."""

    @property
    def cache_dtype(self) -> torch.dtype:
        """Dtype of a cache's keys and values; int64 if it holds codes as "keys", its "values" then have no features."""
        return self.matmul_dtype

    @property
    def derived(self) -> list[WeightCache]:
        """Caches of values computed from weights outside training."""
        return []

    def forget_derived(self) -> None:
        """Drop these caches; they are recomputed when needed."""
        for cache in self.derived:
            cache.forget()

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.forget_derived()
