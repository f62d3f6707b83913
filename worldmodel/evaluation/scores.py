"""Scores of tokenizer, dynamics and heads on data passed in, shared by training's validation and the reports.

Letters: B segments, N any flattened set, T steps, F frames of a step, H W C pixels, h w latent grid, M slices, V codes.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.evaluation.metrics import auroc, best_f1_threshold, bits, codes_in_use, f1, perplexity
from worldmodel.model import CodeBatch, WorldModel
from worldmodel.progress import progress_if_long, stepwise
from worldmodel.tokenizer import Tokenizer

CHUNK = 32  # segments that pass through a model at a time


def chunks(batch: CodeBatch, device: torch.device) -> Iterator[CodeBatch]:
    """Split a large batch into pieces that fit through a model on `device`."""
    for part in stepwise(batch.split(CHUNK), "batch", "predict"):
        yield part.to(device)


# --- tokenizer -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def decode_given(tokenizer: Tokenizer, frames: Tensor, device: torch.device | str) -> Tensor | None:
    """Clips (B, T, F, H, W, C) uint8 as a prediction sees them, decoded from `encode_given`, on the CPU.

    None if these are the codes of `encode`.
    """
    if type(tokenizer).encode_given is Tokenizer.encode_given:
        return None
    parts = (tokenizer.decode(tokenizer.encode_given(part.to(device))).cpu() for part in frames.split(CHUNK))
    return torch.cat(list(parts))


@torch.inference_mode()
def encode_decode(tokenizer: Tokenizer, frames: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Frames (B, T, F, H, W, C) uint8 -> codes (B, T, h, w, M) int64 and their reconstruction, both on the CPU.

    A clip tokenizer encodes clip by clip. The last clip ends with the video; only its steps that no earlier clip covers
    are used. `device` is the tokenizer's.
    """
    rows_of = stepwise(frames.split(CHUNK), "batch", "encode and decode")
    parts = [_pieces(tokenizer, rows, device) for rows in rows_of]
    codes, decoded = (torch.cat(column) for column in zip(*parts, strict=True))
    return codes, decoded


def _pieces(tokenizer: Tokenizer, frames: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """`encode_decode` for a few rows."""
    steps = frames.shape[1]
    length = tokenizer.config.clip_steps if tokenizer.config.temporal == "clip" else steps
    codes, decoded = [], []
    for index, begin in enumerate([*range(0, steps - length, length), max(steps - length, 0)]):
        piece = tokenizer.encode(frames[:, begin : begin + length].to(device))
        new = index * length - begin  # steps that earlier pieces cover; above 0 only in the last piece
        codes.append(piece[:, new:].cpu())
        decoded.append(tokenizer.decode(piece)[:, new:].cpu())
    return torch.cat(codes, dim=1), torch.cat(decoded, dim=1)


def code_use(codes: Tensor, num_codes: int) -> dict[str, Any]:
    """Per slice of codes (..., M): number of the V = `num_codes` codes in use, and the perplexity of their usage."""
    counts = torch.stack([slice_N.bincount(minlength=num_codes) for slice_N in codes.flatten(0, -2).T])
    return {
        "num_codes": num_codes,
        "codes_in_use": codes_in_use(counts).tolist(),
        "perplexity": perplexity(counts).tolist(),
    }


# --- videos ----------------------------------------------------------------------------------------------------------


def sampled(
    wm: WorldModel,
    count: int,
    steps: int,
    seed: int,
    first_frames: Tensor | None = None,
    actions: Tensor | None = None,
    *,
    label: str = "dream",
    **options: Any,
) -> Tensor:
    """Frames of `wm.sample`, made a few videos at a time: (count, T, F, H, W, C) uint8 on the CPU.

    Args:
        seed: of the first video; the others take the next numbers, so a video does not depend on those beside it.
        label: of the progress bar, if it takes long.
        options: temperature and other options of `sample`.
    """
    parts = []
    with progress_if_long(count, "clip", label) as bar:
        for first in range(0, count, CHUNK):
            rows = range(count)[first : first + CHUNK]
            given = {"first_frames": first_frames, "actions": actions}
            own: dict[str, Any] = {
                name: None if part is None else part[rows.start : rows.stop] for name, part in given.items()
            }
            seeds = range(seed + rows.start, seed + rows.stop)
            parts.append(wm.sample(len(rows), steps, **own, seeds=seeds, **options).frames.cpu())
            bar.update(len(rows))
    return torch.cat(parts)


# --- dynamics --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def mean_losses(wm: WorldModel, batch: CodeBatch) -> dict[str, float]:
    """Every part of the model's loss by name, as if the whole batch had passed through the model at once."""
    parts, lead = list(batch.split(CHUNK)), wm.config.dynamics.lead
    steps = [int(part.padding_mask.sum()) for part in parts]
    # A model that learns how a segment begins also predicts the first step, where the one after it counts.
    coded = [count + int(part.padding_mask[:, :lead].sum()) for part, count in zip(parts, steps, strict=True)]
    if wm.draws_ends:  # the codes of steps that ended an episode do not count
        ends = [int((part.terminated & part.padding_mask).sum()) for part in parts]
        coded = [max(1, count - ended) for count, ended in zip(coded, ends, strict=True)]
    losses = [wm.loss(part)._asdict() for part in chunks(batch, wm.device)]
    columns = {name: [float(loss[name]) for loss in losses] for name in losses[0]}
    columns["total"] = [total - codes for total, codes in zip(columns["total"], columns["codes"], strict=True)]
    means = {
        name: float(np.average(values, weights=coded if name == "codes" else steps)) for name, values in columns.items()
    }
    return means | {"total": means["total"] + means["codes"]}


def code_scores(wm: WorldModel, batch: CodeBatch, nats: float) -> dict[str, float]:
    """Bits per code, and the ratio of the loss with another segment's actions to `nats`, the loss with the true ones.

    A ratio of 1 means that the model ignores actions; a single segment has no others to swap with, and a loss of 0, as
    of frames that never change, has no ratio. If another segment is shorter, its actions are repeated from the
    beginning, because padding is not recorded play.
    """
    scores = {"bits_per_code": bits(nats)}
    if len(batch.codes) > 1 and nats > 0:
        shuffled = replace(batch, actions=_of_another(batch))
        scores["shuffled_action_ratio"] = mean_losses(wm, shuffled)["codes"] / nats
    return scores


def _of_another(batch: CodeBatch) -> Tensor:
    """The actions (B, T, …) of the previous row, repeated from the beginning in place of padding."""
    time_T = torch.arange(1, batch.padding_mask.shape[1] + 1, device=batch.padding_mask.device)
    played_B = (batch.padding_mask * time_T).amax(1, keepdim=True).clamp(min=1)  # up to the last step that counts
    rows_B = torch.arange(len(batch.codes), device=time_T.device)[:, None]
    return batch.actions[rows_B, (time_T - 1) % played_B].roll(1, dims=0)


# --- heads -----------------------------------------------------------------------------------------------------------


def head_scores(wm: WorldModel, batch: CodeBatch, validation: CodeBatch | None) -> dict[str, Any]:
    """How well the heads distinguish rewarded steps (reward above 0) and ends of episodes from the rest.

    The reward head's threshold for F1 is the best one on the validation segments; without those there is no F1. The
    termination head has its own. A head whose event never or always happens in `batch` has no scores.
    """
    reward, real, probability, terminated = predictions(wm, batch)
    rewarded = real > 0
    scores: dict[str, Any] = {}
    if (area := auroc(reward, rewarded)) is not None:
        scores["positive_reward"] = {"events": int(rewarded.sum()), "steps": len(rewarded), "auroc": area}
        threshold = None
        if validation is not None:
            predicted, actual, _, _ = predictions(wm, validation)
            threshold = best_f1_threshold(predicted, actual > 0)
        if threshold is not None:
            scores["positive_reward"] |= {"threshold": threshold, "f1": f1(reward >= threshold, rewarded)}
    if (area := auroc(probability, terminated)) is not None:
        threshold = float(wm.heads.threshold)
        scores["termination"] = {
            "events": int(terminated.sum()),
            "steps": len(terminated),
            "auroc": area,
            "threshold": threshold,
            "f1": f1(probability >= threshold, terminated),
        }
    return scores


def predictions(wm: WorldModel, batch: CodeBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For the batch's real steps, (N,) each: expected and real reward, probability of an end, whether it came."""
    columns = []
    for part in chunks(batch, wm.device):
        reward, probability, _ = wm.predict(part)
        values = (reward, part.rewards, probability, part.terminated)
        columns.append([value[part.padding_mask].cpu() for value in values])
    reward, real, probability, terminated = (torch.cat(column) for column in zip(*columns, strict=True))
    return reward, real, probability, terminated
