# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic that the hardware, the simulator, the mapper and the tests share.

Everything between an int32 accumulator and an int8 activation is defined here, once. A rescale by a
real factor ``M`` is a multiplication by an integer ``multiplier`` of at most 31 bits and an arithmetic
shift to the right by ``shift`` bits, with ``M ~ multiplier / 2**shift``. How the shifted-out bits round
is a *named* rule, :class:`Rounding`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = [
    "ADD_LEFT_SHIFT",
    "HARDWARE_ROUNDINGS",
    "INT8_MAX",
    "INT8_MIN",
    "MAX_SHIFT",
    "MIN_SHIFT",
    "MULTIPLIER_BITS",
    "ONE_RULE_SHIFT",
    "SHIFT_BITS",
    "AddParameters",
    "FloatRequantizer",
    "QuantizeRule",
    "Requantizer",
    "Rounding",
    "dequantize",
    "quantize",
    "quantize_multiplier",
    "rescale",
    "round_half_away",
]

INT8_MIN, INT8_MAX = -128, 127

MULTIPLIER_BITS = 31
"""Width of the multiplier that equals the frameworks; a configuration may have fewer bits."""

MIN_SHIFT, MAX_SHIFT = 2, 62
"""Range of the right shift (TOSA 1.0, RESCALE with ``scale32``)."""

SHIFT_BITS = 6

ADD_LEFT_SHIFT = 20
"""Bits by which both operands of an addition are widened first (TFLite and TOSA lowering of ADD)."""

Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]


class Rounding(StrEnum):
    """Rule by which an accumulator is rescaled.

    The hardware has the first two; the others are those of frameworks that compute with floating point.

    ``SINGLE``
        ``(x * m + (1 << (s - 1))) >> s``: round half up, once. TOSA ``SINGLE_ROUND``.
    ``TFLITE_DOUBLE``
        gemmlowp, as in the reference kernels of TFLite: round at bit 31, then round what is left
        half away from zero. Equal to ``SINGLE`` where ``s <= 31``.
    ``FLOAT_HALF_EVEN``
        ``rint(float32(x) * float32(M))``: onnxruntime, XNNPACK.
    ``FLOAT64_HALF_AWAY``
        ``round(float64(x) * M)``, half away from zero: fully connected layers of TFLite's reference kernels.
    """

    SINGLE = "single"
    TFLITE_DOUBLE = "tflite_double"
    FLOAT_HALF_EVEN = "float_half_even"
    FLOAT64_HALF_AWAY = "float64_half_away"


ONE_RULE_SHIFT = 31
"""Up to this shift all rules of the hardware are the same."""

HARDWARE_ROUNDINGS = (Rounding.SINGLE, Rounding.TFLITE_DOUBLE)
"""Rules that hardware can have."""


class QuantizeRule(StrEnum):
    """Rule by which a real number becomes an integer, in float32.

    ``RECIPROCAL``
        ``rint(x * (1 / scale))``, half to even: PyTorch.
    ``HALF_EVEN``
        ``rint(x / scale)``, half to even: ONNX.
    ``HALF_AWAY``
        ``round(x / scale)``, half away from zero: TFLite.
    """

    RECIPROCAL = "reciprocal"
    HALF_EVEN = "half_even"
    HALF_AWAY = "half_away"


def quantize(
    values: npt.ArrayLike,
    scale: float,
    zero_point: int,
    low: int = INT8_MIN,
    high: int = INT8_MAX,
    rule: QuantizeRule = QuantizeRule.RECIPROCAL,
) -> Int8Array:
    """Real numbers to int8.

    Raises
    ------
    ValueError
        If a value is not a number.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # What float32 cannot hold is infinite, and saturates.
        real = np.asarray(values, np.float32)
        if np.isnan(real).any():
            raise ValueError(f"Input values must be numbers, but {int(np.isnan(real).sum())} of {real.size} are NaN")
        steps = real * np.float32(1.0 / scale) if rule is QuantizeRule.RECIPROCAL else real / np.float32(scale)
        steps = round_half_away(steps) if rule is QuantizeRule.HALF_AWAY else np.rint(steps)
    quantized: Int8Array = np.clip(steps + zero_point, low, high).astype(np.int8)
    return quantized


def round_half_away(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Nearest whole numbers in the floating-point type of ``values``, halves away from zero, as C's ``round``."""
    whole = np.trunc(values)
    # The fraction is exact, unlike values + 0.5.
    return np.asarray(whole + np.where(np.abs(values - whole) >= 0.5, np.sign(values), 0), values.dtype)


def dequantize(values: npt.NDArray[np.int8], scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """Int8 to the real numbers that they stand for, in float32."""
    return (np.asarray(values, np.float32) - np.float32(zero_point)) * np.float32(scale)


def quantize_multiplier(
    real: float, bits: int = MULTIPLIER_BITS, rounding: Rounding = Rounding.SINGLE
) -> tuple[int, int]:
    """Integer ``(multiplier, shift)`` nearest to ``real``.

    Parameters
    ----------
    real : float
        Factor, finite and not negative. Must be below ``2**(bits - 2)``, so that ``shift >= 2``.
    bits : int
        Width of the multiplier, 8 to 31.
    rounding : Rounding
        A rule of the hardware. The frameworks differ in the last place, and for factors below ``2**-31``.

    Returns
    -------
    multiplier, shift : int
        ``real ~ multiplier / 2**shift`` with ``multiplier < 2**bits`` and ``2 <= shift <= 62``. A factor
        so small that its shift would pass 62 is zero with ``TFLITE_DOUBLE`` (``QuantizeMultiplier`` of TFLite); with
        ``SINGLE`` it loses multiplier bits instead and ends at zero.
    """
    if not 8 <= bits <= MULTIPLIER_BITS:
        raise ValueError(f"Multiplier width must be 8 to {MULTIPLIER_BITS} bits, not {bits!r}")
    if not (math.isfinite(real) and real >= 0):
        raise ValueError(f"Rescale factor must be a finite number that is not negative, not {real!r}")
    if real == 0:
        return 0, MAX_SHIFT
    mantissa, exponent = math.frexp(real)
    scaled = mantissa * (1 << bits)
    # Python rounds a half to even, TFLite away from zero.
    multiplier = math.floor(scaled + 0.5) if rounding is Rounding.TFLITE_DOUBLE else round(scaled)
    if multiplier == 1 << bits:
        multiplier >>= 1
        exponent += 1
    shift = bits - exponent
    if shift > MAX_SHIFT and rounding is Rounding.TFLITE_DOUBLE:
        return 0, MAX_SHIFT
    if shift > MAX_SHIFT:
        multiplier >>= min(bits, shift - MAX_SHIFT)
        shift = MAX_SHIFT
    if shift < MIN_SHIFT:
        raise ValueError(
            f"Rescale factor must be below 2**{bits - MIN_SHIFT + 1} for a {bits}-bit multiplier, not {real!r}"
        )
    return multiplier, shift


def rescale(values: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, rounding: Rounding) -> Int64Array:
    """Rescale int32 ``values`` by ``multiplier / 2**shift`` under a named rounding rule.

    Arguments broadcast. ``|value * multiplier|`` stays below 2**62, so int64 is exact.
    """
    product = np.asarray(values, np.int64) * np.asarray(multiplier, np.int64)
    s = np.asarray(shift, np.int64)
    one = np.int64(1)
    single = (product + (one << (s - 1))) >> s
    if rounding is Rounding.SINGLE:
        return np.asarray(single)
    high = (product + (1 << 30)) >> 31
    rest = np.maximum(s - 31, 1)
    double = (high + (one << (rest - 1)) - (high < 0)) >> rest
    return np.where(s > 31, double, single)


@dataclass(frozen=True, kw_only=True, eq=False)
class Requantizer:
    """Map of int32 accumulators to int8, per channel.

    ``clamp(rescale(acc, multiplier[c], shift[c]) + zero_point, low, high)``

    Parameters
    ----------
    multiplier, shift : int64 array of shape (channels,)
    zero_point, low, high : int
        Of the int8 result; ``low`` and ``high`` carry a fused ReLU or ReLU6.
    rounding : Rounding
    """

    multiplier: Int64Array
    shift: Int64Array
    zero_point: int
    low: int = INT8_MIN
    high: int = INT8_MAX
    rounding: Rounding = Rounding.SINGLE

    def __post_init__(self) -> None:
        _check_result(self.zero_point, self.low, self.high)
        if self.rounding not in HARDWARE_ROUNDINGS:
            raise ValueError(f"Rounding must be one of {', '.join(HARDWARE_ROUNDINGS)}, not {self.rounding!r}")

    @classmethod
    def from_scales(
        cls,
        real: npt.ArrayLike,
        *,
        zero_point: int,
        low: int = INT8_MIN,
        high: int = INT8_MAX,
        rounding: Rounding = Rounding.SINGLE,
        bits: int = MULTIPLIER_BITS,
    ) -> Self:
        """Requantizer for real factors ``s_x * s_w[c] / s_y`` (float64, one a channel)."""
        factors = np.atleast_1d(np.asarray(real, np.float64)).tolist()
        pairs = [quantize_multiplier(factor, bits, rounding) for factor in factors]
        multiplier, shift = np.array(pairs, np.int64).T
        return cls(
            multiplier=multiplier, shift=shift, zero_point=zero_point, low=low, high=high, rounding=rounding
        )

    def compute(self, acc: npt.ArrayLike) -> Int8Array:
        """Requantize ``acc`` of shape (..., channels)."""
        scaled = rescale(acc, self.multiplier, self.shift, self.rounding)
        return np.clip(scaled + self.zero_point, self.low, self.high).astype(np.int8)


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatRequantizer:
    """Map of int32 accumulators to int8, per channel, by the floating-point arithmetic of a framework.

    ``clamp(round(acc * factor[c]) + zero_point, low, high)``

    Parameters
    ----------
    factor : float64 array of shape (channels,)
        Of float32 values with ``FLOAT_HALF_EVEN``.
    zero_point, low, high : int
        See :class:`Requantizer`.
    rounding : Rounding
        ``FLOAT_HALF_EVEN`` or ``FLOAT64_HALF_AWAY``.
    """

    factor: npt.NDArray[np.float64]
    zero_point: int
    low: int = INT8_MIN
    high: int = INT8_MAX
    rounding: Rounding

    def __post_init__(self) -> None:
        _check_result(self.zero_point, self.low, self.high)
        if self.rounding in HARDWARE_ROUNDINGS:
            raise ValueError(f"Rounding must be a floating-point rule, not {self.rounding!r}")


def _check_result(zero_point: int, low: int, high: int) -> None:
    if not INT8_MIN <= low <= high <= INT8_MAX:
        raise ValueError(f"Clamp bounds must satisfy -128 <= low <= high <= 127, not low={low!r}, high={high!r}")
    if not INT8_MIN <= zero_point <= INT8_MAX:
        raise ValueError(f"Zero point must be -128 to 127, not {zero_point!r}")


@dataclass(frozen=True, kw_only=True)
class AddParameters:
    """Addition (or subtraction) of two int8 tensors of different scales.

    ``a' = rescale((a - zero_point_a) << 20, multiplier_a, shift_a)``, likewise ``b'``; the result is
    ``clamp(rescale(a' + b', multiplier_out, shift_out) + zero_point_out, low, high)``, with ``a' - b'`` for a
    subtraction. Both inputs are brought
    to twice the larger of their scales, as in the TFLite reference kernel and in the TOSA lowering of ADD.
    """

    multiplier_a: int
    shift_a: int
    multiplier_b: int
    shift_b: int
    multiplier_out: int
    shift_out: int
    zero_point_a: int
    zero_point_b: int
    zero_point_out: int
    low: int = INT8_MIN
    high: int = INT8_MAX
    rounding: Rounding = Rounding.SINGLE

    @classmethod
    def from_scales(
        cls,
        scale_a: float,
        scale_b: float,
        scale_out: float,
        *,
        zero_point_a: int,
        zero_point_b: int,
        zero_point_out: int,
        low: int = INT8_MIN,
        high: int = INT8_MAX,
        rounding: Rounding = Rounding.SINGLE,
        bits: int = MULTIPLIER_BITS,
    ) -> Self:
        """Parameters for three real scales."""
        common = 2.0 * max(scale_a, scale_b)
        multiplier_a, shift_a = quantize_multiplier(scale_a / common, bits, rounding)
        multiplier_b, shift_b = quantize_multiplier(scale_b / common, bits, rounding)
        multiplier_out, shift_out = quantize_multiplier(
            common / ((1 << ADD_LEFT_SHIFT) * scale_out), bits, rounding
        )
        return cls(
            multiplier_a=multiplier_a,
            shift_a=shift_a,
            multiplier_b=multiplier_b,
            shift_b=shift_b,
            multiplier_out=multiplier_out,
            shift_out=shift_out,
            zero_point_a=zero_point_a,
            zero_point_b=zero_point_b,
            zero_point_out=zero_point_out,
            low=low,
            high=high,
            rounding=rounding,
        )

    def compute(self, a: Int8Array, b: Int8Array) -> Int8Array:
        """Add two int8 arrays of the same shape."""
        wide_a = (np.asarray(a, np.int64) - self.zero_point_a) << ADD_LEFT_SHIFT
        wide_b = (np.asarray(b, np.int64) - self.zero_point_b) << ADD_LEFT_SHIFT
        total = rescale(wide_a, self.multiplier_a, self.shift_a, self.rounding) + rescale(
            wide_b, self.multiplier_b, self.shift_b, self.rounding
        )
        scaled = rescale(total, self.multiplier_out, self.shift_out, self.rounding)
        return np.clip(scaled + self.zero_point_out, self.low, self.high).astype(np.int8)
