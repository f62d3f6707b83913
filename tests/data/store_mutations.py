"""Ways to damage a store: bytes, datasets, values, attributes, links, groups, files and metadata."""

import json
import os
import shutil

import h5py
import numpy as np

from tests.data.makers import INFO
from tests.mutations import mutate_bytes, mutate_field, mutate_json, one
from worldmodel.data.layout import CHECKED, CHECKSUMS


def files_of(root):
    return sorted(root.rglob("*.hdf5"))


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
