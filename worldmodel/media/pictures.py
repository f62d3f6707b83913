"""Pictures and animations in files: upright, over black where they are transparent, as bytes.

Letters: H W C pixels.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.brightness import to_bytes

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # may hold several images too
ANIMATIONS = (".gif", ".apng")
BACKGROUND = (0, 0, 0)  # behind what is transparent: black

_ORIENTATION = 0x0112  # EXIF's tag; above 1 the camera was not held upright
_SLOWEST = 0.1  # seconds of an image of an animation that gives none, or as good as none, as in browsers


def images_of_picture(path: Path, channels: int, notes: Counter[str]) -> Iterator[NDArray[np.uint8]]:
    """The images of a file one after the other, (H, W, C) uint8: an animation as it is shown, a TIFF's pages.

    Args:
        channels: 3, or 1 for gray.
        notes: counts what was changed, in words.

    Raises: ValueError that names the file, if it is not a picture, damaged, cut off, or of an unclear brightness.
    """
    with _open(path) as picture:
        for number in _shown(picture, path):
            with _naming_damage(path):
                picture.seek(number)
                upright = _upright(picture, notes)
            try:
                pixels = _pixels(upright, channels, notes)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            yield pixels


def animation_speed(path: Path) -> float:
    """Images a second, on average; 0.0 of a picture that does not move."""
    with _open(path) as picture:
        shown = _shown(picture, path)
        seconds = 0.0
        for number in shown if len(shown) > 1 and picture.format != "TIFF" else ():
            with _naming_damage(path):
                picture.seek(number)
                picture.load()  # of WebP the time is known then
                each = picture.info.get("duration", 0) / 1000
            seconds += each if each > _SLOWEST / 10 else _SLOWEST
    return len(shown) / seconds if seconds else 0.0


def flatten(picture: "Picture", channels: int, notes: Counter[str], what: str = "pictures") -> NDArray[np.uint8]:
    """A picture of Pillow's, 8 bits a channel, over `BACKGROUND`: (H, W, C) uint8."""
    from PIL import Image

    if picture.has_transparency_data:
        transparent = picture.convert("RGBA")
        if np.asarray(transparent.getchannel("A")).min() < 255:  # not opaque everywhere
            notes[f"{what} with transparency, laid over black"] += 1
        behind = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        picture = Image.alpha_composite(behind, transparent).convert("RGB")
    elif picture.mode not in ("1", "L", "P", "RGB", "RGBX"):
        notes[f"{what} converted from {picture.mode} to RGB, without their color profile"] += 1
        picture = picture.convert("RGB")  # a ValueError of a mode that cannot be
    return np.atleast_3d(np.asarray(picture.convert("RGB" if channels == 3 else "L")))


def _open(path: Path) -> "Picture":
    from PIL import Image

    if not path.stat().st_size:
        raise ValueError(f"{path} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, not yet too large
            return Image.open(path)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that Pillow can read, whatever its ending") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"{path} has more than {most:,} pixels: shrink it with another program first") from error
    except Exception as error:
        raise _damaged(path, error) from error


def _shown(picture: "Picture", path: Path) -> range:
    """Numbers of the images that are shown."""
    with _naming_damage(path):
        images = getattr(picture, "n_frames", 1)
    if picture.format == "MPO":  # a photo with a depth map or a preview behind it
        return range(1)
    first = 1 if images > 1 and picture.info.get("default_image") else 0  # an APNG's picture for who cannot animate
    if picture.format == "GIF" and not _ending(path).rstrip(b"\0").endswith(b";"):
        warnings.warn(f"{path} breaks off: {images} images can be read, of how many is not known", stacklevel=2)
    return range(first, images)


def _ending(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - 64, 0))
        return file.read()


def _upright(picture: "Picture", notes: Counter[str]) -> "Picture":
    """A loaded picture, turned as its EXIF data says."""
    from PIL import ImageOps

    if any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ())):  # known only before it is loaded
        notes["pictures of 16 bits a channel, brought to 8"] += 1
    turned = picture.getexif().get(_ORIENTATION, 1) in range(2, 9)
    picture.load()  # turns a TIFF by itself
    if turned:
        notes["pictures turned upright by their EXIF orientation"] += 1
    return ImageOps.exif_transpose(picture)


def _pixels(picture: "Picture", channels: int, notes: Counter[str]) -> NDArray[np.uint8]:
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return flatten(picture, channels, notes)
    values = np.asarray(picture)
    sixteen = picture.mode.startswith("I;16") or (picture.format == "PNG" and picture.mode == "I")  # the older Pillow
    if sixteen:
        gray = (values.astype(np.uint16) >> 8).astype(np.uint8)  # the high byte, as Pillow takes it of RGB
    else:
        gray = to_bytes(values)
        notes[f"pictures of {values.dtype.name} numbers, brought to bytes"] += 1
    if (clear := picture.info.get("transparency")) is not None:
        gray = np.where(values == clear, np.uint8(BACKGROUND[0]), gray)
    return gray[..., None].repeat(channels, axis=-1)


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> Exception:
    """What is raised in place of an error in Pillow, which raises nearly everything for a damaged file."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return error
    return ValueError(f"{path} is damaged or cut off ({error})")
