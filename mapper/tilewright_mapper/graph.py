# SPDX-License-Identifier: Apache-2.0
"""The graph that the mapper works on.

A :class:`Graph` is an ordered tuple of nodes over named tensors. Everything is immutable: a pass takes a graph
and returns another one, and two graphs compare equal when their structure, numbers and names are equal.

Shapes
------
A shape has no batch. An int8 tensor has rank 1 to 3 and is read as an image of channels, rows and columns by
:func:`image_shape`: ``(C,)`` is ``C x 1 x 1``; ``(T, D)``, T tokens of D features, is ``D x 1 x T``; ``(C, H, W)``
is itself. On chip the channels of one pixel lie side by side (NHWC), whatever the rank.

Semantics
---------
An integer ``q`` stands for the real number ``scale * (q - zero_point)``. Integer operators are defined by
``tilewright_sim.tensor_reference``; host operators are run by PyTorch on one image at a time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tilewright_hdl.activation_layout import image_shape
from tilewright_hdl.program_integer import spatial_shape

from .nodes import (
    Add,
    AvgPool2d,
    Clamped,
    ConstantTensor,
    Conv2d,
    Dequantize,
    Elementwise,
    HostOp,
    IntegerOp,
    Linear,
    MaxPool2d,
    Multiply,
    Node,
    Pad2d,
    Quantize,
    Requantize,
    Reshape,
    Rounded,
    Subtract,
    Table,
    Unsupported,
)
from .tensors import Padding, Pair, Provenance, QuantizedConstant, Shape, Tensor

__all__ = [
    "Add",
    "AvgPool2d",
    "Clamped",
    "ConstantTensor",
    "Conv2d",
    "Dequantize",
    "Elementwise",
    "Graph",
    "HostOp",
    "IntegerOp",
    "Linear",
    "MaxPool2d",
    "Multiply",
    "Node",
    "Pad2d",
    "Padding",
    "Pair",
    "Provenance",
    "Quantize",
    "QuantizedConstant",
    "Requantize",
    "Reshape",
    "Rounded",
    "Shape",
    "Subtract",
    "Table",
    "Tensor",
    "Unsupported",
    "image_shape",
    "is_layout_free",
    "spatial_shape",
    "tensor_refs",
]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A network.

    Parameters
    ----------
    nodes : tuple of Node
        Each after the producers of its inputs.
    tensors : mapping of str to Tensor
        All that the nodes, inputs and outputs name.
    inputs, outputs : tuple of str
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        """Node of a given name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"No node is named {name!r}; the graph has {', '.join(n.name for n in self.nodes)}")

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]

    def producers(self) -> dict[str, Node]:
        """Node that makes each tensor; graph inputs are missing."""
        return {output: node for node in self.nodes for output in node.outputs}

    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """Nodes that read each tensor, in order."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}


def is_layout_free(before: Shape, after: Shape, *, channels_last: bool = False) -> bool:
    """Whether a reshape leaves every byte of the channel-packed layout where it is.

    Channels and pixels must stay what they were (rows of channels are padded to whole words), and so must the
    order in which the elements are counted: PyTorch's has channels first in an image, features last in tokens.
    """
    (c, h, w), (c2, h2, w2) = image_shape(before), image_shape(after)
    same_order = channels_last or c == 1 or h * w == 1 or (len(before) == 2) == (len(after) == 2)
    return (c, h * w) == (c2, h2 * w2) and same_order


def tensor_refs(value: Any) -> Iterator[str]:
    """Names of the tensors that the arguments of a :class:`HostOp` refer to, in order."""
    if isinstance(value, Mapping):
        if "tensor" in value:
            yield value["tensor"]
        else:
            for item in value.values():
                yield from tensor_refs(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensor_refs(item)
