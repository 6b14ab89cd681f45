# SPDX-License-Identifier: Apache-2.0
"""Address arithmetic that the loops of ``EXEC`` and ``POST`` share, one axis at a time."""

import numpy as np
import numpy.typing as npt

__all__ = ["axis_inside", "axis_offsets"]


def axis_offsets(outputs: int, output_step: int, window: int, window_step: int) -> npt.NDArray[np.int64]:
    """Words from the base of each (output, window) position; shape (outputs, window)."""
    return np.arange(outputs)[:, None] * output_step + np.arange(window)[None, :] * window_step


def axis_inside(
    outputs: int, window: int, first: int, stride: int, dilation: int, size: int, bits: int | None = None
) -> npt.NDArray[np.bool_]:
    """Which (output, window) positions are not padding; shape (outputs, window). They wrap where ``bits`` is given."""
    at = first + np.arange(outputs)[:, None] * stride + np.arange(window)[None, :] * dilation
    if bits is not None:
        at %= 1 << bits
    return (at >= 0) & (at < size)
