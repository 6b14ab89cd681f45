# SPDX-License-Identifier: Apache-2.0
"""Accumulators below the array, and the port through which the post-processor reads them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import ACCUMULATOR_BITS, AcceleratorConfig, bits_for
from .once import once
from .timing import column_delay

__all__ = ["AccumulatorColumn", "AccumulatorRead", "AccumulatorWrite", "Accumulators"]


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


class AccumulatorWrite(data.StructLayout):
    """What becomes of the sum that leaves the array one cycle later.

    Members
    -------
    valid : 1
    bank : 1
    address : ``address_bits``
    fresh : 1
        Replace the entry; otherwise add to it.
    again : 1
        The write of the cycle before went to the same entry.
    """

    def __init__(self, address_bits: int):
        super().__init__({"valid": 1, "bank": 1, "address": address_bits, "fresh": 1, "again": 1})


class AccumulatorColumn(wiring.Component):
    """Two banks of accumulators for one column of the array.

    An entry is read in the cycle of the command, and written in the next one. What was written one cycle ago is
    therefore not in the memory's output yet; ``again`` takes it from a register.

    Parameters
    ----------
    sum_bits : int
        Width of the array's sums.
    entries : int
        Entries of a bank.

    Members
    -------
    write, write_out : ``In(AccumulatorWrite)``, ``Out(AccumulatorWrite)``
        Command, and the same one cycle later, for the next column.
    sum : ``In(signed(sum_bits))``
        One cycle behind its command.
    read_valid, read_bank, read_address : ``In(1)``, ``In(1)``, ``In(address_bits)``
        Read from outside. A command that adds in the same cycle and bank goes first.
    read_data : ``Out(signed(32))``
        One cycle behind the read.
    """

    write: Any
    write_out: Any
    sum: Signal
    read_valid: Signal
    read_bank: Signal
    read_address: Signal
    read_data: Signal

    # A stale command writes to an entry that nobody has been told to be valid.
    reset_less = True

    def __init__(self, sum_bits: int, entries: int):
        self._sum_bits = sum_bits
        self._entries = entries
        layout = AccumulatorWrite(bits_for(entries))
        super().__init__({
            "write": In(layout),
            "write_out": Out(layout),
            "sum": In(signed(sum_bits)),
            "read_valid": In(1),
            "read_bank": In(1),
            "read_address": In(bits_for(entries)),
            "read_data": Out(signed(ACCUMULATOR_BITS)),
        })

    @property
    def sum_bits(self) -> int:
        return self._sum_bits

    @property
    def entries(self) -> int:
        return self._entries

    def elaborate(self, platform: object) -> Module:
        m = Module()

        command = self.write_out
        total = Signal(signed(ACCUMULATOR_BITS))
        previous = Signal(signed(ACCUMULATOR_BITS))
        read_bank = Signal()
        m.d.sync += [
            command.eq(self.write),
            previous.eq(total),
            read_bank.eq(self.read_bank),
        ]

        words = []
        for bank in range(2):
            memory = Memory(shape=signed(ACCUMULATOR_BITS), depth=self._entries, init=[])
            m.submodules[f"bank{bank}"] = memory
            read, write = memory.read_port(), memory.write_port()
            adds = Signal(name=f"adds{bank}")
            m.d.comb += [
                adds.eq(self.write.valid & ~self.write.fresh & (self.write.bank == bank)),
                read.en.eq(adds | (self.read_valid & (self.read_bank == bank))),
                read.addr.eq(Mux(adds, self.write.address, self.read_address)),
                write.en.eq(command.valid & (command.bank == bank)),
                write.addr.eq(command.address),
                write.data.eq(total),
            ]
            words.append(read.data)

        entry = Signal(signed(ACCUMULATOR_BITS))
        with m.If(command.again):
            m.d.comb += entry.eq(previous)
        with m.Else():
            m.d.comb += entry.eq(Mux(command.bank, words[1], words[0]))
        m.d.comb += [
            total.eq(self.sum + Mux(command.fresh, 0, entry)),
            self.read_data.eq(Mux(read_bank, words[1], words[0])),
        ]
        return m


class Accumulators(wiring.Component):
    """Accumulators of all columns; a command travels along the columns as the sums' skew does.

    Latency
    -------
    The sum of column ``c`` is taken ``column_delay(c) + 1`` cycles after the command; it can be read from the next
    cycle on.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    write : ``In(AccumulatorWrite)``
    sums : ``In(ArrayLayout(signed(sum_bits), columns))``
        Column ``c`` is ``column_delay(c)`` cycles behind column 0.
    read : ``In(AccumulatorRead)``
        Undefined if a command adds to an entry of the same bank in the same cycle.
    """

    write: Any
    sums: Any
    read: Any

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        address_bits = bits_for(config.memory.accumulator_entries)
        array = config.array
        super().__init__({
            "write": In(AccumulatorWrite(address_bits)),
            "sums": In(data.ArrayLayout(signed(array.sum_bits), array.columns)),
            "read": In(AccumulatorRead(address_bits, array.columns)),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        config = self._config
        make = once(platform, AccumulatorColumn, config.array.sum_bits, config.memory.accumulator_entries)
        commands = [self.write]
        for c in range(config.array.columns):
            m.submodules[f"column_{c}"] = column = make()
            delay = column_delay(config.array, c)
            commands[delay + 1 :] = [column.write_out]
            m.d.comb += [
                column.write.eq(commands[delay]),
                column.sum.eq(self.sums[c]),
                column.read_valid.eq(self.read.valid),
                column.read_bank.eq(self.read.bank),
                column.read_address.eq(self.read.address),
                self.read.data[c].eq(column.read_data),
            ]

        return m
