# SPDX-License-Identifier: Apache-2.0
"""The part of the STORE engine that sends words as the beats of bursts."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, bits_for

__all__ = ["BeatWriteLayout", "SingleSender", "StoreSender"]


class BeatWriteLayout(data.StructLayout):
    """A beat that is written: ``data``, ``strobe`` for each byte, and ``last`` at the end of its burst."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"data": config.bus.data_bits, "strobe": config.bus.data_bytes, "last": 1})


class StoreSender(wiring.Component):
    """Cut words into beats, lowest bytes first, for bursts of given lengths.

    Bytes of a word's last beat that lie beyond the word are written as zeros.

    Latency
    -------
    A beat is offered one cycle after its word; one beat a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    lengths : ``In(stream.Signature(8))``
        Beats of each burst, less one.
    words : ``In(stream.Signature(8 * config.array.rows))``
    o : ``Out(stream.Signature(BeatWriteLayout(config)))``
    stop : ``In(1)``
        Level: finish the bursts with beats that write nothing (all strobes low), taking no words.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "lengths": In(stream.Signature(8)),
            "words": In(stream.Signature(8 * config.array.rows)),
            "o": Out(stream.Signature(BeatWriteLayout(config))),
            "stop": In(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats = self.config.beats(self.config.array.rows)

        parts = Signal(data.ArrayLayout(self.config.bus.data_bits, beats))
        part = Signal(bits_for(beats))
        sent = Signal.like(self.lengths.payload)
        load = Signal()
        last = Signal()
        m.d.comb += [
            parts.eq(self.words.payload),
            load.eq((~self.o.valid | self.o.ready) & self.lengths.valid & (self.words.valid | self.stop)),
            last.eq(sent == self.lengths.payload),
            self.lengths.ready.eq(load & last),
            self.words.ready.eq(load & (part == beats - 1)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(load):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.p.data.eq(parts[part]),
                self.o.p.strobe.eq(Mux(self.stop, 0, -1)),
                self.o.p.last.eq(last),
                sent.eq(Mux(last, 0, sent + 1)),
                part.eq(Mux(part == beats - 1, 0, part + 1)),
            ]
        return m


class SingleSender(wiring.Component):
    """Cut words into beats as :class:`StoreSender` does, for one burst at a time and without registers for beats.

    Latency
    -------
    Beats are offered from the cycle after ``begin`` on, each in the cycle in which its word is offered; one a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    begin : ``In(1)``
        Pulse: a burst begins.
    length : ``In(8)``
        Beats of the burst that is under way, less one.
    words, o, stop
        As of :class:`StoreSender`. A beat that stands on the bus is not changed by ``stop``.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "begin": In(1),
            "length": In(8),
            "words": In(stream.Signature(8 * config.array.rows)),
            "o": Out(stream.Signature(BeatWriteLayout(config))),
            "stop": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats = self._config.beats(self._config.array.rows)

        parts = Signal(data.ArrayLayout(self._config.bus.data_bits, beats))
        part = Signal(bits_for(beats))
        sent = Signal(range(self._config.bus.burst_beats))
        active, drop, word_ends = Signal(), Signal(), Signal()
        m.d.comb += [
            parts.eq(self.words.payload),
            word_ends.eq(part == beats - 1),
            self.o.valid.eq(active & (self.words.valid | drop)),
            self.o.p.data.eq(parts[part]),
            self.o.p.strobe.eq(Mux(drop, 0, -1)),
            self.o.p.last.eq(sent == self.length),
            self.words.ready.eq(active & ~drop & self.o.ready & word_ends),
        ]
        with m.If(self.begin):
            m.d.sync += [active.eq(1), sent.eq(0)]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += drop.eq(self.stop)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [sent.eq(sent + 1), part.eq(Mux(word_ends, 0, part + 1))]
            with m.If(self.o.p.last):
                m.d.sync += active.eq(0)
        return m
