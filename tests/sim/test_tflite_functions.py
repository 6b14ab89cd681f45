# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of LiteRT's reference kernels: the functions here, and the rules of the golden reference, against them.

Each ``check_*`` makes one random operator, runs it in the interpreter and compares every value; a test repeats one with
seeds 0, 1, 2, ...
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import AddParameters, FloatRequantizer, QuantizeRule, Requantizer, Rounding
from tilewright_sim import tensor_reference
from tilewright_sim import tflite_functions as tflite

from ..mapper.tflite_models import ModelBuilder, reference

REPEATS = 60


@dataclass
class Operand:
    """A tensor of a model: int8 values and quantization, or anything else with its own ``dtype``."""

    values: Any
    quantization: tuple[Any, int] | None = None
    dtype: str | None = None
    constant: bool = False
    axis: int = 0


def execute(
    kind: str,
    operands: list[Operand],
    target: tuple[float, int] | None,
    *,
    unsigned: bool = False,
    dtype: str | None = None,
    shape: tuple[int, ...] | None = None,
    **options: Any,
) -> Any:
    """Output of one operator in the interpreter.

    Values and zero points are int8; a model of uint8 tensors gets and gives them with 128 added.
    """
    stored, offset = ("uint8", 128) if unsigned else ("int8", 0)
    model = ModelBuilder()
    inputs, values, numbers = [], [], []
    for operand in operands:
        data = np.asarray(operand.values)
        data = (data.astype(np.int64) + offset).astype(stored) if operand.dtype is None else data.astype(operand.dtype)
        quantization = {}
        if operand.quantization is not None:
            scale, zero_point = operand.quantization
            zero_point += offset if operand.dtype is None else 0
            quantization = {"scale": scale, "zero_point": zero_point, "axis": operand.axis}
        constant = data if operand.constant else None
        numbers.append(model.tensor(data.shape, str(data.dtype), data=constant, **quantization))
        if not operand.constant:
            inputs.append(numbers[-1])
            values.append(data)
    ends = {} if target is None else {"scale": target[0], "zero_point": target[1] + (0 if dtype else offset)}
    output = model.tensor(shape or np.shape(operands[0].values), dtype or stored, name="result", **ends)
    model.op(kind, numbers, [output], **options)
    result = reference(model.bytes(inputs, [output]), *values)["result"]
    return result if dtype else (result.astype(np.int64) - offset).astype(np.int8)


def float32(value: float) -> float:
    return float(np.float32(value))


def scale(rng: Any, low: float = -3.0, high: float = 0.0) -> float:
    return float32(10 ** rng.uniform(low, high))


def zero_point(rng: Any) -> int:
    return int(rng.choice([-128, 127, 0, rng.integers(-128, 128)]))


def int8s(rng: Any, shape: tuple[int, ...]) -> Any:
    return rng.integers(-128, 128, shape).astype(np.int8)


def activation(rng: Any) -> str:
    return str(rng.choice(["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))


def repeat(check: Callable[..., int], count: int = REPEATS, **arguments: Any) -> int:
    """Number of values compared."""
    return sum(check(np.random.default_rng(seed), **arguments) for seed in range(count))


def check_table(rng: Any, operator: str, unsigned: bool) -> int:
    source = (scale(rng, -4, 0.7), zero_point(rng))
    target = (float32(source[0] * 2 ** rng.uniform(-6, 6)), zero_point(rng))
    options: dict[str, Any] = {}
    match operator:
        case "LOGISTIC":
            target = (1 / 256, target[1])
        case "EXP":
            source = (min(source[0], 0.25), source[1])  # Its exponentials fit float32.
            largest = np.exp((127 - source[1]) * source[0])
            target = (float32(largest / 255 * rng.uniform(0.5, 2)), target[1])
        case "TANH":
            target = (scale(rng), target[1])
        case "LEAKY_RELU":
            options["alpha"] = float32(rng.uniform(-0.5, 1.5))
        case "GELU":
            options["approximate"] = bool(rng.random() < 0.5)
    stored = np.arange(-128, 128).astype(np.int8)
    expected = execute(operator, [Operand(stored, source)], target, unsigned=unsigned, **options)
    np.testing.assert_array_equal(tflite.table(operator, source, target, unsigned=unsigned, **options), expected)
    return 256


@pytest.mark.parametrize("operator", sorted(tflite.TABLE_OPERATORS))
def test_tables(operator: str) -> None:
    assert repeat(check_table, operator=operator, unsigned=False) == 256 * REPEATS


@pytest.mark.parametrize("operator", sorted(tflite.TABLE_OPERATORS - {"ABS", "EXP", "LOG", "NEG"}))
def test_tables_of_uint8(operator: str) -> None:
    assert repeat(check_table, operator=operator, unsigned=True) == 256 * REPEATS


def test_hard_swish_of_uint8_wraps() -> None:
    source, target = (1.0, -128), (float32(1 / 127.9), 127)
    stored = np.arange(-128, 128).astype(np.int8)
    signed, unsigned = (tflite.table("HARD_SWISH", source, target, unsigned=flag) for flag in (False, True))
    assert (signed != unsigned).any()
    np.testing.assert_array_equal(signed, execute("HARD_SWISH", [Operand(stored, source)], target))
    np.testing.assert_array_equal(unsigned, execute("HARD_SWISH", [Operand(stored, source)], target, unsigned=True))


@pytest.mark.parametrize(
    ("operator", "source", "target", "unsigned", "message"),
    [
        ("LOGISTIC", (0.1, 0), (0.004, -128), False, "must have scale 1/256, not 0.004"),
        ("HARD_SWISH", (1.0, 0), (0.001, 0), False, "at least 1/128 of the input's"),
        ("ABS", (1.0, 0), (1.0, 0), True, "ABS needs int8 tensors, but has uint8"),
        ("EXP", (1.0, -128), (1e-3, 0), False, "undefined"),
        ("RELU", (1.0, 0), (1e-8, 0), False, "int32 would overflow"),
        ("RELU6", (1e-9, 0), (1e-9, 0), False, "at least 3e-9"),
    ],
)
def test_tables_refuse(
    operator: str, source: tuple[float, int], target: tuple[float, int], unsigned: bool, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        tflite.table(operator, source, target, unsigned=unsigned)


def test_a_table_of_another_operator_is_a_slip() -> None:
    with pytest.raises(ValueError, match="Operator must be one of ABS, "):
        tflite.table("SQRT", (1.0, 0), (1.0, 0))


def check_softmax(rng: Any, unsigned: bool) -> int:
    depth = int(rng.choice([1, 2, 10, 12, 37, 300]))
    spread = int(rng.integers(1, 129))
    x = np.clip(rng.integers(-spread, spread, (20, depth)) + rng.integers(-60, 60), -128, 127).astype(np.int8)
    step = scale(rng, -7, 4) if rng.random() < 0.2 else scale(rng, -3, 0.5)
    beta = 1.0 if rng.random() < 0.5 else scale(rng, -0.5, 1.5)
    expected = execute("SOFTMAX", [Operand(x, (step, zero_point(rng)))], (1 / 256, -128), unsigned=unsigned, beta=beta)
    np.testing.assert_array_equal(tflite.softmax(x, scale=step, beta=beta), expected)
    return x.size


@pytest.mark.parametrize("unsigned", [False, True])
def test_softmax(unsigned: bool) -> None:
    assert repeat(check_softmax, unsigned=unsigned) > 0


def test_softmax_is_not_the_rounded_softmax() -> None:
    """The fixed-point kernel is the nearest of 256 steps to the true value, but for one in 200,000 values."""
    x = np.random.default_rng(5).integers(-128, 128, (60_000, 10)).astype(np.int8)
    exponentials = np.exp((x - x.max(axis=1, keepdims=True).astype(np.float64)) * 0.0625)
    exact = exponentials / exponentials.sum(axis=1, keepdims=True) * 256
    nearest = np.clip(np.floor(exact + 0.5) - 128, -128, 127)
    difference = tflite.softmax(x, scale=0.0625) - nearest
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) < 30


def test_softmax_of_many_equal_values() -> None:
    """The reference aborts above 512; every share is then 0."""
    assert tflite.softmax(np.zeros((1, 511), np.int8), scale=1.0).max() == -127
    assert tflite.softmax(np.zeros((1, 1000), np.int8), scale=1.0).max() == -128


def test_softmax_refuses() -> None:
    with pytest.raises(ModelError, match=r"above 2\*\*-26"):
        tflite.softmax(np.zeros((1, 2), np.int8), scale=1e-9)
    tflite.check_softmax(10, (1 / 256, -128))
    tflite.check_softmax(10, (0.5, 3), unsigned=True)
    with pytest.raises(ModelError, match=r"scale 1/256 and the zero point -128, not 0\.004"):
        tflite.check_softmax(10, (0.004, -128))
    with pytest.raises(ModelError, match="at most 4095 elements, not 4096"):
        tflite.check_softmax(4096, (1 / 256, -128))


def check_mean(rng: Any, unsigned: bool) -> int:
    shape = (1, *(int(n) for n in rng.integers(1, 12, 2)), int(rng.integers(1, 9)))
    axes = [(1, 2), (2, 1), (1,), (2,), (3,), (1, 2, 3), (-3, -2), (0, 1), (1, 1)][int(rng.integers(0, 9))]
    source = (scale(rng), zero_point(rng))
    target = source if rng.random() < 0.3 else (float32(source[0] * 2 ** rng.uniform(-3, 3)), zero_point(rng))
    x, keep = int8s(rng, shape), bool(rng.random() < 0.5)
    result = tflite.mean(x, axes, source, target, keep_dims=keep)
    expected = execute(
        "MEAN", [Operand(x, source), Operand(axes, dtype="int32", constant=True)], target, unsigned=unsigned,
        shape=result.shape, keep_dims=keep,
    )
    np.testing.assert_array_equal(result, expected)
    return result.size


@pytest.mark.parametrize("unsigned", [False, True])
def test_mean(unsigned: bool) -> None:
    assert repeat(check_mean, 2 * REPEATS, unsigned=unsigned) > 0


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


def check_concatenation(rng: Any) -> int:
    target = (scale(rng), zero_point(rng))
    sources = [target if rng.random() < 0.2 else (float32(target[0] * 2 ** rng.uniform(-6, 6)), zero_point(rng))
               for _ in range(3)]
    x = np.arange(-128, 128).astype(np.int8)
    expected = execute(
        "CONCATENATION", [Operand(x, source) for source in sources], target, unsigned=True, shape=(768,), axis=0
    )
    result = np.concatenate([tflite.concatenation_table(source, target) for source in sources])
    np.testing.assert_array_equal(result, expected)
    return 768


def test_concatenation_of_uint8() -> None:
    assert repeat(check_concatenation) == 768 * REPEATS


def test_concatenation_of_int8_demands_equal_quantizations() -> None:
    x = np.arange(-128, 128).astype(np.int8)
    execute("CONCATENATION", [Operand(x, (0.5, 3)), Operand(x, (0.5, 3))], (0.5, 3), shape=(512,), axis=0)
    for other in ((0.25, 3), (0.5, 4)):
        with pytest.raises(RuntimeError):
            execute("CONCATENATION", [Operand(x, (0.5, 3)), Operand(x, other)], (0.5, 3), shape=(512,), axis=0)


@pytest.mark.parametrize("unsigned", [False, True])
def test_pad_fills_with_the_zero_point_of_its_output(unsigned: bool) -> None:
    x = int8s(np.random.default_rng(0), (1, 3, 4, 2))
    borders = Operand([[0, 0], [1, 2], [0, 3], [0, 0]], dtype="int32", constant=True)
    padded = execute("PAD", [Operand(x, (0.5, 3)), borders], (0.5, 9), unsigned=unsigned, shape=(1, 6, 7, 2))
    np.testing.assert_array_equal(padded[:, 1:4, :4], x)
    assert set(np.unique(np.concatenate([padded[:, 0], padded[:, 4]]))) == {9}
    value = Operand([-77], (0.5, 9), constant=True)
    padded = execute("PADV2", [Operand(x, (0.5, 9)), borders, value], (0.5, 9), unsigned=unsigned, shape=(1, 6, 7, 2))
    np.testing.assert_array_equal(padded[:, 1:4, :4], x)
    assert set(np.unique(np.concatenate([padded[:, 0], padded[:, 4]]))) == {-77}


def check_resize(rng: Any) -> int:
    (height, width), (rows, columns) = rng.integers(1, 40, (2, 2)).tolist()
    flags = [{}, {"align_corners": True}, {"half_pixel_centers": True}][int(rng.integers(0, 3))]
    x = int8s(rng, (1, height, width, 2))
    y, z = tflite.nearest_indices(height, rows, **flags), tflite.nearest_indices(width, columns, **flags)
    expected = execute(
        "RESIZE_NEAREST_NEIGHBOR", [Operand(x, (0.5, 3)), Operand([rows, columns], dtype="int32", constant=True)],
        (0.5, 3), shape=(1, rows, columns, 2), **flags,
    )
    np.testing.assert_array_equal(x[:, y][:, :, z], expected)
    return int(expected.size)


def test_resize_nearest() -> None:
    assert repeat(check_resize, 2 * REPEATS) > 0


def test_unknown_activations_are_refused() -> None:
    with pytest.raises(ModelError, match="must be one of NONE, RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1, not SIGN_BIT"):
        tflite.activation_bounds("SIGN_BIT", (1.0, 0))


def random_scales(rng: Any) -> tuple[float, float, float]:
    return scale(rng), scale(rng), scale(rng)


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
    rng, compared = np.random.default_rng(0), 0
    dense, depthwise = kind == "FULLY_CONNECTED", kind == "DEPTHWISE_CONV_2D"
    rounding = Rounding.FLOAT64_HALF_AWAY if dense else Rounding.TFLITE_DOUBLE
    in_float32 = unsigned and not dense
    options = {} if dense else {"stride_h": 1, "stride_w": 1}
    while compared < 100:
        sx, sw, sy = random_scales(rng)
        right = tflite.convolution_factor(sx, sw, sy, unsigned=in_float32)
        wrong = tflite.convolution_factor(sx, sw, sy, unsigned=not in_float32)
        sums = near_ties(right[0])
        sums = sums[requantize(right, rounding, sums) != requantize(wrong, rounding, sums)]
        if not sums.size:
            continue
        image = (1, 1) if dense else (1, 1, 1, 1)
        weight = (1, 1, 1, sums.size) if depthwise else (sums.size, *image[1:])
        multiplier = {"depth_multiplier": sums.size} if depthwise else {}
        expected = execute(
            kind,
            [Operand(np.zeros(image), (sx, 0)), Operand(np.zeros(weight), (sw, 0), constant=True),
             Operand(sums, (sx * sw, 0), dtype="int32", constant=True)],
            (sy, 0), unsigned=unsigned, shape=(*image[:-1], sums.size), **options, **multiplier,
        )
        np.testing.assert_array_equal(requantize(right, rounding, sums), expected.ravel())
        compared += sums.size


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
    rng = np.random.default_rng(0)
    stored = np.arange(-128, 128)
    products = np.outer(stored, stored).ravel()
    while True:
        sa, sb, _ = random_scales(rng)
        sy = float32(sa * sb * 2 ** rng.uniform(6, 9))
        right, wrong = (
            requantize(factor, Rounding.TFLITE_DOUBLE, products)
            for factor in (tflite.multiply_factor(sa, sb, sy), sa * sb / sy)
        )
        if (right != wrong).any():
            break
    expected = execute(
        "MUL", [Operand(stored[:, np.newaxis], (sa, 0)), Operand(stored[np.newaxis], (sb, 0))], (sy, 0),
        unsigned=unsigned, shape=(256, 256),
    )
    np.testing.assert_array_equal(right, expected.ravel())


@pytest.mark.parametrize("operator", ["RELU", "ABS", "QUANTIZE"])
def test_values_that_tell_the_rounding_of_the_ratio_apart(operator: str) -> None:
    """RELU and ABS divide scales in float32, QUANTIZE in float64."""
    rng = np.random.default_rng(0)
    stored = np.arange(-128, 128)
    magnitudes = np.arange(256)
    while True:
        sx = scale(rng)
        sy = float32(sx * 2 ** rng.uniform(-1, 2))
        in32, in64 = (
            requantize(factor, Rounding.TFLITE_DOUBLE, magnitudes)
            for factor in (tflite.ratio_float32(sx, sy), tflite.ratio(sx, sy))
        )
        if (in32 != in64).any():
            break
    expected = execute(operator, [Operand(stored, (sx, -128))], (sy, 0))
    np.testing.assert_array_equal(in64 if operator == "QUANTIZE" else in32, expected)
