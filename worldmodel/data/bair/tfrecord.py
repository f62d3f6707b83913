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
FRAMING = _HEAD.size + _TAIL.size  # bytes of a record besides its payload
BYTES, FLOATS, INTS = 1, 2, 3  # fields of Feature
KINDS = {BYTES: "a byte string", FLOATS: "float32 numbers", INTS: "integers"}
_LENGTH_DELIMITED = 2  # wire type
_MOST_BYTES = 2**31 - 1  # of a protobuf message
_MOST_VARINT_BYTES = 10  # of 64 bits


class BrokenRecordError(ValueError):
    """A record that cannot be read; the message has the file, the record, its byte offset, and the reason."""

    def __init__(self, path: Path, index: int, start: int, reason: str) -> None:
        super().__init__(f"{path}, record {index}: {reason} (the record begins at byte {start})")
        self.path, self.index, self.start, self.reason = path, index, start, reason


def masked_crc(data: bytes) -> int:
    """CRC-32C of the data, rotated and shifted as the format requires."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: str | Path) -> Iterator[tuple[int, bytes | BrokenRecordError]]:
    """Yield the byte offset and the payload of each record of a file.

    A payload with a wrong CRC is yielded as a `BrokenRecordError`, so that the caller can skip it. After a wrong length
    no further record can be found, so that error is the last item.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size, start, index = os.fstat(file.fileno()).st_size, 0, 0
        while head := file.read(_HEAD.size):
            try:
                payload = _payload(file, head, size - start)
            except _BrokenError as error:
                yield start, BrokenRecordError(path, index, start, str(error))
                if error.is_lost:
                    return
            else:
                yield start, payload
            start = file.tell()
            index += 1


class _BrokenError(Exception):
    """Why a record is broken; is_lost: the start of the next record is unknown."""

    def __init__(self, reason: str, is_lost: bool = True) -> None:
        super().__init__(reason)
        self.is_lost = is_lost


def _payload(file: BinaryIO, head: bytes, left: int) -> bytes:
    """The payload after a record's head; `left` is the number of bytes from the head to the end of the file."""
    if len(head) < _HEAD.size:
        raise _BrokenError(f"the file ends within the record's length: {len(head)} of {_HEAD.size} bytes")
    length, crc = _HEAD.unpack(head)
    if masked_crc(head[:8]) != crc:
        raise _BrokenError("wrong CRC of the record's length: the file is damaged here, or not a TFRecord file")
    if length > _MOST_BYTES:  # before allocating that much
        raise _BrokenError(f"the record claims {length} bytes, protobuf allows {_MOST_BYTES}: the file is damaged here")
    wanted, there = length + _TAIL.size, left - _HEAD.size
    if wanted > there:
        raise _BrokenError(f"the file ends within the record: {there} of {wanted} bytes")
    body = file.read(wanted)
    if len(body) < wanted:
        raise _BrokenError(f"the file ends within the record: {len(body)} of {wanted} bytes")
    payload = body[:length]
    if masked_crc(payload) != _TAIL.unpack_from(body, length)[0]:
        raise _BrokenError("wrong CRC: the record is damaged", is_lost=False)
    return payload


def write_records(path: str | Path, payloads: Iterable[bytes]) -> None:
    """Write payloads as a TFRecord file; not atomic by itself."""
    with open(path, "wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + _TAIL.pack(masked_crc(length)) + payload + _TAIL.pack(masked_crc(payload)))


# --- Example -----------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """Position of a feature's value in its record."""

    kind: int  # field of Feature: which of the three lists
    start: int
    stop: int


def read_feature(payload: bytes, span: Span) -> Feature:
    """One feature of a record: bytes, or an array."""
    kind, start, stop = span
    if kind == FLOATS:
        return np.frombuffer(payload, "<f4", (stop - start) // 4, start).astype(np.float32, copy=False)
    if kind == INTS:
        return np.array(list(_integers(payload, start, stop)), np.int64)
    return payload[start:stop]


def find_lists(payload: bytes) -> dict[str, list[Span]]:
    """Positions of all values of an Example's features: each byte string of a list, or all numbers of a list as one.

    Raises:
        ValueError: the payload is not an Example; says at which byte. Numbers must be packed, as all known writers do.
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
                raise _malformed(first, f"the key {key!r} is repeated")
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
    for number, wire, begin, end in values:
        if number != 1 or wire != _LENGTH_DELIMITED or (kind == FLOATS and (end - begin) % 4):
            raise _malformed(begin, f"the values of {key!r} must be byte strings, or packed numbers of 4 bytes")
        if kind == INTS:
            for _ in _integers(payload, begin, end):
                pass
    return [Span(kind, begin, end) for _, _, begin, end in values] or [Span(kind, last, last)]


def _malformed(offset: int, reason: str) -> ValueError:
    return ValueError(f"not a tf.train.Example, at byte {offset} of the record: {reason}")


def _fields(payload: bytes, offset: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, first byte and the byte after the last of each field of the message in [offset, stop)."""
    while offset < stop:
        begin = offset
        tag, offset = _varint(payload, offset, stop)
        wire = tag & 7
        if wire == _LENGTH_DELIMITED:
            size, offset = _varint(payload, offset, stop)
        elif wire == 0:
            size = _varint(payload, offset, stop)[1] - offset
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _malformed(begin, f"wire type {wire}")
        if offset + size > stop:
            raise _malformed(begin, f"a field of {size} bytes reaches beyond its message")
        yield tag >> 3, wire, offset, offset + size
        offset += size


def _varint(payload: bytes, offset: int, stop: int) -> tuple[int, int]:
    """The integer at `offset`, and the offset after it."""
    number = shift = 0
    for at in range(offset, min(stop, offset + _MOST_VARINT_BYTES)):
        byte = payload[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >> 64:
                break
            return number, at + 1
        shift += 7
    raise _malformed(offset, "a number does not end, or has more than 64 bits")


def _integers(payload: bytes, offset: int, stop: int) -> Iterator[int]:
    while offset < stop:
        number, offset = _varint(payload, offset, stop)
        yield number - (1 << 64) if number >= 1 << 63 else number


def make_example(features: Mapping[str, Feature]) -> bytes:
    """Serialise features as an Example: bytes, float32 or int64 arrays."""
    entries = (_field(1, _field(1, key.encode()) + _field(2, _encoded(value))) for key, value in features.items())
    return _field(1, b"".join(entries))


def _encoded(value: Feature) -> bytes:
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
