"""Find BAIR's record files: in the published archive, as single files, or as written by TensorFlow Datasets (TFDS).

The archive has softmotion30_44k/{train,test}/traj_A_to_B.tfrecords; its test file is also published separately, as
bair_test_traj_0_to_255.tfrecords. TFDS has bair_robot_pushing_small/VERSION/NAME-SPLIT.tfrecord-I-of-N.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

SPLITS = ("test", "train")
_NAMED = re.compile(r"(bair_test_)?traj_(\d+)_to_(\d+)\.tfrecords")
_SHARD = re.compile(r"([^.].*)-(\w+)\.(tfrecord|array_record|riegeli|parquet|bagz)-(\d+)-of-(\d+)")
_TEST_FILE = (0, 255)  # the first and last trajectory of the only published test file


class RecordFiles(NamedTuple):
    """The files of each split in reading order, and notes for the user about them."""

    test: list[Path]
    train: list[Path]
    notes: list[str]


def find_record_files(source: str | Path) -> RecordFiles:
    """All record files in a folder, or the given file.

    Raises:
        FileNotFoundError: there are no record files.
        ValueError: there are several sets of files, two files whose names overlap in trajectories, or files of an
            unsupported kind or split.
    """
    source = Path(source)
    if source.is_file():
        return _given([source])
    archive = {split: _of_archive(source, split) for split in SPLITS}
    loose = sorted(path for path in source.glob("*.tfrecords") if _NAMED.fullmatch(path.name))
    shards = [path for pattern in ("*-of-*", "*/*-of-*", "*/*/*-of-*") for path in source.glob(pattern)]
    shards = [path for path in shards if _SHARD.fullmatch(path.name)]
    kinds = {
        "the published archive": [path for paths in archive.values() for path in paths],
        "single files": loose,
        **{f"TFDS in {folder}": [] for folder in sorted({path.parent for path in shards})},
    }
    there = [kind for kind, paths in kinds.items() if paths or kind.startswith("TFDS")]
    if len(there) > 1:
        raise ValueError(f"{source} holds the files of {' and '.join(there)}: give the path of one of these")
    if shards:
        return _of_tfds(shards)
    if loose:
        return _given(loose)
    if not any(archive.values()):
        find_files(source, "train")  # raises
    return RecordFiles(archive["test"], archive["train"], [])


def find_files(folder: str | Path, split: str) -> list[Path]:
    """The archive's record files of "train" or "test" in numeric order, in softmotion30_44k/ or in `folder` itself.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: two files overlap in trajectories, by their names.
    """
    if files := _of_archive(Path(folder), split):
        return files
    raise FileNotFoundError(
        f"no traj_A_to_B.tfrecords in {folder}/softmotion30_44k/{split} or {folder}/{split}; give the folder into "
        "which bair_robot_pushing_dataset_v0.tar was unpacked, or the one that TFDS wrote, or one record file"
    )


def num_named(path: Path) -> int:
    """Number of trajectories in a file by its name, or by TFDS's dataset_info.json beside it; 0 if unknown."""
    if match := _NAMED.fullmatch(path.name):
        return int(match[3]) - int(match[2]) + 1
    if match := _SHARD.fullmatch(path.name):
        try:
            splits = json.loads((path.parent / "dataset_info.json").read_text(encoding="utf-8"))["splits"]
            lengths = {split["name"]: split["shardLengths"] for split in splits}[match[2]]
            return int(lengths[int(match[4])]) if len(lengths) == int(match[5]) else 0
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return 0  # only needed for a progress bar and a check
    return 0


def label(path: Path, split: str) -> str:
    """Name of a file that does not depend on its folder."""
    return f"{split}/{path.name.removeprefix('bair_test_')}"


def _of_archive(folder: Path, split: str) -> list[Path]:
    for root in (folder / "softmotion30_44k" / split, folder / split):
        if files := _in_order(root.glob("*.tfrecords")):
            return files
    return []


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Sort files by their trajectories; ValueError if two overlap by their names."""
    named = [(match, path) for path in paths if (match := _NAMED.fullmatch(path.name))]
    files = sorted((int(match[2]), int(match[3]), path) for match, path in named)
    for (_, last, path), (first, _, after) in pairwise(files):
        if first <= last:
            raise ValueError(
                f"{path} and {after.name} hold some of the same trajectories by their names; remove one of them"
            )
    return [path for *_, path in files]


def _given(paths: Sequence[Path]) -> RecordFiles:
    """Files outside the archive's folders."""
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    notes = []
    for path in paths:
        if _SHARD.fullmatch(path.name):
            return _of_tfds([path])
        match = _NAMED.fullmatch(path.name)
        if path.resolve().parent.name in SPLITS:
            split = path.resolve().parent.name
        elif match:
            is_test = bool(match[1]) or (int(match[2]), int(match[3])) == _TEST_FILE
            split = "test" if is_test else "train"
            what = "the published test file" if is_test else "a published training file"
            notes.append(f"{path.name} is read as {what} by its name; a folder named train or test would take priority")
        elif path.suffix in (".tar", ".gz", ".tgz", ".zip"):
            raise ValueError(f"{path} is an archive: unpack it (tar -xf) and give the folder")
        else:
            raise ValueError(
                f"{path} does not say which split it belongs to: move it into a folder named test or train, or use its "
                "published name traj_A_to_B.tfrecords"
            )
        found[split].append(path)
    if len(paths) > 1:
        found = {split: _in_order(files) for split, files in found.items()}
    return RecordFiles(found["test"], found["train"], notes)


def _of_tfds(paths: Sequence[Path]) -> RecordFiles:
    found: dict[str, list[tuple[int, Path]]] = {split: [] for split in SPLITS}
    totals: dict[tuple[str, str], int] = {}
    for path in paths:
        match = _SHARD.fullmatch(path.name)
        assert match is not None
        dataset, split, kind, index, total = match[1], match[2], match[3], int(match[4]), int(match[5])
        if kind != "tfrecord":
            raise ValueError(
                f"{path} has TFDS's file format {kind}, only tfrecord is supported: prepare the data set with "
                "file_format='tfrecord'"
            )
        if split not in SPLITS:
            raise ValueError(f"{path} is of the split {split!r}; BAIR has {' and '.join(SPLITS)}")
        if totals.setdefault((dataset, split), total) != total or len({name for name, _ in totals}) > 1:
            raise ValueError(f"{path} belongs to another set of files than its neighbours; keep only one set")
        found[split].append((index, path))
    notes = [
        f"found {len(found[split])} of the {total} files of TFDS's split {split}"
        for (_, split), total in totals.items()
        if len(found[split]) != total
    ]
    in_order = {split: [path for _, path in sorted(files)] for split, files in found.items()}
    return RecordFiles(in_order["test"], in_order["train"], notes)
