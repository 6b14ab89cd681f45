# SPDX-License-Identifier: Apache-2.0
"""What LiteRT's reference kernels do to values that they move: CONCATENATION, RESIZE_NEAREST_NEIGHBOR.

PAD fills with the *output's* zero point and copies the stored integers, whatever the quantizations are; PADV2 fills
with the stored value of its constant. MAX_POOL_2D, RESHAPE, SQUEEZE and TRANSPOSE copy stored integers, too.
"""

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, round_half_away

from .factors import Quantization

__all__ = ["concatenation_table", "nearest_indices"]


def concatenation_table(source: Quantization, target: Quantization) -> npt.NDArray[np.int8]:
    """What CONCATENATION of uint8 tensors makes of an operand's values, -128 to 127, as int8.

    The kernel of uint8 brings each operand to the output's quantization, in float32; the one of int8 takes operands of
    equal quantizations only.

    Raises
    ------
    ModelError
        If the scales lie so far apart that C++ leaves the result undefined.
    """
    if source == target:
        return np.arange(INT8_MIN, INT8_MAX + 1).astype(np.int8)
    with np.errstate(over="ignore", invalid="ignore"):  # What is no number ends in the error below.
        scale = np.float32(source[0]) * (np.float32(1) / np.float32(target[0]))
        exact = np.arange(256, dtype=np.float32) * scale + np.float32(-(source[1] + 128)) * scale
    if not (np.abs(exact) < 2.0**31).all():
        raise ModelError(
            f"Scales of CONCATENATION must lie close enough that values stay within int32, not {source[0]:g} and "
            f"{target[0]:g}: the reference's result is undefined. Quantize the model again"
        )
    return np.asarray(np.clip(round_half_away(exact) + target[1], INT8_MIN, INT8_MAX).astype(np.int8))


def nearest_indices(
    size_in: int, size_out: int, *, align_corners: bool = False, half_pixel_centers: bool = False
) -> npt.NDArray[np.int64]:
    """Row (or column) of the input for each row (or column) of RESIZE_NEAREST_NEIGHBOR's output, in float32."""
    if align_corners and size_out > 1:
        scale = np.float32(size_in - 1) / np.float32(size_out - 1)
    else:
        scale = np.float32(size_in) / np.float32(size_out)
    position = (np.arange(size_out, dtype=np.float32) + np.float32(0.5 if half_pixel_centers else 0.0)) * scale
    index = round_half_away(position) if align_corners else np.floor(position)
    return np.asarray(np.clip(index, 0, size_in - 1).astype(np.int64))
