# SPDX-License-Identifier: Apache-2.0
"""The generated hardware itself, simulated by Verilator with a main memory around it."""

import contextlib
import ctypes
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import DeviceError, IsaError, SimulationError
from tilewright_hdl.isa import ENGINES, Engine, Exec, decode_program
from tilewright_hdl.isa import Post as PostInstruction
from tilewright_hdl.registers import (
    CONTROL_CLEAR_IRQ,
    CONTROL_START,
    PROFILE_FIELDS,
    REGISTERS,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    TAG_ENGINE_OFFSET,
    ErrorCode,
    counter_name,
)
from tilewright_hdl.timing import exec_pass, post_interval

from .cycle_bus import MemoryTiming
from .machine import COUNTERS, Job, MachineStopped, ProfileRecord, RunResult, check_job, check_memory_bytes, check_range
from .rtl_build import accelerator_library
from .verilator import Trace

__all__ = ["RtlMachine"]

_SLICE_CYCLES = 1 << 16
"""Cycles of one call into the simulator; between two calls Python sees a Ctrl-C. A fraction of a second."""

_PATIENCE_CYCLES = 100_000
"""Cycles without a beat on the bus or a finished instruction, beyond what the longest instruction takes, after which
the machine must have hung."""

_WATCH_CYCLES = 256
"""Cycles for which the counters are watched to say what each engine waits for."""


class RtlMachine:
    """Simulator of the hardware with its main memory; implements :class:`~.machine.Machine`.

    Parameters
    ----------
    config : AcceleratorConfig
    memory_bytes : int
        Main memory, a multiple of 4096.
    memory_latency, memory_beat_period : int
        See :class:`~.cycle_bus.MemoryTiming`.
    vcd, fst : str or Path, or None
        Waveform to write, of all cycles until :meth:`close`. At most one.

    Raises
    ------
    SimulationError
        If the simulator cannot be built, or the waveform cannot be written.
    """

    name = "rtl"

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        memory_bytes: int = 1 << 26,
        memory_latency: int = 32,
        memory_beat_period: int = 1,
        vcd: str | Path | None = None,
        fst: str | Path | None = None,
    ):
        check_memory_bytes(config, memory_bytes)
        if vcd is not None and fst is not None:
            raise ValueError("A waveform must be asked for as vcd or as fst, not both")
        timing = MemoryTiming(latency=memory_latency, beat_period=memory_beat_period)
        wave = vcd if fst is None else fst
        trace: Trace | None = None if wave is None else "fst" if vcd is None else "vcd"
        if wave is not None:
            _check_writable(Path(wave))
        self._config = config
        self._memory: npt.NDArray[np.uint8] = np.zeros(memory_bytes, np.uint8)
        self._library = _load(accelerator_library(config, trace=trace))
        self._handle: int | None = self._library.machine_open(
            self._memory.ctypes.data, memory_bytes, timing.latency, timing.beat_period, str(wave).encode()
        )
        self._idle = True
        self._check_error()

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def memory_bytes(self) -> int:
        return len(self._memory)

    def write(self, address: int, data: bytes) -> None:
        self._view(address, len(data))[:] = np.frombuffer(data, np.uint8)

    def read(self, address: int, length: int) -> bytes:
        return self._view(address, length).tobytes()

    def close(self) -> None:
        if self._handle is not None:
            self._library.machine_close(self._handle)
        self._handle = None
        self._memory = self._memory[:0]

    def run(self, job: Job, *, max_cycles: int | None = None) -> RunResult:
        handle = self._open()
        check_job(self._config, job)
        code = self.read(job.program_address, max(0, min(job.program_bytes, self.memory_bytes - job.program_address)))
        if not self._idle:
            # The run before this one was broken off.
            self._library.machine_reset(handle)
        self._take_profile()
        self._idle = False
        for name, value in vars(job).items():
            self.write_register(name.upper(), value)
        self.write_register("IRQ_ENABLE", 1)
        self.write_register("CONTROL", CONTROL_START)
        self._run_to_end(max_cycles, _PATIENCE_CYCLES + _longest(self._config, code))
        self._idle = True
        self.write_register("CONTROL", CONTROL_CLEAR_IRQ)
        status = self.read_register("STATUS")
        if status & STATUS_ERROR:
            error = ErrorCode(status >> STATUS_ERROR_CODE_OFFSET & 0xFF)
            raise MachineStopped(error, self.read_register("ERROR_INDEX"), code)
        result = self._result()
        self._check_error()
        if max_cycles is not None and result.cycles > max_cycles:
            raise DeviceError(f"The program must end within max_cycles={max_cycles}, but takes {result.cycles}")
        return result

    def read_register(self, name: str) -> int:
        """Read a register of :data:`tilewright_hdl.registers.REGISTERS` over the register port."""
        return int(self._library.machine_read_register(self._open(), REGISTERS[name].address))

    def write_register(self, name: str, value: int) -> None:
        """Write a register over the register port."""
        self._library.machine_write_register(self._open(), REGISTERS[name].address, value)

    def _open(self) -> int:
        if self._handle is None:
            raise DeviceError("The machine 'rtl' must be open, but close() was called; open a new one")
        return self._handle

    def _view(self, address: int, length: int) -> npt.NDArray[np.uint8]:
        self._open()
        check_range(self.memory_bytes, address, length)
        return self._memory[address : address + length]

    def _check_error(self) -> None:
        if message := self._library.machine_error(self._open()):
            raise SimulationError(f"The simulation cannot go on: {message.decode()}")

    def _run_to_end(self, max_cycles: int | None, patience: int) -> None:
        handle, library = self._open(), self._library
        begin = library.machine_cycle(handle)
        while not library.machine_run(handle, _SLICE_CYCLES):
            self._check_error()
            now = library.machine_cycle(handle)
            if max_cycles is not None and now - begin > max_cycles + _SLICE_CYCLES:
                raise DeviceError(f"The program must end within max_cycles={max_cycles}, but has not: "
                                  f"{self._waiting()}")
            silent = now - max(begin, library.machine_last_progress(handle))
            if silent > patience:
                raise DeviceError(f"The machine must go on, but nothing has happened for {silent} cycles: "
                                  f"{self._waiting()}")

    def _waiting(self) -> str:
        """What each engine is doing, from its counters."""
        names = [counter_name(engine, what) for engine in ENGINES for what in ("BUSY", "WAIT", "STALL")]
        before = {name: self.read_register(name) for name in names}
        self._library.machine_run(self._open(), _WATCH_CYCLES)
        moved = {name for name in names if self.read_register(name) != before[name]}
        states = {"STALL": "cannot go on (bus, memory port or weights)", "WAIT": "waits for a semaphore",
                  "BUSY": "works"}
        done = self._library.machine_take_profile(self._open(), None, 0) // len(PROFILE_FIELDS)
        parts = [f"{done} instructions have finished"]
        for engine in ENGINES:
            found = [text for what, text in states.items() if counter_name(engine, what) in moved]
            parts.append(f"{engine.name} {found[0] if found else 'has nothing to do'}")
        return ", ".join(parts)

    def _result(self) -> RunResult:
        return RunResult(
            cycles=self.read_register("CYCLES"),
            counters={name: self.read_register(name) for name in COUNTERS},
            profile=self._take_profile(),
            profile_lost=self.read_register("PROFILE_LOST"),
        )

    def _take_profile(self) -> list[ProfileRecord]:
        handle, library = self._open(), self._library
        words = np.empty(library.machine_take_profile(handle, None, 0), np.uint32)
        library.machine_take_profile(handle, words.ctypes.data, len(words))
        return [
            ProfileRecord(tag & ((1 << TAG_ENGINE_OFFSET) - 1), Engine(tag >> TAG_ENGINE_OFFSET), *cycles)
            for tag, *cycles in words.reshape(-1, len(PROFILE_FIELDS)).tolist()
        ]


def _longest(config: AcceleratorConfig, code: bytes) -> int:
    """More cycles than any instruction of a program takes without touching the bus."""
    longest = 0
    # The machine itself says what is wrong with a damaged program.
    with contextlib.suppress(IsaError):
        for instruction in decode_program(code):
            if isinstance(instruction, Exec):
                longest = max(longest, instruction.passes * exec_pass(config, instruction.vectors, instruction.taps))
            elif isinstance(instruction, PostInstruction):
                longest = max(longest, instruction.steps * post_interval(config.post, instruction))
    # POST goes before EXEC at the scratchpad, so EXEC may wait as long again; twice that to be sure.
    return 4 * longest


def _check_writable(path: Path) -> None:
    new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise SimulationError(f"The waveform {path} must be a file that can be written: {error.strerror}") from error


def _load(path: Path) -> ctypes.CDLL:
    """Open the library, with the types of ``shim.cpp``."""
    library = ctypes.CDLL(str(path))
    pointer, word, count, text = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p
    functions = {
        "machine_open": (pointer, [pointer, count, count, count, text]),
        "machine_close": (None, [pointer]),
        "machine_reset": (None, [pointer]),
        "machine_run": (ctypes.c_int, [pointer, count]),
        "machine_read_register": (word, [pointer, word]),
        "machine_write_register": (None, [pointer, word, word]),
        "machine_cycle": (count, [pointer]),
        "machine_last_progress": (count, [pointer]),
        "machine_error": (text, [pointer]),
        "machine_take_profile": (count, [pointer, pointer, count]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
