"""Import a user's own videos with their actions into a store: one episode per video.

Letters: V frames of a video, H W C pixels, F frames per step.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worldmodel.checksums import file_sum
from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo
from worldmodel.data.steps import frames_to_steps
from worldmodel.data.store_settings import open_with_settings
from worldmodel.data.user_video.actions import action_spec, rows_per_step, to_steps
from worldmodel.data.user_video.summary import NO_ACTIONS, action_lines, store_lines
from worldmodel.data.user_video.tables import TABLES, Table, read_table
from worldmodel.media.arrays import ARRAYS
from worldmodel.media.pictures import PICTURES
from worldmodel.media.read import (
    VIDEOS,
    Images,
    images_per_second,
    in_words,
    natural_order,
    pictures_in,
    read_images,
)
from worldmodel.media.resize import area_resize, center_crop, check_size
from worldmodel.progress import progress
from worldmodel.shapes import channels_first

SETTINGS = "import_video.json"
_FILES = (*VIDEOS, *ARRAYS)


def import_video(
    videos: Sequence[str | Path],
    /,
    out: str | Path,
    *,
    actions: Sequence[str | Path] = (),
    fps: float | None = None,
    frames_per_step: int = 2,
    action_kind: Literal["auto", "discrete", "box"] = "auto",
    action_names: Sequence[str] = (),
    action_columns: Sequence[str] = (),
    action_limit: Sequence[float] = (),
    reward: str | None = None,
    signals: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    crop: Literal["none", "center"] = "none",
    channels: Literal[1, 3] = 3,
    ends: Literal["stopped", "truncated", "terminated"] = "stopped",
    name: str = "Video",
) -> EpisodeStorage:
    """Convert your own videos and their actions to a store: one video becomes one episode.

    Run it again to resume after an interruption.

    Args:
        videos: files (mp4, mov, mkv, webm, avi, gif, npy, npz, …), folders of images (in the order of the numbers in
            their names), or folders of these. Arrays are (V, H, W, C) uint8.
        actions: a file (csv, tsv, npy, npz) for each video in the same order, or one folder with files of the same
            names; none: videos without actions.
        out: folder of the store; new, or left by an earlier import of the same files with the same settings.
        fps: frames per second of the videos, the speed at which samples are shown; None: that of the first video.
        frames_per_step: frames per step.
        action_kind: "auto": discrete if each action is one integer from 0 on, one word or one-hot; otherwise box.
        action_names: names of discrete actions, or of the dimensions of an action.
        action_columns: columns of actions, by default all but those of reward and signals; columns without a name by
            their numbers, counted from 0.
        action_limit: bounds of the dimensions of an action, below and above 0; by default what the files hold.
        reward: column or array of the rewards.
        signals: columns or arrays of additional values for the model to predict, such as a score.
        size: height and width to shrink to.
        crop: "center" keeps the proportions: of each frame, the central part that has those of `size`.
        channels: 3, or 1 for gray.
        ends: what the end of a video means: the recording stopped, a time limit, or the end of the game.
        name: name of the game; models and stores of one game go together.

    Returns: the store, whose contents are also printed.

    Raises:
        FileNotFoundError, ValueError: a file is missing or invalid; names the file and what was expected.
    """
    _check_options(frames_per_step, channels, ends, fps)
    check_size(size)
    if crop not in ("none", "center"):
        raise ValueError(f"crop must be 'none' or 'center', got {crop!r}")
    if crop == "center" and size is None:
        raise ValueError("crop is to the proportions of size: give that too, or omit crop")
    of_tables: dict[str, Any] = {"reward": reward, "signals": signals, "action_kind": action_kind != "auto"}
    of_tables |= {"action_names": action_names, "action_columns": action_columns, "action_limit": action_limit}
    if not actions and (needless := [name for name, value in of_tables.items() if value]):
        raise ValueError(f"{' and '.join(needless)} need files of actions: give those too, or omit this")
    sources = _find_videos([Path(video) for video in videos])
    paths = _find_tables(sources, [Path(path) for path in actions]) if actions else []
    tables = [read_table(path, reward, signals, action_names, action_columns) for path in paths]
    speed = images_per_second(sources[0]) if fps is None else fps
    recordings = _Recordings(sources, tables, channels, size, crop == "center")
    odd: list[str] = []

    def describe() -> StoreInfo:
        if fps is None:
            odd.extend(_odd_speeds(sources, speed))
        lengths, per_step, (height, width, _) = recordings.measure(frames_per_step)
        spec = ActionSpec(kind="discrete", n=1, names=NO_ACTIONS)
        if tables:
            spec = action_spec(tables, action_kind, per_step, action_names, action_limit)
            for table, length in zip(tables, lengths, strict=True):  # refuse tables that do not fit before writing
                to_steps(table, spec, length, frames_per_step)
        return StoreInfo(
            env_id=name,
            frames_per_step=frames_per_step,
            height=height,
            width=width,
            channels=channels,
            action=spec,
            signal_names=tuple(signals),
            reward="native" if reward else "none",
            steps_per_second=speed / frames_per_step,
        )

    settings: dict[str, Any] = {
        "videos": [str(source) for source in sources],
        "actions": [str(path) for path in paths],
        "fps": speed,
        "frames_per_step": frames_per_step,
        "action_kind": action_kind,
        "action_names": list(action_names),
        "action_columns": list(action_columns),
        "action_limit": list(action_limit),
        "reward": reward,
        "signals": list(signals),
        "size": None if size is None else list(size),
        "channels": channels,
        "ends": ends,
        "name": name,
        **({} if crop == "none" else {"crop": crop}),  # absent in imports of earlier releases, which can be resumed
    } | {f"content of {path}": _digest(path) for path in (*sources, *paths)}
    with (
        open_with_settings(Path(out), SETTINGS, settings, describe) as store,
        progress(len(sources), "video", "import", initial=len(store)) as bar,
    ):
        for index in range(len(store), len(sources)):
            store.append(_episode(*recordings.read(index), store.info, ends))
            bar.update()
    of_actions = action_lines(tables, store, action_kind) if tables else []
    of_images = in_words(sum(recordings.changed.values(), Counter()))
    lines = [*store_lines(store, sources[0].name if fps is None else "--fps"), *odd, *of_images, *of_actions]
    print("\n".join(lines))
    return store


def _check_options(frames_per_step: int, channels: int, ends: str, fps: float | None) -> None:
    if frames_per_step < 1 or channels not in (1, 3) or ends not in ("stopped", "truncated", "terminated"):
        raise ValueError(
            "frames_per_step must be at least 1, channels 1 or 3, ends 'stopped', 'truncated' or 'terminated'; got "
            f"{frames_per_step}, {channels}, {ends!r}"
        )
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"fps must be above 0, or None to use the first video's, got {fps}")


class _Recordings:
    """Videos with their actions; only one video's frames are in memory at a time."""

    def __init__(
        self,
        sources: Sequence[Path],
        tables: Sequence[Table],
        channels: int,
        size: tuple[int, int] | None,
        crop: bool,
    ) -> None:
        self.sources, self.tables = sources, tables  # no tables: videos without actions
        self.channels, self.size, self.crop = channels, size, crop
        self.changed: dict[Path, Counter[str]] = {}  # how the images of each video were converted

    def read(self, index: int) -> tuple[NDArray[np.uint8], Table]:
        """Frames (V, H, W, C) and actions of a video."""
        source = self.sources[index]
        frames, self.changed[source] = _read(source, self.channels, self.size, self.crop)
        return frames, self.tables[index] if self.tables else _idle(source, len(frames))

    def measure(self, frames_per_step: int) -> tuple[list[int], list[int], tuple[int, ...]]:
        """Frames and rows per step of each video, and the shape of all frames, which must be one."""
        lengths, per_step, shapes = [], [], []
        for index, source in enumerate(self.sources):
            frames, table = self.read(index)
            lengths.append(len(frames))
            per_step.append(rows_per_step(table, len(frames), frames_per_step))
            shapes.append(frames.shape[1:])
            if shapes[-1] != shapes[0]:
                raise ValueError(
                    f"{source} has frames of {shapes[-1]}, {self.sources[0]} of {shapes[0]}; bring them to one size "
                    "with --size"
                )
        return lengths, per_step, shapes[0]


def _idle(source: Path, frames: int) -> Table:
    """Actions of a video without recorded ones: always the same single action."""
    return Table(source, np.zeros(frames, np.int64), None, np.zeros((frames, 0)))


def _odd_speeds(sources: Sequence[Path], first: float) -> list[str]:
    """A line for the summary if the videos have different frame rates."""
    speeds = {round(images_per_second(source), 2) for source in sources[1:]} | {round(first, 2)}
    if len(speeds) == 1:
        return []
    return [
        f"odd: the videos run at {min(speeds):g} to {max(speeds):g} frames per second; the store keeps "
        f"{first:.4g}, from {sources[0].name}"
    ]


def _episode(frames: NDArray[np.uint8], table: Table, info: StoreInfo, ends: str) -> Episode:
    steps = to_steps(table, info.action, len(frames), info.frames_per_step)
    try:
        return Episode(
            frames=frames_to_steps(frames, info.frames_per_step),
            actions=steps.actions,
            rewards=steps.rewards,
            terminated=ends == "terminated",
            truncated=ends == "truncated",
            signals=steps.signals,
        )
    except ValueError as error:
        raise ValueError(f"{table.path}: {error}") from error


def _read(source: Path, channels: int, size: tuple[int, int] | None, crop: bool) -> Images:
    """Frames (V, H, W, C) with V at least 2."""
    frames, notes = read_images(source, channels, size=size, crop=crop)
    if frames.ndim == 3 and channels == 1:
        frames = frames[..., None]
    if frames.ndim != 4 or frames.shape[-1] != channels or len(frames) < 2:
        hint = channels_first(frames.shape, channels)
        raise ValueError(f"{source}: wanted at least 2 frames (V, H, W, {channels}), got {frames.shape}{hint}")
    if size is not None and frames.shape[1:3] != tuple(size):  # of an array
        try:
            frames = area_resize(center_crop(frames, *size) if crop else frames, *size)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
    return Images(frames, notes)


def _digest(path: Path) -> str:
    """Hash of a file's content, or of all pictures in a folder with their names."""
    if not path.is_dir():
        return file_sum(path)[:16]
    names = "".join(f"{file.name} {_digest(file)}\n" for file in sorted(pictures_in(path)))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _find_videos(paths: Sequence[Path]) -> list[Path]:
    """Replace folders of videos by the videos in them."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: give a video, a folder of pictures, or a folder of these")
        if not path.is_dir() or _has_pictures(path):
            found.append(path)
            continue
        shown = (p for p in path.iterdir() if not p.name.startswith("."))  # not ._clip.mp4 nor .thumbnails/
        inside = sorted(
            (p for p in shown if p.suffix.lower() in _FILES or (p.is_dir() and _has_pictures(p))), key=natural_order
        )
        if not inside:
            raise ValueError(f"{path} holds no videos ({', '.join(_FILES)}) and no pictures ({', '.join(PICTURES)})")
        found += inside
    if not found:
        raise ValueError("at least one video is needed")
    return found


def _has_pictures(folder: Path) -> bool:
    """Whether a folder of pictures is a video; ValueError if it also holds videos, whose covers these may be."""
    pictures = pictures_in(folder)
    videos = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in VIDEOS and not p.name.startswith("."))
    if pictures and videos:
        raise ValueError(
            f"{folder} holds pictures ({pictures[0].name}, …) and videos ({videos[0]}, …): give the videos one by one, "
            "or move the pictures or the videos elsewhere"
        )
    return bool(pictures)


def _find_tables(videos: Sequence[Path], paths: Sequence[Path]) -> list[Path]:
    if len(paths) == 1 and paths[0].is_dir():
        found, by_stem, taken = [], defaultdict(list), set(videos)
        for path in sorted(paths[0].iterdir()):
            if path.suffix.lower() in TABLES and path not in taken:
                by_stem[path.stem].append(path)
        for video in videos:
            stem = video.name if video.is_dir() else video.stem
            fitting = by_stem[stem]
            if len(fitting) != 1:
                others = [path.name for path in sorted(paths[0].glob(f"{escape(stem)}.*"))]
                names = ", ".join([path.name for path in fitting] or others) or "none"
                raise ValueError(
                    f"{video} needs one file {stem} with the ending {', '.join(TABLES)} in {paths[0]}; there is {names}"
                )
            found += fitting
        return found
    if len(paths) != len(videos):
        raise ValueError(
            f"{len(videos)} videos need as many files of actions, got {len(paths)}; or give one folder with files of "
            "the videos' names"
        )
    return list(paths)
