# SPDX-License-Identifier: Apache-2.0
"""Layers of the accelerator: what one pass through the hardware does.

A layer is a convolution or a plain read of activations, then in the post-processor a table, then an operation with a
second tensor, a pool, a border or a rescale.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN

from .graph import Conv2d
from .packing import Packing

__all__ = ["At", "DeviceLayer", "LaneParameters", "Operand", "Window"]


@dataclass(frozen=True)
class Operand:
    """A tensor as a layer sees it.

    Members
    -------
    root : str
        Tensor whose bytes these are; a reshape on the accelerator moves nothing.
    channels, height, width : int
    packing : Packing or None
        Of a packed image: what the other sizes count are packed pixels, and words full of channels.
    """

    root: str
    channels: int
    height: int
    width: int
    packing: Packing | None = None


class At(NamedTuple):
    """Where a part of a tensor begins: row, column and word (channel tile) of its first element."""

    y: int = 0
    x: int = 0
    t: int = 0


_START = At()


@dataclass(frozen=True)
class Window:
    """Window of a pool, or of a convolution; pairs are (vertical, horizontal)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    """At the top and at the left; what lies beyond the other edges follows from the sizes."""
    dilation: tuple[int, int] = (1, 1)

    def span(self, axis: int, first: int, count: int, size: int) -> tuple[int, int]:
        """``(first, count)`` of the source positions that ``count`` windows from ``first`` on touch, within ``size``.

        At least one, even where all is padding.
        """
        low = first * self.stride[axis] - self.padding[axis]
        high = low + (count - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis]
        low, high = min(max(low, 0), size - 1), min(max(high, 0), size - 1)
        return low, high - low + 1

    def start(self, axis: int, first: int) -> int:
        """Source position of the first element of a window, negative in padding."""
        return first * self.stride[axis] - self.padding[axis]

    @property
    def overlaps(self) -> bool:
        """Whether two windows share source positions."""
        return any((self.kernel[i] - 1) * self.dilation[i] + 1 > self.stride[i] for i in (0, 1))


@dataclass(frozen=True, eq=False)
class LaneParameters:
    """What the parameter memory holds for each channel; int64 arrays of shape (channels,)."""

    bias: npt.NDArray[np.int64]
    multiplier: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceLayer:
    """One layer of the accelerator.

    Parameters
    ----------
    name, op : str
        Of the first node, and of all nodes joined by ``+``.
    nodes : tuple of str
    conv : Conv2d or None
        ``None``: the post-processor works on activations.
    pad_value : int
        What the convolution sees outside of its input.
    parameters : LaneParameters or None
        With a convolution.
    source, output : Operand
    into : Operand or None
        Tensor of which the output is a part, of one root with it; ``None``: of all of it.
    at : At
        Where that part begins.
    residual : Operand or None
    middle : Operand
        What the post-processor reads: the convolution's result, or the source, repeated where the result of an
        operation of two tensors is larger.
    table : bytes or None
        256 entries.
    window : Window
        Of the post-processor.
    post : mapping of str to int
        Fields of ``Post`` that all tiles share.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    conv: Conv2d | None = None
    pad_value: int = 0
    parameters: LaneParameters | None = None
    source: Operand
    output: Operand
    into: Operand | None = None
    at: At = _START
    residual: Operand | None = None
    middle: Operand
    table: bytes | None = None
    window: Window = Window()
    post: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def target(self) -> Operand:
        """The whole tensor that the layer writes into."""
        return self.into or self.output

    @property
    def on(self) -> str:
        """Place, as reports name it."""
        return "post" if self.conv is None else "array"

    @property
    def macs(self) -> int:
        """Products of the convolution, padding included."""
        if self.conv is None:
            return 0
        taps = self.source.packing.taps if self.source.packing else self.conv.weight[0].size
        return len(self.conv.weight) * int(taps) * self.middle.height * self.middle.width

    @property
    def conv_window(self) -> Window:
        """Window of the convolution over the source; of one pixel without a convolution."""
        if self.conv is None:
            return Window()
        return Window(self.conv.kernel, self.conv.stride, self.conv.padding[:2], self.conv.dilation)

    @cached_property
    def convs(self) -> tuple[Conv2d, ...]:
        """The convolution as a sum of some of int8 weights: one, or with wide weights two or three.

        Each takes what it can of every weight, so that the parts of a weight have one sign, and the bound of the whole
        accumulator (:func:`tilewright_mapper.accumulators.accumulator_bounds`) holds for what their sum has on the way.
        """
        if self.conv is None or self.conv.weight.dtype == np.int8:
            return () if self.conv is None else (self.conv,)
        parts: list[Conv2d] = []
        rest = self.conv.weight.astype(np.int16)
        while not parts or rest.any():
            part = np.clip(rest, INT8_MIN, INT8_MAX).astype(np.int8)
            parts.append(replace(self.conv, weight=part))
            rest = rest - part
        return tuple(parts)

    @property
    def keeps_size(self) -> bool:
        """Whether the post-processor makes one pixel of each that it reads."""
        return (self.middle.height, self.middle.width) == (self.output.height, self.output.width)

    @property
    def operands(self) -> tuple[Operand, ...]:
        """What the layer reads."""
        return (self.source,) if self.residual is None else (self.source, self.residual)

    @property
    def shape_key(self) -> Hashable:
        """Equal for layers that differ in nothing but their names and numbers."""
        conv = self.conv
        # Which parts of wide weights are left out depends on their values.
        wide = self.name if len(self.convs) > 1 else None
        shape = None if conv is None else (conv.weight.shape, conv.groups, self.conv_window, wide)
        operands = (self.source, self.output, self.middle, self.residual, self.into)
        return (
            shape, self.at, self.window, self.post.get("combine"), self.table is not None,
            tuple(o and (o.channels, o.height, o.width, o.packing) for o in operands),
            self.residual is not None and self.residual.root == self.source.root,
        )
