# SPDX-License-Identifier: Apache-2.0
"""Operands of one channel that an operation repeats for all channels of the other."""

from dataclasses import replace

import numpy as np

from ..edit import Editor
from ..graph import ConstantTensor, Conv2d, Elementwise, Graph, Node, Tensor, image_shape

__all__ = ["spread_channels"]


def spread_channels(graph: Graph) -> Graph:
    """Copy an operand of one channel into as many as its partner has: by a 1 x 1 convolution of ones.

    That is exact by any rounding rule, since its factor is one. On chip a word holds the channels of a pixel, so that a
    channel cannot be read again for others as a row can.
    """
    edit = Editor(graph)
    producers = graph.producers()
    for node in graph:
        if not isinstance(node, Elementwise):
            continue
        channels, _, _ = image_shape(graph.tensor(node.output).shape)
        spread: dict[str, Node] = {}
        tensors: list[Tensor] = []
        for name in dict.fromkeys(node.inputs):
            tensor = graph.tensor(name)
            narrow, height, width = image_shape(tensor.shape)
            if narrow == channels:
                continue
            tensors.append(replace(tensor, name=f"{name}.for.{node.name}", shape=(channels, height, width)))
            spread[name] = _copies(node, producers.get(name), name, tensors[-1])
        if spread:
            inputs = tuple(spread[name].output if name in spread else name for name in node.inputs)
            edit.replace(node, [*spread.values(), replace(node, inputs=inputs)], tensors)
    return edit.graph() if edit.changed else graph


def _copies(node: Elementwise, producer: Node | None, source: str, target: Tensor) -> Node:
    """Node that makes ``target`` of the one channel of ``source``."""
    channels, height, width = target.shape
    if isinstance(producer, ConstantTensor):
        values = np.broadcast_to(producer.values.reshape(1, height, width), target.shape)
        return replace(producer, name=target.name, outputs=(target.name,), values=np.ascontiguousarray(values))
    return Conv2d(
        name=target.name,
        inputs=(source,),
        outputs=(target.name,),
        weight=np.ones((channels, 1, 1, 1), np.int8),
        bias=np.zeros(channels, np.int32),
        weight_scale=np.ones(channels),
        rounding=node.rounding,
        provenance=node.provenance,
    )
