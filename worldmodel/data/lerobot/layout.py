"""Files of a LeRobot data set, version 3: names, columns, and the description in meta/info.json.

A data set is a folder::

    meta/info.json                          features (columns and cameras), frames per second, totals
    meta/episodes/chunk-000/file-000.parquet    a row per episode: its rows, its films and the times in them
    meta/tasks.parquet, meta/stats.json     the tasks in words; least, greatest, mean value … of every feature
    data/chunk-000/file-000.parquet         a row per frame: action, state, reward, end, time
    videos/CAMERA/chunk-000/file-000.mp4    the frames of several episodes, one after the other

A row holds what is seen, the action that is then taken, and the reward and end that follow. The frame after the last
action has no row. In what we write it is nevertheless in the film, behind the episode's last row, where LeRobot's
reader, which asks for the times of rows, does not look.
"""

from pathlib import Path
from typing import Any, NamedTuple

from worldmodel.data.episode import StoreInfo
from worldmodel.files import JsonObject, read_json
from worldmodel.settings import from_json

VERSION = "v3.0"
INFO = Path("meta", "info.json")
STATS = Path("meta", "stats.json")
TASKS = Path("meta", "tasks.parquet")
OURS = Path("meta", "videogen_dream.json")  # the store's description, for an exact import
FILES_PER_CHUNK = 1000
NUMBERED = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA = f"data/{NUMBERED}.parquet"
EPISODES = f"meta/episodes/{NUMBERED}.parquet"
FILMS = "videos/{video_key}/" + NUMBERED + ".mp4"

ACTION, STATE = "action", "observation.state"
REWARD, DONE, TRUNCATED = "next.reward", "next.done", "next.truncated"
# Our columns of meta/episodes; the id is that of the recording in the store, where ids may have gaps.
ID, SEED, FINAL_STATE = "videogen_dream.id", "videogen_dream.seed", "videogen_dream.final_state"
# Columns that every data set has.
COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


class Description(NamedTuple):
    """What meta/info.json says."""

    root: Path
    fps: float
    features: dict[str, dict[str, Any]]
    data_path: str
    video_path: str | None
    episodes: int

    @property
    def cameras(self) -> list[str]:
        """Features that are films or pictures."""
        return [name for name, feature in self.features.items() if feature["dtype"] in ("video", "image")]

    def names(self, feature: str) -> tuple[str, ...]:
        """The names of a feature's dimensions, as many as it has; their numbers where it has none."""
        shape, given = self.features[feature]["shape"], self.features[feature].get("names")
        if isinstance(given, dict):  # {"motors": [...]}
            given = [name for part in given.values() for name in (part if isinstance(part, list) else [part])]
        plain = [str(name).replace("/", "_") for name in given or ()]
        if len(shape) != 1 or len(plain) != shape[0] or len(set(plain)) != len(plain):
            short = feature.rpartition(".")[2]
            return tuple(f"{short}_{index}" for index in range(shape[0] if len(shape) == 1 else 0))
        return tuple(plain)

    def require(self, feature: str) -> None:
        """ValueError if there is no such feature; names those that there are."""
        if feature not in self.features:
            raise ValueError(
                f"{self.root / INFO} has no feature {feature!r}, which LeRobot's data sets have; it has "
                f"{', '.join(self.features)}"
            )


def read_description(root: Path) -> Description:
    """Read meta/info.json.

    Raises:
        FileNotFoundError: `root` is no data set.
        ValueError: it has another version, or describes no data; names the file and the remedy.
    """
    path = root / INFO
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, so {root} is not a LeRobot data set: give the folder that has meta/"
        )
    info = read_json(path, JsonObject, ("codebase_version", "fps", "features", "total_episodes"))
    version = str(info["codebase_version"])
    if version.partition(".")[0] != "v3":
        raise ValueError(
            f"{root} has LeRobot's format {version}, wanted {VERSION}. Convert it with LeRobot: python -m "
            f"lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=…"
        )
    features = info["features"]
    if not isinstance(features, dict) or not all(
        isinstance(feature, dict) and {"dtype", "shape"} <= feature.keys() for feature in features.values()
    ):
        raise ValueError(f"{path} must describe features by dtype and shape, got {str(features)[:80]}")
    if not isinstance(info["fps"], int | float) or not info["fps"] > 0 or not info["total_episodes"]:
        raise ValueError(
            f"{path} must have fps above 0 and at least one episode, got fps={info['fps']} and "
            f"total_episodes={info['total_episodes']}"
        )
    return Description(
        root=root,
        fps=float(info["fps"]),
        features=features,
        data_path=info.get("data_path") or DATA,
        video_path=info.get("video_path"),
        episodes=int(info["total_episodes"]),
    )


def read_origin(root: Path) -> StoreInfo | None:
    """Description of the store that a data set was exported from; None if it was not."""
    path = root / OURS
    return from_json(StoreInfo, read_json(path, JsonObject, ("info",))["info"]) if path.is_file() else None
