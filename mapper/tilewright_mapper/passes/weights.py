# SPDX-License-Identifier: Apache-2.0
"""Weights and biases in integers, and the proof that their sums fit int32."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import Rounding

from ..accumulators import WRAPPING_ROUNDINGS, accumulator_bounds
from ..aten import argument, constant_array
from ..graph import AvgPool2d, Conv2d, Graph, HostOp, Linear, QuantizedConstant
from ..rescale import Rescaled, real_factor, requantizer
from ..spec import are_weights

__all__ = ["IntegerParameters", "integer_parameters", "prove_accumulators"]

INT32_MAX = 2**31 - 1
ROOM = 256
"""For a zero point, and for a last multiplier that rounds up to the next power of two."""
SAME_SCALE = 1e-5
"""Relative difference below which a bias counts as held at ``scale_x * scale_w``: PyTorch multiplies in float32."""


@dataclass(frozen=True, kw_only=True)
class IntegerParameters:
    """Weight int8 or wide int16 (O, ...), bias int32 (O,) at ``scale_x * scale``, scale float64 (O,)."""

    weight: npt.NDArray[Any]
    bias: npt.NDArray[np.int32]
    scale: npt.NDArray[np.float64]


def integer_parameters(graph: Graph, node: HostOp, source: str, weight: QuantizedConstant) -> IntegerParameters | None:
    """Integer parameters of a convolution or linear layer that reads the int8 tensor ``source``.

    None where the weights are not int8 (or wide int16), symmetric, and scaled for the whole tensor or for each output
    channel.
    """
    if not are_weights(weight.values) or weight.axis not in (None, 0) or np.any(weight.zero_point):
        return None
    channels = weight.values.shape[0]
    scale = np.broadcast_to(weight.scale, (channels,)).copy()
    if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
        return None
    reference = argument(node, "bias")
    bias = constant_array(node, reference)
    if bias is None and reference is not None:
        return None
    scale_x, _ = graph.tensor(source).quantization
    if isinstance(bias, QuantizedConstant) and _is_accumulator(bias, scale_x * scale):
        return IntegerParameters(weight=weight.values, bias=bias.values.astype(np.int32), scale=scale)
    dead = ~weight.values.reshape(channels, -1).any(axis=1)
    real = np.zeros(channels) if bias is None else _real(bias)
    with np.errstate(all="ignore"):  # What is infinite or no number is refused below.
        # The weight scale of a channel of zeros says nothing, and is often so small that the bias would not fit at it.
        scale[dead] = np.maximum(scale[dead], np.abs(real[dead]) / (scale_x * 2.0**30))
        rounded = np.rint(real / (scale_x * scale))
    worst = int(np.argmax(np.abs(rounded)))
    if not abs(rounded[worst]) <= INT32_MAX:
        raise ModelError(
            f"Bias of {node.name!r} must fit int32 at its accumulator's scale, but channel {worst} has "
            f"{real[worst]:.6g}, which is {rounded[worst]:.0f} steps of {scale_x * scale[worst]:.3g}: its weights are "
            "almost zero beside its bias; prune the channel or quantize with a larger smallest weight scale"
        )
    return IntegerParameters(weight=weight.values, bias=rounded.astype(np.int32), scale=scale)


def _is_accumulator(bias: QuantizedConstant, scale: npt.NDArray[np.float64]) -> bool:
    """Whether a bias already is int32 at the scale of the accumulator."""
    return (
        bias.values.dtype == np.int32
        and not np.any(bias.zero_point)
        and bool(np.all(np.abs(np.broadcast_to(bias.scale, scale.shape) / scale - 1) < SAME_SCALE))
    )


def _real(bias: npt.NDArray[Any] | QuantizedConstant) -> npt.NDArray[np.float64]:
    if isinstance(bias, QuantizedConstant):
        return (bias.values - bias.zero_point).astype(np.float64) * bias.scale
    with np.errstate(invalid="ignore"):  # A file may hold any bits, also such that are no number.
        return bias.astype(np.float64)


def prove_accumulators(graph: Graph) -> Graph:
    """Refuse a model whose accumulators could leave int32, or whose rescale has no multiplier. Changes nothing.

    Where the framework lets sums wrap around, only the rescale must not leave int32.
    """
    for node in graph:
        if isinstance(node, Conv2d | Linear) and node.rounding not in WRAPPING_ROUNDINGS:
            bounds = accumulator_bounds(graph, node)
            channel = int(np.argmax(bounds))
            bound = int(bounds[channel])
            if bound > INT32_MAX:
                raise ModelError(
                    f"Accumulator of {node.op} {node.name!r} must stay within int32 ({INT32_MAX}), but channel "
                    f"{channel} can reach {bound} with its {node.weight[channel].size} weights and bias "
                    f"{node.bias[channel]}; split the layer, or prune a channel whose weights are almost zero beside "
                    "its bias"
                )
        if isinstance(node, Rescaled) and not (isinstance(node, AvgPool2d) and node.raw):
            requantizer(graph, node)
            _prove_results(graph, node)
    return graph


def _prove_results(graph: Graph, node: Rescaled) -> None:
    """Refuse a rescale whose result could leave int32, where the kernels of TFLite are undefined.

    With a factor of one or more they shift to the left before they multiply, and they add the zero point at the end.
    """
    if node.rounding not in WRAPPING_ROUNDINGS:
        return
    factor = real_factor(graph, node)
    bounds = np.minimum(accumulator_bounds(graph, node), INT32_MAX + 1)
    shifted = factor if node.rounding is Rounding.FLOAT64_HALF_AWAY else np.exp2(np.frexp(factor)[1])
    results = bounds * shifted
    worst = int(np.argmax(results))
    if results[worst] > INT32_MAX - ROOM:
        raise ModelError(
            f"Rescale of {node.op} {node.name!r} must stay within int32 ({INT32_MAX}), but channel {worst} can reach "
            f"{int(bounds[worst])} times {factor[worst]:.6g}; quantize the model again, with a scale of the output "
            "that fits its values"
        )
