"""Pairs of videos from two worlds for people to choose from: a page that hides which is which, and a count of votes.

Letters: n pairs, T steps, F frames of a step, H W C pixels.
Source: the human evaluation of Predicting Video with VQVAE section 5.2.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from math import gcd, lcm
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.checkpoint import resolve, weights_name
from worldmodel.data import Batch, EpisodeStorage, StoreInfo, open_stores
from worldmodel.data.regroup import regroup_clip_actions, regroup_clips
from worldmodel.dynamics import Sampling
from worldmodel.envs.registry import steps_per_second
from worldmodel.evaluation.scores import sampled
from worldmodel.files import check_output, write_json, write_text
from worldmodel.layers.defaults import own_defaults
from worldmodel.media.write import CONTEXT_COLOR, PREDICTION_COLOR, as_rgb, border, upscale, write_video
from worldmodel.model import WorldModel
from worldmodel.progress import stepwise
from worldmodel.settings import AtLeastTwo, NonNegativeInt, PositiveFloat, PositiveInt, Temperature, checked_dataclass
from worldmodel.training.show.sample_inputs import CONDITIONS, check_same_game, choose_condition, real_clips
from worldmodel.training.show.votes import Tally, a_is_left
from worldmodel.training.show.votes import tally as tally_votes

_BORDER = 2  # pixels


@checked_dataclass
class CompareConfig:
    """Which pairs to make, and how to show them."""

    pairs: PositiveInt = 30  # n
    steps: AtLeastTwo = 4  # of the store, of each video, including the context
    given_steps: PositiveInt | None = None  # of the store, context of both worlds; None: as few as both allow
    split: str = "test"  # split of the store from which the context is drawn
    temperature: Temperature = 1.0  # of both worlds
    seed: NonNegativeInt = 0  # draws the clips and the videos, and shuffles the sides
    scale: PositiveInt = 3  # screen pixels per pixel
    fps: PositiveFloat | None = None  # video frames per second; None: as fast as the game


class Comparison(NamedTuple):
    """A page of pairs."""

    page: Path
    pairs: int

    def __str__(self) -> str:
        return (
            f"wrote {self.page} with {self.pairs} pairs: open it in a browser, choose, and save choices.json. Then "
            "count the votes: videogen-dream compare --tally choices.json. compare.json beside it says which is A"
        )


@own_defaults
def compare(
    a: str | os.PathLike | None = None,
    b: str | os.PathLike | None = None,
    /,
    config: CompareConfig | None = None,
    *,
    data: EpisodeStorage | str | Path | None = None,
    out: str | Path = "runs/compare",
    tally: Sequence[str | Path] = (),
    device: str = "auto",
) -> Comparison | Tally:
    """Write a page of pairs of videos from two worlds for people to choose from, or count their choices.

    Both videos of a pair begin with the same recorded frames. Sides are shuffled and names are hidden. A world whose
    steps have other frames than the store's gets the same clips, cut into its own steps.

    Args:
        a: world A: a run folder, a checkpoint folder, a shipped name or a hub id.
        b: world B.
        data: store of their game, for the context and the actions.
        out: folder of the page: index.html, the videos, and compare.json, which says which is A and which B.
        tally: files choices.json saved from a page: counts them instead of writing a page.
        device: where the models run; "auto" takes a GPU if there is one.

    Raises: ValueError if the worlds differ from the store in game or size, or cannot continue given frames.
    """
    config = config or CompareConfig()
    if tally:
        if a is not None or data is not None or config != CompareConfig():
            raise ValueError(
                "--tally counts votes and uses neither worlds nor --data, nor settings of pairs: omit them"
            )
        return tally_votes(tally)
    if a is None or b is None or data is None:
        raise ValueError("compare needs two worlds A and B and --data STORE; or --tally with files of choices")
    check_output(out, folder=True)
    page_file = Path(out) / "index.html"
    if page_file.exists() and not (Path(out) / "compare.json").is_file():
        raise ValueError(f"{page_file} is no page of pairs, and would be replaced: choose another out")
    store = open_stores(data)
    names = [str(name) for name in (a, b)]
    worlds = [WorldModel.from_pretrained(name, device=device) for name in names]
    for world in worlds:
        check_same_game(world.config, store, regrouped=True)
    given_steps = config.given_steps or _given_steps(worlds, store.info.frames_per_step)
    if given_steps >= config.steps:
        raise ValueError(f"given_steps must be below steps = {config.steps}, got {given_steps}; raise steps")
    for world in worlds:
        _check_whole_steps(world, store.info.frames_per_step, given_steps, config.steps)
    batch = store.batch(real_clips(store, config.pairs, config.steps, config.split, config.seed))
    videos = [_continued(world, batch, store.info, given_steps, config) for world in worlds]
    about: dict[str, Any] = {
        "a": names[0],
        "b": names[1],
        "weights": [weights_name(resolve(name)) for name in names],
        "given_steps": given_steps,
        "steps": config.steps,
        "split": config.split,
        "temperature": config.temperature,
        "data": store.fingerprint(),
    }
    page: dict[str, str | int] = {
        "page": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16],
        "pairs": config.pairs,
        "seed": config.seed,
    }
    fps = config.fps or steps_per_second(worlds[0].config) * worlds[0].frames_per_step
    return _write(Path(out), page, about, videos, given_steps, config, fps)


def _given_steps(worlds: Sequence[WorldModel], frames_per_step: int) -> int:
    """The fewest steps of the store that are whole steps of each world, and as many as it needs."""
    shared = lcm(frames_per_step, *(world.frames_per_step for world in worlds))
    wanted = max(
        (world.dynamics.given_steps or max(1, world.config.dynamics.frame_condition)) * world.frames_per_step
        for world in worlds
    )
    return -(-wanted // shared) * shared // frames_per_step


def _check_whole_steps(world: WorldModel, frames_per_step: int, given_steps: int, steps: int) -> None:
    """ValueError unless so many steps of the store are whole steps of the world."""
    own = world.frames_per_step
    for name, count in (("given_steps", given_steps), ("steps", steps)):
        if count * frames_per_step % own:
            multiple = own // gcd(own, frames_per_step)
            raise ValueError(
                f"{name} must be a multiple of {multiple}, got {count}: a step of one world has {own} frames, one of "
                f"the store {frames_per_step}"
            )


def _continued(
    world: WorldModel, batch: Batch, info: StoreInfo, given_steps: int, config: CompareConfig
) -> NDArray[np.uint8]:
    """A world's continuations of the first steps of (n, T, F, H, W, C), which are kept as recorded."""
    dynamics, clips = world.config.dynamics, {"data": True, "frames": False, "actions": False}
    reads = choose_condition("auto", dynamics, Sampling(), **clips, reads_frames=world.reads_frames)
    if not CONDITIONS[reads][0]:
        raise ValueError("both worlds must continue given frames; train them with frame_condition, or on single steps")
    theirs, own = info.frames_per_step, world.frames_per_step
    real, given = regroup_clips(batch.frames, own), given_steps * theirs // own
    acted = regroup_clip_actions(batch.actions, info.action, theirs, own) if CONDITIONS[reads][1] else None
    made = sampled(
        world,
        len(real),
        real.shape[1],
        config.seed,
        real[:, :given],
        acted,
        label="pairs",
        temperature=config.temperature,
    )
    return regroup_clips(torch.cat((real[:, :given], made[:, given:]), dim=1), theirs).numpy()


def _write(
    folder: Path,
    page: dict[str, str | int],
    about: dict[str, Any],
    videos: list[NDArray[np.uint8]],
    given_steps: int,
    config: CompareConfig,
    fps: float,
) -> Comparison:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").unlink(missing_ok=True)  # an earlier page would show the new videos under its old name
    shape = videos[0].shape
    colors = np.where((np.arange(shape[1]) < given_steps)[:, None], CONTEXT_COLOR, PREDICTION_COLOR).astype(np.uint8)
    for pair, a_left in enumerate(stepwise(a_is_left(config.pairs, config.seed), "pair", "write videos")):
        for side, video in zip(("left", "right"), videos if a_left else videos[::-1], strict=True):
            images = as_rgb(video[pair].reshape(-1, *shape[3:]))
            framed = border(upscale(images, config.scale), colors.repeat(shape[2], axis=0), _BORDER)
            write_video(folder / f"{pair}-{side}.mp4", framed, fps)
    write_json(folder / "compare.json", page | about)
    template = files("worldmodel.training.show").joinpath("compare.html").read_text(encoding="utf-8")
    write_text(folder / "index.html", template.replace("__PAGE__", json.dumps(page)))
    return Comparison(folder / "index.html", config.pairs)
