# SPDX-License-Identifier: Apache-2.0
"""Joints between components: memory ports and fault reports."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import AcceleratorConfig
from .isa import INSTRUCTIONS, Instruction, field_specs

__all__ = ["INDEX_BITS", "FaultLayout", "MemoryRead", "MemoryWrite", "index_bits"]

INDEX_BITS = next(s.bits for s in field_specs(Instruction) if s.name == "index")
"""Width of an instruction's place in the program."""


def index_bits(config: AcceleratorConfig) -> int:
    """Bits of an instruction's place in a program that fits in main memory."""
    return min(INDEX_BITS, config.bus.address_bits - exact_log2(min(cls.BYTES for cls in INSTRUCTIONS)))


class FaultLayout(data.StructLayout):
    """Report of an error: a pulse of ``valid`` with an :class:`~.registers.ErrorCode` and an instruction's index."""

    def __init__(self) -> None:
        super().__init__({"valid": 1, "code": 4, "index": INDEX_BITS})


class MemoryRead(wiring.Signature):
    """Read port of a memory, seen from the reader.

    A read is granted in a cycle with ``valid`` and ``ready``; ``data`` holds the word in the next cycle, and in that
    cycle only. ``ready`` may depend on ``valid`` and ``address``; they must not depend on it.

    Parameters
    ----------
    address_bits, data_bits : int

    Members
    -------
    valid : ``Out(1)``
    address : ``Out(address_bits)``
    ready : ``In(1)``
    data : ``In(data_bits)``
    """

    def __init__(self, address_bits: int, data_bits: int):
        self._address_bits = address_bits
        self._data_bits = data_bits
        super().__init__({
            "valid": Out(1),
            "address": Out(address_bits),
            "ready": In(1),
            "data": In(data_bits),
        })

    @property
    def address_bits(self) -> int:
        return self._address_bits

    @property
    def data_bits(self) -> int:
        return self._data_bits

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and self.address_bits == other.address_bits
            and self.data_bits == other.data_bits
        )

    def __repr__(self) -> str:
        return f"MemoryRead({self.address_bits}, {self.data_bits})"


class MemoryWrite(wiring.Signature):
    """Write port of a memory, seen from the writer.

    A word is written at the end of a cycle with ``valid`` and ``ready``, and a read granted in the next cycle sees it.
    ``ready`` may depend on ``valid`` and ``address``; they must not depend on it.

    Parameters
    ----------
    address_bits, data_bits : int
    groups : int
        Equal parts of the word that can be written apart.

    Members
    -------
    valid : ``Out(1)``
    address : ``Out(address_bits)``
    data : ``Out(data_bits)``
    mask : ``Out(groups)``
        One bit for each part that is written.
    ready : ``In(1)``
    """

    def __init__(self, address_bits: int, data_bits: int, groups: int = 1):
        if data_bits % groups:
            raise ValueError(f"groups must divide data_bits ({data_bits}), not {groups!r}")
        self._address_bits = address_bits
        self._data_bits = data_bits
        self._groups = groups
        super().__init__({
            "valid": Out(1),
            "address": Out(address_bits),
            "data": Out(data_bits),
            "mask": Out(groups),
            "ready": In(1),
        })

    @property
    def address_bits(self) -> int:
        return self._address_bits

    @property
    def data_bits(self) -> int:
        return self._data_bits

    @property
    def groups(self) -> int:
        return self._groups

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and self.address_bits == other.address_bits
            and self.data_bits == other.data_bits
            and self.groups == other.groups
        )

    def __repr__(self) -> str:
        return f"MemoryWrite({self.address_bits}, {self.data_bits}, {self.groups})"
