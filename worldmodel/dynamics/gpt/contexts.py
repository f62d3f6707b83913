"""Inputs of the dynamics in training: real codes, some replaced by the model's own samples and by noise.

A dream continues from steps that the model sampled, errors included. A model trained on real steps alone has never seen
such a past. The targets stay real.

Letters: B rows, T steps, S tokens per step, M slices.
Source: scheduled sampling (arXiv:1506.03099), in parallel (arXiv:1906.07651). Differs: whole steps are replaced, and
all passes draw with the same noise. So in order "block" without refine, n passes give the steps of a dream wherever at
most n steps in a row are replaced; this loss then equals that of a rollout of n steps.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.dynamics.gpt.refine import draw_groups
from worldmodel.dynamics.gpt.transformer import CodeTransformer
from worldmodel.dynamics.sampling import Sampling
from worldmodel.layers.compiling import uncompiled
from worldmodel.tokenizer import CodeLookup


class EncodedSteps(NamedTuple):
    """Encoded segments that the dynamics learn from."""

    codes: Tensor  # (B, T+1, S, M) int64
    actions: Tensor  # (B, T, …)
    frames: Tensor | None  # of the first steps, (B, at least frame_condition, F, H, W, C) uint8
    lookup: CodeLookup  # the tokenizer's


def given_codes(dynamics: CodeTransformer, real: EncodedSteps) -> tuple[Tensor, Tensor | None]:
    """Input codes of the dynamics, (B, T+1, S, M); in evaluation mode the real ones.

    For models with refine also the codes of the predicted steps from which the known tokens of a pass are taken,
    (B, T+lead, S, M): the known part of a real step must belong to the same step. None: the input codes.
    """
    config, num_codes = dynamics.config, dynamics.code_head.num_codes
    if not dynamics.training:
        return real.codes, None
    if not config.own_draws:
        return _noisy(config, real.codes, num_codes), None
    given = _noisy(config, _with_own_draws(dynamics, real), num_codes)
    return given, _noisy(config, real.codes, num_codes)[:, 1 - config.lead :] if config.refine else None


def codes_before(config: GPTConfig, codes: Tensor) -> Tensor:
    """The step before each predicted one, of steps 0..T (B, T+1, S, M): (B, T+lead, S, M); -1 before step 0."""
    return F.pad(codes[:, :-1], (0, 0, 0, 0, config.lead, 0), value=-1)


def _noisy(config: GPTConfig, codes: Tensor, num_codes: int) -> Tensor:
    """Codes (B, T+1, S, M), some replaced by random codes, and some tokens by other tokens of the batch."""
    if config.context_noise:
        wrong = torch.rand(codes.shape, device=codes.device) < config.context_noise
        codes = torch.where(wrong, torch.randint_like(codes, num_codes), codes)
    if config.token_noise:
        wrong = torch.rand(codes.shape[:-1], device=codes.device) < config.token_noise
        codes = torch.where(wrong[..., None], _other_tokens(codes, config.order == "block"), codes)
    return codes


def _other_tokens(codes: Tensor, whole_steps: bool) -> Tensor:
    """For each token a random one of any row that is not later in time, so that no token leaks the future."""
    rows, steps, tokens, _ = codes.shape
    visible = torch.arange(1, steps * tokens + 1, device=codes.device)  # number of tokens to choose from
    if whole_steps:  # up to the last token of the same step
        visible = (visible + tokens - 1) // tokens * tokens
    chosen = (torch.rand(rows, steps * tokens, device=codes.device) * visible).long().clamp_(max=visible - 1)
    others = codes.flatten(1, 2)[torch.randint(rows, chosen.shape, device=codes.device), chosen]
    return others.view_as(codes)


@uncompiled
@torch.no_grad()
def _with_own_draws(dynamics: CodeTransformer, real: EncodedSteps) -> Tensor:
    """Codes (B, T+1, S, M), some of the predicted steps replaced by samples of the model, given the steps before."""
    config, codes = dynamics.config, real.codes
    shape = len(codes), codes.shape[1] - 1 + config.lead
    noise = torch.rand((*shape, dynamics.noise_per_step), device=codes.device)
    mine = torch.rand((*shape, 1, 1), device=codes.device) < config.own_draws
    first, predicted = codes.tensor_split((1 - config.lead,), dim=1)
    given = codes
    dynamics.eval()  # as in dreams: no dropout, no hidden conditions
    try:
        for _ in range(config.own_draws_passes):
            drawn = _draw(dynamics, real._replace(codes=given), noise)
            given = torch.cat((first, torch.where(mine, drawn, predicted)), dim=1)
    finally:
        dynamics.train()
        torch.clear_autocast_cache()  # some versions of torch keep weights in it that were cast without gradients
    return given


def _draw(dynamics: CodeTransformer, given: EncodedSteps, noise: Tensor) -> Tensor:
    """Sample each predicted step given the steps before it, all in parallel: (B, T+lead, S, M).

    In raster order each token is sampled given the tokens before it.
    """
    config, look_up = dynamics.config, given.lookup
    count = dynamics.tokens_per_step * dynamics.num_slices
    of_codes, of_groups = noise[..., :count].unflatten(-1, (dynamics.tokens_per_step, -1)), noise[..., count:]
    vectors, before = look_up(given.codes), codes_before(config, given.codes)
    if not config.refine:
        outputs = dynamics(vectors, given.actions, given.frames, first=True)
        return dynamics.code_head.sample(outputs, of_codes, Sampling(), before=before).codes
    groups, drawn = draw_groups(of_groups, config.refine + 1), torch.zeros_like(of_codes, dtype=torch.int64)
    for now in range(config.refine + 1):
        hints = look_up(drawn)
        outputs = dynamics(vectors, given.actions, given.frames, first=True, known=groups < now, hint_vectors=hints)
        new = dynamics.code_head.sample(outputs, of_codes, Sampling(), before=before).codes
        drawn = torch.where((groups == now)[..., None], new, drawn)
    return drawn
