# SPDX-License-Identifier: Apache-2.0
"""The rounding rule of a whole graph."""

from dataclasses import replace

from tilewright_hdl.numerics import Rounding

from .graph import Graph, Rounded

__all__ = ["with_rounding"]


def with_rounding(graph: Graph, rounding: Rounding) -> Graph:
    """The graph with every rescale by one rule.

    Averages of stored integers (``AvgPool2d.raw``) keep theirs: they divide and rescale nothing.
    """
    nodes = tuple(
        replace(node, rounding=rounding) if isinstance(node, Rounded) and not getattr(node, "raw", False) else node
        for node in graph
    )
    return replace(graph, nodes=nodes)
