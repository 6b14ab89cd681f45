# SPDX-License-Identifier: Apache-2.0
"""Importers of TFLite's operators with weights."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding, quantize_multiplier
from tilewright_sim.tflite_functions import convolution_factor, multiplier_of

from ..graph import Conv2d, Linear, Pair, Shape
from .context import Activation, Call
from .network import QUANTIZE_REMEDY, Refused, malformed
from .shapes import graph_shape, window

__all__ = ["conv_2d", "depthwise_conv_2d", "fully_connected", "image", "narrowed", "pair", "weight_scale"]

BIAS_TOLERANCE = 0.02
"""Steps of the output that one step of the bias may be off (``GetQuantizedConvolutionMultipler``)."""


@dataclass(frozen=True)
class Weights:
    """Weights less their zero point, int16, in the file's shape; and the scale of each output channel, float64."""

    values: npt.NDArray[np.int16]
    scale: npt.NDArray[np.float64]


def conv_2d(call: Call) -> None:
    """A convolution; with fewer channels in its weights than in its input it has groups."""
    call.need_inputs(3)
    x, out = image(call), call.only_output()
    weights = _weights(call, x, out, channel_axis=0, rank=4)
    outputs, _, _, inputs = weights.values.shape
    channels = x.shape[3]
    if inputs < 1 or channels % inputs or outputs % (channels // inputs):
        raise malformed(f"Weights of {call}", f"fit {channels} input channels", list(weights.values.shape))
    _convolution(call, x, out, Weights(weights.values.transpose(0, 3, 1, 2), weights.scale), channels // inputs)


def depthwise_conv_2d(call: Call) -> None:
    """A convolution of each channel on its own; several filters for a channel stand side by side."""
    call.need_inputs(2, 3)
    x, out = image(call), call.only_output()
    weights = _weights(call, x, out, channel_axis=3, rank=4)
    one, kh, kw, outputs = weights.values.shape
    channels, multiplier = x.shape[3], int(call.option("depth_multiplier"))
    if one != 1 or outputs % channels or multiplier not in (0, outputs // channels):
        must = f"be [1, height, width, {channels} * {multiplier or 'n'}]"
        raise malformed(f"Shape of the weights of {call}", must, list(weights.values.shape))
    values = weights.values.reshape(kh, kw, outputs, 1).transpose(2, 3, 0, 1)
    _convolution(call, x, out, Weights(values, weights.scale), channels)


def _convolution(call: Call, x: Activation, out: Activation, weights: Weights, groups: int) -> None:
    """Add the node, of weights (O, I / groups, height, width)."""
    stride, dilation = pair(call, "stride_{}"), pair(call, "dilation_{}_factor")
    kernel = weights.values.shape[2:]
    size, padding = window(x.shape[1:3], kernel, stride, dilation, call.option("padding"))
    outputs = len(weights.values)
    call.only_output(shape=(x.shape[0], *size, outputs))
    call.add(
        Conv2d,
        (call.read(x),),
        out.name,
        weight=narrowed(weights.values),
        bias=_bias(call, x, out, weights),
        weight_scale=weights.scale,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        rounding=Rounding.TFLITE_DOUBLE,
        **call.bounds(out),
    )


def fully_connected(call: Call) -> None:
    """A matrix product with every row of the input, which is flattened where its last axis does not fit."""
    call.need_inputs(2, 3)
    if call.option("weights_format") != "DEFAULT":
        raise Refused(f"has weights in the format {call.option('weights_format')}", "convert the model again, for CPUs")
    x, out = call.input(), call.only_output()
    weights = _weights(call, x, out, channel_axis=0, rank=2)
    units, depth = weights.values.shape
    elements = math.prod(x.shape)
    if depth < 1 or elements % depth:
        raise malformed(
            f"Weights of {call}", f"divide the {elements} elements of its input", list(weights.values.shape)
        )
    rows = elements // depth
    keep = bool(call.option("keep_num_dims"))
    if keep and x.shape[-1:] != (depth,):
        raise malformed(f"Weights of {call}", f"fit the last axis of {list(x.shape)}", list(weights.values.shape))
    call.only_output(shape=(*x.shape[:-1], units) if keep else (rows, units))
    inner: Shape = (depth,) if rows == 1 else (rows, depth)
    result: Shape = (units,) if rows == 1 else (rows, units)
    source = call.reshape(call.read(x), x, inner, "flat")
    direct = graph_shape(out.shape) == result
    target = out.name if direct else call.part(out, result, "flat")
    call.add(
        Linear,
        (source,),
        target,
        weight=narrowed(weights.values),
        bias=_bias(call, x, out, weights, checked=True),
        weight_scale=weights.scale,
        rounding=Rounding.FLOAT64_HALF_AWAY,
        **call.bounds(out),
    )
    if not direct:
        call.reshape_to(target, out)


def image(call: Call, position: int = 0) -> Activation:
    """An input that must be one image ``[1, height, width, channels]``."""
    x = call.input(position)
    if len(x.shape) != 4:
        raise malformed(f"Input {x.name!r} of {call}", "have 4 axes", list(x.shape))
    return x


def pair(call: Call, name: str) -> Pair:
    """The option ``name`` for the height and for the width."""
    return int(call.option(name.format("h"))), int(call.option(name.format("w")))


def narrowed(values: npt.NDArray[np.int16]) -> npt.NDArray[Any]:
    """Weights as int8 where all of them fit, else as int16."""
    fits = values.size == 0 or (values.min() >= INT8_MIN and values.max() <= INT8_MAX)
    return np.ascontiguousarray(values, np.int8 if fits else np.int16)


def weight_scale(factor: float, scale_in: float, scale_out: float) -> float:
    """Scale of weights for which ``scale_in * scale / scale_out`` gives the same multiplier and shift as ``factor``.

    TFLite computes some factors with a step in float32, where the graph's nodes multiply scales in float64.
    """
    wanted = multiplier_of(factor, 1)
    scale = factor * scale_out / scale_in
    # A few roundings lie between, each of half a unit in the last place.
    for units in (0, 1, -1, 2, -2, 3, -3):
        candidate = float(scale + units * np.spacing(scale))
        if quantize_multiplier(scale_in * candidate / scale_out, rounding=Rounding.TFLITE_DOUBLE) == wanted:
            return candidate
    raise AssertionError("a scale within the roundings of the factor gives its 31 bits")


def _weights(call: Call, x: Activation, out: Activation, channel_axis: int, rank: int) -> Weights:
    call.same_type(x, out)
    tensor = call.tensor(1)
    name = call.network.name(tensor.index)
    if tensor.dtype != x.file.dtype:
        raise Refused(f"has weights {name!r} of type {tensor.dtype} for an input of {x.file.dtype}", QUANTIZE_REMEDY)
    values, quantization = call.constant(1, "weights"), tensor.quantization
    if values.ndim != rank or min(values.shape) < 1:
        raise malformed(f"Weights {name!r} of {call}", f"have {rank} axes", list(values.shape))
    if quantization is None:
        raise Refused(f"has weights {name!r} without a scale", QUANTIZE_REMEDY)
    channels, count = values.shape[channel_axis], quantization.scale.size
    if count not in (1, channels) or (count > 1 and quantization.axis != channel_axis):
        must = f"have one scale, or {channels} along axis {channel_axis}"
        raise malformed(f"Weights {name!r} of {call}", must, f"{count} along axis {quantization.axis}")
    # Integer kernels with a scale for each channel take no zero point; CONV_2D and DEPTHWISE_CONV_2D of int8 never do.
    symmetric = count > 1 or (tensor.dtype == "int8" and rank == 4)
    if symmetric and quantization.zero_point.any():
        raise malformed(f"Zero points of the weights {name!r} of {call}", "be 0", quantization.zero_point.tolist()[:8])
    if count > 1 and tensor.dtype == "uint8":
        raise malformed(f"uint8 weights {name!r} of {call}", "have one scale", count)
    centred = values.astype(np.int16) - quantization.zero_point.astype(np.int16)[0]
    return Weights(centred, _scales(call, x, out, quantization.scale, channels))


def _scales(
    call: Call, x: Activation, out: Activation, scale: npt.NDArray[np.float64], channels: int
) -> npt.NDArray[np.float64]:
    """Scale of each output channel, with which the graph's node has the factor of TFLite's kernel."""
    if x.file.dtype == "uint8" and call.operator.kind != "FULLY_CONNECTED":
        factors = convolution_factor(x.scale, scale, out.scale, unsigned=True).tolist()
        scale = np.array([weight_scale(factor, x.scale, out.scale) for factor in factors])
    return np.ascontiguousarray(np.broadcast_to(scale, (channels,)))


def _bias(
    call: Call, x: Activation, out: Activation, weights: Weights, *, checked: bool = False
) -> npt.NDArray[np.int32]:
    """Bias, int32 (O,); ``checked``: the operator's scale must be right for int8 too, if there is but one."""
    channels = len(weights.scale)
    if not call.has(2):
        if call.operator.kind == "CONV_2D" or (call.count > 2 and call.operator.kind != "FULLY_CONNECTED"):
            raise Refused("has no bias, without which LiteRT does not run it", "give it a bias of zeros")
        return np.zeros(channels, np.int32)
    tensor = call.tensor(2)
    name = call.network.name(tensor.index)
    values = call.constant(2, "bias")
    if tensor.dtype != "int32" or values.size != channels or values.ndim != 1:
        raise malformed(
            f"Bias {name!r} of {call}",
            f"be int32 of shape [{channels}]",
            f"{tensor.dtype} of shape {list(tensor.shape)}",
        )
    quantization = tensor.quantization
    if quantization is not None and quantization.zero_point.any():
        raise malformed(f"Zero point of the bias {name!r} of {call}", "be 0", quantization.zero_point.tolist()[:8])
    kernel = call.tensor(1).quantization
    if kernel is not None and kernel.scale.size == 1 and (checked or x.file.dtype == "uint8"):
        scale = 0.0 if quantization is None else float(quantization.scale[0])
        if abs(x.scale * float(kernel.scale[0]) - scale) / out.scale > BIAS_TOLERANCE:
            raise malformed(
                f"Scale of the bias {name!r} of {call}", f"be {x.scale * float(kernel.scale[0]):.9g}", scale
            )
    return np.array(values, np.int32)
