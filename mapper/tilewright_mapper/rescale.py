# SPDX-License-Identifier: Apache-2.0
"""The rescale of each integer operator: from the scales of its tensors to the integers of the hardware.

The reference run and the emitted program both take them from here.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import PostConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import (
    HARDWARE_ROUNDINGS,
    MULTIPLIER_BITS,
    AddParameters,
    FloatRequantizer,
    Requantizer,
    Rounding,
)
from tilewright_sim.tflite_functions import mean_rescale, multiply_factor

from .accumulators import accumulator_bounds
from .graph import Add, AvgPool2d, Conv2d, Graph, Linear, Multiply, Node, Requantize, Subtract
from .rescale_fit import fit_average, fit_half_away

__all__ = ["Rescaled", "Sum", "add_parameters", "hardware_rescale", "real_factor", "requantizer"]

Rescaled = Conv2d | Linear | AvgPool2d | Requantize | Multiply
Sum = Add | Subtract


def real_factor(graph: Graph, node: Node) -> npt.NDArray[np.float64]:
    """Real factor between accumulator and result, shape (channels,) or (1,)."""
    if not isinstance(node, Rescaled):
        raise TypeError(f"{node.op} {node.name!r} must be a Conv2d, Linear, AvgPool2d, Requantize or Multiply")
    scale_in, _ = graph.tensor(node.inputs[0]).quantization
    scale_out, _ = graph.tensor(node.output).quantization
    match node:
        case Conv2d() | Linear():
            return np.asarray(scale_in * node.weight_scale / scale_out, np.float64)
        case AvgPool2d():
            return np.array([1 / node.divisor if node.raw else scale_in / (node.divisor * scale_out)])
        case Multiply():
            scale_b, _ = graph.tensor(node.inputs[1]).quantization
            if node.rounding is Rounding.TFLITE_DOUBLE:
                return np.array([multiply_factor(scale_in, scale_b, scale_out)])
            return np.array([scale_in * scale_b / scale_out])
        case Requantize():
            return np.array([scale_in / scale_out])


def requantizer(graph: Graph, node: Rescaled, *, bits: int = MULTIPLIER_BITS) -> Requantizer | FloatRequantizer:
    """Rescale of a node by the rule of its framework.

    Not of a raw average, which divides.

    Raises
    ------
    ModelError
        If no multiplier of ``bits`` bits expresses a factor.
    """
    _, zero_point = graph.tensor(node.output).quantization
    ends = {"zero_point": zero_point, "low": node.low, "high": node.high}
    if node.rounding not in HARDWARE_ROUNDINGS:
        return FloatRequantizer(factor=_float_factor(graph, node), rounding=node.rounding, **ends)
    if isinstance(node, AvgPool2d) and node.rounding is Rounding.TFLITE_DOUBLE and bits == MULTIPLIER_BITS:
        # MEAN of TFLite, which divides the multiplier by the number of elements, rounding down.
        ends_of = (graph.tensor(name).quantization for name in (node.input, node.output))
        multiplier, shift = mean_rescale(node.divisor, *ends_of)
        return Requantizer(multiplier=np.array([multiplier]), shift=np.array([shift]), rounding=node.rounding, **ends)
    with _expressible(graph, node):
        return Requantizer.from_scales(real_factor(graph, node), rounding=node.rounding, bits=bits, **ends)


def hardware_rescale(graph: Graph, node: Rescaled, post: PostConfig) -> Requantizer | None:
    """Rescale of a node as the hardware does it, equal to the node's own for every accumulator that it can have.

    That of a raw average is for sums to which ``-zero_point * divisor`` is added, see
    :func:`fit_average`. ``None`` where there is none: no integer multiplier equals the node's rule of floating point.
    """
    if isinstance(node, AvgPool2d) and node.raw:
        if node.divisor == 0:
            return None
        return fit_average(node.divisor, low=node.low, high=node.high, rounding=node.rounding,
                           roundings=post.roundings, bits=post.multiplier_bits)
    rule = requantizer(graph, node, bits=post.multiplier_bits)
    if isinstance(rule, Requantizer):
        return rule
    if rule.rounding is not Rounding.FLOAT64_HALF_AWAY:
        return None
    with _expressible(graph, node):
        return fit_half_away(rule.factor, bounds=accumulator_bounds(graph, node), zero_point=rule.zero_point,
                             low=rule.low, high=rule.high, roundings=post.roundings, bits=post.multiplier_bits)


def _float_factor(graph: Graph, node: Rescaled) -> npt.NDArray[np.float64]:
    """Factor as the framework computes it: onnxruntime in float32."""
    if node.rounding is not Rounding.FLOAT_HALF_EVEN:
        return real_factor(graph, node)
    from tilewright_sim.float_reference import average_factor, linear_factor

    scale_in, _ = graph.tensor(node.inputs[0]).quantization
    scale_out, _ = graph.tensor(node.output).quantization
    if isinstance(node, Conv2d | Linear):
        import torch

        return linear_factor(scale_in, torch.from_numpy(node.weight_scale), scale_out).to(torch.float64).numpy()
    if not isinstance(node, AvgPool2d):
        return real_factor(graph, node)  # The reference computes them from their scales.
    return average_factor(scale_in, scale_out, node.divisor).reshape(1).double().numpy()


def add_parameters(graph: Graph, node: Sum, *, bits: int = MULTIPLIER_BITS) -> AddParameters:
    """Rescales of an addition or a subtraction, by a rule of the hardware. Raises as :func:`requantizer` does."""
    (scale_a, zero_a), (scale_b, zero_b) = (graph.tensor(name).quantization for name in node.inputs)
    scale_out, zero_out = graph.tensor(node.output).quantization
    with _expressible(graph, node):
        return AddParameters.from_scales(
            scale_a,
            scale_b,
            scale_out,
            zero_point_a=zero_a,
            zero_point_b=zero_b,
            zero_point_out=zero_out,
            low=node.low,
            high=node.high,
            rounding=node.rounding,
            bits=bits,
        )


@contextlib.contextmanager
def _expressible(graph: Graph, node: Node) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        scales = ", ".join(f"{n} {graph.tensor(n).scale:g}" for n in (*node.inputs, *node.outputs))
        raise ModelError(f"{node.op} {node.name!r} cannot be rescaled: {error}. Its scales are {scales}; quantize the "
                         "model again, with calibration data like the real inputs") from error
