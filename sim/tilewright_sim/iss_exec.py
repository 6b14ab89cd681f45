# SPDX-License-Identifier: Apache-2.0
"""``EXEC`` on numpy arrays: gather the vectors, multiply by all weight tiles at once."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Exec

from .iss_state import ScratchState
from .iss_window import axis_inside, axis_offsets

__all__ = ["ExecStep"]

_CHUNK = 1 << 22
"""Elements of gathered vectors that are multiplied at once; bounds the memory taken."""

_INT8_PRODUCT = 128 * 128
_FLOAT32_EXACT = 1 << 24


class ExecStep:
    """An ``EXEC``, its addresses worked out once.

    The products are summed in floating point, which is exact while no partial sum can pass the mantissa:
    float32 up to 1023 products of int8, float64 beyond (any scratchpad is far below its 2**53).
    """

    def __init__(self, config: AcceleratorConfig, ins: Exec):
        self._ins = ins
        y = axis_offsets(ins.output_height, ins.output_y_step, ins.kernel_height, ins.kernel_y_step)
        x = axis_offsets(ins.output_width, ins.output_x_step, ins.kernel_width, ins.kernel_x_step)
        address = ins.input_address + y[:, None, :, None] + x[None, :, None, :]
        words = (address[..., None] + np.arange(ins.channel_tiles)) % config.limits.addresses
        inside_y = axis_inside(ins.output_height, ins.kernel_height, ins.first_y, ins.stride_y, ins.dilation_y,
                               ins.input_height, config.limits.size_bits + 1)
        inside_x = axis_inside(ins.output_width, ins.kernel_width, ins.first_x, ins.stride_x, ins.dilation_x,
                               ins.input_width, config.limits.size_bits + 1)
        inside = inside_y[:, None, :, None] & inside_x[None, :, None, :]
        self._outside: npt.NDArray[np.bool_] | None = None
        if not inside.all():
            words *= inside[..., None]
            self._outside = np.broadcast_to(~inside[..., None], words.shape).reshape(ins.vectors, -1)
        self._words = words.reshape(ins.vectors, -1)
        products = self._words.shape[1] * config.array.rows
        exact = products * _INT8_PRODUCT < _FLOAT32_EXACT
        self._dtype: type[np.float32 | np.float64] = np.float32 if exact else np.float64
        self._rows_at_once = max(1, _CHUNK // products)

    def run(self, state: ScratchState) -> int:
        """Execute; returns 0, the saturations that an ``EXEC`` has."""
        ins, (_, columns) = self._ins, state.weight.shape
        rows = state.config.array.rows
        tiles = state.weight[ins.weight_address : ins.weight_address + ins.passes * rows]
        # (tile, products, column) to (products, tile and column)
        by_product = tiles.reshape(ins.column_tiles, -1, columns).transpose(1, 0, 2)
        weights: npt.NDArray[Any] = by_product.astype(self._dtype).reshape(len(by_product), -1)
        sums = np.empty((ins.vectors, weights.shape[1]), np.int64)
        for begin in range(0, ins.vectors, self._rows_at_once):
            part = slice(begin, begin + self._rows_at_once)
            vectors: npt.NDArray[Any] = np.take(state.activation, self._words[part], axis=0, mode="clip")
            if self._outside is not None:
                vectors[self._outside[part]] = ins.pad_value
            sums[part] = vectors.reshape(len(vectors), -1).astype(self._dtype) @ weights
        entries = sums.reshape(ins.vectors, ins.column_tiles, columns).transpose(1, 0, 2).reshape(-1, columns)
        target = state.accumulator[ins.bank, ins.accumulator_address : ins.accumulator_address + len(entries)]
        if ins.accumulate:
            entries = entries + target
        target[:] = state.wrapped(entries)
        return 0
