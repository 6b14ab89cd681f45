# SPDX-License-Identifier: Apache-2.0
"""Fusing: from the nodes of one phase to layers of the accelerator.

A node joins the layer before it if nothing else wants that layer's result, and one pass through the hardware can do
both. A fused layer takes the place of its last node, so that a residual from another branch is there, whichever branch
comes first.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Combine, RoundingCode
from tilewright_hdl.numerics import INT8_MIN, ONE_RULE_SHIFT, Requantizer, Rounding

from .graph import Add, AvgPool2d, Conv2d, Graph, MaxPool2d, Node, Requantize, Reshape, Table, image_shape
from .lower_layers import DeviceLayer, LaneParameters, Operand, Window
from .rescale import add_parameters, hardware_rescale

__all__ = ["ROUNDING_CODES", "alias_roots", "lower_phase"]

ROUNDING_CODES = {Rounding.SINGLE: RoundingCode.SINGLE, Rounding.TFLITE_DOUBLE: RoundingCode.TFLITE_DOUBLE}


def alias_roots(graph: Graph, nodes: Collection[Node]) -> dict[str, str]:
    """For each tensor the one whose bytes it shares, through reshapes among ``nodes``."""
    roots = {name: name for name in graph.tensors}
    for node in nodes:
        if isinstance(node, Reshape):
            roots[node.output] = roots[node.input]
    return roots


def lower_phase(
    graph: Graph,
    nodes: tuple[Node, ...],
    config: AcceleratorConfig,
    *,
    kept: Collection[str],
    roots: Mapping[str, str],
) -> list[DeviceLayer]:
    """Layers for the nodes of a phase, in order.

    Parameters
    ----------
    kept : collection of str
        Tensors that are wanted outside of the phase.
    roots : mapping of str to str
        See :func:`alias_roots`.
    """
    uses = dict.fromkeys(graph.tensors, 0)
    for node in nodes:
        if not isinstance(node, Reshape):
            for name in node.inputs:
                uses[roots[name]] += 1
    for name in kept:
        uses[roots[name]] += 1
    builder = _Builder(graph, config, roots)
    layers: list[DeviceLayer] = []
    for node in nodes:
        if isinstance(node, Reshape):
            continue
        by_output = {layer.output.root: layer for layer in layers}
        # The younger of two branches first: the other one's result is ready sooner.
        candidates = sorted(
            (layers.index(by_output[roots[name]]), name) for name in node.inputs
            if roots[name] in by_output and uses[roots[name]] == 1
        )
        for index, name in reversed(candidates):
            fused = builder.join(layers[index], node, name)
            if fused is not None:
                del layers[index]
                layers.append(fused)
                break
        else:
            layers.append(builder.alone(node))
    return layers


class _Builder:
    """Makes layers from nodes."""

    def __init__(self, graph: Graph, config: AcceleratorConfig, roots: Mapping[str, str]):
        self._graph = graph
        self._config = config
        self._roots = roots

    def alone(self, node: Node) -> DeviceLayer:
        """A layer of one node."""
        source = self._operand(node.inputs[0])
        base = DeviceLayer(
            name=node.name, op=node.op, nodes=(), source=source, output=self._operand(node.output), middle=source,
        )
        layer = self._convolution(base, node) if isinstance(node, Conv2d) else self._with(base, node, node.inputs[0])
        assert layer is not None, "one node has one rule"
        return layer

    def join(self, layer: DeviceLayer, node: Node, name: str) -> DeviceLayer | None:
        """``layer`` with ``node``, a reader of its result ``name``, behind it; ``None`` if one pass cannot do both."""
        if isinstance(node, Conv2d) or self._operand(name) != layer.output:
            return None
        if layer.post.get("combine", Combine.NONE) != Combine.NONE:
            return None
        if isinstance(node, Table) and layer.table is not None:
            return None
        if isinstance(node, MaxPool2d | AvgPool2d) and not self._may_pool(layer, node):
            return None
        joined = self._with(layer, node, name)
        if joined is None:
            return None
        return replace(joined, op=f"{layer.op}+{node.op}", output=self._operand(node.output))

    def _may_pool(self, layer: DeviceLayer, node: MaxPool2d | AvgPool2d) -> bool:
        """Whether a pool on the way out of the accumulators computes nothing twice, and finds its windows there."""
        if layer.conv is None:
            return True
        window = _window(node)
        step = layer.channel_step(self._config) // self._config.array.columns
        entries = self._config.memory.accumulator_entries // step
        middle = layer.middle
        if middle.height * middle.width <= entries:
            return True
        if window.overlaps:
            return False
        return (window.kernel[0] - 1) * window.dilation[0] * middle.width + middle.width <= entries

    def _operand(self, name: str) -> Operand:
        return Operand(self._roots[name], *image_shape(self._graph.tensor(name).shape))

    def _with(self, layer: DeviceLayer, node: Node, name: str) -> DeviceLayer | None:
        """``layer`` with the operation of ``node`` in the post-processor; ``None`` if their rounding rules differ."""
        layer = replace(layer, nodes=(*layer.nodes, node.name))
        _, zero_in = self._graph.tensor(name).quantization
        if isinstance(node, Table):
            return replace(layer, table=node.table.tobytes(), post=_extend(layer, use_table=1))
        if isinstance(node, Add):
            return self._addition(layer, node, name)
        if isinstance(node, MaxPool2d):
            return replace(layer, window=_window(node), post=_extend(layer, combine=Combine.MAX, pad_value=INT8_MIN))
        if isinstance(node, AvgPool2d):
            count = node.kernel[0] * node.kernel[1]
            offset, pad = (0, 0) if node.raw else (-count * zero_in, zero_in)
            return self._average(replace(layer, window=_window(node)), node, offset=offset, pad_value=pad)
        assert isinstance(node, Requantize), node
        return self._average(layer, node, offset=-zero_in)

    def _average(self, layer: DeviceLayer, node: AvgPool2d | Requantize, **fields: int) -> DeviceLayer | None:
        rescale = self._requantizer(node)
        post = _with_rounding(layer, rescale.rounding, rescale.shift.tolist())
        if post is None:
            return None
        return replace(layer, post=MappingProxyType({
            **post, **fields,
            "combine": int(Combine.AVERAGE),
            "multiplier_out": int(rescale.multiplier[0]),
            "shift_out": int(rescale.shift[0]),
            "zero_point_out": rescale.zero_point,
            "low_out": rescale.low,
            "high_out": rescale.high,
        }))

    def _addition(self, layer: DeviceLayer, node: Add, name: str) -> DeviceLayer | None:
        p = add_parameters(self._graph, node, bits=self._config.post.multiplier_bits)
        post = _with_rounding(layer, p.rounding, [p.shift_a, p.shift_b, p.shift_out])
        if post is None:
            return None
        first = (p.multiplier_a, p.shift_a, p.zero_point_a)
        second = (p.multiplier_b, p.shift_b, p.zero_point_b)
        other = node.inputs[1]
        if name != node.inputs[0]:
            # The sum does not change when its operands change places.
            first, second, other = second, first, node.inputs[0]
        return replace(layer, residual=self._operand(other), post=MappingProxyType({
            **post,
            "combine": int(Combine.ADD),
            "multiplier_a": first[0], "shift_a": first[1], "zero_point_a": first[2],
            "multiplier_b": second[0], "shift_b": second[1], "zero_point_b": second[2],
            "multiplier_out": p.multiplier_out, "shift_out": p.shift_out, "zero_point_out": p.zero_point_out,
            "low_out": p.low, "high_out": p.high,
        }))

    def _convolution(self, layer: DeviceLayer, node: Conv2d) -> DeviceLayer:
        _, zero_in = self._graph.tensor(node.input).quantization
        rescale = self._requantizer(node)
        sums = node.weight.reshape(node.weight.shape[0], -1).sum(axis=1, dtype=np.int64)
        bias = node.bias.astype(np.int64) - zero_in * sums
        limits = np.iinfo(np.int32)
        if bias.min() < limits.min or bias.max() > limits.max:
            worst = int(np.argmax(np.abs(bias)))
            raise ModelError(f"Conv2d {node.name!r}: the bias with the zero point folded in must be an int32, but is "
                             f"{bias[worst]} in channel {worst}; quantize the layer with a larger weight scale")
        post = _with_rounding(layer, rescale.rounding, rescale.shift.tolist())
        assert post is not None, "a new layer has no rule"
        parameters = LaneParameters(*(np.broadcast_to(a, bias.shape)
                                      for a in (bias, rescale.multiplier, rescale.shift)))
        return replace(
            layer, nodes=(node.name,), conv=node, pad_value=zero_in, parameters=parameters, middle=layer.output,
            post=MappingProxyType({**post, "low": rescale.low, "high": rescale.high,
                                   "zero_point": rescale.zero_point}),
        )

    def _requantizer(self, node: Conv2d | AvgPool2d | Requantize) -> Requantizer:
        rescale = hardware_rescale(self._graph, node, self._config.post)
        assert rescale is not None, "placing leaves such a node to the host"
        return rescale


def _window(node: MaxPool2d | AvgPool2d) -> Window:
    dilation = (1, 1) if isinstance(node, AvgPool2d) else node.dilation
    return Window(node.kernel, node.stride, node.padding[:2], dilation)


def _extend(layer: DeviceLayer, **fields: int) -> Mapping[str, int]:
    return MappingProxyType({**layer.post, **{name: int(value) for name, value in fields.items()}})


def _with_rounding(layer: DeviceLayer, rounding: Rounding, shifts: list[int]) -> Mapping[str, int] | None:
    """Fields of POST with a rule for rescales by these shifts; ``None`` if the layer has another one already."""
    if max(shifts) <= ONE_RULE_SHIFT:
        return layer.post
    code = int(ROUNDING_CODES[rounding])
    return {**layer.post, "rounding": code} if layer.post.get("rounding", code) == code else None
