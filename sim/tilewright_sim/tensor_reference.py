# SPDX-License-Identifier: Apache-2.0
"""The golden reference: each integer operator in PyTorch's own integer arithmetic.

Convolutions and matrix products are PyTorch's int32 kernels, rescaling is int64, or floating point where the framework
of a model does it so. Only the integer multipliers
come from ``tilewright_hdl.numerics``; how they are applied is written here a second time, so that the hardware's
model is checked and not repeated. Nothing here knows the instruction set or the array.

Activations are int8 tensors with the batch first: ``(N, C, H, W)``, ``(N, C)`` or ``(N, T, D)``.
"""

import torch
import torch.nn.functional as F

from tilewright_hdl.numerics import (
    ADD_LEFT_SHIFT,
    INT8_MAX,
    INT8_MIN,
    AddParameters,
    FloatRequantizer,
    QuantizeRule,
    Requantizer,
    Rounding,
)

from .float_reference import add_half_even, multiply_half_even, requantize_half_even, rescale_half_even

__all__ = [
    "add",
    "avg_pool2d",
    "avg_pool2d_raw",
    "combine_float",
    "conv2d",
    "dequantize",
    "linear",
    "max_pool2d",
    "multiply",
    "pad2d",
    "quantize",
    "requantize",
    "requantize_float",
    "subtract",
    "table",
]

Padding = tuple[int, int, int, int]
AnyRequantizer = Requantizer | FloatRequantizer
Quantization = tuple[float, int]
"""Scale and zero point."""


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    zero_point: int,
    requantizer: AnyRequantizer,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    """Convolve int8 ``x`` (N, C, H, W) with ``weight`` (O, C / groups, kh, kw) and int32 ``bias`` (O,).

    ``zero_point`` is that of ``x``; ``padding`` is top, left, bottom, right and stands for real zero.
    """
    centred = _pad(x.to(torch.int32) - zero_point, padding, 0)
    kernel = _dilated(weight.to(torch.int32), dilation)
    acc = F.conv2d(centred, kernel, bias.to(torch.int32), stride=stride, groups=groups)
    return _requantize(acc, requantizer, channel_axis=1)


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, zero_point: int, requantizer: AnyRequantizer
) -> torch.Tensor:
    """Multiply int8 ``x`` (N, ..., I) by int8 ``weight`` (O, I) and add int32 ``bias`` (O,)."""
    acc = F.linear(x.to(torch.int32) - zero_point, weight.to(torch.int32), bias.to(torch.int32))
    return _requantize(acc, requantizer, channel_axis=-1)


def add(a: torch.Tensor, b: torch.Tensor, parameters: AddParameters) -> torch.Tensor:
    """Add two int8 tensors; one of size 1 along an axis is repeated there."""
    wide_a, wide_b = _widened(a, b, parameters)
    return _narrowed(wide_a + wide_b, parameters)


def subtract(a: torch.Tensor, b: torch.Tensor, parameters: AddParameters) -> torch.Tensor:
    """Subtract int8 ``b`` from int8 ``a``; one of size 1 along an axis is repeated there."""
    wide_a, wide_b = _widened(a, b, parameters)
    return _narrowed(wide_a - wide_b, parameters)


def _widened(a: torch.Tensor, b: torch.Tensor, p: AddParameters) -> tuple[torch.Tensor, torch.Tensor]:
    wide_a = (a.to(torch.int64) - p.zero_point_a) << ADD_LEFT_SHIFT
    wide_b = (b.to(torch.int64) - p.zero_point_b) << ADD_LEFT_SHIFT
    return (
        _rescale(wide_a, torch.tensor(p.multiplier_a), torch.tensor(p.shift_a), p.rounding),
        _rescale(wide_b, torch.tensor(p.multiplier_b), torch.tensor(p.shift_b), p.rounding),
    )


def _narrowed(total: torch.Tensor, p: AddParameters) -> torch.Tensor:
    scaled = _rescale(total, torch.tensor(p.multiplier_out), torch.tensor(p.shift_out), p.rounding)
    return torch.clamp(scaled + p.zero_point_out, p.low, p.high).to(torch.int8)


def combine_float(
    operator: str,
    a: torch.Tensor,
    b: torch.Tensor,
    ends: tuple[Quantization, Quantization, Quantization],
    *,
    unsigned: bool,
    low: int = INT8_MIN,
    high: int = INT8_MAX,
) -> torch.Tensor:
    """``"add"`` or ``"multiply"`` two int8 tensors as onnxruntime does.

    ``ends`` has the scale and the zero point of ``a``, of ``b`` and of the result. With ``unsigned`` they stand for
    uint8 tensors with 128 more, zero points as well: these take part in the kernels' float32 arithmetic, and in its
    errors.
    """
    function = {"add": add_half_even, "multiply": multiply_half_even}[operator]
    offset = -INT8_MIN if unsigned else 0
    (scale_a, zero_a), (scale_b, zero_b), (scale_y, zero_y) = ((scale, zero + offset) for scale, zero in ends)
    total = function(
        a.to(torch.int32) + offset, b.to(torch.int32) + offset, scale_a=scale_a, zero_point_a=zero_a, scale_b=scale_b,
        zero_point_b=zero_b, scale_y=scale_y, zero_point_y=zero_y,
    )
    return torch.clamp(total - offset, low, high).to(torch.int8)


def requantize_float(
    x: torch.Tensor, source: Quantization, target: Quantization, *, low: int = INT8_MIN, high: int = INT8_MAX
) -> torch.Tensor:
    """Bring int8 ``x`` to another scale and zero point as onnxruntime does."""
    scaled = requantize_half_even(
        x, scale_x=source[0], zero_point_x=source[1], scale_y=target[0], zero_point_y=target[1]
    )
    return torch.clamp(scaled, low, high).to(torch.int8)


def multiply(
    a: torch.Tensor, b: torch.Tensor, *, zero_points: tuple[int, int], requantizer: AnyRequantizer
) -> torch.Tensor:
    """Multiply two int8 tensors of given zero points; one of size 1 along an axis is repeated there."""
    product = (a.to(torch.int32) - zero_points[0]) * (b.to(torch.int32) - zero_points[1])
    return _requantize(product, requantizer, channel_axis=-1)


def pad2d(x: torch.Tensor, *, padding: Padding, value: int) -> torch.Tensor:
    """Int8 ``x`` (N, C, H, W) with a border of ``value``; ``padding`` is top, left, bottom, right."""
    return _pad(x, padding, value)


def max_pool2d(
    x: torch.Tensor,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> torch.Tensor:
    """Largest value of each window of int8 ``x`` (N, C, H, W); padding never wins."""
    padded = _pad(x.to(torch.int32), padding, torch.iinfo(torch.int8).min)
    return F.max_pool2d(padded, kernel, stride=stride, dilation=dilation).to(torch.int8)


def avg_pool2d(
    x: torch.Tensor,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    zero_point: int,
    requantizer: AnyRequantizer,
    padding: Padding = (0, 0, 0, 0),
) -> torch.Tensor:
    """Requantized sum of ``x - zero_point`` over each window of int8 ``x`` (N, C, H, W).

    The divisor is part of ``requantizer``, which has one channel.
    """
    centred = _pad(x.to(torch.int32) - zero_point, padding, 0)
    return _requantize(_window_sums(centred, kernel, stride), requantizer, channel_axis=1)


def avg_pool2d_raw(
    x: torch.Tensor,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    divisor: int,
    low: int,
    high: int,
    rounding: Rounding,
) -> torch.Tensor:
    """Average of the stored integers of each window of int8 ``x`` (N, C, H, W): ``AVERAGE_POOL_2D`` of TFLite.

    Parameters
    ----------
    divisor : int
        0: the elements of each window that are not padding.
    rounding : Rounding
        Halves of the exact quotient go up (``SINGLE``) or away from zero (``FLOAT64_HALF_AWAY``).
    """
    sums = _window_sums(_pad(x.to(torch.int32), padding, 0), kernel, stride)
    inside = _pad(torch.ones_like(x[:1, :1], dtype=torch.int32), padding, 0)
    counts = _window_sums(inside, kernel, stride) if divisor == 0 else torch.tensor(divisor)
    magnitude = sums if rounding is Rounding.SINGLE else sums.abs()
    # floor(q + 1/2) of a quotient q, in integers.
    nearest = torch.div(2 * magnitude + counts, 2 * counts, rounding_mode="floor")
    quotient = nearest if rounding is Rounding.SINGLE else nearest * sums.sign()
    return torch.clamp(quotient, low, high).to(torch.int8)


def _window_sums(x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> torch.Tensor:
    windows = x.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    return windows.sum((-1, -2), dtype=torch.int32)


def requantize(x: torch.Tensor, *, zero_point: int, requantizer: AnyRequantizer) -> torch.Tensor:
    """Bring int8 ``x`` of any shape to another scale, zero point and range; ``requantizer`` has one channel."""
    return _requantize(x.to(torch.int32) - zero_point, requantizer, channel_axis=-1)


def table(x: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """``entries[x + 128]`` for int8 ``x`` and 256 int8 ``entries``."""
    return entries[x.to(torch.int64) + 128]


def quantize(
    x: torch.Tensor,
    *,
    scale: float,
    zero_point: int,
    low: int = INT8_MIN,
    high: int = INT8_MAX,
    rule: QuantizeRule = QuantizeRule.RECIPROCAL,
) -> torch.Tensor:
    """float32 to int8.

    The rule ``RECIPROCAL`` is ``quantized_decomposed.quantize_per_tensor``.
    """
    real = x.to(torch.float32)
    steps = real * (1.0 / scale) if rule is QuantizeRule.RECIPROCAL else real / torch.tensor(scale)
    rounded = _half_away(steps) if rule is QuantizeRule.HALF_AWAY else torch.round(steps)
    return torch.clamp(rounded + zero_point, low, high).to(torch.int8)


def dequantize(x: torch.Tensor, *, scale: float, zero_point: int) -> torch.Tensor:
    """int8 to float32 as ``quantized_decomposed.dequantize_per_tensor`` does it."""
    return (x.to(torch.float32) - zero_point) * scale


def _dilated(weight: torch.Tensor, dilation: tuple[int, int]) -> torch.Tensor:
    """The kernel with zeros between its elements: PyTorch has no dilated convolution of integers."""
    if dilation == (1, 1):
        return weight
    height, width = ((weight.shape[2 + i] - 1) * dilation[i] + 1 for i in (0, 1))
    wide = weight.new_zeros((*weight.shape[:2], height, width))
    wide[:, :, :: dilation[0], :: dilation[1]] = weight
    return wide


def _pad(x: torch.Tensor, padding: Padding, value: int) -> torch.Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def _requantize(acc: torch.Tensor, requantizer: AnyRequantizer, channel_axis: int) -> torch.Tensor:
    shape = [1] * acc.ndim
    shape[channel_axis] = -1
    if isinstance(requantizer, FloatRequantizer):
        factor = torch.from_numpy(requantizer.factor).reshape(shape)
        if requantizer.rounding is Rounding.FLOAT_HALF_EVEN:
            scaled = rescale_half_even(acc, factor.to(torch.float32))
        else:
            scaled = _half_away(acc.to(torch.float64) * factor)
    else:
        multiplier = torch.from_numpy(requantizer.multiplier).reshape(shape)
        shift = torch.from_numpy(requantizer.shift).reshape(shape)
        scaled = _rescale(acc.to(torch.int64), multiplier, shift, requantizer.rounding)
    return torch.clamp(scaled + requantizer.zero_point, requantizer.low, requantizer.high).to(torch.int8)


def _half_away(values: torch.Tensor) -> torch.Tensor:
    """Nearest whole numbers, halves away from zero, as C's ``round``."""
    whole = torch.trunc(values)
    # The fraction is exact, unlike values + 0.5.
    return whole + torch.where((values - whole).abs() >= 0.5, values.sign(), torch.zeros_like(values))


def _rescale(values: torch.Tensor, multiplier: torch.Tensor, shift: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """``values * multiplier / 2**shift`` in int64, rounded by rule (TOSA 1.0 RESCALE; gemmlowp)."""
    product = values * multiplier
    one = torch.ones_like(shift)
    half_up = (product + (one << (shift - 1))) >> shift
    if rounding is Rounding.SINGLE:
        return half_up
    # gemmlowp: the high half of the doubled product, then a shift that rounds half away from zero. A factor of one or
    # more shifts left before the product instead, which is the same as a single rounding.
    high = (product + (1 << 30)) >> 31
    rest = torch.clamp(shift - 31, min=1)
    away = (high + (one << (rest - 1)) - (high < 0).to(torch.int64)) >> rest
    return torch.where(shift > 31, away, half_up)
