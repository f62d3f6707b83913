"""TFDS records of BAIR: what is read, and errors of other content."""

import numpy as np
import pytest

from tests.bair_records import make_trajectory, png, tfds_example, tfds_features
from worldmodel.data.bair.records import read_trajectories
from worldmodel.data.bair.tfrecord import BrokenRecordError, write_records

GOOD = tfds_features(*make_trajectory(0))
NOISE = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)


def read(tmp_path, features):
    write_records(tmp_path / "a", [tfds_example(features)])
    [(_, found)] = read_trajectories(tmp_path / "a", "main")
    return found


def test_a_record_gives_the_trajectory(tmp_path):
    found, (cameras, actions, positions) = read(tmp_path, GOOD), make_trajectory(0)
    np.testing.assert_array_equal(found.frames, cameras["main"])
    np.testing.assert_array_equal(found.actions, actions)
    np.testing.assert_array_equal(found.positions, positions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_main": None}, "the key 'image_main' is missing"),
        ({"endeffector_pos": None}, "the key 'endeffector_pos' is missing"),
        ({"image_main": GOOD["image_main"][:29]}, "'image_main' must hold 30 pictures, got 29"),
        ({"action": np.zeros(119)}, "'action' must hold 30 × 4 numbers, got 119"),
        ({"action": [b"x"]}, "'action' must hold float32 numbers, got a byte string"),
        ({"image_main": np.zeros(30)}, "'image_main' must hold a byte string, got float32 numbers"),
        (
            {"image_main": [*GOOD["image_main"][:7], b"\xff\xd8 a JPEG", *GOOD["image_main"][8:]]},
            "picture 7 of 'image_main' must be a PNG",
        ),
        (
            {"image_main": [png(NOISE[:32])] * 30},
            "picture 0 of 'image_main' must be a PNG of 64 × 64, got one of 64 × 32",
        ),
        ({"image_main": [png(NOISE[..., 0])] * 30}, "picture 0 of 'image_main' must be RGB of 8 bits, got L"),
        ({"image_main": [png(NOISE)[:-2000]] * 30}, "picture 0 of 'image_main' cannot be read"),
        ({"image_main": [png(NOISE).replace(b"IDAT", b"IDAX")] * 30}, "picture 0 of 'image_main' cannot be read"),
    ],
)
def test_invalid_content_is_named_by_its_key(tmp_path, change, message):
    found = read(tmp_path, {key: value for key, value in (GOOD | change).items() if value is not None})
    assert isinstance(found, BrokenRecordError) and message in str(found)
