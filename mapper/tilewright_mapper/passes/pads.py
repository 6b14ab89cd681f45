# SPDX-License-Identifier: Apache-2.0
"""Borders around an image become the padding of the convolutions and pools behind it."""

from dataclasses import replace

from tilewright_hdl.numerics import INT8_MIN

from ..edit import Editor
from ..graph import AvgPool2d, Conv2d, Graph, MaxPool2d, Node, Pad2d

__all__ = ["fold_pads"]


def fold_pads(graph: Graph) -> Graph:
    """Let each node behind a border pad by itself where its own padding has the same value, which is exact.

    That of a convolution is a border of zeros; borders of one value add up.
    """
    while True:
        edit = Editor(graph)
        producers = graph.producers()
        for node in graph:
            if not isinstance(node, Conv2d | MaxPool2d | AvgPool2d | Pad2d):
                continue
            pad = producers.get(node.input)
            if not isinstance(pad, Pad2d) or pad.value != _own_value(graph, node):
                continue
            top, left, bottom, right = (a + b for a, b in zip(pad.padding, node.padding, strict=True))
            provenance = pad.provenance.merged(node.provenance)
            folded = replace(
                node,
                inputs=pad.inputs,
                padding=(top, left, bottom, right),
                provenance=replace(provenance, module=node.provenance.module),
            )
            edit.replace(node, [folded])
        if not edit.changed:
            return graph
        graph = edit.graph()


def _own_value(graph: Graph, node: Node) -> int | None:
    """Integer that a node's own padding stands for; ``None`` if padding differs from any element."""
    match node:
        case Pad2d():
            return node.value
        case MaxPool2d():
            return INT8_MIN
        case AvgPool2d(raw=True):
            return 0 if node.divisor else None
    _, zero_point = graph.tensor(node.inputs[0]).quantization
    return zero_point
