# SPDX-License-Identifier: Apache-2.0
"""Real factors by which the kernels of LiteRT rescale, and the bounds of fused activations.

==================================  ==================================================  =====================
operator                            factor                                              rule
==================================  ==================================================  =====================
CONV_2D, DEPTHWISE_CONV_2D, int8    ``f64(s_x) * f64(s_w[c]) / f64(s_y)``               ``TFLITE_DOUBLE``
CONV_2D, DEPTHWISE_CONV_2D, uint8   ``f64(f32(s_x * s_w)) / f64(s_y)``                  ``TFLITE_DOUBLE``
FULLY_CONNECTED, int8 and uint8     ``f64(s_x) * f64(s_w[c]) / f64(s_y)``               ``FLOAT64_HALF_AWAY``
ADD, SUB                            ``AddParameters.from_scales`` in float64            ``TFLITE_DOUBLE``
MUL                                 ``f32(f32(s_a * s_b) / s_y)``                       ``TFLITE_DOUBLE``
MEAN                                ``f64(s_x) / f64(s_y)``, then :func:`mean_rescale`  ``TFLITE_DOUBLE``
QUANTIZE of integers                ``f64(s_x) / f64(s_y)``                             ``TFLITE_DOUBLE``
RELU, RELU6, RELU_N1_TO_1 alone     ``f32(s_x / s_y)``                                  ``TFLITE_DOUBLE``
==================================  ==================================================  =====================

The factor becomes an integer multiplier by ``quantize_multiplier`` (not for ``FLOAT64_HALF_AWAY``, which multiplies the
int32 accumulator as float64). The zero point is added to the rescaled value, and then the sum is clamped. Scales are
float64 numbers that hold float32 values, as they are read from a file; zero points are those of int8 (those of a uint8
tensor minus 128).

Zero points of weights count for uint8, and for int8 in FULLY_CONNECTED with one scale. With a scale for each channel
FULLY_CONNECTED leaves them out, and so does DEPTHWISE_CONV_2D; CONV_2D refuses them. Where weights have one scale,
FULLY_CONNECTED and the kernels of uint8 refuse a bias whose scale is off ``s_x * s_w`` by more than 2 % of ``s_y``; the
bias's scale is not used otherwise.
"""

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import (
    ADD_LEFT_SHIFT,
    INT8_MAX,
    INT8_MIN,
    Rounding,
    quantize_multiplier,
    round_half_away,
)

__all__ = [
    "Quantization",
    "activation_bounds",
    "check_sum",
    "convolution_factor",
    "fully_connected_factor",
    "mean_rescale",
    "multiplier_of",
    "multiply_factor",
    "ratio",
    "ratio_float32",
]

Quantization = tuple[float, int]
"""Scale and zero point of an int8 tensor."""

LARGEST_INT32 = (1 << 31) - 1

ACTIVATIONS = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU_0_TO_1": (0.0, 1.0),
}


def convolution_factor(
    scale_x: float, scale_w: npt.ArrayLike, scale_y: float, *, unsigned: bool = False
) -> npt.NDArray[np.float64]:
    """Factors of CONV_2D and DEPTHWISE_CONV_2D, one for each scale of the weights.

    ``unsigned`` is for kernels of uint8 tensors, which round the product of the input's and the weights' scales to
    float32 first.
    """
    product = scale_x * np.atleast_1d(np.asarray(scale_w, np.float64))
    if unsigned:
        with np.errstate(over="ignore"):  # Infinite, as the reference has it.
            product = product.astype(np.float32).astype(np.float64)
    return np.asarray(product / scale_y)


def fully_connected_factor(scale_x: float, scale_w: npt.ArrayLike, scale_y: float) -> npt.NDArray[np.float64]:
    """Factors of FULLY_CONNECTED, one for each scale of the weights; the same for int8 and uint8."""
    return convolution_factor(scale_x, scale_w, scale_y)


def multiply_factor(scale_a: float, scale_b: float, scale_y: float) -> float:
    """Factor of MUL, and of LEAKY_RELU whose slope is ``scale_b``: both steps in float32, as :func:`ratio_float32`."""
    # The product is exact in float64, so that it is rounded once.
    return ratio_float32(scale_a * scale_b, scale_y)


def ratio(scale_x: float, scale_y: float) -> float:
    """Factor of MEAN and of QUANTIZE between integers."""
    return scale_x / scale_y


def ratio_float32(scale_x: float, scale_y: float) -> float:
    """Factor of RELU and its kin that stand alone, of LEAKY_RELU above zero and of ABS.

    Infinite or not a number where the scales are too far apart for float32.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return float(np.float32(scale_x) / np.float32(scale_y))


def multiplier_of(factor: float, largest: int) -> tuple[int, int]:
    """Multiplier and shift of ``TFLITE_DOUBLE`` for values of at most ``largest`` in magnitude.

    Raises
    ------
    ModelError
        If a value could leave int32, where the reference wraps: it shifts to the left before it multiplies, if the
        factor is 1 or more.
    """
    within = 0 <= factor < 1 << 28  # Not of what is no number.
    multiplier, shift = quantize_multiplier(factor, rounding=Rounding.TFLITE_DOUBLE) if within else (0, 0)
    if not within or largest << max(31 - shift, 0) > LARGEST_INT32:
        limit = 1 << (LARGEST_INT32 // largest).bit_length() - 1
        raise ModelError(
            f"Scales must lie close enough that a rescale factor is at least 0 and below {limit}, not {factor:g}: "
            f"the reference's int32 would overflow. Quantize the model again with ranges that fit its values"
        )
    return multiplier, shift


def check_sum(scale_a: float, scale_b: float, scale_y: float) -> None:
    """Refuse an ADD or SUB that the reference aborts at, or computes with shifts of negative width.

    Raises
    ------
    ModelError
        If the output's scale is not above ``2**-19`` of the larger scale of the operands.
    """
    largest = max(scale_a, scale_b)
    if 2 * largest >= (1 << ADD_LEFT_SHIFT) * scale_y:
        raise ModelError(
            f"Scale of a sum must be above 2**-19 of its operands' larger scale {largest:g}, not {scale_y:g}: "
            f"the reference does not compute it. Quantize the model again with ranges that fit its values"
        )


def mean_rescale(count: int, source: Quantization, target: Quantization) -> tuple[int, int]:
    """Multiplier and shift that turn the sum of ``x - zero_point`` over ``count`` elements into their MEAN.

    Always applies, whatever the axes, ``keep_dims`` and whether the two quantizations are equal: the reference has one
    kernel for int8 and uint8. The rule is ``TFLITE_DOUBLE``.

    The multiplier of the scales' ratio, widened by as many bits as ``count`` has below its first (while the shift stays
    within 62), is divided by ``count``, rounding down.
    """
    multiplier, shift = multiplier_of(ratio(source[0], target[0]), 2 * 255)
    widened = min(count.bit_length() - 1, 32, 62 - shift)
    return (multiplier << widened) // count, shift + widened


def activation_bounds(activation: str, target: Quantization) -> tuple[int, int]:
    """Least and largest int8 value of a result of quantization ``target`` under an activation, such as ``"RELU6"``.

    A bound is divided by the scale in float32 and rounded half away from zero.

    Raises
    ------
    ModelError
        If the activation is none of NONE, RELU, RELU6, RELU_N1_TO_1 and RELU_0_TO_1, or its bound leaves int32.
    """
    if activation not in ACTIVATIONS:
        raise ModelError(f"Fused activation must be one of {', '.join(ACTIVATIONS)}, not {activation}: use one of them")
    low, high = ACTIVATIONS[activation]
    return (
        INT8_MIN if low is None else max(INT8_MIN, _quantized(low, target)),
        INT8_MAX if high is None else min(INT8_MAX, _quantized(high, target)),
    )


def _quantized(bound: float, target: Quantization) -> int:
    scale, zero_point = target
    with np.errstate(over="ignore", invalid="ignore"):
        steps = round_half_away(np.float32(bound) / np.asarray(scale, np.float32))
    if not abs(float(steps)) <= LARGEST_INT32:
        raise ModelError(f"Scale of a result under an activation must be at least 3e-9, not {scale:g}: requantize it")
    return int(steps) + zero_point
