# SPDX-License-Identifier: Apache-2.0
"""The wire format of the host link: frames, requests, responses, and the time of a bit."""

import random
import zlib

import pytest

from tilewright_hdl.errors import DeviceError
from tilewright_hdl.link_format import (
    CRC_BYTES,
    CRC_POLYNOMIAL,
    CRC_RESIDUE,
    DATA_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    READ_WINDOW,
    RECEIVE_BYTES,
    SEQUENCE_BITS,
    WRITE_WINDOW,
    FrameReader,
    Identity,
    Operation,
    Request,
    Response,
    Status,
    UartTiming,
    decode_cobs,
    encode_cobs,
    frame_of,
)

IDENTITY = Identity(board="ulx3s-85f", build=bytes(range(16)), clock_hz=80_000_000, memory_bytes=1 << 25, word_bytes=8)


@pytest.mark.parametrize(("data", "stuffed"), [
    # The examples of the paper's summary in the literature.
    ("", "01"),
    ("00", "0101"),
    ("0000", "010101"),
    ("00110000", "0102110101"),
    ("11220033", "0311220233"),
    ("11223344", "0511223344"),
    ("11000000", "0211010101"),
    ("01" * 254, "ff" + "01" * 254),
])
def test_cobs(data: str, stuffed: str) -> None:
    assert encode_cobs(bytes.fromhex(data)).hex() == stuffed
    assert decode_cobs(bytes.fromhex(stuffed)).hex() == data


def test_cobs_of_anything() -> None:
    chance = random.Random(1)
    for _ in range(300):
        size = chance.randint(0, FRAME_BYTES)
        data = bytes(chance.choice((0, 0, 1, 255, chance.randrange(256))) for _ in range(size))
        stuffed = encode_cobs(data)
        assert 0 not in stuffed and len(stuffed) == len(data) + 1 and decode_cobs(stuffed) == data
    with pytest.raises(ValueError, match="at most 254 bytes, not 255"):
        encode_cobs(bytes(255))


def test_crc_is_that_of_zlib() -> None:
    state = 0xFFFFFFFF
    data = b"123456789"
    for byte in data + zlib.crc32(data).to_bytes(CRC_BYTES, "little"):
        for bit in range(8):
            state = state >> 1 ^ (CRC_POLYNOMIAL if (state ^ byte >> bit) & 1 else 0)
    assert zlib.crc32(data) == 0xCBF43926
    assert state == CRC_RESIDUE


def test_frames_are_found_in_any_pieces_and_among_noise() -> None:
    chance = random.Random(2)
    bodies = [chance.randbytes(chance.randint(1, FRAME_BYTES - CRC_BYTES)) for _ in range(60)]
    line = b""
    for body in bodies:
        noise = bytes(chance.randrange(1, 256) for _ in range(chance.choice((0, 0, 3, 700))))
        line += noise + (b"\0" if noise else b"") + frame_of(body)
    reader, found = FrameReader(), []
    while line:
        size = chance.randint(1, 300)
        found += list(reader.feed(line[:size]))
        line = line[size:]
    assert found == bodies
    assert reader.dropped > 10


def test_no_single_fault_gets_through() -> None:
    body = Request(Operation.WRITE_MEMORY, 0x1234, data=bytes(12)).encode(7)
    whole = frame_of(body)
    for place in range(len(whole) - 1):
        cut = whole[:place] + whole[place + 1 :]
        flipped = [whole[:place] + bytes((whole[place] ^ 1 << bit,)) + whole[place + 1 :] for bit in range(8)]
        inserted = [whole[:place] + bytes((byte,)) + whole[place:] for byte in (0, 1, 255) if place or byte]
        for damaged in (cut, *flipped, *inserted):
            # The last byte of COBS says where the end is, which is known anyway.
            assert list(FrameReader().feed(damaged)) in ([], [body])


def test_what_is_asked_and_answered_has_room_in_a_frame() -> None:
    assert HEADER_BYTES + DATA_BYTES + CRC_BYTES <= FRAME_BYTES
    assert len(Request(Operation.READ_MEMORY, 1, 2).encode(0)) == HEADER_BYTES
    assert len(Response(0, Status.OK, bytes(DATA_BYTES)).encode()) + CRC_BYTES <= FRAME_BYTES
    # A window of requests without data never overflows the buffer, and no number comes twice in a window.
    assert (READ_WINDOW - 1) * (1 + HEADER_BYTES + CRC_BYTES) < RECEIVE_BYTES // 2
    assert max(READ_WINDOW, WRITE_WINDOW) < 1 << SEQUENCE_BITS - 1


def test_responses() -> None:
    response = Response(9, Status.SEQUENCE, b"\x07")
    assert Response.decode(response.encode()) == response
    assert Response.decode(b"\x09") is None
    assert Response.decode(b"\x09\x09") is None


def test_identity() -> None:
    assert Identity.decode(IDENTITY.encode()) == IDENTITY
    assert len(IDENTITY.encode()) == Identity.BYTES <= DATA_BYTES
    assert IDENTITY.words * IDENTITY.word_bytes == DATA_BYTES
    with pytest.raises(DeviceError, match="must speak version 1 of the host link, not 2"):
        Identity.decode(b"\x02" + IDENTITY.encode()[1:])
    with pytest.raises(DeviceError, match="not nothing"):
        Identity.decode(b"")
    with pytest.raises(DeviceError, match="says nonsense: word_bytes must be 4, 8, 16 or 32, not 5"):
        Identity.decode(b"\x01\x05" + IDENTITY.encode()[2:])


@pytest.mark.parametrize(("changes", "message"), [
    ({"board": ""}, "board must be 1 to 16 ASCII characters, not ''"),
    ({"board": "x" * 17}, "board must be 1 to 16"),
    ({"board": "\u00e9"}, "board must be 1 to 16"),
    ({"build": b"1"}, "build must be 16 bytes, not 1"),
    ({"memory_bytes": 4097}, "memory_bytes must be a multiple of 4096 up to 4 GiB, not 4097"),
    ({"clock_hz": 0}, "clock_hz must be a positive integer"),
])
def test_what_no_identity_has(changes: dict[str, object], message: str) -> None:
    fields = {"board": "b", "build": bytes(16), "clock_hz": 1, "memory_bytes": 4096, "word_bytes": 4}
    with pytest.raises(ValueError, match=message):
        Identity(**fields | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("clock", "baud", "bits"), [
    (24_000_000, 3_000_000, 3), (12_000_000, 3_000_000, 2), (25_000_000, 3_000_000, None),
    (80_000_000, 3_000_000, None), (48_000_000, 115_200, None), (27_000_000, 2_000_000, None),
])
def test_bits_have_the_right_length(clock: int, baud: int, bits: int | None) -> None:
    timing = UartTiming(clock, baud)
    assert timing.cycles == pytest.approx(clock / baud, rel=0.0025)
    assert timing.phase_bits <= 16
    assert bits is None or (timing.phase_bits, timing.increment) == (bits, 1)


def test_a_clock_must_be_fast_enough() -> None:
    with pytest.raises(ValueError, match="clock of 11999999 Hz must be at least 4 times the rate of the line, 3000000"):
        UartTiming(11_999_999, 3_000_000)
