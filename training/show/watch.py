"""Videos of whole episodes: an agent, or scripted play, in a real game or in a dream.

Letters: N video frames, H W pixels.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from worldmodel.media.write import (
    CONTEXT_COLOR,
    PREDICTION_COLOR,
    UNSEEN_COLOR,
    border,
    check_ending,
    side_by_side,
    tile,
    upscale,
    write_video,
)
from worldmodel.model import WorldModel
from worldmodel.progress import progress
from worldmodel.training.show.scenes import Frames, Scene, Shown, rgb


class Watched(NamedTuple):
    """One episode of a video."""

    seed: int
    last: Shown  # its last step
    unit: str = ""  # of its return, if that is not the game's own reward

    def __str__(self) -> str:
        return f"episode of seed {self.seed}: {_note(self.last, self.unit)}"


def watch(
    scene: Scene, out: str | os.PathLike, episodes: int = 4, steps: int = 200, columns: int = 2, scale: int = 4
) -> list[Watched]:
    """Play episodes and write them as a video, side by side; the same arguments write the same video.

    Gray border: a real game. Orange: a dream. Blue: a real game as a policy that looks through a world model sees it.

    Args:
        scene: with a policy; its next `episodes` episodes are played.
        out: .mp4 or .gif, or without an ending for both.
        steps: of an episode at most.
        columns: of the grid.
        scale: screen pixels per pixel.
    """
    path = check_ending(Path(out))
    if not scene.has_policy:
        raise ValueError("a scene without a policy plays nothing to watch")
    for name, value in (("episodes", episodes), ("steps", steps), ("columns", columns), ("scale", scale)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    watched, played = [], []
    with progress(episodes, "episode", "watch") as bar:
        for _ in range(episodes):
            seen = _play(scene, steps)
            watched.append(Watched(scene.seed, seen[-1], _unit(scene)))
            played.append(seen)
            bar.update(1)
    cells = [_cell(scene, one.seed, seen, scale) for one, seen in zip(watched, played, strict=True)]
    longest = max(map(len, cells))
    held = [np.concatenate((cell, cell[-1:].repeat(longest - len(cell), axis=0))) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, tile(held, min(columns, len(held))), scene.fps * len(played[0][0].frames))
    return watched


def _play(scene: Scene, steps: int) -> list[Shown]:
    seen = [scene.begin()]
    while len(seen) <= steps and not seen[-1].ended:
        seen.append(scene.step())
    return seen


def _cell(scene: Scene, seed: int, seen: list[Shown], scale: int) -> Frames:
    """One episode with its captions, (N, H, W, 3)."""
    frames = np.stack([shown.frames for shown in seen])  # (T, F, H, W, 3)
    notes = [_note(shown, _unit(scene)) for shown in seen for _ in shown.frames]
    panels = [(f"seed {seed}", frames, PREDICTION_COLOR if scene.is_dream else UNSEEN_COLOR)]
    if scene.world is not None and not scene.is_dream:
        panels.append(("agent's view", _through(scene.world, frames), CONTEXT_COLOR))
    shown = [border(upscale(video.reshape(-1, *video.shape[2:]), scale), color, scale) for _, video, color in panels]
    return side_by_side(shown, [label for label, _, _ in panels], notes)


def _unit(scene: Scene) -> str:
    """What a dream's rewards are in, if not what the game itself pays."""
    reward = scene.world.config.reward if scene.is_dream and scene.world is not None else "native"
    return "" if reward == "native" else reward


def _note(shown: Shown, unit: str = "") -> str:
    total = shown.total if shown.native is None else shown.native
    end = {"terminated": "ended", "truncated": "time up"}.get(shown.ended, "")
    return "  ".join(
        part for part in (f"return {round(total, 1) + 0.0:g} {unit}".rstrip(), f"step {shown.step}", end) if part
    )


@torch.inference_mode()
def _through(world: WorldModel, frames: Frames) -> Frames:
    """RGB frames (T, F, H, W, 3) as the tokenizer keeps them, in RGB again."""
    steps = torch.from_numpy(frames[..., : world.config.tokenizer.channels]).to(world.device)[:, None]
    pieces = [world.tokenizer.decode(world.tokenizer.encode(piece)) for piece in steps.split(64)]
    return rgb(torch.cat(pieces)[:, 0].cpu().numpy())
