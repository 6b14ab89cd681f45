# SPDX-License-Identifier: Apache-2.0
"""How far the int32 accumulators of a rescaling node can go."""

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding

from .graph import AvgPool2d, Conv2d, Graph, Linear, Multiply, Requantize

__all__ = ["WRAPPING_ROUNDINGS", "accumulator_bounds"]

WRAPPING_ROUNDINGS = (Rounding.TFLITE_DOUBLE, Rounding.FLOAT64_HALF_AWAY)
"""Rules of TFLite, whose kernels let sums wrap around, which happens in channels that are almost dead. PyTorch's
integers and the hardware's do the same, in the whole sum and in each part of it."""


def accumulator_bounds(
    graph: Graph, node: Conv2d | Linear | AvgPool2d | Requantize | Multiply
) -> npt.NDArray[np.int64]:
    """Largest absolute value of each channel's accumulator at any time, int64 of shape (channels,) or (1,).

    With weights it covers the sum around the zero point, the sum of the bare products, in which the zero point is part
    of the bias, in any order and by any parts of equal sign, and that folded bias itself.
    """
    if isinstance(node, Conv2d | Linear):
        return _weighted(graph, node)
    widest = _widest(graph, node.inputs[0])
    match node:
        case Multiply():
            return np.array([widest * _widest(graph, node.inputs[1])])
        case AvgPool2d():
            return np.array([widest * node.kernel[0] * node.kernel[1]])
        case Requantize():
            return np.array([widest])


def _widest(graph: Graph, name: str) -> int:
    """Farthest that an element of a tensor can be from its zero point."""
    _, zero_point = graph.tensor(name).quantization
    return max(INT8_MAX - zero_point, zero_point - INT8_MIN)


def _weighted(graph: Graph, node: Conv2d | Linear) -> npt.NDArray[np.int64]:
    _, zero_point = graph.tensor(node.input).quantization
    weight = node.weight.reshape(len(node.bias), -1).astype(np.int64)
    bias = node.bias.astype(np.int64)
    positive, negative = np.maximum(weight, 0).sum(1), np.minimum(weight, 0).sum(1)
    lowest, highest = INT8_MIN - zero_point, INT8_MAX - zero_point
    bounds = np.stack(
        [
            np.abs(positive * highest + negative * lowest + bias),
            np.abs(positive * lowest + negative * highest + bias),
            (positive - negative) * -INT8_MIN,
            np.abs(bias - zero_point * (positive + negative)),
        ]
    )
    return np.asarray(bounds.max(0))
