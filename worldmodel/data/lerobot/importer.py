"""Import a LeRobot data set into a store: one of its episodes becomes one episode per camera.

Letters: F frames per step, K rows of an episode, V = K + 1 frames, H W C pixels, A dimensions of an action, G signals.
"""

import io
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from worldmodel.checksums import file_sum
from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo
from worldmodel.data.lerobot import layout
from worldmodel.data.lerobot.films import FilmReader, shrink
from worldmodel.data.lerobot.layout import ACTION, DONE, REWARD, STATE, TRUNCATED, Description
from worldmodel.data.lerobot.tables import column_of, read_columns, read_rows
from worldmodel.data.steps import frames_to_steps
from worldmodel.data.store_settings import open_with_settings
from worldmodel.data.user_video.actions import action_spec, to_steps
from worldmodel.data.user_video.summary import action_lines, store_lines
from worldmodel.data.user_video.tables import Table
from worldmodel.media.pictures import images_of_open_file
from worldmodel.media.read import in_words
from worldmodel.media.resize import check_size
from worldmodel.progress import progress

SETTINGS = "import_lerobot.json"
_PLACE = ("from_timestamp", "to_timestamp", "chunk_index", "file_index")  # columns of an episode's film
Ends = Literal["data", "stopped", "truncated", "terminated"]


def import_lerobot(
    dataset: str | Path,
    /,
    out: str | Path,
    *,
    cameras: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    frames_per_step: int | None = None,
    action_kind: Literal["auto", "discrete", "box"] = "auto",
    action_limit: Sequence[float] = (),
    signals: bool = True,
    ends: Ends = "data",
    name: str | None = None,
) -> EpisodeStorage:
    """Convert a LeRobot data set (LeRobotDataset v3) on this machine to a store.

    Rows become frames. The frame after an episode's last action, which LeRobot does not keep, is the last one again;
    data sets that export-lerobot wrote have it. Run it again to resume after a stop.

    Args:
        dataset: folder of the data set, with meta/, data/ and videos/.
        out: folder of the store; new, or left by an earlier import of the same data set with the same settings.
        cameras: features that are films or pictures; by default all. Each becomes a view of its own.
        size: height and width to shrink to.
        frames_per_step: frames per step; None: as in the store that the data set was exported from, or 2.
        action_kind: "auto": discrete if each action is one integer from 0 on; otherwise box.
        action_limit: bounds of the dimensions of an action, below and above 0; by default what the data hold.
        signals: whether observation.state becomes game variables for the model to predict.
        ends: "data": as next.done and next.truncated say; or what every end means: the recording stopped, a time
            limit, or the end of the game.
        name: name of the game; None: that of the exported store, or of the folder.

    Returns: the store, whose contents are also printed.

    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged or of another version; names the file and the remedy.
    """
    root = Path(dataset)
    about, origin = layout.read_description(root), layout.read_origin(root)
    _check_options(ends, frames_per_step)
    check_size(size)
    per_step = frames_per_step or (origin.frames_per_step if origin else 2)
    chosen = _cameras(about, cameras)
    recordings = _recordings(about, chosen, signals)
    as_exported = (
        origin is not None and per_step == origin.frames_per_step and action_kind == "auto" and not action_limit
    )
    channels = origin.channels if origin else 3
    notes: Counter[str] = Counter()
    with ExitStack() as stack:
        views = [stack.enter_context(_View(about, camera, channels, size, notes)) for camera in chosen]

        def describe() -> StoreInfo:
            spec = (
                origin.action
                if as_exported and origin
                else _spec(about, recordings, per_step, action_kind, action_limit)
            )
            for recording in recordings:  # refuse rows that do not fit before anything is written
                to_steps(recording.table, spec, len(recording.done) + 1, per_step)
            height, width = _frame_size(views, recordings[0])
            notes.clear()  # these frames are read again
            info = StoreInfo(
                env_id=name or (origin.env_id if origin else root.resolve().name),
                frames_per_step=per_step,
                height=height,
                width=width,
                channels=channels,
                action=spec,
                signal_names=about.names(STATE) if signals and STATE in about.features else (),
                reward="native" if REWARD in about.features else "none",
                views=len(chosen),
                steps_per_second=about.fps / per_step,
            )
            if origin is None or origin.views != len(chosen):
                return info
            return replace(info, reward=origin.reward, test_episodes=origin.test_episodes)

        settings: dict[str, Any] = {
            "cameras": chosen,
            "size": None if size is None else list(size),
            "frames_per_step": per_step,
            "action_kind": action_kind,
            "action_limit": list(action_limit),
            "signals": signals,
            "ends": ends,
            "name": name,
        } | {f"content of {path.relative_to(root)}": file_sum(path)[:16] for path in _files(root)}
        store = stack.enter_context(open_with_settings(Path(out), SETTINGS, settings, describe))
        done, ids = len(store) // len(views), _ids(recordings)
        with progress(len(recordings), "episode", "import", initial=done) as bar:
            for index, recording in list(enumerate(recordings))[done:]:
                episodes = [_episode(view.frames(recording), recording, store.info, ends) for view in views]
                store.write_block(episodes, ids[index] * len(views))
                bar.update()
    of_actions = action_lines([recording.table for recording in recordings], store, action_kind)
    lines = [f"cameras: {', '.join(chosen)}"] if len(chosen) > 1 else []
    print("\n".join([*store_lines(store, str(layout.INFO)), *lines, *in_words(notes), *of_actions]))
    return store


def _check_options(ends: str, frames_per_step: int | None) -> None:
    if ends not in get_args(Ends):
        raise ValueError(f"ends must be 'data', 'stopped', 'truncated' or 'terminated', got {ends!r}")
    if frames_per_step is not None and frames_per_step < 1:
        raise ValueError(f"frames_per_step must be at least 1, got {frames_per_step}")


def _frame_size(views: Sequence["_View"], recording: "_Recording") -> tuple[int, int]:
    """Height and width of the frames of all cameras."""
    shapes = [view.frames(recording).shape[1:] for view in views]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"the cameras {', '.join(view.camera for view in views)} have frames of {', '.join(map(str, shapes))}; "
            "bring them to one size with --size, or choose with --cameras"
        )
    return shapes[0][:2]


def _spec(
    about: Description, recordings: Sequence["_Recording"], per_step: int, kind: str, limit: Sequence[float]
) -> ActionSpec:
    """An action space that contains all actions, with the names of the feature's dimensions."""
    spec = action_spec([recording.table for recording in recordings], kind, [per_step], (), limit)
    if spec.kind == "discrete":
        return spec
    names, frames = about.names(ACTION), range(spec.frames)
    return replace(spec, names=tuple(f"{name}_{k}" if spec.frames > 1 else name for k in frames for name in names))


class _Recording(NamedTuple):
    """One episode of the data set."""

    row: dict[str, Any]  # of meta/episodes
    table: Table  # actions, rewards and states of K rows, and one more for the state after the last action
    done: NDArray[np.bool_]  # (K,)
    truncated: NDArray[np.bool_]  # (K,)
    seed: int | None
    pictures: Path  # the table that holds the episode's pictures, if it has any


def _cameras(about: Description, wanted: Sequence[str]) -> list[str]:
    if not about.cameras:
        raise ValueError(f"{about.root / layout.INFO} has no camera: the data set holds no frames to learn from")
    for camera in wanted:
        if camera not in about.cameras:
            raise ValueError(f"{about.root} has no camera {camera!r}; it has {', '.join(about.cameras)}")
    return list(wanted) or about.cameras


def _files(root: Path) -> list[Path]:
    parts = ("data", "videos", "meta")
    return sorted(path for part in parts for path in (root / part).rglob("[!.]*") if path.is_file())


def _recordings(about: Description, cameras: Sequence[str], signals: bool) -> list[_Recording]:
    """Read everything but the frames."""
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    needed += [
        f"videos/{camera}/{name}" for camera in cameras if about.features[camera]["dtype"] == "video" for name in _PLACE
    ]
    rows = sorted(read_rows(about.root / "meta" / "episodes", needed), key=lambda row: row["episode_index"])
    if [row["episode_index"] for row in rows] != list(range(about.episodes)):
        raise ValueError(
            f"{about.root / 'meta' / 'episodes'} describes {len(rows)} episodes, {layout.INFO} says {about.episodes}, "
            "numbered from 0: the data set is incomplete"
        )
    about.require(ACTION)
    wanted = [ACTION, "episode_index", "frame_index"]
    wanted += [name for name in (REWARD, DONE, TRUNCATED) if name in about.features]
    wanted += [STATE] if signals and STATE in about.features else []
    recordings: list[_Recording] = []
    path, columns = None, dict[str, NDArray]()
    for row in rows:
        number = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        if path != (path := about.root / about.data_path.format(**number)):
            table = read_columns(path, wanted)
            columns = {name: column_of(table, name) for name in wanted}
        mine = columns["episode_index"] == row["episode_index"]
        found = {name: column[mine] for name, column in columns.items()}
        if list(found["frame_index"]) != list(range(row["length"])):
            raise ValueError(
                f"{path} holds {mine.sum()} rows of episode {row['episode_index']}, numbered from 0 to "
                f"{row['length'] - 1} in meta/episodes: the data set is incomplete"
            )
        recordings.append(_recording(about, path, row, found))
    return recordings


def _ids(recordings: Sequence[_Recording]) -> list[int]:
    """The ids in the store that was exported, so that gaps stay and nothing changes its split; else 0, 1, 2, …"""
    given = [recording.row.get(layout.ID) for recording in recordings]
    known = [number for number in given if isinstance(number, int) and number >= 0]
    ascending = all(one < other for one, other in pairwise(known))  # not in data sets that LeRobot merged
    return known if len(known) == len(given) and ascending else list(range(len(given)))


def _recording(about: Description, path: Path, row: dict[str, Any], found: dict[str, NDArray]) -> _Recording:
    K = row["length"]
    states, names = np.zeros((K + 1, 0)), tuple[str, ...]()
    if STATE in found:
        last = np.array(row.get(layout.FINAL_STATE) or found[STATE][-1])
        states = np.concatenate((found[STATE].reshape(K, -1), last.reshape(1, -1)))
        names = about.names(STATE)
    rewards = found[REWARD].astype(np.float64) if REWARD in found else None
    none = np.zeros(K, bool)
    seed = row.get(layout.SEED)
    return _Recording(
        row,
        Table(
            path=path,
            actions=np.concatenate((found[ACTION], found[ACTION][-1:])),
            rewards=None if rewards is None else np.append(rewards, 0.0),
            signals=states,
            columns=about.names(ACTION),
            named=True,
            special=(*((REWARD,) if rewards is not None else ()), *names),
        ),
        found.get(DONE, none).astype(bool),
        found.get(TRUNCATED, none).astype(bool),
        None if seed is None or seed < 0 else seed,
        path,
    )


def _episode(frames: NDArray[np.uint8], recording: _Recording, info: StoreInfo, ends: Ends) -> Episode:
    spec, per_step = info.action, info.frames_per_step
    steps = to_steps(recording.table, spec, len(frames), per_step)
    actions = steps.actions
    if spec.kind == "box" and spec.frames == 1 and per_step > 1:  # held for the frames of a step
        actions = actions[:, : spec.n]
    truncated = bool(recording.truncated[-1]) if ends == "data" else ends == "truncated"
    terminated = bool(recording.done[-1]) and not truncated if ends == "data" else ends == "terminated"
    return Episode(
        frames=frames_to_steps(frames, per_step),
        actions=actions,
        rewards=steps.rewards,
        terminated=terminated,
        truncated=truncated,
        signals=steps.signals,
        seed=recording.seed,
    )


class _View:
    """The frames of one camera."""

    def __init__(
        self, about: Description, camera: str, channels: int, size: tuple[int, int] | None, notes: Counter[str]
    ) -> None:
        self.about, self.camera, self.channels, self.size, self.notes = about, camera, channels, size, notes
        self.films = FilmReader(channels, size, notes)

    def __enter__(self) -> "_View":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        if error is None:
            self.films.finish()
        self.films.close()

    def frames(self, recording: _Recording) -> NDArray[np.uint8]:
        """(V, H, W, C): those of the rows, and the one after the last action or the last one again."""
        row, wanted = recording.row, recording.row["length"]
        if self.about.features[self.camera]["dtype"] == "image":
            frames = self._pictures(recording)
            where: object = recording.pictures
        else:
            where, first, count = self._film_of(row)
            frames = self.films.read(where, first, count)
        if len(frames) < wanted:
            raise ValueError(
                f"{where} holds {len(frames)} frames of episode {row['episode_index']}, which has {wanted} rows: the "
                "film is incomplete, fetch it again"
            )
        return frames if len(frames) > wanted else np.concatenate((frames, frames[-1:]))

    def _film_of(self, row: dict[str, Any]) -> tuple[Path, int, int]:
        """The file of an episode's frames, the first of them and their number."""
        start, end, chunk, file = (row[f"videos/{self.camera}/{name}"] for name in _PLACE)
        pattern = self.about.video_path or layout.FILMS
        path = self.about.root / pattern.format(video_key=self.camera, chunk_index=chunk, file_index=file)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: fetch the films of the data set too")
        first, count = round(start * self.about.fps), round((end - start) * self.about.fps)
        return path, first, row["length"] + (count == row["length"] + 1)

    def _pictures(self, recording: _Recording) -> NDArray[np.uint8]:
        """Pictures that the table itself holds."""
        frames, episode = [], recording.row["episode_index"]
        table = read_columns(recording.pictures, [self.camera], ("episode_index", episode))
        for number, cell in enumerate(table.column(self.camera).to_pylist()):
            if not cell or not cell.get("bytes"):
                raise ValueError(f"{recording.pictures} holds no pictures of {self.camera}, only names of files")
            name = f"{recording.pictures}, {self.camera} of episode {episode}, picture {number}"
            images = images_of_open_file(io.BytesIO(cell["bytes"]), name, self.channels, self.notes)
            frames.append(shrink(next(images), self.size, name, self.notes))
        return np.stack(frames)
