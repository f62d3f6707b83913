"""Scores of a world model on held-out episodes.

Letters: B segments, N any flattened set, T steps of a segment, F frames of a step, H W C pixels, h w latent grid,
M slices, V codes.
"""

import math
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data import EpisodeStorage, SegmentId
from worldmodel.data.clips import sample_frames
from worldmodel.evaluation.metrics import changed_pixels, copy_bits, masked_nmse, nmse, psnr, ssim
from worldmodel.evaluation.scores import CHUNK, code_scores, decode_given, encode_decode, mean_losses
from worldmodel.model import CodeBatch, WorldModel
from worldmodel.model.network import default_segment_steps
from worldmodel.progress import stepwise

# --- data ------------------------------------------------------------------------------------------------------------


def check_measurable(wm: WorldModel, store: EpisodeStorage) -> None:
    """Refuse a model that is not prepared for dreaming, and episodes whose actions differ from the model's."""
    if wm.training:
        raise ValueError("the world model is in training mode, which adds noise; call wm.prepare() first")
    if store.info.action != wm.config.action:
        raise ValueError(
            f"the model's actions are {wm.config.action}, those of {store.root} are {store.info.action}; "
            "evaluate it on episodes of the game it was trained on"
        )


def held_out_segments(store: EpisodeStorage, split: str, num_steps: int) -> Iterator[tuple[SegmentId, int]]:
    """Segments of `num_steps` steps that cover every step of a split, and the number of leading steps not to count.

    The last segment of an episode overlaps the one before it, so that each step counts once and the end of an episode
    has as much context as its middle.
    """
    lengths = store.lengths
    for episode in store.split(split).tolist():
        for first in range(0, lengths[episode], num_steps):
            stop = min(first + num_steps, lengths[episode])
            start = max(0, stop - num_steps)
            yield SegmentId(episode, start, stop), first - start


def _tiles(wm: WorldModel, store: EpisodeStorage, split: str) -> tuple[list[tuple[SegmentId, int]], int]:
    """The `held_out_segments` that a model is measured on, and their steps."""
    steps = default_segment_steps(wm.config.dynamics, wm.config.tokenizer)
    tiles = list(held_out_segments(store, split, steps))
    if wm.config.tokenizer.temporal != "step":
        tiles = [tile for tile in tiles if tile[0].stop - tile[0].start == steps]
    return tiles, steps


def has_segments(wm: WorldModel, store: EpisodeStorage, split: str) -> bool:
    """Whether a split has an episode to measure on: with a tokenizer of clips, one as long as a clip."""
    return bool(_tiles(wm, store, split)[0])


def encode_segments(wm: WorldModel, store: EpisodeStorage, split: str, max_segments: int, seed: int = 0) -> CodeBatch:
    """Up to `max_segments` held-out segments as codes, in random order; steps counted by another segment are masked.

    Includes the first frames for models with a frame_condition. With a clip or causal tokenizer a segment is one clip,
    and shorter episodes are skipped.
    """
    given = wm.config.dynamics.frame_condition
    tiles, steps = _tiles(wm, store, split)
    if not tiles:
        raise ValueError(
            f"split {split!r} of {store.root} has no episode to measure on; collect more or choose another"
        )
    order = _drawn(tiles, max_segments, seed)
    parts = []
    for rows in stepwise(np.split(order, range(CHUNK, len(order), CHUNK)), "batch", "encode"):
        segments = [store.segment(tiles[row][0], steps) for row in rows]
        columns = {
            name: torch.from_numpy(np.stack([getattr(segment, name) for segment in segments])).to(wm.device)
            for name in ("frames", "actions", "rewards", "terminated", "signals", "padding_mask")
        }
        for mask, row in zip(columns["padding_mask"], rows, strict=True):
            mask[: tiles[row][1]] = False
        frames = columns.pop("frames")
        with torch.inference_mode():
            codes = wm.tokenizer.encode_given(frames)
        parts.append(CodeBatch(codes=codes, **columns, frames=frames[:, :given].clone() if given else None))
    return CodeBatch.join(parts)


def plays_of_steps(
    wm: WorldModel, store: EpisodeStorage, split: str, max_segments: int, seed: int, batch: CodeBatch
) -> NDArray[np.int64]:
    """The recording of each step that counts, (N,), of the `batch` that `encode_segments` made with these arguments."""
    tiles, _ = _tiles(wm, store, split)
    of_segment = store.plays[[tiles[row][0].episode for row in _drawn(tiles, max_segments, seed)]]
    mask = batch.padding_mask.cpu().numpy()
    return np.broadcast_to(of_segment[:, None], mask.shape)[mask]


def _drawn(tiles: Sequence[Any], max_segments: int, seed: int) -> NDArray[np.int64]:
    """The segments to measure on, in random order."""
    return np.random.default_rng(seed).permutation(len(tiles))[:max_segments]


def real_codes(batch: CodeBatch) -> Tensor:
    """(N, h, w, M) int64: the codes of the steps that count."""
    return batch.codes[:, 1:][batch.padding_mask]


# --- tokenizer -------------------------------------------------------------------------------------------------------


def tokenizer_scores(
    wm: WorldModel, store: EpisodeStorage, split: str, num_steps: int, seed: int = 0
) -> dict[str, float]:
    """Reconstruction quality of about `num_steps` steps of a split: NMSE, PSNR in dB and SSIM.

    Steps are drawn individually, or as clips if the tokenizer encodes clips. "given_over_whole" is the NMSE of clips
    whose given steps are encoded alone, relative to that of whole clips; absent where that makes no difference.
    """
    length, variance = wm.tokenizer.config.piece_steps, wm.tokenizer.config.data_variance
    frames = sample_frames(store, max(1, num_steps // length), np.random.default_rng(seed), split, length)
    _, reconstruction = encode_decode(wm.tokenizer, frames, wm.device)
    error = nmse(frames, reconstruction, variance)
    given = decode_given(wm.tokenizer, frames, wm.device)
    return {
        "steps": len(frames) * length,
        "nmse": error,
        **({} if given is None else {"given_over_whole": nmse(frames, given, variance) / error}),
        "psnr_db": psnr(frames, reconstruction),
        "ssim": ssim(frames, reconstruction),
    }


def change_scores(
    wm: WorldModel, store: EpisodeStorage, split: str, num_steps: int, seed: int = 0, small: float = 0.1
) -> dict[str, float | None]:
    """Reconstruction quality of moving content, which the mean over all pixels hides.

    A pixel has changed if a channel differs by more than a tenth of the range between the last frames of consecutive
    steps. NMSE is computed over the changed pixels of the later frame, and over the others. "small" counts only steps
    in which at most the share `small` of the pixels changed, but at least one: there the camera is fixed and the moving
    objects are small. None if there is no such pixel.
    """
    pairs = max(2, wm.tokenizer.config.piece_steps) - 1  # consecutive steps that are drawn together
    count = max(1, num_steps // pairs)
    frames = store.batch(store.sample_ids(count, pairs, np.random.default_rng(seed), split)).frames
    _, decoded = encode_decode(wm.tokenizer, frames, wm.device)
    truth, decoded = frames[:, 1:, -1].flatten(0, 1), decoded[:, 1:, -1].flatten(0, 1)  # (N, H, W, C)
    changed = changed_pixels(frames[:, :-1, -1].flatten(0, 1), truth)
    share_N = changed.float().mean((1, 2))
    is_small = (share_N > 0) & (share_N <= small)
    variance = wm.tokenizer.config.data_variance
    return {
        "changed_share": float(share_N.mean()),
        "nmse_changed": masked_nmse(truth, decoded, changed, variance),
        "nmse_unchanged": masked_nmse(truth, decoded, ~changed, variance),
        "small_steps": int(is_small.sum()),
        "nmse_changed_small": masked_nmse(truth, decoded, changed & is_small[:, None, None], variance),
    }


# --- dynamics --------------------------------------------------------------------------------------------------------


def dynamics_scores(wm: WorldModel, batch: CodeBatch, train: CodeBatch) -> dict[str, float]:
    """The `code_scores` of a batch per code and frame, and what predicting "no change" and nothing at all would cost.

    `train` says how many codes are to be expected to stay from one step to the next (`copy_bits`).
    """
    tokenizer = wm.tokenizer
    h, w = tokenizer.grid
    codes_per_frame = h * w * tokenizer.num_slices / wm.frames_per_step
    kept, expected = (float(_kept(part, wm.draws_ends)) for part in (batch, train))
    scores = code_scores(wm, batch, mean_losses(wm, batch)["codes"])
    scores |= {
        "segments": len(batch.codes),
        "steps": int(batch.padding_mask.sum()),
        "codes_per_frame": codes_per_frame,
        "bits_per_frame": scores["bits_per_code"] * codes_per_frame,
        "uniform_bits_per_code": math.log2(tokenizer.num_codes),
        "codes_kept": kept,
    }
    if 0.0 < expected < 1.0:
        scores["copy_bits_per_code"] = copy_bits(kept, expected, tokenizer.num_codes)
        scores["copy_bits_per_frame"] = scores["copy_bits_per_code"] * codes_per_frame
    return scores


def _kept(batch: CodeBatch, without_ends: bool) -> Tensor:
    """Share of codes that equal the code at the same position one step before, in the steps whose codes count."""
    counted = batch.padding_mask & ~batch.terminated if without_ends else batch.padding_mask
    return (batch.codes[:, 1:] == batch.codes[:, :-1])[counted].float().mean()


# --- speed -----------------------------------------------------------------------------------------------------------


def dream_speed(wm: WorldModel, batch: CodeBatch, rows: int = 64, num_steps: int = 12) -> dict[str, Any]:
    """Env steps per second of a batch of dreams (sum over rows), with and without decoding the frames."""
    chosen = torch.arange(rows, device=wm.device) % len(batch.codes)
    codes, actions = batch.codes[chosen], batch.actions[chosen]
    speeds: dict[str, Any] = {"rows": rows}
    for name, with_frames in (("env_steps_per_second", False), ("env_steps_per_second_with_frames", True)):
        state = wm.start_codes(codes, actions)
        for step in range(-2, num_steps):  # two steps to warm up
            if step == 0:
                begin = perf_counter()
            state, out = wm.step(state, actions[:, step % actions.shape[1]])
            # Copying to the CPU waits until the step is complete.
            (out.frames() if with_frames else out.reward).cpu()
        speeds[name] = rows * num_steps / (perf_counter() - begin)
    return speeds
