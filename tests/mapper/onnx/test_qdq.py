# SPDX-License-Identifier: Apache-2.0
"""Float operators between QuantizeLinear and DequantizeLinear: which integer operators they become."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from tests.mapper.onnx.models import FLOAT, model, node, run
from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import Rounding
from tilewright_mapper.graph import Conv2d, Dequantize, Graph, Quantize, Rounded, Unsupported
from tilewright_mapper.onnx.importer import import_onnx
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run

Array = np.ndarray[Any, Any]
IMAGE = (4, 6, 7)
VECTOR = (24,)


class Builder:
    """A model that grows operator by operator; ``dtype`` is that of its activations."""

    def __init__(self, dtype: str = "int8"):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array | np.generic] = {}
        self.dtype = np.dtype(dtype)
        self.rng = np.random.default_rng(7)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(node(kind, inputs, [name], **attributes))
        return name

    def const(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def q(self, x: str, scale: float = 0.03, zero_point: int = 4) -> str:
        """Quantize and dequantize an activation."""
        offset = 128 if self.dtype == np.uint8 else 0
        numbers = self.const(np.float32(scale)), self.const(self.dtype.type(zero_point + offset))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *numbers), *numbers)

    def weight(self, *shape: int, axis: int | None = 0, dtype: str = "int8") -> str:
        """Quantized weights, with a scale for each index along ``axis``."""
        info = np.iinfo(dtype)
        values = self.rng.integers(info.min, info.max + 1, shape).astype(dtype)
        count = () if axis is None else shape[axis]
        scale = self.rng.uniform(0.001, 0.005, count).astype(np.float32)
        zero = np.full(count, 120 if dtype == "uint8" else 0, dtype)
        extra = {} if axis is None else {"axis": axis}
        return self.op("DequantizeLinear", self.const(values), self.const(scale), self.const(zero), **extra)

    def constant(self, *shape: int) -> str:
        """Quantized constant with a zero point, in the type of the activations."""
        info = np.iinfo(self.dtype)
        values = self.rng.integers(info.min, info.max + 1, shape).astype(self.dtype)
        numbers = self.const(np.float32(0.0217)), self.const(self.dtype.type(17))
        return self.op("DequantizeLinear", self.const(values), *numbers)

    def bytes(self, output: str, shape: tuple[int, ...]) -> bytes:
        return model(self.nodes, {"x": (FLOAT, ["N", *shape])}, {output: FLOAT}, self.constants)


def conv(b: Builder, x: str, *, dtype: str = "int8", **attributes: Any) -> str:
    bias = b.const(b.rng.standard_normal(6).astype(np.float32))
    return b.op("Conv", x, b.weight(6, 4, 3, 3, dtype=dtype), bias, **attributes)


def branches(b: Builder, op: str, **attributes: Any) -> str:
    """Two quantized branches of the input joined by ``op``."""
    first = b.q(b.op("Relu", b.q("x")), 0.02, -128)
    return b.q(b.op(op, b.q("x"), first, **attributes), 0.05, -3)


def flattened(b: Builder) -> str:
    """What exporters write for a flatten with an open batch."""
    x = b.q("x")
    batch = b.op("Gather", b.op("Shape", x), b.const(np.int64(0)), axis=0)
    first = b.op("Unsqueeze", batch, b.const(np.array([0])))
    shape = b.op("Concat", first, b.const(np.array([-1])), axis=0)
    flat = b.q(b.op("Reshape", x, shape))
    return b.q(b.op("Gemm", flat, b.weight(5, 168, axis=0), transB=1), 0.2)


CASES: dict[str, tuple[Callable[[Builder], str], tuple[int, ...], list[str]]] = {
    "convolution": (lambda b: b.q(conv(b, b.q("x"), pads=[1, 1, 1, 1]), 0.06), IMAGE, ["Conv2d"]),
    "uneven padding": (lambda b: b.q(conv(b, b.q("x"), pads=[0, 1, 2, 1], strides=[2, 1]), 0.06), IMAGE, ["Conv2d"]),
    "same padding": (lambda b: b.q(conv(b, b.q("x"), auto_pad="SAME_LOWER", strides=[2, 2]), 0.06), IMAGE, ["Conv2d"]),
    "pad": (
        lambda b: b.q(conv(b, b.op("Pad", b.q("x"), b.const(np.array([0, 0, 1, 0, 0, 0, 2, 1])))), 0.06), IMAGE,
        ["Conv2d"],
    ),
    "relu": (lambda b: b.q(b.op("Relu", conv(b, b.q("x"))), 0.03, -128), IMAGE, ["Conv2d"]),
    "clip": (
        lambda b: b.q(b.op("Clip", conv(b, b.q("x")), b.const(np.float32(0)), b.const(np.float32(6))), 0.06), IMAGE,
        ["Conv2d"],
    ),
    "gemm": (lambda b: b.q(b.op("Gemm", b.q("x"), b.weight(24, 5, axis=1)), 0.06), VECTOR, ["Conv2d"]),
    "matmul": (lambda b: b.q(b.op("MatMul", b.q("x"), b.weight(24, 5, axis=None)), 0.06), (3, 24), ["Conv2d"]),
    "flatten and gemm": (flattened, IMAGE, ["Conv2d"]),
    "add": (lambda b: branches(b, "Add"), IMAGE, ["Requantize", "Add"]),
    "add a constant": (
        lambda b: b.q(b.op("Add", b.constant(4, 1, 7), b.q("x")), 0.05), IMAGE, ["ConstantTensor", "Add"],
    ),
    "multiply": (
        lambda b: b.q(b.op("Mul", b.q(b.op("GlobalAveragePool", b.q("x")), 0.01), b.q("x")), 0.05), IMAGE,
        ["AvgPool2d", "Multiply"],
    ),
    "multiply by a constant": (
        lambda b: b.q(b.op("Mul", b.q("x"), b.constant(1, 24)), 0.05), VECTOR, ["ConstantTensor", "Multiply"],
    ),
    "layer norm": (
        lambda b: b.q(b.op("LayerNormalization", b.q("x"), b.weight(24), b.weight(24)), 0.0213), (3, 24), ["HostOp"],
    ),
    "max pool": (
        lambda b: b.q(b.op("MaxPool", b.q("x"), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 2, 1])), IMAGE,
        ["MaxPool2d"],
    ),
    "average pool": (
        lambda b: b.q(b.op("AveragePool", b.q("x"), kernel_shape=[2, 2], strides=[2, 2]), 0.0213), IMAGE, ["AvgPool2d"],
    ),
    "padded average pool": (
        lambda b: b.q(
            b.op("AveragePool", b.q("x"), kernel_shape=[3, 3], pads=[1, 0, 0, 1], count_include_pad=1), 0.0213
        ),
        IMAGE, ["AvgPool2d"],
    ),
    "global average": (lambda b: b.q(b.op("GlobalAveragePool", b.q("x")), 0.01), IMAGE, ["AvgPool2d"]),
    "mean": (
        lambda b: b.q(b.op("ReduceMean", b.q("x"), b.const(np.array([2, -1])), keepdims=0), 0.0113), IMAGE,
        ["AvgPool2d"],
    ),
    "sigmoid": (lambda b: b.q(b.op("Sigmoid", b.q("x")), 1 / 256, -128), IMAGE, ["Table"]),
    "hard sigmoid": (lambda b: b.q(b.op("HardSigmoid", b.q("x"), alpha=0.3), 1 / 256, -128), IMAGE, ["Table"]),
    "hard swish": (lambda b: b.q(b.op("HardSwish", b.q("x"))), IMAGE, ["Table"]),
    "tanh": (lambda b: b.q(b.op("Tanh", b.q("x")), 1 / 128, 0), IMAGE, ["Table"]),
    "leaky relu": (lambda b: b.q(b.op("LeakyRelu", b.q("x"), alpha=0.2)), IMAGE, ["Table"]),
    "swish": (
        lambda b: (lambda x: b.q(b.op("Mul", x, b.q(b.op("Sigmoid", x), 1 / 256, -128))))(b.q("x")), IMAGE, ["Table"],
    ),
    "division by a number": (lambda b: b.q(b.op("Div", b.q("x"), b.const(np.float32(3))), 0.01), IMAGE, ["Table"]),
    "softmax": (lambda b: b.q(b.op("Softmax", b.q("x"), axis=-1), 1 / 256, -128), VECTOR, ["HostOp"]),
    "concatenation": (lambda b: branches(b, "Concat", axis=1), IMAGE, ["Requantize", "HostOp"]),
    "transpose": (lambda b: b.q(b.op("Transpose", b.q("x"), perm=[0, 2, 3, 1]), 0.05), IMAGE, ["HostOp"]),
    "squeeze": (
        lambda b: b.q(b.op("Gemm", b.op("Squeeze", b.q(b.op("GlobalAveragePool", b.q("x")), 0.01),
                                        b.const(np.array([2, 3]))), b.weight(4, 3, axis=None)), 0.05),
        IMAGE, ["AvgPool2d", "Conv2d"],
    ),
    "slice": (
        lambda b: b.q(b.op("Slice", b.q("x"), b.const(np.array([1, 0])), b.const(np.array([3, 2**62])),
                           b.const(np.array([1, -1])), b.const(np.array([1, 2]))), 0.05),
        IMAGE, ["HostOp", "HostOp"],
    ),
}  # fmt: skip


def check(file: bytes, shape: tuple[int, ...], *, step: float = 1.01) -> Graph:
    """Canonical graph; it and the imported one are as good as one step from onnxruntime's simulation in floats."""
    imported = import_onnx(file)
    graph = canonicalize(imported)
    x = np.random.default_rng(5).uniform(-4, 4, (16, *shape)).astype(np.float32)
    (expected,) = run(file, {"x": x}).values()
    last = graph.producers()[graph.outputs[0]]
    assert isinstance(last, Dequantize)
    scale, _ = graph.tensor(last.input).quantization
    for each in (imported, graph):
        steps = np.abs(reference_run(each, x)[each.outputs[0]] - expected) / scale
        assert steps.max() <= step
        assert np.mean(steps > 0.5) < 2e-3
    assert all(n.rounding is Rounding.FLOAT_HALF_EVEN for n in graph if isinstance(n, Rounded))
    return graph


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", CASES)
def test_operators(name: str, dtype: str) -> None:
    build, shape, expected = CASES[name]
    builder = Builder(dtype)
    graph = check(builder.bytes(build(builder), shape), shape)
    assert [n.op for n in graph if not isinstance(n, Quantize | Dequantize)] == expected


def test_unsigned_weights_are_wide() -> None:
    builder = Builder()
    output = builder.q(conv(builder, builder.q("x"), dtype="uint8"), 0.06)
    graph = check(builder.bytes(output, IMAGE), IMAGE)
    (layer,) = (n for n in graph if isinstance(n, Conv2d))
    assert layer.weight.dtype == np.int16
    assert layer.weight.max() > 127


def test_weights_quantized_in_the_file() -> None:
    """Some quantizers leave the weights in float, behind a QuantizeLinear."""
    builder = Builder()
    values = builder.rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
    scale = builder.const(np.abs(values).max((1, 2, 3)) / 127)
    zero = builder.const(np.zeros(6, np.int8))
    integers = builder.op("QuantizeLinear", builder.const(values), scale, zero, axis=0)
    weight = builder.op("DequantizeLinear", integers, scale, zero, axis=0)
    graph = check(builder.bytes(builder.q(builder.op("Conv", builder.q("x"), weight), 0.2), IMAGE), IMAGE)
    assert "Conv2d" in [n.op for n in graph]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda b: b.op("BatchNormalization", b.q("x"), *[b.const(np.ones(4, np.float32))] * 4), "folded"),
        (lambda b: b.op("Gemm", b.q("x"), b.weight(24, 5, axis=1), alpha=0.5), "alpha must be 1"),
        (lambda b: b.op("Transpose", b.q("x"), perm=[1, 0, 2, 3]), "batch in front"),
        (lambda b: b.op("LpPool", b.q("x"), kernel_shape=[2, 2]), "no operator that is served"),
        (lambda b: b.op("MaxPool", b.q("x"), kernel_shape=[20, 20]), "must fit"),
        (lambda b: b.op("Reshape", b.q("x"), b.const(np.array([3, -1]))), "keep the batch"),
    ],
)
def test_refused(build: Callable[[Builder], str], words: str) -> None:
    builder = Builder()
    output = builder.q(build(builder))
    graph = import_onnx(builder.bytes(output, IMAGE))
    first = next(n for n in graph if isinstance(n, Unsupported))
    assert words in first.reason
    assert first.remedy
    canonicalize(graph)
    with pytest.raises(ModelError, match="cannot be run"):
        reference_run(graph, np.zeros((1, *IMAGE), np.float32))


def test_weights_turned_and_bounded_behind_their_quantization() -> None:
    """As Brevitas writes its linear layers; its activations have a range without -128."""
    builder = Builder()
    low, high = builder.const(np.int8(-127)), builder.const(np.int8(127))
    values = builder.const(builder.rng.integers(-128, 128, (5, 24)).astype(np.int8))
    scale, zero = builder.const(np.linspace(0.001, 0.004, 5, dtype=np.float32)), builder.const(np.zeros(5, np.int8))
    weight = builder.op("DequantizeLinear", builder.op("Clip", values, low, high), scale, zero, axis=0)
    numbers = builder.const(np.float32(0.03)), builder.const(np.int8(0))
    narrow = builder.op("Clip", builder.op("QuantizeLinear", "x", *numbers), low, high)
    x = builder.op("DequantizeLinear", narrow, *numbers)
    output = builder.q(builder.op("MatMul", x, builder.op("Transpose", weight, perm=[1, 0])), 0.06)
    graph = check(builder.bytes(output, VECTOR), VECTOR)
    assert [n.op for n in graph] == ["Quantize", "Conv2d", "Dequantize"]
    assert graph.nodes[0].low == -127  # type: ignore[attr-defined]
    assert graph.nodes[1].weight.min() == -127  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "unsigned"), [(None, True), (2, True), (3, False)])
def test_no_zero_point(kind: int | None, unsigned: bool) -> None:
    """Then the type is uint8, or what the operator says."""
    extra = {} if kind is None else {"output_dtype": kind}
    nodes = [node("QuantizeLinear", ["x", "s"], ["q"], **extra)]
    file = model(nodes, {"x": (FLOAT, ["N", 4])}, {"q": 2 if unsigned else 3}, {"s": np.float32(0.1)}, opset=21)
    graph = import_onnx(file)
    assert graph.tensor(graph.outputs[0]).unsigned == unsigned
    x = np.linspace(-30, 30, 40, dtype=np.float32).reshape(10, 4)
    expected = run(file, {"x": x})["q"].astype(int) - (128 if unsigned else 0)
    np.testing.assert_array_equal(reference_run(graph, x)[graph.outputs[0]], expected)


def test_a_float_model_is_refused() -> None:
    file = model([node("Relu", ["x"], ["y"])], {"x": (FLOAT, ["N", 4])}, {"y": FLOAT}, {})
    with pytest.raises(ModelError, match="quantize_static"):
        import_onnx(file)


@pytest.mark.parametrize("shape", [[8, 4], ["N", "M"], ["N"], ["N", 0]])
def test_batches_and_open_sizes(shape: list[int | str]) -> None:
    builder = Builder()
    output = builder.q("x")
    with pytest.raises(ModelError, match="Input 'x' must have"):
        import_onnx(model(builder.nodes, {"x": (FLOAT, shape)}, {output: FLOAT}, builder.constants))
