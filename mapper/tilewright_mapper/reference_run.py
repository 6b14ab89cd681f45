# SPDX-License-Identifier: Apache-2.0
"""Running a graph by the golden reference, every layer's result kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, MULTIPLIER_BITS
from tilewright_sim import integer_operators
from tilewright_sim import tensor_reference as reference
from tilewright_sim.integer_operators import as_image, in_shape

from .aten import evaluate
from .graph import (
    Add,
    AvgPool2d,
    ConstantTensor,
    Conv2d,
    Dequantize,
    Elementwise,
    Graph,
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
    Subtract,
    Table,
    Tensor,
    Unsupported,
)
from .host_steps import host_step, tensor_info
from .rescale import add_parameters, requantizer

__all__ = ["by_name", "reference_run"]

Array = npt.NDArray[Any]


def reference_run(
    graph: Graph,
    x: Array | tuple[Array, ...] | Mapping[str, Array],
    *,
    bits: int = MULTIPLIER_BITS,
) -> dict[str, Array]:
    """Value of every tensor of a graph, by the arithmetic of the framework that it comes from (``Rounded.rounding``).

    Parameters
    ----------
    graph : Graph
        As imported, canonical, or anything between.
    x : array, tuple of arrays or mapping of input name to array
        Of shape (N, *shape of the input), channels first. int8 for a float input is taken as already quantized, where
        the input goes into a Quantize.
    bits : int
        Width of every integer multiplier.

    Returns
    -------
    dict of tensor name to array of shape (N, *shape)
        int8 for quantized tensors. An input that was given as int8 is missing.
    """
    run = _Run(graph, bits)
    run.feed(by_name(graph, x))
    with torch.no_grad():
        for node in graph:
            run.step(node)
    return {name: value.numpy() for name, value in run.values.items()}


def by_name(graph: Graph, x: Any) -> dict[str, Array]:
    """Arrays of a graph's inputs by name, checked, from the forms that :func:`reference_run` takes."""
    if isinstance(x, Mapping):
        named = {name: np.asarray(value) for name, value in x.items()}
    else:
        items = x if isinstance(x, tuple) else (x,)
        if len(items) != len(graph.inputs):
            raise ValueError(f"x must have {len(graph.inputs)} arrays, one for each input, not {len(items)}")
        named = {name: np.asarray(item) for name, item in zip(graph.inputs, items, strict=True)}
    if named.keys() != set(graph.inputs):
        raise ValueError(f"x must name the inputs {', '.join(graph.inputs)}, not {', '.join(named)}")
    batches = {value.shape[0] if value.ndim else 0 for value in named.values()}
    if len(batches) > 1 or 0 in batches:
        raise ValueError(f"x must have one batch of at least one image for all inputs, not {sorted(batches)}")
    for name, value in named.items():
        if value.shape[1:] != graph.tensor(name).shape:
            raise ValueError(f"Input {name!r} must have shape (N, *{graph.tensor(name).shape}), not {value.shape}")
    return named


class _Run:
    """State of one run: the values so far, each with the batch first."""

    def __init__(self, graph: Graph, bits: int):
        self.graph = graph
        self.bits = bits
        self.values: dict[str, torch.Tensor] = {}

    def feed(self, named: Mapping[str, Array]) -> None:
        for name, value in named.items():
            dtype = getattr(torch, self.graph.tensor(name).dtype)
            if value.dtype != np.int8 or dtype is torch.int8:
                self.values[name] = torch.from_numpy(np.ascontiguousarray(value)).to(dtype)
                continue
            readers = self.graph.consumers()[name]
            if not all(isinstance(node, Quantize) for node in readers):
                raise TypeError(f"Input {name!r} must be float32, as it is used before it is quantized, not int8")
            self.values.update({node.output: torch.from_numpy(np.ascontiguousarray(value)) for node in readers})

    def step(self, node: Node) -> None:
        if isinstance(node, Unsupported):
            raise ModelError(f"{node.name!r} cannot be run: {node.reason}; {node.remedy}")
        if isinstance(node, HostOp):
            self.values.update(zip(node.outputs, self._host(node), strict=True))
        elif node.output not in self.values:
            self.values[node.output] = self._compute(node)

    def _compute(self, node: Node) -> torch.Tensor:
        graph = self.graph
        if isinstance(node, ConstantTensor):
            batch = len(next(iter(self.values.values())))
            return torch.from_numpy(node.values.copy()).expand(batch, *node.values.shape)
        x, source, target = self.values[node.inputs[0]], graph.tensor(node.inputs[0]), graph.tensor(node.output)
        match node:
            case Elementwise():
                images = [as_image(self.values[name]) for name in node.inputs]
                return in_shape(self._elementwise(node, *images), target.shape)
            case Requantize() if node.rounding not in HARDWARE_ROUNDINGS:
                return reference.requantize_float(x, source.quantization, target.quantization, low=node.low,
                                                  high=node.high)
            case AvgPool2d() if node.raw:
                pooled = reference.avg_pool2d_raw(
                    as_image(x), kernel=node.kernel, stride=node.stride, padding=node.padding, divisor=node.divisor,
                    low=node.low, high=node.high, rounding=node.rounding,
                )
                return in_shape(pooled, target.shape)
            case Conv2d() | Linear() | AvgPool2d() | Requantize():
                return self._rescaled(node, x, source, target)
            case MaxPool2d():
                pooled = reference.max_pool2d(
                    as_image(x), kernel=node.kernel, stride=node.stride, padding=node.padding, dilation=node.dilation
                )
                return in_shape(pooled, target.shape)
            case Pad2d():
                return in_shape(reference.pad2d(as_image(x), padding=node.padding, value=node.value), target.shape)
            case Table():
                return reference.table(x, torch.from_numpy(node.table))
            case Reshape():
                return _reshaped(node, x, target)
            case IntegerOp():
                step = host_step(graph, node, 0, bits=self.bits)
                infos = {name: tensor_info(graph.tensor(name)) for name in (*node.inputs, *node.outputs)}
                return integer_operators.run(step, infos, [self.values[name] for name in node.inputs])
            case Quantize():
                scale, zero_point = target.quantization
                return reference.quantize(x, scale=scale, zero_point=zero_point, low=node.low, high=node.high,
                                          rule=node.rule)
            case Dequantize():
                scale, zero_point = source.quantization
                return reference.dequantize(x, scale=scale, zero_point=zero_point)
        raise TypeError(f"The reference has no operator {node.op}")

    def _elementwise(self, node: Elementwise, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ends = tuple(self.graph.tensor(name).quantization for name in (*node.inputs, node.output))
        assert isinstance(node, Add | Subtract | Multiply)
        if node.rounding not in HARDWARE_ROUNDINGS:
            return reference.combine_float(
                node.op.lower(), a, b, (ends[0], ends[1], ends[2]), low=node.low, high=node.high,
                unsigned=self.graph.tensor(node.output).unsigned,
            )
        if isinstance(node, Multiply):
            rule = requantizer(self.graph, node, bits=self.bits)
            return reference.multiply(a, b, zero_points=(ends[0][1], ends[1][1]), requantizer=rule)
        function = reference.add if isinstance(node, Add) else reference.subtract
        return function(a, b, add_parameters(self.graph, node, bits=self.bits))

    def _rescaled(
        self, node: Conv2d | Linear | AvgPool2d | Requantize, x: torch.Tensor, source: Tensor, target: Tensor
    ) -> torch.Tensor:
        rule = requantizer(self.graph, node, bits=self.bits)
        _, zero_point = source.quantization
        if isinstance(node, Requantize):
            return reference.requantize(x, zero_point=zero_point, requantizer=rule)
        if isinstance(node, AvgPool2d):
            pooled = reference.avg_pool2d(
                as_image(x),
                kernel=node.kernel,
                stride=node.stride,
                padding=node.padding,
                zero_point=zero_point,
                requantizer=rule,
            )
            return in_shape(pooled, target.shape)
        weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        if isinstance(node, Linear):
            return reference.linear(x, weight, bias, zero_point=zero_point, requantizer=rule)
        result = reference.conv2d(
            as_image(x),
            weight,
            bias,
            zero_point=zero_point,
            requantizer=rule,
            stride=node.stride,
            padding=node.padding,
            dilation=node.dilation,
            groups=node.groups,
        )
        return in_shape(result, target.shape)

    def _host(self, node: HostOp) -> tuple[torch.Tensor, ...]:
        """Run a host operator image by image, as the driver does."""
        batch = len(next(iter(self.values.values())))
        images: list[tuple[torch.Tensor, ...]] = []
        for i in range(batch):
            ends = {
                name: self.values[name][i : i + 1] if self.graph.tensor(name).batched else self.values[name][i]
                for name in node.inputs
            }
            images.append(evaluate(node, ends))
        return tuple(
            torch.cat(parts) if self.graph.tensor(name).batched else torch.stack(parts)
            for name, parts in zip(node.outputs, zip(*images, strict=True), strict=True)
        )


def _reshaped(node: Reshape, x: torch.Tensor, target: Tensor) -> torch.Tensor:
    """The elements of ``x`` under another shape, counted as the node says."""
    if not node.channels_last:
        return x.reshape(len(x), *target.shape)
    last = x.movedim(1, -1) if x.ndim == 4 else x
    if len(target.shape) < 3:
        return last.reshape(len(x), *target.shape)
    channels, height, width = target.shape
    return last.reshape(len(x), height, width, channels).movedim(-1, 1)
