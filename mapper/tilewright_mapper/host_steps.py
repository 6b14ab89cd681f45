# SPDX-License-Identifier: Apache-2.0
"""Steps of a program for the nodes that the host runs."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import Rounding
from tilewright_hdl.program import HostStep

from .graph import (
    Add,
    AvgPool2d,
    Clamped,
    Conv2d,
    Dequantize,
    Graph,
    HostOp,
    MaxPool2d,
    Node,
    Quantize,
    Requantize,
    Reshape,
    Table,
)
from .rescale import add_parameters, requantizer

__all__ = ["host_step"]


def host_step(graph: Graph, node: Node, layer: int, *, rounding: Rounding, bits: int) -> HostStep:
    """Step for a node.

    Parameters
    ----------
    layer : int
        Its number in the program.
    rounding : Rounding
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
            return HostStep(kind="quantize", **ends)
        case Dequantize() | Reshape():
            return HostStep(kind="dequantize" if isinstance(node, Dequantize) else "reshape", **ends)
    return HostStep(kind="integer", **_integer_fields(graph, node, rounding, bits), **ends)


def _integer_fields(graph: Graph, node: Node, rounding: Rounding, bits: int) -> dict[str, Any]:
    """Target, keyword arguments and constants, as ``program_integer.FORMS`` lists them."""
    match node:
        case Table():
            return {"target": "table", "constants": {"entries": node.table}}
        case Add():
            p = add_parameters(graph, node, rounding=rounding, bits=bits)
            return {"target": "add", "constants": {
                "multiplier": np.array([p.multiplier_a, p.multiplier_b, p.multiplier_out], np.int64),
                "shift": np.array([p.shift_a, p.shift_b, p.shift_out], np.int64),
            }}
        case MaxPool2d():
            return {"target": "max_pool2d", "kwargs": {"kernel": node.kernel, "stride": node.stride,
                                                       "padding": node.padding, "dilation": node.dilation}}
    assert isinstance(node, Conv2d | AvgPool2d | Requantize), node
    rule = requantizer(graph, node, rounding=rounding, bits=bits)
    constants: dict[str, npt.NDArray[Any]] = {"multiplier": rule.multiplier, "shift": rule.shift}
    if isinstance(node, Requantize):
        return {"target": "requantize", "constants": constants}
    window = {"stride": node.stride, "padding": node.padding}
    if isinstance(node, AvgPool2d):
        return {"target": "avg_pool2d", "constants": constants, "kwargs": window | {"kernel": node.kernel}}
    constants |= {"weight": node.weight, "bias": node.bias}
    return {"target": "conv2d", "constants": constants, "kwargs": window | {"dilation": node.dilation}}
