# SPDX-License-Identifier: Apache-2.0
"""Borders around an image become the padding of the convolutions behind it."""

from dataclasses import replace

from ..edit import Editor
from ..graph import Conv2d, Graph, Pad2d

__all__ = ["fold_pads"]


def fold_pads(graph: Graph) -> Graph:
    """Let each convolution behind a border of zeros pad by itself, which is exact: its padding is the zero point."""
    while True:
        edit = Editor(graph)
        producers = graph.producers()
        for node in graph:
            pad = producers.get(node.input) if isinstance(node, Conv2d) else None
            if not isinstance(node, Conv2d) or not isinstance(pad, Pad2d):
                continue
            if pad.value != graph.tensor(pad.input).quantization[1]:
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
