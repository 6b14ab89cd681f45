# SPDX-License-Identifier: Apache-2.0
"""Words on chip that a LOAD or STORE touches, one after the other."""

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
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
        m.submodules.waiting = waiting = StreamFifo(WordsLayout(self.config, self.windows), self.config.in_flight)
        wiring.connect(m, wiring.flipped(self.i), waiting.i)

        walk = Signal(WordsLayout(self.config, self.windows))
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
        step: Value = Const(1)
        if self.windows:
            step = Mux(walk.window, walk.step, 1)
            m.d.comb += [
                self.o.p.row_last.eq(left == 1),
                *(self.o.p[name].eq(walk[name]) for name in _WINDOW_FIELDS if name in self.o.p.shape().members),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [address.eq(address + step), left.eq(left - 1)]
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
