# SPDX-License-Identifier: Apache-2.0
"""Rescales of TFLite's kernels that could leave int32."""

from dataclasses import replace

import numpy as np
import pytest

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import Rounding
from tilewright_mapper.graph import Graph, Multiply, Node, Requantize
from tilewright_mapper.passes.weights import prove_accumulators

from .builders import graph, int8, linear


def of(node: Node, factor: float) -> Graph:
    """The graph of a node that multiplies by ``factor``; its operands have zero point -128, so they reach 255."""
    tensors = [int8(name, 4, scale=factor if name == "x" else 1.0, zero_point=-128) for name in (*node.inputs, "y")]
    return graph(tensors, [node], inputs=node.inputs)


def requantize(rounding: Rounding) -> Requantize:
    return Requantize(name="r", inputs=("x",), outputs=("y",), rounding=rounding)


def test_a_shift_to_the_left_stays_within_int32() -> None:
    """255 * 2**23 is the most; a factor of 2**22 counts as 2**23 * 0.5."""
    double = requantize(Rounding.TFLITE_DOUBLE)
    assert prove_accumulators(g := of(double, 2.0**22)) is g
    with pytest.raises(
        ModelError, match=r"Rescale of Requantize 'r' must stay within int32 .* can reach 255 times 8.388"
    ):
        prove_accumulators(of(double, 2.0**23))
    # Other frameworks saturate.
    prove_accumulators(of(requantize(Rounding.SINGLE), 2.0**23))


def test_a_product_of_two_tensors() -> None:
    node = Multiply(name="m", inputs=("x", "z"), outputs=("y",), rounding=Rounding.TFLITE_DOUBLE)
    prove_accumulators(of(node, 2.0**13))
    with pytest.raises(ModelError, match=r"Rescale of Multiply 'm' .* can reach 65025 times 32768"):
        prove_accumulators(of(node, 2.0**15))


def test_a_result_in_floating_point() -> None:
    node = replace(linear("l", "x", "y", np.full((4, 4), 127, np.int8)), rounding=Rounding.FLOAT64_HALF_AWAY)
    node = replace(node, bias=np.zeros(4, np.int32), weight_scale=np.array([1.0, 1.0, 2.0, 1.0]))
    reach = 4 * 127 * 255
    prove_accumulators(of(node, (2**31 - 300) / reach / 2))
    with pytest.raises(ModelError, match=f"but channel 2 can reach {reach} times"):
        prove_accumulators(of(node, 2**31 / reach / 2))
