# SPDX-License-Identifier: Apache-2.0
"""What crosses the bus in an inference, read off the code."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from enum import StrEnum

from tilewright_hdl.bus_timing import transfer_row_beats
from tilewright_hdl.isa import Load, Segment, Store
from tilewright_hdl.program import Program, RunStep
from tilewright_sim.accesses import Access, Space, accesses

__all__ = ["Cause", "Spans", "Transfers"]


class Cause(StrEnum):
    """Why no vector enters the array in a cycle; finer than :data:`~tilewright_sim.layer_cycles.STALL_CAUSES`."""

    WEIGHTS = "the array takes its next weights in"
    OPERANDS = "reads of activations wait for a bank"
    DRAIN = "the last sums leave the array"
    CONSTANTS = "loads of weights and parameters"
    INPUT = "loads of inputs"
    STREAMED = "loads of activations that did not stay on chip"
    RESULTS = "post-processing of the array's results"
    POST = "layers of the post-processor"
    STORE = "stores"
    FETCH = "code"


class Spans:
    """A set of bytes, or of words: what several spans cover."""

    def __init__(self, spans: Iterable[tuple[int, int]] = ()):
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(spans):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    @property
    def size(self) -> int:
        """How many."""
        return sum(self._ends) - sum(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __contains__(self, byte: int) -> bool:
        place = bisect_right(self._starts, byte)
        return place > 0 and byte < self._ends[place - 1]


class Transfers:
    """Loads and stores of a program."""

    def __init__(self, program: Program):
        self._program = program
        self._constants: list[tuple[int, int]] = []
        self._stored = Spans()

    def add_run(self, step: RunStep) -> None:
        """Take up a run; :meth:`kind` then speaks of its transfers."""
        config = self._program.config
        stored: list[tuple[int, int]] = []
        for instruction in step.instructions:
            if isinstance(instruction, Load | Store):
                for access in accesses(config, instruction):
                    if access.memory == Space.CONSTANT:
                        self._constants += _rows(access)
                    elif access.memory == Space.ARENA and access.write:
                        stored += _rows(access)
        self._stored = Spans(stored)

    @property
    def resident(self) -> int:
        """Bytes of constants that no run loads."""
        return len(self._program.constants) - Spans(self._constants).size

    def size(self, instruction: Load | Store) -> int:
        """Bytes on the bus."""
        config = self._program.config
        return instruction.rows * transfer_row_beats(config, instruction) * config.bus.data_bytes

    def kind(self, instruction: Load | Store) -> Cause:
        """What a transfer of the latest run is for."""
        if isinstance(instruction, Store):
            return Cause.STORE
        if instruction.segment == Segment.CONSTANT:
            return Cause.CONSTANTS
        return Cause.STREAMED if instruction.dram_address in self._stored else Cause.INPUT


def _rows(access: Access) -> list[tuple[int, int]]:
    if not access.pitch:
        return [(access.start, access.end)]
    return [(start, start + access.length) for start in range(access.start, access.end, access.pitch)]
