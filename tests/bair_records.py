"""A small archive in BAIR's published format: random pictures, and the real clip of the tests."""

from pathlib import Path

import numpy as np

from worldmodel.data.bair import to_features
from worldmodel.data.tfrecord import make_example, write_records

# A real trajectory of the archive (CC BY 4.0, Ebert et al. 2017), as thuml/iVideoGPT publishes it.
REAL_CLIP = Path(__file__).with_name("data") / "bair_clip.npz"


def make_trajectory(seed=0):
    """Frames of both cameras, actions, positions; none like another."""
    rng = np.random.default_rng(seed)
    cameras = {name: rng.integers(256, size=(30, 64, 64, 3), dtype=np.uint8) for name in ("main", "aux1")}
    return cameras, rng.normal(size=(30, 4)).astype(np.float32) * 0.05, rng.random((30, 3)).astype(np.float32)


def write_file(path, seeds, change=lambda features, seed: features):
    """A file of `make_trajectory` for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, [make_example(change(to_features(*make_trajectory(seed)), seed)) for seed in seeds])
    return path


def write_archive(root, test=3, train=(4, 5), **changes):
    """Test trajectories of the seeds 0, 1, …, then training files of so many each, of the seeds after them."""
    first = 0
    for split, counts in (("test", (test,)), ("train", train)):
        start = 0
        for count in counts:
            path = root / "softmotion30_44k" / split / f"traj_{start}_to_{start + count - 1}.tfrecords"
            write_file(path, range(first, first + count), **changes)
            start, first = start + count, first + count
    return root
