# SPDX-License-Identifier: Apache-2.0
"""Tables: any chain of element-wise float operators on one int8 tensor is a map of 256 values."""

from collections.abc import Mapping

import numpy as np
import torch

from tilewright_hdl.numerics import HARDWARE_ROUNDINGS
from tilewright_sim import tensor_reference

from ..aten import evaluate, operator_name
from ..edit import Editor
from ..elementwise import ELEMENTWISE
from ..graph import Dequantize, Graph, HostOp, Node, Provenance, Quantize, QuantizedConstant, Requantize, Table
from ..rescale import requantizer
from .borders import quantized_by

__all__ = ["build_tables"]


def build_tables(graph: Graph) -> Graph:
    """Replace each Quantize behind element-wise operators on one int8 tensor by a Table.

    The entries are what PyTorch's float32 operators and PyTorch's quantization make of each of the 256 values, so a
    chain such as ``x * sigmoid(x)``, with or without a quantization in the middle, is one exact table.
    """
    tables: dict[str, Node] = {}
    edit = Editor(graph)
    producers = graph.producers()
    for node in graph:
        if isinstance(node, Quantize):
            table = _table(graph, node, {**producers, **tables})
            if table is not None:
                tables[table.output] = table
                edit.replace(node, [table])
    return edit.graph()


def _table(graph: Graph, border: Quantize, producers: Mapping[str, Node]) -> Table | None:
    cone = _cone(graph, border, producers)
    if cone is None:
        return None
    root, chain = cone
    entries = _entries(graph, root, chain, border)
    if entries is None:
        return None
    host = [node for node in chain if isinstance(node, HostOp)]
    provenance = Provenance().merged(*(n.provenance for n in host), border.provenance)
    return Table(
        name=f"{host[-1].name}.table",
        inputs=(root,),
        outputs=border.outputs,
        table=entries,
        provenance=Provenance(module=host[-1].provenance.module, operators=provenance.operators),
    )


def _cone(graph: Graph, border: Quantize, producers: Mapping[str, Node]) -> tuple[str, list[Node]] | None:
    """Int8 tensor on which ``border`` depends element by element, and the nodes between, in order."""
    shape = graph.tensor(border.output).shape
    found: dict[str, Node] = {}
    leaves: list[str] = []
    waiting = [border.input]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or graph.tensor(name).shape != shape:
            return None
        if node.name in found:
            continue
        found[node.name] = node
        if isinstance(node, HostOp) and _is_elementwise(node):
            waiting.extend(reversed(node.inputs))
        elif not isinstance(node, Dequantize):
            return None
        elif node.input not in leaves:
            leaves.append(node.input)
    if not any(isinstance(node, HostOp) for node in found.values()):
        return None
    chain = {node.name: node for node in graph if node.name in found}
    while len(leaves) > 1:
        inner = next((leaf for leaf in leaves if isinstance(producers.get(leaf), Table | Requantize)), None)
        if inner is None:
            return None
        node = producers[inner]
        assert isinstance(node, Table | Requantize)
        leaves = [leaf for leaf in leaves if leaf not in (inner, node.input)] + [node.input]
        chain = {node.name: node, **{key: value for key, value in chain.items() if key != node.name}}
    return leaves[0], list(chain.values())


def _is_elementwise(node: HostOp) -> bool:
    """Whether each element of the result depends on the same element of the inputs alone."""
    sizes = [c.values.size if isinstance(c, QuantizedConstant) else c.size for c in node.constants.values()]
    return operator_name(node) in ELEMENTWISE and len(node.outputs) == 1 and all(size == 1 for size in sizes)


def _requantized(graph: Graph, node: Requantize, x: torch.Tensor) -> torch.Tensor:
    source, target = graph.tensor(node.input).quantization, graph.tensor(node.output).quantization
    if node.rounding not in HARDWARE_ROUNDINGS:
        return tensor_reference.requantize_float(x, source, target, low=node.low, high=node.high)
    return tensor_reference.requantize(x, zero_point=source[1], requantizer=requantizer(graph, node))


def _entries(
    graph: Graph, root: str, chain: list[Node], border: Quantize
) -> np.ndarray[tuple[int], np.dtype[np.int8]] | None:
    """The 256 entries; None if one of them is no number."""
    values: dict[str, torch.Tensor] = {root: torch.arange(-128, 128, dtype=torch.int8).reshape(1, 256)}
    for node in chain:
        if isinstance(node, Dequantize):
            scale, zero_point = graph.tensor(node.input).quantization
            values[node.output] = tensor_reference.dequantize(values[node.input], scale=scale, zero_point=zero_point)
        elif isinstance(node, HostOp):
            (values[node.output],) = evaluate(node, values)
        elif isinstance(node, Table):
            values[node.output] = tensor_reference.table(values[node.input], torch.from_numpy(node.table))
        elif isinstance(node, Requantize):
            values[node.output] = _requantized(graph, node, values[node.input])
    result = values[border.input]
    if result.shape != (1, 256) or bool(result.isnan().any()):
        return None
    return quantized_by(border, graph.tensor(border.output), result).reshape(256).numpy()
