# SPDX-License-Identifier: Apache-2.0
"""Reshapes and linear layers: to what the channel-packed layout can do without moving a byte."""

from dataclasses import replace

from ..edit import Editor
from ..graph import Conv2d, Dequantize, Graph, HostOp, Linear, Quantize, Reshape, Tensor, is_layout_free

__all__ = ["linears_to_convolutions", "merge_reshapes", "reshapes_to_host"]


def merge_reshapes(graph: Graph) -> Graph:
    """Let a Reshape of a Reshape read the first one's input, and remove one that changes no shape."""
    while True:
        edit = Editor(graph)
        producers = graph.producers()
        for node in graph:
            if not isinstance(node, Reshape):
                continue
            source = producers.get(node.input)
            if isinstance(source, Reshape):
                edit.replace(node, [replace(node, inputs=source.inputs)])
            elif graph.tensor(node.input).shape == graph.tensor(node.output).shape:
                edit.bypass(node)
        if not edit.changed:
            return graph
        graph = edit.graph()


def linears_to_convolutions(graph: Graph) -> Graph:
    """Write each linear layer as a convolution.

    Behind a flattened image the kernel covers the whole image, so the flatten goes away; any other is 1 x 1.
    """
    edit = Editor(graph)
    producers = graph.producers()
    for node in graph:
        if not isinstance(node, Linear):
            continue
        source, kernel = node.input, (node.weight.shape[1], 1, 1)
        flatten = producers.get(source)
        if isinstance(flatten, Reshape) and len(graph.tensor(source).shape) == 1:
            image = graph.tensor(flatten.input).shape
            if len(image) == 3:
                source, kernel = flatten.input, image
        edit.replace(
            node,
            [
                Conv2d(
                    name=node.name,
                    inputs=(source,),
                    outputs=node.outputs,
                    weight=node.weight.reshape(-1, *kernel),
                    bias=node.bias,
                    weight_scale=node.weight_scale,
                    low=node.low,
                    high=node.high,
                    provenance=node.provenance,
                )
            ],
        )
    return edit.graph()


def reshapes_to_host(graph: Graph) -> Graph:
    """Let PyTorch do each Reshape that would move bytes on chip.

    Next to a border the reshape works on the float values there, else on dequantized ones. Exact in any case:
    dequantized integers quantize to themselves.
    """
    edit = Editor(graph)
    producers, readers = graph.producers(), graph.consumers()
    for node in graph:
        if not isinstance(node, Reshape):
            continue
        before, after = graph.tensor(node.input), graph.tensor(node.output)
        if is_layout_free(before.shape, after.shape):
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


def _host_reshape(node: Reshape, source: str, target: Tensor) -> HostOp:
    return HostOp(
        name=node.name,
        inputs=(source,),
        outputs=(target.name,),
        target="aten.reshape.default",
        args=({"tensor": source}, (1, *target.shape)),
        provenance=node.provenance,
    )
