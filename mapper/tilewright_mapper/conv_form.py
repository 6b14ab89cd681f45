# SPDX-License-Identifier: Apache-2.0
"""The two ways in which the array computes a convolution: as a matrix product, or each column filtering a channel.

What differs between them stands here: how output channels become column tiles, what a tile reads of its source, the
weight words in the order in which EXEC reads them, its fields, and its time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from math import lcm
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Exec
from tilewright_hdl.isa_limits import field_ranges
from tilewright_hdl.timing import exec_pass

from .graph import Conv2d
from .layout import Block, Rect, Region, blocks, column_pieces, pack_weights, wrap
from .lower_layers import DeviceLayer

__all__ = ["ConvForm", "ConvPiece", "conv_form"]


class ConvPiece(NamedTuple):
    """What one EXEC computes of a tile.

    Members
    -------
    tile, tiles : int
        First column tile, and how many.
    block : Block
        Part of the reduction.
    accumulate : bool
        Whether another part of it stands in the accumulators already.
    """

    tile: int
    tiles: int
    block: Block
    accumulate: bool


class ConvForm(ABC):
    """How a layer's convolution runs on a configuration.

    Members
    -------
    step : int
        Channels at whose multiples a tile may begin.
    most_channels : int or None
        Of a tile; ``None``: any number.
    own_words : bool
        Whether a tile reads those words of a pixel alone that it also writes.
    pass_words : int
        Fewest weight words of an EXEC.
    axes : (int, int)
        Axis of the image along which EXEC's rows follow each other, and that which is a row: 0 vertical, 1 horizontal.
        Steps tell EXEC and POST where everything lies, so that an image can as well be gone through column by column.
    """

    step: int
    most_channels: int | None = None
    own_words = False
    pass_words: int
    axes = 0, 1

    def __init__(self, config: AcceleratorConfig, layer: DeviceLayer, conv: Conv2d):
        self.config = config
        self.layer = layer
        self.conv = conv

    def accumulator_pitches(self, middle: Rect) -> tuple[int, int]:
        """Accumulator entries from row to row and from column to column of a rectangle of the convolution's result."""
        return (middle.width, 1) if self.axes == (0, 1) else (1, middle.height)

    @property
    def _most_tiles(self) -> int:
        """Column tiles of an EXEC, at most."""
        return field_ranges(self.config, Exec)["column_tiles"][1]

    @abstractmethod
    def tiles(self, low: int, high: int) -> tuple[int, int]:
        """Column tiles (first, count) of the output channels ``low`` to ``high - 1``; ``low`` is a multiple of the
        step."""

    @property
    @abstractmethod
    def weight_words(self) -> int:
        """Weight words of the layer, at most: with wide weights, some blocks may be left out."""

    @abstractmethod
    def cycles(self, middle: Rect) -> int:
        """Cycles of the passes that compute a rectangle of the convolution's result, all channels."""

    @abstractmethod
    def pieces(self, first: int, count: int, limit: int) -> Iterator[ConvPiece]:
        """What computes column tiles ``first`` to ``first + count - 1``, in order, with at most ``limit`` weight words
        each where it can be cut so small."""

    @abstractmethod
    def words(self, piece: ConvPiece) -> int:
        """Weight words of a piece."""

    @abstractmethod
    def pack(self, part: int, piece: ConvPiece) -> npt.NDArray[np.int8]:
        """Weight words of a piece, int8 of shape (words, columns); ``part`` of wide weights, as in ``layer.convs``."""

    @abstractmethod
    def fields(self, piece: ConvPiece, middle: Rect, source: Region) -> dict[str, int]:
        """Fields of EXEC that say what it reads and computes, for a rectangle of the convolution's result."""

    def _loops(self, middle: Rect, source: Region) -> dict[str, int]:
        """Of :meth:`fields` those that all forms have: the loops over rows and pixels."""
        (down, along), window, image = self.axes, self.layer.conv_window, self.layer.source
        inputs, outputs = (image.height, image.width), (middle.height, middle.width)
        pitch = (source.pitch_y, source.pitch_x)[down]
        return {
            "output_height": outputs[down], "output_width": outputs[along],
            "input_height": inputs[down], "input_width": inputs[along],
            "stride_y": window.stride[down], "stride_x": window.stride[along], "dilation_y": window.dilation[down],
            "output_y_step": wrap(self.config, window.stride[down] * pitch),
            "kernel_y_step": wrap(self.config, window.dilation[down] * pitch),
        }


class _Dense(ConvForm):
    """Rows are input channels, columns output channels: a pass for each pixel of the kernel and tile of channels."""

    def __init__(self, config: AcceleratorConfig, layer: DeviceLayer, conv: Conv2d):
        super().__init__(config, layer, conv)
        # Whole words, and whole column tiles.
        self.step = lcm(config.array.rows, config.array.columns)
        self.pass_words = config.array.rows

    def tiles(self, low: int, high: int) -> tuple[int, int]:
        columns = self.config.array.columns
        return low // columns, -(-high // columns) - low // columns

    @cached_property
    def _passes(self) -> int:
        tiles = sum(count * nt for _, count, (_, nt) in column_pieces(self.config, self.conv))
        return len(self.layer.convs) * tiles * self.conv.kernel[0] * self.conv.kernel[1]

    @property
    def weight_words(self) -> int:
        return self._passes * self.config.array.rows

    def cycles(self, middle: Rect) -> int:
        return self._passes * exec_pass(self.config, middle.pixels)

    def pieces(self, first: int, count: int, limit: int) -> Iterator[ConvPiece]:
        limit = max(1, limit // self.config.array.rows)
        for run_first, run_count, tiles in column_pieces(self.config, self.conv):
            low, high = max(first, run_first), min(first + count, run_first + run_count)
            passes = self.conv.kernel[0] * self.conv.kernel[1] * tiles[1]
            together = max(1, min(limit // passes, self._most_tiles))
            for n in range(low, high, together):
                for i, block in enumerate(blocks(self.conv.kernel, tiles, limit)):
                    yield ConvPiece(n, min(together, high - n), block, i > 0)

    def words(self, piece: ConvPiece) -> int:
        return piece.tiles * piece.block.passes * self.config.array.rows

    def pack(self, part: int, piece: ConvPiece) -> npt.NDArray[np.int8]:
        return pack_weights(self.config, self.layer.convs[part], piece.tile, piece.tiles, piece.block)

    def fields(self, piece: ConvPiece, middle: Rect, source: Region) -> dict[str, int]:
        window, (ky, kx, t) = self.layer.conv_window, piece.block
        y = window.start(0, middle.y) + ky[0] * window.dilation[0]
        x = window.start(1, middle.x) + kx[0] * window.dilation[1]
        return self._loops(middle, source) | {
            "input_address": wrap(self.config, source.word(y, x, t[0])), "first_y": y, "first_x": x,
            "kernel_height": ky[1], "kernel_width": kx[1], "channel_tiles": t[1],
            "dilation_x": window.dilation[1],
            "output_x_step": wrap(self.config, window.stride[1] * source.pitch_x),
            "kernel_x_step": wrap(self.config, window.dilation[1] * source.pitch_x),
        }


class _Depthwise(ConvForm):
    """Columns filter channels: a pass for each row of the kernel, or for each of its columns.

    Rows of the image that follow each other, or columns, share only so much of their padding: the longer they are, the
    better.

    A word of channels has ``array.slices`` column tiles, the last of which reaches beyond the word where columns do not
    divide rows. POST counts lanes through the tiles as if there were no such end, so then a tile is one word.
    """

    own_words = True

    def __init__(self, config: AcceleratorConfig, layer: DeviceLayer, conv: Conv2d, axes: tuple[int, int]):
        super().__init__(config, layer, conv)
        array, self.axes = config.array, axes
        self._down, self._along = axes
        self.step = array.rows
        self.most_channels = None if array.slices * array.columns == array.rows else array.rows
        self._taps = (conv.kernel[self._along] - 1) * conv.dilation[self._along] + 1
        """Of a kernel row, those of 0 in its holes included."""
        self.pass_words = array.slices * self._taps

    @property
    def possible(self) -> bool:
        """Whether EXEC can do it."""
        config, weight = self.config, self.conv.weight
        return (
            config.array.depthwise and weight.shape[1] == 1 and self.conv.groups == len(weight)
            and self._taps <= config.array.rows
            # A kernel row for one word, and that of a neighbour.
            and 2 * self.pass_words <= config.weight_words
        )

    def tiles(self, low: int, high: int) -> tuple[int, int]:
        array = self.config.array
        first = low // array.rows * array.slices
        word, lane = divmod(high - 1, array.rows)
        return first, word * array.slices + lane // array.columns + 1 - first

    @cached_property
    def _passes(self) -> int:
        return len(self.layer.convs) * self.tiles(0, len(self.conv.weight))[1] * self.conv.kernel[self._down]

    @property
    def weight_words(self) -> int:
        return self._passes * self._taps

    def cycles(self, middle: Rect) -> int:
        overlap, outputs = self._overlap(middle), (middle.height, middle.width)
        row = (outputs[self._along] - 1) * self.conv.stride[self._along] + self._taps - overlap
        return self._passes * exec_pass(self.config, overlap + outputs[self._down] * row, self._taps)

    def _overlap(self, middle: Rect) -> int:
        """Columns of padding that end a row of the source and begin the next one as well."""
        along, source = self._along, self.layer.source
        first = self.layer.conv_window.start(along, middle[along])
        end = first + (middle[along + 2] - 1) * self.conv.stride[along] + self._taps
        return max(0, min(self._taps - 1, -first, end - (source.height, source.width)[along]))

    def pieces(self, first: int, count: int, limit: int) -> Iterator[ConvPiece]:
        slices, height = self.config.array.slices, self.conv.kernel[self._down]
        # In a kernel too large for the limit, rows of one word; else all rows of several words. Words are whole, as an
        # EXEC begins with the first slice of one.
        rows = min(height, max(1, limit // self.pass_words))
        words = max(1, min(limit // (self.pass_words * height), self._most_tiles // slices)) if rows == height else 1
        for n in range(first, first + count, words * slices):
            tiles = min(words * slices, first + count - n)
            channels = n // slices, -(-tiles // slices)
            for ky in range(0, height, rows):
                block = Block((ky, min(rows, height - ky)), (0, self.conv.kernel[self._along]), channels)
                yield ConvPiece(n, tiles, block, ky > 0)

    def words(self, piece: ConvPiece) -> int:
        return piece.tiles * piece.block.ky[1] * self._taps

    def pack(self, part: int, piece: ConvPiece) -> npt.NDArray[np.int8]:
        """In order n, ky, the last tap first; 0 in holes and where there is no channel."""
        array, (ky, rows) = self.config.array, piece.block.ky
        weight = self.layer.convs[part].weight[:, 0].transpose(0, self._down + 1, self._along + 1)[:, ky : ky + rows]
        packed = np.zeros((piece.tiles, rows, self._taps, array.columns), np.int8)
        for i, tile in enumerate(packed):
            word, part_of_word = divmod(piece.tile + i, array.slices)
            lanes = range(part_of_word * array.columns, min((part_of_word + 1) * array.columns, array.rows))
            channels = weight[word * array.rows + lanes.start : word * array.rows + lanes.stop, :, ::-1]
            tile[:, :: self.conv.dilation[self._along], : len(channels)] = channels.transpose(1, 2, 0)
        return packed.reshape(-1, array.columns)

    def fields(self, piece: ConvPiece, middle: Rect, source: Region) -> dict[str, int]:
        window, (ky, _, t) = self.layer.conv_window, piece.block
        start = [window.start(axis, middle[axis]) for axis in (0, 1)]
        start[self._down] += ky[0] * window.dilation[self._down]
        overlap = self._overlap(middle)
        # The pixel behind those that a row shares with the one before.
        y, x = (at + (axis == self._along) * overlap for axis, at in enumerate(start))
        return self._loops(middle, source) | {
            "depthwise": 1, "overlap": overlap,
            "input_address": wrap(self.config, source.word(y, x, t[0])),
            "first_y": start[self._down], "first_x": start[self._along],
            "kernel_height": ky[1], "kernel_width": self._taps,
            "kernel_x_step": (source.pitch_y, source.pitch_x)[self._along],
        }


def conv_form(config: AcceleratorConfig, layer: DeviceLayer) -> ConvForm | None:
    """The form in which a layer takes the fewest cycles of the array; ``None`` without a convolution."""
    if layer.conv is None:
        return None
    filters = (_Depthwise(config, layer, layer.conv, axes) for axes in ((0, 1), (1, 0)))
    forms: list[ConvForm] = [_Dense(config, layer, layer.conv), *(form for form in filters if form.possible)]
    whole = Rect(0, 0, layer.middle.height, layer.middle.width)
    return min(forms, key=lambda form: form.cycles(whole))
