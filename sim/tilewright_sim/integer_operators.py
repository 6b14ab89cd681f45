# SPDX-License-Identifier: Apache-2.0
"""Integer operators of a program that the host runs, by the golden reference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tilewright_hdl.activation_layout import image_shape
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, AddParameters, FloatRequantizer, Requantizer
from tilewright_hdl.program import HostStep, TensorInfo

from . import tensor_reference
from .tflite_functions import softmax as tflite_softmax

__all__ = ["as_image", "in_shape", "run"]


def run(step: HostStep, tensors: Mapping[str, TensorInfo], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Result of an integer step.

    Parameters
    ----------
    step : HostStep
        Of kind ``"integer"``, as ``program_integer.check_integer_step`` admits it.
    tensors : mapping of str to TensorInfo
        Tensors of the program.
    inputs : sequence of int8 tensors
        Of the step, batch first.
    """
    x, source, target = inputs[0], tensors[step.inputs[0]], tensors[step.outputs[0]]
    constants = {name: torch.from_numpy(np.array(value)) for name, value in step.constants.items()}
    options: dict[str, Any] = dict(step.kwargs)
    match step.target:
        case "table":
            return tensor_reference.table(x, constants["entries"])
        case "add" | "subtract" | "multiply":
            return in_shape(_elementwise(step, tensors, *(as_image(value) for value in inputs)), target.shape)
        case "max_pool2d":
            return in_shape(tensor_reference.max_pool2d(as_image(x), **options), target.shape)
        case "avg_pool2d_raw":
            options |= {"divisor": options["divisor"][0], "low": step.low, "high": step.high}
            pooled = tensor_reference.avg_pool2d_raw(as_image(x), rounding=step.rounding, **options)
            return in_shape(pooled, target.shape)
        case "pad2d":
            value = int(constants["value"])
            return in_shape(tensor_reference.pad2d(as_image(x), value=value, **options), target.shape)
        case "softmax":
            channels_last = as_image(x).movedim(1, -1).numpy()
            beta = float(step.constants["beta"][0])
            shares = tflite_softmax(channels_last, scale=source.quantization[0], beta=beta)
            return in_shape(torch.from_numpy(shares).movedim(-1, 1).clamp(step.low, step.high), target.shape)
        case "requantize" if step.rounding not in HARDWARE_ROUNDINGS:
            return tensor_reference.requantize_float(x, source.quantization, target.quantization, low=step.low,
                                                     high=step.high)
    options |= {"zero_point": source.quantization[1], "requantizer": _requantizer(step, target)}
    if step.target == "requantize":
        return tensor_reference.requantize(x, **options)
    if step.target == "avg_pool2d":
        return in_shape(tensor_reference.avg_pool2d(as_image(x), **options), target.shape)
    assert step.target in ("conv2d", "conv2d_wide"), "a program is checked when it is loaded"
    weight = constants["weight"]
    groups = image_shape(source.shape)[0] // weight.shape[1]
    result = tensor_reference.conv2d(as_image(x), weight, constants["bias"], groups=groups, **options)
    return in_shape(result, target.shape)


def _requantizer(step: HostStep, target: TensorInfo) -> Requantizer | FloatRequantizer:
    ends = {"zero_point": target.quantization[1], "low": step.low, "high": step.high}
    if step.rounding in HARDWARE_ROUNDINGS:
        return Requantizer(multiplier=step.constants["multiplier"], shift=step.constants["shift"],
                           rounding=step.rounding, **ends)
    return FloatRequantizer(factor=step.constants["factor"], rounding=step.rounding, **ends)


def _elementwise(
    step: HostStep, tensors: Mapping[str, TensorInfo], x: torch.Tensor, other: torch.Tensor
) -> torch.Tensor:
    a, b, y = (tensors[name].quantization for name in (*step.inputs, *step.outputs))
    if step.rounding not in HARDWARE_ROUNDINGS:
        return tensor_reference.combine_float(step.target, x, other, (a, b, y), low=step.low, high=step.high,
                                              unsigned=tensors[step.outputs[0]].unsigned)
    if step.target == "multiply":
        requantizer = _requantizer(step, tensors[step.outputs[0]])
        return tensor_reference.multiply(x, other, zero_points=(a[1], b[1]), requantizer=requantizer)
    function = tensor_reference.add if step.target == "add" else tensor_reference.subtract
    return function(x, other, _add_parameters(step, (a[1], b[1], y[1])))


def _add_parameters(step: HostStep, zero_points: tuple[int, int, int]) -> AddParameters:
    multipliers, shifts = (step.constants[name].tolist() for name in ("multiplier", "shift"))
    fields = {
        f"{name}_{end}": values[i]
        for name, values in (("multiplier", multipliers), ("shift", shifts), ("zero_point", zero_points))
        for i, end in enumerate(("a", "b", "out"))
    }
    return AddParameters(**fields, low=step.low, high=step.high, rounding=step.rounding)


def as_image(x: torch.Tensor) -> torch.Tensor:
    """``x`` (N, C), (N, T, D) or (N, C, H, W) as (N, C, H, W)."""
    if x.ndim == 3:
        return x.transpose(1, 2).unsqueeze(2)
    return x.reshape(len(x), *image_shape(tuple(x.shape[1:])))


def in_shape(image: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """An image (N, C, H, W) in a shape without batch, the inverse of :func:`as_image`."""
    if len(shape) == 2:
        return image.squeeze(2).transpose(1, 2).contiguous()
    return image.reshape(len(image), *shape)
