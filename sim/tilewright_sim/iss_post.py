# SPDX-License-Identifier: Apache-2.0
"""``POST`` on numpy arrays, all groups of a band of output rows at once."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import BINARY, Combine, Post, RoundingCode, Source
from tilewright_hdl.numerics import ADD_LEFT_SHIFT, INT8_MIN, Rounding, rescale

from .iss_state import ScratchState
from .iss_window import axis_inside, axis_offsets

__all__ = ["PostStep"]

_CHUNK = 1 << 20
"""Lanes of steps that are worked on at once; bounds the memory taken."""

Int64 = npt.NDArray[np.int64]
Int8 = npt.NDArray[np.int8]
Inside = npt.NDArray[np.bool_]


def _wrap32(values: Int64) -> Int64:
    return values.astype(np.int32).astype(np.int64)


class PostStep:
    """A ``POST``, its addresses worked out once. Arrays have the axes (group, y, x, window y, window x, lane)."""

    def __init__(self, config: AcceleratorConfig, ins: Post):
        self._ins = ins
        self._addresses = config.limits.addresses
        self._rounding = Rounding[RoundingCode(ins.rounding).name]
        self._from_accumulator = ins.source == Source.ACCUMULATOR
        self._source_groups = config.column_groups if self._from_accumulator else config.row_groups
        self._row_groups = config.row_groups
        self._lanes = config.post.lanes
        row = ins.groups * ins.output_width * ins.window_height * ins.window_width * self._lanes
        self._rows_at_once = max(1, _CHUNK // row)
        self._source_y = axis_offsets(ins.output_height, ins.source_y_step, ins.window_height, ins.window_y_step)
        self._source_x = axis_offsets(ins.output_width, ins.source_x_step, ins.window_width, ins.window_x_step)
        self._inside_y = axis_inside(ins.output_height, ins.window_height, ins.first_y, ins.stride_y,
                                     ins.dilation_y, ins.source_height)
        self._inside_x = axis_inside(ins.output_width, ins.window_width, ins.first_x, ins.stride_x,
                                     ins.dilation_x, ins.source_width)
        self._all_inside = bool(self._inside_y.all() and self._inside_x.all())

    def run(self, state: ScratchState) -> int:
        """Execute; returns the lanes that the first rescale clamped."""
        saturated = 0
        activation = state.activation.reshape(len(state.activation), self._row_groups, self._lanes)
        part = np.arange(self._ins.groups)[:, None, None] % self._row_groups
        for band in self._bands():
            values, inside = self._read(state, activation, band)
            if self._from_accumulator:
                values, clamped = self._requantize(state, values, inside)
                saturated += clamped
            if self._ins.use_table:
                values = state.table_values(self._ins.table_index)[values.astype(np.int64) - INT8_MIN]
            if inside is not None:
                values = np.where(inside[..., None], values, self._ins.pad_value)
            ins = self._ins
            residual = None
            if ins.combine in BINARY:
                at = self._tensor(ins.residual_address, ins.residual_y_step, ins.residual_x_step, band)
                residual = activation[at, part].astype(np.int64)
            target = self._tensor(ins.output_address, ins.output_y_step, ins.output_x_step, band)
            activation[target, part] = self._combine(values, residual)
        return saturated

    def _bands(self) -> Iterator[slice]:
        for begin in range(0, self._ins.output_height, self._rows_at_once):
            yield slice(begin, min(begin + self._rows_at_once, self._ins.output_height))

    def _read(
        self, state: ScratchState, activation: Int8, band: slice
    ) -> tuple[npt.NDArray[np.int8 | np.int32], Inside | None]:
        """Source elements of a band of output rows, and which are not padding (None: all)."""
        ins = self._ins
        group = np.arange(ins.groups)
        y, x = self._source_y[band], self._source_x
        at = ins.source_address + y[:, None, :, None] + x[None, :, None, :]
        at = (at + (group // self._source_groups * ins.source_tile_step)[:, None, None, None, None]) % self._addresses
        inside = None
        if not self._all_inside:
            inside = (self._inside_y[band][:, None, :, None] & self._inside_x[None, :, None, :])[None]
            at *= inside
        memory: npt.NDArray[np.int8 | np.int32] = activation
        if self._from_accumulator:
            memory = state.accumulator[ins.bank]
            memory = memory.reshape(len(memory), self._source_groups, self._lanes)
        return memory[at, (group % self._source_groups)[:, None, None, None, None]], inside

    def _requantize(
        self, state: ScratchState, acc: npt.NDArray[np.int8 | np.int32], inside: Inside | None
    ) -> tuple[Int8, int]:
        """First rescale, and the lanes that it clamped."""
        ins = self._ins
        shape = (ins.groups, 1, 1, 1, 1, self._lanes)
        bias, multiplier, shift = (p.reshape(shape) for p in state.parameters(ins.parameter_address, ins.groups))
        biased = np.add(acc, bias, dtype=np.int32)
        scaled = rescale(biased, multiplier, shift, self._rounding) + ins.zero_point
        clamped = np.clip(scaled, ins.low, ins.high)
        beyond = clamped != scaled
        if inside is not None:
            beyond &= inside[..., None]
        return clamped.astype(np.int8), int(np.count_nonzero(beyond))

    def _tensor(self, address: int, y_step: int, x_step: int, band: slice) -> Int64:
        """Words of a result or residual, of shape (group, y, x)."""
        tile = np.arange(self._ins.groups) // self._row_groups
        y, x = np.arange(band.start, band.stop) * y_step, np.arange(self._ins.output_width) * x_step
        words: Int64 = (address + tile[:, None, None] + y[:, None] + x) % self._addresses
        return words

    def _combine(self, values: npt.NDArray[np.int8 | np.int32], residual: Int64 | None) -> npt.NDArray[np.int8]:
        """Result of shape (group, y, x, lane)."""
        ins = self._ins
        if ins.combine == Combine.MAX:
            return np.asarray(values.max(axis=(3, 4)), np.int8)
        if ins.combine == Combine.AVERAGE:
            total = _wrap32(values.sum(axis=(3, 4), dtype=np.int64) + ins.offset)
        elif residual is None:
            return np.asarray(values[:, :, :, 0, 0], np.int8)
        else:
            total = self._join(values[:, :, :, 0, 0].astype(np.int64) - ins.zero_point_a, residual - ins.zero_point_b)
        scaled = rescale(total, ins.multiplier_out, ins.shift_out, self._rounding) + ins.zero_point_out
        return np.clip(scaled, ins.low_out, ins.high_out).astype(np.int8)

    def _join(self, a: Int64, b: Int64) -> Int64:
        """Sum or difference of both operands at their common scale, or product; int32."""
        ins = self._ins
        if ins.combine == Combine.MULTIPLY:
            return a * b
        a = rescale(a << ADD_LEFT_SHIFT, ins.multiplier_a, ins.shift_a, self._rounding)
        b = rescale(b << ADD_LEFT_SHIFT, ins.multiplier_b, ins.shift_b, self._rounding)
        return _wrap32(a - b if ins.combine == Combine.SUBTRACT else a + b)
