"""What a world model is trained on and judged by: the loss of encoded segments, and what its heads tell of real steps.

The functions behind `WorldModel.loss` and `predict`.

Letters: B rows, T steps, S tokens per step, D width, h w latent grid, M slices, G signals.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldmodel.dynamics.heads import HeadsOut
from worldmodel.dynamics.refine import known_in_passes
from worldmodel.model import contexts
from worldmodel.model.batches import CodeBatch, DynamicsLoss

if TYPE_CHECKING:
    from worldmodel.model import WorldModel


def loss(wm: "WorldModel", batch: CodeBatch) -> DynamicsLoss:
    """In training of one random pass of each step, else of all passes: of what a dream draws."""
    lead = wm.config.dynamics.lead
    targets = batch.codes[:, 1 - lead :].flatten(2, 3)
    told = _known(wm, batch)
    codes = asked = torch.zeros((), device=targets.device)
    for known, then in zip(told, (*told[1:], torch.ones_like(told[0])), strict=True):
        outputs, before = _outputs(wm, batch, known)
        new = then & ~known  # in training all that is not known: there is one pass
        codes = codes + (wm.dynamics.code_head.loss(outputs, targets, before) * new).sum(-1)
        asked = asked + new.sum(-1)
    mask = batch.padding_mask
    out = _read(wm, outputs[:, lead:], batch)
    heads = wm.heads.loss(out, batch.rewards, batch.terminated, batch.signals.diff(dim=1))
    steps = mask.sum().clamp_min(1)
    reward, termination, signals = ((part * mask).sum() / steps for part in heads)
    predicted = torch.cat((mask[:, :lead], mask), dim=1)  # the first step counts where the one after it does
    nats = (codes / asked * predicted).sum() / predicted.sum().clamp_min(1)
    total = nats + 0.5 * reward + 0.5 * termination + 0.1 * signals
    return DynamicsLoss(total, nats, reward, termination, signals)


def predict(wm: "WorldModel", batch: CodeBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards (B, T), termination probabilities (B, T), changes of the signals (B, T, G)."""
    outputs, _ = _outputs(wm, batch, _known(wm, batch)[-1])
    out = _read(wm, outputs[:, wm.config.dynamics.lead :], batch)
    two_hot = wm.heads.two_hot
    return two_hot.mean(out.reward), wm.heads.termination_probability(out), two_hot.mean(out.signals)


def _outputs(wm: "WorldModel", batch: CodeBatch, known: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs that predict steps 1..T, (B, T, S, D), after that of step 0 if the model learns how video begins.

    Also the codes of the step before each, (B, T, S, M) as the model was given them, -1 before step 0: in training
    with noise and with steps of its own drawing.
    """
    if wm.config.dynamics.frame_condition and batch.frames is None:
        raise ValueError("this model reads the first frames of a segment: batch.frames must not be None")
    given, told = contexts.given_codes(wm, batch)
    vectors, hints = (None if codes is None else wm.tokenizer.code_vectors(codes) for codes in (given, told))
    outputs = wm.dynamics(vectors, batch.actions, batch.frames, first=True, known=known, told=hints)
    return outputs, contexts.codes_before(wm.config.dynamics, given)


def _known(wm: "WorldModel", batch: CodeBatch) -> list[Tensor]:
    """Which tokens of the predicted steps the dynamics are told in each pass, (B, T or T+1, S) bool."""
    config, (rows, steps) = wm.config.dynamics, batch.codes.shape[:2]
    shape = rows, steps - 1 + config.lead, wm.dynamics.tokens_per_step
    return known_in_passes(shape, config.refine + 1, wm.training, batch.codes.device)


def _read(wm: "WorldModel", outputs: Tensor, batch: CodeBatch) -> HeadsOut:
    """What the heads read of the steps after the first, from the outputs (B, T, S, D) that predict them."""
    tokens, told = wm.head_inputs(outputs, batch.codes[:, 1:]), wm.head_action(batch.actions)
    return wm.heads(tokens, batch.signals[:, :-1], told)
