"""Films that hold the frames of many episodes: written as a stream, read in pieces.

Letters: V frames, H W C pixels.
"""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import StoreInfo
from worldmodel.files import naming_failures
from worldmodel.media.films import check_written, images_of_film
from worldmodel.media.resize import area_resize

GROUP = 2  # frames from one that is stored whole to the next; LeRobot's own, so that single frames are read fast
# How pixels are stored, by ffmpeg's names: all colours, half of them in both directions, or as they are.
PIXELS = {"yuv444p": "yuv444p", "yuv420p": "yuv420p", "rgb": "rgb24"}


class FilmWriter:
    """An H.264 film to which the frames of episodes are appended; closed at the end of a `with`."""

    def __init__(self, path: Path, info: StoreInfo, fps: float, crf: int, pixels: str) -> None:
        from imageio_ffmpeg import write_frames

        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        options = ["-crf", str(crf), "-g", str(GROUP), "-bf", "0", "-preset", "veryfast", "-movflags", "+faststart"]
        self._writer = write_frames(
            str(path),
            (info.width, info.height),
            fps=fps,
            codec="libx264rgb" if pixels == "rgb" else "libx264",
            pix_fmt_out=PIXELS[pixels],
            quality=None,
            macro_block_size=1,
            ffmpeg_log_level="error",
            output_params=options,
        )
        self._writer.send(None)
        self._images = 0

    def append(self, frames: NDArray[np.uint8]) -> None:
        """Add (V, H, W, 3) frames."""
        with naming_failures(self._path):
            for frame in frames:
                self._writer.send(np.ascontiguousarray(frame))
        self._images += len(frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        self._writer.close()
        if error is None:
            check_written(self._path, self._images, self._path)


class FilmReader:
    """Frames of films by their numbers; fast if they are asked for in order.

    Damage is reported as in `images_of_film`, before the last frame of a film is returned.

    Args:
        channels: 3, or 1 for gray.
        size: height and width to shrink to by area; None: as they are.
        notes: counts conversions, by description.
    """

    def __init__(self, channels: int, size: tuple[int, int] | None, notes: Counter[str]) -> None:
        self._channels, self._size, self._notes = channels, size, notes
        self._path: Path | None = None
        self._images: Iterator[NDArray[np.uint8]] = iter(())
        self._next = 0  # number of the frame that `_images` yields next

    def read(self, path: Path, first: int, count: int) -> NDArray[np.uint8]:
        """(V, H, W, C) frames `first` to `first + count` of a film; fewer if it ends before."""
        if path != self._path or first < self._next:
            if path != self._path:
                self.finish()
            self.close()
            self._path, self._next = path, 0
            self._images = _read_ahead(images_of_film(path, self._channels, None, self._notes))
        for _ in islice(self._images, first - self._next):
            pass
        frames = [shrink(frame, self._size, path, self._notes) for frame in islice(self._images, count)]
        self._next = first + len(frames)
        return np.stack(frames) if frames else np.zeros((0, 0, 0, self._channels), np.uint8)

    def finish(self) -> None:
        """Read the film to its end, so that all its damage is reported."""
        for _ in self._images:
            pass

    def close(self) -> None:
        """Stop reading the film."""
        if close := getattr(self._images, "close", None):
            close()


def _read_ahead(images: Generator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The same images, each once the next one is read: errors at the end of a film come before its last image."""
    with closing(images):
        image = next(images, None)
        while image is not None:
            following = next(images, None)
            yield image
            image = following


def shrink(
    frame: NDArray[np.uint8], size: tuple[int, int] | None, name: str | Path, notes: Counter[str]
) -> NDArray[np.uint8]:
    """Shrink a frame of a camera by area; `name` says in errors where it is from."""
    if size is None or frame.shape[:2] == tuple(size):
        return frame
    height, width = size
    notes[f"cameras shrunk from {frame.shape[0]} × {frame.shape[1]} to {height} × {width}"] |= 1
    try:
        return area_resize(frame[None], height, width)[0]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
