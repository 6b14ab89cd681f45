# SPDX-License-Identifier: Apache-2.0
"""Clamps: ReLU and its relatives become bounds of what they follow."""

import math
from collections.abc import Mapping
from dataclasses import replace

from ..aten import argument, operator_name
from ..edit import Editor
from ..graph import Clamped, Graph, HostOp, Requantize

__all__ = ["clamp_bounds", "fold_clamps"]


def clamp_bounds(node: HostOp) -> tuple[float, float] | None:
    """Real bounds of an operator that only clamps, None for any other."""
    bounds = _bounds(node)
    if bounds is None or len(node.inputs) != 1 or any(isinstance(b, Mapping) for b in bounds):
        return None
    low = -math.inf if bounds[0] is None else float(bounds[0])
    high = math.inf if bounds[1] is None else float(bounds[1])
    return (low, high) if low <= high else None


def _bounds(node: HostOp) -> tuple[float | None, float | None] | None:
    match operator_name(node):
        case "relu":
            return 0.0, None
        case "relu6":
            return 0.0, 6.0
        case "hardtanh":
            return argument(node, "min_val"), argument(node, "max_val")
        case "clamp":
            return argument(node, "min"), argument(node, "max")
        case "clamp_min":
            return argument(node, "min"), None
        case "clamp_max":
            return None, argument(node, "max")
    return None


def fold_clamps(graph: Graph) -> Graph:
    """Move a Requantize that only clamps into the bounds of the node before it."""
    while True:
        edit = Editor(graph)
        producers, readers = graph.producers(), graph.consumers()
        for node in graph:
            if not isinstance(node, Requantize) or node.input in graph.outputs or len(readers[node.input]) != 1:
                continue
            source = producers.get(node.input)
            if graph.tensor(node.input).quantization != graph.tensor(node.output).quantization:
                continue
            if not isinstance(source, Clamped):
                continue
            low, high = (min(max(bound, node.low), node.high) for bound in (source.low, source.high))
            provenance = source.provenance.merged(node.provenance)
            edit.replace(source, [replace(source, outputs=node.outputs, low=low, high=high, provenance=provenance)])
            edit.replace(node, ())
            break
        if not edit.changed:
            return graph
        graph = edit.graph()
