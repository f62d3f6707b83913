"""Speed of importing BAIR's records on one core: trajectories read per second, and stored per second.

Usage: ``python benchmarks/bair.py [--files 4] [--camera aux1] [--folder DIR]``. The bar for reading is 1,500 a second.
The files are written first, in the published format and of random content (256 trajectories, 190 MB each); so they are
in the page cache; a slower disk limits a real import. Rates are given by the wall clock and by processor time, which
differ on a busy machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy loads

import numpy as np
from machine import describe

from worldmodel.data.bair.importer import import_bair
from worldmodel.data.bair.records import read_trajectories, to_features
from worldmodel.data.bair.tfrecord import make_example, write_records

PER_FILE = 256


def write_archive(root: Path, num_files: int) -> None:
    """One test file and `num_files` of training."""
    rng = np.random.default_rng(0)
    for number in range(num_files + 1):
        split, first = ("test", 0) if number == 0 else ("train", (number - 1) * PER_FILE)
        path = root / "softmotion30_44k" / split / f"traj_{first}_to_{first + PER_FILE - 1}.tfrecords"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_records(path, (make_record(rng) for _ in range(PER_FILE)))


def make_record(rng: np.random.Generator) -> bytes:
    cameras = {name: rng.integers(256, size=(30, 64, 64, 3), dtype=np.uint8) for name in ("main", "aux1")}
    return make_example(to_features(cameras, rng.uniform(-0.1, 0.1, (30, 4)), rng.random((30, 3))))


def measure(what: str, count: int, run: Callable[[], object]) -> None:
    wall, busy = time.perf_counter(), time.process_time()
    run()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    print(f"{what:8} {count / wall:8,.0f} trajectories/s by the clock, {count / busy:8,.0f} by processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=4, help="of training, in addition to the test file")
    parser.add_argument("--camera", choices=["aux1", "main", "both"], default="aux1")
    parser.add_argument("--folder", type=Path, default=None, help="where to put the temporary files")
    arguments = parser.parse_args()
    describe("cpu")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        raw = Path(folder) / "raw"
        write_archive(raw, arguments.files)
        paths = sorted(raw.rglob("*.tfrecords"))
        for _ in range(3):
            measure(
                "read", len(paths) * PER_FILE, lambda: [sum(1 for _ in read_trajectories(p, "aux1")) for p in paths]
            )
        measure(
            "import", len(paths) * PER_FILE, lambda: import_bair(raw, Path(folder) / "store", camera=arguments.camera)
        )


if __name__ == "__main__":
    main()
