# SPDX-License-Identifier: Apache-2.0
"""Reshapes and linear layers: to what the channel-packed layout can do without moving a byte."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..edit import Editor
from ..graph import (
    Conv2d,
    Dequantize,
    Graph,
    HostOp,
    Linear,
    Quantize,
    Reshape,
    Shape,
    Tensor,
    image_shape,
    is_layout_free,
)

__all__ = ["linears_to_convolutions", "merge_reshapes", "reshapes_to_host"]


def merge_reshapes(graph: Graph) -> Graph:
    """Let a Reshape of a Reshape read the first one's input, and remove one that changes no shape.

    An output of the network keeps its name, or its Reshape.
    """
    while True:
        edit = Editor(graph)
        producers, readers = graph.producers(), graph.consumers()
        for node in graph:
            if not isinstance(node, Reshape):
                continue
            source = producers.get(node.input)
            if isinstance(source, Reshape) and source.channels_last == node.channels_last:
                edit.replace(node, [replace(node, inputs=source.inputs)])
            elif graph.tensor(node.input).shape != graph.tensor(node.output).shape:
                continue
            elif node.output not in graph.outputs:
                edit.bypass(node)
            elif source is not None and node.input not in graph.outputs and readers[node.input] == (node,):
                outputs = tuple(node.output if name == node.input else name for name in source.outputs)
                edit.replace(source, [replace(source, outputs=outputs)])
                edit.replace(node, ())
                break
        if not edit.changed:
            return graph
        graph = edit.graph()


def linears_to_convolutions(graph: Graph) -> Graph:
    """Write each linear layer as a convolution.

    Behind a flattened image, or tokens, the kernel covers the whole of it, so the flatten goes away; any other is
    1 x 1.
    """
    edit = Editor(graph)
    producers = graph.producers()
    for node in graph:
        if not isinstance(node, Linear):
            continue
        source, weight = node.input, node.weight.reshape(*node.weight.shape, 1, 1)
        flatten = producers.get(source)
        if isinstance(flatten, Reshape) and len(graph.tensor(source).shape) == 1:
            source, weight = flatten.input, _over_image(node, flatten, graph.tensor(flatten.input).shape)
        edit.replace(
            node,
            [
                Conv2d(
                    name=node.name,
                    inputs=(source,),
                    outputs=node.outputs,
                    weight=weight,
                    bias=node.bias,
                    weight_scale=node.weight_scale,
                    low=node.low,
                    high=node.high,
                    rounding=node.rounding,
                    provenance=node.provenance,
                )
            ],
        )
    return edit.graph()


def _over_image(node: Linear, flatten: Reshape, shape: Shape) -> npt.NDArray[Any]:
    """Weights (O, C, H, W) of a linear layer behind a flattened tensor of ``shape``, in whose order its weights are."""
    channels, height, width = image_shape(shape)
    if len(shape) == 3 and not flatten.channels_last:
        return node.weight.reshape(-1, channels, height, width)
    last = node.weight.reshape(-1, height, width, channels)
    return np.ascontiguousarray(last.transpose(0, 3, 1, 2))


def reshapes_to_host(graph: Graph) -> Graph:
    """Let PyTorch do each Reshape that would move bytes on chip.

    One that counts channels last works on the integers. Of the others, one next to a border works on the float values
    there, else on dequantized ones. Exact in any case: dequantized integers quantize to themselves.
    """
    edit = Editor(graph)
    producers, readers = graph.producers(), graph.consumers()
    for node in graph:
        if not isinstance(node, Reshape):
            continue
        before, after = graph.tensor(node.input), graph.tensor(node.output)
        if is_layout_free(before.shape, after.shape, channels_last=node.channels_last):
            continue
        if node.channels_last:
            _move_channels_last(edit, node, before, after)
            continue
        shaped = Tensor(name=f"{node.output}.after", shape=after.shape, dtype="float32")
        source = producers.get(node.input)
        if isinstance(source, Quantize) and readers[node.input] == (node,) and node.input not in graph.outputs:
            edit.replace(source, ())
            border = replace(source, inputs=(shaped.name,), outputs=node.outputs)
            edit.replace(node, [_host_reshape(node, source.input, shaped), border], [shaped])
        else:
            real = Tensor(name=f"{node.output}.before", shape=before.shape, dtype="float32")
            back = Dequantize(name=f"{real.name}.dequantize", inputs=node.inputs, outputs=(real.name,))
            border = Quantize(name=f"{shaped.name}.quantize", inputs=(shaped.name,), outputs=node.outputs)
            edit.replace(node, [back, _host_reshape(node, real.name, shaped), border], [real, shaped])
            for reader in readers[node.output]:
                if isinstance(reader, Dequantize):
                    edit.replace(reader, ())
                    edit.redirect(reader.output, shaped.name)
    return edit.graph()


def _move_channels_last(edit: Editor, node: Reshape, before: Tensor, after: Tensor) -> None:
    """Replace a Reshape by host operators: channels last, reshape, channels first."""
    last = [shape if len(shape) < 3 else (*shape[1:], shape[0]) for shape in (before.shape, after.shape)]
    moves: list[tuple[str, tuple[int, ...], Shape]] = []
    if len(before.shape) == 3:
        moves.append(("aten.permute.default", (0, 2, 3, 1), last[0]))
    moves.append(("aten.reshape.default", (1, *last[1]), last[1]))
    if len(after.shape) == 3:
        moves.append(("aten.permute.default", (0, 3, 1, 2), after.shape))
    nodes: list[HostOp] = []
    tensors: list[Tensor] = []
    source = before.name
    for number, (target, argument, shape) in enumerate(moves, 1):
        final = number == len(moves)
        result = after if final else replace(after, name=f"{after.name}.moved{number}", shape=shape)
        tensors.append(result)
        nodes.append(
            HostOp(
                name=node.name if final else f"{node.name}.move{number}",
                inputs=(source,),
                outputs=(result.name,),
                target=target,
                args=({"tensor": source}, argument),
                provenance=node.provenance,
            )
        )
        source = result.name
    edit.replace(node, nodes, tensors)


def _host_reshape(node: Reshape, source: str, target: Tensor) -> HostOp:
    return HostOp(
        name=node.name,
        inputs=(source,),
        outputs=(target.name,),
        target="aten.reshape.default",
        args=({"tensor": source}, (1, *target.shape)),
        provenance=node.provenance,
    )
