"""Whether a tokenizer keeps small objects: recall of objects in its reconstructions, by class and size.

An object is recalled if the reconstruction shows at least half of its contrast: with c the mean colour of the object's
pixels minus that of the ring around it (object_contrasts.py), and c' the same in the reconstruction, if
<c', c> / <c, c> is at least 0.5. Objects that are hardly visible in the real frame are not counted.
Letters: P pieces, T steps of a piece, F frames of a step, H W C pixels, N objects.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.evaluation.metrics import nmse, psnr
from worldmodel.evaluation.object_contrasts import gains, object_contrasts
from worldmodel.evaluation.scores import encode_decode
from worldmodel.statistics import grouped_mean_with_interval
from worldmodel.tokenizer import Tokenizer

SIZES = (1, 4, 9, 20, 60)  # pixels of the smallest object in each group of sizes
RECALLED = 0.5  # minimum share of the contrast
GUESSES = ("decoded", "other", "background")


class TooFewPiecesError(ValueError):
    """A split has too few steps to search for objects in."""


class Pieces(NamedTuple):
    """Steps of a store to evaluate, in pieces of consecutive steps."""

    frames: Tensor  # (P, T, F, H, W, C) uint8
    labels: NDArray[np.uint8]  # (P, T, F, H, W, 2)
    plays: NDArray[np.int64]  # (P,) episode of each piece


class FoundObjects(NamedTuple):
    """Objects in a store's frames, and how much of their contrast is kept."""

    plays: NDArray[np.int64]  # (N,) episode of each object
    classes: NDArray[np.uint8]  # (N,)
    sizes: NDArray[np.int64]  # (N,) pixels
    alone: NDArray[np.bool_]  # (N,) whether it touches no other object
    gains: NDArray[np.float32]  # (N, 3) share of its contrast in each of `GUESSES`
    visible: NDArray[np.bool_]  # (N,) whether it is visible in the real frame


def object_recall(
    tokenizer: Tokenizer, store: EpisodeStorage, split: str = "test", num_steps: int = 2048, seed: int = 0
) -> dict[str, Any]:
    """Recall of the objects in about `num_steps` steps of a split, by class and size.

    Two baselines that do not depend on the frame are scored too: "other", the reconstruction of another step, and
    "background", the median picture of all steps. What these recall is chance: objects that are always at the same
    position.

    Args:
        store: episodes with labels.

    Returns: "steps", "frames", "psnr_db" and "nmse" of the same frames (relative to their own variance, so that
    tokenizers are comparable), "sizes" (names of the size groups) and "classes": name -> per group, and over "all", the
    number of visible "objects" and of "invisible" ones, and if there are any the "recall", its "half_width" (95 %, over
    episodes), "alone" (objects that touch no other), their "recall_alone", "gain" (mean share of the contrast), "other"
    and "background" (their recall). Or {"absent": reason}.
    """
    try:
        pieces = draw_pieces(store, tokenizer.config.piece_steps, num_steps, split, seed)
    except TooFewPiecesError as error:
        return {"absent": str(error)}
    frames = pieces.frames
    _, decoded = encode_decode(tokenizer, frames, tokenizer.device)
    found = find_objects(pieces, decoded)
    names = store.info.label_names
    present = [number for number in range(1, len(names) + 1) if (found.classes == number).any()]
    everything = np.ones(len(found.classes), bool)
    classes = {names[number - 1]: _by_size(found, found.classes == number) for number in present}
    return {
        "split": split,
        "steps": frames.shape[0] * frames.shape[1],
        "frames": frames[..., 0, 0, 0].numel(),
        "nmse": nmse(frames, decoded, float(frames.numpy().var(dtype=np.float64)) / 255.0**2),
        "psnr_db": psnr(frames, decoded),
        "sizes": size_names(),
        "classes": classes | ({"all": _by_size(found, everything)} if len(present) > 1 else {}),
    }


def size_names() -> list[str]:
    """Names of the size groups: "1-3", ..., "60+"."""
    return [f"{low}-{high - 1}" for low, high in pairwise(SIZES)] + [f"{SIZES[-1]}+"]


def draw_pieces(store: EpisodeStorage, length: int, num_steps: int, split: str, seed: int = 0) -> Pieces:
    """About `num_steps` distinct steps of a split in random order, as pieces of `length` consecutive steps."""
    starts = [
        (episode, first)
        for episode in store.split(split).tolist()
        for first in range(1, store.lengths[episode] + 2 - length, length)  # the frames of step 0 are all the same
    ]
    if len(starts) < 2:
        raise TooFewPiecesError(
            f"split {split!r} of {store.root} has fewer than two pieces of {length} steps; collect more, or "
            "use another split, such as split='all'"
        )
    order = np.random.default_rng(seed).permutation(len(starts))[: max(2, num_steps // length)]
    drawn = [starts[index] for index in order.tolist()]
    frames = np.empty((len(drawn), length, *store.info.frame_shape), np.uint8)
    labels = np.empty((len(drawn), length, *store.info.labels_shape), np.uint8)
    for episode in sorted({episode for episode, _ in drawn}):  # reads and verifies each episode once
        whole, its_labels = store.frames(episode), store.labels(episode)
        for piece, (its, first) in enumerate(drawn):
            if its == episode:
                frames[piece], labels[piece] = whole[first : first + length], its_labels[first : first + length]
    return Pieces(torch.from_numpy(frames), labels, store.plays[[episode for episode, _ in drawn]])


def find_objects(pieces: Pieces, decoded: Tensor) -> FoundObjects:
    """Every object in the pieces' frames, and its contrast in the reconstruction `decoded` (P, T, F, H, W, C) uint8.

    "other" is the reconstruction of the previous piece; the pieces are in random order.
    """
    real, decoded_pictures = pieces.frames.numpy(), decoded.numpy()
    background = np.median(real.reshape(-1, *real.shape[-3:]), axis=0).astype(np.uint8)
    found = []
    for piece, step, frame in np.ndindex(real.shape[:3]):
        at = (piece, step, frame)
        pictures = np.stack((real[at], decoded_pictures[at], decoded_pictures[piece - 1, step, frame], background))
        objects = object_contrasts(pictures, pieces.labels[at])
        plays = np.full(len(objects.sizes), pieces.plays[piece])
        found.append((plays, objects.classes, objects.sizes, objects.alone, *gains(objects.contrasts)))
    return FoundObjects(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _by_size(found: FoundObjects, chosen: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """The scores of the chosen objects, per size group and over all."""
    group = np.searchsorted(SIZES, found.sizes, side="right") - 1
    parts = {name: chosen & (group == index) for index, name in enumerate(size_names())}
    return {name: _scores(found, part) for name, part in (parts | {"all": chosen}).items()}


def _scores(found: FoundObjects, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    counted = chosen & found.visible
    scores: dict[str, Any] = {"objects": int(counted.sum()), "invisible": int((chosen & ~found.visible).sum())}
    if not scores["objects"]:
        return scores
    recalled, alone = found.gains[counted] >= RECALLED, found.alone[counted]
    mean, half_width = grouped_mean_with_interval(recalled[:, 0].astype(np.float64), found.plays[counted])
    return scores | {
        "recall": mean,
        "half_width": half_width,
        "alone": int(alone.sum()),
        "recall_alone": float(recalled[alone, 0].mean()) if alone.any() else None,
        "gain": float(found.gains[counted, 0].mean(dtype=np.float64)),
        **{guess: float(recalled[:, column].mean()) for column, guess in enumerate(GUESSES) if column},
    }
