# SPDX-License-Identifier: Apache-2.0
"""Importers of TFLite's operators that work element by element."""

import math

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import ADD_LEFT_SHIFT, QuantizeRule, Rounding
from tilewright_sim import tflite_functions
from tilewright_sim.tflite_functions import TABLE_OPERATORS, multiply_factor

from ..graph import (
    Add,
    Conv2d,
    Dequantize,
    Elementwise,
    Graph,
    IntegerOp,
    Multiply,
    Quantize,
    Requantize,
    Shape,
    Subtract,
    Table,
    Tensor,
)
from ..reference_run import reference_run
from .context import Activation, Call
from .conv import narrowed, weight_scale
from .network import QUANTIZE_REMEDY, Refused, malformed
from .shapes import broadcast, graph_shape

__all__ = ["FUNCTIONS", "add", "dequantize", "function", "multiply", "quantize", "softmax", "subtract"]

FUNCTIONS = TABLE_OPERATORS
"""Operators that :func:`function` imports."""

ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")

ALL_INTEGERS = np.arange(-128, 128, dtype=np.int8)


def add(call: Call) -> None:
    """A sum; one with a single number is a table."""
    _sum(call, Add)


def subtract(call: Call) -> None:
    """A difference; one with a single number is a table."""
    _sum(call, Subtract)


def _sum(call: Call, kind: type[Elementwise]) -> None:
    a, b, out = _operands(call)
    common = 2.0 * max(a.scale, b.scale)
    # LiteRT's kernels end the process if the last multiplier rounds to one.
    if common / ((1 << ADD_LEFT_SHIFT) * out.scale) > 1 - 2.0**-31:
        must = f"be more than {common / (1 << ADD_LEFT_SHIFT):.9g}"
        raise malformed(f"Scale of output {out.name!r} of {call}", must, f"{out.scale:.9g}")
    _binary(call, kind, a, b, out)


def multiply(call: Call) -> None:
    """A product; one with a constant for each channel is a depthwise convolution."""
    a, b, out = _operands(call)
    for x, factors in ((a, b), (b, a)):
        if factors.values is not None and _is_per_channel(x.shape, factors.shape, out.shape):
            _per_channel(call, x, factors, out)
            return
    _binary(call, Multiply, a, b, out)


def _operands(call: Call) -> tuple[Activation, Activation, Activation]:
    call.need_inputs(2)
    a, b = call.input(0), call.input(1)
    shape = broadcast(a.shape, b.shape)
    if shape is None:
        raise malformed(f"Shapes of the inputs of {call}", "be the same, or 1", f"{list(a.shape)} and {list(b.shape)}")
    if a.values is not None and b.values is not None:
        raise Refused("computes with constants alone", "fold constants when the model is converted")
    out = call.only_output(shape=shape)
    call.same_type(a, b, out)
    return a, b, out


def _binary(call: Call, kind: type[Elementwise], a: Activation, b: Activation, out: Activation) -> None:
    """Add the node, or a table where one operand is a single number."""
    for x, other in ((a, b), (b, a)):
        if other.values is not None and other.values.size == 1 and graph_shape(x.shape) == graph_shape(out.shape):
            _scalar(call, kind, a, b, out)
            return
    # As images both have the axes of the result: what the graph's shapes of lower rank leave out is 1.
    names = tuple(_aligned(call, operand, out) for operand in (a, b))
    call.add(kind, names, out.name, rounding=Rounding.TFLITE_DOUBLE, **call.bounds(out))


def _aligned(call: Call, operand: Activation, out: Activation) -> str:
    """Name of an operand whose image form stands to that of the result as TFLite's shapes do."""
    aligned = (1,) * (len(out.shape) - len(operand.shape)) + operand.shape
    shape = graph_shape(aligned)
    if shape is None:
        raise Refused(f"works on {operand.name!r} of shape {list(operand.shape)}, which is more than one image")
    if operand.values is not None:
        return call.read(operand, aligned)
    return call.reshape(operand.name, operand, shape, "aligned")


def _scalar(call: Call, kind: type[Elementwise], a: Activation, b: Activation, out: Activation) -> None:
    """All 256 results of an operator whose other operand is one number, by the reference itself."""
    x = a if b.values is not None else b
    tensors = {
        end: Tensor(name=end, shape=(1,), dtype="int8", scale=of.scale, zero_point=of.zero_point)
        for end, of in (("a", a), ("b", b), ("y", out))
    }
    bounds = call.bounds(out)
    node = kind(
        name="y",
        inputs=("a", "b"),
        outputs=("y",),
        rounding=Rounding.TFLITE_DOUBLE,
        low=bounds["low"],
        high=bounds["high"],
    )
    graph = Graph(nodes=(node,), tensors=tensors, inputs=("a", "b"), outputs=("y",))
    every = ALL_INTEGERS.reshape(256, 1)
    values = {
        end: every if of.values is None else np.broadcast_to(of.values.reshape(1, 1), every.shape)
        for end, of in (("a", a), ("b", b))
    }
    _table(call, x, out, reference_run(graph, values)["y"].reshape(256))


def _table(call: Call, x: Activation, out: Activation, entries: npt.NDArray[np.int8]) -> None:
    """Add the table of an operator of one operand."""
    call.add(Table, (call.read(x),), out.name, table=np.ascontiguousarray(entries, np.int8))


def _is_per_channel(x: Shape, factors: Shape, out: Shape) -> bool:
    """Whether a constant has one factor for each channel of an image, and more than one."""
    return len(out) == 4 and x == out and factors[-1:] == x[-1:] and math.prod(factors) == x[-1] > 1


def _per_channel(call: Call, x: Activation, factors: Activation, out: Activation) -> None:
    """The product of centred integers is an accumulator like any other."""
    assert factors.values is not None
    centred = factors.values.reshape(-1).astype(np.int16) - np.int16(factors.zero_point)
    scale = weight_scale(multiply_factor(x.scale, factors.scale, out.scale), x.scale, out.scale)
    call.add(
        Conv2d,
        (call.read(x),),
        out.name,
        weight=narrowed(centred.reshape(-1, 1, 1, 1)),
        bias=np.zeros(len(centred), np.int32),
        weight_scale=np.full(len(centred), scale),
        groups=len(centred),
        rounding=Rounding.TFLITE_DOUBLE,
        **call.bounds(out),
    )


def function(call: Call) -> None:
    """An operator of one operand: a table, or a clamp where the quantization stays."""
    call.need_inputs(1)
    x = call.input()
    out = call.only_output(shape=x.shape)
    call.same_type(x, out)
    kind = call.operator.kind
    if kind in ACTIVATIONS and x.quantization == out.quantization:
        low, high = tflite_functions.activation_bounds(kind, out.quantization)
        if low <= high:
            call.add(Requantize, (call.read(x),), out.name, low=low, high=high, rounding=Rounding.TFLITE_DOUBLE)
            return
    options = {name: call.option(name) for name in ("alpha", "approximate") if name in call.options}
    unsigned = out.offset != 0
    _table(call, x, out, tflite_functions.table(kind, x.quantization, out.quantization, unsigned=unsigned, **options))


def softmax(call: Call) -> None:
    """Softmax over the last axis, which the host computes in integers."""
    call.need_inputs(1)
    x = call.input()
    out = call.only_output(shape=x.shape)
    call.same_type(x, out)
    tflite_functions.check_softmax(x.shape[-1], out.quantization, unsigned=out.offset != 0)
    beta = np.array([call.option("beta")], np.float32)
    tflite_functions.softmax(np.zeros((1, 1), np.int8), scale=x.scale, beta=float(beta[0]))
    call.add(IntegerOp, (call.read(x),), out.name, target="softmax", constants={"beta": beta})


def quantize(call: Call) -> None:
    """float32 to int8 or uint8, or one 8-bit quantization to another."""
    call.need_inputs(1)
    tensor = call.tensor(0)
    out = call.only_output(shape=tensor.shape)
    if tensor.dtype == "float32":
        call.add(Quantize, (_real(call, 0),), out.name, rule=QuantizeRule.HALF_AWAY)
        return
    x = call.input()
    call.add(Requantize, (call.read(x),), out.name, rounding=Rounding.TFLITE_DOUBLE)


def dequantize(call: Call) -> None:
    """int8 or uint8 to float32."""
    call.need_inputs(1)
    x = call.input()
    if len(call.operator.outputs) != 1:
        raise malformed(f"Number of outputs of {call}", "be 1", len(call.operator.outputs))
    tensor = call.network.model.tensors[call.operator.outputs[0]]
    if tensor.dtype != "float32":
        raise Refused(f"makes {tensor.dtype}; float32 is served")
    if tensor.shape != x.shape:
        raise malformed(f"Output of {call}", f"have shape {list(x.shape)}", list(tensor.shape))
    described = call.network.describe(tensor.index)
    call.add(Dequantize, (call.read(x),), call.network.define(described))


def _real(call: Call, position: int) -> str:
    """A float32 input, which must be an activation of the graph."""
    tensor = call.tensor(position)
    if call.network.constant(tensor.index) is not None:
        raise Refused("quantizes a constant", QUANTIZE_REMEDY)
    if graph_shape(tensor.shape) is None or min(tensor.shape, default=1) < 1:
        raise Refused(f"works on {call.network.name(tensor.index)!r} of shape {list(tensor.shape)}")
    return call.network.define(call.network.describe(tensor.index))
