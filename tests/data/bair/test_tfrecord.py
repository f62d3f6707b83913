"""TFRecord files and Example messages: the published test vector, handmade bytes, and damage."""

import struct
import tracemalloc

import numpy as np
import pytest

from worldmodel.data.bair.tfrecord import (
    BrokenRecordError,
    find_lists,
    make_example,
    masked_crc,
    read_feature,
    read_records,
    write_records,
)

PAYLOADS = [b"first", b"", b"the third record"]


def write(tmp_path, payloads=PAYLOADS):
    write_records(tmp_path / "x.tfrecords", payloads)
    return tmp_path / "x.tfrecords"


def payloads(path):
    return [payload for _, payload in read_records(path)]


def parse(payload):
    return {key: read_feature(payload, span) for key, (span,) in find_lists(payload).items()}


def damaged(path, place, value=0xFF):
    raw = bytearray(path.read_bytes())
    raw[place] ^= value
    path.write_bytes(raw)
    return path


def test_the_crc_is_the_published_one():
    # RFC 3720 B.4: 32 bytes of zeros have the CRC-32C 0x8A9136AA.
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_records_come_back_in_order(tmp_path):
    path = write(tmp_path)
    assert payloads(path) == PAYLOADS
    assert path.stat().st_size == sum(len(payload) + 16 for payload in PAYLOADS)


def test_a_damaged_payload_is_named_and_the_records_after_it_are_read(tmp_path):
    path = damaged(write(tmp_path), 12)
    first, *rest = payloads(path)
    assert isinstance(first, BrokenRecordError) and "record 0: wrong CRC" in str(first) and path.name in str(first)
    assert rest == PAYLOADS[1:]


def test_reading_stops_after_a_damaged_length(tmp_path):
    path = damaged(write(tmp_path), len(PAYLOADS[0]) + 16)  # the length of record 1
    first, second = payloads(path)
    assert first == PAYLOADS[0]
    assert second.index == 1 and "wrong CRC of the record's length" in second.reason


@pytest.mark.parametrize("left", [3, 14])
def test_a_truncated_file_says_where_it_ends(tmp_path, left):
    path = write(tmp_path, PAYLOADS[:1] * 2)
    path.write_bytes(path.read_bytes()[: len(PAYLOADS[0]) + 16 + left])
    first, second = payloads(path)
    assert first == PAYLOADS[0] and second.index == 1 and "the file ends within the record" in second.reason


def test_another_file_is_reported_as_not_a_tfrecord(tmp_path):
    (tmp_path / "x").write_bytes(b"GIF89a and so on, a dozen bytes")
    (error,) = payloads(tmp_path / "x")
    assert "not a TFRecord file" in error.reason


def test_an_example_made_by_hand_is_read():
    # {feature {key: "a" value {int64_list {value: [3, -1]}}} feature {key: "b" value {bytes_list {value: "hi"}}}
    ints = b"\x1a\x0d\x0a\x0b\x03" + b"\xff" * 9 + b"\x01"
    text = b"\x0a\x04\x0a\x02hi"
    entries = b"".join(
        b"\x0a" + bytes([len(body)]) + body
        for body in (
            b"\x0a\x01a\x12" + bytes([len(ints)]) + ints,
            b"\x0a\x01b\x12" + bytes([len(text)]) + text,
        )
    )
    example = b"\x0a" + bytes([len(entries)]) + entries
    features = parse(example)
    assert features["a"].tolist() == [3, -1] and features["b"] == b"hi"


def test_features_come_back_as_they_were_made():
    features = {
        "image": np.arange(300, dtype=np.uint8).tobytes(),
        "numbers": np.array([1.5, -2.25, 0.0], np.float32),
        "counts": np.array([0, 127, 128, -5, 2**40], np.int64),
        "nothing": b"",
        "none": np.zeros(0, np.float32),
    }
    found = parse(make_example(features))
    assert list(found) == list(features)
    for key, value in features.items():
        assert type(found[key]) is type(value)
        np.testing.assert_array_equal(found[key], value)


def test_unknown_fields_are_skipped():
    known = make_example({"a": b"x"})
    unknown = b"\x10\x96\x01" + b"\x1d" + bytes(4) + b"\x21" + bytes(8)  # a varint, four bytes, eight bytes
    assert parse(unknown + known) == {"a": b"x"}


@pytest.mark.parametrize("payload", [b"\x0a\x7f", b"\x0a\x05\x0a\x03\x0a\x01", b"\x0b", struct.pack("<Q", 2**63 + 1)])
def test_bytes_that_are_not_an_example_are_refused(payload):
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example, at byte \d+ of the record"):
        parse(payload)


def field(number, content, wire=2):
    return bytes([number << 3 | wire, len(content)]) + content


def example(value, key=b"a"):
    return field(1, field(1, field(1, key) + field(2, value)))


TWICE = field(1, 2 * field(1, field(1, b"a") + field(2, field(1, field(1, b"x")))))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x0a" + b"\xff" * 9 + b"\x01", "reaches beyond"),  # 2**64 - 1 bytes
        (b"\x0a" + b"\xff" * 200, "does not end, or has more than 64 bits"),
        (b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (b"\x0a" * 5000, "not a tf.train.Example"),
        (TWICE, "the key 'a' is repeated"),
        (example(field(1, field(1, b"x")) + field(3, b"")), "'a' must be one list"),
        (example(field(7, field(1, b"x"))), "'a' must be one list"),
        (example(field(2, field(1, bytes(7)))), "packed numbers of 4 bytes"),
        (example(field(2, b"\x0d" + bytes(4))), "packed numbers"),  # not packed
        (example(field(3, field(1, b"\xff" * 11))), "more than 64 bits"),
        (field(1, field(1, field(1, b"a"))), "lacks its key or its value"),
        (example(field(1, field(1, b"x")), key=b"\xff"), "a key is not text"),
    ],
)
def test_a_malformed_example_is_refused_with_its_byte(payload, reason):
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example, at byte \d+ of the record") as error:
        parse(payload)
    assert reason in str(error.value)


@pytest.mark.parametrize("length", [2**63 + 7, 2**64 - 4, 2**40, 2**31 - 5, 1000])
def test_a_forged_length_is_named_and_nothing_of_its_size_is_read(tmp_path, length):
    path = write(tmp_path, PAYLOADS[:1])
    forged = struct.pack("<Q", length)
    path.write_bytes(path.read_bytes() + forged + struct.pack("<I", masked_crc(forged)) + bytes(100))
    tracemalloc.start()
    first, error = payloads(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first == PAYLOADS[0] and most < 1e6
    assert str(error).startswith(f"{path}, record 1: ") and str(error).endswith("(the record begins at byte 21)")
    assert "the file ends within the record" in str(error) or "protobuf allows" in str(error)
