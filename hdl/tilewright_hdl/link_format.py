# SPDX-License-Identifier: Apache-2.0
"""The wire format of the host link, declared once: what host and board say to each other over a serial line.

*Frames.* A frame is at most :data:`FRAME_BYTES` bytes, the last four of which are the CRC-32 of the others, little
endian. On the line it is written with consistent overhead byte stuffing (COBS, doi:10.1109/90.769765): one byte more,
no zero in it, and a zero behind it. So a zero always ends a frame, whatever was lost before, and a host that died in
the middle of a frame costs the next one nothing but a zero in front. What is not a whole frame is dropped in silence.

*Requests* (host to board): sequence number, operation, count, address (4 bytes, little endian), data. *Responses*
(board to host), one for each request that arrives: sequence number of the request, data, status.

*Sequence.* The board executes a request only if its number follows that of the request executed before it. If it is
that number itself, the response is sent once more, and nothing is executed; any other is answered with ``SEQUENCE``
and the number that should have come. So each request is executed exactly once and in order, however often it is sent.
The host may have :data:`WRITE_WINDOW` or :data:`READ_WINDOW` requests under way and goes back to the first that got
lost. ``SYNC`` begins a session with its own number; before the first one after a reset, all else is ``UNSYNCED``.

*Data.* Registers are words of 4 bytes, memory is words of the bus's width; a request moves whole words, at most
:data:`DATA_BYTES`, and must not cross an address that is a multiple of :data:`SPAN_BYTES`.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Self

from .errors import DeviceError

__all__ = [
    "CHECK_UNIT",
    "CRC_BYTES",
    "CRC_POLYNOMIAL",
    "CRC_RESIDUE",
    "DATA_BYTES",
    "END",
    "FRAME_BYTES",
    "HEADER_BYTES",
    "NONCE_BYTES",
    "READ_WINDOW",
    "RECEIVE_BYTES",
    "SEQUENCE_BITS",
    "SPAN_BYTES",
    "VERSION",
    "WRITE_WINDOW",
    "FrameReader",
    "Identity",
    "Operation",
    "Request",
    "Response",
    "Status",
    "UartTiming",
    "decode_cobs",
    "encode_cobs",
    "frame_of",
]

VERSION = 1
END = 0
"""The byte behind each frame, and nowhere else."""
FRAME_BYTES = 254
"""Longest frame: one block of COBS, so that its overhead is one byte always."""
DATA_BYTES = 240
"""Longest data of a request or response, before it is rounded down to whole words."""
CHECK_UNIT = 256
"""Bytes that ``CHECK_MEMORY`` counts by; its address is a multiple of it."""
SPAN_BYTES = 1 << 16
RECEIVE_BYTES = 512
"""Buffer for requests on the board; a frame is taken while there is room for it."""
CRC_BYTES = 4
CRC_POLYNOMIAL = 0xEDB88320
"""CRC-32 of IEEE 802.3, lowest bit first; ``zlib.crc32`` computes it."""
CRC_RESIDUE = 0xDEBB20E3
"""What the CRC's register holds behind a good frame, before the last inversion."""
SEQUENCE_BITS = 8
NONCE_BYTES = 4
"""Bytes by which the host knows the answer to its own ``SYNC`` from what an earlier session left on the line."""

_HEADER = Struct("<BBBI")
HEADER_BYTES = _HEADER.size

WRITE_WINDOW = 32
"""Requests with data under way at most: 8 kB, 26 ms of a line of 3 Mbaud."""
READ_WINDOW = RECEIVE_BYTES // 2 // (1 + HEADER_BYTES + CRC_BYTES) - 1
"""Requests without data under way at most; all of them have room in the board's buffer."""


class Operation(IntEnum):
    """What a request asks for. ``count`` is that of words, but for the last three."""

    READ_MEMORY = 0
    WRITE_MEMORY = 1
    """The words are the data; ``count`` is ignored."""
    READ_REGISTERS = 2
    WRITE_REGISTERS = 3
    """The words are the data; ``count`` is ignored."""
    CHECK_MEMORY = 4
    """CRC-32 of ``count`` times :data:`CHECK_UNIT` bytes."""
    READ_REGISTER = 6
    """The same register, ``count`` times."""
    SYNC = 8
    """Begin a session. The data, :data:`NONCE_BYTES` of any value, come back in front of an :class:`Identity`."""
    RESET = 9
    """Reset the accelerator, not the link."""


class Status(IntEnum):
    """How a request went."""

    OK = 0
    ERROR = 1
    """Executed, and the bus answered some of it with an error."""
    SEQUENCE = 2
    """Not executed: data is the number that should have come."""
    UNSYNCED = 3
    """Not executed: the board has been reset since the last ``SYNC``, or never saw one."""
    UNKNOWN = 4
    """Not executed: no such operation."""


def encode_cobs(data: bytes) -> bytes:
    """Consistent overhead byte stuffing of at most :data:`FRAME_BYTES` bytes, without the zero behind it."""
    if len(data) > FRAME_BYTES:
        raise ValueError(f"A frame must have at most {FRAME_BYTES} bytes, not {len(data)}")
    return b"".join(bytes((len(run) + 1,)) + run for run in data.split(b"\0"))


def decode_cobs(data: bytes) -> bytes:
    """Inverse of :func:`encode_cobs`. Never fails: of data that were damaged it makes other data."""
    found, place = [], 0
    while place < len(data):
        found.append(data[place + 1 : place + data[place]])
        place += data[place]
    return b"\0".join(found)


def frame_of(body: bytes) -> bytes:
    """Bytes on the line for the body of a request or response."""
    return encode_cobs(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")) + bytes((END,))


class FrameReader:
    """Find the frames in what comes from a line.

    Members
    -------
    dropped : int
        Frames that were damaged.
    """

    def __init__(self) -> None:
        self._part = bytearray()
        self.dropped = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Bodies of the good frames that end in ``data``, which follows on what was fed before."""
        *ended, rest = data.split(bytes((END,)))
        for piece in ended:
            whole = bytes(self._part) + piece
            self._part.clear()
            frame = decode_cobs(whole) if len(whole) <= FRAME_BYTES + 1 else b""
            if len(frame) > CRC_BYTES and frame[-CRC_BYTES:] == zlib.crc32(frame[:-CRC_BYTES]).to_bytes(
                CRC_BYTES, "little"
            ):
                yield frame[:-CRC_BYTES]
            elif whole:
                self.dropped += 1
        # Only so much that an end can still make it too long.
        self._part = (self._part + rest)[: FRAME_BYTES + 2]


@dataclass(frozen=True)
class Request:
    """What the host asks.

    Members
    -------
    operation : Operation
    address : int
        Of the first byte; the bits below a word are ignored.
    count : int
        0 to 255.
    data : bytes
    """

    operation: Operation
    address: int = 0
    count: int = 0
    data: bytes = b""

    def encode(self, sequence: int) -> bytes:
        """Body of the frame."""
        return _HEADER.pack(sequence, self.operation, self.count, self.address) + self.data


@dataclass(frozen=True)
class Response:
    """What the board answers."""

    sequence: int
    status: Status
    data: bytes = b""

    def encode(self) -> bytes:
        """Body of the frame."""
        return bytes((self.sequence,)) + self.data + bytes((self.status,))

    @classmethod
    def decode(cls, body: bytes) -> Self | None:
        """Inverse of :meth:`encode`; ``None`` for what no board of this version sends."""
        if len(body) < 2 or body[-1] not in set(Status):
            return None
        return cls(body[0], Status(body[-1]), body[1:-1])


_IDENTITY = Struct("<BBII16s16s")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a board says of itself.

    Members
    -------
    board : str
        Name, at most 16 ASCII characters.
    build : bytes
        The first 16 bytes of a digest of all that made the bitstream.
    clock_hz : int
        Clock of the accelerator.
    memory_bytes : int
        Main memory, from address 0 on; a multiple of 4096.
    word_bytes : int
        Width of the bus.
    """

    board: str
    build: bytes
    clock_hz: int
    memory_bytes: int
    word_bytes: int

    BYTES = _IDENTITY.size
    _PAGE = 4096

    def __post_init__(self) -> None:
        if not self.board.isascii() or not 0 < len(self.board) <= 16 or "\0" in self.board:
            raise ValueError(f"board must be 1 to 16 ASCII characters, not {self.board!r}")
        if len(self.build) != 16:
            raise ValueError(f"build must be 16 bytes, not {len(self.build)}")
        if not 0 < self.memory_bytes <= 1 << 32 or self.memory_bytes % self._PAGE:
            raise ValueError(f"memory_bytes must be a multiple of {self._PAGE} up to 4 GiB, not {self.memory_bytes!r}")
        if self.word_bytes not in (4, 8, 16, 32):
            raise ValueError(f"word_bytes must be 4, 8, 16 or 32, not {self.word_bytes!r}")
        if not 0 < self.clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be a positive integer below 2**32, not {self.clock_hz!r}")

    @property
    def words(self) -> int:
        """Words of memory that a request moves at most."""
        return DATA_BYTES // self.word_bytes

    def encode(self) -> bytes:
        """Data of the response to ``SYNC``."""
        return _IDENTITY.pack(VERSION, self.word_bytes, self.memory_bytes // self._PAGE, self.clock_hz, self.build,
                              self.board.encode("ascii"))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Inverse of :meth:`encode`.

        Raises
        ------
        DeviceError
            If the board speaks another version of this format.
        """
        if not data or data[0] != VERSION or len(data) != cls.BYTES:
            raise DeviceError(f"The board must speak version {VERSION} of the host link, not "
                              f"{data[0] if data else 'nothing'}; program it with a bitstream of this release")
        _, word_bytes, pages, clock_hz, build, board = _IDENTITY.unpack(data)
        try:
            return cls(board=board.rstrip(b"\0").decode("ascii"), build=build, clock_hz=clock_hz,
                       memory_bytes=pages * cls._PAGE, word_bytes=word_bytes)
        except ValueError as error:
            raise DeviceError(f"The board must say what it is, but says nonsense: {error}") from error


@dataclass(frozen=True)
class UartTiming:
    """How a bit is made of clock cycles: a phase of ``phase_bits`` bits grows by ``increment`` each cycle.

    Parameters
    ----------
    clock_hz, baud : int
        At least 4 cycles a bit.
    """

    clock_hz: int
    baud: int

    _MOST_ERROR = 0.0025
    """A fourth of a percent leaves the rest of what a receiver can bear to the other end's clock."""

    def __post_init__(self) -> None:
        if self.baud < 1 or self.clock_hz < 4 * self.baud:
            raise ValueError(f"The clock of {self.clock_hz} Hz must be at least 4 times the rate of the line, "
                             f"{self.baud} baud")

    @property
    def phase_bits(self) -> int:
        """As few bits as come within a fourth of a percent of the rate."""
        bits = 2
        while abs(self._increment(bits) * self.clock_hz / (self.baud << bits) - 1) > self._MOST_ERROR:
            bits += 1
        return bits

    @property
    def increment(self) -> int:
        return self._increment(self.phase_bits)

    @property
    def cycles(self) -> float:
        """Clock cycles of a bit."""
        return (1 << self.phase_bits) / self.increment

    def _increment(self, bits: int) -> int:
        return round((self.baud << bits) / self.clock_hz)
