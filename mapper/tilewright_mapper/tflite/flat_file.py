# SPDX-License-Identifier: Apache-2.0
"""FlatBuffers from strangers: every offset is checked, and all work is paid from a purse that the file's size fills.

The schema's generated readers follow whatever offsets a file holds. Here they read through :class:`CheckedTable` in
place of the library's table, so the schema stays the only source of what stands where.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from flatbuffers.number_types import to_numpy_type
from numpy.typing import NDArray

from tilewright_hdl.errors import ModelFileError

from ..file_fault import fault

__all__ = ["FlatFile"]

READS_PER_BYTE = 4
"""Fields that may be read for each byte of the file. The smallest operator with its tensor needs less than one for two
bytes; a file where many entries lead to one table needs any number."""
FEWEST_READS = 2_000
MOST_READS = 250_000
"""Half a second of reading, and about 4,000 operators with a tensor each."""

COPIES_PER_BYTE = 4
"""Bytes of names and quantization that may be copied for each byte of the file."""
FEWEST_COPIES = 1 << 16

OFFSET = struct.Struct("<I")
TO_FIELDS = struct.Struct("<i")
SIZES = struct.Struct("<HH")
FIELD = struct.Struct("<H")


class FlatFile:
    """A FlatBuffers file, and what may still be spent on reading it.

    Parameters
    ----------
    data : bytes
        The whole file.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._reads = min(max(FEWEST_READS, READS_PER_BYTE * len(data)), MOST_READS)
        self._copies = FEWEST_COPIES + COPIES_PER_BYTE * len(data)

    def read(self, count: int = 1) -> None:
        """Pay for reading ``count`` fields or elements one by one."""
        self._reads -= count
        if self._reads < 0:
            raise ModelFileError(
                f"Model file: the tables of its {len(self.data)} bytes must be read in {MOST_READS} steps, and in "
                f"{READS_PER_BYTE} steps for each byte, but take more: it is damaged, or far too large a model; "
                "export the model again"
            )

    def copy(self, size: int) -> None:
        """Pay for a copy of ``size`` bytes."""
        self._copies -= size
        if self._copies < 0:
            raise ModelFileError(
                f"Model file: names and quantization of its {len(self.data)} bytes must take at most "
                f"{COPIES_PER_BYTE} times as many, but take more: many tensors share one array; export the model again"
            )

    def inside(self, what: str, start: int, size: int) -> None:
        """Check that ``size`` bytes from ``start`` lie in the file."""
        if start < 0 or size > len(self.data) - start:
            raise fault(f"{what} at byte {start}", f"inside of the file's {len(self.data)} bytes", f"{size} bytes long")

    def checked(self, reader: Any) -> Any:
        """Let a generated reader read through a :class:`CheckedTable`; returns the reader."""
        reader._tab = CheckedTable(self, reader._tab.Pos)
        return reader

    def tables(self, owner: Any, field: str) -> Iterator[Any]:
        """Readers of the tables in vector ``field`` of ``owner``, in order."""
        for index in range(self.length(owner, field)):
            yield self.checked(getattr(owner, field)(index))

    def length(self, owner: Any, field: str) -> int:
        """Number of entries of vector ``field``; 0 where it is absent."""
        return int(getattr(owner, f"{field}Length")())

    def array(self, owner: Any, field: str) -> NDArray[Any] | None:
        """Vector ``field`` as a read-only view of the file; None where it is absent."""
        if getattr(owner, f"{field}IsNone")():
            return None
        view: NDArray[Any] = getattr(owner, f"{field}AsNumpy")()
        return view

    def integers(self, owner: Any, field: str) -> tuple[int, ...]:
        """Vector ``field`` as Python's integers; empty where it is absent."""
        values = self.array(owner, field)
        if values is None:
            return ()
        self.read(len(values))
        return tuple(values.tolist())

    def text(self, what: str, value: bytes | None) -> str:
        """Text of a string field's bytes; empty where it is absent."""
        try:
            return "" if value is None else value.decode()
        except UnicodeDecodeError as error:
            raise fault(what, "text in UTF-8", repr(value[:40] if value else value)) from error


class CheckedTable:
    """What generated readers ask of ``flatbuffers.table.Table``, inside of the file and at a price.

    Methods have the names and arguments of that class: the generated code calls them.
    """

    __slots__ = ("Bytes", "Pos", "_fields", "_fields_size", "_file", "_size")

    def __init__(self, file: FlatFile, position: int) -> None:
        file.read(4)
        file.inside("a table", position, TO_FIELDS.size)
        fields = position - TO_FIELDS.unpack_from(file.data, position)[0]
        file.inside("the fields of a table", fields, SIZES.size)
        fields_size, size = SIZES.unpack_from(file.data, fields)
        if fields_size < SIZES.size or fields_size % FIELD.size:
            raise fault(f"the size of a table's fields at byte {fields}", "even and 4 or more", fields_size)
        file.inside("the fields of a table", fields, fields_size)
        if size < TO_FIELDS.size:
            raise fault(f"the size of the table at byte {position}", "4 or more", size)
        file.inside("a table", position, size)
        self.Bytes = file.data
        self.Pos = position
        self._file = file
        self._fields = fields
        self._fields_size = fields_size
        self._size = size

    def Offset(self, slot: int) -> int:
        """Offset of a field in the table; 0 where it is absent."""
        self._file.read()
        if slot >= self._fields_size:
            return 0
        offset: int = FIELD.unpack_from(self.Bytes, self._fields + slot)[0]
        if offset and not TO_FIELDS.size <= offset < self._size:
            raise fault(f"a field of the table at byte {self.Pos}", f"at offset 4 to {self._size - 1}", offset)
        return offset

    def Get(self, flags: Any, position: int) -> Any:
        """Number at a place in the file."""
        self._file.read()
        self._file.inside("a number", position, flags.bytewidth)
        return flags.py_type(flags.packer_type.unpack_from(self.Bytes, position)[0])

    def Indirect(self, position: int) -> int:
        """Place that the offset at ``position`` leads to."""
        self._file.read()
        self._file.inside("an offset", position, OFFSET.size)
        target: int = position + OFFSET.unpack_from(self.Bytes, position)[0]
        self._file.inside(f"what the offset at byte {position} leads to,", target, OFFSET.size)
        return target

    def VectorLen(self, offset: int) -> int:
        """Number of elements of the vector whose offset stands at ``offset`` of the table."""
        start = self.Indirect(self.Pos + offset)
        length: int = OFFSET.unpack_from(self.Bytes, start)[0]
        self._file.inside("a vector", start + OFFSET.size, length)
        return length

    def Vector(self, offset: int) -> int:
        """Place of a vector's first element."""
        return self.Indirect(self.Pos + offset) + OFFSET.size

    def String(self, position: int) -> bytes:
        """Bytes of the string whose offset stands at ``position`` of the file."""
        length = self.VectorLen(position - self.Pos)
        start = self.Vector(position - self.Pos)
        self._file.copy(length)
        return self.Bytes[start : start + length]

    def Union(self, other: Any, offset: int) -> None:
        """Point ``other`` to the table of a union."""
        other.Bytes = self.Bytes
        other.Pos = self.Indirect(self.Pos + offset)

    def GetVectorAsNumpy(self, flags: Any, offset: int) -> NDArray[Any]:
        """View of a vector of numbers."""
        length = self.VectorLen(offset)
        start = self.Vector(offset)
        self._file.inside("a vector", start, length * flags.bytewidth)
        return np.frombuffer(self.Bytes, dtype=to_numpy_type(flags), count=length, offset=start)
