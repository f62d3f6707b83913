"""How the frames that a model predicts compare with the real ones, and with what needs no learning.

Letters: K clips, T steps of a clip, F frames of a step, N frames of a clip or shares, H W C pixels, h w latent grid,
M slices, V codes.
"""

import math
from collections.abc import Iterable
from itertools import takewhile
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from worldmodel.evaluation.inverse_dynamics import InverseDynamics, action_score, read
from worldmodel.evaluation.metrics import changed_pixels, psnr

_SHARES = torch.linspace(0.0, 0.999, 1000, dtype=torch.float64)  # probabilities that a code stays, of those tried
_KEPT = torch.tensor([0.0, 1.0], dtype=torch.float64)


def copied(clips: Tensor, judged_from: int) -> Tensor:
    """Clips (K, T, F, H, W, C) whose frames from `judged_from` on are the frame before them."""
    frames = clips.flatten(1, 2).clone()
    frames[:, judged_from:] = frames[:, judged_from - 1, None]
    return frames.view_as(clips)


def frame_scores(real: Tensor, made: Tensor, judged_from: int) -> dict[str, Any]:
    """Predicted frames beside real ones, both (K, T, F, H, W, C) uint8, from frame `judged_from` on.

    Returns: "predicted_psnr_db", and "psnr_by_frame", that of each of them; "copy_beaten_frames", how many frames from
    the first are closer to the real ones than the last given frame is; "changed_share", pixels that change between
    frames, in the samples over in reality.
    """
    clips = {"real": real.flatten(1, 2), "made": made.flatten(1, 2), "copy": copied(real, judged_from).flatten(1, 2)}
    by_frame = {
        name: [psnr(clips["real"][:, n], clips[name][:, n]) for n in range(judged_from, clips["real"].shape[1])]
        for name in ("made", "copy")
    }
    before, after = slice(judged_from - 1, -1), slice(judged_from, None)
    changed = {
        name: float(changed_pixels(clips[name][:, before], clips[name][:, after]).float().mean())
        for name in ("real", "made")
    }
    scores: dict[str, Any] = {
        "predicted_psnr_db": psnr(clips["real"][:, judged_from:], clips["made"][:, judged_from:]),
        "psnr_by_frame": by_frame["made"],
        "copy_beaten_frames": float(_leading(a > b for a, b in zip(by_frame["made"], by_frame["copy"], strict=True))),
    }
    return scores | ({"changed_share": changed["made"] / changed["real"]} if changed["real"] else {})


def _leading(truths: Iterable[bool]) -> int:
    return len(list(takewhile(bool, truths)))


def action_scores(
    judge: InverseDynamics, real: Tensor, made: Tensor, actions: Tensor, judged_from: int
) -> dict[str, float]:
    """How well the actions (K, T-1, …) are recognised in predicted and in real frames; {} if there is only one.

    Accuracy, or the share of the variance explained of box actions, of the transitions into predicted steps.
    """
    if judge.action.kind == "discrete" and judge.action.n == 1:
        return {}
    first = -(-judged_from // real.shape[2]) - 1
    truth = actions[:, first:].flatten(0, 1)

    def score(clips: Tensor) -> float:
        return action_score(judge.action, read(judge, clips[:, first:])[0], truth)

    return {"action_score": score(made), "action_score_real": score(real)}


def baseline_bits(codes: Tensor, num_codes: int) -> dict[str, float]:
    """Bits per code of two predictions that look at no neighbour, for the steps after the first of (K, T, h, w, M).

    "unigram_bits": every slice's codes by their frequency. "copy_bits": the code of the step before with some
    probability, else one by frequency; the best probability for each slice. Both are fitted to these very codes, so
    they are a little better than could be predicted.
    """
    unigram, copy = [], []
    for before, after in zip(codes[:, :-1].unbind(-1), codes[:, 1:].unbind(-1), strict=True):
        kept = 2 * after.flatten() + (before == after).flatten()
        counts_V2 = kept.bincount(minlength=2 * num_codes).view(-1, 2).double()  # of each code: changed, kept
        frequency_V = counts_V2.sum(1) / counts_V2.sum()
        likelihood_NV2 = (1 - _SHARES[:, None, None]) * frequency_V[:, None] + _SHARES[:, None, None] * _KEPT
        bits_N = -torch.xlogy(counts_V2, likelihood_NV2).sum((1, 2)) / counts_V2.sum() / math.log(2)
        unigram.append(float(bits_N[0]))  # copies nothing
        copy.append(float(bits_N.min()))
    return {"unigram_bits": fmean(unigram), "copy_bits": fmean(copy)}
