# SPDX-License-Identifier: Apache-2.0
"""First layers: convolutions of an image of few channels become convolutions of a packed one (:mod:`.packing`).

A word of few channels leaves most rows of the array idle, once for each kernel position. Packed, a pass takes many of
them together. The more kernel rows share a word, the fewer passes, but the more often each row of the image is read, so
the number is chosen by the busier of the two engines.
"""

from collections.abc import Collection
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Exec, FieldSpec, Load, field_specs
from tilewright_hdl.isa_limits import field_range

from .emit_windows import packing_cycles
from .graph import Conv2d
from .layout import Rect
from .lower_layers import DeviceLayer
from .misfit import misfit
from .packing import Packing
from .schedule import transfer_cycles
from .tiling import Geometry

__all__ = ["pack_first_layer"]

_LOAD = {spec.name: spec for spec in field_specs(Load)}
_EXEC = {spec.name: spec for spec in field_specs(Exec)}


def pack_first_layer(config: AcceleratorConfig, layer: DeviceLayer, images: Collection[str]) -> DeviceLayer:
    """A layer, or what it becomes if it reads a packed image and gains by that: the form of the fewest cycles.

    Parameters
    ----------
    images : collection of str
        Roots that the host writes and that nothing but one convolution reads.
    """
    conv = layer.conv
    if layer.source.root not in images or layer.source.packing:
        return layer
    if conv is None or conv.groups != 1 or not config.bus.windows or layer.source.channels >= config.array.rows:
        return layer
    if conv.dilation[1] != 1 and conv.kernel[1] != 1:
        return layer
    forms = [layer, *(form for together in range(1, conv.kernel[0] + 1)
                      if (form := _form(config, layer, conv, together)) is not None)]
    # The layer as it is ends the search: if not even that fits, it is refused later.
    return next(form for form in sorted(forms, key=lambda form: _cycles(config, form))
                if form is layer or misfit(config, form) is None)


def _cycles(config: AcceleratorConfig, layer: DeviceLayer) -> tuple[int, int]:
    """Cycles of the busier of LOAD and EXEC, and of both, for the whole image at once."""
    source, middle, geometry = layer.source, layer.middle, Geometry(config, layer)
    if source.packing:
        load = packing_cycles(config, source.packing, source.height, source.width)
    else:
        load = transfer_cycles(config, 1, source.height * source.width * geometry.words(source))
    array = geometry.form.cycles(Rect(0, 0, middle.height, middle.width)) if geometry.form else 0
    return max(load, array), load + array


def _form(config: AcceleratorConfig, layer: DeviceLayer, conv: Conv2d, together: int) -> DeviceLayer | None:
    """The layer with so many kernel rows in a group; ``None`` if an instruction lacks the room for a number."""
    source, middle = layer.source, layer.middle
    groups = -(-conv.kernel[0] // together)
    (stride, column_step), (dilation, _) = conv.stride, conv.dilation
    # Packed rows are those that the first output row and the next one, or the next group, have in common.
    step = gcd(stride, together * dilation) if groups > 1 else stride
    down = stride // step, together * dilation // step if groups > 1 else 1
    rows = (middle.height - 1) * down[0] + (groups - 1) * down[1] + 1
    top, left = conv.padding[:2]
    # EXEC knows what lies outside of the image as a whole.
    above = max(0, -(((together - 1) * dilation - top) // step))
    height = min(rows, -(-(source.height + top) // step)) - above
    if height < 1:
        return None
    packing = Packing(
        channels=source.channels, height=source.height, width=source.width, kernel=conv.kernel, together=together,
        dilation=dilation, first_row=above * step - top, row_step=step, first_column=-left, column_step=column_step,
        pad_value=layer.pad_value,
    )
    numbers = _numbers(config, packing) | {_EXEC["stride_y"]: down[0], _EXEC["dilation_y"]: down[1],
                                           _EXEC["first_y"]: rows}
    if any(not low <= number <= high for (low, high), number in
           ((field_range(config, field), number) for field, number in numbers.items())):
        return None
    channels = packing.words(config) * config.array.rows
    return replace(
        layer,
        conv=replace(conv, weight=_weight(conv.weight, together, groups, channels), stride=(down[0], 1),
                     dilation=(down[1], 1), padding=(above, 0, rows - above - height, 0)),
        source=replace(source, channels=channels, height=height, width=middle.width, packing=packing),
    )


def _numbers(config: AcceleratorConfig, packing: Packing) -> dict[FieldSpec, int]:
    """The farthest numbers of a packing that LOADs must hold."""
    return {
        _LOAD["row_bytes"]: packing.channels * packing.width,
        _LOAD["row_start"]: packing.first_column * packing.channels - config.array.rows,
        _LOAD["row_step"]: packing.column_step * packing.channels,
        _LOAD["step"]: packing.words(config),
    }


def _weight(weight: npt.NDArray[Any], together: int, groups: int, channels: int) -> npt.NDArray[Any]:
    """Weights of packed channels, (O, channels, groups, 1); zero where nothing is packed."""
    outputs, inputs, height, width = weight.shape
    window = inputs * width
    packed = np.zeros((outputs, channels, groups, 1), weight.dtype)
    for row in range(height):
        group, place = divmod(row, together)
        packed[:, place * window : (place + 1) * window, group, 0] = (
            weight[:, :, row].transpose(0, 2, 1).reshape(outputs, window))
    return packed
