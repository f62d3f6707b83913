"""Speed of the episode store on one core: packed steps written per second, and random segments read per second.

Usage: ``python benchmarks/store.py [--episodes 100] [--folder DIR]``. The bar is 8,000 segments of 8 steps per second.
The store is as large as a real one's (64x64x3 frames, 2 per step, 525 steps per episode) and has random content; right
after writing it is in the page cache, as in training if there is enough memory.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and numpy load

import h5py
import numpy as np
import torch

from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo
from worldmodel.shapes import frames_from_model, frames_to_model

STEPS = 525  # of one episode: health gathering's 2,100 tics at 4 a step
SEGMENT_STEPS = 8
INFO = StoreInfo(
    env_id="random",
    frames_per_step=2,
    height=64,
    width=64,
    channels=3,
    action=ActionSpec(kind="discrete", n=3),
    signal_names=("HEALTH", "ARMOR", "KILLCOUNT", "AMMO2"),
)


def make_episode(rng: np.random.Generator) -> Episode:
    return Episode(
        frames=rng.integers(0, 256, (STEPS + 1, *INFO.frame_shape), np.uint8),
        actions=rng.integers(0, INFO.action.n, STEPS),
        rewards=rng.normal(size=STEPS).astype(np.float32),
        terminated=True,
        truncated=False,
        signals=rng.normal(size=(STEPS + 1, len(INFO.signal_names))).astype(np.float32),
    )


def measure_writing(root: Path, num_episodes: int, rng: np.random.Generator) -> None:
    store = EpisodeStorage.create(root, INFO)
    seconds = 0.0
    for _ in range(num_episodes):
        episode = make_episode(rng)
        start = time.perf_counter()
        store.append(episode)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    store.flush()
    packing = time.perf_counter() - start
    size = sum(path.stat().st_size for path in root.rglob("*.hdf5")) / 1e6
    print(f"append  {store.num_steps / seconds:10,.0f} steps/s   ({num_episodes} episodes, {size:,.0f} MB)")
    print(f"flush   {store.num_steps / packing:10,.0f} steps/s   ({packing:.1f} s)")


def measure_reading(root: Path, rng: np.random.Generator) -> None:
    start = time.perf_counter()
    store = EpisodeStorage.open(root)
    store.sample_ids(1, 1, rng)
    print(f"open    {1e3 * (time.perf_counter() - start):10,.0f} ms")
    for batch_size in (16, 32, 64):
        rates = []
        for _ in range(5):
            batches = 2048 // batch_size
            start = time.perf_counter()
            for _ in range(batches):
                store.batch(store.sample_ids(batch_size, SEGMENT_STEPS, rng))
            rates.append(batches * batch_size / (time.perf_counter() - start))
        print(
            f"read    {np.median(rates):10,.0f} segments/s in batches of {batch_size} (slowest of 5: {min(rates):,.0f})"
        )


def measure_conversion(rng: np.random.Generator) -> None:
    """The two functions of shapes.py on what 64 dreams show in one step."""
    frames = torch.from_numpy(rng.integers(0, 256, (64, *INFO.frame_shape), np.uint8))
    pixels = frames_to_model(frames)
    channels_first = pixels.contiguous()
    cases = {
        "frames_to_model": lambda: frames_to_model(frames),
        "frames_from_model, channels last in memory": lambda: frames_from_model(pixels),
        "frames_from_model, channels first": lambda: frames_from_model(channels_first),
    }
    for name, convert in cases.items():
        times = []
        for _ in range(50):
            start = time.perf_counter()
            convert()
            times.append(time.perf_counter() - start)
        print(f"convert {1e6 * np.median(times) / len(frames):10.1f} us per row of 2 frames, {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=None, help="where to put the temporary store")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.platform()}, {os.cpu_count()} cores, 1 thread used, Python {platform.python_version()}")
    print(f"numpy {np.__version__}, h5py {h5py.__version__}, torch {torch.__version__}")
    print(f"frames {INFO.frame_shape} uint8, segments of {SEGMENT_STEPS} steps")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder) / "store"
        measure_writing(root, arguments.episodes, rng)
        measure_reading(root, rng)
    measure_conversion(rng)


if __name__ == "__main__":
    main()
