# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators that move, pick or bound elements: on int8 tensors exact as they are, else PyTorch's on floats."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding

from ..graph import HostOp, MaxPool2d, Pad2d, QuantizedConstant, Requantize, Reshape, Shape, Tensor
from .file import OnnxNode
from .operands import AGAIN, OFFSET, REQUANTIZE, Refusal, whole
from .translate import Translation
from .windows import window

__all__ = ["MOVEMENT", "place_of_axis", "reshape"]


def _identity(t: Translation, node: OnnxNode) -> None:
    value = t.value(node, 0)
    if value is None:
        raise Refusal("it must have an input", AGAIN)
    if any(node.outputs[1:]):
        raise Refusal("its mask must not be used", "export the model in evaluation mode")
    t.values[node.outputs[0]] = value


def _cast(t: Translation, node: OnnxNode) -> None:
    t.real(node, 0)
    if node.attributes.get("to") != 1:
        raise Refusal("it must stay float32", "export the model in float32")
    _identity(t, node)


def _like(t: Translation, node: OnnxNode, source: Tensor, shape: Shape) -> Tensor:
    """A new int8 tensor with the quantization of ``source``."""
    return t.int8(node.outputs[0], shape, (*source.quantization, source.name in t.unsigned))


def reshape(t: Translation, node: OnnxNode, tensor: Tensor, shape: Sequence[int]) -> None:
    """Make the operator's result of ``tensor`` in another shape, which has the batch."""
    if math.prod(shape) != tensor.size or len(shape) < 1 or shape[0] != 1:
        raise Refusal(
            f"its result must keep the batch and {tensor.size} elements, but has shape {tuple(shape)} for a batch of 1",
            "keep the batch as the first axis",
        )
    if tensor.is_quantized:
        made = _like(t, node, tensor, tuple(shape[1:]))
        t.add(node, Reshape, (tensor.name,), made.name)
        return
    t.host(node, "aten.reshape.default", ({"tensor": tensor.name}, tuple(shape)))


def _reshape(t: Translation, node: OnnxNode) -> None:
    before = whole(t.tensor(node, 0))
    wanted = t.numbers(node, 1, "shape")
    if wanted is None or any(size < -1 for size in wanted) or wanted.count(-1) > 1:
        raise Refusal(f"its shape must be constant and have one -1 at most, not {wanted}", "fix the shapes first")
    copied = [
        before[i] if size == 0 and i < len(before) and not node.attributes.get("allowzero", 0) else size
        for i, size in enumerate(wanted)
    ]
    rest = math.prod(size for size in copied if size != -1)
    if -1 in copied and rest == 0:
        raise Refusal(f"its shape {wanted} must not be empty", AGAIN)
    total = math.prod(before)
    reshape(t, node, t.tensor(node, 0), [total // rest if size == -1 else size for size in copied])


def _flatten(t: Translation, node: OnnxNode) -> None:
    before = whole(t.tensor(node, 0))
    axis = place_of_axis(node, len(before), node.attributes.get("axis", 1), last=len(before))
    reshape(t, node, t.tensor(node, 0), [math.prod(before[:axis]), math.prod(before[axis:])])


def place_of_axis(node: OnnxNode, rank: int, axis: object, *, last: int | None = None) -> int:
    """Axis counted from the front."""
    highest = rank - 1 if last is None else last
    if not isinstance(axis, int) or not -rank <= axis <= highest:
        raise Refusal(f"its axis must be one of its {rank}, not {axis!r}", AGAIN)
    return axis % rank if axis < 0 else axis


def _squeeze(t: Translation, node: OnnxNode) -> None:
    before = whole(t.tensor(node, 0))
    axes = t.numbers(node, 1, "axes")
    if axes is None:
        raise Refusal("its axes must be given: without them it would take the batch away too", "name the axes")
    gone = {place_of_axis(node, len(before), axis) for axis in axes}
    if any(before[i] != 1 for i in gone):
        raise Refusal(f"the axes {axes} that it removes must be 1, but its input is {before}", AGAIN)
    reshape(t, node, t.tensor(node, 0), [size for i, size in enumerate(before) if i not in gone])


def _unsqueeze(t: Translation, node: OnnxNode) -> None:
    before = list(whole(t.tensor(node, 0)))
    axes = t.numbers(node, 1, "axes")
    if axes is None or len(axes) > 8:
        raise Refusal(f"its axes must be constant, and at most 8, not {axes}", AGAIN)
    rank = len(before) + len(axes)
    for axis in sorted({place_of_axis(node, rank, axis) for axis in axes}):
        before.insert(axis, 1)
    reshape(t, node, t.tensor(node, 0), before)


def _transpose(t: Translation, node: OnnxNode) -> None:
    value = t.value(node, 0)
    if isinstance(value, QuantizedConstant):
        t.values[node.outputs[0]] = _transposed(node, value)
        return
    tensor = t.tensor(node, 0)
    order = _order(node, len(tensor.shape) + 1)
    if order[0] != 0:
        raise Refusal(f"its perm must leave the batch in front, but is {order}", "keep the batch as the first axis")
    shape = tuple(whole(tensor)[i] for i in order)[1:]
    _moved(t, node, tensor, "aten.permute.default", (order,), shape)


def _transposed(node: OnnxNode, value: QuantizedConstant) -> QuantizedConstant:
    """Weights that are turned behind their DequantizeLinear."""
    order = _order(node, value.values.ndim)
    axis = None if value.axis is None else order.index(value.axis)
    return replace(value, values=np.ascontiguousarray(value.values.transpose(order)), axis=axis)


def _order(node: OnnxNode, rank: int) -> tuple[int, ...]:
    """Axes of a transposition."""
    order = node.attributes.get("perm", tuple(reversed(range(rank))))
    if not isinstance(order, tuple) or not all(isinstance(i, int) for i in order) or sorted(order) != [*range(rank)]:
        raise Refusal(f"its perm must be an order of {rank} axes, not {order!r}", AGAIN)
    return order


def _moved(t: Translation, node: OnnxNode, tensor: Tensor, target: str, rest: tuple[Any, ...], shape: Shape) -> None:
    """An operator of PyTorch that only moves elements, on int8 or float."""
    if not tensor.is_quantized:
        t.host(node, target, ({"tensor": t.real(node, 0).name}, *rest))
        return
    made = _like(t, node, tensor, shape)
    t.add(node, HostOp, (tensor.name,), made.name, target=target, args=({"tensor": tensor.name}, *rest))


def _max_pool(t: Translation, node: OnnxNode) -> None:
    if any(node.outputs[1:]) or node.attributes.get("storage_order", 0):
        raise Refusal("its indices must not be used", "export the pool without indices")
    tensor = t.tensor(node, 0)
    place = window(node, tensor.shape)
    behind = tensor if tensor.is_quantized else t.behind.get(tensor.name)
    if behind is None:
        _float_max_pool(t, node, place.kernel, place.stride, place.padding, place.dilation)
        return
    shape = (tensor.shape[0], *place.output((tensor.shape[1], tensor.shape[2])))
    unsigned = behind.name in t.unsigned
    name = node.outputs[0] if tensor.is_quantized else f"{node.outputs[0]}.int8"
    made = t.int8(name, shape, (*behind.quantization, unsigned))
    t.add(
        node, MaxPool2d, (behind.name,), made.name,
        kernel=place.kernel, stride=place.stride, padding=place.padding, dilation=place.dilation,
    )
    if not tensor.is_quantized:
        t.values[node.outputs[0]] = t.dequantize(node, made, node.outputs[0]).name


def _float_max_pool(
    t: Translation,
    node: OnnxNode,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> None:
    real = t.real(node, 0)
    if any(padding):
        top, left, bottom, right = padding
        sides = (left, right, top, bottom)
        (real,) = t.host(
            node, "aten.constant_pad_nd.default", ({"tensor": real.name}, sides, {"float": "-inf"}), final=False
        )
    arguments = {"tensor": real.name}, tuple(kernel), tuple(stride), (0, 0), tuple(dilation)
    t.host(node, "aten.max_pool2d.default", arguments)


def _global_max(t: Translation, node: OnnxNode) -> None:
    tensor = t.tensor(node, 0)
    sizes = {"kernel_shape": tensor.shape[1:]}
    _max_pool(t, replace(node, attributes=MappingProxyType(sizes)))


def _pad(t: Translation, node: OnnxNode) -> None:
    """Pad with one value: x, pads, value, axes."""
    if node.attributes.get("mode", "constant") != "constant":
        raise Refusal(f"its mode must be constant, not {node.attributes['mode']!r}", "pad with a constant")
    tensor = t.tensor(node, 0)
    rank = len(tensor.shape) + 1
    pads = t.numbers(node, 1, "pads")
    axes = t.numbers(node, 3, "axes") or tuple(range(rank))
    if pads is None or len(pads) != 2 * len(axes) or not all(0 <= p <= 1 << 20 for p in pads):
        raise Refusal(f"its pads must be two for each axis, constant and not negative, not {pads}", AGAIN)
    around = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        around[place_of_axis(node, rank, axis)] = pads[i], pads[len(axes) + i]
    value = t.constant(node, 2)
    if around[0] != (0, 0) or (value is not None and value.size != 1):
        raise Refusal("it must not pad the batch, and pad with one value", AGAIN)
    if tensor.is_quantized:
        _pad_integers(t, node, tensor, around, 0 if value is None else int(value.reshape(())))
        return
    # PyTorch counts from the last axis; axes in front that keep their size are left out.
    first = next((i for i, pair in enumerate(around) if any(pair)), rank - 1)
    sides = tuple(side for pair in reversed(around[first:]) for side in pair)
    number = node.attributes.get("value", 0.0) if value is None else float(value.reshape(()))
    if not isinstance(number, int | float) or not math.isfinite(number):
        raise Refusal(f"it must pad with a number, not {number!r}", AGAIN)
    t.host(node, "aten.constant_pad_nd.default", ({"tensor": t.real(node, 0).name}, sides, float(number)))


def _pad_integers(t: Translation, node: OnnxNode, tensor: Tensor, around: list[tuple[int, int]], stored: int) -> None:
    value = stored - (OFFSET if tensor.name in t.unsigned else 0)
    if len(tensor.shape) != 3 or around[1] != (0, 0) or not INT8_MIN <= value <= INT8_MAX:
        raise Refusal("it must pad height and width of an image with a value of its type", "pad in float")
    (top, bottom), (left, right) = around[2:]
    c, h, w = tensor.shape
    made = _like(t, node, tensor, (c, h + top + bottom, w + left + right))
    t.add(node, Pad2d, (tensor.name,), made.name, padding=(top, left, bottom, right), value=value)


def _clip(t: Translation, node: OnnxNode) -> None:
    """Clip: x, min, max. Bounds of integers are stored integers."""
    tensor = t.tensor(node, 0)
    bounds = [_bound(t, node, 1, "min"), _bound(t, node, 2, "max")]
    if not tensor.is_quantized:
        real = t.real(node, 0)
        # PyTorch takes no operator without any bound.
        low, high = (None if b is None or not math.isfinite(b) else float(b) for b in bounds)
        if low is None and high is None:
            _identity(t, node)
        else:
            t.host(node, "aten.clamp.default", ({"tensor": real.name}, low, high))
        return
    offset = OFFSET if tensor.name in t.unsigned else 0
    low = INT8_MIN if bounds[0] is None else int(bounds[0]) - offset
    high = INT8_MAX if bounds[1] is None else int(bounds[1]) - offset
    _clamp(t, node, tensor, low, high)


def _bound(t: Translation, node: OnnxNode, index: int, attribute: str) -> float | None:
    array = t.constant(node, index)
    value = node.attributes.get(attribute) if array is None else array
    if value is None:
        return None
    if (isinstance(value, np.ndarray) and value.size != 1) or not isinstance(value, int | float | np.ndarray):
        raise Refusal(f"its {attribute} must be one number", AGAIN)
    number = float(value.reshape(())) if isinstance(value, np.ndarray) else float(value)
    if math.isnan(number):
        raise Refusal(f"its {attribute} must be a number, not NaN", AGAIN)
    return number


def _relu(t: Translation, node: OnnxNode) -> None:
    tensor = t.tensor(node, 0)
    if not tensor.is_quantized:
        t.host(node, "aten.relu.default", ({"tensor": t.real(node, 0).name},))
        return
    # On integers ONNX bounds what is stored, not what that stands for.
    _clamp(t, node, tensor, -OFFSET if tensor.name in t.unsigned else 0, INT8_MAX)


def _clamp(t: Translation, node: OnnxNode, tensor: Tensor, low: int, high: int) -> None:
    low, high = max(low, INT8_MIN), min(high, INT8_MAX)
    if low > high:
        raise Refusal(f"its bounds must leave something, not {low} to {high}", REQUANTIZE)
    made = _like(t, node, tensor, tensor.shape)
    t.add(node, Requantize, (tensor.name,), made.name, low=low, high=high, rounding=Rounding.FLOAT_HALF_EVEN)


def _concatenation(t: Translation, node: OnnxNode) -> None:
    parts = [t.tensor(node, i) for i in range(len(node.inputs))]
    axis = place_of_axis(node, len(parts[0].shape) + 1, node.attributes.get("axis"))
    if axis == 0:
        raise Refusal("it must not join batches", "keep the batch as the first axis")
    names = tuple(part.name for part in parts)
    arguments = tuple({"tensor": name} for name in names), axis
    if not any(part.is_quantized for part in parts):
        t.host(node, "aten.cat.default", (tuple({"tensor": t.real(node, i).name} for i in range(len(parts))), axis))
        return
    if len({(part.dtype, part.scale, part.zero_point, part.name in t.unsigned) for part in parts}) > 1:
        raise Refusal("its parts must have one scale and zero point", "use QLinearConcat")
    shape = list(parts[0].shape)
    for part in parts[1:]:
        if len(part.shape) != len(shape) or any(
            a != b for i, (a, b) in enumerate(zip(part.shape, parts[0].shape, strict=True), 1) if i != axis
        ):
            raise Refusal(f"its parts must agree in all axes but one, not {[p.shape for p in parts]}", AGAIN)
        shape[axis - 1] += part.shape[axis - 1]
    made = _like(t, node, parts[0], tuple(shape))
    t.add(node, HostOp, tuple(dict.fromkeys(names)), made.name, target="aten.cat.default", args=arguments)


MOVEMENT: Mapping[str, Callable[[Translation, OnnxNode], None]] = MappingProxyType(
    {
        "Cast": _cast,
        "Clip": _clip,
        "Concat": _concatenation,
        "Dropout": _identity,
        "Flatten": _flatten,
        "GlobalMaxPool": _global_max,
        "Identity": _identity,
        "MaxPool": _max_pool,
        "Pad": _pad,
        "Relu": _relu,
        "Reshape": _reshape,
        "Squeeze": _squeeze,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
"""Translators by the name of the operator."""
