# SPDX-License-Identifier: Apache-2.0
"""Each rule is broken once: a rule that nothing can break says nothing."""

import dataclasses

import numpy as np
import pytest

from tilewright_hdl.numerics import Rounding
from tilewright_mapper.graph import (
    Add,
    AvgPool2d,
    ConstantTensor,
    Graph,
    HostOp,
    IntegerOp,
    MaxPool2d,
    Multiply,
    Node,
    Pad2d,
    Padding,
    Requantize,
    Reshape,
    Subtract,
    Table,
    Tensor,
)
from tilewright_mapper.spec import ANY, CANONICAL, GraphError, verify

from .builders import constant, conv, dequantize, graph, host, int8, linear, quantize, real, weights

IMAGE = int8("x", 4, 6, 6)


def node_graph(node: Node, *tensors: Tensor) -> Graph:
    return graph([*tensors], [node], inputs=node.inputs, outputs=node.outputs)


def pool(**options: object) -> AvgPool2d:
    fields: dict[str, object] = {"kernel": (2, 2), "stride": (2, 2), "divisor": 4, **options}
    return AvgPool2d(name="p", inputs=("x",), outputs=("y",), **fields)  # type: ignore[arg-type]


def pad(padding: Padding = (1, 0, 2, 0), value: int = 0) -> Pad2d:
    return Pad2d(name="p", inputs=("x",), outputs=("y",), padding=padding, value=value)


def filled(*shape: int, dtype: str = "int8") -> ConstantTensor:
    return ConstantTensor(name="k", inputs=(), outputs=("y",), values=np.zeros(shape, dtype))


CONV = conv("c", "x", "y", weights(8, 4, 3, 3), padding=(1, 1, 1, 1))
GOOD = [
    node_graph(CONV, IMAGE, int8("y", 8, 6, 6)),
    node_graph(conv("c", "x", "y", weights(8, 2, 3, 3), groups=2), IMAGE, int8("y", 8, 4, 4)),
    node_graph(linear("l", "x", "y", weights(8, 4)), int8("x", 4), int8("y", 8)),
    node_graph(linear("l", "x", "y", weights(8, 4)), int8("x", 3, 4), int8("y", 3, 8)),
    node_graph(Add(name="a", inputs=("x", "z"), outputs=("y",)), IMAGE, int8("z", 4, 6, 6), int8("y", 4, 6, 6)),
    node_graph(Subtract(name="a", inputs=("x", "z"), outputs=("y",)), IMAGE, int8("z", 4, 1, 1), int8("y", 4, 6, 6)),
    node_graph(Multiply(name="a", inputs=("z", "x"), outputs=("y",)), IMAGE, int8("z", 1, 6, 1), int8("y", 4, 6, 6)),
    node_graph(dataclasses.replace(CONV, weight=np.full(CONV.weight.shape, -255, np.int16)), IMAGE, int8("y", 8, 6, 6)),
    node_graph(pool(), IMAGE, int8("y", 4, 3, 3)),
    node_graph(pool(raw=True, divisor=0), IMAGE, int8("y", 4, 3, 3)),
    node_graph(pad(), IMAGE, int8("y", 4, 9, 6)),
    node_graph(filled(4, 6, 6), int8("y", 4, 6, 6)),
    node_graph(host("h", "aten.neg.default", ("x",), "y"), int8("x", 3), int8("y", 3)),
    node_graph(IntegerOp(name="s", inputs=("x",), outputs=("y",), target="softmax"), int8("x", 3), int8("y", 3)),
    node_graph(quantize("x", "y"), real("x", 3), int8("y", 3)),
    node_graph(dequantize("x", "y"), int8("x", 3), real("y", 3)),
    node_graph(host("h", "aten.relu.default", ("x",), "y"), real("x", 3), real("y", 3)),
]

BAD = [
    ("number of inputs", Add(name="a", inputs=("x",), outputs=("y",)), [IMAGE, int8("y", 4, 6, 6)]),
    ("int8 tensors of rank 1 to 3", CONV, [real("x", 4, 6, 6), int8("y", 8, 6, 6)]),
    ("int8 tensors of rank 1 to 3", CONV, [IMAGE, int8("y", 8, 6, 6, scale=0.0)]),
    ("int8 tensors of rank 1 to 3", CONV, [IMAGE, int8("y", 8, 6, 6, zero_point=128)]),
    ("int8 tensors of rank 1 to 3", CONV, [IMAGE, int8("y", 8, 6, 6, scale=float("inf"))]),
    ("low <= high", dataclasses.replace(CONV, low=5, high=4), [IMAGE, int8("y", 8, 6, 6)]),
    ("int8 weights", dataclasses.replace(CONV, bias=np.zeros(7, np.int32)), [IMAGE, int8("y", 8, 6, 6)]),
    ("int8 weights", dataclasses.replace(CONV, weight_scale=np.zeros(8)), [IMAGE, int8("y", 8, 6, 6)]),
    ("int8 weights", dataclasses.replace(CONV, weight=CONV.weight.astype(np.int32)), [IMAGE, int8("y", 8, 6, 6)]),
    ("int8 weights", dataclasses.replace(CONV, weight=np.full(CONV.weight.shape, 256, np.int16)),
     [IMAGE, int8("y", 8, 6, 6)]),
    ("match its channels", dataclasses.replace(CONV, groups=2), [IMAGE, int8("y", 8, 6, 6)]),
    ("shape that its window makes", CONV, [IMAGE, int8("y", 8, 6, 5)]),
    ("shape that its window makes", pool(stride=(0, 1)), [IMAGE, int8("y", 4, 3, 3)]),
    ("shape that its window makes", pool(padding=(-1, 0, 1, 0)), [IMAGE, int8("y", 4, 3, 3)]),
    ("last axis", linear("l", "x", "y", weights(8, 4)), [int8("x", 4, 2), int8("y", 4, 8)]),
    ("one shape", Requantize(name="r", inputs=("x",), outputs=("y",)), [IMAGE, int8("y", 4, 36)]),
    ("keep scale", Reshape(name="r", inputs=("x",), outputs=("y",)), [IMAGE, int8("y", 144, scale=1.0)]),
    ("sizes of its result, or of 1", Add(name="a", inputs=("x", "z"), outputs=("y",)),
     [IMAGE, int8("z", 4, 3, 6), int8("y", 4, 6, 6)]),
    ("sizes of its result, or of 1", Add(name="a", inputs=("x", "x"), outputs=("y",)),
     [int8("x", 4, 1, 6), int8("y", 4, 6, 6)]),
    ("keep scale", pad(), [IMAGE, int8("y", 4, 9, 6, zero_point=5)]),
    ("grow by its padding", pad(), [IMAGE, int8("y", 4, 8, 6)]),
    ("grow by its padding", pad((-1, 0, 2, 0)), [IMAGE, int8("y", 4, 7, 6)]),
    ("border of int8", pad(value=128), [IMAGE, int8("y", 4, 9, 6)]),
    ("values of the shape of its tensor", filled(4, 6), [int8("y", 4, 6, 6)]),
    ("values of the shape of its tensor", filled(4, 6, dtype="int32"), [int8("y", 4, 6)]),
    ("round halves up or away", pool(raw=True), [IMAGE, int8("y", 4, 3, 3, scale=0.5)]),
    ("round halves up or away", pool(raw=True, rounding=Rounding.TFLITE_DOUBLE), [IMAGE, int8("y", 4, 3, 3)]),
    ("keep the channels", pool(), [IMAGE, int8("y", 5, 3, 3)]),
    ("positive divisor", pool(divisor=0), [IMAGE, int8("y", 4, 3, 3)]),
    ("256 int8", Table(name="t", inputs=("x",), outputs=("y",), table=np.zeros(255, np.int8)),
     [IMAGE, int8("y", 4, 6, 6)]),
    ("number of elements", Reshape(name="r", inputs=("x",), outputs=("y",)), [IMAGE, int8("y", 143)]),
    ("from float32", quantize("x", "y"), [int8("x", 3), int8("y", 3)]),
    ("to float32", dequantize("x", "y"), [int8("x", 3), real("y", 4)]),
    ("list the tensors", HostOp(name="h", inputs=("x",), outputs=("y",), target="aten.relu.default", args=()),
     [real("x", 3), real("y", 3)]),
    ("activations of one scale", host("h", "aten.relu.default", ("x",), "y"), [int8("x", 3), real("y", 3)]),
    ("activations of one scale", host("h", "aten.neg.default", ("x",), "y"), [int8("x", 3), int8("y", 3, scale=9.0)]),
]  # fmt: skip

NOT_CANONICAL = [
    ("not be a Linear", linear("l", "x", "y", weights(8, 4)), [int8("x", 4), int8("y", 8)]),
    ("move no byte", Reshape(name="r", inputs=("x",), outputs=("y",)), [IMAGE, int8("y", 144)]),
    ("plain arrays",
     host("h", "aten.add.Tensor", ("x",), "y", {"constant": "c"}, constants={"c": constant(weights(2, 2))}),
     [real("x", 2), real("y", 2)]),
]  # fmt: skip


@pytest.mark.parametrize("good", GOOD, ids=lambda g: g.nodes[0].op)
def test_accepts(good: Graph) -> None:
    verify(good)


@pytest.mark.parametrize(("says", "node", "tensors"), BAD)
def test_refuses(says: str, node: Node, tensors: list[Tensor]) -> None:
    with pytest.raises(GraphError, match=says) as error:
        verify(node_graph(node, *tensors), after="my_pass")
    assert "my_pass" in str(error.value)
    assert repr(node.name) in str(error.value)


@pytest.mark.parametrize(("says", "node", "tensors"), NOT_CANONICAL)
def test_refuses_at_the_end(says: str, node: Node, tensors: list[Tensor]) -> None:
    verify(node_graph(node, *tensors))
    with pytest.raises(GraphError, match=says):
        verify(node_graph(node, *tensors), rules=CANONICAL)


def test_every_rule_is_broken_somewhere() -> None:
    cases = " ".join(says for says, _, _ in BAD + NOT_CANONICAL)
    missing = [rule.says for rule in CANONICAL if not any(says in rule.says for says, _, _ in BAD + NOT_CANONICAL)]
    assert not missing, f"{missing} not in {cases}"
    assert set(ANY) <= set(CANONICAL)


def test_structure() -> None:
    pool2 = MaxPool2d(name="p", inputs=("x",), outputs=("y",), kernel=(1, 1), stride=(1, 1))
    tensors = [IMAGE, int8("y", 4, 6, 6)]
    broken = [
        (graph(tensors, [pool2, pool2]), "two nodes are named 'p'"),
        (graph(tensors, [dataclasses.replace(pool2, inputs=("z",))]), "reads 'z' before it is made"),
        (graph(tensors, [pool2], outputs=("z",)), "output 'z' is never made"),
        (graph([IMAGE], [pool2]), "tensor 'y' is not described"),
        (graph([*tensors, int8("z", 1)], [pool2]), "tensor 'z' belongs to nothing"),
        (graph(tensors, [pool2, dataclasses.replace(pool2, name="q")]), "makes 'y' a second time"),
        (dataclasses.replace(graph(tensors, [pool2]), tensors={"x": IMAGE, "y": IMAGE}), "tensor key 'y' names 'x'"),
    ]
    for g, says in broken:
        with pytest.raises(GraphError, match=says):
            verify(g)
