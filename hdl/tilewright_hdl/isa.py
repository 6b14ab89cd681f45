# SPDX-License-Identifier: Apache-2.0
"""The instruction set, declared once.

One instruction is one tile of a layer. Each of the four engines has a queue of its own and works through it in
order; between engines, order comes from *semaphores*: there is one counter for each ordered pair of engines.
``wait`` names the engines of whose tokens one each is taken before the instruction starts; ``signal`` names the
engines that get a token when it has finished, all its writes done.

A *program* is the concatenation of instructions. Program order must itself be a valid order of execution: walking
through it one instruction at a time, no semaphore may ever be found empty by a ``wait`` or full by a ``signal``.
Then no schedule that the hardware can take ends in a deadlock: the oldest instruction that has not finished can
always go on.

An instruction is a dataclass. Each field is declared with its width and meaning; the place in the encoding (fields
fill 32-bit little-endian words in order, and never straddle two), the encoder, the decoder, the disassembler, the
layout that the hardware decodes with and the page of the documentation follow from that.

Address arithmetic. Tensors lie in the activation scratchpad as words of ``rows`` channels (bytes): the word of pixel
(y, x) and channel tile t is ``address + y * pitch_y + x * pitch_x + t``. Instructions carry *steps*, products of
a stride or dilation and a pitch, so that the hardware only adds. Addresses and steps count modulo ``A``, which is
``2**limits.address_bits`` of the configuration.

Widths. The fields below have the widths of the encoding. An accelerator may have fewer bits for addresses, sizes and
kernels (``limits`` of its configuration), for bytes in main memory (``bus.address_bits``) and for multipliers, and none
for a field that it has no use for, which must hold its default. It refuses what does not fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

from .errors import IsaError
from .instruction import (
    ADDRESS_BITS,
    ENGINES,
    SIZE_BITS,
    WORD_BITS,
    Engine,
    Extent,
    FieldSpec,
    Instruction,
    address_field,
    bits_field,
    coordinate_field,
    count_field,
    field_specs,
    int8_field,
    kernel_field,
)
from .isa_exec import Exec
from .numerics import MAX_SHIFT, MIN_SHIFT, MULTIPLIER_BITS, SHIFT_BITS

__all__ = [
    "ADDRESS_BITS",
    "BINARY",
    "ENGINES",
    "INSTRUCTIONS",
    "WORD_BITS",
    "Combine",
    "Engine",
    "Exec",
    "Extent",
    "FieldSpec",
    "Instruction",
    "Load",
    "Memory",
    "Post",
    "RoundingCode",
    "Segment",
    "Source",
    "Store",
    "decode_program",
    "encode_program",
    "field_specs",
]


_WINDOWS = ("bus.windows",)
_ADD = ("post.add",)
_BINARY = ("post.add", "post.multiply")
_TABLES = ("post.tables",)
_POOLS = ("post.pools",)
_SECOND = (*_POOLS, *_BINARY)


class Memory(IntEnum):
    """Memory on chip that a ``LOAD`` writes; a ``STORE`` reads the activation scratchpad only."""

    ACTIVATION = 0
    WEIGHT = 1
    PARAMETER = 2
    TABLE = 3


class Segment(IntEnum):
    """Base register that an address in main memory counts from."""

    CONSTANT = 0
    ARENA = 1


class Source(IntEnum):
    """Where ``POST`` reads."""

    ACCUMULATOR = 0
    ACTIVATION = 1


class Combine(IntEnum):
    """What ``POST`` does with the elements of a window, or with a second tensor."""

    NONE = 0
    ADD = 1
    MAX = 2
    AVERAGE = 3
    SUBTRACT = 4
    MULTIPLY = 5


BINARY = (Combine.ADD, Combine.SUBTRACT, Combine.MULTIPLY)
"""Operations with a second tensor, the residual; their window is 1 x 1."""


class RoundingCode(IntEnum):
    """Encoding of :class:`~tilewright_hdl.numerics.Rounding`."""

    SINGLE = 0
    TFLITE_DOUBLE = 1


@dataclass(frozen=True, kw_only=True)
class _Transfer(Instruction):
    dram_address: int = bits_field(32, "first byte, from the segment's base; a multiple of the bus width",
                                   extent=Extent.MAIN)
    segment: int = bits_field(1, "base register", choices=Segment)
    memory: int = bits_field(2, "memory on chip", choices=Memory, default=Memory.ACTIVATION)
    address: int = address_field("first word in the memory on chip")
    words: int = count_field(16, "words in a row")
    rows: int = count_field(16, "rows", default=1)
    dram_stride: int = bits_field(32, "bytes from row to row in main memory; a multiple of the bus width", default=0,
                                  extent=Extent.MAIN)
    stride: int = address_field("words from row to row in the memory on chip", default=0)


@dataclass(frozen=True, kw_only=True)
class Load(_Transfer):
    """Copy rows of words from main memory to a memory on chip.

    Each word fills whole beats in main memory: ``config.beats(word_bytes)`` of them, the word in the lowest bytes. A
    parameter word holds the biases of all lanes (int32 each), then the multipliers (uint32 each), then the shifts
    (uint8 each). A table word is one beat; table ``t`` begins at word ``t * 256 / beat bytes``, and its byte ``i`` is
    the image of the int8 value ``i - 128``.

    With ``window``, rows are dense bytes, of which overlapping windows become parts of words, so that an image of few
    channels fills the rows of the array. A row fills whole beats in main memory, and all of them are read::

        for y, x in ndindex(rows, words):
            for lane in range(first_lane, first_lane + lanes):
                at = row_start + x * row_step + lane
                inside = 0 <= at < row_bytes
                byte = memory[dram_address + y * dram_stride + at] if inside else pad_value
                activation[address + y * stride + x * step][lane] = byte

    Other lanes keep what they hold. With ``row_start`` at ``row_bytes`` or beyond, the lanes are filled.
    """

    MNEMONIC: ClassVar[str] = "load"
    OPCODE: ClassVar[int] = 1
    ENGINE: ClassVar[Engine] = Engine.LOAD
    BYTES: ClassVar[int] = 32

    window: int = bits_field(1, "1: words are windows of rows of bytes; the fields below count then only", default=0,
                             needs=_WINDOWS)
    step: int = kernel_field("words from window to window in the memory on chip", needs=_WINDOWS)
    row_bytes: int = count_field(16, "bytes in a row in main memory", default=1, needs=_WINDOWS)
    row_start: int = bits_field(16, "byte of the row for lane 0 of the first window; negative is padding", signed=True,
                                default=0, extent=Extent.SIZE, needs=_WINDOWS)
    row_step: int = kernel_field("bytes of the row from window to window", needs=_WINDOWS)
    first_lane: int = bits_field(6, "first lane that is written", default=0, needs=_WINDOWS)
    lanes: int = bits_field(7, "lanes that are written", low=1, default=1, needs=_WINDOWS)
    pad_value: int = int8_field("value of bytes outside of the row", default=0, needs=_WINDOWS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window and self.memory != Memory.ACTIVATION:
            raise IsaError(f"load.memory must be {Memory.ACTIVATION!r} with window, not {self.memory!r}")


@dataclass(frozen=True, kw_only=True)
class Store(_Transfer):
    """Copy rows of words from the activation scratchpad to main memory."""

    MNEMONIC: ClassVar[str] = "store"
    OPCODE: ClassVar[int] = 4
    ENGINE: ClassVar[Engine] = Engine.STORE
    BYTES: ClassVar[int] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory != Memory.ACTIVATION:
            raise IsaError(f"store.memory must be {Memory.ACTIVATION!r}, not {self.memory!r}")


_EVERYWHERE = (1 << SIZE_BITS) - 1


def _shift(meaning: str, needs: tuple[str, ...] = ()) -> int:
    value: int = bits_field(SHIFT_BITS, meaning, low=MIN_SHIFT, high=MAX_SHIFT, default=MIN_SHIFT, needs=needs)
    return value


def _multiplier(meaning: str, needs: tuple[str, ...] = ()) -> int:
    value: int = bits_field(MULTIPLIER_BITS, meaning, default=0, extent=Extent.MULTIPLIER, needs=needs)
    return value


@dataclass(frozen=True, kw_only=True)
class Post(Instruction):
    """Bring accumulators or activations to int8 activations.

    ::

        for g in range(groups):                               # one group of `lanes` channels each
            for y, x in ndindex(output_height, output_width):
                for wy, wx in ndindex(window_height, window_width):
                    iy = first_y + y * stride_y + wy * dilation_y
                    ix = first_x + x * stride_x + wx * dilation_x
                    inside = 0 <= iy < source_height and 0 <= ix < source_width
                    at = source_address + y * source_y_step + x * source_x_step
                                        + wy * window_y_step + wx * window_x_step
                    if source is ACCUMULATOR:                 # column_groups = columns / lanes
                        acc = accumulator[bank][at + (g // column_groups) * source_tile_step][g % column_groups]
                        bias, multiplier, shift = parameter[parameter_address + g]
                        v = clamp(rescale(acc + bias, multiplier, shift) + zero_point, low, high)
                    else:                                     # row_groups = rows / lanes
                        v = activation[at + (g // row_groups) * source_tile_step][g % row_groups]
                    t = table[table_index][v + 128] if use_table else v
                    t = t if inside else pad_value
                # Of ADD, SUBTRACT and MULTIPLY:
                r = activation[residual_address + y * residual_y_step + x * residual_x_step
                               + g // row_groups][g % row_groups]
                NONE:    out = t
                MAX:     out = max of t over the window
                AVERAGE: out = clamp(rescale(sum of t + offset, multiplier_out, shift_out) + zero_point_out,
                                     low_out, high_out)
                ADD:     ra = rescale((t - zero_point_a) << ADD_LEFT_SHIFT, multiplier_a, shift_a), rb likewise from r;
                         out = clamp(rescale(ra + rb, multiplier_out, shift_out) + zero_point_out, low_out, high_out)
                SUBTRACT: the same, with ra - rb in place of ra + rb
                MULTIPLY: out = clamp(rescale((t - zero_point_a) * (r - zero_point_b), multiplier_out, shift_out)
                                      + zero_point_out, low_out, high_out)
                activation[output_address + y * output_y_step + x * output_x_step
                           + g // row_groups][g % row_groups] = out

    With ``NONE``, ``ADD``, ``SUBTRACT`` and ``MULTIPLY`` the window is 1 x 1. ``acc + bias``, ``ra + rb``, ``ra - rb``
    and the sums of ``AVERAGE`` are int32 and wrap. All rescales follow ``rounding``. Steps of 0 take one word for all
    rows or columns, of the source or of the residual. ``NONE`` with pixels outside of the source pads a tensor. No
    pixel is outside of a source of the default size.
    """

    MNEMONIC: ClassVar[str] = "post"
    OPCODE: ClassVar[int] = 3
    ENGINE: ClassVar[Engine] = Engine.POST
    BYTES: ClassVar[int] = 96

    source: int = bits_field(1, "where it reads", choices=Source, default=Source.ACCUMULATOR, needs=_POOLS)
    bank: int = bits_field(1, "accumulator bank that is read", default=0)
    combine: int = bits_field(3, "operation on the window or with the residual", choices=Combine, default=Combine.NONE,
                              needs=_SECOND)
    use_table: int = bits_field(1, "1: map through a table", default=0, needs=_TABLES)
    table_index: int = bits_field(4, "table", default=0, needs=_TABLES)
    rounding: int = bits_field(1, "rounding rule", choices=RoundingCode, default=RoundingCode.SINGLE)
    low: int = int8_field("lower clamp after the first rescale", default=-128)
    high: int = int8_field("upper clamp after the first rescale", default=127)
    source_address: int = address_field("first accumulator entry or activation word, modulo A")
    zero_point_b: int = int8_field("zero point of the residual", default=0, needs=_BINARY)
    source_tile_step: int = address_field("entries or words from channel tile to channel tile", default=1)
    zero_point_out: int = int8_field("zero point of the result, except of NONE and MAX", default=0, needs=_SECOND)
    source_y_step: int = address_field("entries or words from output row to output row", default=0)
    low_out: int = int8_field("lower clamp of the result, except of NONE and MAX", default=-128, needs=_SECOND)
    source_x_step: int = address_field("entries or words from output column to output column", default=0)
    high_out: int = int8_field("upper clamp of the result, except of NONE and MAX", default=127, needs=_SECOND)
    window_y_step: int = address_field("entries or words from window row to window row", default=0, needs=_POOLS)
    shift_a: int = _shift("right shift of operand a", needs=_ADD)
    window_x_step: int = address_field("entries or words from window column to window column", default=0, needs=_POOLS)
    shift_b: int = _shift("right shift of operand b", needs=_ADD)
    source_height: int = count_field(16, "source rows: beyond them is padding", default=_EVERYWHERE, needs=_POOLS)
    source_width: int = count_field(16, "source columns: beyond them is padding", default=_EVERYWHERE, needs=_POOLS)
    output_height: int = count_field(16, "output rows")
    output_width: int = count_field(16, "output columns")
    first_y: int = coordinate_field("source row of the first window; negative is padding", needs=_POOLS)
    first_x: int = coordinate_field("source column of the first window; negative is padding", needs=_POOLS)
    window_height: int = kernel_field("window rows", needs=_POOLS)
    window_width: int = kernel_field("window columns", needs=_POOLS)
    stride_y: int = kernel_field("source rows from window to window", needs=_POOLS)
    stride_x: int = kernel_field("source columns from window to window", needs=_POOLS)
    dilation_y: int = kernel_field("source rows from window row to window row", needs=_POOLS)
    dilation_x: int = kernel_field("source columns from window column to window column", needs=_POOLS)
    zero_point: int = int8_field("zero point after the first rescale", default=0)
    pad_value: int = int8_field("value outside of the source", default=0, needs=_POOLS)
    output_address: int = address_field("first word written")
    shift_out: int = _shift("right shift of the result", needs=_SECOND)
    output_y_step: int = address_field("words from output row to output row", default=0)
    zero_point_a: int = int8_field("zero point of operand a", default=0, needs=_BINARY)
    output_x_step: int = address_field("words from output column to output column", default=0)
    residual_address: int = address_field("first word of the residual", default=0, needs=_BINARY)
    residual_y_step: int = address_field("words from output row to output row in the residual", default=0,
                                         needs=_BINARY)
    residual_x_step: int = address_field("words from output column to output column in the residual", default=0,
                                         needs=_BINARY)
    parameter_address: int = address_field("first parameter word", bits=16, default=0)
    groups: int = count_field(16, "groups of post-processor lanes")
    multiplier_a: int = _multiplier("multiplier of operand a", needs=_ADD)
    multiplier_b: int = _multiplier("multiplier of operand b", needs=_ADD)
    multiplier_out: int = _multiplier("multiplier of the result", needs=_SECOND)
    offset: int = bits_field(32, "added to the sum of AVERAGE", signed=True, default=0, needs=_POOLS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.combine in (Combine.NONE, *BINARY) and self.window_height * self.window_width != 1:
            raise IsaError(f"post with combine={Combine(self.combine).name} must have a 1 x 1 window, "
                           f"not {self.window_height} x {self.window_width}")

    @property
    def steps(self) -> int:
        """Elements that go through the pipeline."""
        return self.groups * self.output_height * self.output_width * self.window_height * self.window_width


INSTRUCTIONS: tuple[type[Instruction], ...] = (Load, Exec, Post, Store)
"""All instructions; ``Engine`` order."""


def encode_program(instructions: list[Instruction]) -> bytes:
    """Encode instructions in order; each gets its place as ``index``."""
    return b"".join(replace(ins, index=i).encode() for i, ins in enumerate(instructions))


def decode_program(data: bytes) -> Iterator[Instruction]:
    """Decode a program.

    Raises
    ------
    IsaError
        With the index and the byte offset of the first instruction that is wrong.
    """
    by_opcode = {cls.OPCODE: cls for cls in INSTRUCTIONS}
    offset = index = 0
    while offset < len(data):
        where = f"Instruction {index} at byte {offset:#x}"
        cls = by_opcode.get(data[offset] & 0xF)
        if cls is None:
            known = ", ".join(f"{c.OPCODE} ({c.MNEMONIC})" for c in INSTRUCTIONS)
            raise IsaError(f"{where}: opcode must be one of {known}, not {data[offset] & 0xF}")
        if offset + cls.BYTES > len(data):
            raise IsaError(f"{where}: {cls.MNEMONIC} must have {cls.BYTES} bytes, only {len(data) - offset} are left")
        try:
            instruction = cls.decode(data[offset : offset + cls.BYTES])
        except IsaError as error:
            raise IsaError(f"{where}: {error}") from error
        if instruction.index != index:
            raise IsaError(f"{where}: index must be {index}, not {instruction.index}")
        yield instruction
        offset += cls.BYTES
        index += 1
