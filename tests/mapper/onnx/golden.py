# SPDX-License-Identifier: Apache-2.0
"""A second golden model of ONNX networks: numpy on the file itself, one operator after the other, rule F.

Of a QDQ graph it computes what an integer kernel would: DequantizeLinear only marks an integer tensor, a float operator
waits for the QuantizeLinear behind it. It has no more operators than the tests' networks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["golden"]

Array = np.ndarray[Any, Any]
F32 = np.float32


@dataclass(frozen=True)
class Marked:
    """Stored integers in int8 terms, with what they stand for; ``offset`` more in the file."""

    stored: Array
    zero_point: Array
    scale: Array
    offset: int

    @property
    def centred(self) -> Array:
        return self.stored - self.zero_point

    def moved(self, stored: Array) -> "Marked":
        return Marked(stored, self.zero_point, self.scale, self.offset)


@dataclass(frozen=True)
class Waiting:
    """A float result before its quantization: from scale and zero point, in int8 terms, to steps and zero point."""

    steps: Callable[[F32, int], Array]
    low: float | None = None


def golden(data: bytes, x: Array) -> dict[str, Array]:
    """Every tensor of integers, and every float output, for a network with one input."""
    graph = onnx.load_from_string(data).graph
    values: dict[str, Any] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    values[graph.input[0].name] = x
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = [values[name] for name in node.input]
        values[node.output[0]] = globals()[f"_{node.op_type.lower()}"](attributes, *inputs)
    for output in graph.output:
        if isinstance(values[output.name], Marked):
            values[output.name] = values[output.name].centred.astype(F32) * values[output.name].scale
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _saturated(steps: Array, dtype: Any) -> Array:
    info = np.iinfo(dtype)
    return np.clip(steps, info.min, info.max).astype(dtype)


def _rescaled(acc: Array, factor: Array, zero_point: int) -> Array:
    return np.rint(acc.astype(F32) * factor).astype(np.int64) + zero_point


def _fused(a: Array, b: Array, c: Array) -> Array:
    """80-bit floats: a second rounding, of 64 bits, that changes nothing but in one of 2**38 cases."""
    return (a.astype(np.longdouble) * np.longdouble(b) + np.asarray(c, np.longdouble)).astype(F32)


def _padded(x: Array, attributes: dict[str, Any], value: int) -> Array:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _windows(x: Array, kernel: Any, attributes: dict[str, Any]) -> Array:
    vertical, horizontal = attributes.get("strides", (1, 1))
    return np.lib.stride_tricks.sliding_window_view(x, tuple(kernel), (2, 3))[:, :, ::vertical, ::horizontal]


def _sums(centred: Array, weight: Array, attributes: dict[str, Any]) -> Array:
    """Accumulators (N, O, H, W) of a convolution."""
    windows = _windows(_padded(centred, attributes, 0), weight.shape[2:], attributes)
    groups = attributes.get("group", 1)
    parts = zip(np.split(windows, groups, 1), np.split(weight.astype(np.int64), groups, 0), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", w, k, optimize=True) for w, k in parts], 1)


def _along(values: Array, axis: int, rank: int) -> Array:
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape) if values.size > 1 else values.reshape(())


# -- Borders.


def _quantizelinear(attributes: Any, x: Any, scale: F32, zero_point: Array) -> Array:
    offset = _offset(zero_point)
    zero = int(zero_point) - offset
    if isinstance(x, Marked):  # Behind an operator that only moved integers.
        steps = np.rint(x.centred.astype(F32) * x.scale / scale).astype(np.int64) + zero
    elif isinstance(x, Waiting):
        steps = x.steps(scale, zero)
        if x.low is not None:
            steps = np.maximum(steps, int(np.rint(F32(x.low) / scale)) + zero)
    else:
        steps = np.rint(x / scale) + zero
    return _saturated(steps + offset, zero_point.dtype)


def _offset(zero_point: Array) -> int:
    return 128 if zero_point.dtype == np.uint8 else 0


def _dequantizelinear(attributes: Any, q: Array, scale: Array, zero_point: Array) -> Marked:
    axis = attributes.get("axis", 1)
    offset = _offset(zero_point)
    zeros = _along(zero_point.astype(np.int64) - offset, axis, q.ndim)
    return Marked(q.astype(np.int64) - offset, zeros, scale, offset)


# -- QOperator.


def _qlinearconv(a: Any, x: Array, sx: F32, zx: Array, w: Array, sw: Array, zw: Array, sy: F32, zy: Array,
                 bias: Array | int = 0) -> Array:
    weight = w.astype(np.int64) - _along(zw.astype(np.int64), 0, 4)
    acc = _sums(x.astype(np.int64) - int(zx), weight, a) + np.reshape(bias, (-1, 1, 1))
    return _saturated(_rescaled(acc, _along((sx * sw) / sy, 1, 4), int(zy)), zy.dtype)


def _qgemm(a: Any, x: Array, sx: F32, zx: Array, w: Array, sw: Array, zw: Array, bias: Array, sy: F32,
           zy: Array) -> Array:
    weight = (w.T if a.get("transB") else w).astype(np.int64)
    zeros = zw.astype(np.int64).reshape(1, -1)
    acc = (x.astype(np.int64) - int(zx)) @ (weight - zeros) + bias
    return _saturated(_rescaled(acc, (sx * sw) / sy, int(zy)), zy.dtype)


def _qlinearadd(attributes: Any, a: Array, sa: F32, za: Array, b: Array, sb: F32, zb: Array, sy: F32,
                zy: Array) -> Array:
    return _quantizelinear({}, _add({}, _dequantizelinear({}, a, sa, za), _dequantizelinear({}, b, sb, zb)), sy, zy)


def _qlinearglobalaveragepool(attributes: Any, x: Array, sx: F32, zx: Array, sy: F32, zy: Array) -> Array:
    acc = (x.astype(np.int64) - int(zx)).sum((2, 3), keepdims=True)
    return _saturated(_rescaled(acc, sx / (sy * F32(x.shape[2] * x.shape[3])), int(zy)), zy.dtype)


def _qlinearaveragepool(attributes: Any, x: Array, sx: F32, zx: Array, sy: F32, zy: Array) -> Array:
    return _quantizelinear({}, _averagepool(attributes, _dequantizelinear({}, x, sx, zx)), sy, zy)


def _qlinearconcat(attributes: Any, sy: F32, zy: Array, *parts: Any) -> Array:
    moved = [
        np.rint((x.astype(np.int64) - int(z)).astype(F32) * s / sy).astype(np.int64) + int(zy)
        for x, s, z in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]
    return _saturated(np.concatenate(moved, attributes["axis"]), zy.dtype)


# -- Float operators between borders, and those that move integers.


def _conv(attributes: Any, x: Marked, w: Marked, bias: Marked | None = None) -> Waiting:
    acc = _sums(x.centred, w.centred, attributes) + np.reshape(0 if bias is None else bias.centred, (-1, 1, 1))
    return Waiting(lambda scale, zero: _rescaled(acc, _along((x.scale * w.scale) / scale, 1, 4), zero))


def _gemm(attributes: Any, x: Marked, w: Marked, bias: Marked) -> Waiting:
    acc = x.centred @ (w.centred.T if attributes.get("transB") else w.centred) + bias.centred
    return Waiting(lambda scale, zero: _rescaled(acc, (x.scale * w.scale) / scale, zero))


def _add(attributes: Any, a: Marked, b: Marked) -> Waiting:
    def steps(scale: F32, zero: int) -> Array:
        """By QLinearAdd's formula, on values and zero points as they stand in the file."""
        ratio_a, ratio_b = a.scale / scale, b.scale / scale
        zero_a, zero_b = (np.asarray(end.zero_point + end.offset, F32) for end in (a, b))
        fixed = F32(zero + a.offset) - _fused(zero_a, ratio_a, zero_b * ratio_b)
        inner = _fused((b.stored + b.offset).astype(F32), ratio_b, fixed)
        return np.rint(_fused((a.stored + a.offset).astype(F32), ratio_a, inner)).astype(np.int64) - a.offset

    return Waiting(steps)


def _relu(attributes: Any, x: Waiting) -> Waiting:
    return Waiting(x.steps, low=0.0)


def _averagepool(attributes: Any, x: Marked) -> Waiting:
    sums = _windows(x.centred, attributes["kernel_shape"], attributes).sum((-1, -2))
    count = F32(np.prod(attributes["kernel_shape"]))
    return Waiting(lambda scale, zero: _rescaled(sums, x.scale / (scale * count), zero))


def _globalaveragepool(attributes: Any, x: Marked) -> Waiting:
    sums = x.centred.sum((2, 3), keepdims=True)
    return Waiting(lambda scale, zero: _rescaled(sums, x.scale / (scale * F32(x.centred[0, 0].size)), zero))


def _maxpool(attributes: Any, x: Any) -> Any:
    if isinstance(x, Marked):
        return x.moved(_maxpool(attributes, x.stored))
    lowest = np.iinfo(x.dtype).min
    return _windows(_padded(x, attributes, lowest), attributes["kernel_shape"], attributes).max((-1, -2))


def _flatten(attributes: Any, x: Any) -> Any:
    if isinstance(x, Marked):
        return x.moved(x.stored.reshape(len(x.stored), -1))
    return x.reshape(len(x), -1)


def _reshape(attributes: Any, x: Any, shape: Array) -> Any:
    return _flatten(attributes, x)
