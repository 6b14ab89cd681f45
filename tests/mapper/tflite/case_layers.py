# SPDX-License-Identifier: Apache-2.0
"""Drawn models of operators with weights and with windows."""

import math

import numpy as np
from hypothesis import strategies as st

from .case import (
    ACTIVATIONS,
    DTYPES,
    Array,
    Case,
    Draw,
    DrawnModel,
    Shape,
    drawn_image,
    drawn_output_scale,
    drawn_scale,
    drawn_zero_point,
    random_values,
)

__all__ = ["convolution", "fully_connected", "mean", "pad", "pad_and_convolution", "pool", "resize", "wrapping_sums"]


def _window(draw: Draw, size: Shape, *, dilated: bool) -> tuple[Shape, Shape, Shape, str, Shape]:
    """Kernel, stride, dilation, padding and the size of the result for an image of (height, width)."""
    kernel = tuple(draw(st.integers(1, 5)) for _ in size)
    stride = tuple(draw(st.integers(1, 3)) for _ in size)
    dilation = tuple(draw(st.integers(1, 3)) if dilated else 1 for _ in size)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    fits = all(r <= n for r, n in zip(reach, size, strict=True))
    padding = draw(st.sampled_from(("SAME", "VALID"))) if fits else "SAME"
    shrunk = (0, 0) if padding == "SAME" else tuple(r - 1 for r in reach)
    result = tuple(-(-(n - less) // s) for n, less, s in zip(size, shrunk, stride, strict=True))
    return kernel, stride, dilation, padding, result


def _weights(model: DrawnModel, shape: Shape, axis: int, *, may_be_centred: bool = False) -> tuple[int, Array]:
    """Weights and their scales; with a zero point where the kernel takes one."""
    draw, rng = model.draw, model.rng
    if model.dtype == "int8":
        values = rng.integers(-127, 128, shape).astype(np.int8)
        count = shape[axis] if draw(st.booleans()) else 1
        # The factor of a channel that is almost dead lies far below those of the others.
        dead = [draw(st.sampled_from((0, 0, 0, 24))) for _ in range(count)]
        scale = np.array([drawn_scale(draw, -12.0, -4.0) * 2.0**-shift for shift in dead])
        zero = draw(st.sampled_from((0, 7, -128))) if may_be_centred and count == 1 else 0
    else:
        values, count, scale = random_values(rng, "uint8", shape), 1, np.array([drawn_scale(draw, -12.0, -4.0)])
        zero = draw(st.one_of(st.integers(0, 255), st.just(128)))
    return model.builder.tensor(shape, model.dtype, scale=scale, zero_point=zero, axis=axis, data=values), scale


def _bias(model: DrawnModel, channels: int, accumulator_scale: Array, spread: float) -> int:
    limit = int(min(max(spread, 1.0) * 4, 2**28))
    data = model.rng.integers(-limit, limit + 1, channels)
    return model.builder.tensor((channels,), "int32", scale=accumulator_scale, data=data)


def wrapping_sums(draw: Draw) -> Case:
    """Sums that leave int32, as they do in channels that are almost dead: TFLite's kernels let them wrap around."""
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    kind, outputs = draw(st.sampled_from(("CONV_2D", "FULLY_CONNECTED"))), draw(st.integers(1, 18))
    shape = drawn_image(draw)
    x, quantization = model.input(shape)
    kernel = (outputs, 1, 1, shape[3]) if kind == "CONV_2D" else (outputs, math.prod(shape))
    w, scales = _weights(model, kernel, 0)
    limits = model.rng.integers(2**31 - 60000, 2**31, outputs) * model.rng.choice([-1, 1], outputs)
    scale = quantization["scale"] * scales
    b = model.builder.tensor((outputs,), "int32", scale=scale, data=limits)
    result = (*shape[:3], outputs) if kind == "CONV_2D" else (1, outputs)
    y = model.output(
        result,
        scale=max(float(scale.max()) * 2.0 ** draw(st.integers(14, 30)), 2.0**-24),
        zero_point=drawn_zero_point(draw, model.dtype),
    )
    options = {"stride_h": 1, "stride_w": 1} if kind == "CONV_2D" else {}
    model.builder.op(kind, [x, w, b], [y], **options)
    return model.case()


def convolution(draw: Draw, *, depthwise: bool, grouped: bool = False) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    if depthwise:
        channels, multiplier = draw(st.integers(1, 17)), draw(st.integers(1, 3))
        outputs, per_group = channels * multiplier, 1
    else:
        groups = draw(st.integers(2, 4)) if grouped else 1
        per_group, outputs = draw(st.integers(1, 18 // groups)), groups * draw(st.integers(1, 18 // groups))
        channels, multiplier = per_group * groups, 0
    shape = drawn_image(draw, channels)
    kernel, stride, dilation, padding, size = _window(draw, shape[1:3], dilated=True)
    x, quantization = model.input(shape)
    kernel_shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, per_group)
    w, scales = _weights(model, kernel_shape, 3 if depthwise else 0)
    spread = 4000.0 * math.sqrt(math.prod(kernel) * per_group)
    accumulator_scale = quantization["scale"] * scales
    y = model.output(
        (1, *size, outputs),
        scale=drawn_output_scale(draw, float(accumulator_scale.max()), spread),
        zero_point=drawn_zero_point(draw, model.dtype),
    )
    inputs = [x, w, _bias(model, outputs, accumulator_scale, spread)]
    options = {
        "stride_h": stride[0],
        "stride_w": stride[1],
        "dilation_h_factor": dilation[0],
        "dilation_w_factor": dilation[1],
        "padding": padding,
        "fused_activation_function": draw(st.sampled_from(ACTIVATIONS)),
    }
    if depthwise:
        model.builder.op("DEPTHWISE_CONV_2D", inputs, [y], depth_multiplier=multiplier, **options)
    else:
        model.builder.op("CONV_2D", inputs, [y], **options)
    return model.case()


def fully_connected(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape: Shape = draw(st.sampled_from(((1, 24), (1, 1, 1, 24), (1, 2, 3, 4), (1, 3, 8), (24,))))
    if shape == (24,):
        shape = (1, draw(st.integers(1, 70)))
    keep = draw(st.booleans())
    depth = shape[-1] if keep or draw(st.booleans()) else math.prod(shape)
    units = draw(st.integers(1, 20))
    x, quantization = model.input(shape)
    w, scales = _weights(model, (units, depth), 0, may_be_centred=True)
    spread = 4000.0 * math.sqrt(depth)
    accumulator_scale = quantization["scale"] * scales
    result = (*shape[:-1], units) if keep else (math.prod(shape) // depth, units)
    y = model.output(
        result,
        scale=drawn_output_scale(draw, float(accumulator_scale.max()), spread),
        zero_point=drawn_zero_point(draw, model.dtype),
    )
    bias = draw(st.sampled_from(([-1], [], [_bias(model, units, accumulator_scale, spread)])))
    activation = draw(st.sampled_from(ACTIVATIONS))
    model.builder.op("FULLY_CONNECTED", [x, w, *bias], [y], keep_num_dims=keep, fused_activation_function=activation)
    return model.case()


def pad_and_convolution(draw: Draw) -> Case:
    """A border, of zeros or not, in front of a convolution."""
    model = DrawnModel(draw, "int8")
    shape = drawn_image(draw, draw(st.integers(1, 6)))
    x, quantization = model.input(shape)
    around = [[0, 0], *([draw(st.integers(0, 2)), draw(st.integers(0, 2))] for _ in range(2)), [0, 0]]
    padded = (1, shape[1] + sum(around[1]), shape[2] + sum(around[2]), shape[3])
    middle = model.output(padded, **quantization)
    border = model.integers(around)
    if draw(st.booleans()):
        model.builder.op("PAD", [x, border], [middle])
    else:
        value = model.builder.tensor((1,), "int8", **quantization, data=[draw(st.integers(-128, 127))])
        model.builder.op("PADV2", [x, border, value], [middle])
    outputs = draw(st.integers(1, 5))
    w, scales = _weights(model, (outputs, 2, 2, shape[3]), 0)
    accumulator_scale = quantization["scale"] * scales
    bias = _bias(model, outputs, accumulator_scale, 4000.0)
    y = model.output(
        (1, padded[1], padded[2], outputs),
        scale=drawn_output_scale(draw, float(accumulator_scale.max()), 4e3),
        zero_point=drawn_zero_point(draw, "int8"),
    )
    model.builder.op("CONV_2D", [middle, w, bias], [y], stride_h=1, stride_w=1, padding="SAME")
    return model.case()


def pool(draw: Draw, kind: str) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape = drawn_image(draw)
    kernel, stride, _, padding, size = _window(draw, shape[1:3], dilated=False)
    x, quantization = model.input(shape)
    y = model.output((1, *size, shape[3]), **quantization)
    model.builder.op(
        kind,
        [x],
        [y],
        filter_height=kernel[0],
        filter_width=kernel[1],
        stride_h=stride[0],
        stride_w=stride[1],
        padding=padding,
        fused_activation_function=draw(st.sampled_from(ACTIVATIONS)),
    )
    return model.case()


def mean(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape: Shape = draw(st.sampled_from((drawn_image(draw), (1, draw(st.integers(1, 12)), 5))))
    axes = draw(st.lists(st.integers(1, len(shape) - 1), min_size=1, max_size=3, unique=True))
    axes, keep = [axis - draw(st.sampled_from((0, len(shape)))) for axis in axes], draw(st.booleans())
    x, quantization = model.input(shape)
    if draw(st.booleans()):
        quantization = {
            "scale": quantization["scale"] * 2.0 ** draw(st.floats(-4.0, 3.0)),
            "zero_point": drawn_zero_point(draw, model.dtype),
        }
    reduced = {axis % len(shape) for axis in axes}
    result = tuple(1 if i in reduced else n for i, n in enumerate(shape) if keep or i not in reduced)
    y = model.output(result, **quantization)
    model.builder.op("MEAN", [x, model.integers(axes)], [y], keep_dims=keep)
    return model.case()


def pad(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape: Shape = draw(st.sampled_from((drawn_image(draw), (1, 7, 5), (1, 9))))
    around = [[0, 0], *([draw(st.integers(0, 3)), draw(st.integers(0, 3))] for _ in shape[1:])]
    if draw(st.booleans()) and len(shape) > 2:
        around[-1] = [0, 0]
    x, quantization = model.input(shape)
    y = model.output(tuple(n + sum(sizes) for n, sizes in zip(shape, around, strict=True)), **quantization)
    if draw(st.booleans()):
        model.builder.op("PAD", [x, model.integers(around)], [y])
    else:
        value = model.constant((1,), **quantization)
        model.builder.op("PADV2", [x, model.integers(around), value], [y])
    return model.case()


def resize(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape = drawn_image(draw)
    size = [draw(st.integers(1, 20)), draw(st.integers(1, 20))]
    x, quantization = model.input(shape)
    y = model.output((1, *size, shape[3]), **quantization)
    corners, half = draw(st.sampled_from(((False, False), (True, False), (False, True))))
    model.builder.op(
        "RESIZE_NEAREST_NEIGHBOR", [x, model.integers(size)], [y], align_corners=corners, half_pixel_centers=half
    )
    return model.case()
