# SPDX-License-Identifier: Apache-2.0
"""What a graph must satisfy, as a table of rules, checked after every pass: a bad pass fails at its own door."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import TilewrightError
from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding

from .graph import (
    AvgPool2d,
    Clamped,
    ConstantTensor,
    Conv2d,
    Dequantize,
    Elementwise,
    Graph,
    HostOp,
    IntegerOp,
    Linear,
    MaxPool2d,
    Node,
    Pad2d,
    Quantize,
    QuantizedConstant,
    Requantize,
    Reshape,
    Table,
    Tensor,
    image_shape,
    is_layout_free,
    spatial_shape,
    tensor_refs,
)

__all__ = ["ANY", "CANONICAL", "GraphError", "Rule", "are_weights", "verify"]


class GraphError(TilewrightError):
    """A graph that breaks its own specification: a fault of the mapper, not of the model."""


@dataclass(frozen=True)
class Rule:
    """One thing that must hold for every node of a kind.

    Parameters
    ----------
    kind : type or tuple of types
    says : str
        What must hold, to stand behind "must".
    holds : callable
        From a graph and a node to bool; may assume that the rules above it hold.
    """

    kind: Any
    says: str
    holds: Callable[[Graph, Any], bool]


def verify(graph: Graph, *, rules: tuple[Rule, ...] | None = None, after: str = "") -> None:
    """Raise :class:`GraphError` unless ``graph`` is well formed and its nodes satisfy ``rules`` (default :data:`ANY`).

    ``after`` names the pass that made the graph.
    """
    where = f" after pass {after!r}" if after else ""
    for complaint in _structure(graph):
        raise GraphError(f"The graph is broken{where}: {complaint}")
    for node in graph:
        for rule in ANY if rules is None else rules:
            if isinstance(node, rule.kind) and not rule.holds(graph, node):
                ends = ", ".join(str(graph.tensor(n)) for n in (*node.inputs, *node.outputs))
                raise GraphError(f"{node.op} {node.name!r}{where} must {rule.says}; its tensors are {ends}")


def _structure(graph: Graph) -> list[str]:
    """Complaints about names and order."""
    known = set(graph.inputs)
    complaints = [f"tensor {n!r} is not described" for n in graph.inputs if n not in graph.tensors]
    names: set[str] = set()
    for node in graph:
        if node.name in names:
            complaints.append(f"two nodes are named {node.name!r}")
        names.add(node.name)
        complaints += [f"{node.name!r} reads {i!r} before it is made" for i in node.inputs if i not in known]
        complaints += [f"{node.name!r} makes {o!r} a second time" for o in node.outputs if o in known]
        complaints += [f"tensor {o!r} is not described" for o in node.outputs if o not in graph.tensors]
        known.update(node.outputs)
    complaints += [f"output {o!r} is never made" for o in graph.outputs if o not in known]
    complaints += [f"tensor {n!r} belongs to nothing" for n in graph.tensors if n not in known]
    complaints += [f"tensor key {k!r} names {t.name!r}" for k, t in graph.tensors.items() if t.name != k]
    return complaints


INTEGER = (
    Conv2d, Linear, Elementwise, MaxPool2d, AvgPool2d, Table, Requantize, Reshape, Pad2d, ConstantTensor, IntegerOp,
)
WEIGHTED = (Conv2d, Linear)
WIDEST_WEIGHT = 255
"""Of a uint8 weight less its zero point."""
RAW_ROUNDINGS = (Rounding.SINGLE, Rounding.FLOAT64_HALF_AWAY)
WINDOWED = (Conv2d, MaxPool2d, AvgPool2d)


def _in(graph: Graph, node: Node) -> Tensor:
    return graph.tensor(node.inputs[0])


def _out(graph: Graph, node: Node) -> Tensor:
    return graph.tensor(node.outputs[0])


def _is_activation(tensor: Tensor) -> bool:
    """An int8 tensor that the hardware can hold."""
    if not (tensor.is_quantized and tensor.batched and 1 <= len(tensor.shape) <= 3 and min(tensor.shape) > 0):
        return False
    scale, zero_point = tensor.quantization
    return bool(np.isfinite(scale)) and scale > 0 and INT8_MIN <= zero_point <= INT8_MAX


def _integer_ends(graph: Graph, node: Node) -> bool:
    return all(_is_activation(graph.tensor(name)) for name in (*node.inputs, *node.outputs))


def _same_quantization(graph: Graph, node: Node) -> bool:
    return _in(graph, node).quantization == _out(graph, node).quantization


def are_weights(values: npt.NDArray[Any]) -> bool:
    """Whether an array is int8, or int16 within the range of *wide* weights."""
    return values.dtype == np.int8 or (values.dtype == np.int16 and bool(np.all(np.abs(values) <= WIDEST_WEIGHT)))


def _weights(graph: Graph, node: Conv2d | Linear) -> bool:
    channels = node.weight.shape[:1]
    return (
        are_weights(node.weight)
        and node.bias.dtype == np.int32
        and node.weight_scale.dtype == np.float64
        and node.bias.shape == node.weight_scale.shape == channels
        and bool(np.all(np.isfinite(node.weight_scale)) and np.all(node.weight_scale > 0))
    )


def _channels(graph: Graph, node: Conv2d) -> bool:
    outputs, inputs = node.weight.shape[:2]
    c, _, _ = image_shape(_in(graph, node).shape)
    c_out, _, _ = image_shape(_out(graph, node).shape)
    return node.weight.ndim == 4 and c == inputs * node.groups and c_out == outputs and outputs % node.groups == 0


def _window(graph: Graph, node: Conv2d | MaxPool2d | AvgPool2d) -> bool:
    _, h, w = image_shape(_in(graph, node).shape)
    dilation = (1, 1) if isinstance(node, AvgPool2d) else node.dilation
    if min((*node.kernel, *node.stride, *dilation)) < 1 or min(node.padding) < 0:
        return False
    return image_shape(_out(graph, node).shape)[1:] == spatial_shape(
        (h, w), node.kernel, node.stride, node.padding, dilation
    )


def _broadcasts(graph: Graph, node: Elementwise) -> bool:
    result = image_shape(_out(graph, node).shape)
    operands = [image_shape(graph.tensor(name).shape) for name in node.inputs]
    return all(
        size == max(sizes) and set(sizes) <= {1, size}
        for size, *sizes in zip(result, *operands, strict=True)
    )


def _padded(graph: Graph, node: Pad2d) -> bool:
    (c, h, w), (top, left, bottom, right) = image_shape(_in(graph, node).shape), node.padding
    return min(node.padding) >= 0 and image_shape(_out(graph, node).shape) == (c, h + top + bottom, w + left + right)


def _moves_bytes(graph: Graph, node: HostOp) -> bool:
    """Whether a host operator reads and writes float tensors only, or int8 ones of one quantization only."""
    ends = [graph.tensor(name) for name in (*node.inputs, *node.outputs)]
    return len({tensor.quantization if tensor.is_quantized else None for tensor in ends}) <= 1


def _host_references(graph: Graph, node: HostOp) -> bool:
    return tuple(dict.fromkeys(tensor_refs((node.args, node.kwargs)))) == node.inputs


ANY: tuple[Rule, ...] = (
    Rule(Node, "have the number of inputs of its kind", lambda g, n: n.arity in (None, len(n.inputs))),
    Rule(
        INTEGER,
        "have int8 tensors of rank 1 to 3 with a positive scale and a zero point of -128 to 127 at both ends",
        _integer_ends,
    ),
    Rule(Clamped, "have -128 <= low <= high <= 127", lambda g, n: INT8_MIN <= n.low <= n.high <= INT8_MAX),
    Rule(WEIGHTED, "have int8 weights, an int32 bias and a positive scale for each output channel", _weights),
    Rule(Conv2d, "have weights (O, I / groups, kh, kw) that match its channels", _channels),
    Rule(WINDOWED, "have an output of the shape that its window makes", _window),
    Rule(
        Linear,
        "map the last axis of a rank 1 or rank 2 tensor",
        lambda g, n: (
            len(_in(g, n).shape) in (1, 2)
            and n.weight.shape[1] == _in(g, n).shape[-1]
            and (*_in(g, n).shape[:-1], n.weight.shape[0]) == _out(g, n).shape
        ),
    ),
    Rule(
        (Table, Requantize),
        "have one shape",
        lambda g, n: {g.tensor(i).shape for i in n.inputs} == {_out(g, n).shape},
    ),
    Rule(Elementwise, "have operands of the sizes of its result, or of 1", _broadcasts),
    Rule((MaxPool2d, Reshape, Pad2d), "keep scale and zero point", _same_quantization),
    Rule(Pad2d, "grow by its padding, which is not negative", _padded),
    Rule(Pad2d, "have a border of int8", lambda g, n: INT8_MIN <= n.value <= INT8_MAX),
    Rule(
        ConstantTensor,
        "hold int8 values of the shape of its tensor",
        lambda g, n: n.values.shape == _out(g, n).shape and n.values.dtype == np.int8,
    ),
    Rule(
        (MaxPool2d, AvgPool2d),
        "keep the channels",
        lambda g, n: image_shape(_in(g, n).shape)[0] == image_shape(_out(g, n).shape)[0],
    ),
    Rule(AvgPool2d, "have a positive divisor, or 0 if it is raw", lambda g, n: n.divisor >= (0 if n.raw else 1)),
    Rule(
        AvgPool2d,
        "keep scale and zero point and round halves up or away from zero, if it is raw",
        lambda g, n: not n.raw or (_same_quantization(g, n) and n.rounding in RAW_ROUNDINGS),
    ),
    Rule(Table, "have 256 int8 entries", lambda g, n: n.table.shape == (256,) and n.table.dtype == np.int8),
    Rule(Reshape, "keep the number of elements", lambda g, n: _in(g, n).size == _out(g, n).size),
    Rule(
        Quantize,
        "go from float32 to an int8 tensor of the same shape",
        lambda g, n: (
            _in(g, n).dtype == "float32"
            and _is_activation(_out(g, n))
            and (_in(g, n).shape, _in(g, n).batched) == (_out(g, n).shape, True)
        ),
    ),
    Rule(
        Dequantize,
        "go from an int8 tensor to float32 of the same shape",
        lambda g, n: (
            _out(g, n).dtype == "float32"
            and _is_activation(_in(g, n))
            and (_out(g, n).shape, _out(g, n).batched) == (_in(g, n).shape, True)
        ),
    ),
    Rule(HostOp, "list the tensors of its arguments as inputs, in their order", _host_references),
    Rule(
        HostOp,
        "have no int8 activation at its ends, or nothing but int8 activations of one scale and zero point",
        _moves_bytes,
    ),
)
"""Holds for every graph, from the importer on."""

CANONICAL: tuple[Rule, ...] = (
    *ANY,
    Rule(Node, "not be a Linear layer, which is a Conv2d by now", lambda g, n: not isinstance(n, Linear)),
    Rule(
        Reshape,
        "move no byte of the channel-packed layout",
        lambda g, n: is_layout_free(_in(g, n).shape, _out(g, n).shape, channels_last=n.channels_last),
    ),
    Rule(
        HostOp,
        "hold plain arrays as constants",
        lambda g, n: not any(isinstance(c, QuantizedConstant) for c in n.constants.values()),
    ),
)
"""Holds after ``passes.canonicalize``: what the back half of the mapper may rely on."""
