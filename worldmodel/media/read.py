"""Read pictures, films and arrays of images from files.

Letters: N images, H W C pixels.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.arrays import ARRAYS, read_array
from worldmodel.media.brightness import to_bytes
from worldmodel.media.films import FILMS, film_speed, images_of_film
from worldmodel.media.pictures import ANIMATIONS, PICTURES, animation_speed, images_of_picture
from worldmodel.media.resize import area_resize, center_crop

VIDEOS = (*FILMS, *ANIMATIONS)


class Images(NamedTuple):
    """Images, and how they were converted."""

    frames: NDArray[np.uint8]  # (N, H, W, C); an array keeps its shape
    notes: Counter[str]  # counts by description, such as "pictures turned upright by their EXIF orientation"


def read_images(
    path: Path, channels: int, count: int | None = None, size: tuple[int, int] | None = None, crop: bool = False
) -> Images:
    """Read at most `count` images of a film, an animation, a picture or a folder of pictures; or an array.

    Pictures and films are returned upright, with transparency over black, as uint8. An array is converted to uint8
    (`to_bytes`) and otherwise unchanged. If `size` is given, a film is never stored at its full size, in memory or on
    disk.

    Args:
        channels: 3, or 1 for gray; ignored for arrays.
        size: height and width to which pictures and films (not arrays) are shrunk by area while being read.
        crop: keep their proportions, and of each image the central part that has those of `size`.

    Raises:
        ValueError: the file is of an unknown kind, damaged, truncated, or of ambiguous brightness; names the file.
        FileNotFoundError: the file does not exist.
    """
    path, ending = Path(path), Path(path).suffix.lower()
    notes: Counter[str] = Counter()
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    if ending in ARRAYS and not path.is_dir():
        array = read_array(path)
        try:
            frames = to_bytes(array)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if frames.dtype != array.dtype:
            notes[f"arrays of {array.dtype.newbyteorder('=').name} numbers, converted to bytes"] += 1
        return Images(frames, notes)
    if path.is_dir():
        images = _images_of_folder(path, channels, count, notes)
    elif ending in FILMS:
        images = images_of_film(path, channels, count, notes)
    elif ending in (*PICTURES, *ANIMATIONS):
        images = islice(images_of_picture(path, channels, notes), count)
    else:
        known = ", ".join((*ARRAYS, *VIDEOS, *PICTURES))
        raise ValueError(f"expected a folder of pictures or a file with the ending {known}; got {path}")
    return Images(_collect(path, images, size, crop, notes), notes)


def in_words(notes: Counter[str]) -> tuple[str, ...]:
    """Conversions, one line each: "pictures turned upright by their EXIF orientation: 3"."""
    return tuple(f"{change}: {count}" for change, count in notes.items())


def images_per_second(path: Path) -> float:
    """Images per second of a film or an animation; 0 for anything else."""
    ending = path.suffix.lower()
    if path.is_dir() or ending not in (*VIDEOS, *PICTURES):
        return 0.0
    return film_speed(path) if ending in FILMS else animation_speed(path)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order of their names, without hidden files."""
    found = (file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith("."))
    return sorted(found, key=natural_order)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key that compares numbers in names by value: frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _images_of_folder(
    folder: Path, channels: int, count: int | None, notes: Counter[str]
) -> Iterator[NDArray[np.uint8]]:
    files = pictures_in(folder)
    if not files:
        raise ValueError(f"{folder} holds no pictures; expected files with the endings {', '.join(PICTURES)}")
    for file in files[:count]:
        images = images_of_picture(file, channels, notes)
        yield next(images)
        if next(images, None) is not None:
            raise ValueError(f"{file} holds several images: give it as a separate video, not in a folder of pictures")


def _collect(
    path: Path, images: Iterator[NDArray[np.uint8]], size: tuple[int, int] | None, crop: bool, notes: Counter[str]
) -> NDArray[np.uint8]:
    frames: list[NDArray[np.uint8]] = []
    for index, image in enumerate(images):
        if size is None and frames and image.shape != frames[0].shape:
            raise ValueError(
                f"the images of {path} have different sizes: the first is {_by(frames[0].shape)}, number {index + 1} "
                f"{_by(image.shape)}; make them equal, or shrink them to one size"
            )
        if size is not None and size != image.shape[:2]:
            if crop:
                whole, image = image, center_crop(image[None], *size)[0]
                if not index and image.shape != whole.shape:
                    notes[f"videos cropped from {_by(whole.shape)} to their central {_by(image.shape)}"] += 1
            if not index:
                notes[f"videos shrunk from {_by(image.shape)} to {_by(size)}"] += 1
            try:
                image = area_resize(image[None], *size)[0]
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        frames.append(image)
    return np.stack(frames)


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} × {shape[1]}"
