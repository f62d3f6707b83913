"""All measurements of a world model that need no agent, each a section of a report.

Letters: K dreams, T context and dreamt steps, F frames of a step, H W C pixels. docs/evaluation.md explains the
numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.data.facts import dataset_facts
from worldmodel.evaluation.calibration import reward_calibration, termination_calibration
from worldmodel.evaluation.control import control_scores, control_videos
from worldmodel.evaluation.danger_probe import danger_probe
from worldmodel.evaluation.distances import fvd_section, inverse_dynamics_distances, unconditional_distances
from worldmodel.evaluation.dreamt_objects import dreamt_objects
from worldmodel.evaluation.fvd import CHANNELS, CLIP_FRAMES, load_i3d
from worldmodel.evaluation.held_out import (
    change_scores,
    check_measurable,
    dream_speed,
    dynamics_scores,
    encode_segments,
    has_segments,
    plays_of_steps,
    real_codes,
    tokenizer_scores,
)
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, InverseDynamicsConfig, train_inverse_dynamics
from worldmodel.evaluation.object_recall import object_recall
from worldmodel.evaluation.open_loop import (
    Dreams,
    check_long_enough,
    dream_on,
    dreamt_steps,
    given_steps,
    model_steps_that_fit,
    open_loop,
    open_loop_scores,
)
from worldmodel.evaluation.scores import code_use, head_scores, predictions
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import CodeBatch, WorldModel
from worldmodel.settings import AtLeastTwo, PositiveInt, Temperature, checked_dataclass

# Sections that fit on one page: the report of a demo, the card of a published world.
SUMMARY = ("settings", "dataset", "tokenizer", "dynamics", "open_loop", "heads", "speed")
_NO_LABELS = {"absent": "the episodes have no labels of objects (collect --labels)"}


@checked_dataclass
class ModelEvaluation:
    """What to measure, and on how much data."""

    split: str = "test"  # split to measure on; inverse dynamics and the copy baseline use the train split
    samples: AtLeastTwo = 256  # number of dreams, and of real clips to compare with; papers compute FVD on 256
    samplings: PositiveInt = 1  # how often the dreams are drawn for IDM-FD and FVD; above 1 these have a deviation
    context_steps: PositiveInt = 8  # real steps that a dream is given as context; see `open_loop.given_steps`
    horizon: PositiveInt = 16  # dreamt steps; models that make clips of a fixed length dream to the end of one
    temperature: Temperature = 1.0
    max_segments: AtLeastTwo = 512  # segments for the losses, and steps for the tokenizer
    object_steps: AtLeastTwo = 2048  # steps in which objects are searched for, in stores with labels
    object_dreams: AtLeastTwo = 64  # dreams in which objects are counted, in stores with labels
    object_horizon: PositiveInt = 64  # steps of these dreams, if the episodes are long enough
    danger_steps: Annotated[int, Field(ge=4)] = 4096  # training steps for the probes of coming hits, given HEALTH
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)
    seed: int = 0


@own_defaults
def evaluate_model(
    wm: WorldModel,
    store: EpisodeStorage,
    config: ModelEvaluation | None = None,
    i3d: str | Path | None = None,
    sections: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure a world model on held-out episodes.

    Args:
        wm: prepared for dreaming (`from_pretrained`, or `wm.prepare()`).
        store: episodes of the game that it was trained on.
        i3d: TorchScript file of an I3D network; without it there is no FVD.
        sections: which of `SECTIONS` to measure; None: all.

    Returns: the sections in their order; one that does not apply to this model or store is {"absent": why}.
    """
    measured = _Measured(wm, store, config or ModelEvaluation(), i3d)
    return {name: measure(measured) for name, measure in SECTIONS.items() if sections is None or name in sections}


@own_defaults
def summarize_model(
    wm: WorldModel, store: EpisodeStorage, *, context_steps: int = 8, max_segments: int = 512, samples: int = 64
) -> dict[str, Any]:
    """The sections of `evaluate_model` that fit on one page (`SUMMARY`).

    Where no test episode is long enough for `context_steps` and 16 dreamt ones, dreams are given and dream less, but
    those of clips dream to the end of one.
    """
    context_steps, horizon = model_steps_that_fit(wm, store, "test", context_steps)
    config = ModelEvaluation(samples=samples, context_steps=context_steps, horizon=horizon, max_segments=max_segments)
    return evaluate_model(wm, store, config, sections=SUMMARY)


class _Measured:
    """A model, the episodes to measure it on, and values that several sections share, computed on first use."""

    def __init__(self, wm: WorldModel, store: EpisodeStorage, config: ModelEvaluation, i3d: str | Path | None) -> None:
        self.wm, self.store, self.config = wm, store, config
        check_measurable(wm, store)
        self.given, self.horizon = _sizes(wm, config)
        self.i3d = None if i3d is None else load_i3d(i3d, wm.device)
        frames = (config.horizon + min(self.given, 1)) * wm.frames_per_step
        if self.i3d is not None and store.info.channels not in CHANNELS:
            raise ValueError(f"FVD is of frames with 1 or 3 channels, these have {store.info.channels}; omit i3d")
        if self.i3d is not None and frames < CLIP_FRAMES:
            raise ValueError(
                f"FVD reads {CLIP_FRAMES} frames, and {'a context step and ' if self.given else ''}a horizon of "
                f"{config.horizon} steps have {frames}; use a longer horizon"
            )
        check_long_enough(store, config.split, self.given, self.horizon)

    @cached_property
    def dreams(self) -> Dreams:
        c = self.config
        return open_loop(self.wm, self.store, c.split, c.samples, self.given, c.temperature, c.seed, self.horizon)

    @cached_property
    def more_dreams(self) -> list[Tensor]:
        """The dreams drawn again with other seeds, `samplings` - 1 times: (K, T, F, H, W, C) uint8 each."""
        c, batch = self.config, self.dreams.batch
        seeds = (c.seed + number * c.samples for number in range(1, c.samplings))
        return [dream_on(self.wm, batch, batch.actions, self.given, c.temperature, seed) for seed in seeds]

    def segments(self, split: str) -> CodeBatch:
        return encode_segments(self.wm, self.store, split, self.config.max_segments, self.config.seed)

    @cached_property
    def held_out(self) -> CodeBatch:
        return self.segments(self.config.split)

    @cached_property
    def predictions(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return predictions(self.wm, self.held_out)

    @cached_property
    def plays(self) -> NDArray[np.int64]:
        """The recording of each prediction."""
        c = self.config
        return plays_of_steps(self.wm, self.store, c.split, c.max_segments, c.seed, self.held_out)

    @cached_property
    def judge(self) -> InverseDynamics:
        return train_inverse_dynamics(self.store, self.config.inverse_dynamics, self.wm.device)

    @cached_property
    def control(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Scores and features of the inverse-dynamics network on real episodes, reconstructions and dreams."""
        videos = control_videos(self.wm, self.dreams, self.config.temperature, self.config.seed)
        return control_scores(self.judge, videos, self.given)


def _sizes(wm: WorldModel, config: ModelEvaluation) -> tuple[int, int]:
    """Numbers of context and dreamt steps: those requested, as far as the model supports them."""
    given = given_steps(wm, config.context_steps)
    horizon = dreamt_steps(wm, given, config.horizon)
    if wm.config.tokenizer.temporal == "clip":
        length = wm.config.tokenizer.clip_steps
        if given + horizon < length:
            raise ValueError(
                f"the tokenizer encodes clips of {length} steps, more than {given} context and {horizon} dreamt ones; "
                f"use a horizon of at least {length - given}"
            )
    return given, horizon


def _settings(m: _Measured) -> dict[str, Any]:
    segments = m.dreams.segments
    return {
        "env_id": m.wm.config.env_id,
        "split": m.config.split,
        "dreams": m.config.samples,
        "clips": len(set(segments)),
        "episodes": len(set(m.store.plays[[segment.episode for segment in segments]].tolist())),  # views count once
        "context_steps": m.given,
        "horizon": m.horizon,
        "temperature": m.config.temperature,
        "frames_per_step": m.wm.frames_per_step,
        "seed": m.config.seed,
    }


def _tokenizer(m: _Measured) -> dict[str, Any]:
    drawn = (m.wm, m.store, m.config.split, m.config.max_segments, m.config.seed)
    use = code_use(real_codes(m.held_out), m.wm.tokenizer.num_codes)
    return tokenizer_scores(*drawn) | change_scores(*drawn) | use


def _objects(m: _Measured) -> dict[str, Any]:
    if not m.store.info.label_names:
        return _NO_LABELS
    return object_recall(m.wm.tokenizer, m.store, m.config.split, m.config.object_steps, m.config.seed)


def _dreamt_objects(m: _Measured) -> dict[str, Any]:
    if not m.store.info.label_names:
        return _NO_LABELS
    c = m.config
    return dreamt_objects(
        m.wm, m.store, c.split, c.object_dreams, c.context_steps, c.object_horizon, c.temperature, c.seed
    )


def _danger(m: _Measured) -> dict[str, Any]:
    return danger_probe(m.wm.tokenizer, m.store, m.config.danger_steps, m.config.seed)


def _open_loop(m: _Measured) -> dict[str, Any]:
    if not m.given:
        return {"absent": "the model cannot start from context steps"}
    return open_loop_scores(m.dreams, m.store.plays)


def _reward(m: _Measured) -> dict[str, Any]:
    expected, real, _, _ = m.predictions
    return reward_calibration(expected.numpy(), real.numpy(), m.plays)


def _termination(m: _Measured) -> dict[str, Any]:
    _, _, probability, ended = m.predictions
    found = termination_calibration(probability.numpy(), ended.numpy(), m.plays, float(m.wm.heads.threshold))
    return found | {"ends": m.wm.config.heads.ends}


def _heads(m: _Measured) -> dict[str, Any]:
    validation = m.segments("validation") if has_segments(m.wm, m.store, "validation") else None
    return head_scores(m.wm, m.held_out, validation)


def _control(m: _Measured) -> dict[str, Any]:
    """Dreams of a model without action conditioning are not scored."""
    scores = m.control[0]
    if m.judge.action.kind == "discrete" and m.judge.action.n == 1:
        scores = scores | {"absent": "the episodes have only one action, so there is nothing to distinguish"}
    if m.wm.config.dynamics.action_condition == "none":
        unread = dict.fromkeys(("dream", "dream_swapped", "dream_over_real", "error_over_real"))
        curves = {name: curve for name, curve in scores["by_step"].items() if name != "dream"}
        scores = scores | unread | {"by_step": curves, "absent": "the model has no action conditioning"}
    return scores


def _idm_fd(m: _Measured) -> dict[str, Any]:
    c = m.config
    return inverse_dynamics_distances(m.judge, m.control[1], m.dreams, m.more_dreams, m.store, c.split, c.seed)


def _unconditional(m: _Measured) -> dict[str, Any]:
    temperature, seed = m.config.temperature, m.config.seed
    return unconditional_distances(m.wm, m.dreams, m.judge, m.control[1]["real"], m.i3d, temperature, seed)


def _speed(m: _Measured) -> dict[str, Any]:
    try:
        return dream_speed(m.wm, m.held_out)
    except ValueError as error:  # a model that cannot dream step by step
        return {"absent": str(error)}


SECTIONS: dict[str, Callable[[_Measured], dict[str, Any]]] = {
    "settings": _settings,
    "dataset": lambda m: dataset_facts(m.store),
    "tokenizer": _tokenizer,
    "objects": _objects,
    "dreamt_objects": _dreamt_objects,
    "danger": _danger,
    "dynamics": lambda m: dynamics_scores(m.wm, m.held_out, m.segments("train")),
    "open_loop": _open_loop,
    "heads": _heads,
    "reward": _reward,
    "termination": _termination,
    "control": _control,
    "idm_fd": _idm_fd,
    "fvd": lambda m: fvd_section(m.i3d, m.dreams, m.more_dreams, m.wm.device),
    "unconditional": _unconditional,
    "speed": _speed,
}
