"""Mutated BAIR records either load like intact ones or are refused in one line that names the file."""

import contextlib
import io
import struct
import tempfile

import pytest

from tests.bair_records import write_archive, write_tfds
from tests.mutations import check, check_unvouched, mutate_bytes, one, run_trial
from worldmodel.data import EpisodeStorage
from worldmodel.data.bair.tfrecord import masked_crc

pytestmark = pytest.mark.slow


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
