# SPDX-License-Identifier: Apache-2.0
"""Removing what does nothing."""

from dataclasses import replace

from ..aten import operator_name
from ..edit import Editor
from ..graph import Graph, HostOp, Node, QuantizedConstant

__all__ = ["drop_identities", "materialize_constants", "remove_dead_nodes"]

IDENTITIES = frozenset(
    {
        "_to_copy",
        "_unsafe_view",
        "alias",
        "alias_copy",
        "alpha_dropout",
        "clone",
        "contiguous",
        "detach",
        "detach_copy",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "expand",
        "expand_copy",
        "feature_dropout",
        "flatten",
        "lift_fresh_copy",
        "reshape",
        "slice",
        "slice_copy",
        "squeeze",
        "squeeze_copy",
        "to",
        "type_as",
        "unsqueeze",
        "view",
        "view_copy",
    }
)
"""Operators that hand their first input through if shape and type stay. Those that drop at random act in training
mode alone, which the importer refuses."""


def drop_identities(graph: Graph) -> Graph:
    """Remove dropout, copies, and slices, views and conversions that change neither shape nor type."""
    edit = Editor(graph)
    for node in graph:
        if isinstance(node, HostOp) and operator_name(node) in IDENTITIES and len(node.outputs) == 1 and node.inputs:
            before, after = graph.tensor(node.inputs[0]), graph.tensor(node.output)
            if replace(before, name=after.name) == after:
                edit.bypass(node)
    return edit.graph()


def remove_dead_nodes(graph: Graph) -> Graph:
    """Remove nodes whose results nobody reads."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    edit = Editor(graph)
    alive = {node.name for node in kept}
    for node in graph:
        if node.name not in alive:
            edit.replace(node, ())
    return edit.graph()


def materialize_constants(graph: Graph) -> Graph:
    """Turn the quantized constants that host operators still hold into the float arrays that they stand for."""
    edit = Editor(graph)
    for node in graph:
        if isinstance(node, HostOp) and any(isinstance(c, QuantizedConstant) for c in node.constants.values()):
            constants = {k: c.real() if isinstance(c, QuantizedConstant) else c for k, c in node.constants.items()}
            edit.replace(node, [replace(node, constants=constants)])
    return edit.graph()
