"""What test_with_lerobot.py runs in a Python that has LeRobot: read a data set with it, or write one.

Usage: in_their_python.py read ROOT RESULT.npz, or in_their_python.py write ROOT.
"""

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def read(root: str, result: str) -> None:
    """Every row as LeRobot's own reader gives it, by index and through a window of three frames."""
    dataset = LeRobotDataset("somebody/toy", root=root)
    camera = dataset.meta.camera_keys[0]
    rows = [dataset[index] for index in range(len(dataset))]
    names = [
        name
        for name in ("action", "observation.state", "next.reward", "next.done", "next.truncated")
        if name in rows[0]
    ]
    columns = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in names}
    frames = np.stack([(row[camera].numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0) for row in rows])
    window = LeRobotDataset(
        "somebody/toy", root=root, delta_timestamps={camera: [-1 / dataset.fps, 0.0, 1 / dataset.fps]}
    )
    np.savez(
        result,
        frames=frames,
        window=(window[1][camera].numpy() * 255).round().astype(np.uint8).transpose(0, 2, 3, 1),
        episodes=dataset.num_episodes,
        episode=np.array([int(row["episode_index"]) for row in rows]),
        task=rows[0]["task"],
        mean=np.asarray(dataset.meta.stats["action"]["mean"]),
        **columns,
    )


def write(root: str) -> None:
    """A data set with LeRobot's own codec, two episodes of 3 and 2 frames that show their numbers."""
    features = {
        "observation.images.top": {"dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("somebody/toy", fps=10, features=features, root=Path(root))
    number = 0
    for length in (3, 2):
        for t in range(length):
            number += 1
            frame = {
                "observation.images.top": np.full((64, 64, 3), 40 * number, np.uint8),
                "observation.state": np.array([number, -number], np.float32),
                "action": np.array([number / 10, t], np.float32),
                "next.reward": np.array([number], np.float32),
                "next.done": np.array([t == length - 1]),
                "task": "push the T",
            }
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](*sys.argv[2:])
