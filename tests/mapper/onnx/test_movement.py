# SPDX-License-Identifier: Apache-2.0
"""Operators that move, pick and bound elements, on integers and on floats, and the arithmetic of shapes around them."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapper.onnx.models import FLOAT, INT8, UINT8, model, node, run
from tests.mapper.onnx.test_qoperator import check
from tilewright_mapper.graph import Unsupported
from tilewright_mapper.onnx.importer import import_onnx

IMAGE = (4, 6, 5)
Constants = dict[str, Any]

CASES: dict[str, tuple[str, str, Constants, Constants]] = {
    "cast": ("Cast", "x", {}, {"to": FLOAT}),
    "clip": ("Clip", "x low high", {"low": 5, "high": 50}, {}),
    "clip below": ("Clip", "x low", {"low": 7}, {}),
    "concatenation": ("Concat", "x x", {}, {"axis": 1}),
    "dropout": ("Dropout", "x", {}, {}),
    "flatten": ("Flatten", "x", {}, {}),
    "flatten by another axis": ("Flatten", "x", {}, {"axis": -3}),
    "gather": ("Gather", "x places", {"places": np.array([3, -1, 0, 0])}, {"axis": 2}),
    "gather one": ("Gather", "x places", {"places": np.array(2)}, {"axis": -1}),
    "global max pool": ("GlobalMaxPool", "x", {}, {}),
    "identity": ("Identity", "x", {}, {}),
    "max pool": ("MaxPool", "x", {}, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "pad": ("Pad", "x pads value", {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 3]), "value": 9}, {}),
    "pad some axes": (
        "Pad", "x pads value axes", {"pads": np.array([1, 2]), "value": 0, "axes": np.array([3])}, {},
    ),
    "relu": ("Relu", "x", {}, {}),
    "reshape": ("Reshape", "x shape", {"shape": np.array([0, 2, -1, 5])}, {}),
    "slice": (
        "Slice", "x starts ends axes steps",
        {"starts": np.array([-1, 1]), "ends": np.array([-(2**40), 2**40]), "axes": np.array([1, -2]),
         "steps": np.array([-1, 2])}, {},
    ),
    "squeeze": ("Squeeze", "x axes", {"axes": np.array([], np.int64)}, {}),
    "transpose": ("Transpose", "x", {}, {"perm": [0, 3, 1, 2]}),
    "unsqueeze": ("Unsqueeze", "x axes", {"axes": np.array([], np.int64)}, {}),
}  # fmt: skip


def movement(dtype: int, name: str) -> bytes:
    """Model of one operator, of integers with a DequantizeLinear behind it."""
    op, order, constants, attributes = CASES[name]
    kind = {INT8: np.int8, UINT8: np.uint8, FLOAT: np.float32}[dtype]
    numbers = {key: kind(value) if isinstance(value, int) else value for key, value in constants.items()}
    nodes = [node(op, order.split(), ["m"], **attributes)]
    if dtype == FLOAT:
        nodes.append(node("QuantizeLinear", ["m", "s", "z"], ["q"]))
    nodes.append(node("DequantizeLinear", ["m" if dtype != FLOAT else "q", "s", "z"], ["y"]))
    numbers |= {"s": np.float32(0.5), "z": np.uint8(130) if dtype == UINT8 else np.int8(2)}
    return model(nodes, {"x": (dtype, ["N", *IMAGE])}, {"y": FLOAT}, numbers)


NOT_IN_ONNX = {(name, dtype) for name in ("cast", "dropout", "global max pool") for dtype in (INT8, UINT8)}
NOT_IN_ONNX.add(("relu", UINT8))


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in CASES for d in (INT8, UINT8, FLOAT) if (n, d) not in NOT_IN_ONNX]
)
def test_movement(name: str, dtype: int) -> None:
    data = movement(dtype, name)
    rng = np.random.default_rng(2)
    if dtype == FLOAT:
        x = rng.integers(-256, 256, (3, *IMAGE)).astype(np.float32) / 4
    else:
        x = rng.integers(0, 256, (3, *IMAGE)).astype(np.uint8)
        x = x if dtype == UINT8 else x.view(np.int8)
    check(data, {"x": x})


@settings(max_examples=60)
@given(
    st.data(),
    st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
)
def test_resize(data: st.DataObject, transformation: str, rounding: str) -> None:
    attributes = {"mode": "nearest", "coordinate_transformation_mode": transformation, "nearest_mode": rounding}
    if data.draw(st.booleans()):
        scales = data.draw(st.tuples(*[st.sampled_from([0.5, 1.0, 2.0, 3.0, 1.5])] * 2))
        constants: Constants = {"scales": np.array([1, 1, *scales], np.float32)}
        order = ["x", "", "scales"]
    else:
        sizes = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
        constants, order = {"sizes": np.array([1, 4, *sizes])}, ["x", "", "", "sizes"]
    nodes = [node("Resize", order, ["m"], **attributes), node("DequantizeLinear", ["m", "s", "z"], ["y"])]
    constants |= {"s": np.float32(0.5), "z": np.int8(2)}
    file = model(nodes, {"x": (INT8, [1, *IMAGE])}, {"y": FLOAT}, constants)
    check(file, {"x": np.arange(120, dtype=np.int8).reshape(1, *IMAGE)})


@pytest.mark.parametrize("parts", [None, [1, 3]])
def test_split(parts: list[int] | None) -> None:
    constants: Constants = {"s": np.float32(0.5), "z": np.int8(2)}
    attributes = {} if parts else {"num_outputs": 2}
    if parts:
        constants["parts"] = np.array(parts)
    nodes = [
        node("Split", ["x", "parts"] if parts else ["x"], ["a", "b"], axis=1, **attributes),
        node("DequantizeLinear", ["a", "s", "z"], ["y"]),
        node("DequantizeLinear", ["b", "s", "z"], ["w"]),
    ]
    file = model(nodes, {"x": (INT8, ["N", *IMAGE])}, {"y": FLOAT, "w": FLOAT}, constants)
    check(file, {"x": np.random.default_rng(1).integers(-128, 128, (2, *IMAGE)).astype(np.int8)})


def test_arithmetic_of_shapes() -> None:
    """A reshape by what operators make of the input's shape."""
    names: list[str] = ["shape"]
    nodes: list[onnx.NodeProto] = [node("Shape", ["x"], ["shape"])]

    def op(kind: str, *inputs: str, **attributes: Any) -> str:
        names.append(f"{kind.lower()}{len(names)}")
        nodes.append(node(kind, inputs, [names[-1]], **attributes))
        return names[-1]

    batch = op("Slice", "shape", "k0", "k1")
    last = op("Squeeze", op("Slice", "shape", "k3", "k4"), "k0")
    double = op("Div", op("Sub", op("Add", op("Mul", last, "six"), "two"), "two"), "three")
    ten = op("Concat", batch, op("Unsqueeze", op("Cast", op("Cast", double, to=FLOAT), to=7), "k0"), "minus", axis=0)
    filled = op("ConstantOfShape", "k1", value=onnx.numpy_helper.from_array(np.array([-1])))
    same = op("Gather", op("Transpose", op("Reshape", op("Identity", ten), "k3v")), "places")
    target = op("Concat", op("Slice", same, "k0", "k2"), filled, axis=0)
    nodes += [node("Reshape", ["x", target], ["m"]), node("DequantizeLinear", ["m", "s", "z"], ["y"])]
    constants: Constants = {f"k{i}": np.array([i]) for i in range(5)}
    constants |= {
        "six": np.int64(6), "two": np.int64(2), "three": np.int64(3), "minus": np.array([-1]), "k3v": np.array([3]),
        "places": np.array([0, 1, 2]), "s": np.float32(0.5), "z": np.int8(2),
    }  # fmt: skip
    file = model(nodes, {"x": (INT8, ["N", *IMAGE])}, {"y": FLOAT}, constants)
    graph = check(file, {"x": np.random.default_rng(1).integers(-128, 128, (2, *IMAGE)).astype(np.int8)})
    assert graph.tensor(graph.outputs[0]).shape == (10, 12)


REFUSED: dict[str, tuple[str, str, Constants, Constants, str]] = {
    "pad the batch": ("Pad", "x pads", {"pads": np.array([1, 0, 0, 0, 0, 0, 0, 0])}, {}, "must not pad the batch"),
    "reflect": ("Pad", "x pads", {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 0])}, {"mode": "reflect"}, "mode"),
    "join batches": ("Concat", "x x", {}, {"axis": 0}, "must not join batches"),
    "squeeze what is not 1": ("Squeeze", "x axes", {"axes": np.array([1])}, {}, "must be 1"),
    "gather from the batch": ("Gather", "x places", {"places": np.array([0])}, {"axis": 0}, "not the batch"),
    "gather outside": ("Gather", "x places", {"places": np.array([4])}, {"axis": 1}, "within the 4"),
    "slices of nothing": ("Slice", "x a b c", {"a": np.array([3]), "b": np.array([3]), "c": np.array([1])}, {}, "1 to"),
    "linear resize": ("Resize", "x r s", {"s": np.ones(4, np.float32)}, {"mode": "linear"}, "nearest"),
    "a huge resize": ("Resize", "x r s", {"s": np.array([1, 1, 9e5, 9e5], np.float32)}, {}, "elements"),
    "two sizes left open": ("Reshape", "x shape", {"shape": np.array([1, -1, -1])}, {}, "one -1"),
    "no order": ("Transpose", "x", {}, {"perm": [0, 1, 1, 2]}, "order of 4 axes"),
    "bounds that leave nothing": ("Clip", "x a b", {"a": np.int8(100), "b": np.int8(-100)}, {}, "leave something"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    op, order, constants, attributes, words = REFUSED[name]
    numbers = {**constants, "r": np.zeros(0, np.float32), "k": np.float32(0.5), "z": np.int8(2)}
    nodes = [node(op, order.split(), ["m"], **attributes), node("DequantizeLinear", ["m", "k", "z"], ["y"])]
    graph = import_onnx(model(nodes, {"x": (INT8, ["N", *IMAGE])}, {"y": FLOAT}, numbers))
    (refused,) = (n for n in graph if isinstance(n, Unsupported))
    assert words in refused.reason


def test_an_identity_of_the_input_keeps_its_name() -> None:
    """Outputs that are the input itself, or twice the same tensor, are what they are."""
    nodes = [node("DequantizeLinear", ["x", "s", "z"], ["y"]), node("Identity", ["y"], ["w"])]
    file = model(nodes, {"x": (INT8, ["N", 4])}, {"w": FLOAT}, {"s": np.float32(0.5), "z": np.int8(2)})
    x = np.arange(8, dtype=np.int8).reshape(2, 4)
    check(file, {"x": x})
    assert run(file, {"x": x})["w"].shape == (2, 4)
