# SPDX-License-Identifier: Apache-2.0
"""Reading an ONNX file that may be damaged, or come from a stranger.

A file is protocol buffers, which the ``onnx`` package parses. What it says is checked here before anything relies on
it: every name is made once and before it is read (so there is no cycle), every constant has as many elements as its
shape says, nothing lies outside of the file. Only small things are copied; time and memory grow with the file alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from tilewright_hdl.errors import ModelError, ModelFileError

from ..file_fault import fault
from .wire import holds_more_fields

__all__ = ["Attribute", "OnnxInput", "OnnxModel", "OnnxNode", "read_onnx"]

Array = npt.NDArray[Any]
Attribute = int | float | str | tuple[Any, ...] | Array
Dimensions = tuple[int | None, ...]
"""A shape; None is an axis that the file leaves open."""

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
MAX_BYTES = (1 << 31) - 1
"""Protocol buffers have no larger messages."""
MOST_FIELDS = 250_000
MOST_NODES = 20_000
MOST_RANK = 8
MOST_ELEMENTS = 1 << 28
"""Of one tensor."""

DTYPES: Mapping[int, str] = MappingProxyType(
    {
        TensorProto.FLOAT: "float32",
        TensorProto.DOUBLE: "float64",
        TensorProto.INT8: "int8",
        TensorProto.UINT8: "uint8",
        TensorProto.INT32: "int32",
        TensorProto.INT64: "int64",
        TensorProto.BOOL: "bool",
    }
)
"""Element types of constants that are read."""

FIELDS: Mapping[int, str] = MappingProxyType(
    {
        TensorProto.FLOAT: "float_data",
        TensorProto.DOUBLE: "double_data",
        TensorProto.INT64: "int64_data",
    }
)
"""Where elements stand if not in ``raw_data``; in ``int32_data`` for the other types."""


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """One operator of the file.

    Parameters
    ----------
    index : int
        Its place in the file.
    name : str
        May be empty.
    kind : str
        Such as ``Conv``, of ONNX itself or of onnxruntime; with its domain in front if it has another.
    inputs, outputs : tuple of str
        Empty where an optional one is left out.
    attributes : mapping of str to Attribute
        Subgraphs are left out.
    """

    index: int
    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, kw_only=True)
class OnnxInput:
    """An input of the network; ``dtype`` is a numpy name, ``shape`` has the batch."""

    name: str
    dtype: str
    shape: Dimensions


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxModel:
    """What a file says.

    Parameters
    ----------
    nodes : tuple of OnnxNode
        Each after the producers of its inputs.
    constants : mapping of str to array
    inputs : tuple of OnnxInput
    outputs : tuple of str
    opset : int
        Version of ONNX's own operators.
    """

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    opset: int


def read_onnx(data: bytes) -> OnnxModel:
    """Contents of an ONNX file.

    Raises
    ------
    ModelFileError
        A file that is damaged or contradicts itself.
    ModelError
        A file with parts that nothing here serves: external data, sparse tensors, functions, float16.
    """
    if len(data) > MAX_BYTES:
        raise fault("size", f"at most {MAX_BYTES} bytes", len(data), "export a smaller model")
    if holds_more_fields(data, MOST_FIELDS):
        raise fault("number of fields", f"at most {MOST_FIELDS}", "more", "export a smaller model")
    try:
        proto = ModelProto.FromString(data)
        return _model(proto)
    except DecodeError as error:
        raise ModelFileError("Model file must be an ONNX model, but is none or is damaged; export it again") from error
    except UnicodeDecodeError as error:
        raise ModelFileError("Model file is damaged: a name in it is not UTF-8; export it again") from error


def _model(proto: ModelProto) -> OnnxModel:
    graph = proto.graph
    if not graph.node:
        raise fault("graph", "a list of operators", "empty or missing")
    if len(graph.node) > MOST_NODES:
        raise fault("graph", f"at most {MOST_NODES} operators", len(graph.node), "export a smaller model")
    if proto.functions:
        raise ModelError(
            f"Model file must have no functions of its own, but defines {proto.functions[0].name!r}; "
            "inline them (onnx.inliner.inline_local_functions)"
        )
    if graph.sparse_initializer:
        raise ModelError("Model file must hold dense tensors, but has a sparse one; export it with dense weights")
    constants = _constants(graph)
    inputs = tuple(_input(info) for info in graph.input if info.name not in constants)
    nodes = tuple(_node(index, node) for index, node in enumerate(graph.node))
    outputs = tuple(_text(info.name) for info in graph.output)
    _check_names(constants, inputs, nodes, outputs)
    return OnnxModel(nodes=nodes, constants=constants, inputs=inputs, outputs=outputs, opset=_opset(proto))


def _opset(proto: ModelProto) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] < 1:
        raise fault("operator set", "one positive version of ONNX's own", versions)
    return int(versions[0])


def _check_names(
    constants: Mapping[str, Array], inputs: Sequence[OnnxInput], nodes: Sequence[OnnxNode], outputs: Sequence[str]
) -> None:
    known = {*constants}

    def make(name: str, what: str) -> None:
        if name in known:
            raise fault(what, "the only one of its name", repr(name))
        known.add(name)

    for entry in inputs:
        make(entry.name, "tensor")
    if "" in known:
        raise fault("name of an input or constant", "not empty", "''")
    for node in nodes:
        for name in node.inputs:
            if name and name not in known:
                raise fault(f"input of operator {node.index} ({node.kind})", "made before it is read", repr(name))
        for name in filter(None, node.outputs):
            make(name, f"output of operator {node.index} ({node.kind})")
    for name in outputs:
        if name not in known:
            raise fault("output of the network", "a tensor of the graph", repr(name))
    if len(set(outputs)) != len(outputs) or not outputs:
        raise fault("outputs of the network", "at least one, each once", list(outputs))


def _input(info: ValueInfoProto) -> OnnxInput:
    shape = _shape(info)
    if shape is None:
        raise fault(f"input {info.name!r}", "a tensor with a shape", info.type.WhichOneof("value") or "nothing")
    kind = info.type.tensor_type.elem_type
    name = DTYPES.get(kind) or _type_name(kind)
    return OnnxInput(name=_text(info.name), dtype=name, shape=shape)


def _shape(info: ValueInfoProto) -> Dimensions | None:
    if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.HasField("shape"):
        return None
    dims = info.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in dims)
    _check_shape(f"shape of {info.name!r}", [1 if size is None else size for size in shape])
    return shape


def _check_shape(what: str, shape: Sequence[int]) -> None:
    if len(shape) > MOST_RANK:
        raise fault(what, f"of at most {MOST_RANK} axes", len(shape))
    if any(size < 0 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
        raise fault(what, f"not negative, and of at most {MOST_ELEMENTS} elements", tuple(shape))


def _constants(graph: GraphProto) -> dict[str, Array]:
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise fault("constant", "the only one of its name", repr(tensor.name))
        constants[_text(tensor.name)] = _array(tensor)
    return constants


def _array(tensor: TensorProto) -> Array:
    """Elements of a constant, a copy."""
    what = f"constant {tensor.name!r}"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(
            f"Model file must hold its constants, but {tensor.name!r} lies in another file; "
            "save it with onnx.save(model, path, save_as_external_data=False)"
        )
    shape = tuple(tensor.dims)
    _check_shape(f"shape of {what}", shape)
    dtype = DTYPES.get(tensor.data_type)
    if dtype is None:
        raise ModelError(
            f"Constants of a model must be of one of {', '.join(DTYPES.values())}, but {tensor.name!r} is "
            f"{_type_name(tensor.data_type)}; export the model in float32 and quantize it to int8"
        )
    values = _elements(tensor, np.dtype(dtype).newbyteorder("<"), what)
    if values.size != math.prod(shape):
        raise fault(f"number of elements of {what}", f"{math.prod(shape)}, as its shape {shape} says", values.size)
    return values.astype(dtype).reshape(shape)


def _elements(tensor: TensorProto, dtype: np.dtype[Any], what: str) -> Array:
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) % dtype.itemsize:
            raise fault(f"bytes of {what}", f"a multiple of {dtype.itemsize}", len(tensor.raw_data))
        raw = np.frombuffer(tensor.raw_data, np.uint8 if dtype.kind == "b" else dtype)
        return raw != 0 if dtype.kind == "b" else raw
    field = FIELDS.get(tensor.data_type, "int32_data")
    values = np.asarray(getattr(tensor, field), np.int32 if field == "int32_data" else dtype)
    if dtype.kind in "iu" and field == "int32_data" and values.size:
        info = np.iinfo(dtype)
        if values.min() < info.min or values.max() > info.max:
            raise fault(f"elements of {what}", f"within {dtype.name}", f"{values.min()} to {values.max()}")
    return values


def _type_name(kind: int) -> str:
    return TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else f"type {kind}"


def _node(index: int, node: NodeProto) -> OnnxNode:
    kind = _text(node.op_type)
    if not kind:
        raise fault(f"operator {index}", "named", "''")
    domain = _text(node.domain)
    if domain not in DOMAINS:
        kind = f"{domain}.{kind}"
    attributes: dict[str, Attribute] = {}
    for name, value in _attributes(node):
        if name in attributes:
            raise fault(f"attribute of operator {index} ({kind})", "the only one of its name", repr(name))
        attributes[name] = value
    return OnnxNode(
        index=index,
        name=_text(node.name),
        kind=kind,
        inputs=tuple(map(_text, node.input)),
        outputs=tuple(map(_text, node.output)),
        attributes=MappingProxyType(attributes),
    )


READERS: Mapping[int, Callable[[AttributeProto], Attribute]] = MappingProxyType(
    {
        AttributeProto.INT: lambda a: a.i,
        AttributeProto.FLOAT: lambda a: a.f,
        AttributeProto.STRING: lambda a: a.s.decode(),
        AttributeProto.TENSOR: lambda a: _array(a.t),
        AttributeProto.INTS: lambda a: tuple(a.ints),
        AttributeProto.FLOATS: lambda a: tuple(a.floats),
        AttributeProto.STRINGS: lambda a: tuple(s.decode() for s in a.strings),
    }
)
"""Values of attributes by type. Subgraphs belong to operators that are not served."""


def _attributes(node: NodeProto) -> Iterator[tuple[str, Attribute]]:
    for attribute in node.attribute:
        read = READERS.get(attribute.type)
        if read is not None:
            yield _text(attribute.name), read(attribute)


def _text(value: Any) -> str:
    """A name; the parser hands out as bytes what is not UTF-8."""
    if not isinstance(value, str):
        raise fault("name", "UTF-8", repr(value))
    return value
