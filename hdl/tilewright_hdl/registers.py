# SPDX-License-Identifier: Apache-2.0
"""The register map of the control port (AXI4-Lite, 32-bit registers), declared once.

The hardware, the driver and the documentation take their addresses, names and codes from here.
"""

from dataclasses import dataclass
from enum import IntEnum

from .isa import ENGINES

__all__ = [
    "ADDRESS_BITS",
    "CONTROL_CLEAR_IRQ",
    "CONTROL_START",
    "COUNTER_BITS",
    "DIGEST_WORDS",
    "IDENTITY",
    "PROFILE_FIELDS",
    "REGISTERS",
    "REGISTER_BITS",
    "STATUS_BUSY",
    "STATUS_DONE",
    "STATUS_ERROR",
    "STATUS_ERROR_CODE_OFFSET",
    "TAG_ENGINE_OFFSET",
    "VERSION",
    "ErrorCode",
    "Register",
    "counter_name",
]

IDENTITY = int.from_bytes(b"TLWR", "big")
VERSION = 1
ADDRESS_BITS = 8
"""Bits of a byte address on the control port."""
REGISTER_BITS = 32
DIGEST_WORDS = 4
"""Registers that hold the beginning of the configuration's digest."""

CONTROL_START = 1 << 0
CONTROL_CLEAR_IRQ = 1 << 1

STATUS_BUSY = 1 << 0
STATUS_DONE = 1 << 1
STATUS_ERROR = 1 << 2
STATUS_ERROR_CODE_OFFSET = 8


class ErrorCode(IntEnum):
    """Why the machine stopped. ``ERROR_INDEX`` then holds the index of the instruction."""

    NONE = 0
    OPCODE = 1
    """An opcode that no instruction has, or a program that ends inside an instruction."""
    INDEX = 2
    """An instruction whose ``index`` is not its place in the program."""
    FIELD = 3
    """A field outside its legal values, or a feature that this configuration lacks."""
    ADDRESS = 4
    """A word outside of a memory on chip."""
    READ = 5
    """An error response to a read of a ``LOAD``."""
    WRITE = 6
    """An error response to a write of a ``STORE``."""
    FETCH = 7
    """An error response to a read of the program; the index is that of the next instruction."""
    DEADLOCK = 8
    """Every engine waits for a semaphore and nothing is under way; the index is the oldest waiting one."""


@dataclass(frozen=True)
class Register:
    """A 32-bit register.

    Members
    -------
    name : str
    address : int
        Byte address.
    access : str
        ``"r"``, ``"w"`` or ``"rw"``; reading a write-only register gives 0, writing a read-only one does nothing.
    meaning : str
    """

    name: str
    address: int
    access: str
    meaning: str


def counter_name(engine: IntEnum, what: str) -> str:
    """Name of a counter register; ``what`` is ``BUSY``, ``WAIT`` or ``STALL``."""
    return f"{engine.name}_{what}"


COUNTER_BITS = 32
"""Width of a counter, and of a word of a profile record."""

TAG_ENGINE_OFFSET = 20
"""Bit of a profile record's ``TAG`` at which the engine begins."""

PROFILE_FIELDS = ("TAG", "ISSUE", "START", "END", "STALL")
"""Words of a profile record, one for each instruction in order of completion.

``TAG`` = index | engine << 20; ``ISSUE``: cycle at which the instruction stood decoded at the head of its engine and
the engine was free to take it; ``START``: cycle at which its tokens were taken; ``END``: cycle at which it was done and
its tokens were given; ``STALL``: cycles between ``START`` and ``END`` in which the engine could not go on (bus, memory
port or weights not ready). Cycles count from the write of ``CONTROL_START``.
"""


def _declare() -> tuple[Register, ...]:
    rows: list[tuple[str, str, str]] = [
        ("IDENTITY", "r", "0x544c5752, 'TLWR'"),
        ("VERSION", "r", "version of this register map"),
        *((f"CONFIG_DIGEST_{i}", "r", f"bytes {4 * i} to {4 * i + 3} (big-endian) of the configuration's digest")
          for i in range(DIGEST_WORDS)),
        ("CONTROL", "w", "bit 0: start the program (ignored while busy); bit 1: clear the interrupt"),
        ("STATUS", "r", "bit 0: busy; bit 1: done; bit 2: stopped by an error; bits 15:8: error code"),
        ("ERROR_INDEX", "r", "index of the instruction that stopped the machine"),
        ("IRQ_ENABLE", "rw", "bit 0: raise the interrupt at the end, good or bad"),
        ("PROGRAM_ADDRESS", "rw", "first byte of the program in main memory; a multiple of the bus width"),
        ("PROGRAM_BYTES", "rw", "length of the program in bytes"),
        ("CONSTANT_BASE", "rw", "base address of Segment.CONSTANT; a multiple of the bus width"),
        ("ARENA_BASE", "rw", "base address of Segment.ARENA; a multiple of the bus width"),
        ("CYCLES", "r", "cycles from start to end, or until now"),
        ("SATURATIONS", "r", "int8 results of the first rescale that were clamped, since the start"),
        ("PROFILE_COUNT", "r", "records in the profile memory"),
        ("PROFILE_LOST", "r", "records that found the profile memory full, since the start"),
        ("PROFILE_DATA", "r", "next word of the oldest record; the last word's read removes it"),
    ]
    for engine in ENGINES:
        rows += [
            (counter_name(engine, "BUSY"), "r", f"cycles with an instruction of {engine.name} under way"),
            (counter_name(engine, "WAIT"), "r", f"cycles in which {engine.name} waited for a semaphore"),
            (counter_name(engine, "STALL"), "r", f"cycles in which {engine.name} was under way and could not go on"),
        ]
    return tuple(Register(name, 4 * i, access, meaning) for i, (name, access, meaning) in enumerate(rows))


REGISTERS: dict[str, Register] = {r.name: r for r in _declare()}
"""All registers by name."""

assert max(r.address for r in REGISTERS.values()) < 1 << ADDRESS_BITS
