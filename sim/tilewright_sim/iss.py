# SPDX-License-Identifier: Apache-2.0
"""The instruction-set simulator: programs on numpy arrays, bit for bit, with a cycle count from the same walk.

Results follow from the instructions alone. They are executed one after the other in program order, which is a valid
order of any sound program; a program that only some other order can satisfy is executed in the order in which the
modelled hardware starts it. Cycles come from :mod:`~.cycle_model` and depend on no data.

A program that is damaged is refused before anything is executed; an error that comes up on the way stops the machine
with all instructions before it done, and none after.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import DeviceError, IsaError
from tilewright_hdl.isa import INSTRUCTIONS, Exec, Instruction, Load, Post, Store, field_specs
from tilewright_hdl.legality import broken_rules
from tilewright_hdl.registers import ErrorCode

from .accesses import accesses, space_words
from .cycle_model import Deadlock, MemoryTiming, Timing, simulate
from .iss_depthwise import DepthwiseStep
from .iss_exec import ExecStep
from .iss_post import PostStep
from .iss_state import ExecutionError, ScratchState
from .iss_transfer import TransferStep
from .machine import COUNTERS, Job, MachineStopped, RunResult, check_job, check_memory_bytes, check_range
from .tokens import walk_tokens

__all__ = ["IssMachine"]

_PREPARED_PROGRAMS = 4
"""Programs kept with their addresses worked out and their cycles counted."""

_Step = ExecStep | DepthwiseStep | PostStep | TransferStep


@dataclass(frozen=True)
class _Prepared:
    """A decoded program.

    Members
    -------
    steps : list of (int, step or ExecutionError)
        Index of each instruction, in order of execution, and what it does; an error is the last.
    timing : Timing, or None
        None if it ends in an error.
    """

    steps: list[tuple[int, _Step | ExecutionError]]
    timing: Timing | None


class IssMachine:
    """Instruction-set simulator with its main memory; implements :class:`~.machine.Machine`.

    Parameters
    ----------
    config : AcceleratorConfig
    memory_bytes : int
        Main memory, a multiple of 4096.
    memory_latency, memory_beat_period : int
        See :class:`~.cycle_model.MemoryTiming`.
    """

    name = "iss"

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        memory_bytes: int = 1 << 26,
        memory_latency: int = 32,
        memory_beat_period: int = 1,
    ):
        check_memory_bytes(config, memory_bytes)
        self._config = config
        self._timing = MemoryTiming(latency=memory_latency, beat_period=memory_beat_period)
        self._memory = np.zeros(memory_bytes, np.uint8)
        self._state: ScratchState | None = ScratchState(config)
        self._prepared: OrderedDict[tuple[bytes, Job], _Prepared] = OrderedDict()

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def memory_bytes(self) -> int:
        return len(self._memory)

    @property
    def state(self) -> ScratchState:
        """The memories on chip, for tests and debugging.

        Raises
        ------
        DeviceError
            If the machine is closed.
        """
        return self._check_open()

    def _check_open(self) -> ScratchState:
        if self._state is None:
            raise DeviceError("The machine 'iss' must be open, but close() was called; open a new one")
        return self._state

    def write(self, address: int, data: bytes) -> None:
        self._view(address, len(data))[:] = np.frombuffer(data, np.uint8)

    def read(self, address: int, length: int) -> bytes:
        return self._view(address, length).tobytes()

    def _view(self, address: int, length: int) -> npt.NDArray[np.uint8]:
        self._check_open()
        check_range(self.memory_bytes, address, length)
        return self._memory[address : address + length]

    def close(self) -> None:
        self._state = None
        self._prepared.clear()
        self._memory = self._memory[:0]

    def run(self, job: Job, *, max_cycles: int | None = None) -> RunResult:
        state = self.state
        check_job(self._config, job)
        begin = min(job.program_address, self.memory_bytes)
        code = self.read(begin, min(job.program_bytes, self.memory_bytes - begin))
        prepared = self._prepare(code, job)
        timing = prepared.timing
        if timing is not None and max_cycles is not None and timing.cycles > max_cycles:
            raise DeviceError(f"The program must end within max_cycles={max_cycles}, but takes {timing.cycles}")
        saturations = 0
        for index, step in prepared.steps:
            try:
                if isinstance(step, ExecutionError):
                    raise step
                if isinstance(step, TransferStep):
                    step.run(state, self._memory)
                else:
                    saturations += step.run(state)
            except ExecutionError as error:
                raise MachineStopped(error.code, index, code, error.detail) from None
        assert timing is not None, "a program without an error has times"
        return RunResult(
            cycles=timing.cycles,
            counters=(timing.counters | {"SATURATIONS": saturations} if self._config.counters
                      else dict.fromkeys(COUNTERS, 0)),
            profile=list(timing.profile),
        )

    def _prepare(self, code: bytes, job: Job) -> _Prepared:
        key = (code, job)
        if key in self._prepared:
            self._prepared.move_to_end(key)
            return self._prepared[key]
        instructions = _decode(self._config, code, job.program_bytes)
        order = list(range(len(instructions)))
        stops = next((i for i in order if _outside(self._config, instructions[i])), len(order))
        stuck = min((at for at, _ in walk_tokens(self._config, instructions).problems if at is not None), default=None)
        timing = None
        if stops == len(order) or (stuck is not None and stuck < stops):
            timing = self._simulate(instructions, code, job)
        if timing is not None and stuck is not None:
            starts = {record.index: record.start for record in timing.profile}
            order.sort(key=lambda index: (starts[index], index))
        prepared = _Prepared([(i, self._step(instructions[i], job)) for i in order[: stops + 1]], timing)
        self._prepared[key] = prepared
        if len(self._prepared) > _PREPARED_PROGRAMS:
            self._prepared.popitem(last=False)
        return prepared

    def _simulate(self, instructions: list[Instruction], code: bytes, job: Job) -> Timing:
        try:
            return simulate(
                self._config, instructions, program_address=job.program_address, constant_base=job.constant_base,
                arena_base=job.arena_base, memory=self._timing,
            )
        except Deadlock as error:
            raise MachineStopped(ErrorCode.DEADLOCK, error.index, code, str(error)) from None

    def _step(self, instruction: Instruction, job: Job) -> _Step | ExecutionError:
        outside = _outside(self._config, instruction)
        if outside:
            return ExecutionError(ErrorCode.ADDRESS, outside)
        if isinstance(instruction, Exec):
            return (DepthwiseStep if instruction.depthwise else ExecStep)(self._config, instruction)
        if isinstance(instruction, Post):
            return PostStep(self._config, instruction)
        assert isinstance(instruction, (Load, Store))
        return TransferStep(self._config, instruction, job)


def _outside(config: AcceleratorConfig, instruction: Instruction) -> str:
    """What an instruction touches outside of a memory on chip; empty if nothing."""
    for access in accesses(config, instruction):
        words = space_words(config, access.memory)
        if words is not None and access.end > words:
            return f"words {access.start} to {access.end - 1} must lie within the {words} of {access.memory.name}"
    return ""


_INDEX = next(spec for spec in field_specs(Instruction) if spec.name == "index")


def _written_index(data: bytes) -> int:
    """Index that stands in the head of an instruction."""
    word = int.from_bytes(data[4 * _INDEX.word : 4 * _INDEX.word + 4], "little")
    return word >> _INDEX.offset & ((1 << _INDEX.bits) - 1)


def _decode(config: AcceleratorConfig, code: bytes, program_bytes: int) -> list[Instruction]:
    """Decode a program with the checks of the fetch engine, then those of the decoders.

    ``code`` is as much of the ``program_bytes`` as lies within main memory.
    """
    by_opcode: dict[int, type[Instruction]] = {cls.OPCODE: cls for cls in INSTRUCTIONS}
    longest = max(cls.BYTES for cls in INSTRUCTIONS)
    pieces: list[tuple[type[Instruction], bytes]] = []
    offset = 0
    while offset < program_bytes:
        index = len(pieces)
        data = code[offset : offset + longest]
        cls = by_opcode.get(data[0] & 0xF) if data else None
        if data and cls is None:
            raise MachineStopped(ErrorCode.OPCODE, index, code, f"no instruction has the opcode {data[0] & 0xF}")
        if cls is not None and program_bytes - offset < cls.BYTES:
            raise MachineStopped(ErrorCode.OPCODE, index, code,
                                 f"{cls.MNEMONIC} must have {cls.BYTES} bytes, only {program_bytes - offset} are left")
        if cls is not None and _written_index(data) != index:
            raise MachineStopped(ErrorCode.INDEX, index, code, f"index must be {index}, not {_written_index(data)}")
        if cls is None or len(data) < cls.BYTES:
            raise MachineStopped(ErrorCode.FETCH, index, code, "the program must lie within main memory, but goes on "
                                 f"for {program_bytes - len(code)} bytes after its end")
        pieces.append((cls, data[: cls.BYTES]))
        offset += cls.BYTES
    instructions: list[Instruction] = []
    for index, (cls, data) in enumerate(pieces):
        try:
            instruction = cls.decode(data)
        except IsaError as error:
            raise MachineStopped(ErrorCode.FIELD, index, code, str(error)) from None
        broken = broken_rules(config, instruction)
        if broken:
            raise MachineStopped(ErrorCode.FIELD, index, code, "; ".join(broken))
        instructions.append(instruction)
    return instructions
