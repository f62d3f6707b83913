"""PixelCNNPair: dynamics of two priors, over the top codes of a clip and over its bottom codes given the top.

The first step of a clip is given, coded alone. The top prior draws the top of all other steps, then the bottom prior
draws their half-steps one after the other.

Letters: B batch, n videos, T steps of a clip, h w grid of tokens, S = h*w, M = 9 codes of a token, D width.
Time: `actions[:, t]` is taken after step t; step t+1 follows from it.
Source: Predicting Video with VQVAE, section 3.2 and appendix. What is ours: docs/predicting-video-with-vqvae.md.
"""

import torch
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.dynamics.base import Dynamics, VideoRequest
from worldmodel.dynamics.conditioning import ActionEmbedding, hide_rows
from worldmodel.dynamics.generation import check_request
from worldmodel.dynamics.pixelcnn.conditions import BottomCondition, GivenStep
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.pixelcnn.gated import bottom_shape, top_shape
from worldmodel.dynamics.pixelcnn.layout import HALVES, SLICES, Levels, join, split
from worldmodel.dynamics.pixelcnn.prior import Prior
from worldmodel.dynamics.pixelcnn.sampler import RowSampler
from worldmodel.dynamics.sampling import Sampling, uniforms
from worldmodel.layers.precision import Linear
from worldmodel.progress import stepwise
from worldmodel.tokenizer import CodeLookup, Tokenizer


class TopPrior(nn.Module):
    """p(top of the predicted steps | given step, actions)."""

    def __init__(self, config: PixelCNNConfig, grid: tuple[int, int], num_codes: int, code_dim: int) -> None:
        super().__init__()
        shape = top_shape(config.reach, config.past == "full")
        self.prior = Prior(config, shape, config.max_steps - 1, grid, num_codes, code_dim)
        self.given = GivenStep(config, num_codes, code_dim)
        self.acted = Linear(config.condition_width, config.width, bias=False)

    def condition(self, given: Levels, action_vectors: Tensor) -> Tensor:
        """Codes of the given step (T = 1), and vectors of the actions (B, T-1, C) -> (B, D, T-1, h, w)."""
        map_ = self.given(given.top[:, 0], given.bottom, action_vectors.shape[1])
        return map_ + self.acted(action_vectors).float().transpose(1, 2)[..., None, None]


class BottomPrior(nn.Module):
    """p(a half-step of the bottom | top of the clip, half-steps before, action)."""

    def __init__(self, config: PixelCNNConfig, grid: tuple[int, int], num_codes: int, code_dim: int) -> None:
        super().__init__()
        double = 2 * grid[0], 2 * grid[1]
        self.prior = Prior(config, bottom_shape(config.reach), 1, double, num_codes, code_dim)
        self.around = BottomCondition(config, num_codes, code_dim)
        self.acted = Linear(config.condition_width, config.width, bias=False)

    def condition(self, raised: Tensor, bottom: Tensor, half: Tensor, action_vectors: Tensor) -> Tensor:
        """Of half-steps n (B,), with the action vectors (B, C) that led to their steps -> (B, D, 1, 2h, 2w)."""
        return self.around(raised, bottom, half) + self.acted(action_vectors).float()[:, :, None, None, None]


class PixelCNNPair(Dynamics):
    """Dynamics of whole clips, which continue a given step."""

    config: PixelCNNConfig

    def __init__(
        self,
        config: PixelCNNConfig,
        grid: tuple[int, int],
        num_codes: int,
        num_slices: int,
        code_dim: int,
        action: ActionSpec,
        step_frames: tuple[int, int] = (4, 3),
    ) -> None:
        """Takes what every dynamics takes; `step_frames` is not used: these priors are given codes, not frames."""
        super().__init__()
        if num_slices != SLICES:
            raise ValueError(
                f"these priors draw a top code and the {SLICES - 1} bottom codes below it, so a token must hold "
                f'{SLICES} codes, got {num_slices}; train a tokenizer with net "hierarchical-vqvae"'
            )
        self.config, self.grid = config, grid
        self.tokens_per_step, self.num_slices = grid[0] * grid[1], num_slices
        features = code_dim // SLICES
        self.action = ActionEmbedding(action, config.condition_width, config.action_condition)
        self.top = TopPrior(config, grid, num_codes, features)
        self.bottom = BottomPrior(config, grid, num_codes, features)

    @property
    def cannot_dream(self) -> str:
        return (
            "the codes of a step depend on the steps after it, and no step can be decoded before its clip is complete. "
            "Make whole videos with sample(…)"
        )

    @property
    def given_steps(self) -> int:
        return 1

    @property
    def matmul_dtype(self) -> torch.dtype:
        return self.top.acted.weight.dtype

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Kernels and matrices between hidden layers: those of gated layers, attention and residual blocks."""
        inner = (".layers.", ".attention.", ".blocks.")
        return [p for name, p in self.named_parameters() if p.ndim > 1 and any(part in name for part in inner)]

    # --- training ------------------------------------------------------------------------------------------------

    def code_loss(
        self, codes: Tensor, actions: Tensor, frames: Tensor | None, lookup: CodeLookup
    ) -> tuple[Tensor, Tensor]:
        """Nats per code of each predicted step (B, T-1), and the top prior's outputs (B, T-1, S, D).

        In training mode the bottom prior reads `bottom_slices` random half-steps of each row. They stand for all of
        them: the expected value is that of evaluation mode, which reads every one.

        Args:
            codes: (B, T, S, 9), of which the first step is given, coded alone.
            actions: (B, T-1, …), one after each step but the last.
            frames, lookup: not read; the priors have features of codes of their own.
        """
        levels, action_vectors = self._read(codes, actions)
        nats, outputs = self.top.prior.nats(levels.top[:, 1:], self._top_condition(levels, action_vectors))
        of_halves = self._bottom_nats(levels, action_vectors).unflatten(1, (-1, HALVES)).sum(2)  # (B, T-1)
        return (nats.sum((2, 3)) + of_halves) / (SLICES * self.tokens_per_step), outputs.flatten(2, 3)

    def outputs(self, codes: Tensor, actions: Tensor, frames: Tensor | None, lookup: CodeLookup) -> Tensor:
        """Only the outputs of `code_loss`."""
        levels, action_vectors = self._read(codes, actions)
        return self.top.prior(levels.top[:, 1:], self._top_condition(levels, action_vectors)).flatten(2, 3)

    def _read(self, codes: Tensor, actions: Tensor) -> tuple[Levels, Tensor]:
        """Codes by level, and vectors of the actions (B, T-1, C)."""
        if not 2 <= codes.shape[1] <= self.config.max_steps:
            raise ValueError(
                f"a clip has from 2 to max_steps = {self.config.max_steps} steps, got {codes.shape[1]}; cut the video "
                "into clips, or set max_steps and train again"
            )
        action_vectors = self.condition(len(codes), codes.shape[1] - 1, actions).steps
        if self.training and self.config.drop_actions:
            action_vectors = hide_rows(action_vectors, self.action.null, self.config.drop_actions)
        return split(codes.unflatten(2, self.grid)), action_vectors

    def _top_condition(self, levels: Levels, action_vectors: Tensor) -> Tensor:
        return self.top.condition(Levels(levels.top[:, :1], levels.bottom[:, :HALVES]), action_vectors)

    def _bottom_nats(self, levels: Levels, action_vectors: Tensor) -> Tensor:
        """Nats of each predicted half-step (B, 2(T-1)); zeros where a half-step was not chosen."""
        top, bottom = levels
        rows, count = len(top), bottom.shape[1] - HALVES
        order = torch.arange(count, device=top.device).expand(rows, -1)
        chosen = count
        if self.training:
            chosen = min(self.config.bottom_slices, count)
            order = torch.rand(rows, count, device=top.device).argsort(1)
        raised = self.bottom.around.top.raised(top)
        nats = torch.zeros(rows, count, device=top.device)
        for half in order[:, :chosen].unbind(1):
            acted = action_vectors[torch.arange(rows, device=top.device), half // HALVES]
            condition = self.bottom.condition(raised, bottom, half + HALVES, acted)
            targets = bottom[torch.arange(rows, device=top.device), half + HALVES][:, None]
            of_half = self.bottom.prior.nats(targets, condition)[0].sum((1, 2, 3))
            nats = nats.scatter_add(1, half[:, None], of_half[:, None] * (count / chosen))
        return nats

    # --- video ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def generate(self, tokenizer: Tokenizer, codes: Tensor, request: VideoRequest) -> Tensor:
        """Continue the given step (n, 1, h, w, 9) to a clip: (n, steps, h, w, 9). First frames are not read."""
        config, (steps, seeds, _, actions, options, counter) = self.config, request
        if codes.shape[1] != 1:
            raise ValueError(
                f"these dynamics continue one given step, coded alone; got {codes.shape[1]} steps of codes"
            )
        if not 2 <= steps <= config.max_steps:
            raise ValueError(f"a clip has from 2 to max_steps = {config.max_steps} steps, got steps {steps}")
        check_request(config, True, actions is not None, options)
        noises = [uniforms(seeds, torch.full_like(seeds, counter + t), self.noise_per_step) for t in range(steps - 1)]
        noise = split(torch.stack(noises, dim=1).unflatten(2, (*self.grid, SLICES)))
        action_vectors = self.condition(len(codes), steps - 1, actions).steps
        times = 2 if options.guided else 1
        if options.guided:
            action_vectors = torch.cat((action_vectors, self.condition(len(codes), steps - 1).steps))
        given = split(codes)
        top = self._draw_top(given, action_vectors, noise.top, options, times)
        return join(Levels(top, self._draw_bottom(top, given.bottom, action_vectors, noise.bottom, options, times)))

    def _draw_top(self, given: Levels, action_vectors: Tensor, noise: Tensor, options: Sampling, times: int) -> Tensor:
        """The given slice and the drawn ones, (n, T, h, w); with guidance `action_vectors` has twice as many rows."""
        twice = Levels(*(level.repeat(times, 1, 1, 1) for level in given))
        sampler = RowSampler(self.top.prior, self.top.condition(twice, action_vectors), options)
        times_ahead = stepwise(range(action_vectors.shape[1]), "step", "sample the top level")
        slices = [sampler.draw(time, noise[:, time].flatten(1)) for time in times_ahead]
        return torch.stack((given.top[:, 0], *slices), dim=1)

    def _draw_bottom(
        self, top: Tensor, given: Tensor, action_vectors: Tensor, noise: Tensor, options: Sampling, times: int
    ) -> Tensor:
        """The given half-steps and the drawn ones, (n, 2T, 2h, 2w)."""
        bottom = given
        raised = self.bottom.around.top.raised(top).repeat(times, 1, 1, 1, 1)
        for half in stepwise(range(noise.shape[1]), "half-step", "sample the bottom level"):
            now = torch.full((times * len(top),), half + HALVES, device=top.device)
            condition = self.bottom.condition(
                raised, bottom.repeat(times, 1, 1, 1), now, action_vectors[:, half // HALVES]
            )
            drawn = RowSampler(self.bottom.prior, condition, options).draw(0, noise[:, half].flatten(1))
            bottom = torch.cat((bottom, drawn[:, None]), dim=1)
        return bottom
