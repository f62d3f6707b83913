"""Sample videos from a world model, from nothing, first frames, actions or both, and write them as a grid.

Letters: n videos, T steps, F frames of a step, H W C pixels.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.data import ActionSpec, EpisodeStorage, SegmentId, open_stores
from worldmodel.dynamics import Sampling
from worldmodel.envs.registry import load_model, steps_per_second
from worldmodel.evaluation.scores import sampled
from worldmodel.files import write_json
from worldmodel.layers.defaults import own_defaults
from worldmodel.media.read import in_words
from worldmodel.media.write import (
    CONTEXT_COLOR,
    PREDICTION_COLOR,
    UNSEEN_COLOR,
    Frames,
    as_rgb,
    border,
    caption,
    check_ending,
    tile,
    upscale,
    write_image,
    write_video,
)
from worldmodel.model import WorldModel
from worldmodel.settings import AtLeastTwo, PositiveFloat, PositiveInt, Temperature, check_used, checked_dataclass
from worldmodel.training.show.sample_inputs import (
    CONDITIONS,
    action_text,
    check_same_game,
    choose_condition,
    read_actions,
    read_first_frames,
    real_clips,
)

_BORDER = 2  # pixels


@checked_dataclass
class SampleConfig:
    """What to sample, and how to show it."""

    condition: Literal["auto", "none", "frames", "actions", "both"] = "auto"  # auto: all given that the model can use
    n: PositiveInt = 16  # number of videos
    steps: AtLeastTwo | None = None  # of each, including the context; None: as many as --actions, one clip, or 16
    given_steps: PositiveInt | None = None  # steps of context; None: as few as the model allows
    split: str = "test"  # split of the store from which real clips are drawn
    temperature: Temperature = 1.0  # 0 takes the likeliest codes
    top_k: PositiveInt | None = None  # sample from the k likeliest codes
    top_p: float | None = None  # sample from the fewest codes that together have this probability
    guidance: float = 1.0  # above 1 strengthens the conditions; 1 is off
    seed: int = 0  # of the first video, the others use the following integers; also selects the real clips
    scale: PositiveInt = 2  # screen pixels per pixel
    fps: PositiveFloat | None = None  # video frames per second; None: as fast as the game
    columns: PositiveInt | None = None  # columns of the grid; None: about square
    strip: bool = False  # also write a PNG: a video per row, a step per column

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, guidance=self.guidance)


class Samples(NamedTuple):
    """Sampled videos, and their conditions."""

    frames: NDArray[np.uint8]  # (n, T, F, H, W, C), first the context as reconstructed by the tokenizer
    condition: str
    given_steps: int  # 0 without first frames
    actions: NDArray | None  # (n, T - 1, …)
    real: NDArray[np.uint8] | None  # (n, T, F, H, W, C) the store's clips
    recorded: NDArray | None  # (n, T - 1, …) the store's actions
    segments: list[SegmentId]  # of those clips
    files: list[Path]
    notes: tuple[str, ...] = ()  # how first frames from a file were converted

    def __str__(self) -> str:
        """A summary, and the meaning of the borders' colours."""
        lines = [f"{len(self.frames)} videos of {self.frames.shape[1]} steps, condition: {self.condition}"]
        if len(different := set(self.segments)) < len(self.segments):
            lines.append(f"the split has only {len(different)} such clips, so some are repeated, with other samples")
        if self.real is not None:
            lines.append("left: real episodes (gray: not shown to the model); right: sampled")
        if self.real is not None or self.actions is not None:
            lines.append("below: the action that led to the step")
        context = "context step" if self.given_steps == 1 else f"{self.given_steps} context steps"
        given = f"blue: the {context}; " if self.given_steps else ""
        lines += [f"{given}orange: dreamt", *self.notes]
        return "\n".join([*lines, *(f"wrote {file}" for file in self.files)])


@own_defaults
def sample_videos(
    model: WorldModel | str | os.PathLike,
    /,
    out: str | Path,
    config: SampleConfig | None = None,
    *,
    data: EpisodeStorage | str | Path | None = None,
    frames: str | Path | NDArray | None = None,
    actions: str | Path | Sequence[str] | NDArray = (),
    device: str = "auto",
    command: str | None = None,
) -> Samples:
    """Write a grid of sampled videos, and a JSON file of the same name with their settings.

    Args:
        model: a run folder, a checkpoint folder, a shipped name or a hub id.
        out: .mp4, .gif or .webp, or mp4 and gif if it has no ending.
        data: store of the same game: its clips provide first frames and actions, and are shown beside the videos.
        frames: your own first frames: .npy, .npz, .mp4, .gif, .png, or a folder of images.
        actions: names or numbers, each with *COUNT to repeat it, such as "turn_right*4 move_forward*8"; or a .npy file.
            They start after the first step, or with --data after the context, whose recorded actions are used.
        device: where the model runs; "auto" takes a GPU if there is one.
        command: the command line, stored in the JSON file.

    Raises: ValueError if the model was not trained for the condition, or frames or actions do not fit.
    """
    config, out = config or SampleConfig(), check_ending(out)
    wm = load_model(model, device)
    spec = wm.config.action
    if wm.config.tokenizer.channels not in (1, 3):
        raise ValueError(f"only gray and RGB frames can be shown, these have {wm.config.tokenizer.channels} channels")
    if data is None:
        check_used(config, "a store (--data)", "split")
    elif frames is not None:
        raise ValueError("first frames come from --data or from --frames, not from both: omit one of them")
    chosen = read_actions(actions, spec) if isinstance(actions, np.ndarray) or actions else None
    at_hand = data is not None, frames is not None, chosen is not None
    condition = choose_condition(config.condition, wm.config.dynamics, config.sampling, *at_hand, wm.reads_frames)
    gives_frames, gives_actions = CONDITIONS[condition]
    if config.given_steps and not gives_frames:
        raise ValueError(
            f"given_steps {config.given_steps} are for videos that begin with first frames, and these are made from "
            f"{'actions' if gives_actions else 'nothing'}: leave it out, or give --data or --frames"
        )

    given_steps = (config.given_steps or max(1, wm.config.dynamics.frame_condition)) if gives_frames else 0
    known = max(given_steps - 1, 0) if data is not None else 0  # recorded actions before the chosen ones
    steps = config.steps or _default_steps(wm, None if chosen is None else known + chosen.shape[-1 - len(spec.shape)])
    if given_steps > steps:
        raise ValueError(f"given_steps must be at most steps = {steps}, got {given_steps}")

    real, recorded, segments, first = None, None, [], None
    changed: Counter[str] = Counter()
    if data is not None:
        store = open_stores(data)
        check_same_game(wm.config, store)
        segments = real_clips(store, config.n, steps, config.split, config.seed)
        batch = store.batch(segments)
        real, recorded = batch.frames.numpy(), batch.actions.numpy()
        first = real[:, :given_steps] if gives_frames else None
    elif frames is not None:
        first = read_first_frames(frames, wm.config, config.n, given_steps, changed)
    taken = None
    if gives_actions:
        taken = recorded if chosen is None else _join_actions(recorded, chosen, known, config.n, steps, spec)

    given = [None if each is None else torch.from_numpy(each) for each in (first, taken)]
    made = sampled(wm, config.n, steps, config.seed, *given, label="sample", **asdict(config.sampling))
    samples = Samples(made.numpy(), condition, given_steps, taken, real, recorded, segments, [], in_words(changed))
    files = write_video(
        out, draw_grid(samples, spec, config), config.fps or steps_per_second(wm.config) * wm.frames_per_step
    )
    if config.strip:
        files.append(out.with_suffix(".png"))
        write_image(files[-1], draw_strip(samples, config.scale))
    about: dict[str, Any] = {
        "command": command,
        "model": None if isinstance(model, WorldModel) else str(model),
        "env_id": wm.config.env_id,
        "condition": condition,
        "given_steps": given_steps,
        "steps": steps,
        "seeds": list(range(config.seed, config.seed + config.n)),
        "options": asdict(config),
        "data": None if data is None else store.folders,
        "segments": [segment._asdict() for segment in segments],
        "frames": _describe(frames),
        "actions": None if taken is None else taken.tolist(),
        "files": [file.name for file in files],
    }
    files.append(out.with_suffix(".json"))
    write_json(files[-1], about)
    return samples._replace(files=files)


def _default_steps(wm: WorldModel, actions: int | None) -> int:
    if actions is not None:
        return actions + 1
    if wm.config.tokenizer.temporal == "clip":
        return wm.config.tokenizer.clip_steps
    return 16 if wm.longest_video is None else min(wm.longest_video, 16)


def _join_actions(
    recorded: NDArray | None, chosen: NDArray, known: int, n: int, steps: int, spec: ActionSpec
) -> NDArray:
    """(n, steps - 1, …): the first `known` recorded actions, then the chosen ones."""
    if chosen.ndim == 1 + len(spec.shape):
        chosen = np.broadcast_to(chosen, (n, *chosen.shape))
    if len(chosen) != n:
        raise ValueError(f"actions must be given once for all videos or for each of the {n}, got {len(chosen)} rows")
    missing = steps - 1 - known
    if chosen.shape[1] < missing:
        raise ValueError(
            f"videos of {steps} steps need {missing} actions, got {chosen.shape[1]}; give more, or set steps to "
            f"{known + chosen.shape[1] + 1}"
        )
    before = [] if recorded is None else [recorded[:, :known]]
    return np.concatenate([*before, chosen[:, :missing]], axis=1)


def _describe(frames: str | Path | NDArray | None) -> str | None:
    return f"an array {frames.shape}" if isinstance(frames, np.ndarray) else None if frames is None else str(frames)


def _framed(samples: Samples, scale: int) -> list[list[NDArray[np.uint8]]]:
    """The panels of each video, its real clip first if there is one: (T, F, H', W', 3) with borders."""
    steps = samples.frames.shape[1]
    given = (np.arange(steps) < samples.given_steps)[:, None]
    panels = [] if samples.real is None else [(samples.real, UNSEEN_COLOR)]
    panels.append((samples.frames, PREDICTION_COLOR))
    rows = []
    for row in range(len(samples.frames)):
        videos = []
        for frames, later in panels:
            colors = np.where(given, CONTEXT_COLOR, later).astype(np.uint8)
            images = as_rgb(frames[row])
            flat = images.reshape(-1, *images.shape[2:])
            framed = border(upscale(flat, scale), colors.repeat(frames.shape[2], axis=0), _BORDER)
            videos.append(framed.reshape(*images.shape[:2], *framed.shape[1:]))
        rows.append(videos)
    return rows


def draw_grid(samples: Samples, spec: ActionSpec, config: SampleConfig) -> Frames:
    """All videos in a grid, each to the right of its real clip if there is one, with the last action below."""
    actions = [samples.actions] if samples.real is None else [samples.recorded, samples.actions]
    cells = []
    for row, panels in enumerate(_framed(samples, config.scale)):
        flat = [panel.reshape(-1, *panel.shape[2:]) for panel in panels]
        if any(known is not None for known in actions):
            flat = [
                caption(images, _texts(None if known is None else known[row], spec, samples.frames.shape[1:3]))
                for images, known in zip(flat, actions, strict=True)
            ]
        cells.append(tile(flat, len(flat), gap=2))
    columns = config.columns or ceil(sqrt(len(cells) * cells[0].shape[1] / cells[0].shape[2]))
    return tile(cells, columns)


def _texts(actions: NDArray | None, spec: ActionSpec, shape: tuple[int, int]) -> list[str]:
    """A text for each of T * F images, from actions (T - 1, …)."""
    steps, per_step = shape
    texts = [""] * steps if actions is None else ["", *(action_text(action, spec) for action in actions)]
    return [text for text in texts for _ in range(per_step)]


def draw_strip(samples: Samples, scale: int) -> NDArray[np.uint8]:
    """(H, W, 3): one row per video, below its real clip if there is one; one column per step, its last frame."""
    rows = [panel[:, -1:] for panels in _framed(samples, scale) for panel in panels]
    return tile([image for row in rows for image in row], samples.frames.shape[1], gap=2)[0]
