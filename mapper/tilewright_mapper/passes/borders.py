# SPDX-License-Identifier: Apache-2.0
"""Moving the borders between float and int8, so that integer operators show.

All of these are exact: Quantize is monotonic, so it commutes with maxima and clamps, and it works element by
element, so it commutes with reshapes.
"""

from dataclasses import replace

import torch

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, QuantizeRule
from tilewright_sim import tensor_reference

from ..aten import operator_name, tensor_name
from ..edit import Editor
from ..graph import Dequantize, Graph, HostOp, MaxPool2d, Quantize, Requantize, Reshape, Table, Tensor
from ..rounding import rounding_before
from .clamps import clamp_bounds
from .windows import max_pool, zero_padding

__all__ = ["expose_zero_pads", "fuse_pairs", "hoist_quantize", "quantized_by", "sink_dequantize"]

RESHAPES = frozenset(
    {
        "_unsafe_view",
        "flatten",
        "reshape",
        "squeeze",
        "squeeze_copy",
        "unflatten",
        "unsqueeze",
        "unsqueeze_copy",
        "view",
        "view_copy",
    }
)

MOST_MOVES = 100
"""Operators that a border moves past; in a longer chain, which no network has, the others stay on the host."""


def sink_dequantize(graph: Graph) -> Graph:
    """``reshape(dequantize(x))`` becomes ``dequantize(reshape(x))``; max pools likewise."""
    for _ in range(MOST_MOVES):
        edit = Editor(graph)
        producers = graph.producers()
        for node in graph:
            source = producers.get(node.inputs[0]) if isinstance(node, HostOp) and node.inputs else None
            if not isinstance(source, Dequantize) or not isinstance(node, HostOp):
                continue
            moved = _int8_tensor(graph, f"{node.outputs[0]}.int8", graph.tensor(source.input), node)
            integer = _on_integers(graph, node, source.input, moved)
            if moved is None or integer is None:
                continue
            back = Dequantize(name=f"{moved.name}.dequantize", inputs=(moved.name,), outputs=node.outputs)
            edit.replace(node, [integer, back], [moved])
        if not edit.changed:
            break
        graph = edit.graph()
    return graph


def hoist_quantize(graph: Graph) -> Graph:
    """``quantize(reshape(x))`` becomes ``reshape(quantize(x))``; max pools likewise, and clamps become bounds."""
    for _ in range(MOST_MOVES):
        edit = Editor(graph)
        readers = graph.consumers()
        for node in graph:
            if not isinstance(node, HostOp) or len(node.outputs) != 1 or node.output in graph.outputs:
                continue
            borders = [q for q in readers[node.output] if isinstance(q, Quantize)]
            if not borders or len(borders) != len(readers[node.output]):
                continue
            if _swap(graph, edit, node, borders):
                edit.replace(node, ())
        if not edit.changed:
            break
        graph = edit.graph()
    return graph


def _swap(graph: Graph, edit: Editor, node: HostOp, borders: list[Quantize]) -> bool:
    """Exchange ``node`` with each Quantize behind it; False if that is not possible."""
    bounds = clamp_bounds(node)
    for index, border in enumerate(borders):
        target = graph.tensor(border.output)
        if bounds is not None:
            low, high = (_quantized(bound, target, border) for bound in bounds)
            provenance = node.provenance.merged(border.provenance)
            edit.replace(border, [replace(border, inputs=node.inputs, low=low, high=high, provenance=provenance)])
            continue
        name = tensor_name(node.args[0]) if node.args else None
        source = graph.tensor(name) if name is not None else None
        if source is None or source.dtype != "float32" or not source.batched or not 1 <= len(source.shape) <= 3:
            return False
        early = replace(target, name=f"{target.name}.early", shape=source.shape)
        integer = _on_integers(graph, node, early.name, target)
        if integer is None:
            return False
        if index:
            integer = replace(integer, name=f"{integer.name}#{index + 1}")
        edit.replace(border, [replace(border, inputs=(source.name,), outputs=(early.name,)), integer], [early])
    return True


def _quantized(bound: float, target: Tensor, border: Quantize) -> int:
    """Integer that a real bound becomes, by the same float32 arithmetic as the values."""
    return int(quantized_by(border, target, torch.tensor(bound, dtype=torch.float32)))


def _int8_tensor(graph: Graph, name: str, like: Tensor, node: HostOp) -> Tensor | None:
    """Int8 tensor of the shape of a node's output, None if the hardware could not hold it."""
    out = graph.tensor(node.outputs[0])
    if len(node.outputs) != 1 or not out.batched or not 1 <= len(out.shape) <= 3 or min(out.shape) == 0:
        return None
    return replace(like, name=name, shape=out.shape)


def _on_integers(graph: Graph, node: HostOp, source: str, target: Tensor | None) -> Reshape | MaxPool2d | None:
    """The node as an operator from the int8 tensor ``source`` to ``target``."""
    if target is None or not graph.tensor(node.inputs[0]).batched:
        return None
    if operator_name(node) in RESHAPES and len(node.inputs) == 1:
        return Reshape(name=node.name, inputs=(source,), outputs=(target.name,), provenance=node.provenance)
    if operator_name(node) == "max_pool2d":
        return max_pool(graph, node, source, target.name)
    return None


def expose_zero_pads(graph: Graph) -> Graph:
    """Undo the quantization behind a padding with zero, so that a convolution finds the padding.

    ``dequantize(quantize(pad(x)))`` becomes ``pad(dequantize(quantize(x)))``: zero stays zero.
    """
    edit = Editor(graph)
    producers, readers = graph.producers(), graph.consumers()
    for border in graph:
        pad = producers.get(border.inputs[0]) if isinstance(border, Quantize) else None
        if not isinstance(border, Quantize) or not isinstance(pad, HostOp) or zero_padding(pad) is None:
            continue
        source, target = graph.tensor(pad.inputs[0]), graph.tensor(border.output)
        backs = [n for n in readers[border.output] if isinstance(n, Dequantize)]
        zero_is_held = border.low <= target.quantization[1] <= border.high
        if len(backs) != len(readers[border.output]) or not source.batched or not zero_is_held:
            continue
        early = replace(target, name=f"{target.name}.unpadded", shape=source.shape)
        real = Tensor(name=f"{early.name}.real", shape=source.shape, dtype="float32")
        padded = replace(graph.tensor(pad.output), name=f"{target.name}.padded")
        edit.replace(
            border,
            [
                replace(border, inputs=(source.name,), outputs=(early.name,)),
                Dequantize(name=f"{early.name}.dequantize", inputs=(early.name,), outputs=(real.name,)),
                replace(
                    pad,
                    name=f"{pad.name}.{target.name}",
                    inputs=(real.name,),
                    outputs=(padded.name,),
                    args=({"tensor": real.name}, *pad.args[1:]),
                ),
            ],
            [early, real, padded],
        )
        for back in backs:
            edit.replace(back, ())
            edit.redirect(back.output, padded.name)
    return edit.graph()


def fuse_pairs(graph: Graph) -> Graph:
    """``quantize(dequantize(x))`` becomes a Requantize, or nothing where scale, zero point and range agree.

    An output of the network keeps its name, so something has to make it.
    """
    edit = Editor(graph)
    producers = graph.producers()
    for node in graph:
        source = producers.get(node.inputs[0]) if isinstance(node, Quantize) else None
        if not isinstance(node, Quantize) or not isinstance(source, Dequantize):
            continue
        before, after = graph.tensor(source.input), graph.tensor(node.output)
        same = before.quantization == after.quantization and (node.low, node.high) == (INT8_MIN, INT8_MAX)
        if same and node.output not in graph.outputs:
            edit.replace(node, ())
            edit.redirect(node.output, source.input)
            continue
        if node.rule is QuantizeRule.HALF_AWAY:
            edit.replace(node, [_table(source, node, graph)])
            continue
        edit.replace(
            node,
            [
                Requantize(
                    name=node.name,
                    inputs=(source.input,),
                    outputs=node.outputs,
                    low=node.low,
                    high=node.high,
                    rounding=rounding_before(node),
                    provenance=node.provenance,
                )
            ],
        )
    return edit.graph()


def _table(source: Dequantize, border: Quantize, graph: Graph) -> Table:
    """The two as one table, by their own float32 arithmetic."""
    scale, zero_point = graph.tensor(source.input).quantization
    every = torch.arange(INT8_MIN, INT8_MAX + 1, dtype=torch.int8)
    real = tensor_reference.dequantize(every, scale=scale, zero_point=zero_point)
    return Table(
        name=border.name,
        inputs=(source.input,),
        outputs=border.outputs,
        table=quantized_by(border, graph.tensor(border.output), real).numpy(),
        provenance=border.provenance,
    )


def quantized_by(border: Quantize, target: Tensor, real: torch.Tensor) -> torch.Tensor:
    """int8 values that ``border`` makes of real ones for the tensor ``target``."""
    scale, zero_point = target.quantization
    return tensor_reference.quantize(
        real, scale=scale, zero_point=zero_point, low=border.low, high=border.high, rule=border.rule
    )
