# SPDX-License-Identifier: Apache-2.0
"""SOFTMAX of int8 and uint8 tensors, as LiteRT's reference kernel computes it."""

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding, quantize_multiplier

from .factors import Quantization
from .fixed_point import EXP_FRACTION, divide_by_power_of_two, exp_of_negative, high_product, reciprocal

__all__ = ["check_softmax", "softmax"]

SUM_INTEGER_BITS = 12
"""Bits before the point of the sum of exponentials."""

LARGEST_DEPTH = (1 << SUM_INTEGER_BITS) - 1
"""Elements whose exponentials, each at most 1, surely fit the sum."""

RANGE = 31.0
"""The exponential takes arguments above -32; a difference that is scaled below this one counts as no addend."""


def check_softmax(depth: int, target: Quantization, *, unsigned: bool = False) -> None:
    """Refuse what the reference refuses.

    Raises
    ------
    ModelError
        If an int8 output has not the scale 1/256 (within 0.1 %) and the zero point -128 (the kernel of uint8 does not
        look at them), or the last axis is longer than 4095.
    """
    if not unsigned and (target[1] != INT8_MIN or abs(target[0] * 256 - 1) > 0.001):
        raise ModelError(
            f"Output of SOFTMAX must have the scale 1/256 and the zero point -128, not {target[0]!r} and {target[1]}: "
            f"the reference refuses others"
        )
    if depth > LARGEST_DEPTH:
        raise ModelError(
            f"Last axis of SOFTMAX must have at most {LARGEST_DEPTH} elements, not {depth}: "
            f"the reference's sum would overflow"
        )


def softmax(x: npt.NDArray[np.int8], *, scale: float, beta: float = 1.0) -> npt.NDArray[np.int8]:
    """Softmax over the last axis.

    The same for uint8 tensors, with 128 subtracted before and after.

    Parameters
    ----------
    x : int8 array of shape (..., depth)
    scale : float
        Of ``x``; its zero point does not matter.
    beta : float
        Factor of ``x``; a float32 number, as in a file.

    Returns
    -------
    int8 array
        Of the shape of ``x``, with the scale 1/256 and the zero point -128.

    Raises
    ------
    ModelError
        If ``beta * scale`` is not above ``2**-26``, where the reference aborts.
    """
    rows = np.asarray(x, np.int64).reshape(-1, x.shape[-1])
    exponentials = _exponentials(scale * beta)
    powers = exponentials[rows.max(axis=1, keepdims=True) - rows]
    sums = divide_by_power_of_two(powers, SUM_INTEGER_BITS).sum(axis=1)
    mantissa, exponent = reciprocal(sums, SUM_INTEGER_BITS)
    product = high_product(powers, mantissa[:, np.newaxis])
    shift = exponent[:, np.newaxis] + 31 - 8
    # Not negative, so that half away from zero is half up.
    steps = (product + ((1 << shift) >> 1)) >> shift
    result: npt.NDArray[np.int8] = np.clip(steps + INT8_MIN, INT8_MIN, INT8_MAX).astype(np.int8)
    return result.reshape(x.shape)


def _exponentials(factor: float) -> npt.NDArray[np.int64]:
    """``exp(-factor * d)`` as Q0.31 for the differences 0 to 255; 0 where the reference leaves an element out."""
    capped = min(factor * (1 << EXP_FRACTION), float((1 << 31) - 1))
    if not capped > 1:
        raise ModelError(
            f"Scale of SOFTMAX's input times beta must be above 2**-26, not {factor:g}: the reference aborts"
        )
    multiplier, shift = _multiplier(capped)
    differences = np.arange(256)
    counted = differences <= np.floor(RANGE * (1 << EXP_FRACTION) / (1 << shift))
    scaled = high_product(np.where(counted, -differences << shift, 0), multiplier)
    return np.where(counted, exp_of_negative(scaled), 0)


def _multiplier(factor: float) -> tuple[int, int]:
    """Multiplier of 31 bits, and the shift to the left before it."""
    exponent = int(np.frexp(factor)[1])
    multiplier, shift = quantize_multiplier(factor / (1 << exponent), rounding=Rounding.TFLITE_DOUBLE)
    return multiplier, exponent + 31 - shift
