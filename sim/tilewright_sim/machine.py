# SPDX-License-Identifier: Apache-2.0
"""The machine that runs programs, as the driver sees it: one interface for simulators and boards.

A machine is an accelerator and its main memory. Its scratchpads, parameters and tables keep their contents from run to
run, so weights may stay where an earlier run put them.
"""

from dataclasses import dataclass, field
from typing import Protocol

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import DeviceError, IsaError
from tilewright_hdl.isa import ENGINES, INSTRUCTIONS, Engine, Instruction
from tilewright_hdl.isa_text import disassemble
from tilewright_hdl.registers import ErrorCode, counter_name

__all__ = [
    "COUNTERS",
    "Job",
    "Machine",
    "MachineStopped",
    "ProfileRecord",
    "RunResult",
    "check_job",
    "check_memory_bytes",
    "check_range",
    "describe_instruction",
]

COUNTERS: tuple[str, ...] = (
    "SATURATIONS",
    *(counter_name(engine, what) for engine in ENGINES for what in ("BUSY", "WAIT", "STALL")),
)
"""Registers that a run counts, beside ``CYCLES``: the keys of :attr:`RunResult.counters`."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the start registers hold for one run: byte addresses in main memory, multiples of the bus width.

    Parameters
    ----------
    program_address, program_bytes : int
        The encoded instructions.
    constant_base, arena_base : int
        Where the two segments begin.
    """

    program_address: int
    program_bytes: int
    constant_base: int
    arena_base: int


@dataclass(frozen=True, slots=True)
class ProfileRecord:
    """One finished instruction; cycles count from the start of the run.

    Members
    -------
    index : int
        Place in the program.
    engine : Engine
    issue : int
        Cycle in which it stood decoded at the head of its engine, and the engine was free to take it.
    start : int
        Cycle in which its tokens were taken.
    end : int
        Cycle in which it was done and its tokens were given.
    stall : int
        Cycles between start and end in which the engine could not go on (bus, memory port or weights not ready).
    """

    index: int
    engine: Engine
    issue: int
    start: int
    end: int
    stall: int

    @property
    def wait(self) -> int:
        """Cycles for which the engine was free but the instruction lacked a token."""
        return self.start - self.issue


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run leaves behind beside the contents of main memory.

    Members
    -------
    cycles : int
        From the start to the end (register ``CYCLES``).
    counters : dict of str to int
        The registers :data:`COUNTERS`.
    profile : list of ProfileRecord
        In order of completion.
    profile_lost : int
        Records that found the profile memory full.
    """

    cycles: int
    counters: dict[str, int]
    profile: list[ProfileRecord] = field(repr=False)
    profile_lost: int = 0


class MachineStopped(DeviceError):
    """The machine stopped with an error in a program.

    Members
    -------
    code : ErrorCode
    index : int
        Of the instruction that stopped it, as in register ``ERROR_INDEX``.
    """

    def __init__(self, code: ErrorCode, index: int, program: bytes, detail: str = ""):
        self.code = ErrorCode(code)
        self.index = index
        reason = f" ({detail})" if detail else ""
        super().__init__(
            f"The machine stopped with {self.code.name}{reason} at instruction {index}: "
            f"{describe_instruction(program, index)}"
        )


def describe_instruction(program: bytes, index: int) -> str:
    """Disassembly of the instruction at a place in an encoded program, damaged or not: then its bytes in hex."""
    by_opcode: dict[int, type[Instruction]] = {cls.OPCODE: cls for cls in INSTRUCTIONS}
    offset = 0
    for _ in range(index):
        cls = by_opcode.get(program[offset] & 0xF) if offset < len(program) else None
        if cls is None:
            return "not in the program"
        offset += cls.BYTES
    if offset >= len(program):
        return "not in the program"
    cls = by_opcode.get(program[offset] & 0xF)
    size = cls.BYTES if cls is not None else 4
    data = program[offset : offset + size]
    if cls is not None and len(data) == size:
        try:
            return disassemble(cls.decode(data)).strip()
        except IsaError:
            pass
    return f"bytes {data.hex()} at {offset:#x}"


def check_job(config: AcceleratorConfig, job: Job) -> None:
    """Refuse a job that the start registers cannot hold.

    Raises
    ------
    ValueError
        If an address is not a multiple of the bus width, or a number has more bits than the addresses of the bus.
    """
    end = 1 << config.bus.address_bits
    for name, value in vars(job).items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
            raise ValueError(f"Job.{name} must be an integer from 0 to {end - 1}, not {value!r}")
        if name != "program_bytes" and value % config.bus.data_bytes:
            raise ValueError(f"Job.{name} must be a multiple of the bus width of {config.bus.data_bytes} bytes, "
                             f"not {value:#x}")


def check_memory_bytes(config: AcceleratorConfig, memory_bytes: int) -> None:
    """Refuse a size of main memory that the bus cannot address.

    Raises
    ------
    ValueError
        If it is not a multiple of 4096 bytes within the bus's addresses.
    """
    if isinstance(memory_bytes, bool) or not isinstance(memory_bytes, int) or memory_bytes < 1 or (
        memory_bytes % 4096 or memory_bytes > 1 << config.bus.address_bits
    ):
        raise ValueError(f"memory_bytes must be a multiple of 4096 up to {1 << config.bus.address_bits}, which "
                         f"the bus can address, not {memory_bytes!r}")


def check_range(memory_bytes: int, address: int, length: int) -> None:
    """Refuse bytes outside of main memory.

    Raises
    ------
    ValueError
        If they are.
    """
    if address < 0 or length < 0 or address + length > memory_bytes:
        raise ValueError(f"Bytes {address:#x} to {address + length:#x} must lie within main memory of "
                         f"{memory_bytes:#x} bytes; a larger memory_bytes opens a larger one")


class Machine(Protocol):
    """An accelerator with its main memory.

    Members
    -------
    name : str
        ``"iss"``, ``"rtl"`` or a board's name.
    config : AcceleratorConfig
    memory_bytes : int
        Main memory; its addresses begin at 0.
    """

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> AcceleratorConfig: ...

    @property
    def memory_bytes(self) -> int: ...

    def write(self, address: int, data: bytes) -> None:
        """Write to main memory. ``ValueError`` outside of it."""
        ...

    def read(self, address: int, length: int) -> bytes:
        """Read from main memory. ``ValueError`` outside of it."""
        ...

    def run(self, job: Job, *, max_cycles: int | None = None) -> RunResult:
        """Run a program to its end.

        Parameters
        ----------
        job : Job
        max_cycles : int, or None
            Give up after so many cycles; by default the machine chooses a bound that no program of its length reaches.

        Raises
        ------
        MachineStopped
            If the program stops with an error.
        DeviceError
            If it has not ended after ``max_cycles``, or the machine cannot be reached.
        """
        ...

    def close(self) -> None:
        """Free what the machine holds; later calls raise ``DeviceError``."""
        ...
