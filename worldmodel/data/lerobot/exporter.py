"""Export a store as a LeRobot data set, for programs that read those.

Letters: F frames per step, N steps, V = 1 + N * F frames, K = N * F rows, H W C pixels, D dimensions of a column.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worldmodel.counted import counted
from worldmodel.data import Episode, EpisodeStorage, StoreInfo, open_stores
from worldmodel.data.lerobot import layout, statistics
from worldmodel.data.lerobot.films import GROUP, PIXELS, FilmWriter
from worldmodel.data.lerobot.layout import ACTION, DONE, REWARD, STATE, TRUNCATED
from worldmodel.data.lerobot.tables import pyarrow, table_writer, write_rows, write_tasks
from worldmodel.data.steps import steps_to_frames
from worldmodel.files import write_json
from worldmodel.media.write import as_rgb
from worldmodel.progress import progress
from worldmodel.replacing import finish_replacing, replacing

FRAMES_PER_FILE = 20_000  # a new film and table begin with the episode after this many
_CAMERA = "observation.images.camera"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeRobotStats:
    """What an export wrote; print it for a summary."""

    root: Path
    episodes: int
    rows: int
    cameras: tuple[str, ...]
    fps: float

    def __str__(self) -> str:
        return (
            f"{self.root}: {counted(self.episodes, 'episode')}, {counted(self.rows, 'row')} at {self.fps:g} per "
            f"second, cameras {', '.join(self.cameras)}"
        )


def export_lerobot(
    store: EpisodeStorage | str | Path,
    /,
    out: str | Path,
    *,
    fps: float | None = None,
    task: str | None = None,
    pixels: Literal["yuv444p", "yuv420p", "rgb"] = "yuv444p",
    crf: int = 12,
) -> LeRobotStats:
    """Write a store as a LeRobot data set (LeRobotDataset v3).

    Every frame becomes a row with the action that is taken in it, and every view a camera. Actions, rewards, ends and
    signals are exact, frames are compressed as H.264. import-lerobot reads the store back.

    Args:
        store: folder of the store; it is not changed.
        out: a new folder.
        fps: frames per second; None: those of the store.
        task: what is done in the episodes, in words; None: the name of the game.
        pixels: how films keep colours: "yuv444p" all of them, "yuv420p" half in both directions, which browsers need,
            "rgb" as they are, which with crf=0 loses nothing.
        crf: compression of the films, 0 to 51: each 6 more halve their size.

    Returns: what was written, which is also printed.

    Raises:
        ValueError: the store holds no episodes or does not know its speed, its views have different actions, or its
            frames are neither gray nor RGB.
        FileExistsError: `out` already exists.
    """
    store = open_stores(store)
    pyarrow()  # a missing package says so before anything is read
    info, speed, root, task = store.info, _speed(store.info, fps), Path(out), task or store.info.env_id
    if info.channels not in (1, 3):
        raise ValueError(f"LeRobot's films are gray or RGB, the frames of {store.root} have {info.channels} channels")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be 0 to 51, got {crf}")
    if pixels not in PIXELS:
        raise ValueError(f"pixels must be one of {', '.join(PIXELS)}, got {pixels!r}")
    if pixels == "yuv420p" and (info.height % 2 or info.width % 2):
        raise ValueError(f"yuv420p needs even sizes, these frames are {info.height} × {info.width}: use yuv444p")
    plays = _plays(store)
    finish_replacing(root)  # complete what a killed call left
    if root.exists():
        raise FileExistsError(f"{root} already exists: delete it, or choose another out")
    cameras = [_CAMERA] if info.views == 1 else [f"{_CAMERA}_{view}" for view in range(info.views)]
    with replacing(root) as fresh, progress(len(plays), "episode", "export") as bar:
        writer = _Writer(fresh, store, cameras, speed, task, lambda path: FilmWriter(path, info, speed, crf, pixels))
        for file, group in enumerate(_groups(store, plays)):
            writer.write_file(file, group, bar.update)
        write_rows(fresh / layout.EPISODES.format(chunk_index=0, file_index=0), writer.described)
        write_tasks(fresh / layout.TASKS, [task])
        found = writer.found
        total = {name: statistics.joined([of_episode[name] for of_episode in found]) for name in found[0]}
        write_json(fresh / layout.STATS, {name: _lists(values) for name, values in total.items()})
        write_json(fresh / layout.OURS, {"info": asdict(replace(info, label_names=()))})
        write_json(fresh / layout.INFO, _description(info, cameras, len(plays), writer.rows, speed, pixels))
    stats = LeRobotStats(root=root, episodes=len(plays), rows=writer.rows, cameras=tuple(cameras), fps=speed)
    print(stats)
    return stats


class _Writer:
    """Writes files of rows and films, and keeps what meta/ says of their episodes."""

    def __init__(
        self,
        root: Path,
        store: EpisodeStorage,
        cameras: list[str],
        speed: float,
        task: str,
        film: Callable[[Path], FilmWriter],
    ) -> None:
        self.root, self.store, self.cameras, self.speed, self.task, self.film = root, store, cameras, speed, task, film
        self.described: list[dict[str, Any]] = []  # rows of meta/episodes
        self.found: list[dict[str, statistics.Statistics]] = []  # of each episode, by feature
        self.rows = 0

    def write_file(self, file: int, group: list[range], written: Callable[[], object]) -> None:
        """Write the recordings of one file."""
        number = {"chunk_index": file // layout.FILES_PER_CHUNK, "file_index": file % layout.FILES_PER_CHUNK}
        seconds = 0.0
        with ExitStack() as stack:
            append = stack.enter_context(table_writer(self.root / layout.DATA.format(**number)))
            films = []
            for camera in self.cameras:
                path = self.root / layout.FILMS.format(video_key=camera, **number)
                films.append(stack.enter_context(self.film(path)))
            for play in group:
                views = [self.store.episode(episode) for episode in play]
                rows = _rows(views[0], self.store.info, len(self.described), self.rows, self.speed)
                append(rows)
                found = {name: statistics.of_numbers(column) for name, column in rows.items()}
                for camera, film, view in zip(self.cameras, films, views, strict=True):
                    frames = as_rgb(steps_to_frames(view.frames))
                    film.append(frames)
                    found[camera] = statistics.of_frames(frames)
                num_rows = len(rows["index"])
                length = (num_rows + 1) / self.speed  # with the frame after the last action
                joined = len(self.store.folders) > 1  # whose ids are not unique
                recording = len(self.described) if joined else int(self.store.ids[play.start]) // len(views)
                self._describe(views[0], recording, number, num_rows, (seconds, seconds + length), found)
                seconds += length
                written()

    def _describe(
        self,
        episode: Episode,
        recording: int,
        number: dict[str, int],
        num_rows: int,
        seconds: tuple[float, float],
        found: dict[str, statistics.Statistics],
    ) -> None:
        row = {"episode_index": len(self.described), "tasks": [self.task], "length": num_rows}
        row |= {"dataset_from_index": self.rows, "dataset_to_index": self.rows + num_rows}
        row |= {f"data/{name}": value for name, value in number.items()}
        for camera in self.cameras:
            times = {"from_timestamp": seconds[0], "to_timestamp": seconds[1]}
            row |= {f"videos/{camera}/{name}": value for name, value in (number | times).items()}
        row |= {f"meta/episodes/{name}": 0 for name in number}
        # What has no row: the signals after the last step, the seed, and the id, which decides the split.
        row[layout.ID] = recording
        row[layout.SEED] = -1 if episode.seed is None else episode.seed
        if episode.signals.shape[1]:
            row[layout.FINAL_STATE] = episode.signals[-1].tolist()
        for feature, values in found.items():
            row |= {f"stats/{feature}/{name}": value for name, value in _lists(values).items()}
        self.described.append(row)
        self.found.append(found)
        self.rows += num_rows


def _speed(info: StoreInfo, fps: float | None) -> float:
    speed = info.steps_per_second * info.frames_per_step if fps is None else fps
    if not 0 < speed < float("inf"):
        raise ValueError(f"LeRobot needs frames per second above 0, got {speed:g}; give them as --fps")
    return speed


def _plays(store: EpisodeStorage) -> list[range]:
    """The episodes of each recording: one per view."""
    views = store.info.views
    if not len(store) or len(store) % views:
        raise ValueError(f"{store.root} holds {len(store)} episodes of {views} views: nothing to export")
    plays = [range(first, first + views) for first in range(0, len(store), views)]
    for play in plays:
        if any(not np.array_equal(store.actions(play.start), store.actions(view)) for view in play[1:]):
            raise ValueError(
                f"the views of {store.root} have different actions, as mirrored ones do; export the store that was "
                "mirrored"
            )
    return plays


def _groups(store: EpisodeStorage, plays: list[range]) -> list[list[range]]:
    """The recordings of each file."""
    frames = np.array([store.lengths[play.start] * store.info.frames_per_step + 1 for play in plays])
    files = (frames.cumsum() - frames) // FRAMES_PER_FILE
    ends = [0, *(np.flatnonzero(np.diff(files)) + 1).tolist(), len(plays)]
    return [plays[start:end] for start, end in pairwise(ends)]


def _rows(episode: Episode, info: StoreInfo, index: int, first_row: int, speed: float) -> dict[str, NDArray]:
    """The columns (K,) or (K, D) of an episode.

    A step's reward stands in its last row, the state before it in all. The episode's end stands in the last row.
    """
    F, K = info.frames_per_step, episode.num_steps * info.frames_per_step
    actions = episode.actions
    per_frame = actions.reshape(K, -1) if info.action.frames > 1 else actions.repeat(F, axis=0)
    rewards, done, truncated = np.zeros(K, np.float32), np.zeros(K, bool), np.zeros(K, bool)
    rewards[F - 1 :: F] = episode.rewards
    done[-1], truncated[-1] = episode.terminated or episode.truncated, episode.truncated
    columns: dict[str, NDArray] = {ACTION: _narrow(per_frame)}
    if info.signal_names:
        columns[STATE] = _narrow(episode.signals[:-1].repeat(F, axis=0))
    columns |= {REWARD: rewards, DONE: done, TRUNCATED: truncated}
    counters = (np.arange(K) / speed, np.arange(K), np.full(K, index), first_row + np.arange(K), np.zeros(K))
    return columns | {
        name: values.astype(dtype) for (name, dtype), values in zip(layout.COUNTERS.items(), counters, strict=True)
    }


def _narrow(column: NDArray) -> NDArray:
    """LeRobot keeps features of one dimension as plain columns."""
    return column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column


def _lists(values: statistics.Statistics) -> dict[str, list]:
    return {name: value.tolist() for name, value in values.items()}


def _description(
    info: StoreInfo, cameras: list[str], episodes: int, rows: int, speed: float, pixels: str
) -> dict[str, Any]:
    """Content of meta/info.json."""
    fps = int(speed) if speed == int(speed) else speed
    action = info.action
    width = 1 if action.kind == "discrete" else action.n // action.frames
    names = list(action.held.names) if action.kind == "box" and action.names else None
    film = {
        "video.height": info.height,
        "video.width": info.width,
        "video.codec": "h264",
        "video.pix_fmt": "gbrp" if pixels == "rgb" else pixels,
        "video.fps": fps,
        "video.channels": 3,
        "video.g": GROUP,
        "is_depth_map": False,
        "has_audio": False,
    }
    shape = [info.height, info.width, 3]
    features: dict[str, dict[str, Any]] = {
        camera: {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"], "info": film}
        for camera in cameras
    }
    features[ACTION] = {"dtype": action.dtype.name, "shape": [width], "names": names}
    if info.signal_names:
        features[STATE] = {"dtype": "float32", "shape": [len(info.signal_names)], "names": list(info.signal_names)}
    plain = {REWARD: "float32", DONE: "bool", TRUNCATED: "bool"} | layout.COUNTERS
    features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in plain.items()}
    return {
        "codebase_version": layout.VERSION,
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": rows,
        "total_tasks": 1,
        "chunks_size": layout.FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": layout.DATA,
        "video_path": layout.FILMS,
        "features": features,
    }
