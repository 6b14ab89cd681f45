# SPDX-License-Identifier: Apache-2.0
"""An image of few channels as windows of full rows: the LOADs, and the weights in the same order.

A word holds the next ``rows`` taps of a kernel, counted by kernel row, kernel column and channel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Exec, Load, Segment

__all__ = ["FirstLayer"]


@dataclass(frozen=True, kw_only=True)
class FirstLayer:
    """A convolution of an image, of shape (channels, height, width) each with ``kernel`` as (height, width)."""

    config: AcceleratorConfig
    image: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int, int, int]
    """Top, bottom, left, right."""
    pad_value: int

    @property
    def output(self) -> tuple[int, int]:
        top, bottom, left, right = self.padding
        _, height, width = self.image
        return ((height + top + bottom - self.kernel[0]) // self.stride + 1,
                (width + left + right - self.kernel[1]) // self.stride + 1)

    @property
    def tiles(self) -> int:
        """Words of an output pixel."""
        return -(-self.image[0] * self.kernel[0] * self.kernel[1] // self.config.array.rows)

    @property
    def row_pitch(self) -> int:
        """Bytes from row to row in main memory."""
        return self.config.beats(self.image[0] * self.image[2]) * self.config.bus.data_bytes

    def image_bytes(self, image: npt.NDArray[np.int8]) -> bytes:
        """Dense rows; what is between them is noise."""
        rows = np.full((self.image[1], self.row_pitch), 99, np.int8)
        rows[:, : self.image[0] * self.image[2]] = image.transpose(1, 2, 0).reshape(self.image[1], -1)
        return rows.tobytes()

    def weight_tiles(self, weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """Rows of the weight tiles, of as many columns as ``weight``, (outputs, channels, height, width), has."""
        taps = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
        tiles = np.zeros((self.tiles * self.config.array.rows, len(weight)), np.int8)
        tiles[: len(taps)] = taps
        return tiles

    def loads(self) -> Iterator[Load]:
        """All LOADs of an image at the begin of the arena, to the begin of the scratchpad."""
        channels, height, width = self.image
        out_height, out_width = self.output
        top, _, left, _ = self.padding
        for ky, offset, lanes, word, lane in self._segments():
            inside = [y for y in range(out_height) if 0 <= y * self.stride - top + ky < height]
            first = inside[0]
            last = inside[-1] + 1
            # What comes first into a word fills it, so that no lane is left as it was.
            fill = self.config.array.rows if lane == 0 else lanes
            common = {"window": 1, "segment": Segment.ARENA, "words": out_width, "step": self.tiles,
                      "stride": out_width * self.tiles, "first_lane": lane, "lanes": fill, "pad_value": self.pad_value}
            yield Load(dram_address=(first * self.stride - top + ky) * self.row_pitch, rows=last - first,
                       dram_stride=self.stride * self.row_pitch, row_bytes=channels * width,
                       address=first * out_width * self.tiles + word, row_start=offset - left * channels - lane,
                       row_step=self.stride * channels, **common)
            for begin, end in ((0, first), (last, out_height)):
                if begin < end:
                    yield Load(dram_address=0, rows=end - begin, row_start=1,
                               address=begin * out_width * self.tiles + word, **common)

    def exec(self, **fields: int) -> Exec:
        """The convolution as one of 1 x 1, of one column tile."""
        height, width = self.output
        return Exec(bank=0, input_address=0, weight_address=0, channel_tiles=self.tiles, output_height=height,
                    output_width=width, input_height=height, input_width=width, output_y_step=width * self.tiles,
                    output_x_step=self.tiles, **fields)

    def _segments(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Kernel row, first byte of its window, bytes, word and lane."""
        rows, window = self.config.array.rows, self.image[0] * self.kernel[1]
        for ky in range(self.kernel[0]):
            offset = 0
            while offset < window:
                word, lane = divmod(ky * window + offset, rows)
                lanes = min(window - offset, rows - lane)
                yield ky, offset, lanes, word, lane
                offset += lanes
