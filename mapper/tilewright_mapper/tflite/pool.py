# SPDX-License-Identifier: Apache-2.0
"""Importers of TFLite's operators on windows and borders of an image."""

import math
from typing import Any

import numpy as np

from tilewright_hdl.numerics import Rounding
from tilewright_sim.tflite_functions import mean_rescale, nearest_indices

from ..graph import AvgPool2d, HostOp, MaxPool2d, Pad2d, Padding, Pair, Requantize, Shape, image_shape
from .context import Activation, Call
from .conv import image, pair
from .network import Refused, malformed
from .shapes import graph_axes, image_axes, window

__all__ = ["average_pool_2d", "max_pool_2d", "mean", "pad", "resize_nearest_neighbor"]


def average_pool_2d(call: Call) -> None:
    """An average of stored integers; a window at the border divides by the pixels inside the image."""
    x, out, kernel, stride, padding = _pool(call)
    call.add(
        AvgPool2d,
        (call.read(x),),
        out.name,
        kernel=kernel,
        stride=stride,
        padding=padding,
        divisor=0 if any(padding) else kernel[0] * kernel[1],
        raw=True,
        # uint8 integers are never negative, so that their halves go up; less 128 they do too.
        rounding=Rounding.SINGLE if x.offset else Rounding.FLOAT64_HALF_AWAY,
        **call.bounds(out),
    )


def max_pool_2d(call: Call) -> None:
    """A maximum; a fused activation clamps what comes out."""
    x, out, kernel, stride, padding = _pool(call)
    clamp = call.bounds(out)
    active = call.option("fused_activation") != "NONE"
    target = call.part(out, call.shape(out.name), "pooled") if active else out.name
    call.add(MaxPool2d, (call.read(x),), target, kernel=kernel, stride=stride, padding=padding)
    if active:
        call.add(Requantize, (target,), out.name, rounding=Rounding.TFLITE_DOUBLE, **clamp)


def _pool(call: Call) -> tuple[Activation, Activation, Pair, Pair, Padding]:
    call.need_inputs(1)
    x = image(call)
    kernel = int(call.option("filter_height")), int(call.option("filter_width"))
    stride = pair(call, "stride_{}")
    size, padding = window(x.shape[1:3], kernel, stride, (1, 1), call.option("padding"))
    out = call.only_output(shape=(x.shape[0], *size, x.shape[3]))
    call.same_quantization(x, out)
    return x, out, kernel, stride, padding


def mean(call: Call) -> None:
    """A mean over the height, the width or both of an image, or over tokens; of other axes the host makes tokens."""
    call.need_inputs(2)
    x, axes = call.input(), call.integers(1, "axes").reshape(-1).tolist()
    rank = len(x.shape)
    if any(not -rank <= axis < rank for axis in axes):
        raise malformed(f"Axes of {call}", f"be those of {rank} axes", axes)
    reduced = {axis % rank for axis in axes}
    keep = bool(call.option("keep_dims"))
    shape = tuple(1 if i in reduced else n for i, n in enumerate(x.shape) if keep or i not in reduced)
    out = call.only_output(shape=shape)
    call.same_type(x, out)
    across = {image_axes(x.shape)[axis] for axis in reduced} - {None}
    if not across:
        raise Refused(f"takes the mean over axes {axes} of {list(x.shape)}, which is no mean")
    source = call.read(x)
    if 2 in across:
        source, across = _as_tokens(call, x, source, reduced), {1}
    channels, *size = image_shape(call.shape(source))
    kernel = tuple(size[i] if i in across else 1 for i in (0, 1))
    count = math.prod(kernel)
    mean_rescale(count, x.quantization, out.quantization)
    result: Shape = (channels, *(size[i] // kernel[i] for i in (0, 1)))
    direct = image_shape(call.shape(out.name)) == result
    target = out.name if direct else call.part(out, result, "pooled")
    call.add(AvgPool2d, (source,), target, kernel=kernel, stride=(1, 1), divisor=count, rounding=Rounding.TFLITE_DOUBLE)
    if not direct:
        call.reshape_to(target, out)


def _as_tokens(call: Call, x: Activation, source: str, reduced: set[int]) -> str:
    """The elements along the ``reduced`` axes as tokens, whose features are all others in TFLite's order."""
    places = graph_axes(x.shape)
    assert places is not None, "an activation has a shape of the graph"
    order = sorted(range(len(places)), key=lambda axis: axis not in reduced)
    moved = [axis for axis in order if places[axis] is not None]
    sizes = tuple(x.shape[axis] for axis in moved)
    permuted = call.part(x, sizes, "moved")
    args: tuple[Any, ...] = ({"tensor": source}, (0, *(places[axis] for axis in moved)))
    call.add(HostOp, (source,), permuted, target="aten.permute.default", args=args)
    count = math.prod(x.shape[axis] for axis in moved if axis in reduced)
    tokens = call.part(x, (count, math.prod(sizes) // count), "tokens")
    args = ({"tensor": permuted}, (1, *call.shape(tokens)))
    call.add(HostOp, (permuted,), tokens, target="aten.reshape.default", args=args)
    return tokens


def pad(call: Call) -> None:
    """A border of the output's zero point, or of PADV2's constant; around channels the host puts it."""
    call.need_inputs(2, 3)
    x = call.input()
    sizes = call.integers(1, "sizes")
    if sizes.shape != (len(x.shape), 2) or sizes.min() < 0:
        raise malformed(f"Sizes of {call}", f"be {len(x.shape)} pairs of 0 or more", sizes.tolist()[:8])
    pairs: list[tuple[int, int]] = [(int(low), int(high)) for low, high in sizes]
    out = call.only_output(shape=tuple(n + sum(around) for n, around in zip(x.shape, pairs, strict=True)))
    call.same_quantization(x, out)
    value = _border(call, out)
    around = dict(zip(image_axes(x.shape), pairs, strict=True))
    if any(around.pop(None, ())):
        raise Refused("puts a border around the batch", "convert the model with a batch of 1")
    (top, bottom), (left, right) = around.get(0, (0, 0)), around.get(1, (0, 0))
    source = call.read(x)
    if not any(around[2]):
        call.add(Pad2d, (source,), out.name, padding=(top, left, bottom, right), value=value)
        return
    numbers = dict(zip(graph_axes(x.shape) or (), pairs, strict=True))
    last_first = [size for axis in range(len(call.shape(source)), 0, -1) for size in numbers[axis]]
    args = ({"tensor": source}, tuple(last_first), value)
    call.add(HostOp, (source,), out.name, target="aten.constant_pad_nd.default", args=args)


def _border(call: Call, out: Activation) -> int:
    if not call.has(2):
        return out.zero_point
    constant = call.input(2)
    if constant.values is None or constant.values.size != 1:
        raise Refused(f"has the border {constant.name!r}, which is no constant number")
    call.same_quantization(constant, out)
    return int(constant.values.reshape(()))


def resize_nearest_neighbor(call: Call) -> None:
    """Rows and columns repeated, or left out."""
    call.need_inputs(2)
    x = image(call)
    size = call.integers(1, "size").reshape(-1).tolist()
    if len(size) != 2 or min(size) < 1:
        raise malformed(f"Size of {call}", "be a height and a width", size)
    out = call.only_output(shape=(x.shape[0], *size, x.shape[3]))
    call.same_quantization(x, out)
    name = call.read(x)
    channels, height, width = call.shape(name)
    options = {option: bool(call.option(option)) for option in ("align_corners", "half_pixel_centers")}
    for axis, (before, after) in enumerate(zip((height, width), size, strict=True)):
        call.network.spend(after)
        indices = np.array(nearest_indices(before, after, **options), np.int64)
        target = out.name if axis else call.part(out, (channels, after, width), "rows")
        args = ({"tensor": name}, axis + 2, {"constant": "indices"})
        call.add(HostOp, (name,), target, target="aten.index_select.default", args=args, constants={"indices": indices})
        name = target
