# SPDX-License-Identifier: Apache-2.0
"""MEAN of int8 and uint8 tensors, as LiteRT's reference kernel computes it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding, rescale

from .factors import Quantization, mean_rescale

__all__ = ["mean"]


def mean(
    x: npt.NDArray[np.int8], axes: Sequence[int], source: Quantization, target: Quantization, *, keep_dims: bool = False
) -> npt.NDArray[np.int8]:
    """Mean over ``axes``, which may be negative or repeat; the same for uint8 tensors.

    Raises
    ------
    ModelError
        If the scales lie so far apart that the reference's int32 would overflow.
    """
    reduced = tuple({axis % x.ndim for axis in axes})
    sums = (np.asarray(x, np.int64) - source[1]).sum(axis=reduced, keepdims=keep_dims)
    multiplier, shift = mean_rescale(x.size // max(sums.size, 1), source, target)
    steps = rescale(sums, multiplier, shift, Rounding.TFLITE_DOUBLE)
    return np.asarray(np.clip(steps + target[1], INT8_MIN, INT8_MAX).astype(np.int8))
