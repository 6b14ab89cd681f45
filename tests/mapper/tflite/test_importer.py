# SPDX-License-Identifier: Apache-2.0
"""The importer of TFLite files: what a graph looks like."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert writes the files of this test (extra `test`)")

from tilewright_hdl.numerics import QuantizeRule, Rounding
from tilewright_mapper.graph import (
    AvgPool2d,
    Conv2d,
    HostOp,
    IntegerOp,
    Linear,
    MaxPool2d,
    Multiply,
    Pad2d,
    Quantize,
    Requantize,
    Reshape,
    Table,
)
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.tflite.importer import import_tflite

from .changes import WEIGHT, good
from .models import ModelBuilder
from .small import INT8, binary, fully_connected, single


def test_a_convolution_and_a_softmax() -> None:
    graph = import_tflite(good())
    conv, softmax = graph.nodes
    assert isinstance(conv, Conv2d)
    assert isinstance(softmax, IntegerOp)
    np.testing.assert_array_equal(conv.weight, WEIGHT.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(conv.weight_scale, [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(conv.bias, [5, -6, 7])
    assert (conv.stride, conv.dilation, conv.groups) == ((2, 2), (1, 1), 1)
    # SAME of a 3x3 kernel with stride 2 over 4x4: one pixel, at the bottom and at the right.
    assert conv.padding == (0, 0, 1, 1)
    assert (conv.low, conv.high) == (-5, 127)
    assert conv.rounding is Rounding.TFLITE_DOUBLE
    assert conv.provenance.module == "0: y"
    assert conv.provenance.operators == ("CONV_2D",)
    assert softmax.target == "softmax"
    np.testing.assert_array_equal(softmax.constants["beta"], [1.5])
    assert (graph.inputs, graph.outputs) == (("x",), ("z",))
    assert {t.name: (t.shape, t.quantization, t.channels_last) for t in graph.tensors.values()} == {
        "x": ((2, 4, 4), (0.5, 3), True),
        "y": ((3, 2, 2), (0.5, -5), True),
        "z": ((3, 2, 2), (1 / 256, -128), True),
    }


def test_names_of_fused_operators_are_cut_and_names_differ() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 4), "int8", **INT8, name="same")
    y = model.tensor((1, 4), "int8", **INT8, name="same")
    z = model.tensor((1, 4), "int8", **INT8, name="act;conv;bias")
    model.op("RELU", [x], [y])
    model.op("RELU6", [y], [z])
    graph = import_tflite(model.bytes([x], [z]))
    assert [node.name for node in graph] == ["0: same#2", "1: act"]
    assert graph.outputs == ("act;conv;bias",)


def test_a_fully_connected_layer_covers_the_image() -> None:
    weight = np.arange(24).reshape(2, 12)
    graph = import_tflite(fully_connected(weight))
    flatten, linear = graph.nodes
    assert isinstance(flatten, Reshape)
    assert flatten.channels_last
    assert isinstance(linear, Linear)
    assert linear.rounding is Rounding.FLOAT64_HALF_AWAY
    (conv,) = canonicalize(graph).nodes
    assert isinstance(conv, Conv2d)
    assert conv.rounding is Rounding.FLOAT64_HALF_AWAY
    np.testing.assert_array_equal(conv.weight, weight.reshape(2, 2, 3, 2).transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("zero_point", "dtype"), [(128, np.int8), (100, np.int16)])
def test_weights_of_uint8_are_wide_only_if_they_must(zero_point: int, dtype: type) -> None:
    weight = np.array([[0, 255, *([128] * 10)]])
    (_, linear) = import_tflite(fully_connected(weight, "uint8", zero_point)).nodes
    assert isinstance(linear, Linear)
    assert linear.weight.dtype == dtype
    np.testing.assert_array_equal(linear.weight, weight - zero_point)


def test_uint8_is_int8_and_128() -> None:
    graph = import_tflite(fully_connected(np.zeros((2, 12)), "uint8"))
    x = graph.tensor("x")
    assert (x.dtype, x.zero_point, x.unsigned, x.channels_last) == ("int8", 3 - 128, True, True)


def test_a_pool_divides_by_what_is_inside() -> None:
    options = {"filter_height": 2, "filter_width": 2, "stride_h": 2, "stride_w": 2}
    for padding, size, divisor in (("VALID", 2, 4), ("SAME", 3, 0)):
        model = single("AVERAGE_POOL_2D", (1, 5, 5, 2), (1, size, size, 2), padding=padding, **options)
        (node,) = import_tflite(model).nodes
        assert isinstance(node, AvgPool2d)
        assert (node.raw, node.divisor, node.rounding) == (True, divisor, Rounding.FLOAT64_HALF_AWAY)


def test_a_maximum_is_clamped_behind_the_pool() -> None:
    model = single(
        "MAX_POOL_2D",
        (1, 4, 4, 2),
        (1, 2, 2, 2),
        filter_height=2,
        filter_width=2,
        stride_h=2,
        stride_w=2,
        padding="VALID",
        fused_activation_function="RELU",
    )
    pool, clamp = import_tflite(model).nodes
    assert isinstance(pool, MaxPool2d)
    assert isinstance(clamp, Requantize)
    assert (clamp.low, clamp.high) == (3, 127)


def test_a_mean_over_an_image_is_a_pool() -> None:
    (node,) = import_tflite(single("MEAN", (1, 4, 5, 2), (1, 2), [1, 2])).nodes
    assert isinstance(node, AvgPool2d)
    assert (node.kernel, node.divisor, node.raw, node.rounding) == ((4, 5), 20, False, Rounding.TFLITE_DOUBLE)


def test_a_product_with_a_constant() -> None:
    (scalar,) = import_tflite(binary("MUL", [7])).nodes
    assert isinstance(scalar, Table)
    (per_channel,) = import_tflite(binary("MUL", [7, -8, 9])).nodes
    assert isinstance(per_channel, Conv2d)
    assert per_channel.groups == 3
    np.testing.assert_array_equal(per_channel.weight.reshape(-1), [4, -11, 6])
    constant, product = import_tflite(binary("MUL", np.zeros((1, 4, 4, 1)))).nodes
    assert isinstance(product, Multiply)
    assert constant.output in product.inputs


@pytest.mark.parametrize(
    ("around", "kind"), [([[0, 0], [1, 2], [0, 3], [0, 0]], Pad2d), ([[0, 0]] * 3 + [[0, 1]], HostOp)]
)
def test_a_border(around: Any, kind: type) -> None:
    result = tuple(n + sum(sizes) for n, sizes in zip((1, 4, 4, 2), around, strict=True))
    (node,) = import_tflite(single("PAD", (1, 4, 4, 2), result, around)).nodes
    assert isinstance(node, kind)
    if isinstance(node, Pad2d):
        assert (node.padding, node.value) == ((1, 0, 2, 3), 3)


def test_a_real_input_is_quantized_as_tflite_does() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 2), "float32", name="x")
    q = model.tensor((1, 4, 4, 2), "uint8", **INT8, name="q")
    y = model.tensor((1, 4, 4, 2), "float32", name="y")
    model.op("QUANTIZE", [x], [q])
    model.op("DEQUANTIZE", [q], [y])
    graph = import_tflite(model.bytes([x], [y]))
    node = graph.nodes[0]
    assert isinstance(node, Quantize)
    assert node.rule is QuantizeRule.HALF_AWAY
    assert [(t.dtype, t.shape, t.channels_last) for t in graph.tensors.values()] == [
        ("float32", (2, 4, 4), True),
        ("int8", (2, 4, 4), True),
        ("float32", (2, 4, 4), True),
    ]


def test_a_shape_that_is_computed_is_a_constant() -> None:
    """Converters write ``reshape(x, [shape(x)[0], -1])`` with four operators."""
    model = ModelBuilder()
    x = model.tensor((1, 2, 3), "int8", **INT8, name="x")
    lists = [model.tensor((1,), "int32", data=[value]) for value in (0, 1, 1)]
    length = model.tensor((), "int32", data=-1)
    shape, batch, both = (model.tensor(size, "int32", name=f"s{len(size)}{size}") for size in ((3,), (), (2,)))
    y = model.tensor((1, 6), "int8", **INT8, name="y")
    model.op("SHAPE", [x], [shape])
    model.op("STRIDED_SLICE", [shape, *lists], [batch], shrink_axis_mask=1)
    model.op("PACK", [batch, length], [both], values_count=2)
    model.op("RESHAPE", [x, both], [y])
    (node,) = import_tflite(model.bytes([x], [y])).nodes
    assert isinstance(node, Reshape)
