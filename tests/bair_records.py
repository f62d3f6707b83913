"""A small archive in BAIR's published format: random pictures, and the real clip of the tests."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from worldmodel.data.bair.records import to_features
from worldmodel.data.bair.tfrecord import make_example, write_records

# A real trajectory of the archive (CC BY 4.0, Ebert et al. 2017), as thuml/iVideoGPT publishes it.
REAL_CLIP = Path(__file__).with_name("data") / "bair_clip.npz"


def make_trajectory(seed=0):
    """Frames of both cameras, actions, positions; all different."""
    rng = np.random.default_rng(seed)
    cameras = {name: rng.integers(256, size=(30, 64, 64, 3), dtype=np.uint8) for name in ("main", "aux1")}
    return cameras, rng.normal(size=(30, 4)).astype(np.float32) * 0.05, rng.random((30, 3)).astype(np.float32)


def write_file(path, seeds, change=lambda features, seed: features):
    """A file of `make_trajectory` for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, [make_example(change(to_features(*make_trajectory(seed)), seed)) for seed in seeds])
    return path


def write_archive(root, test=3, train=(4, 5), **changes):
    """Test trajectories with seeds 0, 1, …, then training files of these counts with the following seeds."""
    first = 0
    for split, counts in (("test", (test,)), ("train", train)):
        start = 0
        for count in counts:
            path = root / "softmotion30_44k" / split / f"traj_{start}_to_{start + count - 1}.tfrecords"
            write_file(path, range(first, first + count), **changes)
            start, first = start + count, first + count
    return root


def write_tfds(root, test=(0, 1), train=((2, 3), (4,)), change=lambda features, seed: features):
    """Files as TensorFlow Datasets writes them: a file for each tuple of seeds, one for the test."""
    folder = root / "bair_robot_pushing_small" / "2.0.0"
    folder.mkdir(parents=True)
    splits = []
    for split, files in (("test", (test,)), ("train", train)):
        for i, seeds in enumerate(files if any(files) else ()):
            path = folder / f"bair_robot_pushing_small-{split}.tfrecord-{i:05}-of-{len(files):05}"
            write_records(path, [tfds_example(change(tfds_features(*make_trajectory(seed)), seed)) for seed in seeds])
        splits.append({"name": split, "shardLengths": [str(len(seeds)) for seeds in files]})
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": "tfrecord", "splits": splits}))
    (folder / "features.json").write_text("{}")
    return folder


def tfds_features(cameras, actions, positions):
    """The features of a record: 30 PNG pictures of each camera, and all numbers in sequence."""
    features = {f"image_{name}": [png(frame) for frame in frames] for name, frames in cameras.items()}
    return features | {"action": np.asarray(actions, np.float32), "endeffector_pos": np.asarray(positions, np.float32)}


def png(frame):
    stream = BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return stream.getvalue()


def tfds_example(features):
    """A tf.train.Example, written independently of the product's own writer."""

    def field(number, content):
        head, size = bytes([number << 3 | 2]), len(content)
        while size > 127:
            head, size = head + bytes([size & 127 | 128]), size >> 7
        return head + bytes([size]) + content

    entries = []
    for key, value in features.items():
        is_numbers = isinstance(value, np.ndarray)
        values = field(1, value.astype("<f4").tobytes()) if is_numbers else b"".join(field(1, each) for each in value)
        entries.append(field(1, field(1, key.encode()) + field(2, field(2 if is_numbers else 1, values))))
    return field(1, b"".join(entries))
