"""TFRecord files of `tf.train.Example` messages, read and written without TensorFlow.

Framing of a record: length u64, masked CRC-32C of the length u32, payload, masked CRC-32C of the payload u32, all
little endian. The payload is a protobuf: Example.features = 1, Features.feature = 1 (a map: key = 1, value = 2),
Feature.bytes_list = 1, float_list = 2, int64_list = 3, each with its values in field 1.
Source: the format as TensorFlow documents it (tensorflow.org/tutorials/load_data/tfrecord).
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Feature = bytes | NDArray  # one value of a bytes_list, or a float_list as float32, an int64_list as int64

_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
FRAMING = _HEAD.size + _TAIL.size  # bytes of a record beside its payload
BYTES, FLOATS, INTS = 1, 2, 3  # fields of Feature
KINDS = {BYTES: "a byte string", FLOATS: "float32 numbers", INTS: "integers"}
_LENGTH_DELIMITED = 2  # wire type
_MOST_BYTES = 2**31 - 1  # of a protobuf message
_MOST_VARINT_BYTES = 10  # of 64 bits


class BrokenRecordError(ValueError):
    """A record that cannot be read; says in which file, which record, at which byte of the file, and why."""

    def __init__(self, path: Path, index: int, start: int, reason: str) -> None:
        super().__init__(f"{path}, record {index}: {reason} (the record begins at byte {start})")
        self.path, self.index, self.start, self.reason = path, index, start, reason


def masked_crc(data: bytes) -> int:
    """CRC-32C of the data, rotated and shifted as the format wants it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: str | Path, check: bool = True) -> Iterator[bytes | BrokenRecordError]:
    """The payloads of a file, one by one.

    A payload whose CRC is wrong comes as a `BrokenRecordError` in its place, so that the caller can skip it. After a
    wrong length nothing more can be found: the error comes last.

    Args:
        check: compare the payloads' CRC too; lengths are always compared.
    """
    for _, found in read_placed_records(path, check):
        yield found


def read_placed_records(path: str | Path, check: bool = True) -> Iterator[tuple[int, bytes | BrokenRecordError]]:
    """`read_records`, each with the byte of the file at which the record begins."""
    path = Path(path)
    with open(path, "rb") as file:
        size, start, index = os.fstat(file.fileno()).st_size, 0, 0
        while head := file.read(_HEAD.size):
            try:
                payload = _payload(file, head, size - start, check)
            except _BrokenError as error:
                yield start, BrokenRecordError(path, index, start, str(error))
                if error.is_lost:
                    return
            else:
                yield start, payload
            start = file.tell()
            index += 1


class _BrokenError(Exception):
    """What is wrong with a record; lost: where the next one begins is not known."""

    def __init__(self, reason: str, is_lost: bool = True) -> None:
        super().__init__(reason)
        self.is_lost = is_lost


def _payload(file: BinaryIO, head: bytes, left: int, check: bool) -> bytes:
    """The payload behind a record's head; `left` bytes of the file remain from the head on."""
    if len(head) < _HEAD.size:
        raise _BrokenError(f"the file ends within the record's length: {len(head)} of {_HEAD.size} bytes")
    length, crc = _HEAD.unpack(head)
    if masked_crc(head[:8]) != crc:
        raise _BrokenError("wrong CRC of the record's length: the file is damaged here, or not a TFRecord file")
    if length > _MOST_BYTES:  # before anything of this size is allocated
        raise _BrokenError(f"the record claims {length} bytes, protobuf allows {_MOST_BYTES}: the file is damaged here")
    wanted, there = length + _TAIL.size, left - _HEAD.size
    if wanted > there:
        raise _BrokenError(f"the file ends within the record: {there} of {wanted} bytes")
    body = file.read(wanted)
    if len(body) < wanted:
        raise _BrokenError(f"the file ends within the record: {len(body)} of {wanted} bytes")
    payload = body[:length]
    if check and masked_crc(payload) != _TAIL.unpack_from(body, length)[0]:
        raise _BrokenError("wrong CRC: the record is damaged", is_lost=False)
    return payload


def write_records(path: str | Path, payloads: Iterable[bytes]) -> None:
    """Write payloads as a TFRecord file; the caller sees to atomicity."""
    with open(path, "wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + _TAIL.pack(masked_crc(length)) + payload + _TAIL.pack(masked_crc(payload)))


# --- Example -----------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """Where the value of a feature lies in its record."""

    kind: int  # field of Feature: which of the three lists
    start: int
    stop: int


def parse_example(payload: bytes) -> dict[str, Feature]:
    """The features of an Example by key; ValueError if the bytes are none."""
    return {key: read_feature(payload, span) for key, span in find_features(payload).items()}


def read_feature(payload: bytes, span: Span) -> Feature:
    """One feature of a record: bytes, or its numbers."""
    kind, start, stop = span
    if kind == FLOATS:
        return np.frombuffer(payload, "<f4", (stop - start) // 4, start).astype(np.float32, copy=False)
    if kind == INTS:
        return np.array(list(_integers(payload, start, stop)), np.int64)
    return payload[start:stop]


def find_features(payload: bytes) -> dict[str, Span]:
    """Where an Example's features lie, of which each has one value or numbers; ValueError as of `find_lists`."""
    lists = find_lists(payload)
    for key, spans in lists.items():
        if len(spans) > 1:
            raise _malformed(spans[0].start, f"{key!r} must be one list of one byte string, or of packed numbers")
    return {key: spans[0] for key, spans in lists.items()}


def find_lists(payload: bytes) -> dict[str, list[Span]]:
    """Where all values of an Example's features lie: each byte string of a list, or a list's numbers as one.

    Raises:
        ValueError: says at which byte of the record it is not an Example; numbers have to be packed, as all known
            writers do.
    """
    found: dict[str, list[Span]] = {}
    for number, _, start, stop in _fields(payload, 0, len(payload)):
        if number != 1:
            continue
        for entry, _, first, last in _fields(payload, start, stop):
            if entry != 1:
                continue
            parts = {part: (a, b) for part, _, a, b in _fields(payload, first, last)}
            if not parts.keys() >= {1, 2}:
                raise _malformed(first, "a feature lacks its key or its value")
            try:
                key = payload[slice(*parts[1])].decode()
            except UnicodeDecodeError as error:
                raise _malformed(parts[1][0], f"a key is not text: {error}") from error
            if key in found:
                raise _malformed(first, f"the key {key!r} comes twice")
            found[key] = _values(payload, key, *parts[2])
    return found


def _values(payload: bytes, key: str, start: int, stop: int) -> list[Span]:
    lists = list(_fields(payload, start, stop))
    if not lists:
        return [Span(BYTES, stop, stop)]
    kind, _, first, last = lists[0]
    values = list(_fields(payload, first, last))
    if len(lists) > 1 or kind not in (BYTES, FLOATS, INTS) or (len(values) > 1 and kind != BYTES):
        raise _malformed(start, f"{key!r} must be one list of byte strings, or of packed numbers")
    for number, wire, place, end in values:
        if number != 1 or wire != _LENGTH_DELIMITED or (kind == FLOATS and (end - place) % 4):
            raise _malformed(place, f"the values of {key!r} must be byte strings, or packed numbers of 4 bytes")
        if kind == INTS:
            for _ in _integers(payload, place, end):
                pass
    return [Span(kind, place, end) for _, _, place, end in values] or [Span(kind, last, last)]


def _malformed(place: int, reason: str) -> ValueError:
    return ValueError(f"not a tf.train.Example, at byte {place} of the record: {reason}")


def _fields(payload: bytes, place: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, first byte and the byte after the last of each field of the message between two places."""
    while place < stop:
        begin = place
        tag, place = _varint(payload, place, stop)
        wire = tag & 7
        if wire == _LENGTH_DELIMITED:
            size, place = _varint(payload, place, stop)
        elif wire == 0:
            size = _varint(payload, place, stop)[1] - place
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _malformed(begin, f"wire type {wire}")
        if place + size > stop:
            raise _malformed(begin, f"a field of {size} bytes reaches beyond its message")
        yield tag >> 3, wire, place, place + size
        place += size


def _varint(payload: bytes, place: int, stop: int) -> tuple[int, int]:
    """The number at `place`, and where the next thing begins."""
    number = shift = 0
    for at in range(place, min(stop, place + _MOST_VARINT_BYTES)):
        byte = payload[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >> 64:
                break
            return number, at + 1
        shift += 7
    raise _malformed(place, "a number does not end, or has more than 64 bits")


def _integers(payload: bytes, place: int, stop: int) -> Iterator[int]:
    while place < stop:
        number, place = _varint(payload, place, stop)
        yield number - (1 << 64) if number >= 1 << 63 else number


def make_example(features: Mapping[str, Feature]) -> bytes:
    """An Example of these features: bytes, float32 or int64 arrays."""
    entries = (_field(1, _field(1, key.encode()) + _field(2, _made(value))) for key, value in features.items())
    return _field(1, b"".join(entries))


def _made(value: Feature) -> bytes:
    if isinstance(value, bytes):
        return _field(BYTES, _field(1, value))
    if value.dtype.kind == "f":
        return _field(FLOATS, _field(1, value.astype("<f4").tobytes()))
    return _field(INTS, _field(1, b"".join(_as_varint(int(number) & (1 << 64) - 1) for number in value)))


def _field(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(len(content)) + content


def _as_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
