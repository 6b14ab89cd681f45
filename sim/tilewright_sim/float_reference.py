# SPDX-License-Identifier: Apache-2.0
"""Rule F: how onnxruntime brings integers from one scale to another, in float32, half to even.

Each function follows one of onnxruntime's quantized kernels on the CPU, operation by operation: scales are float32, so
is every intermediate result, and where the kernel fuses a multiplication with an addition, so does the function. The
formulas were found by experiment on scales that make many ties; ``tests/sim/test_float_reference.py`` compares them
with onnxruntime itself.

Scales are numbers or tensors and are rounded to float32 first, which changes nothing for what comes out of an ONNX
file. Results are int64 and not clamped to int8. Those of :func:`add_half_even`, :func:`multiply_half_even`,
:func:`requantize_half_even` and :func:`quantize_half_even` have their zero point, which is part of the rounding in the
first two; :func:`rescale_half_even` leaves it to the caller, as the kernel adds it after rounding.
"""

import torch

__all__ = [
    "add_half_even",
    "average_factor",
    "linear_factor",
    "multiply_half_even",
    "quantize_half_even",
    "requantize_half_even",
    "rescale_half_even",
]

Scale = float | torch.Tensor
LIMIT = 2.0**31
"""Larger results saturate here, far outside of int8."""


def linear_factor(scale_x: float, scale_w: Scale, scale_y: float) -> torch.Tensor:
    """Factor of QLinearConv, QLinearMatMul and QGemm: ``(scale_x * scale_w) / scale_y``, shaped as ``scale_w``."""
    return _float32(scale_x) * _float32(scale_w) / _float32(scale_y)


def average_factor(scale_x: float, scale_y: float, count: int) -> torch.Tensor:
    """Factor of QLinearGlobalAveragePool over ``count`` pixels: ``scale_x / (scale_y * count)``, shape ()."""
    return _float32(scale_x) / (_float32(scale_y) * _float32(float(count)))


def rescale_half_even(acc: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``rint(float32(acc) * factor)``, without a zero point.

    Parameters
    ----------
    acc : int32 or int64 tensor
        Accumulators within int32.
    factor : float32 tensor
        Finite; broadcasts against ``acc``.
    """
    return _rounded(acc.to(torch.float32) * factor)


def add_half_even(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    scale_a: float,
    zero_point_a: int,
    scale_b: float,
    zero_point_b: int,
    scale_y: float,
    zero_point_y: int,
) -> torch.Tensor:
    """QLinearAdd of int8 tensors: ``rint(fma(a, ra, fma(b, rb, c)))`` with ``ra = scale_a / scale_y``, likewise ``rb``.

    ``c = zero_point_y - fma(zero_point_a, ra, zero_point_b * rb)``. The shapes broadcast. An operand that is one number
    for a whole row of the result is the kernel's ``b``, whichever side it stands on.
    """
    if _repeated_in_rows(a, b):
        a, b = b, a
        scale_a, zero_point_a, scale_b, zero_point_b = scale_b, zero_point_b, scale_a, zero_point_a
    ratio_a, ratio_b = (_float32(scale) / _float32(scale_y) for scale in (scale_a, scale_b))
    zero_a, zero_b, zero_y = (_float32(float(zero)) for zero in (zero_point_a, zero_point_b, zero_point_y))
    fixed = zero_y - _fused(zero_a, ratio_a, zero_b * ratio_b)
    partial = _fused(b.to(torch.float32), ratio_b, fixed)
    return _rounded(_fused(a.to(torch.float32), ratio_a, partial))


def multiply_half_even(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    scale_a: float,
    zero_point_a: int,
    scale_b: float,
    zero_point_b: int,
    scale_y: float,
    zero_point_y: int,
) -> torch.Tensor:
    """QLinearMul of int8 tensors: ``rint(p * (scale_a * scale_b / scale_y) + zero_point_y)``, ``p`` the exact
    product of the centred integers. The shapes broadcast."""
    product = (a.to(torch.int32) - zero_point_a) * (b.to(torch.int32) - zero_point_b)
    factor = linear_factor(scale_a, scale_b, scale_y)
    return _rounded(product.to(torch.float32) * factor + float(zero_point_y))


def requantize_half_even(
    x: torch.Tensor, *, scale_x: float, zero_point_x: int, scale_y: float, zero_point_y: int
) -> torch.Tensor:
    """Int8 to another scale and zero point, as DequantizeLinear with QuantizeLinear and QLinearConcat do it:
    ``rint((x - zero_point_x) * scale_x / scale_y) + zero_point_y``."""
    real = (x.to(torch.int32) - zero_point_x).to(torch.float32) * _float32(scale_x)
    return quantize_half_even(real, scale=scale_y, zero_point=zero_point_y)


def quantize_half_even(x: torch.Tensor, *, scale: float, zero_point: int) -> torch.Tensor:
    """QuantizeLinear of float32 ``x`` (no NaN): ``rint(x / scale) + zero_point``; a true division."""
    return _rounded(x.to(torch.float32) / _float32(scale)) + zero_point


def _repeated_in_rows(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether ``a`` is one number along the last axis on which the two are not both 1."""
    sizes = zip(reversed(a.shape), reversed(b.shape), strict=False)
    return next((size_a == 1 for size_a, size_b in sizes if (size_a, size_b) != (1, 1)), False)


def _float32(value: Scale) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float32)


def _rounded(value: torch.Tensor) -> torch.Tensor:
    """Nearest integer, ties to even, as int64; infinities saturate."""
    return torch.round(value).clamp(-LIMIT, LIMIT).to(torch.int64)


def _fused(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """``x * y + z`` of float32 tensors, rounded once, where ``x`` is an integer of at most 24 bits.

    The product is exact in float64. Its sum with ``z`` may not be, so it is rounded to odd there: then the second
    rounding, to float32, gives what one would (Boldo and Melquiond, 2008).
    """
    product, addend = torch.broadcast_tensors(x.to(torch.float64) * y.to(torch.float64), z.to(torch.float64))
    total = product + addend
    shadow = total - product
    error = (product - (total - shadow)) + (addend - shadow)
    bits = total.view(torch.int64)
    outward = torch.where((error > 0) == (total > 0), 1, -1)
    odd = torch.where((error != 0) & (bits & 1 == 0), bits + outward, bits)
    return odd.view(torch.float64).to(torch.float32)
