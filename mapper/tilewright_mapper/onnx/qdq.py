# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear and DequantizeLinear: the borders between float and int8, and the constants behind them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..graph import QuantizedConstant
from .file import OnnxNode
from .operands import OFFSET, REQUANTIZE, Refusal
from .translate import Translation

__all__ = ["BORDERS"]

Array = npt.NDArray[Any]
OUTPUT_TYPES = {0: "uint8", 2: "uint8", 3: "int8"}
"""By ONNX's numbers of types, for a QuantizeLinear without a zero point; 0 stands for none."""


def _quantize(t: Translation, node: OnnxNode) -> None:
    """QuantizeLinear: x, scale, zero point."""
    _no_blocks(node)
    value = t.value(node, 0)
    if isinstance(value, np.ndarray):
        t.values[node.outputs[0]] = _quantized_constant(t, node, value)
        return
    kind = node.attributes.get("output_dtype", 0)
    if not isinstance(kind, int) or kind not in OUTPUT_TYPES:
        raise Refusal(f"its result must be int8 or uint8, not of type {kind!r}", REQUANTIZE)
    t.quantize(node, t.real(node, 0), t.quantization(node, 1, 2, OUTPUT_TYPES[kind]))


def _quantized_constant(t: Translation, node: OnnxNode, value: Array) -> Array:
    """Integers of a float constant, in the type of the zero point."""
    if value.dtype != np.float32:
        raise Refusal(f"its constant must be float32, but is {value.dtype}", "export the model in float32")
    scale, zeros = t.scale(node, 1), t.constant(node, 2)
    zeros = np.zeros(scale.shape, np.uint8) if zeros is None else zeros
    if zeros.dtype not in (np.int8, np.uint8) or zeros.size != scale.size:
        raise Refusal(
            f"its zero points must be int8 or uint8, one for each scale, not {zeros.size} of {zeros.dtype}", REQUANTIZE
        )
    along = _along(node, value, scale.size)
    info = np.iinfo(zeros.dtype)
    with np.errstate(over="ignore"):  # What float32 cannot hold is infinite, and saturates.
        steps = np.rint(value / scale.reshape(along))
    if np.isnan(steps).any():
        raise Refusal("its constant must be of numbers, but holds NaN", "train and export the model again")
    return np.asarray(np.clip(steps + zeros.reshape(along), info.min, info.max), zeros.dtype)


def _dequantize(t: Translation, node: OnnxNode) -> None:
    """DequantizeLinear: x, scale, zero point."""
    _no_blocks(node)
    value = t.value(node, 0)
    if isinstance(value, np.ndarray):
        t.values[node.outputs[0]] = _constant(t, node, value)
        return
    tensor = t.integers(node, 0, 1, 2)
    t.values[node.outputs[0]] = t.dequantize(node, tensor, node.outputs[0]).name


def _constant(t: Translation, node: OnnxNode, values: Array) -> QuantizedConstant:
    """A constant in integers, uint8 as int8, with its scales and zero points."""
    if values.dtype not in (np.int8, np.uint8, np.int32) or not values.size:
        raise Refusal(f"its constant must be int8, uint8 or int32, but is {values.dtype} {values.shape}", REQUANTIZE)
    scale, zeros = t.scale(node, 1), t.constant(node, 2)
    zeros = np.zeros(scale.shape, values.dtype) if zeros is None else zeros
    if zeros.dtype != values.dtype or zeros.size != scale.size:
        raise Refusal(
            f"its zero points must be {values.dtype}, one for each scale, not {zeros.size} of {zeros.dtype}", REQUANTIZE
        )
    _along(node, values, scale.size)
    if values.dtype == np.int32 and zeros.any():
        raise Refusal("its int32 constant must have zero points of 0", REQUANTIZE)
    offset = OFFSET if values.dtype == np.uint8 else 0
    return QuantizedConstant(
        values=(values.astype(np.int16) - offset).astype(np.int8) if offset else values,
        scale=scale.reshape(-1).astype(np.float64),
        zero_point=zeros.reshape(-1).astype(np.int64) - offset,
        axis=_axis(node, values.ndim) if scale.size > 1 else None,
    )


def _along(node: OnnxNode, values: Array, count: int) -> list[int]:
    """Shape in which ``count`` scales broadcast over ``values``."""
    along = [1] * values.ndim
    if count > 1:
        axis = _axis(node, values.ndim)
        if values.shape[axis] != count:
            raise Refusal(
                f"its {count} scales must be as many as its constant has along axis {axis}, {values.shape[axis]}",
                REQUANTIZE,
            )
        along[axis] = count
    return along


def _axis(node: OnnxNode, rank: int) -> int:
    axis = node.attributes.get("axis", 1)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise Refusal(f"its axis must be one of its {rank}, not {axis}", REQUANTIZE)
    return axis % rank


def _no_blocks(node: OnnxNode) -> None:
    if node.attributes.get("block_size", 0):
        raise Refusal("it must have a scale for the whole or for each channel, but has blocks", REQUANTIZE)


BORDERS: Mapping[str, Callable[[Translation, OnnxNode], None]] = MappingProxyType(
    {"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize}
)
"""Translators by the name of the operator."""
