# SPDX-License-Identifier: Apache-2.0
"""Functions of one int8 operand as tables of 256 entries, as LiteRT's reference kernels compute them.

Three kinds of arithmetic, found by comparison with the interpreter:

* LOGISTIC, TANH, EXP, GELU and LOG fill a table themselves, in float32: dequantize, apply the function, multiply
  by the reciprocal of the output's scale, round half away from zero.
* RELU and its kin, LEAKY_RELU and ABS rescale integers (``TFLITE_DOUBLE``). NEG negates the stored integer.
* HARD_SWISH has 16-bit fixed-point arithmetic of its own.

A uint8 operand becomes int8 by subtracting 128 from its values and zero points, and then the same tables hold, but for
HARD_SWISH, whose 16-bit sum can wrap. The reference resolver has no ELU, and SQRT and RSQRT of int8 are refused or fail
for some inputs.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding, rescale, round_half_away

from .factors import ACTIVATIONS, Quantization, activation_bounds, multiplier_of, multiply_factor, ratio_float32
from .fixed_point import INT16_MAX, divide_by_power_of_two, high_product, saturate16

__all__ = ["TABLE_OPERATORS", "table"]

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]

STORED = np.arange(INT8_MIN, INT8_MAX + 1)
"""Every int8 value, in the order of a table."""

LARGEST_DIFFERENCE = INT8_MAX - INT8_MIN
"""Of a value and its zero point."""

ALONE = tuple(activation for activation in ACTIVATIONS if activation != "NONE")

SIGNED_ONLY = ("ABS", "EXP", "LOG", "NEG")
"""Operators that the reference has for int8, not for uint8."""

TABLE_OPERATORS = frozenset({*ALONE, *SIGNED_ONLY, "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "TANH"})
"""Operators that :func:`table` knows."""

GELU_CUBE = np.float32(0.044715)
GELU_ROOT = np.float32(math.sqrt(2 / math.pi))
HALF_ROOT = np.float32(math.sqrt(0.5))


def table(
    operator: str,
    source: Quantization,
    target: Quantization,
    *,
    unsigned: bool = False,
    alpha: float = 0.0,
    approximate: bool = False,
) -> Int8Array:
    """Results of an operator for the inputs -128 to 127.

    Parameters
    ----------
    operator : str
        One of ``TABLE_OPERATORS``.
    source, target : pair of float and int
        Scale and zero point of input and output, as int8.
    unsigned : bool
        The tensors of the model are uint8.
    alpha : float
        Slope of LEAKY_RELU below zero; a float32 number, as in a file.
    approximate : bool
        GELU by the hyperbolic tangent.

    Returns
    -------
    int8 array of shape (256,)

    Raises
    ------
    ModelError
        If the reference refuses these tensors, or C++ leaves its result undefined.
    """
    if operator not in TABLE_OPERATORS:
        raise ValueError(f"Operator must be one of {', '.join(sorted(TABLE_OPERATORS))}, not {operator!r}")
    if unsigned and operator in SIGNED_ONLY:
        raise ModelError(f"{operator} needs int8 tensors, but has uint8: the reference computes it for int8 alone")
    if operator in ALONE:
        return _activation(operator, source, target)
    match operator:
        case "ABS":
            return _absolute(source, target)
        case "HARD_SWISH":
            return _hard_swish(source, target, offset=128 if unsigned else 0)
        case "LEAKY_RELU":
            return _leaky_relu(source, target, alpha)
        case "LOGISTIC":
            _check_logistic(target)
            return _by_float(_logistic, source, target)
        case "NEG":
            return np.asarray(-STORED, np.int64).astype(np.int8)
        case "LOG":
            return _by_float(lambda x: _logarithm(x, target), source, target)
        case "GELU":
            return _by_float(_gelu_approximate if approximate else _gelu, source, target)
    return _by_float(_tanh if operator == "TANH" else _exponential, source, target)


def _check_logistic(target: Quantization) -> None:
    if target[0] != 1 / 256:
        raise ModelError(f"Output of LOGISTIC must have scale 1/256, not {target[0]!r}: the reference refuses others")


def _by_float(
    function: Callable[[Float32Array], Float32Array], source: Quantization, target: Quantization
) -> Int8Array:
    """Table of a function of float32 numbers."""
    with np.errstate(over="ignore", invalid="ignore"):  # What is no number ends in the error below.
        real = np.float32(source[0]) * (STORED - source[1]).astype(np.float32)
        exact = function(real) * (np.float32(1) / np.float32(target[0]))
    if not (np.abs(exact) < 2.0**31).all():
        raise ModelError(
            f"Scale of a function's output must keep its largest value within int32, but {target[0]:g} does not: "
            f"the reference's result is undefined. Quantize the output with a scale that fits"
        )
    return np.clip(round_half_away(exact) + np.float32(target[1]), INT8_MIN, INT8_MAX).astype(np.int8)


def _rounded(function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], x: Float32Array) -> Float32Array:
    """A function of the C library in float32: the nearest float32 to the true value."""
    return function(x.astype(np.float64)).astype(np.float32)


def _exponential(x: Float32Array) -> Float32Array:
    return _rounded(np.exp, x)


def _logistic(x: Float32Array) -> Float32Array:
    return np.float32(1) / (np.float32(1) + _exponential(-x))


def _tanh(x: Float32Array) -> Float32Array:
    return _rounded(np.tanh, x)


def _gelu(x: Float32Array) -> Float32Array:
    complement = np.array([math.erfc(value) for value in x * -HALF_ROOT], np.float32)
    return np.float32(0.5) * x * complement


def _gelu_approximate(x: Float32Array) -> Float32Array:
    return np.float32(0.5) * x * (np.float32(1) + _tanh(GELU_ROOT * (x + GELU_CUBE * x * x * x)))


def _logarithm(x: Float32Array, target: Quantization) -> Float32Array:
    """What has no logarithm gets the least value that the output can hold."""
    least = np.float32(INT8_MIN - target[1]) * np.float32(target[0])
    return np.where(x > 0, _rounded(np.log, np.where(x > 0, x, np.float32(1))), least)


def _clamped(steps: Int64Array, target: Quantization) -> Int8Array:
    return np.clip(steps + target[1], INT8_MIN, INT8_MAX).astype(np.int8)


def _scaled(values: Int64Array, factor: float) -> Int64Array:
    multiplier, shift = multiplier_of(factor, LARGEST_DIFFERENCE)
    return rescale(values, multiplier, shift, Rounding.TFLITE_DOUBLE)


def _activation(operator: str, source: Quantization, target: Quantization) -> Int8Array:
    steps = _scaled(STORED - source[1], ratio_float32(source[0], target[0]))
    return np.clip(steps + target[1], *activation_bounds(operator, target)).astype(np.int8)


def _leaky_relu(source: Quantization, target: Quantization, alpha: float) -> Int8Array:
    centred = STORED - source[1]
    above = _scaled(centred, ratio_float32(source[0], target[0]))
    slope = multiply_factor(source[0], alpha, target[0])
    below = _scaled(centred, abs(slope)) * (-1 if slope < 0 else 1)
    return _clamped(np.where(centred >= 0, above, below), target)


def _absolute(source: Quantization, target: Quantization) -> Int8Array:
    return _clamped(_scaled(np.abs(STORED - source[1]), ratio_float32(source[0], target[0])), target)


def _hard_swish(source: Quantization, target: Quantization, offset: int) -> Int8Array:
    """``x * min(max(x + 3, 0), 6) / 6`` in 16 bits; ``offset`` is what was subtracted from the model's integers.

    The input has 7 bits more than it came with. One factor is that on the output's scale, the other the ramp from -3 to
    3 as 0 to 32767.
    """
    fine_scale = float(np.float32(1 / 128) * np.float32(source[0]))
    to_output, output_shift = _multiplier16(ratio_float32(fine_scale, target[0]))
    to_ramp, ramp_shift = _multiplier16(ratio_float32(fine_scale, float(np.float32(3) / np.float32(32768))))
    if output_shift > 0:
        raise ModelError(
            f"Scale of HARD_SWISH's output must be at least 1/128 of the input's, but {target[0]:g} is less than that "
            f"of {source[0]:g}: the reference refuses it"
        )
    if min(output_shift, ramp_shift) < -15 or ramp_shift > 31:
        raise ModelError(
            f"Scales of HARD_SWISH must be 2e-7 to 2e7 at the input and at most 200 times as much at the output, not "
            f"{source[0]:g} and {target[0]:g}: the reference would shift by more bits than its numbers have. "
            f"Quantize the model again with ranges that fit its values"
        )
    fine = (STORED - source[1]) << 7
    ramp = fine
    if ramp_shift > 0:
        ramp = saturate16(ramp << min(ramp_shift - 1, 16))
    ramp = high_product(ramp, to_ramp, 16)
    if ramp_shift > 0:
        ramp = saturate16(ramp << 1)
    if ramp_shift < 0:
        ramp = divide_by_power_of_two(ramp, -ramp_shift)
    product = ((ramp + (1 << 15)) >> 1) * high_product(fine, to_output, 16)
    truncated = np.sign(product) * (np.abs(product) >> 15)
    steps = divide_by_power_of_two(truncated, -output_shift)
    wrapped = (steps + target[1] + offset).astype(np.int16).astype(np.int64)
    return np.clip(wrapped - offset, INT8_MIN, INT8_MAX).astype(np.int8)


def _multiplier16(factor: float) -> tuple[int, int]:
    """Mantissa of 15 bits and exponent of a factor, rounded by way of 31 bits."""
    if not math.isfinite(factor):
        raise ModelError(f"Scales of HARD_SWISH must have a ratio that float32 can hold, not {factor}: requantize them")
    mantissa, exponent = math.frexp(factor)
    wide = math.floor(mantissa * (1 << 31) + 0.5)
    if wide == 1 << 31:
        wide, exponent = wide >> 1, exponent + 1
    return min((wide + (1 << 15)) >> 16, INT16_MAX), exponent
