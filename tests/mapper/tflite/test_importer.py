# SPDX-License-Identifier: Apache-2.0
"""The importer of TFLite files: what a graph looks like, what is refused, and what is left out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert writes the files of this test (extra `test`)")

from tilewright_hdl.errors import ModelError, ModelFileError
from tilewright_hdl.numerics import QuantizeRule, Rounding
from tilewright_mapper.graph import (
    AvgPool2d,
    Conv2d,
    Graph,
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
    Unsupported,
)
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.tflite.importer import import_tflite

from .changes import WEIGHT, Change, changed, good, option, quantization, tensor
from .models import ModelBuilder

INT8: dict[str, Any] = {"scale": 0.5, "zero_point": 3}


def single(kind: str, shape: tuple[int, ...], result: tuple[int, ...], *more: Any, **options: Any) -> bytes:
    """A model of one int8 operator that keeps the quantization; ``more`` are integers that it reads."""
    model = ModelBuilder()
    x = model.tensor(shape, "int8", **INT8, name="x")
    lists = [model.tensor(np.shape(values), "int32", data=values) for values in more]
    y = model.tensor(result, "int8", **INT8, name="y")
    model.op(kind, [x, *lists], [y], **options)
    return model.bytes([x], [y])


def binary(kind: str, other: Any, dtype: str = "int8", scale: float = 2.0, zero_point: int = 3) -> bytes:
    """A model of an operator of an image and a constant."""
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 3), dtype, **INT8, name="x")
    c = model.tensor(np.shape(other), dtype, scale=0.25, zero_point=zero_point, data=other)
    y = model.tensor((1, 4, 4, 3), dtype, scale=scale, zero_point=3, name="y")
    model.op(kind, [x, c], [y])
    return model.bytes([x], [y])


# --- What a graph looks like.


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


def fully_connected(weight: Any, dtype: str = "int8", zero_point: int = 0) -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 2, 3, 2), dtype, **INT8, name="x")
    w = model.tensor(np.shape(weight), dtype, scale=0.01, zero_point=zero_point, data=weight)
    y = model.tensor((1, np.shape(weight)[0]), dtype, scale=4.0, name="y")
    model.op("FULLY_CONNECTED", [x, w], [y])
    return model.bytes([x], [y])


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


# --- What is left out.


def left_out(graph: Graph) -> list[Unsupported]:
    return [node for node in graph if isinstance(node, Unsupported)]


def test_everything_that_is_not_served_is_found_at_once() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 2), "float32", name="x")
    a = model.tensor((1, 4, 4, 2), "float32", name="a")
    b = model.tensor((1, 4, 4, 2), "float32", name="b")
    q = model.tensor((1, 4, 4, 2), "int8", **INT8, name="q")
    y = model.tensor((1, 4, 4, 2), "int8", **INT8, name="y")
    model.op("COS", [x], [a])
    model.op("RELU", [a], [b])
    model.op("QUANTIZE", [b], [q])
    model.op("CUSTOM:mine", [q], [y])
    graph = import_tflite(model.bytes([x], [y]))
    cosine, relu, mine = left_out(graph)
    assert cosine.reason == "computes in floating point"
    assert relu.reason == "works on 'a' of type float32; int8 and uint8 are served"
    assert mine.reason == "is none of the operators that are served"
    for node in (cosine, relu):
        assert "full integers" in node.remedy
        assert "tilewright.quantize" in node.remedy
    assert mine.provenance.operators == ("CUSTOM:mine",)
    assert left_out(canonicalize(graph)) == [cosine, relu, mine]


def hybrid() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 12), "float32", name="x")
    w = model.tensor((2, 12), "int8", scale=0.1, data=np.ones((2, 12)))
    y = model.tensor((1, 2), "float32", name="y")
    model.op("FULLY_CONNECTED", [x, w], [y])
    return model.bytes([x], [y])


def of_rank_5() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 4), "int8", **INT8, name="x")
    y = model.tensor((2, 1, 1, 2, 1), "int8", **INT8, name="y")
    z = model.tensor((2, 1, 1, 2, 1), "int8", **INT8, name="z")
    shape = model.tensor((5,), "int32", data=[2, 1, 1, 2, 1])
    model.op("RESHAPE", [x, shape], [y])
    model.op("RELU", [y], [z])
    return model.bytes([x], [z])


def weights_that_are_computed() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 2), "int8", **INT8, name="x")
    w = model.tensor((1, 2), "int8", **INT8, name="w")
    y = model.tensor((1, 1), "int8", **INT8, name="y")
    model.op("RELU", [x], [w])
    model.op("FULLY_CONNECTED", [x, w], [y])
    return model.bytes([x], [y])


LEFT_OUT: dict[str, tuple[Callable[[], bytes], str]] = {
    "hybrid": (hybrid, "works on 'x' of type float32"),
    "rank 5": (of_rank_5, r"works on 'y' of shape \[2, 1, 1, 2, 1\]; it must be one image"),
    "weights": (weights_that_are_computed, "computes its weights 'w' while it runs"),
    "int16": (lambda: changed(_as_int16), "works on 'x' of type int16"),
    "no scale": (lambda: changed(tensor(0, quantization=None)), "works on 'x', which is int8 without a scale"),
    "activation": (lambda: changed(option(0, fusedActivationFunction=4)), "fused activation TANH"),
    "mean of the batch": (lambda: single("MEAN", (1, 4), (1, 4), [0], keep_dims=True), "which is no mean"),
    "constants alone": (lambda: _of_constants(), "computes with constants alone"),
    "batch": (lambda: single("TRANSPOSE", (1, 4, 5, 2), (4, 1, 5, 2), [1, 0, 2, 3]), "works on 'y' of shape"),
}


def _as_int16(model: Any) -> None:
    model.subgraphs[0].tensors[0].type = 7


def _of_constants() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 2), "int8", **INT8, name="x")
    a, b = (model.tensor((1, 2), "int8", **INT8, data=[[1, 2]]) for _ in range(2))
    c = model.tensor((1, 2), "int8", **INT8, name="c")
    y = model.tensor((1, 2), "int8", **INT8, name="y")
    model.op("ADD", [a, b], [c])
    model.op("ADD", [x, c], [y])
    return model.bytes([x], [y])


@pytest.mark.parametrize("what", LEFT_OUT)
def test_left_out(what: str) -> None:
    build, reason = LEFT_OUT[what]
    nodes = left_out(import_tflite(build()))
    assert nodes
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(nodes[0].reason)
    assert nodes[0].remedy


# --- What is refused.


def _as_uint8(model: Any) -> None:
    tensor(3, type=3)(model)
    quantization(3, zeroPoint=[5])(model)


REFUSED: dict[str, tuple[Change, str]] = {
    "batch": (tensor(0, shape=[2, 4, 4, 2]), r"Input 'x' must have a batch of 1 .* not shape \[2, 4, 4, 2\]"),
    "open height": (tensor(0, shapeSignature=[-1, -1, 4, 2]), r"not shape \[-1, -1, 4, 2\]"),
    "output shape": (tensor(3, shape=[1, 2, 3, 3]), r"Output 'y' of CONV_2D '0: y' must have shape \[1, 2, 2, 3\]"),
    "output type": (_as_uint8, "Tensors of CONV_2D '0: y' must have one type, not int8, uint8"),
    "bias length": (
        tensor(2, shape=[1, 3], quantization=None),
        r"Bias 'b' of CONV_2D '0: y' must be int32 of shape \[3\]",
    ),
    "bias zero point": (quantization(2, zeroPoint=[0, 1, 0]), "Zero point of the bias 'b' .* must be 0"),
    "weights zero point": (quantization(1, zeroPoint=[0, 1, 0]), "Zero points of the weights 'w' .* must be 0"),
    "weights axis": (quantization(1, quantizedDimension=1), "Weights 'w' of .* must have one scale, or 3 along axis 0"),
    "channels": (tensor(0, shape=[1, 4, 4, 3]), "Weights of CONV_2D '0: y' must fit 3 input channels"),
    "softmax": (quantization(4, scale=[0.1]), "SOFTMAX '1: z': Output of SOFTMAX must have the scale 1/256"),
    "valid": (option(0, padding=1, dilationHFactor=2), r"'y' of CONV_2D '0: y' must have shape \[1, 0, 1, 3\]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    change, message = REFUSED[what]
    with pytest.raises(ModelError, match=message):
        import_tflite(changed(change))


def test_all_faults_stand_in_one_message() -> None:
    def change(model: Any) -> None:
        quantization(4, scale=[0.1])(model)
        quantization(2, zeroPoint=[0, 1, 0])(model)

    with pytest.raises(ModelError, match=r"(?s)Zero point of the bias 'b'.*\n.*Output of SOFTMAX"):
        import_tflite(changed(change))


def test_a_damaged_file_is_refused_by_its_reader() -> None:
    with pytest.raises(ModelFileError):
        import_tflite(good()[:100])


def unlike(
    kind: str, *, more: Any = (), scale: float = 0.25, result: tuple[int, ...] = (1, 4, 4, 2), **options: Any
) -> bytes:
    """An operator that moves integers, whose output has another scale."""
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 2), "int8", **INT8, name="x")
    lists = [model.tensor(np.shape(values), "int32", data=values) for values in more]
    y = model.tensor(result, "int8", scale=scale, zero_point=3, name="y")
    model.op(kind, [x, *lists], [y], **options)
    return model.bytes([x], [y])


POOL: dict[str, Any] = {"filter_height": 1, "filter_width": 1, "stride_h": 1, "stride_w": 1}


@pytest.mark.parametrize(
    "model",
    [
        unlike("MAX_POOL_2D", **POOL),
        unlike("AVERAGE_POOL_2D", **POOL),
        unlike("RESHAPE", more=[[1, 4, 4, 2]]),
        unlike("PAD", more=[[[0, 0]] * 4]),
        unlike("CONCATENATION", axis=3),
        unlike("TRANSPOSE", more=[[0, 1, 2, 3]]),
        unlike("RESIZE_NEAREST_NEIGHBOR", more=[[4, 4]]),
    ],
)
def test_what_moves_integers_keeps_their_scale(model: bytes) -> None:
    with pytest.raises(ModelError, match=r"Type, scale and zero point of the tensors of \w+ '0: y' must be the same"):
        import_tflite(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (binary("ADD", [[7]], scale=2.0**-21), "Scale of output 'y' of ADD '0: y' must be more than"),
        (binary("ADD", [1, 2]), r"Shapes of the inputs of ADD '0: y' must be the same, or 1"),
        (fully_connected(np.zeros((2, 5))), "Weights of FULLY_CONNECTED '0: y' must divide the 12 elements"),
        (unlike("LOGISTIC"), "LOGISTIC '0: y': Output of LOGISTIC must have scale 1/256"),
        (single("SLICE", (1, 4), (1, 4), [0, 1], [1, 4]), r"Begin and size of SLICE '0: y' must lie within \[1, 4\]"),
        (single("RESHAPE", (1, 4), (4,), [5]), r"must have shape \[5\], not \[4\]"),
        (single("RESHAPE", (1, 4), (1, 5), [1, 5]), r"must have as many elements as \[1, 4\]"),
        (single("MEAN", (1, 4, 4, 2), (1, 2), [1, 4]), "Axes of MEAN '0: y' must be those of 4 axes"),
        (
            single("TRANSPOSE", (1, 4, 2), (1, 4, 2), [0, 1, 1]),
            "Order of TRANSPOSE '0: y' must name each of 3 axes once",
        ),
        (single("SQUEEZE", (1, 4, 2), (4, 2), squeeze_dims=[1]), "Axes of SQUEEZE '0: y' must have size 1"),
        (single("PAD", (1, 4), (1, 4), [[0, 0], [-1, 1]]), "Sizes of PAD '0: y' must be 2 pairs of 0 or more"),
        (single("SOFTMAX", (1, 4), (1, 4), [5]), "Number of inputs of SOFTMAX '0: y' must be 1, not 2"),
    ],
)
def test_contradictions(model: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_tflite(model)


def test_an_output_that_never_changes() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 4), "int8", **INT8, name="x")
    s = model.tensor((2,), "int32", name="s")
    model.op("SHAPE", [x], [s])
    with pytest.raises(ModelError, match="Output 's' must depend on the input"):
        import_tflite(model.bytes([x], [s]))


def test_a_result_that_would_leave_int32_is_refused() -> None:
    """The reference's kernels are undefined there."""
    for model in (
        changed(quantization(3, scale=[1e-7])),
        fully_connected(np.full((2, 12), 127)).replace(np.float32(4).tobytes(), np.float32(1e-9).tobytes()),
    ):
        with pytest.raises(ModelError, match="Rescale of Conv2d '0: y' must stay within int32"):
            canonicalize(import_tflite(model))
