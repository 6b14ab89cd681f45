# SPDX-License-Identifier: Apache-2.0
"""Integer operators of a program that the host runs, by the golden reference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tilewright_hdl.activation_layout import image_shape
from tilewright_hdl.numerics import AddParameters, Requantizer, Rounding
from tilewright_hdl.program import HostStep, TensorInfo

from . import tensor_reference

__all__ = ["as_image", "in_shape", "run"]


def run(
    step: HostStep, tensors: Mapping[str, TensorInfo], inputs: Sequence[torch.Tensor], rounding: Rounding
) -> torch.Tensor:
    """Result of an integer step.

    Parameters
    ----------
    step : HostStep
        Of kind ``"integer"``, as ``program_integer.check_integer_step`` admits it.
    tensors : mapping of str to TensorInfo
        Tensors of the program.
    inputs : sequence of int8 tensors
        Of the step, batch first.
    rounding : Rounding
        Of the program.
    """
    x, source, target = inputs[0], tensors[step.inputs[0]], tensors[step.outputs[0]]
    constants = {name: torch.from_numpy(np.array(value)) for name, value in step.constants.items()}
    options: dict[str, Any] = dict(step.kwargs)
    if step.target == "table":
        return tensor_reference.table(x, constants["entries"])
    if step.target == "add":
        return tensor_reference.add(x, inputs[1], _add_parameters(step, tensors, rounding))
    if step.target == "max_pool2d":
        return in_shape(tensor_reference.max_pool2d(as_image(x), **options), target.shape)
    options |= {"zero_point": source.quantization[1], "requantizer": Requantizer(
        multiplier=step.constants["multiplier"], shift=step.constants["shift"],
        zero_point=target.quantization[1], low=step.low, high=step.high, rounding=rounding,
    )}
    if step.target == "requantize":
        return tensor_reference.requantize(x, **options)
    if step.target == "avg_pool2d":
        return in_shape(tensor_reference.avg_pool2d(as_image(x), **options), target.shape)
    assert step.target == "conv2d", "a program is checked when it is loaded"
    weight = constants["weight"]
    groups = image_shape(source.shape)[0] // weight.shape[1]
    result = tensor_reference.conv2d(as_image(x), weight, constants["bias"], groups=groups, **options)
    return in_shape(result, target.shape)


def _add_parameters(step: HostStep, tensors: Mapping[str, TensorInfo], rounding: Rounding) -> AddParameters:
    multipliers, shifts = (step.constants[name].tolist() for name in ("multiplier", "shift"))
    zero_points = [tensors[name].quantization[1] for name in (*step.inputs, *step.outputs)]
    fields = {
        f"{name}_{end}": values[i]
        for name, values in (("multiplier", multipliers), ("shift", shifts), ("zero_point", zero_points))
        for i, end in enumerate(("a", "b", "out"))
    }
    return AddParameters(**fields, low=step.low, high=step.high, rounding=rounding)


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
