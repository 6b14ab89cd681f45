# SPDX-License-Identifier: Apache-2.0
"""``LOAD`` and ``STORE`` on numpy arrays."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tilewright_hdl.bus_timing import memory_sizes
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Memory, Segment, Store
from tilewright_hdl.registers import ErrorCode
from tilewright_hdl.window_timing import row_beats

from .iss_state import ExecutionError, ScratchState
from .machine import Job

__all__ = ["TransferStep"]


class TransferStep:
    """A ``LOAD`` or ``STORE`` of a job."""

    def __init__(self, config: AcceleratorConfig, ins: Load | Store, job: Job):
        self._ins = ins
        self._memory = Memory(ins.memory)
        self._is_load = isinstance(ins, Load)
        self._word_bytes = memory_sizes(config)[self._memory][1]
        self._padded_bytes = config.beats(self._word_bytes) * config.bus.data_bytes
        self._row_bytes = ins.words * self._padded_bytes
        self._windows = _Windows(config, ins) if isinstance(ins, Load) and ins.window else None
        if self._windows:
            self._row_bytes = self._windows.row_bytes
        self._address_space = 1 << config.bus.address_bits
        base = job.arena_base if ins.segment == Segment.ARENA else job.constant_base
        self._first = base + ins.dram_address

    def run(self, state: ScratchState, memory: npt.NDArray[np.uint8]) -> int:
        """Copy; returns 0, the saturations that a transfer has."""
        ins = self._ins
        words = state.words(self._memory)
        for row, there in enumerate(self._rows(len(memory))):
            here = ins.address + row * ins.stride
            if self._windows:
                self._windows.pack(memory[there : there + self._row_bytes], words, here)
                continue
            far = memory[there : there + self._row_bytes].reshape(ins.words, self._padded_bytes)
            near = words[here : here + ins.words]
            if self._is_load:
                near[:] = far[:, : self._word_bytes]
            else:
                far[:, : self._word_bytes] = near
                far[:, self._word_bytes :] = 0
        return 0

    def _rows(self, memory_bytes: int) -> Iterator[int]:
        """Byte addresses of the rows in main memory."""
        for row in range(self._ins.rows):
            address = (self._first + row * self._ins.dram_stride) % self._address_space
            if address + self._row_bytes > memory_bytes:
                raise ExecutionError(
                    ErrorCode.READ if self._is_load else ErrorCode.WRITE,
                    f"bytes {address:#x} to {address + self._row_bytes:#x} must lie within the "
                    f"{memory_bytes:#x} bytes of main memory",
                )
            yield address


class _Windows:
    """The windows of a row.

    Members
    -------
    row_bytes : int
        Bytes read, whole beats.
    """

    def __init__(self, config: AcceleratorConfig, ins: Load):
        self._ins = ins
        self.row_bytes = row_beats(config, ins) * config.bus.data_bytes
        self._lanes = slice(ins.first_lane, ins.first_lane + ins.lanes)
        first = ins.row_start + np.arange(ins.words)[:, None] * ins.row_step
        at = first + np.arange(config.array.rows)[self._lanes]
        self._inside = (at >= 0) & (at < ins.row_bytes)
        self._at = at * self._inside

    def pack(self, row: npt.NDArray[np.uint8], words: npt.NDArray[np.uint8], address: int) -> None:
        """Write the windows of a row's bytes from the word ``address`` on."""
        ins = self._ins
        values = np.where(self._inside, row[self._at], np.uint8(ins.pad_value & 0xFF))
        words[address : address + (ins.words - 1) * ins.step + 1 : ins.step, self._lanes] = values
