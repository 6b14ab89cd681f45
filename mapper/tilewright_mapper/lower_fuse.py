# SPDX-License-Identifier: Apache-2.0
"""Fusing: from the nodes of one phase to layers of the accelerator.

A node joins the layer before it if nothing else wants that layer's result, and one pass through the hardware can do
both. A fused layer takes the place of its last node, so that a residual from another branch is there, whichever branch
comes first.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Combine, RoundingCode
from tilewright_hdl.numerics import INT8_MIN, ONE_RULE_SHIFT, Requantizer, Rounding

from .accumulators import WRAPPING_ROUNDINGS
from .graph import (
    AvgPool2d,
    Conv2d,
    Elementwise,
    Graph,
    MaxPool2d,
    Multiply,
    Node,
    Pad2d,
    Requantize,
    Reshape,
    Subtract,
    Table,
    image_shape,
)
from .lower_layers import At, DeviceLayer, LaneParameters, Operand, Window
from .lower_parts import average_regions, joined, joins
from .rescale import Rescaled, Sum, add_parameters, hardware_rescale
from .tiling_search import least_cycles

__all__ = ["ROUNDING_CODES", "alias_roots", "lower_phase"]

JOIN = "Concat"
"""What a layer is called that writes, or copies, a part of a joined tensor."""

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
    form: Callable[[DeviceLayer], DeviceLayer] = lambda layer: layer,
) -> list[DeviceLayer]:
    """Layers for the nodes of a phase, in order.

    Parameters
    ----------
    kept : collection of str
        Tensors that are wanted outside of the phase.
    roots : mapping of str to str
        See :func:`alias_roots`.
    form : callable
        Gives the form in which a layer will run, where that is another one: what it costs decides what joins it.
    """
    uses = dict.fromkeys(graph.tensors, 0)
    for node in nodes:
        if not isinstance(node, Reshape):
            for name in node.inputs:
                uses[roots[name]] += 1
    for name in kept:
        uses[roots[name]] += 1
    builder = _Builder(graph, config, roots, form)
    layers: list[DeviceLayer] = []
    for node in nodes:
        if isinstance(node, Reshape):
            continue
        if joins(graph, node):
            builder.join_tensors(layers, node, uses)
            continue
        if isinstance(node, AvgPool2d) and node.divisor == 0:
            layers += builder.regions(node)
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

    def __init__(self, graph: Graph, config: AcceleratorConfig, roots: Mapping[str, str],
                 form: Callable[[DeviceLayer], DeviceLayer]):
        self._graph = graph
        self._config = config
        self._roots = roots
        self._form = form

    def alone(self, node: Node) -> DeviceLayer:
        """A layer of one node."""
        source, output = self._operand(node.inputs[0]), self._operand(node.output)
        # A first operand that is repeated is read again for each pixel of the result.
        middle = replace(source, height=output.height, width=output.width) if isinstance(node, Elementwise) else source
        base = DeviceLayer(name=node.name, op=node.op, nodes=(), source=source, output=output, middle=middle)
        layer = self._convolution(base, node) if isinstance(node, Conv2d) else self._with(base, node, node.inputs[0])
        assert layer is not None, "one node has one rule"
        return layer

    def join(self, layer: DeviceLayer, node: Node, name: str) -> DeviceLayer | None:
        """``layer`` with ``node``, a reader of its result ``name``, behind it; ``None`` if one pass cannot do both."""
        if isinstance(node, Conv2d) or self._operand(name) != layer.output:
            return None
        if layer.post.get("combine", Combine.NONE) != Combine.NONE or not layer.keeps_size:
            return None
        if isinstance(node, Elementwise) and not self._may_combine(layer, node, name):
            return None
        if isinstance(node, Table) and layer.table is not None:
            return None
        joined = self._with(layer, node, name)
        if joined is None:
            return None
        joined = replace(joined, op=f"{layer.op}+{node.op}", output=self._operand(node.output))
        if isinstance(node, MaxPool2d | AvgPool2d | Pad2d) and not self._pays(layer, node, joined):
            return None
        return joined

    def regions(self, node: AvgPool2d) -> list[DeviceLayer]:
        """Layers for an average whose windows do not all divide by one number."""
        source, whole = self._operand(node.input), self._operand(node.output)
        layers = []
        for number, (part, y, x, height, width) in enumerate(average_regions(self._graph, node)):
            base = DeviceLayer(
                name=f"{node.name}.{number}", op=node.op, nodes=(), source=source, middle=source, into=whole,
                at=At(y, x), output=replace(whole, height=height, width=width),
            )
            layer = self._with(base, part, node.input)
            assert layer is not None, "one node has one rule"
            layers.append(layer)
        return layers

    def join_tensors(self, layers: list[DeviceLayer], node: Node, uses: Mapping[str, int]) -> None:
        """Let the layers that make the parts of a joined tensor write them there, and copy what others read as well."""
        pieces = joined(self._graph, node, self._config)
        assert pieces is not None, "placing leaves such a node to the host"
        whole, names = self._operand(node.output), [name for name, _ in pieces]
        for number, (name, at) in enumerate(pieces):
            source = self._operand(name)
            makers = [i for i, layer in enumerate(layers) if layer.into is None and layer.output == source]
            output = replace(source, root=whole.root)
            if makers and uses[source.root] == names.count(name) == 1:
                maker = layers[makers[0]]
                layers[makers[0]] = replace(maker, op=f"{maker.op}+{JOIN}", nodes=(*maker.nodes, node.name),
                                            output=output, into=whole, at=at)
            else:
                layers.append(DeviceLayer(name=f"{node.name}.{number}", op=JOIN, nodes=(node.name,), source=source,
                                          output=output, middle=source, into=whole, at=at))

    def _may_combine(self, layer: DeviceLayer, node: Elementwise, name: str) -> bool:
        """Whether the result ``name`` of a layer may be the post-processor's own operand, the other one the residual.

        It must not be repeated, nor be what is subtracted.
        """
        result = self._operand(node.output)
        fills = (layer.output.height, layer.output.width) == (result.height, result.width)
        return fills and not (isinstance(node, Subtract) and name != node.inputs[0])

    def _pays(self, layer: DeviceLayer, node: MaxPool2d | AvgPool2d | Pad2d, joined: DeviceLayer) -> bool:
        """Whether a pool costs less on the way out of the accumulators than by itself.

        Tiles of windows that overlap share rows and columns, which each of them computes; a pool by itself keeps the
        post-processor busy while the array waits.
        """
        if layer.conv is None:
            return True
        both, one, other = (least_cycles(self._config, self._form(x)) for x in (joined, layer, self.alone(node)))
        # Where one of them does not fit, however it is cut, the other way may do.
        return both is not None and (one is None or other is None or both <= one + other)

    def _operand(self, name: str) -> Operand:
        return Operand(self._roots[name], *image_shape(self._graph.tensor(name).shape))

    def _with(self, layer: DeviceLayer, node: Node, name: str) -> DeviceLayer | None:
        """``layer`` with the operation of ``node`` in the post-processor; ``None`` if their rounding rules differ."""
        layer = replace(layer, nodes=(*layer.nodes, node.name))
        _, zero_in = self._graph.tensor(name).quantization
        if isinstance(node, Table):
            return replace(layer, table=node.table.tobytes(), post=_extend(layer, use_table=1))
        if isinstance(node, Elementwise):
            return self._combined(layer, node, name)
        if isinstance(node, Pad2d):
            return replace(layer, window=_window(node), post=_extend(layer, pad_value=node.value))
        if isinstance(node, MaxPool2d):
            return replace(layer, window=_window(node), post=_extend(layer, combine=Combine.MAX, pad_value=INT8_MIN))
        if isinstance(node, AvgPool2d):
            count = node.kernel[0] * node.kernel[1]
            layer = replace(layer, window=_window(node))
            if node.raw:
                offset = -self._requantizer(node).zero_point * node.divisor
                return self._rescaled(layer, node, combine=Combine.AVERAGE, offset=offset, pad_value=0)
            return self._rescaled(layer, node, combine=Combine.AVERAGE, offset=-count * zero_in, pad_value=zero_in)
        assert isinstance(node, Requantize), node
        return self._rescaled(layer, node, combine=Combine.AVERAGE, offset=-zero_in)

    def _rescaled(
        self, layer: DeviceLayer, node: AvgPool2d | Requantize | Multiply, **fields: int
    ) -> DeviceLayer | None:
        """``layer`` with the one rescale of ``node`` at its end."""
        rescale = self._requantizer(node)
        post = _with_rounding(layer, rescale.rounding, rescale.shift.tolist())
        if post is None:
            return None
        return replace(layer, post=_extend(
            layer, **post, **fields, multiplier_out=rescale.multiplier[0], shift_out=rescale.shift[0],
            zero_point_out=rescale.zero_point, low_out=rescale.low, high_out=rescale.high,
        ))

    def _combined(self, layer: DeviceLayer, node: Elementwise, name: str) -> DeviceLayer | None:
        """``layer`` with an operation of two tensors, of which ``name`` is the post-processor's own."""
        own = node.inputs.index(name)
        other = node.inputs[1 - own]
        layer = replace(layer, residual=self._operand(other))
        zeros = {f"zero_point_{end}": self._graph.tensor(tensor).quantization[1]
                 for end, tensor in (("a", name), ("b", other))}
        if isinstance(node, Multiply):
            return self._rescaled(layer, node, combine=Combine.MULTIPLY, **zeros)
        assert isinstance(node, Sum), node
        p = add_parameters(self._graph, node, bits=self._config.post.multiplier_bits)
        post = _with_rounding(layer, p.rounding, [p.shift_a, p.shift_b, p.shift_out])
        if post is None:
            return None
        operands = [(p.multiplier_a, p.shift_a), (p.multiplier_b, p.shift_b)]
        # The sum does not change when its operands change places.
        first, second = operands[own], operands[1 - own]
        return replace(layer, post=_extend(
            layer, **post, **zeros, combine=Combine.SUBTRACT if isinstance(node, Subtract) else Combine.ADD,
            multiplier_a=first[0], shift_a=first[1], multiplier_b=second[0], shift_b=second[1],
            multiplier_out=p.multiplier_out, shift_out=p.shift_out, zero_point_out=p.zero_point_out,
            low_out=p.low, high_out=p.high,
        ))

    def _convolution(self, layer: DeviceLayer, node: Conv2d) -> DeviceLayer:
        _, zero_in = self._graph.tensor(node.input).quantization
        rescale = self._requantizer(node)
        sums = node.weight.reshape(node.weight.shape[0], -1).sum(axis=1, dtype=np.int64)
        bias = node.bias.astype(np.int64) - zero_in * sums
        if node.rounding in WRAPPING_ROUNDINGS:
            bias = bias.astype(np.int32).astype(np.int64)
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
            post=_extend(layer, **post, low=rescale.low, high=rescale.high, zero_point=rescale.zero_point),
        )

    def _requantizer(self, node: Rescaled) -> Requantizer:
        rescale = hardware_rescale(self._graph, node, self._config.post)
        assert rescale is not None, "placing leaves such a node to the host"
        return rescale


def _window(node: MaxPool2d | AvgPool2d | Pad2d) -> Window:
    if isinstance(node, Pad2d):
        return Window(padding=node.padding[:2])
    dilation = (1, 1) if isinstance(node, AvgPool2d) else node.dilation
    return Window(node.kernel, node.stride, node.padding[:2], dilation)


def _extend(layer: DeviceLayer, **fields: int) -> Mapping[str, int]:
    return MappingProxyType({**layer.post, **{name: int(value) for name, value in fields.items()}})


def _with_rounding(layer: DeviceLayer, rounding: Rounding, shifts: list[int]) -> dict[str, int] | None:
    """The field ``rounding`` for rescales by these shifts; ``None`` if the layer has another rule already."""
    if max(shifts) <= ONE_RULE_SHIFT:
        return {}
    code = int(ROUNDING_CODES[rounding])
    return {"rounding": code} if layer.post.get("rounding", code) == code else None
