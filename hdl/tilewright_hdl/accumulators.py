# SPDX-License-Identifier: Apache-2.0
"""Accumulators below the array, and the port through which the post-processor reads them."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import ACCUMULATOR_BITS, AcceleratorConfig, bits_for
from .once import once

__all__ = ["AccumulatorColumns", "AccumulatorRead", "AccumulatorWrite", "Accumulators"]


class AccumulatorRead(wiring.Signature):
    """Read port of the accumulators, seen from the reader.

    A read is always granted: ``data`` holds the entry from the cycle after the one with ``valid`` until the next read.
    The array must not write to the bank in the meantime (semaphores see to it), and ``bank`` must stay.

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
        Sign-extended where accumulators are narrower.
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
    """What becomes of the sum that leaves the array ``timing.accumulator_read`` cycles later.

    Members
    -------
    valid : 1
    bank : 1
    address : ``address_bits``
    fresh : 1
        Replace the entry; otherwise add to it.
    again : 1
        The write of the cycle before went to the same entry. 0 where ``config.in_flight`` is 1.
    """

    def __init__(self, address_bits: int):
        super().__init__({"valid": 1, "bank": 1, "address": address_bits, "fresh": 1, "again": 1})


class AccumulatorColumns(wiring.Component):
    """Two banks of accumulators for columns of the array that are no cycle apart; a word has all of their sums.

    An entry is read in the cycle of the command, and written in the next one. What was written one cycle ago is
    therefore not in the memory's output yet; ``again`` takes it from a register. With ``registered`` an entry rests in
    a register behind the memory, and is written another cycle later.

    Parameters
    ----------
    columns : int
    sum_bits : int
        Width of the array's sums.
    bits : int
        Width of an accumulator; sums wrap in it.
    entries : int
        Entries of a bank.
    follows : bool
        Whether a command may have ``again``; not with ``registered``.
    registered : bool
        Whether entries have a cycle of their own between the memory and the adder. Commands for an entry must then be
        three cycles apart.

    Members
    -------
    write, write_out : ``In(AccumulatorWrite)``, ``Out(AccumulatorWrite)``
        Command, and the same one cycle later, for the next column.
    sums : ``In(ArrayLayout(signed(sum_bits), columns))``
        One cycle behind their command, with ``registered`` two.
    read_valid, read_bank, read_address : ``In(1)``, ``In(1)``, ``In(address_bits)``
        Read from outside. A command that adds in the same cycle and bank goes first.
    read_data : ``Out(ArrayLayout(signed(32), columns))``
        One cycle behind the read, until the next.
    """

    write: Any
    write_out: Any
    sums: Any
    read_valid: Signal
    read_bank: Signal
    read_address: Signal
    read_data: Any

    # A stale command writes to an entry that nobody has been told to be valid.
    reset_less = True

    def __init__(self, columns: int, sum_bits: int, bits: int, entries: int, follows: bool, registered: bool):
        if follows and registered:
            raise ValueError("follows and registered exclude each other: only the latest sum is kept outside of a bank")
        self._columns = columns
        self._sum_bits = sum_bits
        self._bits = bits
        self._entries = entries
        self._follows = follows
        self._registered = registered
        layout = AccumulatorWrite(bits_for(entries))
        super().__init__({
            "write": In(layout),
            "write_out": Out(layout),
            "sums": In(data.ArrayLayout(signed(sum_bits), columns)),
            "read_valid": In(1),
            "read_bank": In(1),
            "read_address": In(bits_for(entries)),
            "read_data": Out(data.ArrayLayout(signed(ACCUMULATOR_BITS), columns)),
        })

    @property
    def columns(self) -> int:
        return self._columns

    @property
    def bits(self) -> int:
        return self._bits

    @property
    def follows(self) -> bool:
        return self._follows

    @property
    def registered(self) -> bool:
        return self._registered

    @property
    def sum_bits(self) -> int:
        return self._sum_bits

    @property
    def entries(self) -> int:
        return self._entries

    def elaborate(self, platform: object) -> Module:
        m = Module()

        command = self.write_out
        written = Signal.like(command)
        word = data.ArrayLayout(signed(self._bits), self._columns)
        totals = Signal(word)
        read_bank = Signal()
        m.d.sync += [
            command.eq(self.write),
            read_bank.eq(self.read_bank),
        ]

        words = []
        for bank in range(2):
            memory = Memory(shape=word, depth=self._entries, init=[])
            m.submodules[f"bank{bank}"] = memory
            read, write = memory.read_port(), memory.write_port()
            adds = Signal(name=f"adds{bank}")
            m.d.comb += [
                adds.eq(self.write.valid & ~self.write.fresh & (self.write.bank == bank)),
                read.en.eq(adds | (self.read_valid & (self.read_bank == bank))),
                read.addr.eq(Mux(adds, self.write.address, self.read_address)),
                write.en.eq(written.valid & (written.bank == bank)),
                write.addr.eq(written.address),
                write.data.eq(totals),
            ]
            words.append(read.data)

        # Each source is zeros where it is not taken: behind a memory that costs nothing, and two that are only joined
        # fit into the adder's carry cells.
        domain = m.d.sync if self._registered else m.d.comb
        domain += written.eq(command)
        taken = [~command.fresh & (command.bank == bank) for bank in range(2)]
        sources = words
        if self._follows:
            previous = Signal(word)
            m.d.sync += previous.eq(totals)
            taken = [*(choice & ~command.again for choice in taken), ~command.fresh & command.again]
            sources = [*words, previous]
        terms = [Signal(word, name=f"term{place}") for place, _ in enumerate(sources)]
        for choice, source, term in zip(taken, sources, terms, strict=True):
            domain += Value.cast(term).eq(Mux(choice, Value.cast(source), 0))
        for c in range(self._columns):
            m.d.comb += [
                totals[c].eq(self.sums[c] + reduce(or_, [term[c] for term in terms])),
                self.read_data[c].eq(Mux(read_bank, words[1][c], words[0][c])),
            ]
        return m


class Accumulators(wiring.Component):
    """Accumulators of all columns; a command travels along the columns as the sums' skew does.

    Latency
    -------
    The sum of column ``c`` is taken ``column_delay(c) + accumulator_read`` cycles after the command (of
    :mod:`.timing`); it can be read from the next cycle on.

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

        array, memory = self._config.array, self._config.memory
        # Passes of an instruction come to an entry again after more than a cycle; the next instruction may not.
        make = once(platform, AccumulatorColumns, array.group, array.sum_bits, memory.accumulator_bits,
                    memory.accumulator_entries, self._config.in_flight > 1, memory.registered)
        command = self.write
        for first in range(0, array.columns, array.group):
            m.submodules[f"columns_{first}"] = columns = make()
            m.d.comb += [
                columns.write.eq(command),
                columns.read_valid.eq(self.read.valid),
                columns.read_bank.eq(self.read.bank),
                columns.read_address.eq(self.read.address),
            ]
            command = columns.write_out
            for c in range(array.group):
                m.d.comb += [
                    columns.sums[c].eq(self.sums[first + c]),
                    self.read.data[first + c].eq(columns.read_data[c]),
                ]

        return m
