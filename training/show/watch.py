"""Videos of whole episodes of an agent or a scripted policy, in a real game or in a dream.

Letters: N video frames, H W pixels.
"""

import os
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.drawn import DrawnFrames
from worldmodel.media.write import (
    CONTEXT_COLOR,
    PREDICTION_COLOR,
    UNSEEN_COLOR,
    Color,
    as_rgb,
    border,
    check_ending,
    draw_side_by_side,
    tile,
    upscale,
    write_video,
)
from worldmodel.model import WorldModel
from worldmodel.progress import progress
from worldmodel.training.show.dreamt import decoded, encoded
from worldmodel.training.show.scenes import Frames, Scene, Shown, open_scene


class Watched(NamedTuple):
    """One episode of a video."""

    seed: int
    last: Shown  # its last step
    unit: str = ""  # of its return, if not the game's own reward

    def __str__(self) -> str:
        return f"episode of seed {self.seed}: {_note(self.last, self.unit)}"


def watch(
    player: str | os.PathLike,
    /,
    env: str,
    out: str | Path,
    episodes: int = 4,
    steps: int = 200,
    seed: int = 10_000,
    world: str | os.PathLike | None = None,
    temperature: float = 1.0,
    columns: int = 2,
    scale: int = 4,
    device: str = "auto",
) -> list[Watched]:
    """Write a video of an agent or a blind policy in a real game or in a dream: the first episodes of `evaluate`.

    Gray border: a real game. Orange: a dream. Blue: a real game as an agent observes it through a world model. The same
    arguments give the same video.

    Args:
        player: folder of a saved agent, or a blind policy, such as random, sticky or cycle:move_left*8,move_right*8
            (docs/collecting.md).
        env: id of a real game or of a dream; or the world to dream of: a run folder, a checkpoint folder, a shipped
            name or a hub id.
        out: .mp4, .gif or .webp, or without an ending for mp4 and gif.
        episodes: number of episodes.
        steps: maximum number of steps of an episode.
        seed: seed of the first episode; later ones use the following integers.
        world: world model of the agent's observations in a real game, if it has moved since training; for a dream, the
            world to use instead of the one shipped for the id.
        temperature: temperature of a dream.
        columns: columns of the grid.
        scale: screen pixels per pixel.
        device: where the world runs; "auto" takes a GPU if there is one.
    """
    with closing(open_scene(env, player, world=world, temperature=temperature, seed=seed, device=device)) as scene:
        if temperature != 1.0 and not scene.is_dream:
            raise ValueError(f"--temperature is for dreams, but {env} is a real game: omit it")
        return film(scene, out, episodes, steps, columns, scale)


def film(
    scene: Scene, out: str | os.PathLike, episodes: int = 4, steps: int = 200, columns: int = 2, scale: int = 4
) -> list[Watched]:
    """Write the next episodes of a scene with a policy as a video, side by side; arguments as in `watch`."""
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
    numbers = range(max(map(len, cells)))  # an episode that is over stays as it ended

    def draw(number: int) -> NDArray[np.uint8]:
        images = [cell[min(number, len(cell) - 1)][None] for cell in cells]
        return tile(images, min(columns, len(images)))[0]

    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, DrawnFrames(numbers, draw), scene.fps * len(played[0][0].frames))
    return watched


def _play(scene: Scene, steps: int) -> list[Shown]:
    seen = [scene.begin()]
    while len(seen) <= steps and not seen[-1].ended:
        seen.append(scene.step())
    return seen


def _cell(scene: Scene, seed: int, seen: list[Shown], scale: int) -> DrawnFrames:
    """One episode with its captions."""
    frames = np.stack([shown.frames for shown in seen])  # (T, F, H, W, 3)
    notes = [_note(shown, _unit(scene)) for shown in seen for _ in shown.frames]
    panels = [(f"seed {seed}", frames, PREDICTION_COLOR if scene.is_dream else UNSEEN_COLOR)]
    if scene.world is not None and not scene.is_dream:
        panels.append(("agent's view", _through(scene.world, frames), CONTEXT_COLOR))
    shown = [_framed(video.reshape(-1, *video.shape[2:]), color, scale) for _, video, color in panels]
    return draw_side_by_side(shown, [label for label, _, _ in panels], notes)


def _framed(frames: Frames, color: Color, scale: int) -> DrawnFrames:
    """Enlarged frames (N, H, W, 3) with a border."""
    return DrawnFrames(range(len(frames)), lambda n: border(upscale(frames[n : n + 1], scale), color, scale)[0])


def _unit(scene: Scene) -> str:
    """Unit of a dream's rewards; "" for the game's own."""
    reward = scene.world.config.reward if scene.is_dream and scene.world is not None else "native"
    return "" if reward == "native" else reward


def _note(shown: Shown, unit: str = "") -> str:
    total = shown.total if shown.native is None else shown.native
    parts = (f"return {round(total, 1) + 0.0:g} {unit}".rstrip(), f"step {shown.step}", shown.ending)
    return "  ".join(part for part in parts if part)


def _through(world: WorldModel, frames: Frames) -> Frames:
    """RGB frames (T, F, H, W, 3), encoded and decoded by the tokenizer."""
    return as_rgb(decoded(world, encoded(world, frames[..., : world.config.tokenizer.channels])))
