"""Whether dreams keep their objects: pixels with an object's colours in dreams relative to the game, by step.

Letters: D dreams, T context and dreamt steps, F frames of a step, H W C pixels, K classes of objects.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import EpisodeStorage
from worldmodel.evaluation.object_colours import ObjectColours
from worldmodel.evaluation.object_recall import TooFewPiecesError, draw_pieces
from worldmodel.evaluation.open_loop import dreamt_steps, given_steps, open_loop
from worldmodel.evaluation.scores import encode_decode
from worldmodel.model import WorldModel
from worldmodel.statistics import grouped_mean_with_interval

ENDS = (0, 1, 2, 4, 8, 16, 32, 64)  # last step of each range of steps; 0 is the last context step
SEEN = 2  # minimum number of pixels for a picture to show a class
_LEARNING_STEPS, _CHECKING_STEPS = 1000, 256


def dreamt_objects(
    wm: WorldModel,
    store: EpisodeStorage,
    split: str = "test",
    num_dreams: int = 64,
    context_steps: int = 8,
    horizon: int = max(ENDS),
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Dream open loop with the recorded actions, and compare the objects' share of the pixels with the game's.

    The colours of an object are learned from the labels of the train split. Both the dreams and the game are decoded by
    the tokenizer, so that only what the dynamics loses or invents makes a difference.

    Args:
        store: episodes with labels.
        horizon: number of dreamt steps; fewer if no episode is long enough.

    Returns: "dreams", "episodes", "context_steps", "horizon" and "classes": name -> "precision" and "recall" of the
    colours on labelled pixels, and four times a `share_ratio` per range of steps ("0", "1", "2", "3-4", "5-8", ...):
    "pixels" with the colours, "pictures" with at least `SEEN` of them, and these pictures in dreams whose last context
    picture shows the class ("kept") and in those where it does not ("appeared"). Or {"absent": reason}.
    """
    given = given_steps(wm, context_steps)
    if not given:
        return {"absent": "the model cannot start from context steps"}
    longest = max((store.lengths[episode] + 1 for episode in store.split(split)), default=0) - given
    if longest < 1:
        return {"absent": f"no episode of split {split!r} continues after {given} context steps"}
    horizon = dreamt_steps(wm, given, min(horizon, longest))
    if wm.config.tokenizer.temporal == "clip" and given + horizon < wm.config.tokenizer.clip_steps:
        return {"absent": f"the episodes of split {split!r} are shorter than the tokenizer's clips"}
    try:
        colours, agreement = _learned(wm, store, split, seed)
    except TooFewPiecesError as error:
        return {"absent": str(error)}
    dreams = open_loop(wm, store, split, num_dreams, given, temperature, seed, horizon)
    plays = store.plays[[segment.episode for segment in dreams.segments]]
    game, dreamt = (colours.shares(video.numpy()) for video in (dreams.reconstruction, dreams.dream))  # (D, T, F, K)
    names, least = store.info.label_names, (SEEN - 0.5) / (store.info.height * store.info.width)
    return {
        "split": split,
        "dreams": num_dreams,
        "episodes": len(set(plays.tolist())),
        "context_steps": given,
        "horizon": horizon,
        "temperature": temperature,
        "classes": {
            names[c - 1]: scores | _by_range(game[..., c - 1], dreamt[..., c - 1], least, given, plays)
            for c, scores in agreement.items()
            if scores["labelled"]
        },
    }


def _learned(
    wm: WorldModel, store: EpisodeStorage, split: str, seed: int
) -> tuple[ObjectColours, dict[int, dict[str, Any]]]:
    """Object colours in decoded pictures of the train split, and how reliable they are in `split`."""
    length, count = wm.tokenizer.config.piece_steps, len(store.info.label_names)
    learning, checking = (
        draw_pieces(store, length, steps, part, seed)
        for steps, part in ((_LEARNING_STEPS, "train"), (_CHECKING_STEPS, split))
    )
    (_, learned), (_, checked) = (encode_decode(wm.tokenizer, part.frames, wm.device) for part in (learning, checking))
    colours = ObjectColours(learned.numpy(), learning.labels[..., 0], count)
    return colours, colours.agreement(checked.numpy(), checking.labels[..., 0])


def step_ranges(horizon: int) -> list[range]:
    """Ranges of dreamt steps that are evaluated together: those up to the last of `ENDS` within the horizon."""
    begins = [0, *(end + 1 for end in ENDS[:-1])]
    return [range(begin, end + 1) for begin, end in zip(begins, ENDS, strict=True) if end <= horizon]


def _by_range(
    game: NDArray[np.float64], dreamt: NDArray[np.float64], least: float, given: int, plays: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Compare the shares (D, T, F) of one class in the game and in the dreams, per range of steps.

    Pictures show the class if its share of their pixels is above `least`.
    """
    pixels = [share.mean(-1) for share in (game, dreamt)]  # (D, T)
    pictures = [(share > least).mean(-1) for share in (game, dreamt)]
    before = game[:, given - 1, -1] > least
    any_dream = np.ones_like(before)
    kinds = {
        "pixels": (pixels, any_dream),
        "pictures": (pictures, any_dream),
        "kept": (pictures, before),
        "appeared": (pictures, ~before),
    }
    found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for steps in step_ranges(game.shape[1] - given):
        at = slice(given - 1 + steps.start, given - 1 + steps.stop)
        name = str(steps.start) if len(steps) == 1 else f"{steps.start}-{steps.stop - 1}"
        for kind, (shares, rows) in kinds.items():
            in_game, in_dream = (share[rows, at].mean(-1) for share in shares)
            found[kind][name] = share_ratio(in_game, in_dream, plays[rows])
    return found


def share_ratio(game: NDArray[np.float64], dreamt: NDArray[np.float64], plays: NDArray[np.int64]) -> dict[str, Any]:
    """Mean "game" and "dream" of shares (D,), the "ratio" of the means and its "half_width" (95 %, over episodes).

    The interval is that of a ratio of means (Cochran, Sampling Techniques, 3rd edition, section 2.11). Ratio and half
    width are None if the game shows nothing.
    """
    shares: dict[str, Any] = {
        name: float(of.mean()) if of.size else 0.0 for name, of in (("game", game), ("dream", dreamt))
    }
    if not shares["game"]:
        return shares | {"ratio": None, "half_width": None}
    ratio = shares["dream"] / shares["game"]
    _, off = grouped_mean_with_interval(dreamt - ratio * game, plays)
    return shares | {"ratio": ratio, "half_width": off / shares["game"]}
