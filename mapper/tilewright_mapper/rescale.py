# SPDX-License-Identifier: Apache-2.0
"""The rescale of each integer operator: from the scales of its tensors to the integers of the hardware.

The reference run and the emitted program both take them from here.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import MULTIPLIER_BITS, AddParameters, Requantizer, Rounding

from .graph import Add, AvgPool2d, Conv2d, Graph, Linear, Node, Requantize

__all__ = ["Rescaled", "add_parameters", "real_factor", "requantizer"]

Rescaled = Conv2d | Linear | AvgPool2d | Requantize


def real_factor(graph: Graph, node: Node) -> npt.NDArray[np.float64]:
    """Real factor between accumulator and result, shape (channels,) or (1,)."""
    if not isinstance(node, Rescaled):
        raise TypeError(f"{node.op} {node.name!r} must be a Conv2d, Linear, AvgPool2d or Requantize")
    scale_in, _ = graph.tensor(node.input).quantization
    scale_out, _ = graph.tensor(node.output).quantization
    if isinstance(node, Conv2d | Linear):
        return np.asarray(scale_in * node.weight_scale / scale_out, np.float64)
    if isinstance(node, AvgPool2d):
        return np.array([scale_in / (node.divisor * scale_out)])
    return np.array([scale_in / scale_out])


def requantizer(
    graph: Graph, node: Rescaled, *, rounding: Rounding = Rounding.SINGLE, bits: int = MULTIPLIER_BITS
) -> Requantizer:
    """Rescale of a convolution, linear layer, average pool or stand-alone requantize.

    Raises
    ------
    ModelError
        If no multiplier of ``bits`` bits expresses a factor.
    """
    _, zero_point = graph.tensor(node.output).quantization
    with _expressible(graph, node):
        return Requantizer.from_scales(
            real_factor(graph, node),
            zero_point=zero_point,
            low=node.low,
            high=node.high,
            rounding=rounding,
            bits=bits,
        )


def add_parameters(
    graph: Graph, node: Add, *, rounding: Rounding = Rounding.SINGLE, bits: int = MULTIPLIER_BITS
) -> AddParameters:
    """Rescales of an addition. Raises as :func:`requantizer` does."""
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
            rounding=rounding,
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
