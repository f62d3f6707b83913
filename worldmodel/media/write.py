"""Videos to look at: panels and grids with captions and border colours, written as mp4 and as a small gif.

Letters: N video frames, H W pixels, T steps, F frames of a step. All images are uint8 RGB, (N, H, W, 3).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.files import atomic_write
from worldmodel.media.captions import BACKGROUND, CAPTION_HEIGHT, GAP, Label, footings, headings

Frames = NDArray[np.uint8]  # (N, H, W, 3)
Color = tuple[int, int, int]

# Okabe and Ito's colours, which colour-blind people can tell apart.
CONTEXT_COLOR: Color = (0, 114, 178)  # blue: the model was shown this
PREDICTION_COLOR: Color = (230, 159, 0)  # orange: the model made this up
UNSEEN_COLOR: Color = (120, 120, 120)  # gray: real, but the model was not shown it

_GIF_FPS = 50  # browsers show an image for a tenth of a second if it is to be shown for less than two hundredths


def upscale(frames: Frames, scale: int) -> Frames:
    """Repeat every pixel `scale` times each way: (N, H, W, 3) -> (N, H * scale, W * scale, 3)."""
    return _checked(frames).repeat(scale, axis=1).repeat(scale, axis=2)


def border(frames: Frames, color: Color | NDArray[np.uint8], width: int) -> Frames:
    """Put a frame of colour around each image, outside its pixels.

    Args:
        frames: (N, H, W, 3) uint8.
        color: one RGB colour, or (N, 3) uint8 with one for each image.
        width: of the border in pixels.

    Returns: (N, H + 2 * width, W + 2 * width, 3) uint8.
    """
    num, height, image_width, _ = _checked(frames).shape
    colors = np.broadcast_to(np.asarray(color, dtype=np.uint8), (num, 3))
    framed = np.empty((num, height + 2 * width, image_width + 2 * width, 3), dtype=np.uint8)
    framed[:] = colors[:, None, None]
    framed[:, width : width + height, width : width + image_width] = frames
    return framed


def side_by_side(panels: Sequence[Frames], labels: Sequence[str], notes: Sequence[str] | None = None) -> Frames:
    """Videos of equal length and height next to each other, each under its label.

    Where labels and notes do not fit beside each other they are written smaller, then on two lines, and then cut.

    Args:
        panels: each (N, H, W_i, 3) uint8.
        labels: one short text for each panel.
        notes: N short texts, such as the step number; note i stands at the right end above image i.

    Returns: (N, H + CAPTION_HEIGHT, sum of W_i and gaps of 4, 3) uint8.
    """
    shapes = {_checked(panel).shape[:2] for panel in panels}
    if len(shapes) != 1 or len(panels) != len(labels):
        raise ValueError(f"needs a label for each panel and panels of one length and height, got {labels}, {shapes}")
    num, height = shapes.pop()
    if notes is not None and len(notes) != num:
        raise ValueError(f"needs one note for each of the {num} images, got {len(notes)}")

    lefts = [0]
    for panel in panels:
        lefts.append(lefts[-1] + panel.shape[2] + GAP)
    total_width = lefts[-1] - GAP
    joined = np.empty((num, CAPTION_HEIGHT + height, total_width, 3), dtype=np.uint8)
    joined[:] = BACKGROUND
    for panel, left in zip(panels, lefts[:-1], strict=True):
        joined[:, CAPTION_HEIGHT:, left : left + panel.shape[2]] = panel

    placed = [
        Label(left + GAP, panel.shape[2] - 2 * GAP, label)
        for label, left, panel in zip(labels, lefts[:-1], panels, strict=True)
    ]
    joined[:, :CAPTION_HEIGHT] = headings(total_width, placed, [""] * num if notes is None else notes)
    return joined


def caption(frames: Frames, texts: Sequence[str]) -> Frames:
    """Each image above its text: (N, H, W, 3) and N texts -> (N, H + CAPTION_HEIGHT, W, 3)."""
    width = _checked(frames).shape[2]
    return np.concatenate((frames, np.stack(footings(width, texts))), axis=1)


def tile(cells: Sequence[Frames], columns: int, gap: int = 6) -> Frames:
    """Videos of one shape as a grid, filled row by row; places that stay empty are dark.

    Returns: (N, rows * (H + gap) - gap, columns * (W + gap) - gap, 3) uint8.
    """
    if not cells or columns < 1 or len({_checked(cell).shape for cell in cells}) != 1:
        shapes = sorted({cell.shape for cell in cells})
        raise ValueError(f"a grid needs videos of one shape and at least one column, got {shapes} and {columns}")
    num, height, width, _ = cells[0].shape
    down, right = height + gap, width + gap
    grid = np.empty((num, -(-len(cells) // columns) * down - gap, columns * right - gap, 3), dtype=np.uint8)
    grid[:] = BACKGROUND
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
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
    """Write a video of what happened (left) beside what the model dreamt for the same start and actions (right).

    Args:
        real, dream: (K, T, F, H, W, 3) uint8, K episodes shown one after the other, T steps of F frames each.
        context_steps: leading steps that the model was shown (blue border); the rest is prediction (orange).
        path: as for `write_video`.
        fps: video frames per second.
        scale: screen pixels per pixel.

    Returns: the files written.
    """
    if real.shape != dream.shape or real.ndim != 6:
        raise ValueError(f"real and dream must have one shape (K, T, F, H, W, 3), got {real.shape} and {dream.shape}")
    num_steps, frames_per_step = real.shape[1:3]
    if not 0 <= context_steps <= num_steps:
        raise ValueError(f"context_steps must be in [0, {num_steps}], the steps given, got {context_steps}")
    step_of_image = np.arange(num_steps).repeat(frames_per_step)
    in_context = step_of_image < context_steps
    colors = np.where(in_context[:, None], CONTEXT_COLOR, PREDICTION_COLOR).astype(np.uint8)
    notes = [
        f"context {step + 1}/{context_steps}" if shown else f"step {step - context_steps + 1}"
        for step, shown in zip(step_of_image, in_context, strict=True)
    ]
    episodes = []
    for pair in zip(real, dream, strict=True):
        panels = [border(upscale(video.reshape(-1, *video.shape[-3:]), scale), colors, scale) for video in pair]
        episodes.append(side_by_side(panels, ["real", "dream"], notes))
    return write_video(path, np.concatenate(episodes), fps)


def write_video(path: str | Path, frames: Frames, fps: float, scale: int = 1) -> list[Path]:
    """Write frames as `path`.mp4 and `path`.gif, or as one of the two if `path` names it by its ending.

    The gif gets fewer images per second (at the same speed) and fewer colours, until it is smaller than 2 MB.

    Args:
        path: the file, with the ending .mp4 or .gif, or without an ending for both.
        frames: (N, H, W, 3) uint8, N at least 1.
        fps: frames per second.
        scale: screen pixels per pixel.

    Returns: the files written, each whole or not at all.
    """
    path = check_ending(path)
    if len(frames) == 0 or fps <= 0:
        raise ValueError(f"a video needs at least one frame and fps above 0, got {len(frames)} frames and fps {fps}")
    files = [path] if path.suffix else [path.with_suffix(".mp4"), path.with_suffix(".gif")]
    for file in files:
        if file.suffix == ".mp4":
            _write_mp4(file, _checked(frames), fps, scale)
        else:
            _write_gif(file, upscale(frames, scale), fps)
    return files


def check_ending(path: str | Path) -> Path:
    """The path of a video to write; ValueError if its ending is unknown."""
    path = Path(path)
    if path.suffix not in ("", ".mp4", ".gif"):
        raise ValueError(f"a video is written as .mp4 or .gif (or both, with no ending), got {path.name!r}")
    return path


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write one image (H, W, 3) uint8 as PNG, whole or not at all."""
    from PIL import Image

    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG")


def _write_mp4(path: Path, frames: Frames, fps: float, scale: int) -> None:
    from moviepy import VideoClip

    # Players want the halved colour planes of yuv420p, and those want even sides.
    height, width = frames.shape[1] * scale, frames.shape[2] * scale

    def even(number: int) -> NDArray[np.uint8]:
        (image,) = upscale(frames[number : number + 1], scale)  # one by one: a long video is large
        return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")

    # Not moviepy's ImageSequenceClip, which looks images up by float32 times: from 2 s on it repeats some and skips
    # others. Half an image longer, because the number of images is the duration times fps rounded down.
    clip = VideoClip(lambda time: even(round(time * fps)), duration=(len(frames) + 0.5) / fps)
    # The temporary name has no ending that ffmpeg knows, so the container is named.
    options = ["-f", "mp4", "-crf", "18", "-movflags", "+faststart"]
    with atomic_write(path) as temporary:
        clip.write_videofile(
            str(temporary),
            fps=fps,
            codec="libx264",
            preset="veryfast",
            audio=False,
            logger=None,
            ffmpeg_params=options,
        )


def _write_gif(path: Path, frames: Frames, fps: float, max_bytes: int = 2_000_000) -> None:
    with atomic_write(path) as temporary:
        slower = math.ceil(fps / _GIF_FPS)
        for thinning, num_colors in ((1, 128), (2, 128), (2, 64), (2, 32), (4, 64), (8, 32)):
            keep_every = slower * thinning
            _encode_gif(temporary, frames[::keep_every], fps / keep_every, num_colors)
            if temporary.stat().st_size < max_bytes:
                return


def _encode_gif(path: Path, frames: Frames, fps: float, num_colors: int) -> None:
    from PIL import Image

    # One palette for all images, taken from a sample of them: walls do not flicker, and unchanged pixels cost nothing.
    sample = frames[:: max(1, len(frames) // 16)]
    palette = Image.fromarray(sample.reshape(-1, *sample.shape[2:])).quantize(num_colors)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    # A gif counts in hundredths of a second: round the times, not the lengths, so that the speed is right.
    times = [round(100 * i / fps) for i in range(len(frames) + 1)]
    durations = [10 * (end - start) for start, end in pairwise(times)]
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)


def _checked(frames: Frames) -> Frames:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be (N, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
    return frames
