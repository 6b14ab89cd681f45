# SPDX-License-Identifier: Apache-2.0
"""From a quantized ONNX file to a graph.

Both forms that onnxruntime's quantizer writes are served, and mixtures of them. Operators on integers (QOperator)
become integer nodes here (``qoperator``). Operators on floats between QuantizeLinear and DequantizeLinear (QDQ)
become operators of PyTorch between Quantize and Dequantize, as in :mod:`tilewright_mapper.pytorch.importer`, in which
``passes.canonicalize`` finds the integer nodes. All of them round by rule F
(``tilewright_hdl.numerics.Rounding.FLOAT_HALF_EVEN``).

A file may hold uint8 activations: they become int8, values and zero points less 128. That is exact, but for one thing:
QLinearAdd and QLinearMul have the zero points inside of their float32 arithmetic, so where a result is as good as
halfway between two integers it may fall to the other side (one in 100,000 with scales that are no round numbers).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from tilewright_hdl.errors import ModelError

from ..file_fault import fault
from ..graph import Graph, Tensor, Unsupported
from ..spec import verify
from .file import OnnxInput, OnnxModel, OnnxNode, read_onnx
from .floats import FLOAT
from .folding import fold
from .movement import MOVEMENT
from .operands import REQUANTIZE, Quantization, Refusal
from .qdq import BORDERS
from .qoperator import QUANTIZED
from .selection import SELECTION
from .translate import Translation

__all__ = ["import_onnx"]

OPERATORS: Mapping[str, Callable[[Translation, OnnxNode], None]] = MappingProxyType(
    {**BORDERS, **FLOAT, **MOVEMENT, **QUANTIZED, **SELECTION}
)
DYNAMIC = frozenset({"ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger"})
BRANCHES = frozenset({"If", "Loop", "Scan"})
TRANSPARENT = frozenset({*MOVEMENT, *SELECTION})
"""Operators whose result has the quantization of their first input."""


def import_onnx(data: bytes) -> Graph:
    """Graph of an ONNX file.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    Graph
        One image at a time; satisfies ``spec.ANY``. What cannot be served is in it as ``Unsupported``; what depends on
        that is left out.

    Raises
    ------
    ModelFileError
        A file that is damaged or contradicts itself.
    ModelError
        A float model, a batch that cannot become 1, sizes that the file leaves open.
    """
    model = read_onnx(data)
    t = Translation(model.opset)
    t.values.update(model.constants)
    inputs = tuple(_input(t, model, entry) for entry in model.inputs)
    for node in model.nodes:
        _translate(t, node)
    _count_skipped(t)
    outputs = _outputs(t, model)
    for name in t.unsigned.intersection(t.tensors):
        t.tensors[name] = replace(t.tensors[name], unsigned=True)
    graph = Graph(nodes=tuple(t.nodes), tensors=t.tensors, inputs=inputs, outputs=outputs)
    if not any(tensor.is_quantized for tensor in graph.tensors.values()):
        raise ModelError(f"The model must be quantized to int8, but no activation of it is: {REQUANTIZE}")
    verify(graph, after="import")
    return graph


def _translate(t: Translation, node: OnnxNode) -> None:
    if not node.outputs or not node.outputs[0]:
        raise fault(f"operator {node.index} ({node.kind})", "one with a first result", "one without")
    size = t.size()
    missing = next((name for name in node.inputs if name and name not in t.values), None)
    if missing is not None and node.kind in OPERATORS:
        t.skip(node, missing)
        return
    try:
        if missing is None and fold(t, node):
            return
        if node.kind not in OPERATORS:
            raise _unknown(node)
        if not node.inputs or any(isinstance(value, np.ndarray) for value in node.attributes.values()):
            raise Refusal("it must have inputs, and numbers and words as attributes", "export the model again")
        OPERATORS[node.kind](t, node)
    except Refusal as refusal:
        t.undo(size)
        t.refuse(node, refusal.reason, refusal.remedy)


def _unknown(node: OnnxNode) -> Refusal:
    if node.kind in DYNAMIC:
        return Refusal(f"{node.kind} quantizes while it runs", REQUANTIZE)
    if node.kind in BRANCHES:
        return Refusal(f"{node.kind} decides at run time what to compute", "export the model without control flow")
    return Refusal(f"{node.kind} is no operator that is served", "replace it, or cut the model in front of it")


def _input(t: Translation, model: OnnxModel, entry: OnnxInput) -> str:
    """Define an input of the network."""
    if len(entry.shape) < 2 or entry.shape[0] not in (None, 1):
        raise ModelError(
            f"Input {entry.name!r} must have the batch as its first axis, open or 1, but has shape {entry.shape}; "
            "export the model with a batch of 1"
        )
    shape = tuple(size for size in entry.shape[1:] if size is not None)
    if len(shape) != len(entry.shape) - 1 or min(shape) < 1:
        raise ModelError(
            f"Input {entry.name!r} must have fixed sizes but for the batch, but has shape {entry.shape}; "
            "fix them with onnxruntime.tools.make_dynamic_shape_fixed"
        )
    if entry.dtype in ("int8", "uint8"):
        quantization = _read_as(t, model, entry)
        try:
            tensor = t.int8(entry.name, shape, quantization)
        except Refusal as refusal:
            raise ModelError(f"Input {entry.name!r} cannot be served: {refusal.reason}; {refusal.remedy}") from refusal
    elif entry.dtype == "float32":
        tensor = t.add_tensor(Tensor(name=entry.name, shape=shape, dtype="float32"))
    else:
        raise ModelError(f"Input {entry.name!r} must be float32, int8 or uint8, but is {entry.dtype}; export it so")
    t.values[entry.name] = tensor.name
    return tensor.name


def _read_as(t: Translation, model: OnnxModel, entry: OnnxInput) -> Quantization:
    """Quantization of an integer input: that with which the first operator that says one reads it."""
    same = {entry.name}
    for node in model.nodes:
        if same.isdisjoint(node.inputs):
            continue
        if node.kind in TRANSPARENT and node.inputs[0] in same:
            same.update(filter(None, node.outputs[:1]))
        index = next(i for i, name in enumerate(node.inputs) if name in same)
        said = [name for name in node.inputs[index + 1 : index + 3] if name]
        if (node.kind in QUANTIZED or node.kind == "DequantizeLinear") and model.constants.keys() >= set(said):
            try:
                return t.quantization(node, index + 1, index + 2, entry.dtype)
            except Refusal:
                break
    raise ModelError(
        f"Input {entry.name!r} must have a scale and a zero point, but no operator that reads it says them; "
        f"{REQUANTIZE}"
    )


def _outputs(t: Translation, model: OnnxModel) -> tuple[str, ...]:
    names = []
    for name in model.outputs:
        value = t.values[name] if name in t.values else t.lost.get(name)
        if not isinstance(value, str) or value not in t.tensors:
            raise ModelError(f"Output {name!r} of the model must depend on its input; export the model again")
        names.append(value)
    # Nothing that is to be reported may be taken for dead.
    refused = [name for node in t.nodes if isinstance(node, Unsupported) for name in node.outputs]
    return tuple(dict.fromkeys([*names, *refused, *t.loose]))


def _count_skipped(t: Translation) -> None:
    """Let each refused operator say how many others could not be looked at because of it."""
    for index, node in enumerate(t.nodes):
        if isinstance(node, Unsupported) and (count := sum(t.skipped[name] for name in node.outputs)):
            t.nodes[index] = replace(node, reason=f"{node.reason} (operators behind it, not looked at: {count})")
