# SPDX-License-Identifier: Apache-2.0
"""ONNX files that are damaged or contradict themselves."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.mapper.onnx.models import FLOAT, INT8, model, node
from tilewright_hdl.errors import ModelError, ModelFileError
from tilewright_mapper.graph import Unsupported
from tilewright_mapper.onnx.file import read_onnx
from tilewright_mapper.onnx.importer import OPERATORS, import_onnx
from tilewright_mapper.onnx.wire import holds_more_fields
from tilewright_mapper.passes import canonicalize


def good() -> ModelProto:
    """A convolution, an addition, a pool, a reshape by a computed shape and a linear layer."""
    rng = np.random.default_rng(3)
    numbers = {
        "s": np.float32(0.05), "z": np.int8(3), "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "sw": rng.uniform(0.001, 0.004, 4).astype(np.float32), "zw": np.zeros(4, np.int8),
        "b": rng.integers(-900, 900, 4).astype(np.int32), "m": rng.integers(-127, 128, (36, 5)).astype(np.int8),
        "one": np.array([1]), "rest": np.array([-1]),
    }
    nodes = [
        node("QLinearConv", ["x", "s", "z", "w", "sw", "zw", "s", "z", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("QLinearAdd", ["c", "s", "z", "c", "s", "z", "s", "z"], ["a"]),
        node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Concat", ["one", "rest"], ["shape"], axis=0),
        node("Reshape", ["p", "shape"], ["f"]),
        node("QLinearMatMul", ["f", "s", "z", "m", "s", "z", "s", "z"], ["y"]),
    ]
    return ModelProto.FromString(model(nodes, {"x": (INT8, ["N", 3, 6, 6])}, {"y": INT8}, numbers))


def test_a_good_file() -> None:
    read = read_onnx(good().SerializeToString())
    kinds = ["QLinearConv", "QLinearAdd", "MaxPool", "Concat", "Reshape", "QLinearMatMul"]
    assert [n.kind for n in read.nodes] == kinds
    assert read.opset == 18
    assert (read.inputs[0].name, read.inputs[0].dtype, read.inputs[0].shape) == ("x", "int8", (None, 3, 6, 6))
    assert read.outputs == ("y",)
    assert read.constants["w"].shape == (4, 3, 3, 3)
    assert read.nodes[0].attributes["pads"] == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        (TensorProto.FLOAT, "float_data", [0.5, -1.5]),
        (TensorProto.INT8, "int32_data", [-128, 127]),
        (TensorProto.UINT8, "int32_data", [0, 255]),
        (TensorProto.INT64, "int64_data", [-(2**40), 3]),
        (TensorProto.BOOL, "int32_data", [1, 0]),
    ],
)
def test_constants_in_either_form(kind: int, field: str, values: list[int | float]) -> None:
    typed = TensorProto(name="t", data_type=kind, dims=[2])
    getattr(typed, field).extend(values)
    raw = numpy_helper.from_array(numpy_helper.to_array(typed), "t")
    for tensor in (typed, raw):
        proto = good()
        proto.graph.initializer.append(tensor)
        read = read_onnx(proto.SerializeToString()).constants["t"]
        np.testing.assert_array_equal(read, numpy_helper.to_array(typed))
        assert read.dtype == numpy_helper.to_array(typed).dtype


def initializer(proto: ModelProto, name: str) -> TensorProto:
    return next(t for t in proto.graph.initializer if t.name == name)


def external(proto: ModelProto) -> None:
    initializer(proto, "w").data_location = TensorProto.EXTERNAL


def function(proto: ModelProto) -> None:
    proto.functions.append(helper.make_function("d", "f", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], []))


def cycle(proto: ModelProto) -> None:
    proto.graph.node[0].input[0] = "y"


def set_dims(dims: list[int]) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        initializer(proto, "w").ClearField("dims")
        initializer(proto, "w").dims.extend(dims)

    return change


def set_input(size: int) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size

    return change


def set_type(kind: int) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        initializer(proto, "b").data_type = kind

    return change


DAMAGES: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "no operators": (lambda p: p.graph.ClearField("node"), "a list of operators"),
    "no operator set": (lambda p: p.ClearField("opset_import"), "one positive version"),
    "external data": (external, "lies in another file"),
    "functions": (function, "inline them"),
    "a cycle": (cycle, "made before it is read"),
    "a name that nothing makes": (lambda p: p.graph.node[1].input.__setitem__(0, "nothing"), "made before it is read"),
    "a name made twice": (lambda p: p.graph.node[1].output.__setitem__(0, "c"), "the only one of its name"),
    "two constants of one name": (lambda p: p.graph.initializer.append(initializer(p, "w")), "the only one"),
    "an output that nothing makes": (lambda p: setattr(p.graph.output[0], "name", "q"), "a tensor of the graph"),
    "a negative size": (set_dims([4, -3, 3, 3]), "not negative"),
    "huge sizes": (set_dims([1 << 40, 1 << 40, 3, 3]), "not negative, and of at most"),
    "too many axes": (set_dims([1] * 9), "at most 8 axes"),
    "fewer elements than the shape says": (set_dims([4, 3, 3, 4]), "as its shape"),
    "a huge input": (set_input(1 << 40), "of at most"),
    "a negative input": (set_input(-5), "not negative"),
    "an unknown type": (set_type(99), "type 99"),
    "float16": (set_type(TensorProto.FLOAT16), "float16"),
    "a type of another size": (set_type(TensorProto.INT64), "as its shape"),
    "an operator without a name": (lambda p: p.graph.node[0].ClearField("op_type"), "named"),
    "an operator without a result": (lambda p: p.graph.node[5].ClearField("output"), "a tensor of the graph"),
    "attributes of one name": (
        lambda p: p.graph.node[0].attribute.append(p.graph.node[0].attribute[0]), "the only one of its name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damages(name: str) -> None:
    damage, words = DAMAGES[name]
    proto = good()
    damage(proto)
    with pytest.raises(ModelError, match=words):
        import_onnx(proto.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x0a", bytes(1000)])
def test_what_is_no_model(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        read_onnx(data)


REFUSED: dict[str, tuple[str, np.ndarray | np.generic, str]] = {
    "a scale of zero": ("s", np.float32(0), "positive"),
    "a scale that is no number": ("s", np.float32("nan"), "positive"),
    "an infinite scale": ("s", np.float32("inf"), "positive"),
    "a scale of almost nothing": ("s", np.float32(1e-30), "at least"),
    "a huge scale": ("sw", np.full(4, 1e30, np.float32), "at most"),
    "a scale too many": ("sw", np.ones(5, np.float32), "or 4"),
    "no scale at all": ("sw", np.ones(0, np.float32), "scale"),
    "a zero point of another type": ("zw", np.zeros(4, np.uint8), "int8 zero point"),
    "a bias too long": ("b", np.zeros(7, np.int32), "4 numbers of int32"),
    "weights of another rank": ("w", np.zeros((4, 27), np.int8), "4 axes"),
    "weights that do not fit": ("w", np.zeros((4, 2, 3, 3), np.int8), "must fit 3 channels"),
    "a shape for two images": ("one", np.array([2]), "keep the batch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_nothing_serves(name: str) -> None:
    constant, value, words = REFUSED[name]
    proto = good()
    initializer(proto, constant).CopyFrom(numpy_helper.from_array(np.asarray(value), constant))
    data = proto.SerializeToString()
    if constant == "s":
        with pytest.raises(ModelError, match="scale"):
            import_onnx(data)
        return
    refused = [n for n in import_onnx(data) if isinstance(n, Unsupported)]
    assert any(words in n.reason for n in refused), [n.reason for n in refused]


def message(number: int, content: bytes) -> bytes:
    """A field of protocol buffers that holds a message or text."""
    size, rest = bytearray(), len(content)
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([number << 3 | 2, *size, rest]) + content


BOMBS = {
    "operators": message(7, message(1, b"") * 1_000_000),
    "attributes": message(7, message(1, message(5, b"") * 1_000_000)),
    "names": message(7, message(1, message(1, b"") * 1_000_000)),
    "numbers": message(7, message(1, message(5, b"\x40\x00" * 1_000_000))),
    "subgraphs": message(7, message(1, message(5, message(11, message(1, b"") * 10) * 80_000))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_files_that_would_fill_the_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted before they are parsed, which would take a hundred times their size."""
    monkeypatch.setattr(ModelProto, "FromString", None)
    with pytest.raises(ModelFileError, match="number of fields must be at most"):
        read_onnx(BOMBS[name])


def test_counting_follows_the_wire_format() -> None:
    data = good().SerializeToString()
    fields = sum(1 for _ in every_field(good()))
    assert not holds_more_fields(data, fields)
    assert holds_more_fields(data, fields - 1)
    for end in range(0, len(data), 7):
        assert not holds_more_fields(data[:end], fields)


def every_field(part: Message) -> Iterator[None]:
    """Once for each field as it is written: numbers of shapes and attributes one by one."""
    for field, value in part.ListFields():
        values = value if field.is_repeated and not field.is_packed else [value]
        for item in values:
            yield None
            if isinstance(item, Message):
                yield from every_field(item)


def test_long_chains() -> None:
    """Thousands of operators in a row: no recursion, and no time that grows with their square."""
    numbers = {"s": np.float32(0.1), "z": np.int8(0)}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["n0"])]
    nodes += [node("Tanh", [f"n{i}"], [f"n{i + 1}"]) for i in range(3000)]
    nodes += [node("QuantizeLinear", ["n3000", "s", "z"], ["r"]), node("DequantizeLinear", ["r", "s", "z"], ["y"])]
    graph = canonicalize(import_onnx(model(nodes, {"x": (FLOAT, [1, 8])}, {"y": FLOAT}, numbers)))
    assert [n.op for n in graph] == ["Quantize", "Table", "Dequantize"]


ATTRIBUTES = [0, -5, 2**40, 0.5, "word", [1.5, 2.5], [-1, 2**40], ["a", "b"], numpy_helper.from_array(np.zeros(3))]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["q", "r"])
@pytest.mark.parametrize("value", ATTRIBUTES, ids=str)
def test_attributes_of_another_type(value: Any, source: str) -> None:
    """Each operator, on integers or floats, does not look or is refused; none fails otherwise."""
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["r"])]
    served = 0
    for kind in sorted(OPERATORS):
        inputs = [source, "s", "z", "w", "s", "z", "s", "z"] if kind.startswith("QLinear") else [source]
        for name in sorted(NAMES):
            odd = node(kind, inputs, ["y"], **{name: value})
            file = model([*nodes, odd], {"x": (FLOAT, [1, 3, 6, 6])}, {"y": FLOAT}, numbers())
            served += not any(isinstance(n, Unsupported) for n in import_onnx(file))
    assert served > 0 or isinstance(value, TensorProto)


NAMES = {
    "allowzero", "alpha", "auto_pad", "axes", "axis", "block_size", "ceil_mode", "coordinate_transformation_mode",
    "count_include_pad", "dilations", "epsilon", "group", "kernel_shape", "max", "mode", "nearest_mode", "output_dtype",
    "pads", "perm", "storage_order", "strides", "to", "transA", "transB", "value",
}  # fmt: skip


def numbers() -> dict[str, Any]:
    w = np.random.default_rng(3).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    return {"s": np.float32(0.1), "z": np.int8(0), "w": w}


def test_constants_that_grow_without_end() -> None:
    proto = good()
    names = ["one"]
    for i in range(60):
        names.append(f"double{i}")
        proto.graph.node.insert(i, helper.make_node("Concat", [names[-2], names[-2]], [names[-1]], axis=0))
    with pytest.raises(ModelError, match="arithmetic of constants"):
        import_onnx(proto.SerializeToString())
