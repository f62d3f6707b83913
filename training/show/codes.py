"""Visualise codes: frames, the codes of each codebook as colours, and where they change.

Letters: n clips, T steps, F frames of a step, H W C pixels, k code maps in a step, h w their grid, V codes.
Source: Latent Video Transformer (arXiv:2006.10704) section 4.6, figures of indexed colours and of changed codes.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.checkpoint import kind_in, resolve
from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.devices import usable_device
from worldmodel.dynamics import Sampling
from worldmodel.evaluation.scores import encode_decode
from worldmodel.files import check_output
from worldmodel.layers.defaults import own_defaults
from worldmodel.media.captions import CAPTION_HEIGHT, GAP, footings
from worldmodel.media.code_colors import changes, code_colors, draw_changes
from worldmodel.media.write import as_rgb, upscale, write_image
from worldmodel.model import WorldModel
from worldmodel.settings import AtLeastTwo, PositiveInt, Temperature, check_used, checked_dataclass
from worldmodel.tokenizer import HierarchicalVQVAE, Tokenizer
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training.show.sample_inputs import CONDITIONS, check_same_game, choose_condition, real_clips
from worldmodel.training.train_tokenizer import check_matches

_LABEL_WIDTH = 150  # pixels left of the rows


@checked_dataclass
class ShowCodesConfig:
    """Which clips to show, and how."""

    n: PositiveInt = 1  # number of clips, one below the other
    steps: AtLeastTwo | None = None  # of each clip; None: a clip of a clip tokenizer, or 8
    split: str = "test"  # split of the store from which the clips are drawn
    temperature: Temperature = 1.0  # of generated frames; 0 takes the likeliest codes
    seed: int = 0  # draws the clips and the generated frames
    scale: PositiveInt = 2  # screen pixels per pixel


class Shown(NamedTuple):
    """Result of `show_codes`."""

    image: NDArray[np.uint8]  # (H', W', 3)
    changed: dict[str, dict[str, float]]  # "real" or "generated" -> code map -> share of codes that change between maps
    file: Path

    def __str__(self) -> str:
        lines = [
            f"{kind} {name}: {share:.1%} of the codes change from one image to the next"
            for kind, rows in self.changed.items()
            for name, share in rows.items()
        ]
        return "\n".join([*lines, f"wrote {self.file}"])


@own_defaults
def show_codes(
    model: WorldModel | Tokenizer | str | os.PathLike,
    /,
    data: EpisodeStorage | str | Path,
    out: str | Path = "codes.png",
    config: ShowCodesConfig | None = None,
    *,
    device: str = "auto",
) -> Shown:
    """Write an image of real frames and their codes; with a world model also of generated frames and codes.

    From top to bottom: frames, their reconstruction, the top level alone if there are levels, a row of codes in
    indexed colours for each codebook, and for each a row that is yellow where a code differs from the previous one. A
    code has the same colour in all rows and runs.

    Args:
        model: a tokenizer or a world model: a run folder, a checkpoint folder, a shipped name or a hub id.
        data: store of frames of the model's size; for a world model, of its game.
        out: file to write, .png.
        device: where the model runs; "auto" takes a GPU if there is one.

    Raises: ValueError if the store does not fit the model, or a world model needs more than frames and actions.
    """
    config, out = config or ShowCodesConfig(), Path(out)
    if out.suffix != ".png":
        raise ValueError(f"out must be a .png file, got {out.name!r}")
    check_output(out)
    if isinstance(model, str | os.PathLike):
        model = _load(model, device)
    if not isinstance(model, WorldModel):
        check_used(config, "a world model", "temperature")
    tokenizer = model.tokenizer if isinstance(model, WorldModel) else model
    store = open_stores(data)
    if isinstance(model, WorldModel):
        check_same_game(model.config, store)
    check_matches(store, tokenizer.config)
    if store.info.channels not in (1, 3):
        raise ValueError(f"only gray and RGB frames can be shown, these have {store.info.channels} channels")
    batch = store.batch(real_clips(store, config.n, config.steps or _default_steps(model), config.split, config.seed))
    codes, seen = encode_decode(tokenizer, batch.frames, tokenizer.device)
    panels = {"real": _Panel(codes, {"real frames": batch.frames, "reconstructed": seen})}
    if isinstance(model, WorldModel):
        panels["generated"] = _generated(model, batch.frames, batch.actions, config)
    changed = {}
    for kind, (codes, videos) in panels.items():
        if isinstance(tokenizer, HierarchicalVQVAE):
            with torch.inference_mode():
                videos["top alone"] = tokenizer.decode_top(codes.to(tokenizer.device)).cpu()
        maps = tokenizer.code_maps(codes)
        changed[kind] = {name: float(changes(part.numpy())[:, 1:].mean()) for name, part in maps.items()}
    image = np.concatenate(
        [
            draw_codes(_of(clip, videos), _of(clip, tokenizer.code_maps(codes)), config.scale)
            for clip in range(config.n)
            for codes, videos in panels.values()
        ]
    )
    write_image(out, image)
    return Shown(image, changed, out)


def _default_steps(model: WorldModel | Tokenizer) -> int:
    """One clip, or 8, as far as the model's videos go."""
    tokenizer = (model.tokenizer if isinstance(model, WorldModel) else model).config
    if tokenizer.temporal == "clip":
        return tokenizer.clip_steps
    longest = model.longest_video if isinstance(model, WorldModel) else None
    return 8 if longest is None else min(longest, 8)


class _Panel(NamedTuple):
    codes: Tensor  # (n, T, h, w, M)
    videos: dict[str, Tensor]  # name of a row -> (n, T, F, H, W, C) uint8


def _of(clip: int, rows: dict[str, Tensor]) -> dict[str, NDArray]:
    return {name: row[clip].numpy() for name, row in rows.items()}


def _load(name: str | os.PathLike, device: str) -> WorldModel | Tokenizer:
    if kind_in(resolve(name)) != "tokenizer":
        return WorldModel.from_pretrained(name, device=device)
    return load_tokenizer(name).to(usable_device(device))


def _generated(wm: WorldModel, frames: Tensor, actions: Tensor, config: ShowCodesConfig) -> _Panel:
    """Continue the first of these steps, with their actions if the model reads actions."""
    dynamics, sampling = wm.config.dynamics, Sampling(temperature=config.temperature)
    data = wm.reads_frames or dynamics.action_condition != "none"
    condition = choose_condition("auto", dynamics, sampling, data, False, False, wm.reads_frames)
    gives_frames, gives_actions = CONDITIONS[condition]
    first = frames[:, : max(1, dynamics.frame_condition)] if gives_frames else None
    seeds = range(config.seed, config.seed + len(frames))
    steps, taken = frames.shape[1], actions if gives_actions else None
    video = wm.sample(len(frames), steps, first, taken, temperature=config.temperature, seeds=seeds)
    return _Panel(video.codes.cpu(), {"generated frames": video.frames.cpu()})


def draw_codes(
    frames: dict[str, NDArray[np.uint8]], maps: dict[str, NDArray[np.int64]], scale: int
) -> NDArray[np.uint8]:
    """Draw one clip: rows of frames (T, F, H, W, C), of codes (T, k, h, w) as colours, and of their changes."""
    colors = code_colors(1 + max(int(part.max()) for part in maps.values()))
    _, per_step, height, width, _ = next(iter(frames.values())).shape
    cell = height * scale, (width * scale + GAP) * per_step - GAP
    rows = {name: as_rgb(video) for name, video in frames.items()}
    rows |= {f"codes: {name}": colors[part] for name, part in maps.items()}
    for name, part in maps.items():
        rows[f"changed: {name}"] = draw_changes(part)
    return np.concatenate([_row(name, images, cell) for name, images in rows.items()])


def _row(name: str, images: NDArray[np.uint8], cell: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw images (T, k, h, w, 3) in cells of one size, k of them side by side per step, with a name on the left."""
    steps, count, height, width, _ = images.shape
    room = (cell[1] + GAP) // count - GAP
    times = max(1, min(cell[0] // height, room // width))
    row = np.zeros((cell[0] + GAP, _LABEL_WIDTH + steps * (cell[1] + 3 * GAP), 3), np.uint8)
    top = max(0, (cell[0] - CAPTION_HEIGHT) // 2)
    label = footings(_LABEL_WIDTH, [name])[0][: cell[0]]
    row[:, :_LABEL_WIDTH] = label[0, 0]
    row[top : top + len(label), :_LABEL_WIDTH] = label
    for step in range(steps):
        for index, image in enumerate(upscale(np.ascontiguousarray(images[step]), times)):
            left = (
                _LABEL_WIDTH + 2 * GAP + step * (cell[1] + 3 * GAP) + index * (room + GAP) + (room - width * times) // 2
            )
            down = (cell[0] - height * times) // 2
            row[down : down + height * times, left : left + width * times] = image
    return row
