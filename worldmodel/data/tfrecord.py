"""TFRecord files of `tf.train.Example` messages, read and written without TensorFlow.

Framing of a record: length u64, masked CRC-32C of the length u32, payload, masked CRC-32C of the payload u32, all
little endian. The payload is a protobuf: Example.features = 1, Features.feature = 1 (a map: key = 1, value = 2),
Feature.bytes_list = 1, float_list = 2, int64_list = 3, each with its values in field 1.
Source: the format as TensorFlow documents it (tensorflow.org/tutorials/load_data/tfrecord).
"""

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
_BYTES, _FLOATS, _INTS = 1, 2, 3  # fields of Feature
_LENGTH_DELIMITED = 2  # wire type


class BrokenRecordError(ValueError):
    """A record that cannot be read; says in which file, which record, and why."""

    def __init__(self, path: Path, index: int, reason: str) -> None:
        super().__init__(f"{path}, record {index}: {reason}")
        self.path, self.index, self.reason = path, index, reason


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
    path = Path(path)
    with open(path, "rb") as file:
        index = 0
        while head := file.read(_HEAD.size):
            try:
                yield _payload(file, head, path, index, check)
            except _LostError as error:
                yield BrokenRecordError(path, index, str(error))
                return
            except BrokenRecordError as error:
                yield error
            index += 1


class _LostError(Exception):
    """Where the next record begins is not known any more."""


def _payload(file: BinaryIO, head: bytes, path: Path, index: int, check: bool) -> bytes:
    if len(head) < _HEAD.size:
        raise _LostError(f"the file ends within the record's length: {len(head)} of {_HEAD.size} bytes")
    length, crc = _HEAD.unpack(head)
    if masked_crc(head[:8]) != crc:
        raise _LostError("wrong CRC of the record's length: the file is damaged here, or no TFRecord file")
    body = file.read(length + _TAIL.size)
    if len(body) < length + _TAIL.size:
        raise _LostError(f"the file ends within the record: {len(body)} of {length + _TAIL.size} bytes")
    payload = body[:length]
    if check and masked_crc(payload) != _TAIL.unpack_from(body, length)[0]:
        raise BrokenRecordError(path, index, "wrong CRC: the record is damaged")
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
    if kind == _FLOATS:
        return np.frombuffer(payload, "<f4", (stop - start) // 4, start).astype(np.float32, copy=False)
    if kind == _INTS:
        return np.array(list(_varints(payload[start:stop])), np.int64)
    return payload[start:stop]


def find_features(payload: bytes) -> dict[str, Span]:
    """Where an Example's features lie; ValueError if the bytes are none.

    Of a list of byte strings only the first counts; numbers have to be packed, as all known writers do.
    """
    found: dict[str, Span] = {}
    try:
        for number, start, stop in _fields(payload, 0, len(payload)):
            if number == 1:
                for entry, first, last in _fields(payload, start, stop):
                    if entry == 1:
                        parts = {part: (a, b) for part, a, b in _fields(payload, first, last)}
                        key = payload[slice(*parts[1])].decode()
                        found[key] = _value(payload, *parts[2])
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"the record is no tf.train.Example ({type(error).__name__}: {error})") from error
    return found


def _value(payload: bytes, start: int, stop: int) -> Span:
    for kind, first, last in _fields(payload, start, stop):
        values = next(_fields(payload, first, last), (1, last, last))
        return Span(kind, *values[1:])
    return Span(_BYTES, stop, stop)


def _fields(payload: bytes, place: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number, first byte and the byte after the last of each field of the message between two places."""
    while place < stop:
        tag, place = _varint(payload, place)
        wire = tag & 7
        if wire == _LENGTH_DELIMITED:
            size, place = _varint(payload, place)
        elif wire == 0:
            size = _varint(payload, place)[1] - place
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise IndexError(f"wire type {wire}")
        if place + size > stop:
            raise IndexError("a field reaches beyond its message")
        yield tag >> 3, place, place + size
        place += size


def _varint(payload: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and where the next thing begins."""
    number = payload[place]
    place += 1
    if number < 0x80:
        return number, place
    number &= 0x7F
    shift = 7
    while True:
        byte = payload[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7


def _varints(payload: bytes) -> Iterator[int]:
    place = 0
    while place < len(payload):
        number, place = _varint(payload, place)
        yield number - (1 << 64) if number >= 1 << 63 else number


def make_example(features: Mapping[str, Feature]) -> bytes:
    """An Example of these features: bytes, float32 or int64 arrays."""
    entries = (_field(1, _field(1, key.encode()) + _field(2, _made(value))) for key, value in features.items())
    return _field(1, b"".join(entries))


def _made(value: Feature) -> bytes:
    if isinstance(value, bytes):
        return _field(_BYTES, _field(1, value))
    if value.dtype.kind == "f":
        return _field(_FLOATS, _field(1, value.astype("<f4").tobytes()))
    return _field(_INTS, _field(1, b"".join(_as_varint(int(number) & (1 << 64) - 1) for number in value)))


def _field(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(len(content)) + content


def _as_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
