# SPDX-License-Identifier: Apache-2.0
"""The shared arithmetic against exact Python integers, and against the form that gemmlowp is written in."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright_hdl.numerics import (
    ADD_LEFT_SHIFT,
    HARDWARE_ROUNDINGS,
    MAX_SHIFT,
    MIN_SHIFT,
    MULTIPLIER_BITS,
    AddParameters,
    FloatRequantizer,
    QuantizeRule,
    Requantizer,
    Rounding,
    quantize,
    quantize_multiplier,
    rescale,
)

INT32 = st.integers(-(1 << 31), (1 << 31) - 1) | st.sampled_from([-(1 << 31), -1, 0, 1, (1 << 31) - 1])
MULTIPLIERS = st.integers(0, (1 << MULTIPLIER_BITS) - 1) | st.sampled_from([0, 1, 1 << 30, (1 << 31) - 1])
SHIFTS = st.integers(MIN_SHIFT, MAX_SHIFT)
INT8 = st.integers(-128, 127)
SCALES = st.floats(1e-6, 1e3)


def exact_single(value: int, multiplier: int, shift: int) -> int:
    """Round half up, once."""
    return math.floor(Fraction(value * multiplier, 1 << shift) + Fraction(1, 2))


def truncating(numerator: int, denominator: int) -> int:
    """Division as in C++."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def gemmlowp_double(value: int, multiplier: int, shift: int) -> int:
    """Rounding doubling high multiplication, then rounding division by a power of two, each as in C++."""
    product = value * multiplier
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    high = truncating(product + nudge, 1 << 31)
    exponent = shift - 31
    remainder = high & ((1 << exponent) - 1)
    threshold = ((1 << exponent) - 1 >> 1) + (1 if high < 0 else 0)
    return (high >> exponent) + (1 if remainder > threshold else 0)


@given(INT32, MULTIPLIERS, SHIFTS)
def test_single_is_round_half_up(value: int, multiplier: int, shift: int) -> None:
    assert int(rescale(value, multiplier, shift, Rounding.SINGLE)) == exact_single(value, multiplier, shift)


@given(INT32, MULTIPLIERS, SHIFTS)
def test_double_is_gemmlowp(value: int, multiplier: int, shift: int) -> None:
    expected = (gemmlowp_double if shift > 31 else exact_single)(value, multiplier, shift)
    assert int(rescale(value, multiplier, shift, Rounding.TFLITE_DOUBLE)) == expected


def test_rules_differ_where_they_must() -> None:
    """Half of a half: the second rounding of gemmlowp makes one more of it."""
    value, multiplier, shift = 3, 1 << 30, 33
    assert int(rescale(value, multiplier, shift, Rounding.SINGLE)) == 0
    assert int(rescale(value, multiplier, shift, Rounding.TFLITE_DOUBLE)) == 1


def test_rescale_broadcasts_and_is_exact_at_the_ends() -> None:
    values = np.array([[-(1 << 31)], [(1 << 31) - 1]])
    shifts = np.array([MIN_SHIFT, 31, MAX_SHIFT])
    got = rescale(values, (1 << 31) - 1, shifts, Rounding.SINGLE)
    assert got.dtype == np.int64
    assert got.tolist() == [
        [exact_single(int(v), (1 << 31) - 1, int(s)) for s in shifts] for v in values[:, 0]
    ]


@given(st.floats(2.0**-31, 2.0**28), st.sampled_from([8, 17, 24, 31]))
def test_quantize_multiplier_is_the_nearest(real: float, bits: int) -> None:
    if real >= 2.0 ** (bits - 2):
        with pytest.raises(ValueError):
            quantize_multiplier(real, bits)
        return
    multiplier, shift = quantize_multiplier(real, bits)
    assert MIN_SHIFT <= shift <= MAX_SHIFT
    assert 0 <= multiplier < 1 << bits
    assert abs(Fraction(multiplier, 1 << shift) - Fraction(real)) <= Fraction(1, 2 << shift)
    if shift < MAX_SHIFT:
        assert multiplier >> (bits - 1) == 1, "all bits of the multiplier are used"


def test_quantize_multiplier_at_its_ends() -> None:
    assert quantize_multiplier(0.0) == (0, MAX_SHIFT)
    assert quantize_multiplier(1.0) == (1 << 30, 30)
    assert quantize_multiplier(1 - 2.0**-40) == (1 << 30, 30), "rounds up into another binade"
    assert quantize_multiplier(2.0**-200) == (0, MAX_SHIFT)
    assert quantize_multiplier(2.0**-62) == (1, MAX_SHIFT)
    assert quantize_multiplier(0.75 * 2.0**-36) == (3 << 24, MAX_SHIFT), "loses low bits when the shift would pass 62"


def test_quantize_multiplier_of_tflite() -> None:
    """``QuantizeMultiplier``: halves go away from zero, and what would shift by more than 62 is zero."""
    double = Rounding.TFLITE_DOUBLE
    tie = (2**30 + 0.5) / 2**31
    assert (quantize_multiplier(tie), quantize_multiplier(tie, rounding=double)) == ((1 << 30, 31), ((1 << 30) + 1, 31))
    assert quantize_multiplier(2.0**-32, rounding=double) == (1 << 30, MAX_SHIFT)
    assert quantize_multiplier(0.75 * 2.0**-36, rounding=double) == (0, MAX_SHIFT)
    assert quantize_multiplier(2.0**-32 * (1 - 2**-40), rounding=double) == (1 << 30, MAX_SHIFT), "rounds up first"
    assert quantize_multiplier(2.0**-33, rounding=double) == (0, MAX_SHIFT)


@pytest.mark.parametrize(("rule", "expected"), [
    (QuantizeRule.HALF_AWAY, [-2, -1, 0, 2, 3, 4, 1, 127, -128]),
    (QuantizeRule.HALF_EVEN, [-1, -1, 1, 1, 3, 3, 1, 127, -128]),
    (QuantizeRule.RECIPROCAL, [-1, -1, 1, 1, 3, 3, 1, 127, -128]),
])
def test_quantize(rule: QuantizeRule, expected: list[int]) -> None:
    values = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, np.float32(0.49999997), 1e39, -1e39]
    assert quantize(values, 1.0, 1, rule=rule).tolist() == expected


def test_requantizers_know_their_rules() -> None:
    one, shift = np.array([1 << 30]), np.array([31])
    with pytest.raises(ValueError, match=r"one of single, tflite_double, not <Rounding.FLOAT_HALF_EVEN"):
        Requantizer(multiplier=one, shift=shift, zero_point=0, rounding=Rounding.FLOAT_HALF_EVEN)
    with pytest.raises(ValueError, match=r"a floating-point rule, not <Rounding.SINGLE"):
        FloatRequantizer(factor=np.ones(1), zero_point=0, rounding=Rounding.SINGLE)


@pytest.mark.parametrize(("real", "bits", "message"), [
    (1.0, 7, "Multiplier width must be 8 to 31 bits, not 7"),
    (1.0, 32, "Multiplier width must be 8 to 31 bits, not 32"),
    (-0.5, 31, "Rescale factor must be a finite number that is not negative, not -0.5"),
    (math.inf, 31, "Rescale factor must be a finite number that is not negative, not inf"),
    (math.nan, 31, "Rescale factor must be a finite number that is not negative, not nan"),
    (2.0**30, 31, r"Rescale factor must be below 2**30 for a 31-bit multiplier, not 1073741824.0"),
    (64.0, 8, r"Rescale factor must be below 2**7 for a 8-bit multiplier, not 64.0"),
])
def test_quantize_multiplier_refuses(real: float, bits: int, message: str) -> None:
    with pytest.raises(ValueError) as error:
        quantize_multiplier(real, bits)
    assert str(error.value) == message


@given(st.lists(INT32, min_size=3, max_size=3), INT8, st.tuples(INT8, INT8), st.sampled_from(HARDWARE_ROUNDINGS))
def test_requantizer(acc: list[int], zero_point: int, clamp: tuple[int, int], rounding: Rounding) -> None:
    low, high = sorted(clamp)
    reals = [2.0**-20, 0.37e-3, 1.75]
    requantizer = Requantizer.from_scales(reals, zero_point=zero_point, low=low, high=high, rounding=rounding)
    rule = {Rounding.SINGLE: exact_single, Rounding.TFLITE_DOUBLE: gemmlowp_double}[rounding]
    expected = []
    for value, real in zip(acc, reals, strict=True):
        multiplier, shift = quantize_multiplier(real)
        scaled = (rule if shift > 31 else exact_single)(value, multiplier, shift)
        expected.append(min(max(scaled + zero_point, low), high))
    got = requantizer.compute([acc, acc])
    assert got.dtype == np.int8
    assert got.tolist() == [expected, expected]


@pytest.mark.parametrize(("changes", "message"), [
    ({"low": 5, "high": 4}, "Clamp bounds must satisfy -128 <= low <= high <= 127, not low=5, high=4"),
    ({"low": -129}, "Clamp bounds must satisfy -128 <= low <= high <= 127, not low=-129, high=127"),
    ({"high": 128}, "Clamp bounds must satisfy -128 <= low <= high <= 127, not low=-128, high=128"),
    ({"zero_point": 128}, "Zero point must be -128 to 127, not 128"),
])
def test_requantizer_refuses(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Requantizer.from_scales([0.5], **({"zero_point": 0} | changes))
    assert str(error.value) == message


@given(SCALES, SCALES, SCALES, INT8, INT8, INT8, INT8, INT8, st.sampled_from(HARDWARE_ROUNDINGS))
def test_addition(
    scale_a: float, scale_b: float, scale_out: float, zero_a: int, zero_b: int, zero_out: int, a: int, b: int,
    rounding: Rounding,
) -> None:
    if 2 * max(scale_a, scale_b) / scale_out >= 2.0**48:
        return
    parameters = AddParameters.from_scales(
        scale_a, scale_b, scale_out, zero_point_a=zero_a, zero_point_b=zero_b, zero_point_out=zero_out,
        rounding=rounding,
    )

    def scaled(value: int, multiplier: int, shift: int) -> int:
        double = rounding is Rounding.TFLITE_DOUBLE and shift > 31
        return (gemmlowp_double if double else exact_single)(value, multiplier, shift)

    total = scaled((a - zero_a) << ADD_LEFT_SHIFT, parameters.multiplier_a, parameters.shift_a)
    total += scaled((b - zero_b) << ADD_LEFT_SHIFT, parameters.multiplier_b, parameters.shift_b)
    expected = min(max(scaled(total, parameters.multiplier_out, parameters.shift_out) + zero_out, -128), 127)
    assert parameters.compute(np.array([a], np.int8), np.array([b], np.int8)).tolist() == [expected]
    exact = (scale_a * (a - zero_a) + scale_b * (b - zero_b)) / scale_out + zero_out
    assert abs(min(max(exact, -128), 127) - expected) <= 1.001, "a real sum, rounded"
