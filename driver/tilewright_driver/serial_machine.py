# SPDX-License-Identifier: Apache-2.0
"""A board at the other end of a serial line."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from struct import pack
from time import monotonic

from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.isa import ENGINES, Engine
from tilewright_hdl.link_format import CHECK_UNIT, DATA_BYTES, SPAN_BYTES, Identity, Operation, Request
from tilewright_hdl.registers import (
    CONTROL_START,
    PROFILE_FIELDS,
    REGISTER_BITS,
    REGISTERS,
    STATUS_BUSY,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    TAG_ENGINE_OFFSET,
    ErrorCode,
    counter_name,
)
from tilewright_sim.machine import COUNTERS, Job, MachineStopped, ProfileRecord, RunResult, check_job, check_range

from .find_board import BAUDS, config_of, find_board, read_registers, words_of
from .link import Link
from .serial_line import Line, SerialLine

__all__ = ["SerialMachine"]

_REGISTER_BYTES = REGISTER_BITS // 8
_BLOCK_BYTES = 4096
"""Memory is compared, and sent where it differs, by blocks of so many bytes."""
_STATE = ("STATUS", "PROFILE_LOST")
"""First and last of the registers that are read while a program runs; none of them changes by being read."""
_COUNTERS = tuple(counter_name(engine, what) for engine in ENGINES for what in ("BUSY", "WAIT", "STALL"))


class SerialMachine:
    """Board on a serial port; implements :class:`~tilewright_sim.machine.Machine`.

    After any error the session is over, and the next call begins another one: it opens the port again, asks the board
    who it is, and resets the accelerator if it is still busy. Data of a block and more are compared by their CRC first,
    and only blocks that differ are sent: so constants are sent once, also by a process that comes later, and a load
    that was broken off goes on where it was.

    Parameters
    ----------
    port : str
        Such as ``/dev/ttyUSB0``.
    config : AcceleratorConfig or None
        What must be on the board; by default any of ``known``.
    baud : int or None
        By default each of :data:`~.find_board.BAUDS`, until a board answers.
    known : iterable of AcceleratorConfig
    timeout, attempts
        See :class:`~.link.Link`.
    run_timeout : float
        Seconds in which some instruction of a running program must finish.
    open_line : callable
        Called with port, baud and seconds; gives the line.

    Raises
    ------
    DeviceError
        If no board answers, or one with another configuration.
    """

    def __init__(
        self,
        port: str,
        config: AcceleratorConfig | None = None,
        *,
        baud: int | None = None,
        known: Iterable[AcceleratorConfig] = tuple(PRESETS.values()),
        timeout: float = 0.25,
        attempts: int = 8,
        run_timeout: float = 60.0,
        open_line: Callable[[str, int, float], Line] = SerialLine,
    ):
        self._port, self._open_line = port, open_line
        self._bauds, self._known = BAUDS if baud is None else (baud,), tuple(known)
        self._timeout, self._attempts, self._run_timeout = timeout, attempts, run_timeout
        self._config = config
        self._identity: Identity | None = None
        self._link: Link | None = None
        self._closed = False
        with self._session():
            pass

    @property
    def name(self) -> str:
        return self.identity.board

    @property
    def identity(self) -> Identity:
        """What the board said of itself."""
        assert self._identity is not None, "the constructor has asked"
        return self._identity

    @property
    def config(self) -> AcceleratorConfig:
        assert self._config is not None, "the constructor has found it"
        return self._config

    @property
    def memory_bytes(self) -> int:
        return min(self.identity.memory_bytes, 1 << self.config.bus.address_bits)

    def write(self, address: int, data: bytes) -> None:
        check_range(self.memory_bytes, address, len(data))
        if not data:
            return
        with self._session() as link:
            begin, data = self._whole_words(link, address, data)
            pieces = list(_pieces(begin, len(data), _BLOCK_BYTES))
            if len(data) < _BLOCK_BYTES:
                self._send(link, begin, data, pieces)
                return
            blocks, rest = _comparable(pieces)
            changed = self._different(link, begin, data, blocks)
            self._send(link, begin, data, changed + rest)
            if wrong := self._different(link, begin, data, changed):
                raise DeviceError(f"Memory of board {self.name!r} must hold what was written to {wrong[0][0]:#x}, but "
                                  f"does not; it is not ready, or broken")

    def read(self, address: int, length: int) -> bytes:
        check_range(self.memory_bytes, address, length)
        if not length:
            return b""
        with self._session() as link:
            begin, end = self._words_around(address, length)
            return self._fetch(link, begin, end - begin)[address - begin :][:length]

    def run(self, job: Job, *, max_cycles: int | None = None) -> RunResult:
        check_job(self.config, job)
        with self._session() as link:
            _write_registers(link, "IRQ_ENABLE", [0, *(getattr(job, name.lower()) for name in _job_registers())])
            _write_registers(link, "CONTROL", [CONTROL_START])
            state, profile = self._run_to_end(link, max_cycles)
            if state["STATUS"] & STATUS_ERROR:
                # No error of the link; but the next run begins with what is there.
                code = self._fetch(link, *self._code_range(job))
            else:
                counters = read_registers(link, _COUNTERS[0], _COUNTERS[-1]) | state
        if state["STATUS"] & STATUS_ERROR:
            error = ErrorCode(state["STATUS"] >> STATUS_ERROR_CODE_OFFSET & 0xFF)
            raise MachineStopped(error, state["ERROR_INDEX"], code[: job.program_bytes])
        if max_cycles is not None and state["CYCLES"] > max_cycles:
            raise DeviceError(f"The program must end within max_cycles={max_cycles}, but takes {state['CYCLES']}")
        return RunResult(cycles=state["CYCLES"], counters={name: counters[name] for name in COUNTERS}, profile=profile,
                         profile_lost=state["PROFILE_LOST"])

    def close(self) -> None:
        self._closed = True
        self._hang_up()

    @contextmanager
    def _session(self) -> Iterator[Link]:
        """A link to the board that is known to be the right one."""
        if self._closed:
            raise DeviceError(f"The machine {self.name!r} must be open, but close() was called; open a new one")
        try:
            if self._link is None:
                found = find_board(self._port, self._bauds, timeout=self._timeout, attempts=self._attempts,
                                   open_line=self._open_line)
                self._link, self._bauds = found.link, (found.baud,)
                self._meet(found.link, found.identity, found.digest)
            yield self._link
        except BaseException:
            # What is under way is not known any more.
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _meet(self, link: Link, identity: Identity, digest: str) -> None:
        config = self._config or config_of(digest, self._known)
        if config is None:
            names = ", ".join(known.name for known in self._known)
            raise DeviceError(f"The configuration of board {identity.board!r} (digest {digest[:12]}) must be one of "
                              f"{names}, or be given; open the device with config= the .toml file that it was built "
                              f"from")
        if not config.digest.startswith(digest):
            there = config_of(digest, self._known)
            raise DeviceError(f"Board {identity.board!r} must have configuration {config.name!r} (digest "
                              f"{config.digest[:12]}), not {there.name if there else 'another one'!r} ({digest[:12]}); "
                              f"program it with a bitstream of {config.name!r}, or compile for what is there")
        if identity.word_bytes != config.bus.data_bytes:
            raise DeviceError(f"The link of board {identity.board!r} must have words of {config.bus.data_bytes} bytes "
                              f"as its bus has, not {identity.word_bytes}; its bitstream is wrong")
        if self._identity not in (None, identity):
            raise DeviceError(f"The board at {self._port!r} must be the one that was opened, {self.name!r} with build "
                              f"{self.identity.build.hex()[:12]}, not {identity.board!r} with build "
                              f"{identity.build.hex()[:12]}; open it again")
        self._identity, self._config = identity, config
        if read_registers(link, "STATUS", "STATUS")["STATUS"] & STATUS_BUSY:
            link.ask(Request(Operation.RESET))
            if read_registers(link, "STATUS", "STATUS")["STATUS"] & STATUS_BUSY:
                raise DeviceError(f"The accelerator of board {identity.board!r} must be idle after a reset, but is "
                                  f"busy; switch the board off and on")

    def _run_to_end(self, link: Link, max_cycles: int | None) -> tuple[dict[str, int], list[ProfileRecord]]:
        """The registers at the end of the run, and its profile, which is fetched while it grows."""
        words: list[int] = []
        last = monotonic()
        while True:
            state = read_registers(link, *_STATE)
            left = state["PROFILE_COUNT"] * len(PROFILE_FIELDS)
            most = DATA_BYTES // _REGISTER_BYTES
            address = REGISTERS["PROFILE_DATA"].address
            while left:
                request = Request(Operation.READ_REGISTER, address, min(left, most))
                words += words_of(link.ask(request))
                left -= request.count
                last = monotonic()
            if not state["STATUS"] & STATUS_BUSY:
                break
            if max_cycles is not None and state["CYCLES"] > max_cycles:
                raise DeviceError(f"The program must end within max_cycles={max_cycles}, but has not")
            if monotonic() - last > self._run_timeout:
                raise DeviceError(f"The machine must go on, but no instruction has finished for "
                                  f"{self._run_timeout:g} s; {len(words) // len(PROFILE_FIELDS)} had finished before")
        count = len(PROFILE_FIELDS)
        records = [words[n : n + count] for n in range(0, len(words), count)]
        return state, [ProfileRecord(tag & ((1 << TAG_ENGINE_OFFSET) - 1), Engine(tag >> TAG_ENGINE_OFFSET), *cycles)
                       for tag, *cycles in records]

    def _code_range(self, job: Job) -> tuple[int, int]:
        """The words of a program that lie in main memory."""
        length = max(0, min(job.program_bytes, self.memory_bytes - job.program_address))
        begin, end = self._words_around(job.program_address, length)
        return begin, end - begin

    def _words_around(self, address: int, length: int) -> tuple[int, int]:
        word = self.identity.word_bytes
        return address // word * word, -(-(address + length) // word) * word

    def _whole_words(self, link: Link, address: int, data: bytes) -> tuple[int, bytes]:
        """Bytes to write, with what is around them in their first and last word."""
        word = self.identity.word_bytes
        begin, end = self._words_around(address, len(data))
        before = self._fetch(link, begin, word)[: address - begin] if begin < address else b""
        missing = end - address - len(data)
        after = self._fetch(link, end - word, word)[word - missing :] if missing else b""
        return begin, before + data + after

    def _fetch(self, link: Link, address: int, length: int) -> bytes:
        most = self.identity.words * self.identity.word_bytes
        requests = [Request(Operation.READ_MEMORY, place, size // self.identity.word_bytes)
                    for begin, span in _pieces(address, length, SPAN_BYTES)
                    for place, size in _split(begin, span, most)]
        return b"".join(link.ask_all(requests))

    def _send(self, link: Link, base: int, data: bytes, pieces: Sequence[tuple[int, int]]) -> None:
        most = self.identity.words * self.identity.word_bytes
        link.ask_all([Request(Operation.WRITE_MEMORY, place, data=data[place - base :][:size])
                      for begin, span in pieces for place, size in _split(begin, span, most)])

    def _different(
        self, link: Link, base: int, data: bytes, blocks: Sequence[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Those of the blocks in which memory has something else."""
        found = link.ask_all([Request(Operation.CHECK_MEMORY, place, size // CHECK_UNIT) for place, size in blocks])
        return [(place, size) for (place, size), digest in zip(blocks, found, strict=True)
                if digest != pack("<I", zlib.crc32(data[place - base :][:size]))]


def _pieces(address: int, length: int, boundary: int) -> Iterator[tuple[int, int]]:
    """Address and length of the pieces of a range between multiples of ``boundary``."""
    end = address + length
    while address < end:
        size = min(end, (address // boundary + 1) * boundary) - address
        yield address, size
        address += size


def _comparable(pieces: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Of each piece what is whole units of a check, and the rest."""
    blocks, rest = [], []
    for place, size in pieces:
        whole = size // CHECK_UNIT * CHECK_UNIT if place % CHECK_UNIT == 0 else 0
        blocks += [(place, whole)] if whole else []
        rest += [(place + whole, size - whole)] if whole < size else []
    return blocks, rest


def _split(address: int, length: int, most: int) -> Iterator[tuple[int, int]]:
    for offset in range(0, length, most):
        yield address + offset, min(most, length - offset)


def _job_registers() -> list[str]:
    return ["PROGRAM_ADDRESS", "PROGRAM_BYTES", "CONSTANT_BASE", "ARENA_BASE"]


def _write_registers(link: Link, first: str, values: Sequence[int]) -> None:
    link.ask(Request(Operation.WRITE_REGISTERS, REGISTERS[first].address, data=pack(f"<{len(values)}I", *values)))
