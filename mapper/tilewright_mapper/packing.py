# SPDX-License-Identifier: Apache-2.0
"""Packed images: what a convolution sees of an image of few channels once LOAD's windows have filled whole words.

Kernel rows are taken together in groups of some number. A word, or some of them, holds what one group meets at one
output column: for each of its kernel rows the bytes of the window, behind each other. Across there is then nothing left
to slide over. Down, the convolution slides over packed rows, one kernel row for each group: with one kernel row a group
they are the rows of the image, with all of them in one group the rows of the output.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tilewright_hdl.activation_layout import packed_bytes
from tilewright_hdl.config import AcceleratorConfig

__all__ = ["Packing", "Slot"]


class Slot(NamedTuple):
    """A part of a word that comes from one row of the image.

    Members
    -------
    row : int
        Kernel row of the group.
    byte : int
        First of that row's window.
    word, lane, lanes : int
        Word of the pixel, first lane, and how many.
    """

    row: int
    byte: int
    word: int
    lane: int
    lanes: int


@dataclass(frozen=True, kw_only=True)
class Packing:
    """An image as packed rows of words.

    Members
    -------
    channels, height, width : int
        Of the image, which lies in main memory as dense rows.
    kernel : tuple of int
        Of the convolution, (height, width).
    together : int
        Kernel rows in a group.
    dilation : int
        Image rows from kernel row to kernel row.
    first_row, row_step : int
        Image row of the first kernel row in packed row 0, negative in padding; image rows from packed row to packed
        row.
    first_column, column_step : int
        Image column of the window in packed column 0, negative in padding; columns from packed column to packed column.
    pad_value : int
        Of bytes outside of the image.
    """

    channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    together: int
    dilation: int
    first_row: int
    row_step: int
    first_column: int
    column_step: int
    pad_value: int

    @property
    def window_bytes(self) -> int:
        """Bytes of one kernel row at one output column."""
        return self.kernel[1] * self.channels

    @property
    def taps(self) -> int:
        """Elements of the whole kernel, without unused lanes."""
        return self.kernel[0] * self.window_bytes

    def words(self, config: AcceleratorConfig) -> int:
        """Words of a packed pixel."""
        return -(-self.together * self.window_bytes // config.array.rows)

    def row_pitch(self, config: AcceleratorConfig) -> int:
        """Bytes from row to row of the image in main memory."""
        return self.image_bytes(config) // self.height

    def image_bytes(self, config: AcceleratorConfig) -> int:
        """Bytes of the image in main memory."""
        return packed_bytes(config, (self.channels, self.height, self.width), rows=True)

    def slots(self, config: AcceleratorConfig) -> Iterator[Slot]:
        """Parts of a packed pixel, in the order of its channels."""
        for row in range(self.together):
            byte = 0
            while byte < self.window_bytes:
                word, lane = divmod(row * self.window_bytes + byte, config.array.rows)
                lanes = min(self.window_bytes - byte, config.array.rows - lane)
                yield Slot(row, byte, word, lane, lanes)
                byte += lanes
