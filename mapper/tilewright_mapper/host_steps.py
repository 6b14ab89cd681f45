# SPDX-License-Identifier: Apache-2.0
"""Steps of a program for the nodes that the host runs."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, FloatRequantizer
from tilewright_hdl.program import CHANNELS_LAST, HostStep, TensorInfo

from .graph import (
    Add,
    AvgPool2d,
    Clamped,
    ConstantTensor,
    Conv2d,
    Dequantize,
    Graph,
    HostOp,
    IntegerOp,
    MaxPool2d,
    Multiply,
    Node,
    Pad2d,
    Quantize,
    Requantize,
    Reshape,
    Rounded,
    Subtract,
    Table,
    Tensor,
)
from .rescale import add_parameters, requantizer

__all__ = ["host_step", "tensor_info"]


def tensor_info(tensor: Tensor, arena_offset: int | None = None, *, rows: bool = False) -> TensorInfo:
    """A tensor as programs describe it."""
    return TensorInfo(
        name=tensor.name, shape=tensor.shape, dtype=tensor.dtype, scale=tensor.scale, zero_point=tensor.zero_point,
        batched=tensor.batched, channels_last=tensor.channels_last, unsigned=tensor.unsigned, rule=tensor.rule.value,
        arena_offset=arena_offset, rows=rows,
    )


def host_step(graph: Graph, node: Node, layer: int, *, bits: int) -> HostStep:
    """Step for a node.

    Parameters
    ----------
    layer : int
        Its number in the program.
    bits : int
        Width of the multipliers, as the accelerator has them.
    """
    ends: dict[str, Any] = {"layer": layer, "inputs": node.inputs, "outputs": node.outputs}
    if isinstance(node, Clamped):
        ends |= {"low": node.low, "high": node.high}
    match node:
        case HostOp():
            constants = {key: value for key, value in node.constants.items() if isinstance(value, np.ndarray)}
            assert len(constants) == len(node.constants), "canonicalize leaves plain arrays"
            return HostStep(kind="op", target=node.target, args=node.args, kwargs=node.kwargs, constants=constants,
                            **ends)
        case Quantize():
            return HostStep(kind="quantize", target=str(node.rule), **ends)
        case Dequantize():
            return HostStep(kind="dequantize", **ends)
        case Reshape():
            return HostStep(kind="reshape", target=CHANNELS_LAST if node.channels_last else "", **ends)
        case ConstantTensor():
            return HostStep(kind="constant", constants={"values": node.values}, **ends)
    if isinstance(node, Rounded):
        ends["rounding"] = node.rounding
    return HostStep(kind="integer", **_integer_fields(graph, node, bits), **ends)


def _integer_fields(graph: Graph, node: Node, bits: int) -> dict[str, Any]:
    """Target, keyword arguments and constants, as ``program_integer.FORMS`` lists them."""
    match node:
        case Table():
            return {"target": "table", "constants": {"entries": node.table}}
        case IntegerOp():
            return {"target": node.target, "kwargs": node.kwargs, "constants": node.constants}
        case Pad2d():
            return {"target": "pad2d", "kwargs": {"padding": node.padding},
                    "constants": {"value": np.array([node.value], np.int8)}}
        case MaxPool2d():
            return {"target": "max_pool2d", "kwargs": {"kernel": node.kernel, "stride": node.stride,
                                                       "padding": node.padding, "dilation": node.dilation}}
        case Add() | Subtract():
            return {"target": node.op.lower(), "constants": _sum_constants(graph, node, bits)}
        case Multiply():
            return {"target": "multiply", "constants": _rescale_constants(graph, node, bits)}
        case Requantize():
            return {"target": "requantize", "constants": _rescale_constants(graph, node, bits)}
        case AvgPool2d():
            window = {"kernel": node.kernel, "stride": node.stride, "padding": node.padding}
            if node.raw:
                return {"target": "avg_pool2d_raw", "kwargs": window | {"divisor": (node.divisor,)}}
            return {"target": "avg_pool2d", "constants": _rescale_constants(graph, node, bits), "kwargs": window}
    assert isinstance(node, Conv2d), node
    return {
        "target": "conv2d" if node.weight.dtype == np.int8 else "conv2d_wide",
        "constants": _rescale_constants(graph, node, bits) | {"weight": node.weight, "bias": node.bias},
        "kwargs": {"stride": node.stride, "padding": node.padding, "dilation": node.dilation},
    }


def _sum_constants(graph: Graph, node: Add | Subtract, bits: int) -> dict[str, npt.NDArray[Any]]:
    if node.rounding not in HARDWARE_ROUNDINGS:
        return {}
    p = add_parameters(graph, node, bits=bits)
    return {
        "multiplier": np.array([p.multiplier_a, p.multiplier_b, p.multiplier_out], np.int64),
        "shift": np.array([p.shift_a, p.shift_b, p.shift_out], np.int64),
    }


def _rescale_constants(
    graph: Graph, node: Conv2d | AvgPool2d | Requantize | Multiply, bits: int
) -> dict[str, npt.NDArray[Any]]:
    if isinstance(node, Requantize | Multiply) and node.rounding not in HARDWARE_ROUNDINGS:
        return {}
    rule = requantizer(graph, node, bits=bits)
    if isinstance(rule, FloatRequantizer):
        return {"factor": rule.factor}
    return {"multiplier": rule.multiplier, "shift": rule.shift}
