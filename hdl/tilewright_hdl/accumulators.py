# SPDX-License-Identifier: Apache-2.0
"""Accumulators below the array, and the port through which the post-processor reads them."""

from amaranth import signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import ACCUMULATOR_BITS

__all__ = ["AccumulatorRead"]


class AccumulatorRead(wiring.Signature):
    """Read port of the accumulators, seen from the reader.

    A read is always granted: ``data`` holds the entry in the cycle after the one with ``valid``, and in that cycle
    only. The array must not write to the bank in the meantime (semaphores see to it).

    Parameters
    ----------
    address_bits : int
        Width of an entry's address in a bank.
    columns : int
        Sums in an entry, one for each column of the array.

    Members
    -------
    valid : ``Out(1)``
    bank : ``Out(1)``
    address : ``Out(address_bits)``
    data : ``In(ArrayLayout(signed(32), columns))``
    """

    def __init__(self, address_bits: int, columns: int):
        self._address_bits = address_bits
        self._columns = columns
        super().__init__({
            "valid": Out(1),
            "bank": Out(1),
            "address": Out(address_bits),
            "data": In(data.ArrayLayout(signed(ACCUMULATOR_BITS), columns)),
        })

    @property
    def address_bits(self) -> int:
        return self._address_bits

    @property
    def columns(self) -> int:
        return self._columns

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and self.address_bits == other.address_bits
            and self.columns == other.columns
        )

    def __repr__(self) -> str:
        return f"AccumulatorRead({self.address_bits}, {self.columns})"
