# SPDX-License-Identifier: Apache-2.0
"""Rounding rules and factors of LiteRT's reference kernels: the golden reference compared with the interpreter.

Built as ``test_tflite_functions``. Formulas that differ once in millions of values are told apart by values chosen so.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import AddParameters, FloatRequantizer, QuantizeRule, Requantizer, Rounding
from tilewright_sim import tensor_reference
from tilewright_sim import tflite_functions as tflite

from .tflite_operands import REPEATS, Operand, activation, execute, float32, int8s, repeat, scale, zero_point


def check_average_pool(rng: Any, unsigned: bool) -> int:
    height, width = (int(n) for n in rng.integers(3, 9, 2))
    x = int8s(rng, (1, height, width, 3))
    kernel, stride = (int(n) for n in rng.integers(1, 4, 2)), int(rng.integers(1, 4))
    kernel_h, kernel_w = kernel
    same = bool(rng.random() < 0.6)
    padding = (*before_after(height, kernel_h, stride, same), *before_after(width, kernel_w, stride, same))
    quantization, fused = (scale(rng), zero_point(rng)), activation(rng)
    low, high = tflite.activation_bounds(fused, quantization)
    pooled = tensor_reference.avg_pool2d_raw(
        torch.from_numpy(x).permute(0, 3, 1, 2), kernel=(kernel_h, kernel_w), stride=(stride, stride),
        padding=(padding[0], padding[2], padding[1], padding[3]), divisor=0, low=low, high=high,
        rounding=Rounding.SINGLE if unsigned else Rounding.FLOAT64_HALF_AWAY,
    ).permute(0, 2, 3, 1).numpy()
    expected = execute(
        "AVERAGE_POOL_2D", [Operand(x, quantization)], quantization, unsigned=unsigned, shape=pooled.shape,
        padding="SAME" if same else "VALID", stride_h=stride, stride_w=stride, filter_height=kernel_h,
        filter_width=kernel_w, fused_activation_function=fused,
    )
    np.testing.assert_array_equal(pooled, expected)
    return expected.size


def before_after(size: int, kernel: int, stride: int, same: bool) -> tuple[int, int]:
    """Padding on both sides of an axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0) if same else 0
    return total // 2, total - total // 2


@pytest.mark.parametrize("unsigned", [False, True])
def test_average_pool(unsigned: bool) -> None:
    assert repeat(check_average_pool, unsigned=unsigned) > 0


def check_weighted(rng: Any, kind: str, unsigned: bool) -> int:
    """A convolution of one element per window, so that its sum is a product and a bias."""
    channels, depth = 8, 1 if kind == "DEPTHWISE_CONV_2D" else 5
    source, target = (scale(rng), zero_point(rng)), (scale(rng), zero_point(rng))
    fused = activation(rng)
    per_channel = not unsigned and rng.random() < 0.6
    scales = np.array([scale(rng, -5, 0) for _ in range(channels if per_channel else 1)])
    weight_zero = int(rng.integers(-128, 128)) if unsigned else 0
    w = rng.integers(-128, 128, (channels, depth)) if unsigned else rng.integers(-127, 128, (channels, depth))
    factor = tflite.convolution_factor(source[0], scales, target[0], unsigned=unsigned)
    x = rng.integers(-128, 128, (40, depth))
    product = (x - source[1]) @ (w - weight_zero).T
    middle = rng.integers(-100, 100, channels) / np.broadcast_to(factor, channels)
    bias = np.clip(middle - product.mean(axis=0), -(2**30), 2**30).astype(np.int64)
    low, high = tflite.activation_bounds(fused, target)
    ends = {"zero_point": target[1], "low": low, "high": high}
    acc = product + bias
    result: Any
    if kind == "FULLY_CONNECTED":
        factor = tflite.fully_connected_factor(source[0], scales, target[0])
        requantizer = FloatRequantizer(factor=factor, rounding=Rounding.FLOAT64_HALF_AWAY, **ends)
        result = tensor_reference.linear(
            torch.from_numpy(x), torch.from_numpy(w - weight_zero), torch.from_numpy(bias), zero_point=source[1],
            requantizer=requantizer,
        ).numpy()
        shapes, geometry = ((40, depth), (channels, depth), (40, channels)), {}
    else:
        result = Requantizer.from_scales(factor, rounding=Rounding.TFLITE_DOUBLE, **ends).compute(acc)
        geometry = {"stride_h": 1, "stride_w": 1, "padding": "VALID"}
        if kind == "DEPTHWISE_CONV_2D":
            geometry["depth_multiplier"] = channels
            shapes = (1, 8, 5, 1), (1, 1, 1, channels), (1, 8, 5, channels)
        else:
            shapes = (1, 8, 5, depth), (channels, 1, 1, depth), (1, 8, 5, channels)
    weight = Operand(w.reshape(shapes[1]), (scales, weight_zero), constant=True,
                     axis=3 if kind == "DEPTHWISE_CONV_2D" else 0)
    bias_scales = np.maximum(source[0] * scales, 1e-30)
    expected = execute(
        kind, [Operand(x.reshape(shapes[0]), source), weight,
               Operand(bias, (bias_scales, 0), dtype="int32", constant=True)],
        target, unsigned=unsigned, shape=shapes[2], fused_activation_function=fused, **geometry,
    )
    np.testing.assert_array_equal(result, expected.reshape(40, channels))
    return result.size


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_weighted_operators(kind: str, unsigned: bool) -> None:
    assert repeat(check_weighted, kind=kind, unsigned=unsigned) == 40 * 8 * REPEATS


def check_elementwise(rng: Any, kind: str, unsigned: bool) -> int:
    a_shape, b_shape = [
        ((1, 6, 7, 3), (1, 6, 7, 3)),
        ((1, 6, 7, 3), (1, 1, 1, 3)),
        ((1, 6, 1, 3), (1, 1, 7, 3)),
        ((1, 6, 7, 3), (1,)),
        ((1, 6, 7, 1), (1, 6, 7, 3)),
    ][int(rng.integers(0, 5))]
    a, b = int8s(rng, a_shape), int8s(rng, b_shape)
    qa, qb = (scale(rng), zero_point(rng)), (scale(rng), zero_point(rng))
    largest = qa[0] * qb[0] * 128 if kind == "MUL" else max(qa[0], qb[0])
    qy = (float32(largest * 2 ** rng.uniform(-4, 3)), zero_point(rng))
    if rng.random() < 0.2:
        qa = qb = qy
    fused = activation(rng)
    low, high = tflite.activation_bounds(fused, qy)
    pair = torch.from_numpy(a), torch.from_numpy(b)
    if kind == "MUL":
        requantizer = Requantizer.from_scales(
            tflite.multiply_factor(qa[0], qb[0], qy[0]), zero_point=qy[1], low=low, high=high,
            rounding=Rounding.TFLITE_DOUBLE,
        )
        result = tensor_reference.multiply(*pair, zero_points=(qa[1], qb[1]), requantizer=requantizer).numpy()
    else:
        parameters = AddParameters.from_scales(
            qa[0], qb[0], qy[0], zero_point_a=qa[1], zero_point_b=qb[1], zero_point_out=qy[1], low=low, high=high,
            rounding=Rounding.TFLITE_DOUBLE,
        )
        function = tensor_reference.add if kind == "ADD" else tensor_reference.subtract
        result = function(*pair, parameters).numpy()
    expected = execute(
        kind, [Operand(a, qa), Operand(b, qb)], qy, unsigned=unsigned, shape=result.shape,
        fused_activation_function=fused,
    )
    np.testing.assert_array_equal(result, expected)
    return int(result.size)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_elementwise_operators(kind: str, unsigned: bool) -> None:
    assert repeat(check_elementwise, kind=kind, unsigned=unsigned) > 0


def check_quantize(rng: Any, unsigned: bool) -> int:
    target = (scale(rng, -4, 1), zero_point(rng))
    x = (rng.normal(0, 80, 500) * target[0]).astype(np.float32)
    x[:250] = ((rng.integers(-200, 200, 250) + 0.5) * target[0]).astype(np.float32)  # At the ties.
    result = tensor_reference.quantize(
        torch.from_numpy(x), scale=target[0], zero_point=target[1], rule=QuantizeRule.HALF_AWAY
    ).numpy()
    expected = execute("QUANTIZE", [Operand(x, dtype="float32")], target, unsigned=unsigned)
    np.testing.assert_array_equal(result, expected)
    real = tensor_reference.dequantize(torch.from_numpy(result), scale=target[0], zero_point=target[1]).numpy()
    np.testing.assert_array_equal(
        real, execute("DEQUANTIZE", [Operand(result, target)], None, unsigned=unsigned, dtype="float32")
    )
    return x.size


@pytest.mark.parametrize("unsigned", [False, True])
def test_quantize_and_dequantize(unsigned: bool) -> None:
    assert repeat(check_quantize, unsigned=unsigned) == 500 * REPEATS


def check_requantize(rng: Any, unsigned: bool) -> int:
    source = (scale(rng), zero_point(rng))
    target = (float32(source[0] * 2 ** rng.choice([0, rng.uniform(-6, 6)])), zero_point(rng))
    x = np.arange(-128, 128).astype(np.int8)
    requantizer = Requantizer.from_scales(
        tflite.ratio(source[0], target[0]), zero_point=target[1], rounding=Rounding.TFLITE_DOUBLE
    )
    result = tensor_reference.requantize(
        torch.from_numpy(x), zero_point=source[1], requantizer=requantizer
    ).numpy()
    np.testing.assert_array_equal(result, execute("QUANTIZE", [Operand(x, source)], target, unsigned=unsigned))
    changed = (target[0], target[1] + (0 if unsigned else 128))  # To the other type.
    other = execute(
        "QUANTIZE", [Operand(x, source)], changed, unsigned=unsigned, dtype="int8" if unsigned else "uint8"
    )
    np.testing.assert_array_equal(result, other.astype(np.int64) - (0 if unsigned else 128))
    return 512


@pytest.mark.parametrize("unsigned", [False, True])
def test_requantize(unsigned: bool) -> None:
    assert repeat(check_requantize, unsigned=unsigned) == 512 * REPEATS


def near_ties(factor: float) -> Any:
    """Sums whose product with ``factor`` is next to a tie."""
    ties = np.rint((np.arange(-100, 100) + 0.5) / factor).astype(np.int64)
    sums = np.unique(np.concatenate([ties - 1, ties, ties + 1]))
    return sums[np.abs(sums) < 2**31]


def requantize(factor: Any, rounding: Rounding, acc: Any) -> Any:
    if rounding is Rounding.FLOAT64_HALF_AWAY:
        requantizer = FloatRequantizer(factor=factor, zero_point=0, rounding=rounding)
        identity = torch.eye(1, dtype=torch.int32)
        bias = torch.zeros(1, dtype=torch.int32)
        column = torch.from_numpy(acc[:, np.newaxis])
        return tensor_reference.linear(column, identity, bias, zero_point=0, requantizer=requantizer).numpy()[:, 0]
    return Requantizer.from_scales(factor, zero_point=0, rounding=rounding).compute(acc[:, np.newaxis])[:, 0]


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_sums_that_tell_the_rounding_of_the_scales_apart(kind: str, unsigned: bool) -> None:
    """Scales are multiplied in float32 by the convolutions of uint8 alone."""
    if kind == "FULLY_CONNECTED":
        sx, sw, sy, rounding = float32(0.0336), float32(0.004), float32(0.8848), Rounding.FLOAT64_HALF_AWAY
    else:
        sx, sw, sy, rounding = float32(0.0332), float32(0.00011), float32(0.7393), Rounding.TFLITE_DOUBLE
    in_float32 = unsigned and kind != "FULLY_CONNECTED"
    right, wrong = (tflite.convolution_factor(sx, sw, sy, unsigned=flag) for flag in (in_float32, not in_float32))
    sums = near_ties(right[0])
    sums = sums[requantize(right, rounding, sums) != requantize(wrong, rounding, sums)]
    assert sums.size > 20
    image, weight, options = {
        "CONV_2D": ((1, 1, 1, 1), (sums.size, 1, 1, 1), {"stride_h": 1, "stride_w": 1}),
        "DEPTHWISE_CONV_2D": (
            (1, 1, 1, 1), (1, 1, 1, sums.size), {"stride_h": 1, "stride_w": 1, "depth_multiplier": sums.size}
        ),
        "FULLY_CONNECTED": ((1, 1), (sums.size, 1), {}),
    }[kind]
    expected = execute(
        kind,
        [Operand(np.zeros(image), (sx, 0)), Operand(np.zeros(weight), (sw, 0), constant=True),
         Operand(sums, (sx * sw, 0), dtype="int32", constant=True)],
        (sy, 0), unsigned=unsigned, shape=(*image[:-1], sums.size), **options,
    )
    np.testing.assert_array_equal(requantize(right, rounding, sums), expected.ravel())


@pytest.mark.parametrize(("sx", "sw", "sy"), [(49.0, 0.5, 49.0), (0.5, 49.0, 49.0)])
def test_fully_connected_multiplies_scales_before_it_divides(sx: float, sw: float, sy: float) -> None:
    """Other orders give a factor just below 1/2, and odd sums are then no ties."""
    assert sx * (sw / sy) < 0.5 or (sx / sy) * sw < 0.5
    sums = np.arange(-9, 10, 2)
    expected = execute(
        "FULLY_CONNECTED",
        [Operand(np.zeros((1, 1)), (sx, 0)), Operand(np.zeros((10, 1)), (sw, 0), constant=True),
         Operand(sums, (sx * sw, 0), dtype="int32", constant=True)],
        (sy, 0), shape=(1, 10),
    )
    assert expected.ravel().tolist() == [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]
    factor = tflite.fully_connected_factor(sx, sw, sy)
    np.testing.assert_array_equal(requantize(factor, Rounding.FLOAT64_HALF_AWAY, sums), expected.ravel())


@pytest.mark.parametrize("unsigned", [False, True])
def test_products_that_tell_the_rounding_of_the_scales_apart(unsigned: bool) -> None:
    """MUL computes its factor in float32."""
    sa, sb, sy = float32(0.0728), float32(0.6368), float32(5.4979)
    stored = np.arange(-128, 128)
    right, wrong = (
        requantize(factor, Rounding.TFLITE_DOUBLE, np.outer(stored, stored).ravel())
        for factor in (tflite.multiply_factor(sa, sb, sy), sa * sb / sy)
    )
    assert (right != wrong).any()
    expected = execute(
        "MUL", [Operand(stored[:, np.newaxis], (sa, 0)), Operand(stored[np.newaxis], (sb, 0))], (sy, 0),
        unsigned=unsigned, shape=(256, 256),
    )
    np.testing.assert_array_equal(right, expected.ravel())


@pytest.mark.parametrize("operator", ["RELU", "ABS", "QUANTIZE"])
def test_values_that_tell_the_rounding_of_the_ratio_apart(operator: str) -> None:
    """RELU and ABS divide scales in float32, QUANTIZE in float64."""
    sx, sy = float32(0.0519), float32(0.0346)
    in32, in64 = (
        requantize(factor, Rounding.TFLITE_DOUBLE, np.arange(256))
        for factor in (tflite.ratio_float32(sx, sy), tflite.ratio(sx, sy))
    )
    assert (in32 != in64).any()
    expected = execute(operator, [Operand(np.arange(-128, 128), (sx, -128))], (sy, 0))
    np.testing.assert_array_equal(in64 if operator == "QUANTIZE" else in32, expected)


def run_weights(kind: str, x: Any, weight: Any, quantization: tuple[Any, int], **options: Any) -> Any:
    """Two channels of a window of one element, input scale 1/2, output scale 1/4; without a bias."""
    images = {"CONV_2D": (x.shape[0], 1, 1, x.shape[1]), "DEPTHWISE_CONV_2D": (x.shape[0], 1, 1, 1)}
    shapes = {"CONV_2D": (2, 1, 1, weight.shape[1]), "DEPTHWISE_CONV_2D": (1, 1, 1, 2)}
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    image = images.get(kind, x.shape)
    bias = Operand([0, 0], (np.atleast_1d(quantization[0]) / 2, 0), dtype="int32", constant=True)
    return execute(
        kind,
        [Operand(x.reshape(image), (0.5, 3)),
         Operand(weight.reshape(shapes.get(kind, weight.shape)), quantization, constant=True, axis=axis), bias],
        (0.25, 0), shape=(*image[:-1], 2), **options,
    ).reshape(x.shape[0], 2)


@pytest.mark.parametrize(("scales", "seen"), [(2.0**-6, 5), (np.array([2.0**-6, 2.0**-6]), 0)])
def test_fully_connected_sees_the_zero_point_of_its_only_scale(scales: Any, seen: int) -> None:
    """The int8 kernel for a scale per channel leaves the weights' zero points out."""
    rng = np.random.default_rng(0)
    x, weight = int8s(rng, (30, 3)), int8s(rng, (2, 3))
    sums = (x.astype(np.int64) - 3) @ (weight.astype(np.int64) - seen).T
    factor = tflite.fully_connected_factor(0.5, 2.0**-6, 0.25)
    expected = run_weights("FULLY_CONNECTED", x, weight, (scales, 5))
    result = requantize(factor, Rounding.FLOAT64_HALF_AWAY, sums.ravel())
    np.testing.assert_array_equal(result.reshape(30, 2), expected)


def test_convolutions_do_not_see_zero_points_of_int8_weights() -> None:
    rng, window = np.random.default_rng(0), {"stride_h": 1, "stride_w": 1}
    x, weight = int8s(rng, (30, 1)), int8s(rng, (2, 1))
    with pytest.raises(RuntimeError, match="zero_point"):
        run_weights("CONV_2D", x, weight, (2.0**-6, 5), **window)
    results = [
        run_weights("DEPTHWISE_CONV_2D", x, weight, (2.0**-6, zero), depth_multiplier=2, **window) for zero in (0, 5)
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pools_do_not_look_at_quantizations(kind: str, unsigned: bool) -> None:
    x = int8s(np.random.default_rng(0), (1, 4, 4, 2))
    window = {"padding": "VALID", "stride_h": 2, "stride_w": 2, "filter_height": 2, "filter_width": 2}
    results = [
        execute(kind, [Operand(x, (0.5, 3))], target, unsigned=unsigned, shape=(1, 2, 2, 2), **window)
        for target in ((0.5, 3), (0.125, 40))
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(("factor", "largest"), [(1.0, (1 << 30) - 1), (8.0, (1 << 27) - 1), (1.5, (1 << 30) - 1)])
def test_convolutions_wrap_where_a_multiplier_is_refused(factor: float, largest: int) -> None:
    sums = np.array([1, largest, largest + 1])
    expected = execute(
        "CONV_2D",
        [Operand(np.zeros((1, 1, 1, 1)), (factor, 0)), Operand(np.zeros((3, 1, 1, 1)), (1.0, 0), constant=True),
         Operand(sums, (factor, 0), dtype="int32", constant=True)],
        (1.0, 0), shape=(1, 1, 1, 3), stride_h=1, stride_w=1,
    ).ravel()
    assert expected.tolist() == [math.floor(factor + 0.5), 127, -128]
    assert tflite.multiplier_of(factor, largest)[1] < 31
    with pytest.raises(ModelError, match=rf"below {1 << int(math.log2(factor))}, not {factor:g}: .* would overflow"):
        tflite.multiplier_of(factor, largest + 1)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf"), 2.0**28])
def test_factors_beyond_any_shift_are_refused(factor: float) -> None:
    with pytest.raises(ModelError, match="at least 0 and below 8388608, not"):
        tflite.multiplier_of(factor, 255)


def test_sums_that_the_reference_does_not_compute_are_refused() -> None:
    """SUB rounds by a shift of negative width there, and ADD ends the process."""
    a, b = Operand([127, -128, 1], (1.0, 0)), Operand([-128, 127, 0], (1.0, 0))
    fine, least = float32(2.0**-18.9), 2.0**-20
    tflite.check_sum(1.0, 0.5, fine)
    assert execute("SUB", [a, b], (fine, 0)).tolist() == [127, -128, 127]
    for scale_y in (2.0**-19, least):
        with pytest.raises(ModelError, match=r"above 2\*\*-19 of its operands' larger scale 1"):
            tflite.check_sum(0.5, 1.0, scale_y)
    assert execute("SUB", [a, b], (least, 0)).tolist() != [127, -128, 127]
