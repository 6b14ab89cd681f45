# SPDX-License-Identifier: Apache-2.0
"""The rounding rule of a whole graph."""

from dataclasses import replace

from tilewright_hdl.numerics import QuantizeRule, Rounding

from .graph import Graph, Quantize, Rounded

__all__ = ["rounding_before", "with_rounding"]


def rounding_before(border: Quantize) -> Rounding:
    """Rule of an integer operator that takes the place of a float one and of the Quantize behind it.

    ONNX has a rule of its own for both; PyTorch and TFLite define none for the integer operator.
    """
    return Rounding.FLOAT_HALF_EVEN if border.rule is QuantizeRule.HALF_EVEN else Rounding.SINGLE


def with_rounding(graph: Graph, rounding: Rounding) -> Graph:
    """The graph with every rescale by one rule.

    Averages of stored integers (``AvgPool2d.raw``) keep theirs: they divide and rescale nothing.
    """
    nodes = tuple(
        replace(node, rounding=rounding) if isinstance(node, Rounded) and node.rescales else node
        for node in graph
    )
    return replace(graph, nodes=nodes)
