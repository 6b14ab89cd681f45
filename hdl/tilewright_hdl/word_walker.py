# SPDX-License-Identifier: Apache-2.0
"""Words on chip that a LOAD or STORE touches, one after the other."""

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .isa import Load
from .isa_layout import instruction_layout
from .stream_fifo import StreamFifo
from .timing import IN_FLIGHT

__all__ = ["WordLayout", "WordWalker", "WordsLayout"]

_FIELDS = ("memory", "address", "words", "rows", "stride", "index")


class WordsLayout(data.StructLayout):
    """Fields of an instruction that say which words it touches, and its ``index``."""

    def __init__(self) -> None:
        fields = instruction_layout(Load).members
        super().__init__({name: fields[name] for name in _FIELDS})

    @staticmethod
    def fields(instruction: data.View) -> dict[str, data.View]:
        """These fields of a decoded ``LOAD`` or ``STORE``."""
        return {name: instruction[name] for name in _FIELDS}


class WordLayout(data.StructLayout):
    """A word: its ``memory`` and ``address``, the ``index`` of the instruction, and whether it is its ``last`` one.

    ``address`` has one bit more than the field of the instruction, so that it never wraps into the memory again.
    """

    def __init__(self) -> None:
        fields = instruction_layout(Load).members
        super().__init__({
            "memory": fields["memory"],
            "address": fields["address"].width + 1,
            "index": fields["index"],
            "last": 1,
        })


class WordWalker(wiring.Component):
    """Addresses of the words of instructions, in order.

    Latency
    -------
    The first word is offered 2 cycles after the transfer of its instruction, and then one word a cycle, over the end of
    an instruction as well.

    Members
    -------
    i : ``In(stream.Signature(WordsLayout()))``
        Instructions; ``IN_FLIGHT`` wait here beside the one that is walked.
    o : ``Out(stream.Signature(WordLayout()))``
        After a word with bit 20 of the address set, the next ones mean nothing.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(WordsLayout())), "o": Out(stream.Signature(WordLayout()))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.waiting = waiting = StreamFifo(WordsLayout(), IN_FLIGHT)
        wiring.connect(m, wiring.flipped(self.i), waiting.i)

        walk = Signal(WordsLayout())
        address = Signal.like(self.o.p.address)
        row = Signal.like(address)
        left = Signal.like(walk.words)
        next_row = Signal.like(row)
        m.d.comb += [
            next_row.eq(row + walk.stride),
            self.o.p.address.eq(address),
            self.o.p.memory.eq(walk.memory),
            self.o.p.index.eq(walk.index),
            self.o.p.last.eq((left == 1) & (walk.rows == 1)),
            waiting.o.ready.eq(~self.o.valid | (self.o.ready & self.o.p.last)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += [
                    self.o.valid.eq(walk.rows != 1),
                    walk.rows.eq(walk.rows - 1),
                    row.eq(next_row),
                    address.eq(next_row),
                    left.eq(walk.words),
                ]
        with m.If(waiting.o.valid & waiting.o.ready):
            m.d.sync += [
                self.o.valid.eq(1),
                walk.eq(waiting.o.p),
                row.eq(waiting.o.p.address),
                address.eq(waiting.o.p.address),
                left.eq(waiting.o.p.words),
            ]
        return m
