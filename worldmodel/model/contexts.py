"""What the dynamics are given in training in place of real codes: steps of their own drawing, and noise.

A dream goes on from steps that the model drew itself, with its errors; one that was given real steps alone has never
seen such a past. The targets stay real.

Letters: B rows, T steps, S tokens per step, M slices.
Source: scheduled sampling (arXiv:1506.03099), in parallel (arXiv:1906.07651). Differs: whole steps are replaced, and
all passes draw with the same noise. So in order "block" (without refine) the steps that n passes give are those of a
dream wherever at most n in a row are replaced: a loss of steps rolled out over n steps is this loss.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.dynamics.config import GPTConfig
from worldmodel.dynamics.refine import draw_groups
from worldmodel.dynamics.sampling import Sampling
from worldmodel.model.batches import CodeBatch

if TYPE_CHECKING:
    from worldmodel.model import WorldModel


def given_codes(wm: "WorldModel", batch: CodeBatch) -> tuple[Tensor, Tensor | None]:
    """The codes that the dynamics are given, (B, T+1, S, M): outside of training the real ones.

    Also those that they are told of the steps they predict, (B, T+lead, S, M), for models with refine: the rest of a
    real step goes with a part of the same one. None: the given ones.
    """
    config, real = wm.config.dynamics, batch.codes.flatten(2, 3)
    if not wm.training:
        return real, None
    if not config.own_draws:
        return _noisy(wm, real), None
    given = _noisy(wm, _with_own_draws(wm, batch, real))
    return given, _noisy(wm, real)[:, 1 - config.lead :] if config.refine else None


def codes_before(config: GPTConfig, codes: Tensor) -> Tensor:
    """Of steps 0..T (B, T+1, S, M) the one before each that is predicted, (B, T+lead, S, M); -1 before step 0."""
    return F.pad(codes[:, :-1], (0, 0, 0, 0, config.lead, 0), value=-1)


def _noisy(wm: "WorldModel", codes: Tensor) -> Tensor:
    """Codes (B, T+1, S, M), a share of them replaced by random ones, and a share of the tokens by others."""
    config = wm.config.dynamics
    if config.context_noise:
        wrong = torch.rand(codes.shape, device=codes.device) < config.context_noise
        codes = torch.where(wrong, torch.randint_like(codes, wm.tokenizer.num_codes), codes)
    if config.token_noise:
        wrong = torch.rand(codes.shape[:-1], device=codes.device) < config.token_noise
        codes = torch.where(wrong[..., None], _other_tokens(codes, config.order == "block"), codes)
    return codes


def _other_tokens(codes: Tensor, whole_steps: bool) -> Tensor:
    """For every token one of any row, of no later a place in time: what comes later must not be told."""
    rows, steps, tokens, _ = codes.shape
    place = torch.arange(1, steps * tokens + 1, device=codes.device)
    if whole_steps:  # up to the last token of the same step
        place = (place + tokens - 1) // tokens * tokens
    places = (torch.rand(rows, steps * tokens, device=codes.device) * place).long().clamp_(max=place - 1)
    others = codes.flatten(1, 2)[torch.randint(rows, places.shape, device=codes.device), places]
    return others.view_as(codes)


@torch.compiler.disable
@torch.no_grad()
def _with_own_draws(wm: "WorldModel", batch: CodeBatch, real: Tensor) -> Tensor:
    """Codes (B, T+1, S, M), a share of the predicted steps replaced by what the model draws from those before them."""
    gpt, config = wm.dynamics, wm.config.dynamics
    shape = len(real), real.shape[1] - 1 + config.lead
    noise = torch.rand((*shape, gpt.noise_per_step), device=real.device)
    mine = torch.rand((*shape, 1, 1), device=real.device) < config.own_draws
    first, predicted = real.tensor_split((1 - config.lead,), dim=1)
    given = real
    gpt.eval()  # as in dreams: nothing is dropped or hidden
    try:
        for _ in range(config.own_draws_passes):
            drawn = _draw(wm, batch, given, noise)
            given = torch.cat((first, torch.where(mine, drawn, predicted)), dim=1)
    finally:
        gpt.train()
        torch.clear_autocast_cache()  # some versions of torch keep weights in it that were cast without gradients
    return given


def _draw(wm: "WorldModel", batch: CodeBatch, given: Tensor, noise: Tensor) -> Tensor:
    """Draw each predicted step from the given ones before it, all at once: (B, T+lead, S, M).

    In raster order each token is drawn from the given ones before it.
    """
    gpt, config, look_up = wm.dynamics, wm.config.dynamics, wm.tokenizer.code_vectors
    count = gpt.tokens_per_step * gpt.num_slices
    of_codes, of_groups = noise[..., :count].unflatten(-1, (gpt.tokens_per_step, -1)), noise[..., count:]
    vectors, before = look_up(given), codes_before(config, given)
    if not config.refine:
        outputs = gpt(vectors, batch.actions, batch.frames, first=True)
        return gpt.code_head.sample(outputs, of_codes, Sampling(), before=before).codes
    groups, drawn = draw_groups(of_groups, config.refine + 1), torch.zeros_like(of_codes, dtype=torch.int64)
    for now in range(config.refine + 1):
        outputs = gpt(vectors, batch.actions, batch.frames, first=True, known=groups < now, told=look_up(drawn))
        new = gpt.code_head.sample(outputs, of_codes, Sampling(), before=before).codes
        drawn = torch.where((groups == now)[..., None], new, drawn)
    return drawn
