# SPDX-License-Identifier: Apache-2.0
"""Finding integer operators: a float operator between Dequantize and Quantize is one of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from ..aten import argument, constant_array, operator_name, pair, tensor_name
from ..edit import Editor
from ..graph import (
    Add,
    Conv2d,
    Dequantize,
    Graph,
    HostOp,
    Linear,
    Multiply,
    Node,
    Padding,
    Pair,
    Quantize,
    QuantizedConstant,
    Rounded,
)
from ..rounding import rounding_before
from .weights import integer_parameters
from .windows import average_pool, zero_padding

__all__ = ["lift_additions", "lift_average_pools", "lift_convolutions", "lift_linears", "lift_products"]

Operation = TypeVar("Operation", Add, Multiply)
Builder = Callable[[Graph, HostOp, Quantize, Mapping[str, Node]], Rounded | None]


def _lift(graph: Graph, build: Builder) -> Graph:
    """Replace each Quantize behind a host operator for which ``build`` makes an integer node."""
    edit = Editor(graph)
    producers, readers = graph.producers(), graph.consumers()
    for node in graph:
        if not isinstance(node, HostOp) or len(node.outputs) != 1:
            continue
        lifted = 0
        for border in readers[node.output]:
            made = build(graph, node, border, producers) if isinstance(border, Quantize) else None
            if isinstance(border, Quantize) and made is not None:
                lifted += 1
                name = node.name if lifted == 1 else f"{node.name}#{lifted}"
                made = replace(made, name=name, rounding=rounding_before(border))
                edit.replace(border, [made])
        if lifted == len(readers[node.output]) and lifted and node.output not in graph.outputs:
            edit.replace(node, ())
        elif lifted:
            # Others read the float result too: the operator stays, under another name.
            edit.replace(node, [replace(node, name=f"{node.name}.float")])
    return edit.graph()


def _integers(producers: Mapping[str, Node], name: str | None) -> str | None:
    """The int8 tensor behind a float one, None if there is none."""
    source = producers.get(name) if name is not None else None
    return source.input if isinstance(source, Dequantize) else None


def lift_convolutions(graph: Graph) -> Graph:
    """Convolutions of two dimensions with int8 weights, with a padding by zeros in front of them."""
    return _lift(graph, _convolution)


def _convolution(graph: Graph, node: HostOp, border: Quantize, producers: Mapping[str, Node]) -> Conv2d | None:
    if operator_name(node) not in ("conv2d", "convolution") or argument(node, "transposed"):
        return None
    weight = constant_array(node, argument(node, "weight"))
    source, outer = _padded_source(producers, tensor_name(argument(node, "input")))
    if source is None or not isinstance(weight, QuantizedConstant) or weight.values.ndim != 4:
        return None
    if len(graph.tensor(source).shape) != 3 or len(node.inputs) != 1:
        return None
    stride, dilation = pair(argument(node, "stride")), pair(argument(node, "dilation"))
    inner = _padding(argument(node, "padding"), weight.values.shape[2:], dilation)
    parameters = integer_parameters(graph, node, source, weight)
    if parameters is None:
        return None
    top, left, bottom, right = (a + b for a, b in zip(outer, inner, strict=True))
    return Conv2d(
        name=node.name,
        inputs=(source,),
        outputs=border.outputs,
        weight=parameters.weight,
        bias=parameters.bias,
        weight_scale=parameters.scale,
        stride=stride,
        padding=(top, left, bottom, right),
        dilation=dilation,
        groups=argument(node, "groups"),
        low=border.low,
        high=border.high,
        provenance=node.provenance.merged(border.provenance),
    )


def _padded_source(producers: Mapping[str, Node], name: str | None) -> tuple[str | None, Padding]:
    """Int8 tensor behind a float one, and the padding by zeros between them."""
    pad = producers.get(name) if name is not None else None
    around = zero_padding(pad) if isinstance(pad, HostOp) else None
    if pad is None or around is None:
        return _integers(producers, name), (0, 0, 0, 0)
    return _integers(producers, pad.inputs[0]), around


def _padding(value: object, kernel: tuple[int, ...], dilation: Pair) -> Padding:
    """Padding on four sides from PyTorch's numbers or word."""
    if value == "same":
        total = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
        top, left = total[0] // 2, total[1] // 2
        return top, left, total[0] - top, total[1] - left
    vertical, horizontal = (0, 0) if value == "valid" else pair(value)
    return vertical, horizontal, vertical, horizontal


def lift_linears(graph: Graph) -> Graph:
    """Linear layers with int8 weights, over one vector or a list of tokens."""
    return _lift(graph, _linear)


def _linear(graph: Graph, node: HostOp, border: Quantize, producers: Mapping[str, Node]) -> Linear | None:
    if operator_name(node) != "linear":
        return None
    weight = constant_array(node, argument(node, "weight"))
    source = _integers(producers, tensor_name(argument(node, "input")))
    if source is None or not isinstance(weight, QuantizedConstant) or weight.values.ndim != 2:
        return None
    if len(graph.tensor(source).shape) > 2 or len(node.inputs) != 1:
        return None
    parameters = integer_parameters(graph, node, source, weight)
    if parameters is None:
        return None
    return Linear(
        name=node.name,
        inputs=(source,),
        outputs=border.outputs,
        weight=parameters.weight,
        bias=parameters.bias,
        weight_scale=parameters.scale,
        low=border.low,
        high=border.high,
        provenance=node.provenance.merged(border.provenance),
    )


def lift_additions(graph: Graph) -> Graph:
    """Additions of two int8 tensors, of which one may be repeated along axes of 1."""
    return _lift(graph, _addition)


def _addition(graph: Graph, node: HostOp, border: Quantize, producers: Mapping[str, Node]) -> Add | None:
    if node.target != "aten.add.Tensor" or argument(node, "alpha") not in (None, 1):
        return None
    return _elementwise(Add, graph, node, border, producers)


def lift_products(graph: Graph) -> Graph:
    """Products of two int8 tensors, of which one may be repeated along axes of 1."""
    return _lift(graph, _product)


def _product(graph: Graph, node: HostOp, border: Quantize, producers: Mapping[str, Node]) -> Multiply | None:
    if node.target != "aten.mul.Tensor":
        return None
    return _elementwise(Multiply, graph, node, border, producers)


def _elementwise(
    kind: type[Operation], graph: Graph, node: HostOp, border: Quantize, producers: Mapping[str, Node]
) -> Operation | None:
    names = [_integers(producers, tensor_name(value)) for value in node.args[:2]]
    inputs = tuple(name for name in names if name is not None)
    shapes = [graph.tensor(name).shape for name in inputs]
    result = graph.tensor(border.output).shape
    if len(inputs) != 2 or any(len(shape) != len(result) for shape in shapes):
        return None
    if any(size not in (1, whole) for shape in shapes for size, whole in zip(shape, result, strict=True)):
        return None
    return kind(
        name=node.name,
        inputs=inputs,
        outputs=border.outputs,
        low=border.low,
        high=border.high,
        provenance=node.provenance.merged(border.provenance),
    )


def lift_average_pools(graph: Graph) -> Graph:
    """Average pools, global ones and means among them, whose windows all have the same divisor."""

    def build(graph: Graph, node: HostOp, border: Quantize, producers: Mapping[str, Node]) -> Rounded | None:
        source, outer = _padded_source(producers, tensor_name(node.args[0]) if node.args else None)
        return None if source is None else average_pool(graph, node, source, outer, border)

    return _lift(graph, build)
