# SPDX-License-Identifier: Apache-2.0
"""The instruction of the compute engine; a part of ``isa``."""

from dataclasses import dataclass
from typing import ClassVar

from .errors import IsaError
from .instruction import (
    Engine,
    Instruction,
    address_field,
    bits_field,
    coordinate_field,
    count_field,
    int8_field,
    kernel_field,
)

__all__ = ["Exec"]


@dataclass(frozen=True, kw_only=True)
class Exec(Instruction):
    """Convolve a tile on the array, into the accumulators.

    ::

        for n in range(column_tiles):
            for ky, kx, t in ndindex(kernel_height, kernel_width, channel_tiles):      # one pass each
                weights = weight[weight_address + pass * rows : ... + rows]            # pass counts on over all n
                for y, x in ndindex(output_height, output_width):                      # one vector each
                    iy = first_y + y * stride_y + ky * dilation_y
                    ix = first_x + x * stride_x + kx * dilation_x
                    inside = iy % 2**17 < input_height and ix % 2**17 < input_width
                    word = input_address + y * output_y_step + x * output_x_step
                                         + ky * kernel_y_step + kx * kernel_x_step + t
                    vector = activation[word] if inside else [pad_value] * rows
                    entry = accumulator_address + (n * output_height + y) * output_width + x
                    sums = vector @ weights                                            # int32, one a column
                    accumulator[bank][entry] = sums if first pass of n and not accumulate else ... + sums

    ``input_address`` belongs to ``(first_y, first_x)``, so it may point before the tensor when those are
    negative; it counts modulo ``A``. Coordinates count modulo 2**17; with narrower ``limits``, modulo
    2**(size_bits + 1). A word read inside must lie in the scratchpad. Row ``r`` of a weight
    tile is the word ``weight_address + pass * rows + r``, for the channel ``t * rows + r``.

    With ``depthwise`` each column filters one channel, and a pass takes all kernel columns together::

        slices = ceil(rows / columns)                                                  # of a word of channels
        row = (output_width - 1) * stride_x + kernel_width - overlap                   # pixels of an output row
        for n in range(column_tiles):
            channels = [(n % slices * columns + c) % rows for c in range(columns)]
            for ky in range(kernel_height):                                            # one pass each
                taps = weight[weight_address + pass * kernel_width : ... + kernel_width]
                for y, x, kx in ndindex(output_height, output_width, kernel_width):
                    line, pixel = divmod(y * row + x * stride_x + kx - overlap, row)
                    iy = first_y + line * stride_y + ky * dilation_y
                    ix = first_x + overlap + pixel
                    inside = line >= 0 and iy % 2**17 < input_height and ix % 2**17 < input_width
                    word = input_address + line * output_y_step + pixel * kernel_x_step
                                         + ky * kernel_y_step + n // slices
                    vector = activation[word] if inside else [pad_value] * rows
                    products = vector[channels] * taps[kernel_width - 1 - kx]
                    entry = accumulator_address + (n * output_height + y) * output_width + x
                    accumulator[bank][entry] = products if ky == kx == 0 and not accumulate else ... + products

    Then ``kernel_width`` is at most ``rows``, and ``channel_tiles`` and ``dilation_x`` are 1: a kernel with
    holes has taps that are 0. ``overlap`` is less than ``kernel_width``: so many columns that stand before a row
    are taken to be the last ones of the row before (padding, before the first row), which saves their time where both
    are padding; ``input_address`` belongs to the column behind them. A pass streams all pixels of a row, so
    those that a stride passes over must lie in the scratchpad too.
    """

    MNEMONIC: ClassVar[str] = "exec"
    OPCODE: ClassVar[int] = 2
    ENGINE: ClassVar[Engine] = Engine.EXEC
    BYTES: ClassVar[int] = 64

    input_address: int = address_field("word of the first vector, modulo A")
    pad_value: int = int8_field("value of every channel outside of the input", default=0)
    accumulate: int = bits_field(1, "1: add to the accumulators from the first pass on", default=0)
    bank: int = bits_field(1, "accumulator bank that is written")
    depthwise: int = bits_field(1, "1: each column filters one channel", default=0, needs=("array.depthwise",))
    weight_address: int = address_field("first word of the first weight tile")
    column_tiles: int = count_field(12, "tiles of output channels", default=1)
    kernel_height: int = kernel_field("kernel rows")
    kernel_width: int = kernel_field("kernel columns")
    channel_tiles: int = count_field(16, "tiles of input channels", default=1)
    output_height: int = count_field(16, "output rows")
    output_width: int = count_field(16, "output columns")
    input_height: int = count_field(16, "input rows: above them is padding")
    input_width: int = count_field(16, "input columns: beyond them is padding")
    first_y: int = coordinate_field("input row of the first vector; negative is padding")
    first_x: int = coordinate_field("input column of the first vector; negative is padding")
    stride_y: int = kernel_field("input rows from output row to output row")
    stride_x: int = kernel_field("input columns from output column to output column")
    dilation_y: int = kernel_field("input rows from kernel row to kernel row")
    dilation_x: int = kernel_field("input columns from kernel column to kernel column")
    output_y_step: int = address_field("words from output row to output row, modulo A", default=0)
    output_x_step: int = address_field("words from output column to output column", default=0)
    kernel_y_step: int = address_field("words from kernel row to kernel row", default=0)
    kernel_x_step: int = address_field("words from kernel column to kernel column", default=0)
    accumulator_address: int = address_field("first accumulator entry", bits=16, default=0)
    overlap: int = bits_field(6, "with depthwise: input columns that a row shares with the row before", default=0,
                              needs=("array.depthwise",))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depthwise:
            if self.overlap >= self.kernel_width:
                raise IsaError(f"exec.overlap must be less than kernel_width ({self.kernel_width}) with depthwise=1, "
                               f"not {self.overlap!r}")
            for name in ("channel_tiles", "dilation_x"):
                if getattr(self, name) != 1:
                    raise IsaError(f"exec.{name} must be 1 with depthwise=1, not {getattr(self, name)!r}")

    @property
    def passes(self) -> int:
        """Weight tiles used."""
        kernel_columns = 1 if self.depthwise else self.kernel_width
        return self.column_tiles * self.kernel_height * kernel_columns * self.channel_tiles

    @property
    def vectors(self) -> int:
        """Vectors in a pass."""
        if self.depthwise:
            return self.overlap + self.output_height * self.row_pixels
        return self.output_height * self.output_width

    @property
    def row_pixels(self) -> int:
        """Pixels streamed for an output row, with ``depthwise``."""
        return (self.output_width - 1) * self.stride_x + self.kernel_width - self.overlap

    @property
    def entries(self) -> int:
        """Accumulator entries written."""
        return self.column_tiles * self.output_height * self.output_width

    @property
    def taps(self) -> int:
        """Words of a weight tile with ``depthwise``; 0 without."""
        return self.kernel_width if self.depthwise else 0

    def tile_words(self, rows: int) -> int:
        """Words of a weight tile, on an array of so many rows."""
        return self.taps or rows
