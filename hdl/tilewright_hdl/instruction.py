# SPDX-License-Identifier: Apache-2.0
"""What an instruction is: a dataclass whose fields know their width, their meaning and their place.

Fields fill 32-bit little-endian words in order and never straddle two.
"""

import dataclasses
import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, ClassVar, Self

from .errors import IsaError

__all__ = [
    "ADDRESS_BITS",
    "ENGINES",
    "KERNEL_BITS",
    "SIZE_BITS",
    "WORD_BITS",
    "Engine",
    "Extent",
    "FieldSpec",
    "Instruction",
    "address_field",
    "bits_field",
    "coordinate_field",
    "count_field",
    "field_specs",
    "int8_field",
    "kernel_field",
]

WORD_BITS = 32
ADDRESS_BITS = 20
"""Width of a word address or a step in a scratchpad field."""
SIZE_BITS = 16
"""Width of a count, a height, a width or a coordinate."""
KERNEL_BITS = 8
"""Width of the size of a kernel, a stride or a dilation."""


class Engine(IntEnum):
    """The four engines; the value is the bit in ``wait`` and ``signal``."""

    LOAD = 0
    EXEC = 1
    POST = 2
    STORE = 3


ENGINES = tuple(Engine)


class Extent(Enum):
    """What a field counts, where an accelerator may have fewer bits for it than the encoding.

    Members
    -------
    ADDRESS
        Words on chip: addresses and steps.
    SIZE
        Counts, heights and widths; signed: coordinates.
    KERNEL
        Sizes of kernels, strides and dilations.
    MAIN
        Bytes in main memory.
    MULTIPLIER
        Factor of a rescale.
    """

    ADDRESS = "address"
    SIZE = "size"
    KERNEL = "kernel"
    MAIN = "main"
    MULTIPLIER = "multiplier"


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
    default : int or None
        None where it must be given.
    extent : Extent or None
        What it counts; None where each accelerator has all of its bits.
    needs : tuple of str
        Settings of a configuration, as ``"post.add"``, of which one must be set for the field to be of use. Without,
        it must hold its default.
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
    default: int | None
    extent: Extent | None
    needs: tuple[str, ...]
    word: int
    offset: int


def bits_field(
    bits: int,
    meaning: str,
    *,
    signed: bool = False,
    low: int | None = None,
    high: int | None = None,
    choices: type[IntEnum] | None = None,
    default: int | None = None,
    extent: Extent | None = None,
    needs: tuple[str, ...] = (),
) -> Any:
    """Declare a field. A field without a default must be given. For the rest see :class:`FieldSpec`."""
    metadata = {"bits": bits, "signed": signed, "meaning": meaning, "low": low, "high": high, "choices": choices,
                "extent": extent, "needs": needs}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(metadata=metadata, default=default)


def address_field(
    meaning: str, *, bits: int = ADDRESS_BITS, default: int | None = None, needs: tuple[str, ...] = ()
) -> Any:
    """Declare a word address or a step in a memory on chip."""
    return bits_field(bits, meaning, default=default, extent=Extent.ADDRESS, needs=needs)


def count_field(
    bits: int, meaning: str, *, default: int | None = None, extent: Extent = Extent.SIZE, needs: tuple[str, ...] = ()
) -> Any:
    """Declare a count of at least one."""
    return bits_field(bits, meaning, low=1, default=default, extent=extent, needs=needs)


def kernel_field(meaning: str, *, default: int = 1, needs: tuple[str, ...] = ()) -> Any:
    """Declare the size of a kernel, a stride or a dilation."""
    return count_field(KERNEL_BITS, meaning, default=default, extent=Extent.KERNEL, needs=needs)


def coordinate_field(meaning: str, *, needs: tuple[str, ...] = ()) -> Any:
    """Declare a row or a column of the input; negative is padding."""
    return bits_field(SIZE_BITS, meaning, signed=True, default=0, extent=Extent.SIZE, needs=needs)


def int8_field(meaning: str, default: int | None = None, needs: tuple[str, ...] = ()) -> Any:
    """Declare an int8 value."""
    return bits_field(8, meaning, signed=True, default=default, needs=needs)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """What every instruction begins with."""

    MNEMONIC: ClassVar[str] = ""
    OPCODE: ClassVar[int] = 0
    ENGINE: ClassVar[Engine]
    BYTES: ClassVar[int] = 4

    opcode: int = bits_field(4, "kind of the instruction", default=0)
    wait: int = bits_field(4, "engines (bit = Engine) whose token is taken before the start", default=0)
    signal: int = bits_field(4, "engines (bit = Engine) that get a token at the end", default=0)
    index: int = bits_field(20, "place in the program, counted from 0; the fetch engine checks it", default=0)

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


def field_specs(cls: type[Instruction]) -> tuple[FieldSpec, ...]:
    """Fields of an instruction with their places, in order."""
    if cls not in _SPECS:
        _SPECS[cls] = _placed(cls)
    return _SPECS[cls]


_SPECS: dict[type[Instruction], tuple[FieldSpec, ...]] = {}


def _placed(cls: type[Instruction]) -> tuple[FieldSpec, ...]:
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
        default = None if f.default is dataclasses.MISSING else f.default
        if f.name == "opcode":
            default = cls.OPCODE
        specs.append(FieldSpec(f.name, bits, signed, meta["meaning"], low, high, choices, default, meta["extent"],
                               meta["needs"], word, offset))
        offset += bits
    assert (word + 1) * WORD_BITS <= cls.BYTES * 8, f"{cls.__name__} does not fit {cls.BYTES} bytes"
    return tuple(specs)
