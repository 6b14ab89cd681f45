# SPDX-License-Identifier: Apache-2.0
"""The board's end of the host link in plain Python, over any machine: what the gateware is compared with, and what the
driver is tried on where there is no board."""

import zlib
from typing import Protocol

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.link_format import (
    CHECK_UNIT,
    CRC_BYTES,
    HEADER_BYTES,
    NONCE_BYTES,
    SEQUENCE_BITS,
    SPAN_BYTES,
    FrameReader,
    Identity,
    Operation,
    Response,
    Status,
    frame_of,
)
from tilewright_hdl.registers import (
    CONTROL_START,
    DIGEST_WORDS,
    IDENTITY,
    PROFILE_FIELDS,
    REGISTER_BITS,
    REGISTERS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    TAG_ENGINE_OFFSET,
    VERSION,
)

from .machine import Job, Machine, MachineStopped

__all__ = ["Buses", "LinkModel", "MachineBuses"]

_REGISTER_BYTES = REGISTER_BITS // 8


class Buses(Protocol):
    """What is behind the link."""

    def read_register(self, address: int) -> int: ...

    def write_register(self, address: int, value: int) -> None: ...

    def read(self, address: int, length: int) -> bytes:
        """A word of memory; ``ValueError`` where the bus would answer with an error."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write a word of memory; ``ValueError`` as :meth:`read`."""
        ...

    def reset(self) -> None:
        """Reset the accelerator."""
        ...


class LinkModel:
    """Model of :class:`tilewright_hdl.host_link.HostLink`, byte for byte on the line, without its time and buffer.

    Parameters
    ----------
    identity : Identity
    buses : Buses
    """

    def __init__(self, identity: Identity, buses: Buses):
        self.identity = identity
        self._buses = buses
        self.reset()

    def reset(self) -> None:
        """Switch the board's logic off and on; what is on the buses stays as it is."""
        self._reader = FrameReader()
        self._expected: int | None = None
        self._last = b""

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the line; the result is what goes back."""
        return b"".join(self._answer(body) for body in self._reader.feed(data) if len(body) >= HEADER_BYTES)

    def _answer(self, body: bytes) -> bytes:
        sequence, operation = body[0], body[1]
        expected = self._expected
        if operation != Operation.SYNC:
            if expected is None:
                return frame_of(Response(sequence, Status.UNSYNCED).encode())
            if (sequence + 1 - expected) % (1 << SEQUENCE_BITS) == 0:
                return self._last
            if sequence != expected:
                return frame_of(Response(sequence, Status.SEQUENCE, bytes((expected,))).encode())
        self._expected = (sequence + 1) % (1 << SEQUENCE_BITS)
        count, address, data = body[2], int.from_bytes(body[3:HEADER_BYTES], "little"), body[HEADER_BYTES:]
        self._last = frame_of(self._execute(sequence, operation, count, address, data).encode())
        return self._last

    def _execute(self, sequence: int, code: int, count: int, address: int, data: bytes) -> Response:
        if code not in set(Operation):
            return Response(sequence, Status.UNKNOWN)
        operation = Operation(code)
        if operation == Operation.SYNC:
            known = len(data) >= NONCE_BYTES
            return Response(sequence, Status.OK, data[:NONCE_BYTES] + self.identity.encode() if known else b"")
        if operation == Operation.RESET:
            self._buses.reset()
            return Response(sequence, Status.OK)
        registers = operation in (Operation.READ_REGISTERS, Operation.WRITE_REGISTERS, Operation.READ_REGISTER)
        size = _REGISTER_BYTES if registers else self.identity.word_bytes
        writes = operation in (Operation.WRITE_REGISTERS, Operation.WRITE_MEMORY)
        words = len(data) // size if writes else count
        if operation == Operation.CHECK_MEMORY:
            words *= CHECK_UNIT // size
        found, status = [], Status.OK
        for number in range(words):
            offset = 0 if operation == Operation.READ_REGISTER else number * size
            place = address // SPAN_BYTES * SPAN_BYTES + (address + offset) % SPAN_BYTES // size * size
            try:
                if writes:
                    self._write(registers, place, data[number * size :][:size])
                else:
                    found.append(self._read(registers, place, size))
            except ValueError:
                found.append(bytes(size))
                status = Status.ERROR
        whole = b"" if writes else b"".join(found)
        if operation == Operation.CHECK_MEMORY:
            whole = zlib.crc32(whole).to_bytes(CRC_BYTES, "little")
        return Response(sequence, status, whole)

    def _read(self, registers: bool, address: int, size: int) -> bytes:
        if registers:
            return self._buses.read_register(address).to_bytes(size, "little")
        return self._buses.read(address, size)

    def _write(self, registers: bool, address: int, data: bytes) -> None:
        if registers:
            self._buses.write_register(address, int.from_bytes(data, "little"))
        else:
            self._buses.write(address, data)


class MachineBuses:
    """Registers and memory of a machine, as :class:`Buses`. A program runs when it is started, in no time.

    Parameters
    ----------
    machine : Machine
    busy_reads : int
        Reads of ``STATUS`` for which the machine claims to be busy after a start.
    """

    def __init__(self, machine: Machine, *, busy_reads: int = 2):
        self._machine = machine
        self._busy_reads = busy_reads
        self.starts = 0
        self.reset()

    @property
    def _config(self) -> AcceleratorConfig:
        return self._machine.config

    def reset(self) -> None:
        self._values = {"IDENTITY": IDENTITY, "VERSION": VERSION}
        digest = bytes.fromhex(self._config.digest)
        for n in range(DIGEST_WORDS):
            self._values[f"CONFIG_DIGEST_{n}"] = int.from_bytes(digest[4 * n : 4 * n + 4], "big")
        self._profile: list[int] = []
        self._busy = 0

    def read(self, address: int, length: int) -> bytes:
        return self._machine.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        self._machine.write(address, data)

    def read_register(self, address: int) -> int:
        name = next((name for name, register in REGISTERS.items() if register.address == address), "")
        if name == "STATUS" and self._busy:
            self._busy -= 1
            return STATUS_BUSY
        if name == "PROFILE_COUNT":
            return 0 if self._busy else len(self._profile) // len(PROFILE_FIELDS)
        if name == "PROFILE_DATA":
            return self._profile.pop(0) if self._profile else 0
        return self._values.get(name, 0)

    def write_register(self, address: int, value: int) -> None:
        name = next((name for name, register in REGISTERS.items() if register.address == address), "")
        if name == "CONTROL" and value & CONTROL_START and not self._busy:
            self._start()
        elif name != "CONTROL":
            self._values[name] = value

    def _start(self) -> None:
        self.starts += 1
        self._busy, self._profile = self._busy_reads, []
        job = Job(**{name.lower(): self._values.get(name, 0)
                     for name in ("PROGRAM_ADDRESS", "PROGRAM_BYTES", "CONSTANT_BASE", "ARENA_BASE")})
        try:
            result = self._machine.run(job)
        except MachineStopped as error:
            self._values["STATUS"] = STATUS_ERROR | error.code << STATUS_ERROR_CODE_OFFSET
            self._values["ERROR_INDEX"] = error.index
            return
        self._values |= result.counters | {"STATUS": STATUS_DONE, "CYCLES": result.cycles, "PROFILE_LOST": 0}
        for record in result.profile:
            self._profile += [record.index | record.engine << TAG_ENGINE_OFFSET, record.issue, record.start, record.end,
                              record.stall]
