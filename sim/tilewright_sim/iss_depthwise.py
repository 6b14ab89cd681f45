# SPDX-License-Identifier: Apache-2.0
"""``EXEC`` with ``depthwise`` on numpy arrays: for each place in the kernel, gather and multiply by element."""

import numpy as np

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Exec

from .iss_state import ScratchState

__all__ = ["DepthwiseStep"]


class DepthwiseStep:
    """An ``EXEC`` with ``depthwise``, its addresses worked out once."""

    def __init__(self, config: AcceleratorConfig, ins: Exec):
        self._ins = ins
        rows, columns, slices = config.array.rows, config.array.columns, config.array.slices
        tiles = np.arange(ins.column_tiles)
        self._channels = (tiles[:, None] % slices * columns + np.arange(columns)) % rows
        # Places of the windows in the stream of a pass, as (kernel column, pixel).
        row = ins.row_pixels
        at = (np.arange(ins.output_height)[:, None] * row + np.arange(ins.output_width) * ins.stride_x).ravel()
        line, pixel = np.divmod(at + np.arange(ins.kernel_width)[:, None] - ins.overlap, row)
        ky = np.arange(ins.kernel_height)[:, None, None]
        wrap = 1 << (config.limits.size_bits + 1)
        iy = (ins.first_y + line * ins.stride_y + ky * ins.dilation_y) % wrap
        ix = (ins.first_x + ins.overlap + pixel) % wrap
        inside = (line >= 0) & (iy < ins.input_height) & (ix < ins.input_width)
        self._inside = inside[..., None]
        # Words of the first tile; those of a later one lie so many behind them.
        self._words = (ins.input_address + line * ins.output_y_step + pixel * ins.kernel_x_step
                       + ky * ins.kernel_y_step)
        self._behind = tiles // slices

    def run(self, state: ScratchState) -> int:
        """Execute; returns 0, the saturations that an ``EXEC`` has."""
        ins, columns = self._ins, state.weight.shape[1]
        shape = (ins.column_tiles, ins.kernel_height, ins.kernel_width)
        taps = state.weight[ins.weight_address : ins.weight_address + ins.passes * ins.kernel_width]
        taps = taps.reshape(*shape, columns)[:, :, ::-1].astype(np.int32)
        sums = np.zeros((ins.column_tiles, self._words.shape[2], columns), np.int32)
        for n, ky, kx in np.ndindex(shape):
            words = (self._words[ky, kx] + self._behind[n]) % state.config.limits.addresses
            vectors = np.take(state.activation, words, axis=0, mode="clip")[:, self._channels[n]]
            sums[n] += np.where(self._inside[ky, kx], vectors, np.int8(ins.pad_value)) * taps[n, ky, kx]
        entries = sums.reshape(-1, columns)
        target = state.accumulator[ins.bank, ins.accumulator_address : ins.accumulator_address + len(entries)]
        target[:] = state.wrapped(entries + target if ins.accumulate else entries)
        return 0
