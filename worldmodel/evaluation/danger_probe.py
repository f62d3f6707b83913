"""Whether codes contain coming hits: AUROC of probes for a fall of HEALTH soon, compared with probes on pixels.

A probe sees the last two steps. A state is in *near* danger if HEALTH falls within the next 12 tics, and in *far*
danger if it does not, but falls within the next 40. The probes are linear, so they find only what is linearly
decodable.

Letters: N states, S steps of an episode, h w latent grid, E features of a code vector, D features of a probe.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.evaluation.metrics import auroc
from worldmodel.evaluation.scores import CHUNK
from worldmodel.layers.defaults import own_defaults
from worldmodel.media.resize import area_resize
from worldmodel.progress import stepwise
from worldmodel.tokenizer import Tokenizer

SIGNAL = "HEALTH"
TICS = (12, 40)  # end of the near and of the far future, in 35ths of a second
_TICS_PER_SECOND, _DEFAULT_TICS = 35.0, 4.0  # per step, if a store does not state its speed
PIXELS = (20, 32)  # height and width of the pictures that probes on pixels see
DECAYS = (1e-3, 1e-2, 1e-1)  # candidate weights of the L2 penalty
_RESAMPLES = 200


class States(NamedTuple):
    """States of a split, with the probes' inputs and labels."""

    codes: Tensor  # (N, D) float32, code vectors of the last two steps
    pixels: Tensor  # (N, D) float32, downscaled last frames of the last two steps
    near: NDArray[np.bool_]  # (N,)
    far: NDArray[np.bool_]  # (N,)
    plays: NDArray[np.int64]  # (N,) episode of each state


@own_defaults
def danger_probe(tokenizer: Tokenizer, store: EpisodeStorage, num_steps: int = 4096, seed: int = 0) -> dict[str, Any]:
    """Train probes on the train split, choose their decay on the validation split, and score them on the test split.

    Args:
        store: episodes with the signal HEALTH.
        num_steps: maximum number of steps of the train split, in whole episodes; a quarter of that for other splits.

    Returns: "steps" (end of the near and of the far future), "states", and for "near" and "far" each "states" (scored),
    "hits" (share in danger), "codes" and "pixels" (AUROC) and their "_half_width" (95 %, by resampling episodes).
    Values that cannot be measured, for example if a split has no hit, are None. Or {"absent": reason}.
    """
    if tokenizer.config.temporal != "step":
        return {"absent": "the tokenizer does not encode single steps"}
    if SIGNAL not in store.info.signal_names:
        return {"absent": f"the episodes have no signal {SIGNAL}"}
    ends = future_steps(store.info.steps_per_second)
    sizes = {"train": num_steps, "validation": num_steps // 4, "test": num_steps // 4}
    splits = {name: _states(tokenizer, store, name, size, ends, seed) for name, size in sizes.items()}
    if empty := [name for name, states in splits.items() if not len(states.near)]:
        return {"absent": f"split {empty[0]!r} has no episode with {ends[1]} known future steps"}
    results: dict[str, Any] = {"steps": list(ends), "states": {n: len(states.near) for n, states in splits.items()}}
    for target in ("near", "far"):
        results[target] = _judge(splits, target, seed)
    return results


def future_steps(steps_per_second: float) -> tuple[int, int]:
    """Number of steps to the end of the near and of the far future."""
    tics = _TICS_PER_SECOND / steps_per_second if steps_per_second else _DEFAULT_TICS
    near = max(1, round(TICS[0] / tics))
    return near, max(near + 1, round(TICS[1] / tics))


def dangers(
    falls: NDArray[np.bool_], ended: bool, ends: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The dangers in the states of an episode.

    Args:
        falls: (S,) whether the signal falls in each step.
        ended: whether the game ended after the last step, so that nothing follows it.
        ends: steps to the end of the near and of the far future.

    Returns: the states (N,) with two previous steps and a known future, as the index of the next step; and for each
    whether the signal falls within the near future, and whether it falls only later, within the far future.
    """
    steps = len(falls)
    states = np.arange(1, steps if ended else steps - ends[1] + 1)
    sums = np.concatenate(([0], np.cumsum(falls)))
    soon, later = (sums[np.minimum(states + end, steps)] - sums[states] > 0 for end in ends)
    return states, soon, later & ~soon


def _states(
    tokenizer: Tokenizer, store: EpisodeStorage, split: str, num_steps: int, ends: tuple[int, int], seed: int
) -> States:
    """States of randomly drawn whole episodes of a split, until there are `num_steps`."""
    episodes = np.random.default_rng(seed).permutation(store.split(split)).tolist()
    column, parts, left = store.info.signal_names.index(SIGNAL), [], num_steps
    for episode in stepwise(episodes, "episode", f"encode for probes, {split}"):
        if left <= 0:
            break
        falls = np.diff(store.signals(episode)[:, column]) < 0
        states, near, far = dangers(falls, store.ended(episode)[0], ends)
        if len(states):
            codes, pixels = _inputs(tokenizer, store.frames(episode)[: states[-1] + 1])
            plays = np.full(len(states), store.plays[episode])
            parts.append(States(_with_before(codes, states), _with_before(pixels, states), near, far, plays))
            left -= len(states)
    if not parts:
        nothing = np.zeros(0, bool)
        return States(torch.empty(0, 0), torch.empty(0, 0), nothing, nothing, np.zeros(0, np.int64))
    return States(
        torch.cat([part.codes for part in parts]),
        torch.cat([part.pixels for part in parts]),
        np.concatenate([part.near for part in parts]),
        np.concatenate([part.far for part in parts]),
        np.concatenate([part.plays for part in parts]),
    )


def _with_before(inputs: Tensor, states: NDArray[np.int64]) -> Tensor:
    """Concatenate the inputs (S, D) of the step before each state and of its own: (N, 2 D)."""
    return torch.cat((inputs[states - 1], inputs[states]), dim=1)


@torch.inference_mode()
def _inputs(tokenizer: Tokenizer, frames: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Code vectors and downscaled last frames of steps (S, F, H, W, C): both (S, D) float32."""
    device = tokenizer.device
    vectors = []
    for first in range(0, len(frames), CHUNK):
        codes = tokenizer.encode(torch.from_numpy(frames[first : first + CHUNK, None].copy()).to(device))
        vectors.append(tokenizer.lookup(codes).float().flatten(1).cpu())
    height, width = (min(size, most) for size, most in zip(frames.shape[2:4], PIXELS, strict=True))
    small = area_resize(np.ascontiguousarray(frames[:, -1]), height, width)
    return torch.cat(vectors), torch.from_numpy(small).flatten(1).float() / 255


def _judge(splits: dict[str, States], target: str, seed: int) -> dict[str, Any]:
    """AUROC of both probes for one target; far danger is predicted only for states without near danger."""
    rows = {
        name: np.flatnonzero(~states.near) if target == "far" else np.arange(len(states.near))
        for name, states in splits.items()
    }
    truth = {name: torch.from_numpy(getattr(states, target)[rows[name]]) for name, states in splits.items()}
    hits = float(truth["test"].float().mean()) if len(truth["test"]) else None
    scores: dict[str, Any] = {"states": len(truth["test"]), "hits": hits}
    both = all(0 < int(hit.sum()) < len(hit) for hit in truth.values())
    for kind in ("codes", "pixels"):
        inputs = {name: getattr(states, kind)[rows[name]] for name, states in splits.items()}
        logits = _best_probe(inputs, truth) if both else None
        plays = splits["test"].plays[rows["test"]]
        scores[kind] = None if logits is None else auroc(logits, truth["test"])
        scores[f"{kind}_half_width"] = None if logits is None else auroc_half_width(logits, truth["test"], plays, seed)
    return scores


def _best_probe(inputs: dict[str, Tensor], truth: dict[str, Tensor]) -> Tensor:
    """Logits on the test split of the probe with the decay that scores best on the validation split."""
    mean, deviation = inputs["train"].mean(0), inputs["train"].std(0)
    scale = torch.where(deviation > 1e-6, 1 / deviation, 0)  # constant features are ignored
    inputs = {name: (each - mean) * scale for name, each in inputs.items()}
    best, logits = -1.0, inputs["test"].new_zeros(len(inputs["test"]))
    for decay in DECAYS:
        weights, bias = logistic_regression(inputs["train"], truth["train"], decay)
        score = auroc(inputs["validation"] @ weights + bias, truth["validation"]) or 0.0
        if score > best:
            best, logits = score, inputs["test"] @ weights + bias
    return logits


@own_defaults
def logistic_regression(inputs: Tensor, truth: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Weights (D,) and bias () of a logistic regression with an L2 penalty of `decay` / 2 times the squared weights.

    Args:
        inputs: (N, D) float32 features of about unit variance.
        truth: (N,) bool.
    """
    weights = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = truth.float().mean().logit().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights + bias
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.float())
        value = value + decay / 2 * weights.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return weights.detach(), bias.detach()


@own_defaults
def auroc_half_width(scores: Tensor, truth: Tensor, plays: NDArray[np.int64], seed: int) -> float | None:
    """Half of an AUROC's 95 % interval, by resampling whole episodes with replacement; None for a single episode."""
    rng, names = np.random.default_rng(seed), np.unique(plays)
    if len(names) < 2:
        return None
    rows = {name: np.flatnonzero(plays == name) for name in names.tolist()}
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = np.concatenate([rows[name] for name in rng.choice(names, len(names)).tolist()])
        drawn.append(auroc(scores[chosen], truth[chosen]))
    low, high = np.quantile([value for value in drawn if value is not None], [0.025, 0.975])
    return float(high - low) / 2
