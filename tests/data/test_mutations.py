"""Mutated stores and BAIR records either load like intact ones or are refused in one line that names the file."""

import contextlib
import io
import json
import os
import shutil
import struct
import tempfile

import h5py
import numpy as np
import pytest

from tests.bair_records import write_archive, write_tfds
from tests.data.makers import INFO, PUSHES, make_episode, make_store
from tests.mutations import check, mutate_bytes, mutate_field, mutate_json, run_trial
from worldmodel.data import EpisodeStorage, SegmentId
from worldmodel.data.bair.tfrecord import masked_crc
from worldmodel.data.layout import CHECKED, CHECKSUMS

pytestmark = pytest.mark.slow


# --- stores -----------------------------------------------------------------------------------------------------------


def files_of(root):
    return sorted(root.rglob("*.hdf5"))


def one(rng, things):
    things = list(things)
    return things[rng.integers(len(things))]


def any_file(root, rng):
    return one(rng, files_of(root))


def flip_bytes(root, rng):
    mutate_bytes(any_file(root, rng), rng)


def flip_structure(root, rng):
    """Change bytes outside the datasets: superblock, group heads, links, attributes."""
    path = any_file(root, rng)
    with h5py.File(path) as file:
        spans = []
        file.visititems(
            lambda _, found: (
                spans.append((found.id.get_offset(), found.id.get_storage_size()))
                if isinstance(found, h5py.Dataset)
                else None
            )
        )
    data = bytearray(path.read_bytes())
    outside = np.ones(len(data), bool)
    for start, size in spans:
        outside[start : start + size] = False
    for place in rng.choice(np.flatnonzero(outside), rng.integers(1, 4)).tolist():
        data[place] = int(rng.integers(256)) if rng.integers(2) else data[place] ^ 1 << int(rng.integers(8))
    path.write_bytes(data)


def datasets_of(file):
    names = []
    file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
    return sorted(names)


def replace_dataset(root, rng):
    with h5py.File(any_file(root, rng), "r+") as file:
        name = one(rng, datasets_of(file))
        values = file[name][()]
        del file[name]
        kind = rng.integers(12)
        if kind == 0:
            file[name] = values[:-1]
        elif kind == 1:
            file[name] = np.concatenate((values, values))
        elif kind == 2:
            file[name] = values.astype(one(rng, [">f4", "f8", ">i8", "i4", "u1", "i1", "c8", "S3", "f2"]))
        elif kind == 3:
            file[name] = np.full(values.shape, one(rng, [np.nan, np.inf, -np.inf, 1e38]), "f4")
        elif kind == 4:
            file.create_dataset(name, data=values, chunks=values.shape)
        elif kind == 5:
            file.create_dataset(name, data=values, compression="gzip")
        elif kind == 6:
            file.create_dataset(name, data=values, dtype=values.dtype, external=[("/dev/zero", 0, values.nbytes)])
        elif kind == 7:
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[...] = h5py.VirtualSource("other.hdf5", "x", values.shape)
            file.create_virtual_dataset(name, layout)
        elif kind == 8:
            file.create_dataset(name, shape=(2**40, *values.shape[1:]), dtype=values.dtype)  # never written
        elif kind == 9:
            file[name] = one(rng, [7, "text", h5py.Empty("f4"), np.zeros((0, 3)), np.zeros(3, [("a", "f4")])])
        elif kind == 10:
            file.create_group(name)
        # else it is absent


def change_values(root, rng):
    """Change values in place, like a program without checksums."""
    with h5py.File(any_file(root, rng), "r+") as file:
        dataset = file[one(rng, datasets_of(file))]
        values = dataset[()]
        place = tuple(int(rng.integers(size)) for size in values.shape)
        if values.dtype.kind == "f":
            values[place] = one(rng, [np.nan, np.inf, -3.5, 1e30, -0.0, np.float32(values[place]) + 1])
        elif values.dtype.kind == "b":
            values[place] = not values[place]
        else:
            values[place] = one(rng, [int(values[place]) ^ 1, 7, 100])
        dataset[...] = values


def raw_ends(root, rng):
    """Write an end flag that is neither false nor true."""
    path = any_file(root, rng)
    with h5py.File(path) as file:
        dataset = file[one(rng, [name for name in datasets_of(file) if name.endswith(("terminations", "truncations"))])]
        place = dataset.id.get_offset() + int(rng.integers(len(dataset)))
    data = bytearray(path.read_bytes())
    data[place] = int(rng.integers(2, 256))
    path.write_bytes(data)


ATTRIBUTES = [
    None,
    0,
    1,
    3,
    -1,
    2**63 - 1,
    1.5,
    float("nan"),
    "text",
    "",
    b"\xff\x00",
    np.uint64(2**64 - 1),
    np.array([1, 2]),
    np.array([1, 2], np.uint32),
    np.array([1, 2, 3], np.uint32),
    np.array([[1, 2]], np.uint32),
    np.zeros(0),
    np.zeros(60_000, np.uint8),
    h5py.Empty("i8"),
    np.array(["a", "b"], h5py.string_dtype()),
    np.array((1, 2), [("a", "i4"), ("b", "f4")]),
    np.array(1j),
    True,
]


def change_attribute(root, rng):
    with h5py.File(any_file(root, rng), "r+") as file:
        where = one(rng, [file, *file.values(), *(group["infos"] for group in file.values())])
        name = one(rng, ["id", "total_steps", "seed", CHECKSUMS, CHECKED, *where.attrs])
        value = one(rng, ATTRIBUTES)
        where.attrs.pop(name, None)
        if value is not None:
            where.attrs[name] = np.void(value) if isinstance(value, bytes) else value


def plant_link(root, rng):
    with h5py.File(any_file(root, rng), "r+") as file:
        name = one(rng, [*datasets_of(file), *file, *(f"{group}/infos" for group in file)])
        others = [*datasets_of(file), *file]
        other = one(rng, others)
        kind = rng.integers(7)
        if kind == 0:
            target = h5py.SoftLink(f"/{other}")
        elif kind == 1:
            target = h5py.SoftLink(f"/{name}")  # in a circle
        elif kind == 2:
            target = h5py.ExternalLink(str(any_file(root, rng)), f"/{other}")
        elif kind == 3:
            target = h5py.ExternalLink(one(rng, ["/dev/zero", "/etc/passwd", "absent.hdf5"]), "/x")
        elif kind == 4:
            target = file[other]
        elif kind == 5:
            target = file["/"]
        else:
            target = np.dtype("f4")
        if kind in (4, 5) and other == name:
            return
        del file[name]
        file[name] = target


def change_groups(root, rng):
    with h5py.File(any_file(root, rng), "r+") as file:
        name = one(rng, file)
        number = int(name.removeprefix("episode_"))
        kind = rng.integers(8)
        new = one(
            rng, [f"episode_0{number}", f"episode_{number + 1}", f"episode_{10**9}", "x", "episode_-1", "épisode_1"]
        )
        if kind == 0 and new not in file:
            file.move(name, new)
        elif kind == 1 and new not in file:
            file.copy(name, file, new)
        elif kind == 2:
            del file[name]
        elif kind == 3:
            file[name].move("infos", "info")
        elif kind == 4:
            names = sorted(INFO.signal_names)
            file[name]["infos"].move(names[0], "x")
            file[name]["infos"].move(names[1], names[0])
            file[name]["infos"].move("x", names[1])
        elif kind == 5:
            file[name].move("terminations", "x")
            file[name].move("truncations", "terminations")
            file[name].move("x", "truncations")
        elif kind == 6:
            file[f"{name}/more"] = np.zeros(3)
        else:
            for each in list(file):
                del file[each]


def change_files(root, rng):
    paths = files_of(root)
    path, other = (paths[i] for i in rng.choice(len(paths), 2, replace=False))
    metadata = root / "data" / "metadata.json"
    kind = rng.integers(10)
    if kind == 0:
        kept = path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    elif kind == 1:
        shutil.copy(path, other)
    elif kind == 2:
        path.rename(
            path.with_name(one(rng, ["episode_000050.hdf5", "episode_7.hdf5", "episode_000005_to_000005.hdf5"]))
        )
    elif kind == 3:
        path.write_bytes(b"")
    elif kind == 4:
        path.unlink()
        one(rng, [os.mkdir, os.mkfifo])(path)
    elif kind == 5:
        path.unlink()
        path.symlink_to(one(rng, ["/dev/zero", "/dev/null", "absent", path.name]))
    elif kind == 6:  # without a pending file the store equals an earlier state
        (root / "data" / "main_data.hdf5").unlink()
    elif kind == 7:
        metadata.unlink()
        one(rng, [os.mkdir, os.mkfifo, lambda at: os.symlink("/dev/zero", at)])(metadata)
    elif kind == 8:
        one(rng, paths).write_bytes(metadata.read_bytes())
    else:
        metadata.write_bytes(path.read_bytes())


def change_info(root, rng):
    """Change metadata.json and remove its checksum."""
    path = root / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["videogen_dream"]["crc32c"]
    path.write_text(json.dumps(metadata))
    mutate_field(path, rng)


HONEST = [
    flip_bytes,
    flip_bytes,
    flip_structure,
    flip_structure,
    replace_dataset,
    change_values,
    raw_ends,
    change_attribute,
    plant_link,
    change_groups,
    change_files,
    change_files,
    lambda root, rng: mutate_field(root / "data" / "metadata.json", rng),
    lambda root, rng: mutate_json(root / "data" / "metadata.json", rng),
    lambda root, rng: mutate_bytes(root / "data" / "metadata.json", rng),
]


def mutate_store(root, rng):
    one(rng, HONEST)(root, rng)


def mutate_old_store(root, rng):
    for path in files_of(root):
        with h5py.File(path, "r+") as file:
            file.attrs.pop(CHECKED, None)
            for group in file.values():
                group.attrs.pop(CHECKSUMS, None)
    one(rng, [*HONEST, change_info])(root, rng)


def by_use(root):
    """Read like a training: the first use verifies everything but the frames, so frames are not compared."""
    store = EpisodeStorage.open(root)
    episodes = range(len(store))
    found = [repr(store.info), store.lengths, store.ids.tolist(), store.plays.tolist()]
    for i in episodes:
        parts = store.actions(i), store.rewards(i), store.signals(i)
        found += [store.ended(i), *(part.tobytes() for part in parts), store.frames(i).shape]
    batch = store.batch([SegmentId(i, 0, 2) for i in episodes])
    found += [value.numpy().tobytes() for value in (batch.actions, batch.rewards, batch.signals, batch.terminated)]
    found += [tuple(batch.frames.shape), store.starts(2, "all").tobytes(), store.split("train").tobytes()]
    return found


def by_check(root):
    """Read like `inspect --verify`, and read whole episodes."""
    from worldmodel.training.reports.inspect_store import inspect_store, verify_store

    with contextlib.redirect_stderr(io.StringIO()):
        found = [verify_store(root), repr(inspect_store(root))]
    store = EpisodeStorage.open(root)
    for i in range(len(store)):
        episode = store.episode(i)
        found += [episode.frames.tobytes(), episode.actions.tobytes(), episode.seed, episode.terminated]
    found.append(store.batch([SegmentId(i, 0, 2) for i in range(len(store))]).frames.numpy().tobytes())
    return found


@pytest.fixture(params=["discrete", "box"])
def store(request, tmp_path):
    """Two packed episodes, one in its own file, and a block of two."""
    from dataclasses import replace

    info = INFO if request.param == "discrete" else replace(INFO, action=PUSHES)
    store = make_store(tmp_path / "whole" / "pushes_and_turns", (6, 3), info)
    store.write_pending(make_episode(4, 2, info), 2)
    store.write_block([make_episode(3, 3, info), make_episode(5, 4, info)], 3)
    return store.root


@pytest.mark.parametrize("load", [by_use, by_check])
def test_a_mutated_store_loads_intact_or_is_refused(store, load, tmp_path):
    check(run_trial(store, load, mutate_store, 300, 11, tmp_path), 300)


@pytest.mark.parametrize("mutate", [change_info, mutate_old_store])
def test_mutated_stores_without_checksums_raise_only_one_line_errors(store, mutate, tmp_path):
    """Without checksums the values cannot be verified; everything else is."""
    check_unvouched(run_trial(store, by_check, mutate, 150, 12, tmp_path))


def check_unvouched(found):
    wrong = [word for word in found if word not in ("equal", "refused") and "silently" not in word]
    assert not wrong, "\n".join(wrong)


# --- records ----------------------------------------------------------------------------------------------------------


def records_of(root):
    return sorted([*root.rglob("*.tfrecords"), *root.rglob("*.tfrecord-*")])


def starts_of(data):
    """Offset of each record, and of the end of the file."""
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + 16 + struct.unpack_from("<Q", data, starts[-1])[0])
    return starts


def mutate_record(root, rng):
    path = one(rng, records_of(root))
    data = bytearray(path.read_bytes())
    starts = starts_of(data)
    begin, end = starts[(place := int(rng.integers(len(starts) - 1)))], starts[place + 1]
    kind = rng.integers(8)
    if kind == 0:  # the framing before the payload, and behind it
        at = one(rng, [*range(begin, begin + 12), *range(end - 4, end)])
        data[at] = int(rng.integers(256))
    elif kind == 1:
        at = int(rng.integers(begin, min(end, begin + 400)))
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        data = data[: rng.integers(len(data))]
    elif kind == 3:
        data = data[:begin]  # at a record's border
    elif kind == 4:
        data += bytes(rng.integers(256, size=rng.integers(1, 40)).tolist())
    elif kind == 5:
        at = begin + int(rng.integers(end - begin))
        data[at : at + int(rng.integers(1, 9))] = b""
    elif kind == 6:
        at = begin + int(rng.integers(end - begin))
        data[at:at] = bytes(int(rng.integers(1, 20)))
    path.write_bytes(data)
    if kind == 7:
        mutate_bytes(path, rng)


def forge_record(root, rng):
    """Change a length or a payload, and correct its CRC."""
    path = one(rng, records_of(root))
    data = path.read_bytes()
    starts = starts_of(data)
    begin, end = starts[(place := int(rng.integers(len(starts) - 1)))], starts[place + 1]
    payload = bytearray(data[begin + 12 : end - 4])
    length = len(payload)
    kind = rng.integers(5)
    if kind == 0:
        length = one(rng, [0, 1, length - 1, length + 1, 2**31 - 1, 2**31, 2**33, 2**63 - 1, 2**63, 2**64 - 1])
    elif kind == 1:  # a head of the protobuf, or of a key within
        for _ in range(rng.integers(1, 4)):
            payload[int(rng.integers(min(60, length)))] = int(rng.integers(256))
    elif kind == 2:
        keys = [b"image_aux1", b"/action", b"action", b"endeffector_pos", b"image_main", b"\x89PNG", b"IHDR", b"IDAT"]
        at = payload.find(one(rng, [key for key in keys if key in payload]))
        at = max(0, at + int(rng.integers(-12, 30)))
        payload[at] = int(rng.integers(256))
    elif kind == 3:
        payload = payload[: rng.integers(length)]
        length = len(payload)
    else:
        for at in rng.integers(length, size=4).tolist():
            payload[at] = one(rng, [0, 127, 128, 255])
    size = struct.pack("<Q", length)
    framed = size + struct.pack("<I", masked_crc(size)) + payload + struct.pack("<I", masked_crc(bytes(payload)))
    path.write_bytes(data[:begin] + framed + data[end:])


def by_import(root):
    from worldmodel.data.bair.importer import import_bair

    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()):
            import_bair(root, out, action_limit=(9.0,) * 4)
        store = EpisodeStorage.open(out)
        episodes = [store.episode(i) for i in range(len(store))]
        parts = [(each.frames, each.actions, each.signals) for each in episodes]
        return [part.tobytes() for each in parts for part in each] + [store.ids.tolist(), repr(store.info)]


@pytest.fixture(params=["published", "tfds"])
def records(request, tmp_path):
    root = tmp_path / "whole" / "pushes"
    root.mkdir(parents=True)
    if request.param == "published":
        write_archive(root, test=1, train=(2,))
    else:
        write_tfds(root, test=(0,), train=((1, 2),))
    return root


def test_a_mutated_record_loads_intact_or_is_refused(records, tmp_path):
    check(run_trial(records, by_import, mutate_record, 200, 13, tmp_path), 200)


def test_forged_records_raise_only_one_line_errors(records, tmp_path):
    check_unvouched(run_trial(records, by_import, forge_record, 120, 14, tmp_path))
