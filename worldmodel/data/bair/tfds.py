"""BAIR trajectories as written by TensorFlow Datasets (TFDS): bair_robot_pushing_small, version 1 or 2.

A record is a tf.train.Example with four features: image_main and image_aux1 (30 PNG images each), action (30 × 4
floats, flattened) and endeffector_pos (30 × 3).
Source: tensorflow_datasets/video/bair_robot_pushing.py and core/example_serializer.py (a Sequence of features is
stored as one list per feature); files written by TFDS 4.9.10.
"""

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.bair.shapes import ACTION_SIZE, CHANNELS, FRAMES, POSITION_SIZE, SIZE, Camera
from worldmodel.data.bair.tfrecord import BYTES, FLOATS, KINDS, Span, read_feature

_PNG = struct.Struct(">8s4x4sII")  # signature, length and name of the first chunk, width, height


def is_tfds(features: Mapping[str, Sequence[Span]]) -> bool:
    """Whether a record has this format, judged by its keys."""
    return "action" in features


def read_tfds(
    payload: bytes, features: Mapping[str, Sequence[Span]], camera: Camera
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Frames (30, 64, 64, 3), actions (30, 4) and positions (30, 3) of a record.

    Args:
        features: position of each feature in the payload, from `find_lists`.

    Raises:
        ValueError: a key is missing or has another type or size; names the key.
    """
    key = f"image_{camera}"
    pictures = _values(features, key, BYTES)
    if len(pictures) != FRAMES:
        raise ValueError(f"{key!r} must hold {FRAMES} pictures, got {len(pictures)}")
    frames = [_decode(payload[start:stop], key, t) for t, (_, start, stop) in enumerate(pictures)]
    actions = _numbers(payload, features, "action", ACTION_SIZE)
    return np.stack(frames), actions, _numbers(payload, features, "endeffector_pos", POSITION_SIZE)


def _values(features: Mapping[str, Sequence[Span]], key: str, kind: int) -> Sequence[Span]:
    if key not in features:
        raise ValueError(f"the key {key!r} is missing")
    spans = features[key]
    if spans[0].kind != kind:
        raise ValueError(f"{key!r} must hold {KINDS[kind]}, got {KINDS[spans[0].kind]}")
    return spans


def _numbers(payload: bytes, features: Mapping[str, Sequence[Span]], key: str, size: int) -> NDArray[np.float32]:
    numbers = read_feature(payload, _values(features, key, FLOATS)[0])
    if len(numbers) != FRAMES * size:
        raise ValueError(f"{key!r} must hold {FRAMES} × {size} numbers, got {len(numbers)}")
    return np.asarray(numbers, np.float32).reshape(FRAMES, size)


def _decode(picture: bytes, key: str, t: int) -> NDArray[np.uint8]:
    """(64, 64, 3); checks the size before decoding anything."""
    wanted = (b"\x89PNG\r\n\x1a\n", b"IHDR", SIZE, SIZE)
    found = _PNG.unpack_from(picture) if len(picture) >= _PNG.size else (b"", b"", 0, 0)
    if found != wanted:
        what = f"one of {found[2]} × {found[3]}" if found[:2] == wanted[:2] else "something else"
        raise ValueError(f"picture {t} of {key!r} must be a PNG of {SIZE} × {SIZE}, got {what}")
    from PIL import Image

    try:
        with Image.open(BytesIO(picture), formats=("PNG",)) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ValueError(f"picture {t} of {key!r} cannot be read ({error})") from error
    if mode != "RGB" or pixels.shape != (SIZE, SIZE, CHANNELS):
        raise ValueError(f"picture {t} of {key!r} must be RGB of 8 bits, got {mode}")
    return pixels
