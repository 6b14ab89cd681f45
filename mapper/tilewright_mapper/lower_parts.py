# SPDX-License-Identifier: Apache-2.0
"""Nodes whose result is made in parts, by a layer for each: joined tensors, and averages that differ at the border."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, product
from typing import NamedTuple

from tilewright_hdl.config import AcceleratorConfig

from .aten import argument, operator_name
from .graph import AvgPool2d, Graph, HostOp, Node, image_shape
from .lower_layers import At

__all__ = ["MOST_REGIONS", "Region", "average_regions", "joined", "joins"]

MOST_REGIONS = 49
"""Parts of an average that are worth a layer each."""


def joins(graph: Graph, node: Node) -> bool:
    """Whether a node puts int8 tensors one behind the other."""
    return isinstance(node, HostOp) and operator_name(node) == "cat" and graph.tensor(node.output).is_quantized


def joined(graph: Graph, node: Node, config: AcceleratorConfig) -> list[tuple[str, At]] | None:
    """Tensors that a node joins and where each begins in the result; ``None`` if one would begin within a word."""
    assert isinstance(node, HostOp)
    rank = len(graph.tensor(node.output).shape)
    # Axes of the image form, of which the batch is none.
    axis = {1: (None, 0), 2: (None, 2, 0), 3: (None, 0, 1, 2)}[rank][argument(node, "dim") % (rank + 1)]
    if axis is None:
        return None
    pieces, at = [], 0
    for reference in argument(node, "tensors"):
        name = reference["tensor"]
        word, rest = divmod(at, config.array.rows)
        if axis == 0 and rest:
            return None
        pieces.append((name, At(*((0, 0, word) if axis == 0 else (at, 0, 0) if axis == 1 else (0, at, 0)))))
        at += image_shape(graph.tensor(name).shape)[axis]
    return pieces


class Region(NamedTuple):
    """Rectangle of an average's result whose windows have equally many elements.

    Members
    -------
    node : AvgPool2d
        With that number as divisor, and the padding that the first window of the rectangle sees: negative if it begins
        inside.
    y, x, height, width : int
        Of the rectangle.
    """

    node: AvgPool2d
    y: int
    x: int
    height: int
    width: int


def average_regions(graph: Graph, node: AvgPool2d) -> list[Region]:
    """Regions of an average whose windows divide by the elements that are no padding."""
    sizes, results = (image_shape(graph.tensor(name).shape)[1:] for name in (node.input, node.output))
    rows, columns = (list(_runs(node, axis, sizes[axis], results[axis])) for axis in (0, 1))
    return [
        Region(
            replace(node, divisor=in_column * in_row,
                    padding=(node.padding[0] - y * node.stride[0], node.padding[1] - x * node.stride[1], 0, 0)),
            y, x, height, width,
        )
        for (y, height, in_column), (x, width, in_row) in product(rows, columns)
    ]


def _runs(node: AvgPool2d, axis: int, size: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Runs of windows along an axis with equally many elements inside: (first, how many, elements)."""
    def inside(window: int) -> int:
        start = window * node.stride[axis] - node.padding[axis]
        return max(0, min(start + node.kernel[axis], size) - max(start, 0))

    for elements, windows in groupby(range(count), inside):
        run = list(windows)
        yield run[0], len(run), elements
