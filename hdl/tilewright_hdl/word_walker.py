# SPDX-License-Identifier: Apache-2.0
"""Words on chip that a LOAD or STORE touches, one after the other."""

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .held import fields_of
from .isa import Load
from .isa_layout import FieldsLayout, instruction_layout
from .stream_fifo import StreamFifo

__all__ = ["WordLayout", "WordWalker", "WordsLayout"]

_FIELDS = ("memory", "address", "words", "rows", "stride", "index")
_WINDOW_FIELDS = ("window", "row_bytes", "row_start", "row_step", "first_lane", "lanes", "pad_value")


class WordsLayout(FieldsLayout):
    """Fields of an instruction that say which words it touches, and its ``index``.

    Parameters
    ----------
    config : AcceleratorConfig
    windows : bool
        With the fields of a ``LOAD`` that say what its windows are.
    """

    def __init__(self, config: AcceleratorConfig, windows: bool = False) -> None:
        names = (*_FIELDS, *(("step", *_WINDOW_FIELDS) if windows else ()))
        fields = instruction_layout(config, Load).only(names)
        super().__init__(fields.members, fields.fixed)


class WordLayout(FieldsLayout):
    """A word: its ``memory`` and ``address``, the ``index`` of the instruction, and whether it is its ``last`` one.

    ``address`` has one bit more than the field of the instruction, so that it never wraps into the memory again.

    Parameters
    ----------
    config : AcceleratorConfig
    windows : bool
        With the fields that say what a window is, and whether it is the last one of its row, ``row_last``.
    """

    def __init__(self, config: AcceleratorConfig, windows: bool = False) -> None:
        load = instruction_layout(config, Load)
        fields = load.only(("memory", "index", *(_WINDOW_FIELDS if windows else ())))
        super().__init__(
            {**fields.members, "address": load.width("address") + 1, "last": 1, **({"row_last": 1} if windows else {})},
            fields.fixed,
        )


class WordWalker(wiring.Component):
    """Addresses of the words of instructions, in order.

    Latency
    -------
    The first word is offered 2 cycles after the transfer of its instruction, and then one word a cycle, over the end of
    an instruction as well.

    Parameters
    ----------
    config : AcceleratorConfig
    windows : bool
        Whether the words of an instruction may be ``step`` apart.

    Members
    -------
    i : ``In(stream.Signature(WordsLayout(config, windows)))``
        Instructions; ``config.in_flight`` wait here beside the one that is walked.
    o : ``Out(stream.Signature(WordLayout(config, windows)))``
        After a word with the highest bit of the address set, the next ones mean nothing.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: AcceleratorConfig, *, windows: bool = False) -> None:
        self._config = config
        self._windows = windows
        super().__init__({
            "i": In(stream.Signature(WordsLayout(config, windows))),
            "o": Out(stream.Signature(WordLayout(config, windows))),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def windows(self) -> bool:
        return self._windows

    def elaborate(self, platform: object) -> Module:
        m = Module()
        waiting = self._waiting(m)
        begin = Signal()
        walk = fields_of(m, self.config, waiting, begin)
        address = Signal.like(self.o.p.address)
        row = Signal.like(address)
        # Words of the row and rows from this one on, and whether it is the last one, in registers: `ready` comes late,
        # and then only lets registers load.
        words, rows = Signal.like(walk.words), Signal.like(walk.rows)
        row_last, rows_last = Signal(), Signal()
        next_row = Signal.like(row)
        m.d.comb += [
            next_row.eq(row + walk.stride),
            self.o.p.address.eq(address),
            self.o.p.memory.eq(walk.memory),
            self.o.p.index.eq(walk.index),
            self.o.p.last.eq(row_last & rows_last),
            waiting.ready.eq(~self.o.valid | (self.o.ready & self.o.p.last)),
            begin.eq(waiting.valid & waiting.ready),
        ]
        step: Value = Const(1)
        if self.windows:
            step = Mux(walk.window, walk.step, 1)
            m.d.comb += [
                self.o.p.row_last.eq(row_last),
                *(self.o.p[name].eq(walk[name]) for name in _WINDOW_FIELDS if name in self.o.p.shape().members),
            ]
        moves = self.o.valid & self.o.ready
        # Where nothing begins at an end, there is no next word.
        at_end = ~self.o.valid | self.o.p.last
        first = Mux(at_end, waiting.p.address, next_row)
        with m.If(begin | moves):
            with m.If(~self.o.valid | row_last):
                count = Mux(at_end, waiting.p.words, walk.words)
                m.d.sync += [row.eq(first), address.eq(first), words.eq(count), row_last.eq(count == 1)]
            with m.Else():
                m.d.sync += [address.eq(address + step), words.eq(words - 1), row_last.eq(words == 2)]
            with m.If(at_end):
                m.d.sync += [self.o.valid.eq(begin), rows.eq(waiting.p.rows), rows_last.eq(waiting.p.rows == 1)]
            with m.Elif(row_last):
                m.d.sync += [rows.eq(rows - 1), rows_last.eq(rows == 2)]
        return m

    def _waiting(self, m: Module) -> stream.Interface:
        """Instructions that the walk begins with, a cycle after their transfer."""
        if self.config.in_flight > 1:
            m.submodules.waiting = waiting = StreamFifo(self.i.p.shape(), self.config.in_flight)
            wiring.connect(m, wiring.flipped(self.i), waiting.i)
            return waiting.o
        # The only one stays at the input until it is done.
        only = stream.Signature(self.i.p.shape()).create()
        m.d.comb += [self.i.ready.eq(1), only.p.eq(self.i.p)]
        m.d.sync += only.valid.eq(self.i.valid)
        return only
