# SPDX-License-Identifier: Apache-2.0
"""The functions of LiteRT's reference kernels, compared with its interpreter.

Each ``check_*`` makes one random operator, runs it in the interpreter and compares every value; a test repeats one with
the seeds 0, 1, 2, ...
"""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from tilewright_hdl.errors import ModelError
from tilewright_sim import tflite_functions as tflite

from .tflite_operands import REPEATS, Operand, execute, float32, int8s, repeat, scale, zero_point


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


@pytest.mark.parametrize(("step", "target"), [(0.2514, (0.1676, 0)), (0.0588, (0.1176, -60))])
def test_tables_of_float_functions_multiply_by_the_reciprocal(step: float, target: tuple[float, int]) -> None:
    """GELU of large numbers is nearly the number itself, and every second one a tie here."""
    source, target = (float32(step), -100), (float32(target[0]), target[1])
    stored = np.arange(-128, 128).astype(np.int8)
    expected = execute("GELU", [Operand(stored, source)], target)
    np.testing.assert_array_equal(tflite.table("GELU", source, target), expected)


@pytest.mark.parametrize("alpha", [0.5, -0.5])
def test_leaky_relu_rounds_before_it_changes_the_sign(alpha: float) -> None:
    """Every second value is a tie here, and the first rounding of ``TFLITE_DOUBLE`` is not symmetric."""
    quantization = (0.25, 20)
    stored = np.arange(-128, 128).astype(np.int8)
    expected = execute("LEAKY_RELU", [Operand(stored, quantization)], quantization, alpha=alpha)
    np.testing.assert_array_equal(tflite.table("LEAKY_RELU", quantization, quantization, alpha=alpha), expected)


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


@pytest.mark.parametrize("operator", sorted(tflite.TABLE_OPERATORS - {"NEG"}))
def test_tables_of_absurd_scales_are_refused_or_right(operator: str) -> None:
    """Without a warning; where the reference's own arithmetic is defined, with its result."""
    stored = np.arange(-128, 128).astype(np.int8)
    for step in (1e-45, 1e-38, 1e-20, 1.0, 1e20, 3e38):
        for width in (1e-45, 1e-38, 1e-20, 1 / 256, 1e20, 3e38):
            source, target = (float32(step), 5), (float32(width), -7)
            try:
                entries = tflite.table(operator, source, target)
            except ModelError:
                continue
            np.testing.assert_array_equal(entries, execute(operator, [Operand(stored, source)], target))


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
    high = 120 if rng.random() < 0.1 else 12
    shape = (1, *(int(n) for n in rng.integers(1, high, 2)), int(rng.integers(1, 9)))
    axes = [(1, 2), (2, 1), (1,), (2,), (3,), (1, 2, 3), (-3, -2), (0, 1), (1, 1)][int(rng.integers(0, 9))]
    source = (scale(rng), zero_point(rng))
    target = source if rng.random() < 0.3 else (float32(source[0] * 2 ** rng.uniform(-3, 3)), zero_point(rng))
    if rng.random() < 0.1:
        target = (float32(source[0] * 2.0**28), target[1])  # So small a factor that the shift ends at 62.
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


def test_mean_divides_its_multiplier_rounding_down() -> None:
    """The exact mean is 2.5 here, and the multiplier a little less than 5/12."""
    x = np.array([1, 2, 3], np.int8).reshape(1, 3, 1, 1)
    axis = Operand([1], dtype="int32", constant=True)
    expected = execute("MEAN", [Operand(x, (1.25, 0)), axis], (1.0, 0), shape=(1, 1, 1))
    assert expected == 2
    assert tflite.mean(x, (1,), (1.25, 0), (1.0, 0)) == expected


def test_mean_keeps_its_shift_within_that_of_the_hardware() -> None:
    assert tflite.mean_rescale(1 << 12, (1.0, 0), (2.0**28, 0)) == (1 << 22, 62)


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


def test_concatenation_of_uint8_adds_what_the_zero_point_makes_in_float32() -> None:
    """Every second value is near a tie; other orders of the steps give other results."""
    source, target = (float32(0.0605), -63), (float32(0.121), 3)
    stored = np.arange(-128, 128).astype(np.int8)
    expected = execute("CONCATENATION", [Operand(stored, source)], target, unsigned=True, axis=0)
    np.testing.assert_array_equal(tflite.concatenation_table(source, target), expected)


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


@pytest.mark.parametrize("flags", [{}, {"half_pixel_centers": True}])
def test_resize_nearest_divides_in_float32(flags: dict[str, bool]) -> None:
    """Sizes for which float64 gives another row."""
    x = np.arange(4).astype(np.int8).reshape(1, 4, 1, 1)
    expected = execute(
        "RESIZE_NEAREST_NEIGHBOR", [Operand(x, (0.5, 3)), Operand([98, 1], dtype="int32", constant=True)], (0.5, 3),
        shape=(1, 98, 1, 1), **flags,
    )
    np.testing.assert_array_equal(tflite.nearest_indices(4, 98, **flags), expected.ravel())


@pytest.mark.parametrize("divisor", [10.5, 14.5, 19.5, 21.5])
def test_bounds_of_activations_are_divided_by_the_scale(divisor: float) -> None:
    """The scales are the nearest to 6 over a tie; multiplying by the reciprocal gives another bound."""
    target = (float32(6 / divisor), -128)
    stored = np.arange(-128, 128).astype(np.int8)
    expected = execute("RELU6", [Operand(stored, target)], target)
    assert tflite.activation_bounds("RELU6", target) == (-128, expected.max())
    np.testing.assert_array_equal(tflite.table("RELU6", target, target), expected)


def test_unknown_activations_are_refused() -> None:
    with pytest.raises(ModelError, match="must be one of NONE, RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1, not SIGN_BIT"):
        tflite.activation_bounds("SIGN_BIT", (1.0, 0))
