# SPDX-License-Identifier: Apache-2.0
"""Memories of the instruction-set simulator."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tilewright_hdl.bus_timing import memory_sizes
from tilewright_hdl.config import ACCUMULATOR_BITS, TABLE_ENTRIES, AcceleratorConfig
from tilewright_hdl.isa import Memory
from tilewright_hdl.numerics import MAX_SHIFT, SHIFT_BITS
from tilewright_hdl.registers import ErrorCode

__all__ = ["ExecutionError", "ScratchState"]


class ExecutionError(Exception):
    """An instruction cannot be executed.

    Members
    -------
    code : ErrorCode
    detail : str
        What it is, and what it must be.
    """

    def __init__(self, code: ErrorCode, detail: str):
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ScratchState:
    """All memories on chip, zero at first.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    activation : int8 array of shape (words, rows)
    weight : int8 array of shape (words, columns)
    accumulator : int32 array of shape (2, entries, columns)
        Numbers of ``config.memory.accumulator_bits`` bits.
    parameter : uint8 array of shape (words, parameter_word_bytes)
        As in main memory; see :meth:`parameters`.
    table : uint8 array of shape (words, bus bytes)
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.activation = np.zeros((config.activation_words, config.array.rows), np.int8)
        self.weight = np.zeros((config.weight_words, config.array.columns), np.int8)
        self.accumulator = np.zeros((2, config.memory.accumulator_entries, config.array.columns), np.int32)
        self.parameter = np.zeros((config.memory.parameter_groups, config.parameter_word_bytes), np.uint8)
        self.table = np.zeros((config.table_words, config.bus.data_bytes), np.uint8)

    def wrapped(self, sums: npt.NDArray[np.int32 | np.int64]) -> npt.NDArray[np.int32]:
        """Sums as the accumulators keep them: their low bits, sign-extended."""
        idle = ACCUMULATOR_BITS - self.config.memory.accumulator_bits
        return np.asarray(sums.astype(np.int32) << idle >> idle, np.int32)

    def words(self, memory: Memory) -> npt.NDArray[np.uint8]:
        """A memory as bytes, of shape (words, bytes of a word)."""
        whole: Sequence[npt.NDArray[np.int8] | npt.NDArray[np.uint8]]
        whole = (self.activation, self.weight, self.parameter, self.table)
        return whole[memory].view(np.uint8).reshape(-1, memory_sizes(self.config)[memory][1])

    def parameters(
        self, address: int, groups: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Biases, multipliers and shifts of ``groups`` parameter words, of shape (groups, lanes) each."""
        lanes, post = self.config.post.lanes, self.config.post
        raw = self.parameter[address : address + groups]
        bias = raw[:, : 4 * lanes].copy().view("<i4").astype(np.int32)
        multiplier = raw[:, 4 * lanes : 8 * lanes].copy().view("<u4") & ((1 << post.multiplier_bits) - 1)
        shift = raw[:, 8 * lanes :] & ((1 << SHIFT_BITS) - 1)
        # 0 and 63 are no legal shifts. The hardware takes 0 as 64; by either, all of a product is shifted out.
        meant = (shift > 0) & (shift <= MAX_SHIFT)
        return bias, multiplier.astype(np.int64) * meant, np.where(meant, shift, 1).astype(np.int64)

    def table_values(self, index: int) -> npt.NDArray[np.int8]:
        """The 256 images of a table, for -128 to 127."""
        values: npt.NDArray[np.int8] = self.table.reshape(-1, TABLE_ENTRIES)[index].view(np.int8)
        return values
