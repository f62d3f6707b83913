"""Read pictures and animations: upright, transparency over black, as uint8.

Letters: H W C pixels.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.brightness import to_bytes

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # these may hold several images too
ANIMATIONS = (".gif", ".apng")
BACKGROUND = (0, 0, 0)  # behind transparent pixels: black

_ORIENTATION = 0x0112  # EXIF's tag; values above 1: the camera was not held upright
_SLOWEST = 0.1  # seconds per image of an animation that states none or nearly none, as in browsers


def images_of_picture(path: Path, channels: int, notes: Counter[str]) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a file, (H, W, C) uint8: an animation as displayed, the pages of a TIFF.

    Args:
        channels: 3, or 1 for gray.
        notes: counts conversions, by description.

    Raises: ValueError that names a file that is not a picture, is damaged or truncated, or has an ambiguous brightness.
    """
    with open(path, "rb") as file:
        yield from images_of_open_file(file, str(path), channels, notes)


def images_of_open_file(file: BinaryIO, name: str, channels: int, notes: Counter[str]) -> Iterator[NDArray[np.uint8]]:
    """As `images_of_picture`, of a file that is open or in memory; errors call it `name`."""
    with _open(file, name) as picture:
        for index in _shown(picture, file, name):
            with _naming_damage(name):
                picture.seek(index)
                upright = _upright(picture, notes)
            try:
                pixels = _pixels(upright, channels, notes)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            yield pixels


def animation_speed(path: Path) -> float:
    """Average images per second; 0.0 for a still picture."""
    name = str(path)
    with open(path, "rb") as file, _open(file, name) as picture:
        shown = _shown(picture, file, name)
        seconds = 0.0
        for index in shown if len(shown) > 1 and picture.format != "TIFF" else ():
            with _naming_damage(name):
                picture.seek(index)
                picture.load()  # WebP knows the duration only then
                each = picture.info.get("duration", 0) / 1000
            seconds += each if each > _SLOWEST / 10 else _SLOWEST
    return len(shown) / seconds if seconds else 0.0


def flatten(picture: "Picture", channels: int, notes: Counter[str], what: str = "pictures") -> NDArray[np.uint8]:
    """Convert a Pillow picture with 8 bits per channel to (H, W, C) uint8, transparency over `BACKGROUND`."""
    from PIL import Image

    if picture.has_transparency_data:
        transparent = picture.convert("RGBA")
        if np.asarray(transparent.getchannel("A")).min() < 255:  # some pixels are transparent
            notes[f"{what} with transparency, over black"] += 1
        behind = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        picture = Image.alpha_composite(behind, transparent).convert("RGB")
    elif picture.mode not in ("1", "L", "P", "RGB", "RGBX"):
        notes[f"{what} converted from {picture.mode} to RGB, without their color profile"] += 1
        picture = picture.convert("RGB")  # raises ValueError for an unsupported mode
    return np.atleast_3d(np.asarray(picture.convert("RGB" if channels == 3 else "L")))


def _open(file: BinaryIO, name: str) -> "Picture":
    from PIL import Image

    if not file.seek(0, os.SEEK_END):
        raise ValueError(f"{name} is empty (0 bytes)")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, but allowed
            return Image.open(file)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture that Pillow can read, whatever its ending") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"{name} has more than {most:,} pixels: shrink it with another program first") from error
    except Exception as error:
        raise _damaged(name, error) from error


def _shown(picture: "Picture", file: BinaryIO, name: str) -> range:
    """Indices of the images that are displayed."""
    with _naming_damage(name):
        images = getattr(picture, "n_frames", 1)
    if picture.format == "MPO":  # a photo followed by a depth map or a preview
        return range(1)
    first = 1 if images > 1 and picture.info.get("default_image") else 0  # an APNG's fallback for viewers without APNG
    if picture.format == "GIF" and not _ending(file).rstrip(b"\0").endswith(b";"):
        warnings.warn(f"{name} is incomplete: {images} images can be read of an unknown number", stacklevel=2)
    return range(first, images)


def _ending(file: BinaryIO) -> bytes:
    place, size = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(max(size - 64, 0))
    ending = file.read()
    file.seek(place)  # where Pillow reads on
    return ending


def _upright(picture: "Picture", notes: Counter[str]) -> "Picture":
    """Load a picture and apply its EXIF orientation."""
    from PIL import ImageOps

    if any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ())):  # available only before loading
        notes["pictures of 16 bits per channel, converted to 8"] += 1
    turned = picture.getexif().get(_ORIENTATION, 1) in range(2, 9)
    picture.load()  # rotates a TIFF by itself
    if turned:
        notes["pictures turned upright by their EXIF orientation"] += 1
    return ImageOps.exif_transpose(picture)


def _pixels(picture: "Picture", channels: int, notes: Counter[str]) -> NDArray[np.uint8]:
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return flatten(picture, channels, notes)
    values = np.asarray(picture)
    sixteen = picture.mode.startswith("I;16") or (picture.format == "PNG" and picture.mode == "I")  # older Pillow
    if sixteen:
        gray = (values.astype(np.uint16) >> 8).astype(np.uint8)  # the high byte, as Pillow does for RGB
    else:
        gray = to_bytes(values)
        notes[f"pictures of {values.dtype.name} numbers, converted to bytes"] += 1
    if (clear := picture.info.get("transparency")) is not None:
        gray = np.where(values == clear, np.uint8(BACKGROUND[0]), gray)
    return gray[..., None].repeat(channels, axis=-1)


@contextmanager
def _naming_damage(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> Exception:
    """Replace an error from Pillow, which raises nearly any type for a damaged file."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return error
    return ValueError(f"{name} is damaged or truncated ({error})")
