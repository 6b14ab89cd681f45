# SPDX-License-Identifier: Apache-2.0
"""QLinearAdd and QLinearMul: operands that are repeated, and constants among them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding
from tilewright_sim import tensor_reference

from ..graph import Add, ConstantTensor, Multiply, Shape, Table, Tensor
from .file import OnnxNode
from .operands import AGAIN, OFFSET, REQUANTIZE, Refusal
from .translate import Translation

__all__ = ["elementwise"]


def elementwise(kind: type[Add] | type[Multiply]) -> Callable[[Translation, OnnxNode], None]:
    def translate(t: Translation, node: OnnxNode) -> None:
        """QLinearAdd, QLinearMul: a, scale, zero point, b, scale, zero point, y scale, zero point."""
        if any(isinstance(value, np.ndarray) and value.size == 1 for value in (t.value(node, 0), t.value(node, 3))):
            _with_number(kind, t, node)
            return
        rank = t.rank(node, 0, 3)
        a, b = (t.integers(node, i, i + 1, i + 2, rank=rank) for i in (0, 3))
        shape = _common_shape(a, b)
        if kind is Add and len(shape) == 2 and a.shape != b.shape:
            # Which operand onnxruntime takes for repeated depends on the order of the axes, which is another on chip.
            a, b = (_repeated(t, tensor, shape) for tensor in (a, b))
        y = t.int8(node.outputs[0], shape, t.quantization(node, 6, 7))
        t.add(node, kind, (a.name, b.name), y.name, rounding=Rounding.FLOAT_HALF_EVEN)

    return translate


def _common_shape(a: Tensor, b: Tensor) -> Shape:
    if len(a.shape) != len(b.shape):
        raise Refusal(f"its operands must have the same axes, not {a.shape} and {b.shape}", "reshape one")
    try:
        return np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise Refusal(f"its operands must fit each other, not {a.shape} and {b.shape}", AGAIN) from None


def _repeated(t: Translation, tensor: Tensor, shape: Shape) -> Tensor:
    """``tensor`` in ``shape``; a constant is written out."""
    if tensor.shape == shape:
        return tensor
    made = t.nodes[-1] if t.nodes and tensor.name in t.nodes[-1].outputs else None
    if not isinstance(made, ConstantTensor):
        raise Refusal(f"its operands must have one shape, not {tensor.shape} and {shape}", "repeat the smaller one")
    values = np.ascontiguousarray(np.broadcast_to(made.values, shape))
    t.nodes[-1] = replace(made, values=values)
    t.tensors[tensor.name] = replace(tensor, shape=shape)
    return t.tensors[tensor.name]


def _with_number(kind: type[Add] | type[Multiply], t: Translation, node: OnnxNode) -> None:
    """An operand that is one number makes a table."""
    first = isinstance(t.value(node, 3), np.ndarray)
    x = t.integers(node, 0, 1, 2) if first else t.integers(node, 3, 4, 5)
    place = 3 if first else 0
    number, (scale, zero_point, unsigned) = t.constant(node, place), t.quantization(node, place + 1, place + 2)
    if number is None or number.dtype not in (np.int8, np.uint8) or number.ndim > len(x.shape) + 1:
        raise Refusal("its number must be int8 or uint8", REQUANTIZE)
    y = t.int8(node.outputs[0], x.shape, t.quantization(node, 6, 7))
    every = torch.arange(INT8_MIN, INT8_MAX + 1, dtype=torch.int16)
    single = torch.tensor([int(number.reshape(())) - (OFFSET if unsigned else 0)])
    mine, other = (every, x.quantization), (single, (scale, zero_point))
    (a, end_a), (b, end_b) = (mine, other) if first else (other, mine)
    entries = tensor_reference.combine_float(kind.__name__.lower(), a, b, (end_a, end_b, y.quantization),
                                             unsigned=y.name in t.unsigned)
    t.add(node, Table, (x.name,), y.name, table=entries.numpy())
