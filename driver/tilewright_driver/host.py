# SPDX-License-Identifier: Apache-2.0
"""Steps of a program that the host runs, one image at a time."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.activation_layout import reshape_channels_last
from tilewright_hdl.errors import DeviceError, TilewrightError
from tilewright_hdl.numerics import QuantizeRule, dequantize, quantize
from tilewright_hdl.program import CHANNELS_LAST, HostStep, Program, TensorInfo

__all__ = ["import_for", "run_host_step"]

Arrays = Mapping[str, npt.NDArray[Any]]


def run_host_step(step: HostStep, tensors: Mapping[str, TensorInfo], values: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Results of a host step.

    Parameters
    ----------
    step : HostStep
    tensors : mapping of str to TensorInfo
        Tensors of the program.
    values : mapping of str to array
        Of at least the step's inputs, without batch.

    Raises
    ------
    DeviceError
        If PyTorch is missing or refuses, or a result has not the shape that the program says.
    """
    if step.kind == "op":
        results = _run_operator(step, tensors, values)
    elif step.kind == "integer":
        results = (_run_integer(step, tensors, values),)
    elif step.kind == "constant":
        results = (step.constants["values"],)
    else:
        source, target = tensors[step.inputs[0]], tensors[step.outputs[0]]
        value = values[source.name]
        if step.kind == "quantize":
            value = quantize(value, *target.quantization, step.low, step.high, QuantizeRule(step.target))
        elif step.kind == "dequantize":
            value = dequantize(value, *source.quantization)
        ordered = step.kind == "reshape" and step.target == CHANNELS_LAST
        results = (reshape_channels_last(value, target.shape) if ordered else value.reshape(target.shape),)
    named = dict(zip(step.outputs, results, strict=True))
    for name, value in named.items():
        wanted, found = (tensors[name].shape, tensors[name].dtype), (value.shape, value.dtype.name)
        if wanted != found:
            raise DeviceError(f"Host step {step.target or step.kind} must make {name!r} of shape {wanted[0]} and dtype "
                              f"{wanted[1]}, but made {found[0]} and {found[1]}; compile the model again")
    return named


def import_for(program: Program) -> None:
    """Import what the host steps of a program need, so that it does not count as their time."""
    for step in program.steps:
        if isinstance(step, HostStep) and step.kind in ("op", "integer"):
            _import_torch(step.target)
            for name in ("host_operators", "integer_operators"):
                importlib.import_module(f"tilewright_sim.{name}")
            return


def _import_torch(target: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise DeviceError(f"The program runs {target} on the host with PyTorch, which is not installed: "
                          f"pip install 'tilewright[torch]'") from error
    return torch


def _run_integer(step: HostStep, tensors: Mapping[str, TensorInfo], values: Arrays) -> npt.NDArray[Any]:
    torch = _import_torch(step.target)
    from tilewright_sim import integer_operators

    # Copies: what comes from main memory may be read-only, of which PyTorch warns.
    inputs = [torch.from_numpy(np.array(values[name])).unsqueeze(0) for name in step.inputs]
    return np.asarray(integer_operators.run(step, tensors, inputs)[0])


def _run_operator(step: HostStep, tensors: Mapping[str, TensorInfo], values: Arrays) -> tuple[npt.NDArray[Any], ...]:
    torch = _import_torch(step.target)
    from tilewright_sim import host_operators

    def batched(name: str) -> Any:
        tensor = torch.from_numpy(np.array(values[name]))
        return tensor.unsqueeze(0) if tensors[name].batched else tensor

    try:
        results = host_operators.run(
            step.target,
            step.args,
            step.kwargs,
            {name: batched(name) for name in step.inputs},
            {key: torch.from_numpy(np.array(value)) for key, value in step.constants.items()},
        )
        arrays = [result.detach().numpy() for result in results]
    except TilewrightError:
        raise
    except Exception as error:
        # What an operator of PyTorch may raise is documented nowhere.
        raise DeviceError(f"PyTorch cannot run {step.target} on the host: {error}") from error
    if len(arrays) < len(step.outputs):
        raise DeviceError(f"Host step {step.target} must have {len(step.outputs)} results, but has {len(arrays)}")
    for name, array in zip(step.outputs, arrays, strict=False):
        if tensors[name].batched and array.shape[:1] != (1,):
            raise DeviceError(f"Host step {step.target} must make {name!r} with a batch of one, but made {array.shape}")
    return tuple(
        array[0] if tensors[name].batched else array for name, array in zip(step.outputs, arrays, strict=False)
    )
