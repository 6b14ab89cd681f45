# SPDX-License-Identifier: Apache-2.0
"""The golden reference: each integer operator in PyTorch's own integer arithmetic.

Convolutions and matrix products are PyTorch's int32 kernels, rescaling is int64. Only the integer multipliers
come from ``tilewright_hdl.numerics``; how they are applied is written here a second time, so that the hardware's
model is checked and not repeated. Nothing here knows the instruction set or the array.

Activations are int8 tensors with the batch first: ``(N, C, H, W)``, ``(N, C)`` or ``(N, T, D)``.
"""

import torch
import torch.nn.functional as F

from tilewright_hdl.numerics import ADD_LEFT_SHIFT, AddParameters, Requantizer, Rounding

__all__ = [
    "add",
    "avg_pool2d",
    "conv2d",
    "dequantize",
    "linear",
    "max_pool2d",
    "quantize",
    "requantize",
    "table",
]

Padding = tuple[int, int, int, int]


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    zero_point: int,
    requantizer: Requantizer,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    """Convolve int8 ``x`` (N, C, H, W) with int8 ``weight`` (O, C / groups, kh, kw) and int32 ``bias`` (O,).

    ``zero_point`` is that of ``x``; ``padding`` is top, left, bottom, right and stands for real zero.
    """
    centred = _pad(x.to(torch.int32) - zero_point, padding, 0)
    kernel = _dilated(weight.to(torch.int32), dilation)
    acc = F.conv2d(centred, kernel, bias.to(torch.int32), stride=stride, groups=groups)
    return _requantize(acc, requantizer, channel_axis=1)


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, zero_point: int, requantizer: Requantizer
) -> torch.Tensor:
    """Multiply int8 ``x`` (N, ..., I) by int8 ``weight`` (O, I) and add int32 ``bias`` (O,)."""
    acc = F.linear(x.to(torch.int32) - zero_point, weight.to(torch.int32), bias.to(torch.int32))
    return _requantize(acc, requantizer, channel_axis=-1)


def add(a: torch.Tensor, b: torch.Tensor, parameters: AddParameters) -> torch.Tensor:
    """Add two int8 tensors of the same shape."""
    p = parameters
    wide_a = (a.to(torch.int64) - p.zero_point_a) << ADD_LEFT_SHIFT
    wide_b = (b.to(torch.int64) - p.zero_point_b) << ADD_LEFT_SHIFT
    total = _rescale(wide_a, torch.tensor(p.multiplier_a), torch.tensor(p.shift_a), p.rounding)
    total = total + _rescale(wide_b, torch.tensor(p.multiplier_b), torch.tensor(p.shift_b), p.rounding)
    scaled = _rescale(total, torch.tensor(p.multiplier_out), torch.tensor(p.shift_out), p.rounding)
    return torch.clamp(scaled + p.zero_point_out, p.low, p.high).to(torch.int8)


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
    requantizer: Requantizer,
    padding: Padding = (0, 0, 0, 0),
) -> torch.Tensor:
    """Requantized sum of ``x - zero_point`` over each window of int8 ``x`` (N, C, H, W).

    The divisor is part of ``requantizer``, which has one channel.
    """
    centred = _pad(x.to(torch.int32) - zero_point, padding, 0)
    windows = centred.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    return _requantize(windows.sum((-1, -2), dtype=torch.int32), requantizer, channel_axis=1)


def requantize(x: torch.Tensor, *, zero_point: int, requantizer: Requantizer) -> torch.Tensor:
    """Bring int8 ``x`` of any shape to another scale, zero point and range; ``requantizer`` has one channel."""
    return _requantize(x.to(torch.int32) - zero_point, requantizer, channel_axis=-1)


def table(x: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """``entries[x + 128]`` for int8 ``x`` and 256 int8 ``entries``."""
    return entries[x.to(torch.int64) + 128]


def quantize(x: torch.Tensor, *, scale: float, zero_point: int, low: int = -128, high: int = 127) -> torch.Tensor:
    """float32 to int8 as ``quantized_decomposed.quantize_per_tensor`` does it: times ``1 / scale``, half to even."""
    return torch.clamp(torch.round(x.to(torch.float32) * (1.0 / scale)) + zero_point, low, high).to(torch.int8)


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


def _requantize(acc: torch.Tensor, requantizer: Requantizer, channel_axis: int) -> torch.Tensor:
    shape = [1] * acc.ndim
    shape[channel_axis] = -1
    multiplier = torch.from_numpy(requantizer.multiplier).reshape(shape)
    shift = torch.from_numpy(requantizer.shift).reshape(shape)
    scaled = _rescale(acc.to(torch.int64), multiplier, shift, requantizer.rounding)
    return torch.clamp(scaled + requantizer.zero_point, requantizer.low, requantizer.high).to(torch.int8)


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
