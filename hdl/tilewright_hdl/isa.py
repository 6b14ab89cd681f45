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
a stride or dilation and a pitch, so that the hardware only adds.
"""

import dataclasses
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar, Self

from .errors import IsaError
from .numerics import MAX_SHIFT, MIN_SHIFT, MULTIPLIER_BITS, SHIFT_BITS

__all__ = [
    "ENGINES",
    "INSTRUCTIONS",
    "WORD_BITS",
    "Combine",
    "Engine",
    "Exec",
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
    "disassemble",
    "encode_program",
    "field_specs",
    "markdown",
]

WORD_BITS = 32
ADDRESS_BITS = 20
"""Width of a word address or a step in a scratchpad field."""


class Engine(IntEnum):
    """The four engines; the value is the bit in ``wait`` and ``signal``."""

    LOAD = 0
    EXEC = 1
    POST = 2
    STORE = 3


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


class RoundingCode(IntEnum):
    """Encoding of :class:`~tilewright_hdl.numerics.Rounding`."""

    SINGLE = 0
    TFLITE_DOUBLE = 1


ENGINES = tuple(Engine)


@dataclass(frozen=True)
class FieldSpec:
    """A field of an instruction.

    Members
    -------
    name : str
    bits : int
    signed : bool
    meaning : str
        One line for the documentation.
    low, high : int
        Legal values, inclusive. The hardware refuses others with ``ErrorCode.FIELD``.
    choices : type of IntEnum, or None
    word, offset : int
        Place: bits ``offset`` to ``offset + bits - 1`` of 32-bit word ``word``.
    """

    name: str
    bits: int
    signed: bool
    meaning: str
    low: int
    high: int
    choices: type[IntEnum] | None
    word: int
    offset: int


def _bits(
    bits: int,
    meaning: str,
    *,
    signed: bool = False,
    low: int | None = None,
    high: int | None = None,
    choices: type[IntEnum] | None = None,
    default: int | None = None,
) -> Any:
    """Declare a field. A field without a default must be given."""
    metadata = {"bits": bits, "signed": signed, "meaning": meaning, "low": low, "high": high, "choices": choices}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(metadata=metadata, default=default)


def _address(meaning: str, *, default: int | None = None) -> Any:
    return _bits(ADDRESS_BITS, meaning, default=default)


def _count(bits: int, meaning: str, *, default: int | None = None) -> Any:
    return _bits(bits, meaning, low=1, default=default)


def _int8(meaning: str, default: int | None = None) -> Any:
    return _bits(8, meaning, signed=True, default=default)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """What every instruction begins with."""

    MNEMONIC: ClassVar[str] = ""
    OPCODE: ClassVar[int] = 0
    ENGINE: ClassVar[Engine]
    BYTES: ClassVar[int] = 4

    opcode: int = _bits(4, "kind of the instruction", default=0)
    wait: int = _bits(4, "engines (bit = Engine) whose token is taken before the start", default=0)
    signal: int = _bits(4, "engines (bit = Engine) that get a token at the end", default=0)
    index: int = _bits(20, "place in the program, counted from 0; the fetch engine checks it", default=0)

    def __post_init__(self) -> None:
        if self.opcode not in (0, self.OPCODE):
            raise IsaError(f"{self.MNEMONIC}.opcode must be {self.OPCODE}, not {self.opcode!r}")
        object.__setattr__(self, "opcode", self.OPCODE)
        for spec in field_specs(type(self)):
            value = getattr(self, spec.name)
            if isinstance(value, bool) or not isinstance(value, int) or not spec.low <= value <= spec.high:
                raise IsaError(
                    f"{self.MNEMONIC}.{spec.name} ({spec.meaning}) must be {spec.low} to {spec.high}, not {value!r}"
                )
        for what in ("wait", "signal"):
            if getattr(self, what) >> self.ENGINE & 1:
                raise IsaError(f"{self.MNEMONIC}.{what} must not name the instruction's own engine "
                               f"(bit {int(self.ENGINE)}), was {getattr(self, what):#06b}")

    def encode(self) -> bytes:
        """Encoding of ``BYTES`` bytes; bits that belong to no field are zero."""
        words = [0] * (self.BYTES * 8 // WORD_BITS)
        for spec in field_specs(type(self)):
            words[spec.word] |= (getattr(self, spec.name) & ((1 << spec.bits) - 1)) << spec.offset
        return struct.pack(f"<{len(words)}I", *words)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Instruction from its encoding.

        Raises
        ------
        IsaError
            If a field has an illegal value, or a bit that belongs to no field is set.
        """
        words = list(struct.unpack(f"<{cls.BYTES * 8 // WORD_BITS}I", data))
        values = {}
        for spec in field_specs(cls):
            raw = words[spec.word] >> spec.offset & ((1 << spec.bits) - 1)
            words[spec.word] ^= raw << spec.offset
            values[spec.name] = raw - (1 << spec.bits) if spec.signed and raw >> (spec.bits - 1) else raw
        if any(words):
            raise IsaError(f"{cls.MNEMONIC} must have zeros outside its fields, was {data.hex()}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class _Transfer(Instruction):
    dram_address: int = _bits(32, "first byte in main memory, from the segment's base; a multiple of the bus width")
    segment: int = _bits(1, "base register", choices=Segment)
    memory: int = _bits(2, "memory on chip", choices=Memory, default=Memory.ACTIVATION)
    address: int = _address("first word in the memory on chip")
    words: int = _count(16, "words in a row")
    rows: int = _count(16, "rows", default=1)
    dram_stride: int = _bits(32, "bytes from row to row in main memory; a multiple of the bus width", default=0)
    stride: int = _address("words from row to row in the memory on chip", default=0)


@dataclass(frozen=True, kw_only=True)
class Load(_Transfer):
    """Copy rows of words from main memory to a memory on chip.

    Each word fills whole beats in main memory: ``config.beats(word_bytes)`` of them, the word in the lowest bytes. A
    parameter word holds the biases of all lanes (int32 each), then the multipliers (uint32 each), then the shifts
    (uint8 each). A table word is one beat; table ``t`` begins at word ``t * 256 / beat bytes``, and its byte ``i`` is
    the image of the int8 value ``i - 128``.
    """

    MNEMONIC: ClassVar[str] = "load"
    OPCODE: ClassVar[int] = 1
    ENGINE: ClassVar[Engine] = Engine.LOAD
    BYTES: ClassVar[int] = 32


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
                    inside = 0 <= iy < input_height and 0 <= ix < input_width
                    word = input_address + y * output_y_step + x * output_x_step
                                         + ky * kernel_y_step + kx * kernel_x_step + t
                    vector = activation[word] if inside else [pad_value] * rows
                    entry = accumulator_address + (n * output_height + y) * output_width + x
                    sums = vector @ weights                                            # int32, one a column
                    accumulator[bank][entry] = sums if first pass of n and not accumulate else ... + sums

    ``input_address`` belongs to ``(first_y, first_x)``, so it may point before the tensor when those are
    negative; it counts modulo 2**20. A word read inside must lie in the scratchpad. Row ``r`` of a weight
    tile is the word ``weight_address + pass * rows + r``, for the channel ``t * rows + r``.
    """

    MNEMONIC: ClassVar[str] = "exec"
    OPCODE: ClassVar[int] = 2
    ENGINE: ClassVar[Engine] = Engine.EXEC
    BYTES: ClassVar[int] = 64

    input_address: int = _address("word of the first vector, modulo 2**20")
    pad_value: int = _int8("value of every channel outside of the input", default=0)
    accumulate: int = _bits(1, "1: add to the accumulators from the first pass on", default=0)
    bank: int = _bits(1, "accumulator bank that is written")
    weight_address: int = _address("first word of the first weight tile")
    column_tiles: int = _count(12, "tiles of output channels", default=1)
    kernel_height: int = _count(8, "kernel rows", default=1)
    kernel_width: int = _count(8, "kernel columns", default=1)
    channel_tiles: int = _count(16, "tiles of input channels", default=1)
    output_height: int = _count(16, "output rows")
    output_width: int = _count(16, "output columns")
    input_height: int = _count(16, "input rows: above them is padding")
    input_width: int = _count(16, "input columns: beyond them is padding")
    first_y: int = _bits(16, "input row of the first vector; negative is padding", signed=True, default=0)
    first_x: int = _bits(16, "input column of the first vector; negative is padding", signed=True, default=0)
    stride_y: int = _count(8, "input rows from output row to output row", default=1)
    stride_x: int = _count(8, "input columns from output column to output column", default=1)
    dilation_y: int = _count(8, "input rows from kernel row to kernel row", default=1)
    dilation_x: int = _count(8, "input columns from kernel column to kernel column", default=1)
    output_y_step: int = _address("words from output row to output row, modulo 2**20", default=0)
    output_x_step: int = _address("words from output column to output column", default=0)
    kernel_y_step: int = _address("words from kernel row to kernel row", default=0)
    kernel_x_step: int = _address("words from kernel column to kernel column", default=0)
    accumulator_address: int = _bits(16, "first accumulator entry", default=0)

    @property
    def passes(self) -> int:
        """Weight tiles used."""
        return self.column_tiles * self.kernel_height * self.kernel_width * self.channel_tiles

    @property
    def vectors(self) -> int:
        """Vectors in a pass."""
        return self.output_height * self.output_width


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
                r = activation[residual_address + y * residual_y_step + x * residual_x_step
                               + g // row_groups][g % row_groups]
                NONE:    out = t
                MAX:     out = max of t over the window
                AVERAGE: out = clamp(rescale(sum of t + offset, multiplier_out, shift_out) + zero_point_out,
                                     low_out, high_out)
                ADD:     ra = rescale((t - zero_point_a) << ADD_LEFT_SHIFT, multiplier_a, shift_a), rb likewise from r;
                         out = clamp(rescale(ra + rb, multiplier_out, shift_out) + zero_point_out, low_out, high_out)
                activation[output_address + y * output_y_step + x * output_x_step
                           + g // row_groups][g % row_groups] = out

    With ``NONE`` and ``ADD`` the window is 1 x 1. ``acc + bias``, ``ra + rb`` and the sums of ``AVERAGE`` are int32 and
    wrap. All rescales follow ``rounding``.
    """

    MNEMONIC: ClassVar[str] = "post"
    OPCODE: ClassVar[int] = 3
    ENGINE: ClassVar[Engine] = Engine.POST
    BYTES: ClassVar[int] = 96

    source: int = _bits(1, "where it reads", choices=Source)
    bank: int = _bits(1, "accumulator bank that is read", default=0)
    combine: int = _bits(2, "operation on the window or with the residual", choices=Combine, default=Combine.NONE)
    use_table: int = _bits(1, "1: map through a table", default=0)
    table_index: int = _bits(4, "table", default=0)
    rounding: int = _bits(1, "rounding rule", choices=RoundingCode, default=RoundingCode.SINGLE)
    low: int = _int8("lower clamp after the first rescale", default=-128)
    high: int = _int8("upper clamp after the first rescale", default=127)
    source_address: int = _address("first accumulator entry or activation word, modulo 2**20")
    zero_point_b: int = _int8("zero point of the residual", default=0)
    source_tile_step: int = _address("entries or words from channel tile to channel tile", default=1)
    zero_point_out: int = _int8("zero point of the result of ADD and AVERAGE", default=0)
    source_y_step: int = _address("entries or words from output row to output row", default=0)
    low_out: int = _int8("lower clamp of the result of ADD and AVERAGE", default=-128)
    source_x_step: int = _address("entries or words from output column to output column", default=0)
    high_out: int = _int8("upper clamp of the result of ADD and AVERAGE", default=127)
    window_y_step: int = _address("entries or words from window row to window row", default=0)
    shift_a: int = _bits(SHIFT_BITS, "right shift of operand a", low=MIN_SHIFT, high=MAX_SHIFT, default=MIN_SHIFT)
    window_x_step: int = _address("entries or words from window column to window column", default=0)
    shift_b: int = _bits(SHIFT_BITS, "right shift of operand b", low=MIN_SHIFT, high=MAX_SHIFT, default=MIN_SHIFT)
    source_height: int = _count(16, "source rows: beyond them is padding")
    source_width: int = _count(16, "source columns: beyond them is padding")
    output_height: int = _count(16, "output rows")
    output_width: int = _count(16, "output columns")
    first_y: int = _bits(16, "source row of the first window; negative is padding", signed=True, default=0)
    first_x: int = _bits(16, "source column of the first window; negative is padding", signed=True, default=0)
    window_height: int = _count(8, "window rows", default=1)
    window_width: int = _count(8, "window columns", default=1)
    stride_y: int = _count(8, "source rows from window to window", default=1)
    stride_x: int = _count(8, "source columns from window to window", default=1)
    dilation_y: int = _count(8, "source rows from window row to window row", default=1)
    dilation_x: int = _count(8, "source columns from window column to window column", default=1)
    zero_point: int = _int8("zero point after the first rescale", default=0)
    pad_value: int = _int8("value outside of the source", default=0)
    output_address: int = _address("first word written")
    shift_out: int = _bits(SHIFT_BITS, "right shift of the result", low=MIN_SHIFT, high=MAX_SHIFT, default=MIN_SHIFT)
    output_y_step: int = _address("words from output row to output row", default=0)
    zero_point_a: int = _int8("zero point of operand a", default=0)
    output_x_step: int = _address("words from output column to output column", default=0)
    residual_address: int = _address("first word of the residual", default=0)
    residual_y_step: int = _address("words from output row to output row in the residual", default=0)
    residual_x_step: int = _address("words from output column to output column in the residual", default=0)
    parameter_address: int = _bits(16, "first parameter word", default=0)
    groups: int = _count(16, "groups of post-processor lanes")
    multiplier_a: int = _bits(MULTIPLIER_BITS, "multiplier of operand a", default=0)
    multiplier_b: int = _bits(MULTIPLIER_BITS, "multiplier of operand b", default=0)
    multiplier_out: int = _bits(MULTIPLIER_BITS, "multiplier of the result", default=0)
    offset: int = _bits(32, "added to the sum of AVERAGE", signed=True, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.combine in (Combine.NONE, Combine.ADD) and self.window_height * self.window_width != 1:
            raise IsaError(f"post with combine={Combine(self.combine).name} must have a 1 x 1 window, "
                           f"not {self.window_height} x {self.window_width}")

    @property
    def steps(self) -> int:
        """Elements that go through the pipeline."""
        return self.groups * self.output_height * self.output_width * self.window_height * self.window_width


INSTRUCTIONS: tuple[type[Instruction], ...] = (Load, Exec, Post, Store)
"""All instructions; ``Engine`` order."""


@cache
def field_specs(cls: type[Instruction]) -> tuple[FieldSpec, ...]:
    """Fields of an instruction with their places, in order."""
    specs, word, offset = [], 0, 0
    for f in dataclasses.fields(cls):
        meta = f.metadata
        bits, signed, choices = meta["bits"], meta["signed"], meta["choices"]
        if offset + bits > WORD_BITS:
            word, offset = word + 1, 0
        low, high = meta["low"], meta["high"]
        if low is None:
            low = -(1 << (bits - 1)) if signed else 0
        if high is None:
            high = max(choices) if choices else (1 << (bits - signed)) - 1
        specs.append(FieldSpec(f.name, bits, signed, meta["meaning"], low, high, choices, word, offset))
        offset += bits
    assert (word + 1) * WORD_BITS <= cls.BYTES * 8, f"{cls.__name__} does not fit {cls.BYTES} bytes"
    return tuple(specs)


def encode_program(instructions: list[Instruction]) -> bytes:
    """Encode instructions in order; each gets its place as ``index``."""
    return b"".join(dataclasses.replace(ins, index=i).encode() for i, ins in enumerate(instructions))


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


def _engines(mask: int) -> str:
    return "+".join(e.name.lower() for e in ENGINES if mask >> e & 1)


def disassemble(instruction: Instruction) -> str:
    """One line of text: index, mnemonic, what it waits for and signals, and the fields that are not the default."""
    parts = [f"{instruction.index:6d}  {instruction.MNEMONIC:5s}"]
    if instruction.wait:
        parts.append(f"wait={_engines(instruction.wait)}")
    if instruction.signal:
        parts.append(f"signal={_engines(instruction.signal)}")
    defaults = {f.name: f.default for f in dataclasses.fields(instruction)}
    for spec in field_specs(type(instruction)):
        value = getattr(instruction, spec.name)
        if spec.name in ("opcode", "wait", "signal", "index") or value == defaults[spec.name]:
            continue
        parts.append(f"{spec.name}={spec.choices(value).name.lower() if spec.choices else value}")
    return " ".join(parts)


def markdown() -> str:
    """The page ``docs/isa.md``."""
    lines = ["# Instruction set", "", "Generated from `hdl/tilewright_hdl/isa.py`; do not edit.", ""]
    assert __doc__ is not None
    lines += [__doc__.strip(), ""]
    for cls in INSTRUCTIONS:
        assert cls.__doc__ is not None
        doc = "\n".join(line.removeprefix("    ") for line in cls.__doc__.strip().splitlines())
        doc = doc.replace("::\n", "", 1) if "::\n" in doc else doc
        lines += [f"## `{cls.MNEMONIC}`", "", f"Opcode {cls.OPCODE}, {cls.BYTES} bytes, "
                  f"engine {cls.ENGINE.name}.", "", doc, ""]
        lines += ["| word | bits | field | values | meaning |", "|--:|--:|---|---|---|"]
        for s in field_specs(cls):
            values = ", ".join(f"{c.value} {c.name}" for c in s.choices) if s.choices else f"{s.low} to {s.high}"
            if s.name == "opcode":
                values = str(cls.OPCODE)
            lines.append(f"| {s.word} | {s.offset + s.bits - 1}:{s.offset} | `{s.name}` | {values} | {s.meaning} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(), end="")
