"""Compose and write videos: panels and grids with captions and coloured borders, as mp4, small gif or webp.

Letters: N video frames, H W pixels, T steps, F frames of a step. All images are uint8 RGB, (N, H, W, 3).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from worldmodel.files import atomic_write, check_output
from worldmodel.media.captions import BACKGROUND, CAPTION_HEIGHT, GAP, Label, footings, headings
from worldmodel.media.drawn import DrawnFrames
from worldmodel.media.films import check_written
from worldmodel.progress import progress_if_long, stepwise

Frames = NDArray[np.uint8]  # (N, H, W, 3)
Film = TypeVar("Film", bound=Frames | DrawnFrames)
Color = tuple[int, int, int]

# Okabe and Ito's colours, which are distinguishable for colour-blind people.
CONTEXT_COLOR: Color = (0, 114, 178)  # blue: context given to the model
PREDICTION_COLOR: Color = (230, 159, 0)  # orange: predicted by the model
UNSEEN_COLOR: Color = (120, 120, 120)  # gray: real, but not given to the model

FILM_ENDINGS = (".mp4", ".gif", ".webp")
_GIF_BYTES = 2_000_000
_GIF_FPS = 50  # browsers show an image for 0.1 s if its duration is below 0.02 s


def as_rgb(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (…, 1 or 3) as RGB (…, 3); a single channel becomes gray."""
    return frames if frames.shape[-1] == 3 else frames.repeat(3, axis=-1)


def upscale(frames: Frames, scale: int) -> Frames:
    """Repeat every pixel `scale` times in both directions: (N, H, W, 3) -> (N, H * scale, W * scale, 3)."""
    return _checked(frames).repeat(scale, axis=1).repeat(scale, axis=2)


def border(frames: Frames, color: Color | NDArray[np.uint8], width: int) -> Frames:
    """Add a coloured border around each image, outside its pixels.

    Args:
        frames: (N, H, W, 3) uint8.
        color: one RGB colour, or (N, 3) uint8 with one per image.
        width: width of the border in pixels.

    Returns: (N, H + 2 * width, W + 2 * width, 3) uint8.
    """
    num, height, image_width, _ = _checked(frames).shape
    colors = np.broadcast_to(np.asarray(color, dtype=np.uint8), (num, 3))
    framed = np.empty((num, height + 2 * width, image_width + 2 * width, 3), dtype=np.uint8)
    framed[:] = colors[:, None, None]
    framed[:, width : width + height, width : width + image_width] = frames
    return framed


def side_by_side(panels: Sequence[Frames], labels: Sequence[str], notes: Sequence[str] | None = None) -> Frames:
    """Put videos of equal length and height side by side, each with a label above.

    Labels and notes that do not fit on one line are written smaller, then on two lines, then cut.

    Args:
        panels: each (N, H, W_i, 3) uint8.
        labels: one short text per panel.
        notes: N short texts, such as the step number; note i is shown at the right end above image i.

    Returns: (N, H + CAPTION_HEIGHT, sum of W_i and gaps of 4, 3) uint8.
    """
    return np.stack(draw_side_by_side(panels, labels, notes))


def draw_side_by_side(panels: Sequence[Film], labels: Sequence[str], notes: Sequence[str] | None = None) -> DrawnFrames:
    """`side_by_side`, image by image when they are needed."""
    shapes = {_checked(panel).shape[:2] for panel in panels}
    if len(shapes) != 1 or len(panels) != len(labels):
        raise ValueError(f"needs one label per panel and panels of equal length and height, got {labels}, {shapes}")
    num, height = shapes.pop()
    if notes is not None and len(notes) != num:
        raise ValueError(f"needs one note for each of the {num} images, got {len(notes)}")

    lefts = [0]
    for panel in panels:
        lefts.append(lefts[-1] + panel.shape[2] + GAP)
    total_width = lefts[-1] - GAP
    placed = [
        Label(left + GAP, panel.shape[2] - 2 * GAP, label)
        for label, left, panel in zip(labels, lefts[:-1], panels, strict=True)
    ]
    strips = headings(total_width, placed, [""] * num if notes is None else notes)

    def draw(index: int) -> NDArray[np.uint8]:
        joined = np.empty((CAPTION_HEIGHT + height, total_width, 3), dtype=np.uint8)
        joined[:] = BACKGROUND
        joined[:CAPTION_HEIGHT] = strips[index]
        for panel, left in zip(panels, lefts[:-1], strict=True):
            joined[CAPTION_HEIGHT:, left : left + panel.shape[2]] = panel[index]
        return joined

    return DrawnFrames(range(num), draw)


def caption(frames: Frames, texts: Sequence[str]) -> Frames:
    """Put a text below each image: (N, H, W, 3) and N texts -> (N, H + CAPTION_HEIGHT, W, 3)."""
    width = _checked(frames).shape[2]
    return np.concatenate((frames, np.stack(footings(width, texts))), axis=1)


def tile(cells: Sequence[Frames], columns: int, gap: int = 6) -> Frames:
    """Arrange videos of one shape in a grid, row by row; empty cells stay dark.

    Returns: (N, rows * (H + gap) - gap, columns * (W + gap) - gap, 3) uint8.
    """
    if not cells or columns < 1 or len({_checked(cell).shape for cell in cells}) != 1:
        shapes = sorted({cell.shape for cell in cells})
        raise ValueError(f"a grid needs videos of one shape and at least one column, got {shapes} and {columns}")
    num, height, width, _ = cells[0].shape
    down, right = height + gap, width + gap
    grid = np.empty((num, -(-len(cells) // columns) * down - gap, columns * right - gap, 3), dtype=np.uint8)
    grid[:] = BACKGROUND
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        grid[:, row * down : row * down + height, column * right : column * right + width] = cell
    return grid


def dream_vs_real(
    real: NDArray[np.uint8],
    dream: NDArray[np.uint8],
    context_steps: int,
    path: str | Path,
    fps: float,
    scale: int = 4,
) -> list[Path]:
    """Write a video of real episodes (left) beside the model's dreams from the same starts and actions (right).

    Args:
        real, dream: (K, T, F, H, W, 3) uint8, K episodes shown one after the other, T steps of F frames each.
        context_steps: number of leading context steps (blue border); the rest is prediction (orange).
        path: as for `write_video`.
        fps: video frames per second.
        scale: screen pixels per pixel.

    Returns: the files written.
    """
    if real.shape != dream.shape or real.ndim != 6:
        raise ValueError(f"real and dream must have one shape (K, T, F, H, W, 3), got {real.shape} and {dream.shape}")
    num_steps, frames_per_step = real.shape[1:3]
    if not 0 <= context_steps <= num_steps:
        raise ValueError(f"context_steps must be in [0, {num_steps}], the number of steps, got {context_steps}")
    step_of_image = np.arange(num_steps).repeat(frames_per_step)
    in_context = step_of_image < context_steps
    colors = np.where(in_context[:, None], CONTEXT_COLOR, PREDICTION_COLOR).astype(np.uint8)
    notes = [
        f"context {step + 1}/{context_steps}" if is_context else f"step {step - context_steps + 1}"
        for step, is_context in zip(step_of_image, in_context, strict=True)
    ]
    episodes = []
    for pair in zip(real, dream, strict=True):
        panels = [border(upscale(video.reshape(-1, *video.shape[-3:]), scale), colors, scale) for video in pair]
        episodes.append(side_by_side(panels, ["real", "dream"], notes))
    return write_video(path, np.concatenate(episodes), fps)


def write_video(path: str | Path, frames: Frames | DrawnFrames, fps: float) -> list[Path]:
    """Write frames as `path`.mp4 and `path`.gif, or as one file if `path` has an ending: .mp4, .gif or .webp.

    The gif gets fewer images per second (at the same speed) and fewer colours until it is smaller than 2 MB.

    Args:
        path: file with the ending .mp4, .gif or .webp, or without ending for mp4 and gif.
        frames: (N, H, W, 3) uint8, N at least 1. An mp4 takes `DrawnFrames` one by one; a gif keeps all of them, with
            a byte for each pixel, and a webp as they are.
        fps: frames per second.

    Returns: the files written, each whole or not at all.
    """
    path = check_ending(path)
    if len(frames) == 0 or fps <= 0:
        raise ValueError(f"a video needs at least one frame and fps above 0, got {len(frames)} frames and fps {fps}")
    frames = _checked(frames)
    files = _files_of(path)
    for file in files:
        if file.suffix == ".mp4":
            _write_mp4(file, frames, fps)
        elif file.suffix == ".webp":
            _write_webp(file, frames, fps)
        else:
            _write_gif(file, frames, fps)
    return files


def check_ending(path: str | Path) -> Path:
    """Path of a video to write; ValueError if its ending is unknown, OSError if it cannot be written."""
    path = Path(path)
    if path.suffix not in ("", *FILM_ENDINGS):
        raise ValueError(f"videos are written as .mp4, .gif or .webp (without ending: mp4 and gif), got {path.name!r}")
    for file in _files_of(path):
        check_output(file)
    return path


def _files_of(path: Path) -> list[Path]:
    return [path] if path.suffix else [path.with_suffix(".mp4"), path.with_suffix(".gif")]


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write one image (H, W, 3) uint8 as PNG, whole or not at all."""
    from PIL import Image

    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG")


def _write_mp4(path: Path, frames: Frames | DrawnFrames, fps: float) -> None:
    from moviepy import VideoClip

    # Players need the subsampled colour of yuv420p, which requires even sizes.
    height, width = frames.shape[1:3]

    def even(index: int) -> NDArray[np.uint8]:
        bar.update(index + 1 - bar.done)
        return np.pad(frames[index], ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")

    # The temporary name has no ending that ffmpeg knows, so the container is stated.
    options = ["-f", "mp4", "-crf", "18", "-movflags", "+faststart"]
    with atomic_write(path) as temporary, progress_if_long(len(frames), "image", "write an mp4") as bar:
        # Not moviepy's ImageSequenceClip: it finds images by float32 times and from 2 s on repeats and skips some.
        # Half an image longer, because the number of images is the duration times fps, rounded down.
        clip = VideoClip(lambda time: even(round(time * fps)), duration=(len(frames) + 0.5) / fps)
        clip.write_videofile(
            str(temporary),
            fps=fps,
            codec="libx264",
            preset="veryfast",
            audio=False,
            logger=None,
            ffmpeg_params=options,
        )
        check_written(temporary, len(frames), path)


def _write_gif(path: Path, frames: Frames | DrawnFrames, fps: float) -> None:
    with atomic_write(path) as temporary:
        slower = math.ceil(fps / _GIF_FPS)
        for thinning, num_colors in ((1, 128), (2, 128), (2, 64), (2, 32), (4, 64), (8, 32)):
            keep_every = slower * thinning
            _encode_gif(temporary, frames[::keep_every], fps / keep_every, num_colors)
            if temporary.stat().st_size < _GIF_BYTES:
                return


def _write_webp(path: Path, frames: Frames | DrawnFrames, fps: float) -> None:
    from PIL import Image

    images, durations = [Image.fromarray(frame) for frame in frames], _durations(len(frames), fps, unit=1)
    with atomic_write(path) as temporary:
        images[0].save(
            temporary, "WEBP", save_all=True, append_images=images[1:], duration=durations, loop=0, quality=80, method=4
        )


def _encode_gif(path: Path, frames: Frames | DrawnFrames, fps: float, num_colors: int) -> None:
    from PIL import Image

    # One palette for all images, from a sample of them: prevents flicker, and unchanged pixels compress to nothing.
    sample = frames[:: max(1, len(frames) // 16)]
    palette = Image.fromarray(np.concatenate(list(sample))).quantize(num_colors)
    drawn = stepwise(frames, "image", "write a gif")
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in drawn]
    durations = _durations(len(frames), fps, unit=10)  # a gif counts in hundredths of a second
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)


def _durations(count: int, fps: float, unit: int) -> list[int]:
    """Milliseconds of each of `count` images, in multiples of `unit`: rounds the times, so that the speed is right."""
    times = [unit * round(1000 / unit * index / fps) for index in range(count + 1)]
    return [end - start for start, end in pairwise(times)]


def _checked(frames: Film) -> Film:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be (N, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
    return frames
