# SPDX-License-Identifier: Apache-2.0
"""Fixed-point arithmetic of gemmlowp, on int64 arrays that hold 16-bit or 32-bit numbers.

``Q<i>.<f>`` has ``i`` bits before the point and ``f`` after it, and a sign. Source of the constants and of the order of
the steps: ``fixedpoint/fixedpoint.h`` of gemmlowp.
"""

import numpy as np
import numpy.typing as npt

__all__ = [
    "INT16_MAX",
    "divide_by_power_of_two",
    "exp_of_negative",
    "high_product",
    "reciprocal",
    "saturate16",
]

Int64Array = npt.NDArray[np.int64]

INT16_MAX = (1 << 15) - 1
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

EXP_FRACTION = 26
"""Bits after the point of the argument of :func:`exp_of_negative`."""

EXP_OF_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""``exp(-2**k)`` as Q0.31."""

EXP_OF_EIGHTH = 1895147668
"""``exp(-1/8)`` as Q0.31."""

THIRD = 715827883
"""1/3 as Q0.31."""


def high_product(a: npt.ArrayLike, b: npt.ArrayLike, bits: int = 32) -> Int64Array:
    """High half of ``2 * a * b``, rounded to nearest, half up; saturates where both are the least number."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.asarray(np.minimum((product + (1 << (bits - 2))) >> (bits - 1), (1 << (bits - 1)) - 1))


def divide_by_power_of_two(values: npt.ArrayLike, exponent: int) -> Int64Array:
    """``values / 2**exponent``, rounded to nearest, half away from zero."""
    wide = np.asarray(values, np.int64)
    half = (1 << exponent) >> 1
    return (wide + half - ((wide < 0) if exponent else 0)) >> exponent


def saturate16(values: Int64Array) -> Int64Array:
    """Nearest int16 numbers."""
    return np.clip(values, -INT16_MAX - 1, INT16_MAX)


def _saturate32(values: Int64Array) -> Int64Array:
    return np.clip(values, INT32_MIN, INT32_MAX)


def exp_of_negative(values: npt.ArrayLike) -> Int64Array:
    """``exp(values)`` as Q0.31, of ``values`` at most 0 as Q5.26."""
    x = np.asarray(values, np.int64)
    quarter = 1 << (EXP_FRACTION - 2)
    within = (x & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(_saturate32(within << (31 - EXP_FRACTION)))
    rest = within - x
    for power, factor in EXP_OF_POWERS.items():
        result = np.where(rest & (1 << (EXP_FRACTION + power)), high_product(result, factor), result)
    return np.where(x == 0, INT32_MAX, result)


def _exp_of_last_quarter(values: Int64Array) -> Int64Array:
    """``exp`` of -1/4 to 0 as Q0.31: the Taylor polynomial of degree 4 around -1/8."""
    x = values + (1 << 28)
    square = high_product(x, x)
    cube = high_product(square, x)
    quarter_of_fourth = divide_by_power_of_two(high_product(square, square), 2)
    tail = divide_by_power_of_two(high_product(quarter_of_fourth + cube, THIRD) + square, 1)
    return _saturate32(EXP_OF_EIGHTH + high_product(EXP_OF_EIGHTH, x + tail))


def reciprocal(values: Int64Array, integer_bits: int) -> tuple[Int64Array, Int64Array]:
    """Mantissa as Q0.31 and exponent of ``1 / values``, of positive numbers with ``integer_bits`` before the point.

    ``1 / value`` is the mantissa shifted to the right by the exponent.
    """
    headroom = 32 - np.array([int(value).bit_length() for value in values], np.int64)
    return _one_over_one_plus((values << headroom) - (1 << 31)), integer_bits - headroom


def _one_over_one_plus(values: Int64Array) -> Int64Array:
    """``1 / (1 + values)`` as Q0.31, of 0 to 1 as Q0.31: three steps of Newton's division."""
    half_denominator = (values + INT32_MAX + 1) >> 1
    x = 1515870810 + high_product(half_denominator, -1010580540)  # 48/17 - 32/17 * d, as Q2.29.
    for _ in range(3):
        error = (1 << 29) - high_product(half_denominator, x)
        x = x + _saturate32(high_product(x, error) << 2)
    return _saturate32(x << 1)
