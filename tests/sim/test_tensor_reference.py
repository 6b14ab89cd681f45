# SPDX-License-Identifier: Apache-2.0
"""The PyTorch reference against a second implementation in Python integers, and against float fake-quantization."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright_hdl.numerics import (
    HARDWARE_ROUNDINGS,
    AddParameters,
    FloatRequantizer,
    QuantizeRule,
    Requantizer,
    Rounding,
)
from tilewright_sim import tensor_reference as reference

EXAMPLES = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
ROUNDINGS = st.sampled_from(HARDWARE_ROUNDINGS)
ZERO_POINTS = st.integers(-128, 127)
HALF = Fraction(1, 2)


def rescale(value: int, multiplier: int, shift: int, rounding: Rounding) -> int:
    """Rescale in Python integers: TOSA's formula, and gemmlowp's as its C++ has it."""
    if rounding is Rounding.SINGLE:
        return (value * multiplier + (1 << (shift - 1))) >> shift
    left, right = max(0, 31 - shift), max(0, shift - 31)
    product = (value << left) * multiplier
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    high = nudged // (1 << 31) if nudged >= 0 else -(-nudged // (1 << 31))
    mask = (1 << right) - 1
    return (high >> right) + (1 if (high & mask) > (mask >> 1) + (high < 0) else 0)


def finish(acc: int, rule: Requantizer, channel: int) -> int:
    scaled = rescale(int(acc), int(rule.multiplier[channel]), int(rule.shift[channel]), rule.rounding)
    return min(max(scaled + rule.zero_point, rule.low), rule.high)


def requantize_all(acc: np.ndarray[Any, Any], rule: Requantizer, axis: int = 1) -> np.ndarray[Any, Any]:
    out = np.empty(acc.shape, np.int8)
    for index in np.ndindex(acc.shape):
        channel = index[axis] if len(rule.multiplier) > 1 else 0
        out[index] = finish(acc[index], rule, channel)
    return out


def windows(
    x: np.ndarray[Any, Any],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    fill: int,
    collect: Callable[[np.ndarray[Any, Any]], Any],
) -> np.ndarray[Any, Any]:
    """``collect`` of each window (N, C, kh, kw) of an image, stacked on the last two axes."""
    top, left, bottom, right = padding
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    rows = range(0, padded.shape[2] - reach[0] + 1, stride[0])
    columns = range(0, padded.shape[3] - reach[1] + 1, stride[1])
    cells = [
        [collect(padded[:, :, r : r + reach[0] : dilation[0], c : c + reach[1] : dilation[1]]) for c in columns]
        for r in rows
    ]
    return np.moveaxis(np.array(cells), (0, 1), (-2, -1))


def make_requantizer(rng: np.random.Generator, channels: int, rounding: Rounding, bits: int) -> Requantizer:
    low, high = sorted(rng.integers(-128, 128, 2).tolist())
    return Requantizer.from_scales(
        10.0 ** rng.uniform(-5, -1, channels),
        zero_point=int(rng.integers(-128, 128)),
        low=low if rng.random() < 0.3 else -128,
        high=high if rng.random() < 0.3 else 127,
        rounding=rounding,
        bits=bits if rounding is Rounding.SINGLE else 31,
    )


def draw_int8(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    return rng.integers(-128, 128, shape).astype(np.int8)


def t(array: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADDINGS = st.tuples(*[st.integers(0, 2)] * 4)


@EXAMPLES
@given(
    SEEDS, ROUNDINGS, ZERO_POINTS, PAIRS, PAIRS, PADDINGS, PAIRS,
    st.sampled_from([1, 2, 4]), st.integers(1, 7), st.integers(1, 7), st.sampled_from([12, 24, 31]),
)  # fmt: skip
def test_conv2d(
    seed: int,
    rounding: Rounding,
    zero_point: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
    height: int,
    width: int,
    bits: int,
) -> None:
    height, width = (
        max(size, dilation[i] * (kernel[i] - 1) + 1 - padding[i] - padding[i + 2])
        for i, size in enumerate((height, width))
    )
    rng = np.random.default_rng(seed)
    x, weight = draw_int8(rng, 2, 4, height, width), draw_int8(rng, 8, 4 // groups, *kernel)
    bias = rng.integers(-50000, 50000, 8).astype(np.int32)
    rule = make_requantizer(rng, 8, rounding, bits)

    def collect(window: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sums = []
        for o in range(8):
            first = o * groups // 8 * (4 // groups)
            part = window[:, first : first + 4 // groups] - zero_point
            sums.append((part * weight[o].astype(np.int64)).sum((1, 2, 3)) + bias[o])
        return np.stack(sums, 1)

    acc = windows(x, kernel, stride, padding, dilation, zero_point, collect)
    got = reference.conv2d(
        t(x), t(weight), t(bias), zero_point=zero_point, requantizer=rule, stride=stride, padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip
    np.testing.assert_array_equal(got.numpy(), requantize_all(acc, rule))
    assert got.dtype == torch.int8


@EXAMPLES
@given(SEEDS, ROUNDINGS, ZERO_POINTS, st.booleans())
def test_linear(seed: int, rounding: Rounding, zero_point: int, tokens: bool) -> None:
    rng = np.random.default_rng(seed)
    x = draw_int8(rng, 2, 5, 7) if tokens else draw_int8(rng, 3, 7)
    weight, bias = draw_int8(rng, 4, 7), rng.integers(-5000, 5000, 4).astype(np.int32)
    rule = make_requantizer(rng, 4, rounding, 31)
    acc = (x.astype(np.int64) - zero_point) @ weight.T.astype(np.int64) + bias
    got = reference.linear(t(x), t(weight), t(bias), zero_point=zero_point, requantizer=rule)
    np.testing.assert_array_equal(got.numpy(), requantize_all(acc, rule, axis=-1))


@EXAMPLES
@given(SEEDS, ROUNDINGS, st.tuples(ZERO_POINTS, ZERO_POINTS, ZERO_POINTS))
def test_add(seed: int, rounding: Rounding, zero_points: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    scale_a, scale_b, scale_out = (float(s) for s in 10.0 ** rng.uniform(-3, 0, 3))
    zero_a, zero_b, zero_out = zero_points
    p = AddParameters.from_scales(
        scale_a, scale_b, scale_out, zero_point_a=zero_a, zero_point_b=zero_b, zero_point_out=zero_out,
        low=-100, high=101, rounding=rounding,
    )  # fmt: skip
    a, b = draw_int8(rng, 64), draw_int8(rng, 64)
    expected = []
    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        wide = rescale((i - zero_a) << 20, p.multiplier_a, p.shift_a, rounding)
        wide += rescale((j - zero_b) << 20, p.multiplier_b, p.shift_b, rounding)
        scaled = rescale(wide, p.multiplier_out, p.shift_out, rounding)
        expected.append(min(max(scaled + zero_out, -100), 101))
    assert reference.add(t(a), t(b), p).tolist() == expected


@EXAMPLES
@given(SEEDS, ROUNDINGS, st.tuples(ZERO_POINTS, ZERO_POINTS, ZERO_POINTS))
def test_subtract_and_multiply(seed: int, rounding: Rounding, zero_points: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    scale_a, scale_b, scale_out = (float(s) for s in 10.0 ** rng.uniform(-3, 0, 3))
    zero_a, zero_b, zero_out = zero_points
    p = AddParameters.from_scales(scale_a, scale_b, scale_out, zero_point_a=zero_a, zero_point_b=zero_b,
                                  zero_point_out=zero_out, low=-100, high=101, rounding=rounding)
    rule = Requantizer.from_scales(scale_a * scale_b / scale_out, zero_point=zero_out, low=-100, high=101,
                                   rounding=rounding)
    a, b = draw_int8(rng, 64), draw_int8(rng, 64)
    differences, products = [], []
    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        wide = rescale((i - zero_a) << 20, p.multiplier_a, p.shift_a, rounding)
        wide -= rescale((j - zero_b) << 20, p.multiplier_b, p.shift_b, rounding)
        differences.append(min(max(rescale(wide, p.multiplier_out, p.shift_out, rounding) + zero_out, -100), 101))
        products.append(finish((i - zero_a) * (j - zero_b), rule, 0))
    assert reference.subtract(t(a), t(b), p).tolist() == differences
    assert reference.multiply(t(a), t(b), zero_points=(zero_a, zero_b), requantizer=rule).tolist() == products


def test_operands_are_repeated() -> None:
    rng = np.random.default_rng(1)
    a, b = draw_int8(rng, 2, 3, 4, 5), draw_int8(rng, 2, 3, 1, 1)
    p = AddParameters.from_scales(0.1, 0.2, 0.3, zero_point_a=1, zero_point_b=2, zero_point_out=3)
    whole = np.broadcast_to(b, a.shape).copy()
    assert torch.equal(reference.add(t(a), t(b), p), reference.add(t(a), t(whole), p))
    assert torch.equal(reference.subtract(t(b), t(a), p), reference.subtract(t(whole), t(a), p))


def test_pad2d() -> None:
    x = draw_int8(np.random.default_rng(2), 2, 3, 4, 5)
    expected = np.pad(x, ((0, 0), (0, 0), (1, 3), (2, 4)), constant_values=-7)
    assert np.array_equal(reference.pad2d(t(x), padding=(1, 2, 3, 4), value=-7).numpy(), expected)


@EXAMPLES
@given(SEEDS, PAIRS, PAIRS, PADDINGS, st.sampled_from([Rounding.SINGLE, Rounding.FLOAT64_HALF_AWAY]), st.booleans())
def test_averages_of_stored_integers(
    seed: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int],
    rounding: Rounding, counted: bool,
) -> None:
    x = draw_int8(np.random.default_rng(seed), 2, 3, 6, 5)
    sums = windows(x, kernel, stride, padding, (1, 1), 0, lambda w: w.sum((2, 3)))
    inside = windows(np.ones_like(x), kernel, stride, padding, (1, 1), 0, lambda w: w.sum((2, 3)))
    counts = np.maximum(inside if counted else np.full_like(inside, 7), 1)
    if counted and not inside.all():
        return  # A window of nothing but padding has no average.
    expected = [
        min(max(half_away(Fraction(s, n)) if rounding is not Rounding.SINGLE else math.floor(Fraction(s, n) + HALF),
                -90), 100)
        for s, n in zip(sums.ravel().tolist(), counts.ravel().tolist(), strict=True)
    ]
    got = reference.avg_pool2d_raw(t(x), kernel=kernel, stride=stride, padding=padding, low=-90, high=100,
                                   divisor=0 if counted else 7, rounding=rounding)
    assert got.flatten().tolist() == expected


def half_away(value: Fraction) -> int:
    return int(math.copysign(math.floor(abs(value) + HALF), value))


def test_half_away_from_zero_in_double_precision() -> None:
    """Fully connected layers of TFLite; a factor of a quarter makes every second half a tie."""
    rule = FloatRequantizer(factor=np.array([0.25, 1 / 3]), zero_point=2, rounding=Rounding.FLOAT64_HALF_AWAY)
    x, weight = np.arange(-128, 128).astype(np.int8)[:, None], np.array([[1], [1]], np.int8)
    got = reference.linear(t(x), t(weight), torch.zeros(2, dtype=torch.int32), zero_point=0, requantizer=rule)
    expected = [[half_away(Fraction(int(v), n)) + 2 for n in (4, 3)] for v in x[:, 0]]
    assert got.tolist() == expected


@EXAMPLES
@given(SEEDS, PAIRS, PAIRS, PADDINGS, PAIRS)
def test_max_pool2d(
    seed: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> None:
    x = draw_int8(np.random.default_rng(seed), 2, 3, 7, 8)
    expected = windows(x, kernel, stride, padding, dilation, -128, lambda w: w.max((2, 3)))
    got = reference.max_pool2d(t(x), kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    np.testing.assert_array_equal(got.numpy(), expected)


@EXAMPLES
@given(SEEDS, ROUNDINGS, ZERO_POINTS, PAIRS, PAIRS, PADDINGS)
def test_avg_pool2d(
    seed: int,
    rounding: Rounding,
    zero_point: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> None:
    rng = np.random.default_rng(seed)
    x, rule = draw_int8(rng, 2, 3, 6, 5), make_requantizer(rng, 1, rounding, 31)
    acc = windows(x, kernel, stride, padding, (1, 1), zero_point, lambda w: (w - zero_point).sum((2, 3)))
    got = reference.avg_pool2d(
        t(x), kernel=kernel, stride=stride, padding=padding, zero_point=zero_point, requantizer=rule
    )
    np.testing.assert_array_equal(got.numpy(), requantize_all(acc, rule))


@EXAMPLES
@given(SEEDS, ROUNDINGS, ZERO_POINTS)
def test_requantize(seed: int, rounding: Rounding, zero_point: int) -> None:
    rng = np.random.default_rng(seed)
    rule = Requantizer.from_scales(10.0 ** rng.uniform(-2, 1), zero_point=5, low=-90, high=120, rounding=rounding)
    x = np.arange(-128, 128).astype(np.int8)
    got = reference.requantize(t(x), zero_point=zero_point, requantizer=rule)
    assert got.tolist() == [finish(int(v) - zero_point, rule, 0) for v in x]


def test_table_is_indexed_from_minus_128() -> None:
    entries = np.random.default_rng(0).permutation(256).astype(np.uint8).view(np.int8)
    x = np.array([[-128, -127, 0, 127]], np.int8)
    assert reference.table(t(x), t(entries)).tolist() == [[entries[0], entries[1], entries[128], entries[255]]]


def test_rescale_at_the_extremes_of_int32() -> None:
    acc = np.array([2**31 - 1, -(2**31), 0, 1, -1, 2**30], np.int64)
    for rounding in HARDWARE_ROUNDINGS:
        for multiplier, shift in ((2**31 - 1, 62), (2**30, 31), (2**30, 32), (1, 2), (0, 62), (2**31 - 1, 40)):
            got = reference._rescale(t(acc), torch.tensor(multiplier), torch.tensor(shift), rounding)
            assert got.tolist() == [rescale(int(a), multiplier, shift, rounding) for a in acc], (multiplier, shift)


def test_quantize_and_dequantize_are_those_of_pt2e() -> None:
    ops = torch.ops.quantized_decomposed
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 3
    for scale, zero_point, low, high in ((0.02, -7, -128, 127), (0.0173, 100, -127, 127), (1 / 3, 0, -20, 30)):
        q = reference.quantize(x, scale=scale, zero_point=zero_point, low=low, high=high)
        assert torch.equal(q, ops.quantize_per_tensor(x, scale, zero_point, low, high, torch.int8))
        back = reference.dequantize(q, scale=scale, zero_point=zero_point)
        assert torch.equal(back, ops.dequantize_per_tensor(q, scale, zero_point, -128, 127, torch.int8))


def test_quantize_by_the_rules_of_other_frameworks() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 1e9, -1e9])
    away = reference.quantize(x, scale=1.0, zero_point=1, rule=QuantizeRule.HALF_AWAY)
    assert away.tolist() == [-2, -1, 0, 2, 3, 4, 1, 127, -128]
    even = reference.quantize(x, scale=1.0, zero_point=1, rule=QuantizeRule.HALF_EVEN)
    assert even.tolist() == [-1, -1, 1, 1, 3, 3, 1, 127, -128]
    # Where the reciprocal of the scale is not exact, dividing is something else.
    many = torch.arange(-3000, 3000) * 0.0005
    results = [reference.quantize(many, scale=0.003, zero_point=0, rule=rule) for rule in QuantizeRule]
    assert len({tuple(r.tolist()) for r in results}) == len(QuantizeRule)


@pytest.mark.parametrize("groups", [1, 8])
def test_distance_to_fake_quantization(groups: int, record_property: Callable[[str, object], None]) -> None:
    """Integers and float32 fake-quantization differ by one at most, and rarely; equality is not promised."""
    rng = np.random.default_rng(groups)
    x, weight = draw_int8(rng, 4, 8, 20, 20), draw_int8(rng, 16, 8 // groups, 3, 3)
    bias = rng.integers(-20000, 20000, 16).astype(np.int32)
    scale_x, scale_w, scale_y = 0.031, 10.0 ** rng.uniform(-3, -2, 16), 0.3 if groups == 1 else 0.08
    rule = Requantizer.from_scales(scale_x * scale_w / scale_y, zero_point=11)
    got = reference.conv2d(
        t(x), t(weight), t(bias), zero_point=-20, requantizer=rule, padding=(1, 1, 1, 1), groups=groups
    )
    real_w = t(weight).float() * t(scale_w.astype(np.float32)).reshape(-1, 1, 1, 1)
    real_b = t((bias * scale_x * scale_w).astype(np.float32))
    real = F.conv2d(reference.dequantize(t(x), scale=scale_x, zero_point=-20), real_w, real_b, padding=1, groups=groups)
    fake = reference.quantize(real, scale=scale_y, zero_point=11)
    distance = (got.to(torch.int32) - fake.to(torch.int32)).abs()
    rate = float((distance > 0).float().mean())
    record_property("mismatch_rate", rate)
    assert int(distance.max()) <= 1
    assert rate < 1e-3
    assert len(got.unique()) > 100
